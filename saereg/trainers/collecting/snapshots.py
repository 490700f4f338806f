"""`saereg train snapshots`: one parameter of a model at steps of its pretraining, read without loading the model."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from saereg.errors import UsageError, WeightsError
from saereg.registry import hub
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.flat import ITEMS
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.streaming import write_safetensors
from saereg.registry.files.tensors import Entry
from saereg.registry.metrics.sources.checkpoints import Located, Snapshot, locate, names_at, place_of
from saereg.registry.metrics.sources.parameters import bytes_of
from saereg.registry.model_checkpoint import CONTEXT, D_MODEL, N_LAYERS, Checkpoint, hub_checkpoint, local_checkpoint
from saereg.schemas.evaluation import ParameterRows
from saereg.schemas.metrics import FLOATS, DType
from saereg.schemas.parameters import StoredParameter, StoredSnapshot
from saereg.schemas.schedule import parse_schedule
from saereg.schemas.site import BaseModelRef
from saereg.trainers.collecting.shards import COLLECTION_FILE, TENSOR, remove_leftovers
from saereg.trainers.collecting.steps import STEP, chosen, read_schedule, steps_of
from saereg.trainers.collecting.text import write_snapshots_vocabulary
from saereg.trainers.collecting.vocabulary import resolve

if TYPE_CHECKING:
    from torch import Tensor

PARAMETERS_FILE = "parameters.json"
BLOCK_BYTES = 4 * 1024 * 1024
"""Bytes of a tensor that are in memory at once."""

OPTION = "another --model, or its names by --revision"
"""What a message asks for when a checkpoint is not there."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True)
class SnapshotsConfig:
    """What to keep.

    Attributes:
        model: folder of checkpoints, or id of a repository on the Hub.
        parameter: `W_U`, `W_E`, or the name of a tensor.
        schedule: steps of which there are checkpoints, see `saereg.schemas.schedule`; or `0,1,2,4`.
        out: folder to write.
        steps: some steps of the schedule, as `0,1,2,4`; None: no choice.
        count: how many steps of it, spread evenly in log(1 + step); None: no choice.
        revision: how revisions or folders are called; `{step}` is the step, `*` anything.
        dtype: type in which it is stored; None: that of the checkpoints.
        model_name: id of the model in the release; None: the repository, or the folder's name.
        model_license: licence of the weights.
        tensor: name of the tensor that `W_U` or `W_E` denotes; None: told from the names in the first checkpoint.
    """

    model: str
    parameter: str
    schedule: str
    out: Path
    steps: str | None = None
    count: int | None = None
    revision: str = "step{step}"
    dtype: Literal["float16", "bfloat16", "float32"] | None = None
    model_name: str | None = None
    model_license: str | None = None
    tensor: str | None = None


def snapshots(config: SnapshotsConfig, progress: Progress | None = None) -> StoredParameter:
    """Keep a parameter at some steps; a run that was stopped keeps the steps that it finished.

    Args:
        config: what to keep.
        progress: called after each step with (steps so far, steps in all).

    Returns:
        What was written, as `parameters.json` in `config.out` says.

    Raises:
        UsageError: when a setting cannot be meant, the tensor is not known, or the folder holds other snapshots.
        DataUnavailableError: when a checkpoint is not there.
        WeightsError: when a checkpoint is damaged, or its tensor does not fit those of the other steps.
        PublishError: when the Hub cannot be asked.
        OSError: when a file cannot be read or written.
    """
    if (config.out / COLLECTION_FILE).exists():
        raise UsageError(f"{config.out} holds a collection of activations ({COLLECTION_FILE}); write to a new folder")
    schedule = read_schedule(config.schedule)
    if STEP not in config.revision:
        raise UsageError(f"--revision {config.revision!r}: write {STEP} where the step stands, as in step{STEP}")
    all_steps = steps_of(schedule, config.revision, lambda: names_at(config.model, OPTION))
    wanted = chosen(all_steps, parse_schedule(schedule), config.steps, config.count)
    stored = _resumed(config, schedule, wanted)
    if stored is not None and len(stored.snapshots) == len(wanted):
        return stored
    located = {found.step: found for found in locate(_sought(config, wanted), config.model, OPTION)}
    stored = stored or _begun(config, schedule, wanted, located[wanted[0]])
    remove_leftovers(config.out)
    _save(config.out, stored)
    write_snapshots_vocabulary(config.out, stored, config.model)
    held = {snapshot.step for snapshot in stored.snapshots}
    for step in (step for step in wanted if step not in held):
        stored = _with(stored, _kept(located[step].fetched(stored.tensor, OPTION), stored, config))
        _save(config.out, stored)
        if progress:
            progress(len(stored.snapshots), len(wanted))
    return stored


def _sought(config: SnapshotsConfig, steps: tuple[int, ...]) -> ParameterRows:
    """Return where the checkpoints are, as an evaluation says it; its tensor and rows are not known yet."""
    try:
        return ParameterRows(
            source="parameters", tensor=config.parameter, steps=steps, revision=config.revision, rows=1
        )
    except ValueError as problem:
        said = str(problem).splitlines()[2].strip().removeprefix("Value error, ").partition(" [type=")[0]
        raise UsageError(f"--revision {config.revision!r}, --parameter {config.parameter!r}: {said}") from None


def _begun(
    config: SnapshotsConfig, schedule: str | tuple[int, ...], steps: tuple[int, ...], first: Located
) -> StoredParameter:
    """Return the document of no steps yet; shape and type are those of the first checkpoint."""
    checkpoint = local_checkpoint(first.folder) if first.folder else hub_checkpoint(first.repo, first.revision)
    found = resolve(config.parameter, checkpoint, first.revision, config.tensor)
    entry = _entry(first.fetched(found.tensor, OPTION))
    vocabulary = checkpoint.vocabulary if config.parameter in ("W_U", "W_E") else None
    return StoredParameter(
        model=_model(config, schedule, checkpoint),
        parameter=config.parameter,
        tensor=found.tensor,
        revision=config.revision,
        rows=entry.shape[0],
        d_in=entry.shape[1],
        dtype=config.dtype or _float(entry),
        tied=found.tied,
        vocabulary=vocabulary,
        target_steps=steps,
        tool={name: metadata.version(name) for name in ("saereg", "torch")},
    )


def _model(config: SnapshotsConfig, schedule: str | tuple[int, ...], checkpoint: Checkpoint | None) -> BaseModelRef:
    folder, repo = place_of(config.model, OPTION)
    return BaseModelRef(
        id=config.model_name or (folder.resolve().name if folder else repo),
        license=config.model_license,
        n_layers=checkpoint.number(N_LAYERS) if checkpoint else None,
        d_model=checkpoint.number(D_MODEL) if checkpoint else None,
        context_size=checkpoint.number(CONTEXT) if checkpoint else None,
        schedule=schedule,
    )


def _resumed(
    config: SnapshotsConfig, schedule: str | tuple[int, ...], wanted: tuple[int, ...]
) -> StoredParameter | None:
    """Return what an earlier run of the same settings finished; None where there was none.

    A step whose file is missing or damaged is not finished, nor is one of an earlier version, which has no digest of
    its matrix: it is read again. More steps may be wanted than before, but not others.

    Raises:
        UsageError: when the folder holds other snapshots.
        DocumentError: when its document cannot be read.
    """
    path = config.out / PARAMETERS_FILE
    if not path.is_file():
        return None
    found, model = StoredParameter.read(path), _model(config, schedule, None)
    if not found.snapshots:  # it ended before its first step: nothing is lost
        return None
    settings = {
        "model": (found.model.id, model.id),
        "licence": (found.model.license, model.license),
        "schedule": (found.model.schedule, model.schedule),
        "parameter": (found.parameter, config.parameter),
        "tensor": (found.tensor, config.tensor or found.tensor),
        "revision": (found.revision, config.revision),
        "dtype": (found.dtype, config.dtype or found.dtype),
    }
    for name, (there, here) in settings.items():
        if there != here:
            raise UsageError(f"{path} is of other snapshots: {name} is {there} there and {here} here; write elsewhere")
    if others := [snapshot.step for snapshot in found.snapshots if snapshot.step not in wanted]:
        raise UsageError(f"{path} holds step {others[0]}, which is not among those wanted; write elsewhere")
    finished = tuple(snapshot for snapshot in found.snapshots if _is_whole(config.out, snapshot))
    return found.model_copy(update={"snapshots": finished, "target_steps": wanted})


def _is_whole(out: Path, snapshot: StoredSnapshot) -> bool:
    path = out / snapshot.path
    return snapshot.matrix_sha256 is not None and path.is_file() and sha256_of(path) == snapshot.sha256


def _with(stored: StoredParameter, snapshot: StoredSnapshot) -> StoredParameter:
    ordered = sorted((*stored.snapshots, snapshot), key=lambda one: one.step)
    return stored.model_copy(update={"snapshots": tuple(ordered)})


def _save(out: Path, stored: StoredParameter) -> None:
    write_text_atomically(out / PARAMETERS_FILE, stored.text())


def _entry(snapshot: Snapshot) -> Entry:
    """Return shape and type of the tensor of one step.

    Raises:
        WeightsError: when it is no matrix of floating-point numbers.
    """
    entry, where = open_tensors(snapshot.path).entries[snapshot.tensor], f"step {snapshot.step} ({snapshot.revision})"
    if len(entry.shape) != 2 or 0 in entry.shape:
        raise WeightsError(where, f"has shape {entry.shape}; a matrix (rows, d_in) is needed", snapshot.tensor)
    if entry.dtype not in FLOATS:
        raise WeightsError(where, f"is {entry.dtype}; floating-point numbers are needed", snapshot.tensor)
    return entry


def _float(entry: Entry) -> DType:
    return next(dtype for dtype in FLOATS if dtype == entry.dtype)


def _kept(snapshot: Snapshot, stored: StoredParameter, config: SnapshotsConfig) -> StoredSnapshot:
    """Write the file of one step.

    Raises:
        WeightsError: when the tensor is of another shape or type than that of the first step, or is not finite.
        OSError: when it cannot be written.
    """
    entry, where = _entry(snapshot), f"step {snapshot.step} ({snapshot.revision})"
    if entry.shape != (stored.rows, stored.d_in):
        first = f"step {stored.target_steps[0]} has {(stored.rows, stored.d_in)}: all steps need the same"
        raise WeightsError(where, f"has shape {entry.shape}, {first}", snapshot.tensor)
    if config.dtype is None and entry.dtype != stored.dtype:
        first = f"step {stored.target_steps[0]} as {stored.dtype}: give --dtype"
        raise WeightsError(where, f"is stored as {entry.dtype}, {first}", snapshot.tensor)
    path, matrix = f"step{snapshot.step}.safetensors", hashlib.sha256()
    digest = write_safetensors(
        config.out / path,
        {TENSOR: Entry(stored.dtype, entry.shape)},
        lambda _: _blocks(snapshot, entry, stored.dtype, matrix.update),
        see=lambda *_: None,
    )
    commit = snapshot.path.parent.name
    return StoredSnapshot(
        step=snapshot.step,
        revision=snapshot.revision,
        path=path,
        sha256=digest,
        commit=commit if hub.is_commit(commit) else None,
        matrix_sha256=matrix.hexdigest(),
    )


def _blocks(
    snapshot: Snapshot, entry: Entry, dtype: str, see: Callable[[memoryview], None]
) -> "Iterator[tuple[int, Tensor]]":
    """Yield (first row, rows) in the type that they are stored in, each found to be finite.

    Args:
        snapshot: the matrix.
        entry: its shape, and the type that the checkpoint has.
        dtype: type that it is stored in.
        see: called with the bytes of the rows as the checkpoint has them.
    """
    import torch

    file, (rows, width) = open_tensors(snapshot.path), entry.shape
    step = max(1, BLOCK_BYTES // (width * ITEMS[entry.dtype]))
    for first in range(0, rows, step):
        read = file.box(snapshot.tensor, ((first, min(first + step, rows)), (0, width)))
        see(bytes_of(read))
        block = read.to(getattr(torch, dtype))
        finite = block.isfinite().all(dim=1)
        if not bool(finite.all()):
            at = int((~finite).int().argmax())
            where, row = f"step {snapshot.step} ({snapshot.revision})", f"row {first + at}"
            hint = f" in {dtype}; give --dtype bfloat16 or float32" if bool(read[at].isfinite().all()) else ""
            raise WeightsError(where, f"{row} is not finite{hint}", snapshot.tensor)
        yield first, block
