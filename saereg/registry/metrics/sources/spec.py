"""Rows that a command line names: `PATH`, `PATH#tensor`, `synthetic:seed=0,rows=4096`, or a record in a JSON file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DocumentError, UnknownNameError, UsageError, WeightsError
from saereg.registry.metrics.sources.activations import SHARDS, StoredRows, opened, shards_of
from saereg.registry.metrics.sources.opening import Surroundings, open_rows, parameter_rows
from saereg.registry.metrics.sources.shapes import FLOATS
from saereg.registry.metrics.sources.synthetic import generated
from saereg.schemas.collection import Collection
from saereg.schemas.document import check_text
from saereg.schemas.evaluation import RECORD, ActivationRows, ParameterRows, SyntheticRows

if TYPE_CHECKING:
    from saereg.registry.files.tensors import Entry
    from saereg.registry.metrics.sources.rows import Rows
    from saereg.schemas.evaluation import Evaluation
    from saereg.schemas.manifest import Manifest

COLLECTION = "collection.json"
"""What `saereg train collect` keeps beside its shards."""

SYNTHETIC = "synthetic:"
FORM = "synthetic:seed=0,rows=4096[,distribution=normal|sparse_directions][,shape=8x768]"


def rows_of_spec(
    spec: str,
    shape: tuple[int, ...],
    *,
    models: Mapping[str, str] | None = None,
    manifest: "Manifest | None" = None,
) -> "Rows":
    """Return the rows that a word of a command names.

    Args:
        spec: a file of rows (safetensors, .npy, .npz, .pt); a folder of such shards, in the natural order of their
            names; a folder that `saereg train collect` made; each with `#tensor` (of a collection `#site`), or
            `#tensor,target` for a transcoder, where there are several. Or `synthetic:seed=0,rows=4096`. Or FILE.json
            with one evaluation record, as a manifest has it, whose path is relative to the file.
        shape: shape of one row that the dictionary reads.
        models: key of a base model → folder or repository, for records of tokens and parameters.
        manifest: whose sites and base models such a record names.

    Raises:
        UsageError: when the word names nothing, or something that is not there.
        WeightsError: when a file is damaged, or holds other rows.
        OSError: when it cannot be read.
    """
    if spec.startswith(SYNTHETIC):
        return generated(synthetic(spec), shape)
    path, name = _split(spec)
    if path.suffix == ".json" and path.is_file():
        return _recorded(path, shape, models or {}, manifest)
    rows = _stored(path, name, shape)
    rows.check()
    return rows


def synthetic(spec: str) -> SyntheticRows:
    """Return what `synthetic:seed=0,rows=4096` says.

    Raises:
        UsageError: when it says something else.
    """
    values: dict[str, object] = {"source": "synthetic"}
    for part in spec.removeprefix(SYNTHETIC).split(","):
        name, mark, value = part.partition("=")
        if not mark or name not in ("seed", "rows", "distribution", "shape") or name in values:
            raise UsageError(f"--data {spec}: {part!r} is not understood; expected {FORM}")
        if name == "distribution":
            values[name] = value
            continue
        numbers = value.split("x") if name == "shape" else [value]
        if not all(number.isascii() and number.isdecimal() and len(number) < 19 for number in numbers):
            raise UsageError(f"--data {spec}: {name} is no number; expected {FORM}")
        values[name] = tuple(map(int, numbers)) if name == "shape" else int(value)
    try:
        return SyntheticRows.model_validate({"seed": 0, **values})
    except ValueError as error:
        where, what = (line.split(" [type=")[0].strip() for line in str(error).splitlines()[1:3])
        problem = f"{where}: {what[:1].lower()}{what[1:]}"
        raise UsageError(f"--data {spec}: {problem}; expected {FORM}") from None


def absolute(spec: str) -> str:
    """Return a specification that also says the same in another working directory.

    Raises:
        UsageError: when it names no file.
    """
    if spec.startswith(SYNTHETIC):
        return spec
    _require_name(spec)
    return os.path.abspath(os.path.expanduser(spec))


def _require_name(spec: str) -> None:
    """Refuse what would mean the current folder by accident, such as a variable of the shell that is not set."""
    if not spec.strip() or (spec.startswith("#") and not Path(spec).exists()):
        raise UsageError(f"--data {spec!r}: names no file; the current folder is '.'")


def _split(spec: str) -> tuple[Path, str | None]:
    """Return the path and what stands behind `#`; a path that is there may have one of its own."""
    _require_name(spec)
    whole = Path(spec).expanduser()
    if whole.exists() or "#" not in spec:
        path, name = whole, None
    else:
        before, _, name = spec.rpartition("#")
        path = Path(before).expanduser()
    if not path.exists():
        raise UsageError(f"--data {spec}: there is no {path}; name a file or folder of rows, or {FORM}")
    if not path.is_file() and not path.is_dir():
        raise UsageError(f"--data {spec}: {path} is neither a file nor a folder")
    return path, name


def _recorded(path: Path, shape: tuple[int, ...], models: Mapping[str, str], manifest: "Manifest | None") -> "Rows":
    evaluation = read_record(path)
    if isinstance(evaluation, ActivationRows):
        stored = StoredRows(path.parent / evaluation.path, evaluation, shape=shape, any_kind=True)
        stored.check()
        return stored
    if isinstance(evaluation, SyntheticRows):
        return generated(evaluation, shape)
    if isinstance(evaluation, ParameterRows):
        return parameter_rows(evaluation, manifest, models, shape)
    if manifest is None:
        raise UsageError(f"{path}: tokens are run at a site of a release; declare the record in its manifest.json")
    return open_rows(evaluation, Surroundings(path.parent, manifest, shape, models=models))


def read_record(path: Path) -> "Evaluation":
    """Return the evaluation record in a file.

    Raises:
        DocumentError: when it is none.
        OSError: when it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DocumentError(path, "", "is not UTF-8") from None
    value, problems = check_text(RECORD, text)
    if value is None:
        raise DocumentError(path, problems[0].pointer, problems[0].sentence)
    found: Evaluation = value
    return found


def _stored(path: Path, name: str | None, shape: tuple[int, ...]) -> StoredRows:
    if (path / COLLECTION).is_file():
        return _collected(path, name, shape)
    files = shards_of(path, SHARDS) if path.is_dir() else ()
    all_files = [path / file for file in files] or [path]
    tensor, target = _tensors(all_files[0], name)
    rows = 0
    for file in all_files:
        entries = opened(file, any_kind=True).entries
        if tensor not in entries:
            raise WeightsError(file.name, f"missing; the file holds {', '.join(entries) or 'no tensor'}", tensor)
        rows += entries[tensor].shape[0] if entries[tensor].shape else 0
    if not rows:
        raise WeightsError(path.name, "holds no rows", tensor)
    evaluation = ActivationRows(source="activations", path="rows", rows=rows, tensor=tensor, target=target)
    return StoredRows(path, evaluation, shape=shape, files=files, any_kind=True)


def _tensors(file: Path, name: str | None) -> tuple[str, str | None]:
    """Return the names of inputs and targets: those given, else `x`, else the only tensor that can be rows."""
    entries = opened(file, any_kind=True).entries
    if name is not None:
        if name in entries or "," not in name:
            return name, None
        tensor, _, target = name.partition(",")
        return tensor, target
    possible = [tensor for tensor, entry in entries.items() if _can_be_rows(entry)]
    if "x" in possible or len(possible) == 1:
        return ("x" if "x" in possible else possible[0]), None
    if len(entries) == 1:
        return next(iter(entries)), None  # which says in its own words why it is not rows
    held = ", ".join(f"{tensor} {entry.dtype} {entry.shape}" for tensor, entry in [*entries.items()][:6]) or "nothing"
    raise WeightsError(file.name, f"holds {held}; say which are the rows: PATH#tensor")


def _can_be_rows(entry: "Entry") -> bool:
    return entry.dtype in FLOATS and len(entry.shape) > 1


def _collected(folder: Path, site: str | None, shape: tuple[int, ...]) -> StoredRows:
    """Return the rows of one site of what `saereg train collect` made, in its order."""
    collection = Collection.read(folder / COLLECTION)
    if collection.cursor is not None or collection.rows != collection.target_rows:
        done = f"{collection.rows} of {collection.target_rows} rows"
        raise UsageError(f"{folder} is not finished: {done}; run `saereg train collect` again with the same options")
    if site is None and len(collection.sites) != 1:
        raise UsageError(f"{folder} holds sites {', '.join(collection.sites)}; say which: {folder}#SITE")
    key = site if site is not None else next(iter(collection.sites))
    if key not in collection.sites:
        raise UnknownNameError(f"site in {folder}", key, collection.sites)
    shards = collection.sites[key].shards
    rows = sum(shard.rows for shard in shards)
    evaluation = ActivationRows(
        source="activations", path="rows", rows=rows, site=key, excluded=collection.tokens.excluded
    )
    files = tuple(shard.path for shard in shards)
    return StoredRows(folder, evaluation, shape=shape, files=files, any_kind=True)
