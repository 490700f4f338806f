"""Parts of a card that saereg writes, between `<!-- saereg:begin NAME -->` and `<!-- saereg:end NAME -->`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saereg.registry.cards.card import CARD_FILE, Card
from saereg.registry.cards.markdown import whole_lines_of
from saereg.registry.cards.withdrawn import PART as WITHDRAWN
from saereg.registry.cards.withdrawn import inserted, removed, sent_on, warning
from saereg.registry.files.natural import natural_key
from saereg.registry.flat_fields import fields_of, headline
from saereg.schemas.index import Index, IndexArtifact
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, Manifest, Sparsity

METRICS_PAGE = "https://github.com/saereg/saereg/blob/main/docs/metrics.md"

ABSENT = "–"


def _number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:.{digits}f}"


def _plain(value: object) -> str:
    if value is None or value == "":
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")


def _sparsity(claim: Artifact) -> str:
    names = {"l1_coefficient": "l1", "l0_coefficient": "l0 penalty", "target_l0": "target L0"}
    found = [
        f"{names.get(n, n)} {value:g}"
        for n in Sparsity.model_fields
        if (value := getattr(claim.sparsity, n)) is not None
    ]
    return ", ".join(found) or ABSENT


def _site(claim: Artifact, manifest: Manifest) -> str:
    keys = claim.sources.site_keys if isinstance(claim, CrosscoderArtifact) else (claim.site,)
    if claim.kind == "transcoder":
        keys = (claim.site, claim.site_out)
    arrow = " → " if claim.kind == "transcoder" else ", "
    return arrow.join(keys) if len(keys) < 5 else f"{keys[0]} … {keys[-1]} ({len(keys)} sites)"


@dataclass(frozen=True)
class _Column:
    """A column of the inventory: its header, and what stands in it for an artifact and its flat fields."""

    header: str
    cell: Callable[[Artifact, dict[str, Any], Manifest], str]
    always: bool = True


def _field(header: str, name: str, *, always: bool = True) -> _Column:
    return _Column(header, lambda _claim, fields, _manifest: _plain(fields[name]), always)


def _metric(header: str, name: str, digits: int, *, always: bool = True) -> _Column:
    return _Column(f"{header} (`{name}`)", lambda _claim, fields, _manifest: _number(fields[name], digits), always)


INVENTORY: tuple[_Column, ...] = (
    _Column("id", lambda claim, _fields, _manifest: f"`{claim.id}`"),
    _field("kind", "kind"),
    _field("architecture", "architecture"),
    _Column("site", lambda claim, _fields, manifest: _site(claim, manifest)),
    _field("layer", "layer", always=False),
    _field("d_in", "d_in"),
    _field("d_sae", "d_sae"),
    _Column("sparsity", lambda claim, _fields, _manifest: _sparsity(claim)),
    _field("seed", "seed", always=False),
    _field("snapshot", "snapshot", always=False),
    _field("variant", "variant", always=False),
    _metric("EV", "explained_variance", 4),
    _metric("L0", "l0", 1),
    _metric("L0 per source", "l0_per_source_mean", 1, always=False),
    _Column("canonical", lambda claim, _fields, _manifest: "yes" if claim.canonical else ""),
    _field("withdrawn", "withdrawn", always=False),
)
"""The columns of the inventory, in order; those that are not always there need an artifact that has a value."""


def _inventory(manifest: Manifest, index: Index) -> str:
    evidence = {entry.id: entry for entry in index.artifacts}
    rows = []
    for claim in sorted(manifest.artifacts, key=lambda claim: natural_key(claim.id)):
        fields = fields_of(claim, manifest, measured(evidence.get(claim.id)))
        rows.append([column.cell(claim, fields, manifest) for column in INVENTORY])
    shown = [i for i, column in enumerate(INVENTORY) if column.always or any(row[i] != ABSENT for row in rows)]
    table = _table([INVENTORY[i].header for i in shown], [[row[i] for i in shown] for row in rows])
    note = f"Measured from the released weights, by [the definitions]({METRICS_PAGE}) that the header names."
    return f"{table}\n\n{note}"


def measured(entry: IndexArtifact | None) -> dict[str, float | None]:
    """Return metric → value in raw units, of the first evaluation that has it."""
    return {name: m.value for name, m in headline(entry.metrics).items()} if entry else {}


def _files(manifest: Manifest, index: Index) -> str:
    del manifest
    files = sorted(
        (file for file in index.all_files() if file.path != CARD_FILE), key=lambda file: natural_key(file.path)
    )
    return _table(["path", "bytes", "sha256"], [[f"`{f.path}`", f"{f.size:,}", f"`{f.sha256[:12]}`"] for f in files])


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _withdrawn(manifest: Manifest, index: Index) -> str:
    del index
    return warning(manifest)


BLOCKS: Mapping[str, Callable[[Manifest, Index], str]] = {
    "inventory": _inventory,
    "files": _files,
    WITHDRAWN: _withdrawn,
}
"""Name of a generated part → what writes it."""


@dataclass(frozen=True)
class Part:
    """A generated part as it stands in a card.

    Attributes:
        name: which.
        line: line of its beginning mark.
        end: line of its end mark.
        text: what stands between them.
    """

    name: str
    line: int
    end: int
    text: str


@dataclass(frozen=True)
class MarkProblem:
    """A mark that is wrong.

    Attributes:
        sentence: what is wrong.
        line: line of the file.
    """

    sentence: str
    line: int


def render(name: str, manifest: Manifest, index: Index) -> str:
    """Return what belongs between the marks of a part.

    Args:
        name: one of `BLOCKS`.
        manifest: the claims.
        index: the evidence; the entry of the card itself is not looked at.
    """
    return BLOCKS[name](manifest, index)


def parts_of(card: Card) -> tuple[list[Part], list[MarkProblem]]:
    """Return the generated parts of a card, and the marks that begin or end none."""
    parts: list[Part] = []
    problems: list[MarkProblem] = []
    begun = None
    for marker in card.markers:
        if marker.kind == "begin":
            if begun:
                problems.append(MarkProblem(f"the generated part {begun.name!r} is not ended", begun.line))
            begun = marker
            continue
        if begun is None or begun.name != marker.name:
            problems.append(MarkProblem(f"the end of the generated part {marker.name!r} has no beginning", marker.line))
            continue
        if marker.name in BLOCKS:
            text = "\n".join(card.lines[begun.line : marker.line - 1]).strip("\n")
            parts.append(Part(marker.name, begun.line, marker.line, text))
        else:
            known = ", ".join(BLOCKS)
            problems.append(MarkProblem(f"there is no generated part {marker.name!r}, only {known}", begun.line))
        begun = None
    if begun:
        problems.append(MarkProblem(f"the generated part {begun.name!r} is not ended", begun.line))
    return parts, problems


def lacks_warning(card: Card, manifest: Manifest) -> bool:
    """Whether something is withdrawn and the card has no part that says so; `replaced` gives it one."""
    return bool(manifest.withdrawn) and not any(part.name == WITHDRAWN for part in parts_of(card)[0])


def replaced(text: str, manifest: Manifest, index: Index, former: Manifest | None = None) -> str:
    """Return a card with its generated parts up to date; what stands outside of them is not touched.

    The part on what is withdrawn, and the key of the front matter that goes with it, come and go with the marks.

    Args:
        text: the card.
        manifest: the claims.
        index: the evidence; the entry of the card itself is not looked at.
        former: the claims before a mark was taken back.
    """
    text = sent_on(_placed(text, manifest), manifest, former)
    card = Card(text)
    pieces = whole_lines_of(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    for part in reversed(parts_of(card)[0]):
        fresh = render(part.name, manifest, index)
        if part.text != fresh:
            pieces[part.line : part.end - 1] = [line + newline for line in ("", *fresh.split("\n"), "")]
    return "".join(pieces)


def _placed(text: str, manifest: Manifest) -> str:
    """Return a card with a part for the warning where something is withdrawn, and without one where nothing is."""
    if manifest.withdrawn:
        return inserted(text) if lacks_warning(Card(text), manifest) else text
    if f"saereg:begin {WITHDRAWN}" in text:
        for part in reversed(parts_of(Card(text))[0]):
            text = removed(text, part.line, part.end) if part.name == WITHDRAWN else text
    return text
