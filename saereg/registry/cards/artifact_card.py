"""The card of one artifact, in its folder: one generated part, and whatever its author writes around it."""

import os
import re
from pathlib import Path

from saereg.registry.cards.artifact_values import values
from saereg.registry.cards.blocks import MarkProblem, Part
from saereg.registry.cards.blocks import parts_of as parts_among
from saereg.registry.cards.card import MAX_CARD_BYTES, Card
from saereg.registry.cards.markdown import whole_lines_of
from saereg.registry.cards.templating import has_own, rendered
from saereg.registry.cards.withdrawn import PART as WITHDRAWN
from saereg.registry.cards.withdrawn import inserted, removed, warning
from saereg.registry.features.shipped import view_in
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.names import ARTIFACT_CARD_FILE, FEATURES_FILE
from saereg.registry.withdrawal import standing
from saereg.schemas.features import FeatureView
from saereg.schemas.index import IndexArtifact
from saereg.schemas.manifest import Artifact, Manifest

TEMPLATE = "artifact.md.j2"
"""What the generated part is made with."""

ARTIFACT = "artifact"
"""Name of the generated part."""

PARTS = (WITHDRAWN, ARTIFACT)
"""Every name of a generated part in the card of an artifact."""

_GENERATED = re.compile(
    rf"^<!-- saereg:begin {ARTIFACT} -->\r?\n.*?^<!-- saereg:end {ARTIFACT} -->\r?$", re.MULTILINE | re.DOTALL
)


def write_artifact_card(
    root: Path, claim: Artifact, manifest: Manifest, evidence: IndexArtifact, templates: Path | None = None
) -> str | None:
    """Bring the card of an artifact up to date with what was just found.

    An artifact without one gets its first. Of a card that is there only the generated parts change; one that has none,
    is no regular file or is not UTF-8 is left alone.

    Args:
        root: release folder.
        claim: its entry in the manifest.
        manifest: the claims.
        evidence: its entry in the index; the card itself need not be in it.
        templates: folder of the user's own templates.

    Returns:
        Its path in the release, or None where nothing was written.

    Raises:
        UsageError: for a template of the user that fails.
        OSError: when a file cannot be read or written.
    """
    folder = root / claim.path
    found = _standing(folder)
    if found is None:
        return None
    own = has_own(TEMPLATE, templates)
    fresh = generated(claim, manifest, evidence, features_in(folder, evidence, claim), templates)
    first = first_card(claim, manifest, fresh, custom=own)
    text = first if found in ("", first) else refreshed(found, claim, manifest, fresh, custom=own)
    if text == found:
        return None
    write_text_atomically(folder / ARTIFACT_CARD_FILE, text)
    return f"{claim.path}/{ARTIFACT_CARD_FILE}"


def generated(
    claim: Artifact,
    manifest: Manifest,
    evidence: IndexArtifact | None,
    features: FeatureView | None = None,
    templates: Path | None = None,
) -> str:
    """Return what belongs between the marks of the part.

    Args:
        claim: its entry in the manifest.
        manifest: the claims.
        evidence: its entry in the index; what that says of the card itself is not looked at.
        features: its feature view, where it has one of these weights.
        templates: folder of the user's own templates.

    Raises:
        UsageError: for a template of the user that fails.
    """
    shown = values(claim, manifest, evidence, features)
    if has_own(TEMPLATE, templates):  # which may name anything that was said or found
        shown["artifact"] = claim.model_dump(mode="json")
        shown["evidence"] = evidence.model_dump(mode="json") if evidence else None
    return rendered(TEMPLATE, templates, **shown).strip("\n")


def features_in(folder: Path, evidence: IndexArtifact | None, claim: Artifact) -> FeatureView | None:
    """Return the feature view in the folder of an artifact, if it is one of these weights."""
    path = folder / FEATURES_FILE
    try:
        return view_in(path.read_text(encoding="utf-8"), claim.id, evidence) if path.is_file() else None
    except (OSError, UnicodeDecodeError):
        return None


def first_card(claim: Artifact, manifest: Manifest, fresh: str, *, custom: bool = False) -> str:
    """Return a card that has the generated parts alone.

    Args:
        claim: its entry in the manifest.
        manifest: the claims.
        fresh: what belongs into the part.
        custom: whether a user's template made it.
    """
    told = withdrawn_text(claim, manifest)
    parts = [_marked(WITHDRAWN, told)] if told else []
    return "\n\n".join([*parts, _marked(ARTIFACT, fresh, " custom" if custom else "")]) + "\n"


def _marked(name: str, text: str, custom: str = "") -> str:
    return f"<!-- saereg:begin {name}{custom} -->\n\n{text}\n\n<!-- saereg:end {name} -->"


def withdrawn_text(claim: Artifact, manifest: Manifest) -> str:
    """Return the warning of an artifact that its author takes back, by itself or with its version; empty where not."""
    mark = standing(manifest, manifest.release.version, claim.id)
    return warning(manifest.model_copy(update={"withdrawn": (mark,)})) if mark is not None else ""


def refreshed(text: str, claim: Artifact, manifest: Manifest, fresh: str | None, *, custom: bool = False) -> str:
    """Return a card with its generated parts up to date; what stands outside of them is not touched.

    Args:
        text: the card.
        claim: its entry in the manifest.
        manifest: the claims.
        fresh: what belongs into the part; None: it stays as it is, and only the warning is brought up to date.
        custom: whether a user's template made it. A part of such a one stays as it is where that is not at hand.
    """
    if not parts_of(Card(text))[0]:
        return text
    told = withdrawn_text(claim, manifest)
    text = _placed(text, told)
    pieces = whole_lines_of(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    for part in reversed(parts_of(Card(text))[0]):
        now = told if part.name == WITHDRAWN else fresh
        if now is None or (part.custom and not custom):
            continue
        if part.text != now:
            pieces[part.line : part.end - 1] = [line + newline for line in ("", *now.split("\n"), "")]
        if custom and not part.custom and part.name == ARTIFACT:
            pieces[part.line - 1] = pieces[part.line - 1].replace("-->", "custom -->", 1)
    return "".join(pieces)


def _placed(text: str, told: str) -> str:
    """Return a card with a part for the warning where there is something to say, and without one where not."""
    has = [part for part in parts_of(Card(text))[0] if part.name == WITHDRAWN]
    if told:
        return text if has else inserted(text)
    for part in reversed(has):
        text = removed(text, part.line, part.end)
    return text


def parts_of(card: Card) -> tuple[list[Part], list[MarkProblem]]:
    """Return the generated parts of the card of an artifact, and the marks that begin or end none."""
    return parts_among(card, PARTS) if "saereg:" in card.text else ([], [])


def without_generated(text: str) -> str:
    """Return a card with its generated part blanked, so that lines keep their numbers: what is in it needs no look.

    It is what manifest and index say, or a finding of its own; of 10,000 artifacts it would be most of what is read.
    """
    if text.count(f"saereg:begin {ARTIFACT} -->") != 1:
        return text
    return _GENERATED.sub(lambda part: "\n" * part[0].count("\n"), text, count=1)


def _standing(folder: Path) -> str | None:
    """Return the text of the card that is there, empty where there is none; None where it is left alone."""
    names = {name.casefold(): name for name in os.listdir(folder)}
    name = names.get(ARTIFACT_CARD_FILE.casefold())
    if name is None:
        return ""
    path = folder / name
    if name != ARTIFACT_CARD_FILE or path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_CARD_BYTES:
        return None
    try:
        return path.read_bytes().decode("utf-8") or None
    except UnicodeDecodeError:
        return None
