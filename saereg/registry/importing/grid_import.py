"""Make a release of a grid of checkpoints: convert each with proof, and enter it in the manifest when it is whole.

What is there already is kept, so a run that was stopped, or failed at one file, goes on where it was.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from saereg.errors import FormatError, MissingExtraError, SaeregError, UsageError
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.draft import add_to_manifest, check_references, read_or_new
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.names import CONFIG_FILE, CONVERSION_FILE
from saereg.registry.importing.entry import Place, artifact, check_place, check_reading, with_place
from saereg.registry.importing.grid import Cell, Grid
from saereg.registry.importing.survey import given_of, layout_of_file
from saereg.registry.loading import read
from saereg.registry.readings.reading import Reading
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import assumptions, read_config
from saereg.schemas.conversion import Conversion
from saereg.schemas.manifest import Artifact, ReleaseInfo

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""


@dataclass(frozen=True)
class GridImport:
    """A grid, and the release that is to be made of it.

    Attributes:
        grid: the checkpoints.
        release: folder of the release; it may hold a part of it already.
        place: what the entries say of model, site and tokens.
        to: layout to write.
        given: what the files do not say; values may have fields, e.g. `{k}`.
        layout: layout of the files. By default the one that each is in, or else a state dict.
        info: the release as a whole, where it is new.
    """

    grid: Grid
    release: Path
    place: Place
    to: str = "saelens"
    given: Mapping[str, str] = field(default_factory=dict)
    layout: str | None = None
    info: ReleaseInfo | None = None


@dataclass(frozen=True)
class Imported:
    """What was done.

    Attributes:
        made: ids that were converted.
        kept: ids that were there.
        same_bytes: ids whose checkpoints have the same bytes, which looks like a file under a wrong name.
    """

    made: tuple[str, ...]
    kept: tuple[str, ...]
    same_bytes: tuple[tuple[str, ...], ...]


def import_grid(order: GridImport, progress: Progress | None = None) -> Imported:
    """Convert what is missing and enter it in the manifest, one checkpoint after the other.

    Raises:
        UsageError: when entries could not be told apart, or the release holds something else under their names.
        FormatError: naming the checkpoint that cannot be converted; those before it are whole and stay.
        OSError: when a file cannot be read or written.
        MissingExtraError: without the `torch` extra.
    """
    require_torch("converting weights")
    check_place(order.place, order.grid)
    for cell in order.grid.cells:
        check_references(order.release, order.place.references(cell), order.info)
    manifest = read_or_new(order.release, order.info)
    if order.info is not None and _stated(manifest.release) != _stated(order.info):
        problem = "its manifest has another title or licence"
        raise UsageError(f"{order.release}: {problem}; leave the two options out, and edit them there")
    entries = {known.id: known for known in manifest.artifacts}
    _refuse_renamed(order, manifest.artifacts)
    made: list[str] = []
    kept: list[str] = []
    digests: dict[str, list[str]] = {}
    for done, cell in enumerate(order.grid.cells):
        name = order.place.name(cell)
        try:
            digest, is_new = _one(order, cell, entries.get(name))
        except MissingExtraError:
            raise
        except SaeregError as error:
            raise _stopped(order, cell, done, error) from None
        digests.setdefault(digest, []).append(name)
        (made if is_new else kept).append(name)
        if progress:
            progress(name, done + 1, len(order.grid.cells))
    return Imported(tuple(made), tuple(kept), tuple(tuple(names) for names in digests.values() if len(names) > 1))


def _stated(info: ReleaseInfo) -> tuple[str, str]:
    return info.title, info.license


IDENTITY = ("architecture", "site", "seed", "snapshot", "variant", "sparsity")
"""Fields of an entry that the options of an import decide; the others may have been edited by hand."""


def _refuse_renamed(order: GridImport, artifacts: tuple[Artifact, ...]) -> None:
    """Refuse to enter checkpoints under a second id."""
    ids = {known.source_checkpoint.path: known.id for known in artifacts if known.source_checkpoint is not None}
    for cell in order.grid.cells:
        name = order.place.name(cell)
        if ids.get(cell.path, name) != name:
            problem = f"{cell.path} is entered as {ids[cell.path]!r} already, and would now be {name!r}"
            raise UsageError(f"{order.release}: {problem}; use the same --id, or another release folder")


def _refuse_changed(order: GridImport, entry: Artifact, now: Artifact) -> None:
    """Refuse an entry that the options of this run would make otherwise."""
    for field_name in IDENTITY:
        before, after = (getattr(known, field_name, None) for known in (entry, now))
        if before != after:
            problem = f"{entry.id} was entered with {field_name} {before!s}, and would now have {after!s}"
            raise UsageError(f"{order.release}: {problem}; use another release folder, or edit manifest.json")


def _one(order: GridImport, cell: Cell, entry: Artifact | None) -> tuple[str, bool]:
    """Convert one checkpoint unless it is there; return (sha256 of it, whether it was converted)."""
    source, target = order.grid.folder / cell.path, order.release / order.place.name(cell)
    layout = layout_of_file(source, order.layout)
    reading = read(source, given_of(order.given, order.place.captures(cell)), layout)
    check_reading(order.place, cell, reading.cfg)
    record = _converted(target, source, reading, layout, order.to)
    is_new = record is None
    if record is None:
        values = given_of(order.given, order.place.captures(cell))
        record = convert(Order(source, target, order.to, layout, values))
    digest = record.source[0].sha256
    if is_new or entry is None or entry.source_checkpoint is None or entry.source_checkpoint.sha256 != digest:
        cfg = with_place(read_config(target / CONFIG_FILE), order.place, cell)
        write_text_atomically(target / CONFIG_FILE, cfg.text())
        claim = artifact(order.place, cell, cfg, record)
        add_to_manifest(order.release, claim, order.place.references(cell), info=order.info)
    else:
        _refuse_changed(order, entry, artifact(order.place, cell, read_config(target / CONFIG_FILE), record))
    return digest, is_new


def _converted(target: Path, source: Path, reading: Reading, layout: str, to: str) -> Conversion | None:
    """Return the record of an earlier conversion of the same bytes in the same way, or None when there is none.

    Raises:
        UsageError: when the folder holds a conversion of something else, or in another way.
    """
    if not (target / CONVERSION_FILE).is_file():
        return None
    record = Conversion.read(target / CONVERSION_FILE)
    if [file.sha256 for file in record.source] != [sha256_of(source)]:
        raise UsageError(f"{target} was converted from another file; remove it to convert this one")
    now = (to, layout, semantics_of(reading.cfg), assumptions(reading.cfg))
    if (record.format, record.source_format, record.semantics, record.assumptions) != now:
        raise UsageError(f"{target} was converted with other settings; remove it, or use another release folder")
    for file in record.written:
        path = target / file.name
        if not path.is_file() or path.stat().st_size != file.size:
            raise UsageError(f"{path} is not what was converted; remove {target} to convert it again")
    return record


def _stopped(order: GridImport, cell: Cell, done: int, error: SaeregError) -> FormatError:
    """Return the error that names the checkpoint, and says what stays."""
    source = order.grid.folder / cell.path
    problem = str(error).removeprefix(f"{source}: ").removeprefix(f"{cell.path}: ").removeprefix(f"{source.name}: ")
    stays = f"; {done} of {len(order.grid.cells)} are done and stay, and the same command goes on from there"
    return FormatError(source, f"{problem}{stays if done else ''}")
