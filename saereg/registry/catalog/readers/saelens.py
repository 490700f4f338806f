"""The registry of SAELens as rows: what it states, and what its names say in so many words, marked as assumed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.registry.catalog.rows import Assumed, Entry, Metric, ReleaseRows, Snapshot, Source
from saereg.registry.federation.places import PACKAGE, digest
from saereg.schemas.garbage import collected_later
from saereg.schemas.report import Finding

if TYPE_CHECKING:
    from saereg.registry.federation.directory import Defect, Directory, ListedRelease, Row
    from saereg.registry.federation.names import Said

Inferred = tuple[str, "int | str | bool", str]
"""Field of an entry, its value, and what it was read from."""

INSTALLED = PACKAGE
"""Locator of the registry of the installed SAELens; every other locator is the path of a file."""

HERE = Source("saelens", INSTALLED)


def pin(source: Source = HERE) -> str:
    """Return the sha256 of the registry, without parsing it.

    Raises:
        MissingExtraError: when SAELens is not installed.
        UsageError: when there is no such file.
    """
    return digest(_path(source))


def snapshot(source: Source = HERE) -> Snapshot:
    """Return the registry as rows.

    Raises:
        MissingExtraError: when SAELens is not installed.
        DocumentError: when the file is not YAML, or no mapping of releases.
        UsageError: when there is no such file.
    """
    from saereg.registry.federation.directory import read_directory

    with collected_later():
        directory = read_directory(_path(source))
        tool = f"sae-lens {directory.version}" if directory.version else PACKAGE
        return Snapshot(source, directory.sha256, tool, tuple(_releases(directory)))


def _path(source: Source) -> Path | None:
    return None if source.locator == INSTALLED else Path(source.locator)


def _releases(directory: "Directory") -> Iterator[ReleaseRows]:
    """Yield every release under a name of its own: of two that have one, the last, as SAELens takes it."""
    from saereg.registry.federation.directory import nested_releases

    nested = nested_releases(directory)
    for release in {release.name: release for release in directory.releases}.values():
        entries, aliases = _entries(release)
        yield ReleaseRows(
            name=release.name,
            repo=release.repo_id or None,
            standing="foreign",
            loader=_loader(release),
            entries=entries,
            aliases=aliases,
            findings=(_finding(nested[release.name], directory.path.name),) if release.name in nested else (),
        )


def _finding(defect: "Defect", file: str) -> Finding:
    """Return why a release cannot be what the registry makes of it, as SR704 says it.

    The rules are not imported for it: that takes a third of a second.
    """
    found = Finding(
        code="SR704",
        severity="error",
        message=defect.sentence,
        path=file,
        artifact=defect.artifact,
        line=defect.line,
        found=defect.found,
    )
    return found.with_fingerprint()


def _loader(release: "ListedRelease") -> str:
    from saereg.registry.federation.loaders import NATIVE

    return release.conversion_func or NATIVE


def _entries(release: "ListedRelease") -> tuple[tuple[Entry, ...], tuple[tuple[str, str], ...]]:
    """Return entries and aliases: a second row of one file is a second name; of two rows of one id the last counts."""
    first: dict[str, str] = {}
    aliases: list[tuple[str, str]] = []
    entries: list[Entry] = []
    for row in {row.id: row for row in release.rows}.values():
        known = first.setdefault(row.path, row.id)
        if known != row.id:
            aliases.append((row.id, known))
        else:
            entries.append(_entry(release, row))
    return tuple(entries), tuple(aliases)


def _entry(release: "ListedRelease", row: "Row") -> Entry:
    inferred = tuple(_inferred(release, row))
    values: dict[str, object] = {field: value for field, value, _ in inferred}
    return Entry(
        id=row.id,
        path=row.path if row.path != row.id else None,
        model=release.model or None,
        neuronpedia_id=row.neuronpedia,
        metrics=tuple(_metrics(row)),
        assumptions=tuple(Assumed(field, str(value), because) for field, value, because in inferred),
        **values,  # type: ignore[arg-type]
    )


def _metrics(row: "Row") -> Iterator[Metric]:
    """Yield the numbers that the row states; the registry says of none how it is defined, or of what data it is."""
    if row.l0 is not None:
        yield Metric("stated", None, "l0", row.l0)
    if row.variance_explained is not None:
        yield Metric("stated", None, "variance_explained", row.variance_explained)


def _inferred(release: "ListedRelease", row: "Row") -> Iterator[Inferred]:
    """Yield what id and path say; where they say two things, neither."""
    from saereg.registry.federation.names import LOADED, READ, said_by

    both = (("id", row.id, said_by(row.id)), ("path", row.path, said_by(row.path)))
    for field, read in READ.items():
        ours, theirs = read(both[0][2]), read(both[1][2])
        if ours is not None and theirs in (None, ours):
            yield field, ours, f"id: {row.id}"
        elif ours is None and theirs is not None:
            yield field, theirs, f"path: {row.path}"
    if row.id.rpartition("/")[2] == "canonical":
        yield "canonical", True, f"id: {row.id}"
    kind = LOADED.get(release.conversion_func or "")
    if kind is not None:
        yield "kind", kind, f"conversion_func: {release.conversion_func}"
    else:
        yield from _kind(both)


def _kind(both: "tuple[tuple[str, str, Said], ...]") -> Iterator[Inferred]:
    """Yield what kind of dictionary the names speak of: a transcoder by that word, an SAE by one place it reads."""
    for where, name, said in both:
        if said.kind is not None:
            yield "kind", "crosscoder" if said.kind == "crosscoder" else "transcoder", f"{where}: {name}"
            return
    for where, name, said in both:
        if said.stream is not None:
            yield "kind", "sae", f"{where}: {name}"
            return
