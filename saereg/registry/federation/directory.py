"""SAELens' registry as rows: what `sae_lens/loading/pretrained_saes_directory.py` (6.54.12) reads, and its lines."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from saereg.errors import DocumentError
from saereg.registry.federation.places import PACKAGE, installed, read_bytes
from saereg.registry.federation.yaml_lines import Items, Table, Value, read_lines

RELEASE_KEYS = frozenset({"repo_id", "model", "conversion_func", "config_overrides", "saes", "links"})
"""Keys of a release; `links` is for people, the parser passes over it."""

ROW_KEYS = frozenset({"id", "path", "l0", "variance_explained", "neuronpedia", "norm_scaling_factor"})
"""Keys of a row."""

_BOTH = ROW_KEYS | RELEASE_KEYS

DefectKind = Literal["malformed", "twice", "unknown_key", "nested"]


@dataclass(frozen=True, slots=True)
class Defect:
    """What is wrong with the shape of the file.

    Attributes:
        kind: `malformed`: SAELens cannot read it, or reads something else. `twice`: a name stands twice.
            `unknown_key`: no parser looks at it. `nested`: a release stands in a row of another.
        sentence: what is wrong.
        line: where.
        artifact: release, or release and id.
    """

    kind: DefectKind
    sentence: str
    line: int
    artifact: str | None = None
    expected: str | None = None
    found: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One SAE as the registry lists it; what it does not say is None.

    Attributes:
        id: name in its release.
        path: file or folder in the repository.
        line: where the row begins.
        lines: key → line.
    """

    id: str
    path: str
    line: int
    l0: float | None = None
    variance_explained: float | None = None
    neuronpedia: str | None = None
    norm_scaling_factor: float | None = None
    lines: dict[str, int] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ListedRelease:
    """One release of the registry.

    Attributes:
        name: its key; of one that is nested in a row of another, that release and row.
        line: where it begins.
        nested_in: (release, id) of the row that holds it; None for all that SAELens sees.
    """

    name: str
    repo_id: str
    model: str
    conversion_func: str | None
    rows: tuple[Row, ...]
    line: int
    config_overrides: dict[str, object] | None = None
    nested_in: tuple[str, str] | None = None


@dataclass(frozen=True)
class Directory:
    """A registry, read.

    Attributes:
        path: the file.
        version: of SAELens; None for a file that was named.
        sha256: digest of the file.
        releases: in the order of the file, nested ones after the one that holds them.
        defects: what cannot be read as meant.
    """

    path: Path
    version: str | None
    sha256: str
    releases: tuple[ListedRelease, ...]
    defects: tuple[Defect, ...]

    @property
    def called(self) -> str:
        """How reports call it."""
        return f"{PACKAGE} {self.version} {self.path.name}" if self.version else self.path.name

    @property
    def seen(self) -> tuple[ListedRelease, ...]:
        """The releases that SAELens sees."""
        return tuple(release for release in self.releases if release.nested_in is None)


def read_directory(path: Path | None = None) -> Directory:
    """Read a registry.

    Args:
        path: a file; None: that of the installed SAELens.

    Raises:
        MissingExtraError: when SAELens is not installed.
        DocumentError: when the file is not safe YAML, or no mapping of releases.
        UsageError: when it cannot be read.
    """
    place, version = (path, None) if path is not None else installed()
    data = read_bytes(place)
    top = read_lines(data, place)
    if not isinstance(top, Table):
        raise DocumentError(place, "", "is no mapping of releases: expected `release-name:` lines, each with `saes`")
    reader = _Reader()
    releases = tuple(reader.releases(top))
    return Directory(place, version, hashlib.sha256(data).hexdigest(), releases, tuple(reader.defects))


def rows_of(count: int) -> str:
    """Return `1 row`, `2 rows`."""
    return f"{count} row{'' if count == 1 else 's'}"


def nested_releases(directory: Directory) -> dict[str, Defect]:
    """Return name of a release that stands in a row of another → what is wrong with that."""
    seen = {(release.repo_id, row.path) for release in directory.seen for row in release.rows}
    found = {}
    for release in directory.releases:
        if release.nested_in is None:
            continue
        lost, count = sum((release.repo_id, row.path) not in seen for row in release.rows), len(release.rows)
        rest = f"{lost} of them no visible row lists" if lost else "visible rows list the same files"
        owner = ":".join(release.nested_in)
        sentence = f"the row {owner} holds a release of {rows_of(count)}, hidden from SAELens; {rest}"
        shown = ", ".join(row.id for row in release.rows[:8]) + (", …" if count > 8 else "")
        found[release.name] = Defect("nested", sentence, release.line, owner, None, shown)
    return found


class _Reader:
    """Rows from a document, and what is wrong with it."""

    def __init__(self) -> None:
        self.defects: list[Defect] = []

    def releases(self, top: Table) -> Iterator[ListedRelease]:
        """Yield every release, nested ones after the one that holds them."""
        self._twice(top, None)
        for name, line in top.odd:
            self._add(
                "malformed", f"the name {name} of a release is no text to YAML", line, name, "quotes around it", name
            )
        for name, value in top.values.items():
            if isinstance(value, Table):
                yield from self._release(name, value, top.lines[name], None)
            else:
                self._add("malformed", f"{name} is no release", top.lines[name], name, "a mapping", _kind(value))

    def _release(
        self, name: str, table: Table, line: int, nested_in: tuple[str, str] | None
    ) -> Iterator[ListedRelease]:
        if nested_in is None:  # of a nested one the keys are those of a row as well
            self._twice(table, name)
            self._unknown(table, RELEASE_KEYS, name)
        saes = table.values.get("saes")
        if not isinstance(saes, Items):
            what = "has no saes" if "saes" not in table.values else "has saes that are no list"
            self._add("malformed", f"{name} {what}", table.lines.get("saes", line), name, "a list of rows", _kind(saes))
        nested: list[ListedRelease] = []
        rows = tuple(self._rows(name, saes, nested)) if isinstance(saes, Items) else ()
        overrides = table.values.get("config_overrides")
        yield ListedRelease(
            name=name,
            repo_id=self._text(table, "repo_id", name, line) or "",
            model=self._text(table, "model", name, line) or "",
            conversion_func=self._text(table, "conversion_func", name, line, needed=False),
            rows=rows,
            line=line,
            config_overrides=_plain(overrides) if isinstance(overrides, Table) else None,
            nested_in=nested_in,
        )
        yield from nested

    def _rows(self, release: str, saes: Items, nested: list[ListedRelease]) -> Iterator[Row]:
        for value, line in zip(saes.values, saes.lines, strict=True):
            if not isinstance(value, Table):
                self._add("malformed", f"a row of {release} is no mapping", line, release, "a mapping", _kind(value))
                continue
            row = self._row(release, value, line)
            if row is not None:
                yield row
            if "saes" in value.values:
                inside = (release, row.id if row else f"line {line}")
                nested += self._release("/".join(inside), value, line, inside)

    def _row(self, release: str, table: Table, line: int) -> Row | None:
        values = table.values
        identifier, path = values.get("id"), values.get("path")
        if isinstance(path, int) and not isinstance(path, bool):
            path = str(path)  # as SAELens does
        for key, value in (("id", identifier), ("path", path)):
            if not isinstance(value, str) or not value:
                owner = f"{release}:{identifier}" if isinstance(identifier, str) else release
                at, found = table.lines.get(key, line), _kind(value) if key in values else "nothing"
                self._add("malformed", f"a row of {release} has no {key} that is a text", at, owner, "a text", found)
        if not isinstance(identifier, str) or not isinstance(path, str) or not identifier or not path:
            return None
        owner = f"{release}:{identifier}"
        if table.twice:
            self._twice(table, owner)
        self._unknown(table, ROW_KEYS if "saes" not in values else _BOTH, owner)
        if len(values) == 2:
            return Row(identifier, path, line, lines=table.lines)
        return Row(
            id=identifier,
            path=path,
            line=line,
            l0=self._number(table, "l0", owner),
            variance_explained=self._number(table, "variance_explained", owner),
            neuronpedia=self._text(table, "neuronpedia", owner, line, needed=False),
            norm_scaling_factor=self._number(table, "norm_scaling_factor", owner),
            lines=table.lines,
        )

    def _number(self, table: Table, key: str, owner: str) -> float | None:
        value = table.values.get(key)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
            try:
                return float(value)
            except OverflowError:
                pass
        found = repr(value)[:40] if isinstance(value, str | int | float) else _kind(value)
        self._add("malformed", f"{key} of {owner} is no number", table.lines[key], owner, "a number", found)
        return None

    def _text(self, table: Table, key: str, owner: str, line: int, *, needed: bool = True) -> str | None:
        value = table.values.get(key)
        if isinstance(value, str) and (value or not needed):
            return value or None
        if value is not None or needed:
            at, found = table.lines.get(key, line), _kind(value) if key in table.values else "nothing"
            self._add("malformed", f"{owner} has no {key} that is a text", at, owner, "a text", found)
        return None

    def _twice(self, table: Table, owner: str | None) -> None:
        for key, line in table.twice:
            what = f"the key {key} of {owner}" if owner else f"the release {key}"
            self._add("twice", f"{what} stands twice; the last one wins", line, owner or key, None, key)

    def _unknown(self, table: Table, known: frozenset[str], owner: str) -> None:
        if table.values.keys() <= known:
            return
        for key in sorted(table.values.keys() - known):
            sentence = f"{owner} has the key {key}, which no parser looks at"
            self._add("unknown_key", sentence, table.lines[key], owner, ", ".join(sorted(known)), key)

    def _add(
        self, kind: DefectKind, sentence: str, line: int, owner: str | None, expected: str | None, found: str | None
    ) -> None:
        self.defects.append(Defect(kind, sentence, line, owner, expected, found))


def _kind(value: Value) -> str:
    """Return what a value is, in a word that people have for it."""
    if value is None:
        return "nothing"
    words = {Table: "a mapping", Items: "a list", str: "a text", bool: "yes or no", int: "a number", float: "a number"}
    return words.get(type(value), type(value).__name__)


def _plain(value: Value) -> dict[str, object]:
    """Return a mapping without lines; what an alias repeats is shared."""
    known: dict[int, object] = {}

    def plain(one: Value) -> object:
        if not isinstance(one, Table | Items):
            return one
        if id(one) not in known:
            known[id(one)] = (
                {key: plain(part) for key, part in one.values.items()}
                if isinstance(one, Table)
                else [plain(part) for part in one.values]
            )
        return known[id(one)]

    made = plain(value)
    return made if isinstance(made, dict) else {}
