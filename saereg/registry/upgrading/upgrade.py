"""A folder or document of an earlier make: what would be written, and the writing of it. The original is kept."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from saereg.errors import NothingToValidateError, UsageError
from saereg.registry.files.atomic import exclusive, write_bytes_atomically
from saereg.registry.foreign.files import NAMES, InventoryFile, open_inventory, value_of
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.upgrading.account import Upgraded
from saereg.registry.upgrading.chain import CHAIN, FOREIGN, Link, climb, version_of
from saereg.registry.upgrading.given import Given
from saereg.registry.upgrading.manifest import manifest_of
from saereg.schemas.document import Document, canonical
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest

KINDS: dict[str, type[Document]] = {MANIFEST_FILE: Manifest, INDEX_FILE: Index}
"""Our documents in a release folder."""


@dataclass(frozen=True)
class Write:
    """A file that is written, in the place of another or of none."""

    path: Path
    before: bytes | None
    after: bytes


@dataclass(frozen=True)
class Plan:
    """What an upgrade would do; nothing at all where everything is of the newest version.

    Attributes:
        writes: files, in the order in which they are written: copies of the originals first.
        removes: files that have moved: their copies are among `writes`.
        links: steps from version to version.
        upgraded: where each value of an inventory went.
        checked: documents that were looked at.
    """

    writes: tuple[Write, ...] = ()
    removes: tuple[Path, ...] = ()
    links: tuple[Link, ...] = ()
    upgraded: Upgraded | None = None
    checked: tuple[Path, ...] = field(default=())

    def diff(self) -> str:
        """Return what would change in documents, as a unified diff; copies of originals are not shown."""
        return "".join(line for write in self.writes if write.path.name in NAMES for line in _diff(write))


def _diff(write: Write) -> Iterator[str]:
    before = (write.before or b"").decode("utf-8", "replace").splitlines(keepends=True)
    after = write.after.decode("utf-8").splitlines(keepends=True)
    name = write.path.as_posix()
    for line in difflib.unified_diff(before, after, name if before else "/dev/null", name):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def plan(target: Path, given: Given, out: Path | None = None) -> Plan:
    """Return what an upgrade would do; nothing is written.

    Args:
        target: a release folder, or one document.
        given: what the user says of an inventory.
        out: folder that the result goes to; by default where the document is.

    Raises:
        NothingToValidateError: when there is no document.
        UsageError: when a document is of a later version, an inventory does not say everything, or what would be
            written over says something else.
    """
    files = [target / name for name in NAMES if (target / name).is_file()] if target.is_dir() else [target]
    if not files or not all(file.is_file() for file in files):
        what = f"no {' and no '.join(NAMES)} in {target}" if target.is_dir() else f"{target} does not exist"
        raise NothingToValidateError(f"{what}: nothing to upgrade")
    versions = {file: version_of(value_of(file)[1]) for file in files}
    foreign = [file for file, version in versions.items() if version == FOREIGN]
    ours = [file for file, version in versions.items() if version not in (None, FOREIGN)]
    if len(foreign) > 1:
        raise UsageError(f"{target}: {' and '.join(f.name for f in foreign)} both list dictionaries; name one of them")
    if foreign and not any(file.name == MANIFEST_FILE for file in ours):
        return _of_inventory(open_inventory(foreign[0]), given, out)
    if not ours:
        open_inventory(target)  # says why it is none
    return _of_ours(ours, out)


def _of_ours(files: list[Path], out: Path | None) -> Plan:
    writes, links = [], list[Link]()
    for file in files:
        raw, value = value_of(file)
        if not isinstance(value, dict):
            continue  # never: it was told by its keys
        found, steps = climb(value, file)
        links += [link for link in steps if link not in links]
        if steps:
            text = canonical(found)
            if file.name in KINDS:
                KINDS[file.name].from_text(text, f"{file}, upgraded")
            path = file if out is None else out / file.name
            writes += _writing(path, text.encode("utf-8"), raw if out is None else None)
    return Plan(tuple(writes), links=tuple(links), checked=tuple(files))


def _of_inventory(file: InventoryFile, given: Given, out: Path | None) -> Plan:
    folder = file.path.parent if out is None else out
    result = manifest_of(file.inventory, given, folder.absolute().name, file.beside)
    kept = folder / f"{file.path.stem}.foreign{file.path.suffix}"
    moved = out is None and file.path.name in NAMES
    copied = moved or out is not None
    in_place = file.raw if moved and file.path.name == MANIFEST_FILE else None
    writes = [
        *(_writing(kept, file.raw, None) if copied else ()),
        *_writing(folder / MANIFEST_FILE, canonical(result.document).encode("utf-8"), in_place),
    ]
    removes = (file.path,) if moved and file.path.name != MANIFEST_FILE else ()
    return Plan(tuple(writes), removes, (CHAIN[FOREIGN],) if writes or removes else (), result, (file.path,))


def _writing(path: Path, after: bytes, replaced: bytes | None) -> list[Write]:
    """Return the write of a file; none where it holds that already.

    Raises:
        UsageError: when it holds something else than what may be replaced.
    """
    try:
        before = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    if before == after:
        return []
    if before is not None and before != replaced:
        raise UsageError(f"{path} is there and says something else; it is left as it is: choose a folder with --out")
    return [Write(path, before, after)]


def apply(found: Plan) -> None:
    """Do what a plan says: originals are copied before anything takes their place.

    Raises:
        UsageError: when a file was changed since the plan was made; files that are written by then stay.
        OSError: when a folder cannot be written.
    """
    if not found.writes and not found.removes:
        return
    folder = (found.writes[0].path if found.writes else found.removes[0]).parent
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        for write in found.writes:
            if (write.path.read_bytes() if write.path.exists() else None) != write.before:
                raise UsageError(f"{write.path} was changed by somebody else meanwhile; run it again")
            write_bytes_atomically(write.path, write.after)
        for path in found.removes:
            path.unlink(missing_ok=True)
