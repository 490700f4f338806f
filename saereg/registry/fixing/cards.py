"""Fixes in README.md: missing front matter, generated blocks, a first card. What the author wrote is never touched."""

import os
from collections.abc import Iterator

from saereg.registry.cards.artifact_card import generated, refreshed
from saereg.registry.cards.blocks import replaced
from saereg.registry.cards.card import Card
from saereg.registry.cards.front_fence import fence_of, refenced
from saereg.registry.cards.front_matter import completed, read_front_matter
from saereg.registry.cards.markdown import whole_lines_of
from saereg.registry.cards.skeleton import first_card as skeleton
from saereg.registry.cards.view import View
from saereg.registry.features.shipped import view_in
from saereg.registry.files.names import ARTIFACT_CARD_FILE, FEATURES_FILE
from saereg.registry.fixing.draft import Draft, Edit
from saereg.registry.validators.checks.card_tables import number_key, sorted_as_text
from saereg.schemas.index import IndexArtifact
from saereg.schemas.manifest import Artifact, Manifest
from saereg.schemas.report import Finding

CARD = "README.md"

KEYS = {
    "SR501": ("library_name",),
    "SR502": ("license", "license_name", "license_link"),
    "SR503": ("base_model", "base_model_relation"),
    "SR504": ("datasets",),
}
"""Rule → keys of the front matter that it is about."""


def first_card(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR500: a card that says what the manifest and the index say."""
    manifest, index = draft.manifest(), draft.index()
    there = os.path.lexists(draft.root / CARD)  # a link that leads out of the release is the author's, too
    if manifest is not None and index is not None and not there and not draft.has(CARD):
        yield Edit(CARD, skeleton(manifest, index))


def front_matter(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR501 to SR504: keys of the front matter that are missing, and, unsafely, those that say something else."""
    manifest, index, text = draft.manifest(), draft.index(), draft.text(CARD)
    if manifest is None or text is None:
        return
    kept = text if finding.fixable == "safe" else _without(text, KEYS[finding.code])
    if fence_of(kept) is None:
        yield Edit(CARD, completed(kept, manifest))
    elif index is not None:
        yield Edit(CARD, refenced(kept, View(manifest, index)))


def _without(text: str, keys: tuple[str, ...]) -> str:
    """Return a card without some keys of its front matter, so that they are written anew."""
    front, lines = read_front_matter(text), whole_lines_of(text)
    fence = fence_of(text)
    starts = sorted([*front.lines.values(), *((fence.first, fence.last) if fence else ()), front.end])
    for key in sorted(set(keys) & set(front.lines), key=lambda key: -front.lines[key]):
        first = front.lines[key]
        del lines[first - 1 : next(line for line in starts if line > first) - 1]
    return "".join(lines)


def natural_rows(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR509: the rows of a table that were sorted as text are sorted by their numbers."""
    text = draft.text(CARD)
    tables = Card(text).tables if text is not None else ()
    table = next((table for table in tables if finding.line in {row.line for row in table.rows}), None)
    if text is None or table is None:
        return
    columns = list(zip(*(row.cells for row in table.rows), strict=True))
    cells = next((column for column in columns if sorted_as_text(column) is not None), None)
    if cells is None:
        return
    lines = whole_lines_of(text)
    order = sorted(range(len(cells)), key=lambda i: number_key(cells[i]))
    moved = [lines[table.rows[i].line - 1].rstrip("\r\n") for i in order]
    for row, line in zip(table.rows, moved, strict=True):
        replaced_one = lines[row.line - 1]  # the last line of a card may have no end: it stays with its place
        lines[row.line - 1] = line + replaced_one[len(replaced_one.rstrip("\r\n")) :]
    yield Edit(CARD, "".join(lines))


def generated_blocks(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR508: generated blocks are generated again."""
    return refreshed_blocks(draft)


def artifact_card(draft: Draft, finding: Finding) -> Iterator[Edit]:
    """SR514: the generated part of an artifact's card is generated again."""
    manifest, index = draft.manifest(), draft.index()
    if manifest is not None and index is not None:
        evidence = {entry.id: entry for entry in index.artifacts}
        for claim in manifest.artifacts:
            if claim.id == finding.artifact and claim.id in evidence:
                yield from _artifact_card(draft, claim, manifest, evidence[claim.id])


def refreshed_artifact_cards(draft: Draft) -> Iterator[Edit]:
    """Yield every artifact's card with its generated part as the manifest and the index of a draft want it."""
    manifest = draft.manifest()
    if manifest is None or not any(draft.has(f"{claim.path}/{ARTIFACT_CARD_FILE}") for claim in manifest.artifacts):
        return
    index = draft.index()
    if index is None:
        return
    evidence = {entry.id: entry for entry in index.artifacts}
    for claim in manifest.artifacts:
        if claim.id in evidence:
            yield from _artifact_card(draft, claim, manifest, evidence[claim.id])


def _artifact_card(draft: Draft, claim: Artifact, manifest: Manifest, evidence: IndexArtifact) -> Iterator[Edit]:
    path = f"{claim.path}/{ARTIFACT_CARD_FILE}"
    text = draft.text(path)
    if text is None or "saereg:" not in text:
        return
    view = view_in(draft.text(f"{claim.path}/{FEATURES_FILE}"), claim.id, evidence)
    yield Edit(path, refreshed(text, claim, manifest, generated(claim, manifest, evidence, view)))


def refreshed_blocks(draft: Draft) -> Iterator[Edit]:
    """Yield the card with its generated blocks as the manifest and the index of a draft want them."""
    manifest, index, text = draft.manifest(), draft.index(), draft.text(CARD)
    if manifest is not None and index is not None and text is not None:
        yield Edit(CARD, replaced(text, manifest, index))
