"""Where a parameter of a model at some pretraining steps is stored: folders here, or revisions on the Hub."""

import fnmatch
import os.path
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import DataUnavailableError
from saereg.registry import hub, hub_tensors
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.shard_index import INDEXES, WHOLE, missing, shard_of
from saereg.schemas.evaluation import ParameterRows


@dataclass(frozen=True)
class Snapshot:
    """A parameter at one step.

    Attributes:
        step: pretraining step.
        revision: name of the folder, or of the revision on the Hub.
        path: file of this machine that holds the tensor.
        tensor: its name in that file.
    """

    step: int
    revision: str
    path: Path
    tensor: str


def snapshots(evaluation: ParameterRows, model: str, option: str) -> tuple[Snapshot, ...]:
    """Return where a parameter is at every step, fetched from the Hub where it must be.

    Args:
        evaluation: which parameter, and which steps.
        model: folder of checkpoints, or id of a repository on the Hub (`hf://org/name`, or `org/name`).
        option: how a user would name another model, for messages.

    Raises:
        DataUnavailableError: when a step is not there.
        WeightsError: when its checkpoint does not hold the tensor.
        PublishError: when the Hub cannot be asked.
        OSError: when a file cannot be read.
    """
    return tuple(located.fetched(evaluation.tensor, option) for located in locate(evaluation, model, option))


@dataclass(frozen=True)
class Located:
    """A checkpoint of one step, of which nothing was read yet.

    Attributes:
        step: pretraining step.
        revision: name of the folder, or of the revision on the Hub.
        folder: where it is on this machine; None: on the Hub.
        repo: repository on the Hub; empty for a folder.
    """

    step: int
    revision: str
    folder: Path | None
    repo: str = ""

    def fetched(self, tensor: str, option: str) -> Snapshot:
        """Return where a tensor of it is, fetched from the Hub where it must be.

        Raises:
            DataUnavailableError: when there is no checkpoint.
            WeightsError: when it does not hold the tensor.
            PublishError: when the Hub cannot be asked.
            OSError: when a file cannot be read.
        """
        if self.folder is None:
            return Snapshot(
                self.step, self.revision, hub_tensors.fetch_tensor(self.repo, self.revision, tensor), tensor
            )
        return Snapshot(self.step, self.revision, find_tensor(self.folder, tensor, option), tensor)


def locate(evaluation: ParameterRows, model: str, option: str) -> tuple[Located, ...]:
    """Return where the checkpoint of every step is; of the Hub no more is asked than the names of its revisions.

    Args:
        evaluation: which steps, and how their revisions are called.
        model: folder of checkpoints, or id of a repository on the Hub (`hf://org/name`, or `org/name`).
        option: how a user would name another model, for messages.

    Raises:
        DataUnavailableError: when a step is not there.
        PublishError: when the Hub cannot be asked.
    """
    folder, repo = place_of(model, option)
    if folder is not None:
        return tuple(_local(evaluation, folder, step, option) for step in evaluation.steps)
    branches = hub.branches(repo) if "*" in evaluation.revision else ()
    names = (_matching(_pattern(evaluation, step), branches, repo, option) for step in evaluation.steps)
    return tuple(Located(step, name, None, repo) for step, name in zip(evaluation.steps, names, strict=True))


def place_of(model: str, option: str) -> tuple[Path | None, str]:
    """Return (folder, "") or (None, repository on the Hub) of what a user calls a model.

    Raises:
        DataUnavailableError: when it can be neither.
    """
    folder = Path(model.removeprefix("file://")).expanduser()
    if folder.is_dir():
        return folder, ""
    repo = model.removeprefix("hf://")
    if not re.fullmatch(r"[\w.\-]+/[\w.\-]+", repo) or repo.startswith("."):
        raise DataUnavailableError(
            f"what is given is neither a folder nor a repository on the Hub; give {option}", model
        )
    return None, repo


def names_at(model: str, option: str) -> tuple[str, ...]:
    """Return the names of all folders of checkpoints, or of all revisions on the Hub.

    Raises:
        DataUnavailableError: when the model can be neither.
        PublishError: when the Hub cannot be asked.
    """
    folder, repo = place_of(model, option)
    return hub.branches(repo) if folder is None else tuple(_names(folder))


def _names(root: Path) -> list[str]:
    refs = _refs(root)
    if refs:
        return [path.relative_to(refs).as_posix() for path in refs.rglob("*")]
    return [path.name for path in root.iterdir()]


def _refs(root: Path) -> Path | None:
    """Return the folder of revisions in a cache of the Hub's client; None for any other folder."""
    return root / "refs" if (root / "refs").is_dir() and (root / "snapshots").is_dir() else None


def _pattern(evaluation: ParameterRows, step: int) -> str:
    return evaluation.revision.replace("{step}", str(step))


def _matching(pattern: str, names: Iterable[str], where: str | Path, option: str) -> str:
    """Return the one name that a pattern with `*` matches; without `*`, itself."""
    if "*" not in pattern:
        return pattern
    found = sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))
    if len(found) != 1:
        many = f"{len(found)} names match it" if found else "nothing matches it"
        here = f"{where}: {', '.join(found[:3])}" if found else where
        raise DataUnavailableError(f"{pattern!r} is to be one checkpoint, but {many}; give {option}", here)
    return found[0]


def _local(evaluation: ParameterRows, root: Path, step: int, option: str) -> Located:
    refs = _refs(root)
    revision = _matching(_pattern(evaluation, step), _names(root), root, option)
    if refs and (refs / revision).is_file():  # the cache of the Hub's client
        folder = root / "snapshots" / (refs / revision).read_text(encoding="utf-8").strip()
    else:
        folder = root / revision
    if not Path(os.path.normpath(folder)).is_relative_to(os.path.normpath(root)):
        raise DataUnavailableError(f"{revision!r} leads out of the folder of checkpoints; give {option}", root)
    if not folder.is_dir() and len(evaluation.steps) == 1 and _has_weights(root):
        folder = root
    if not folder.is_dir():
        raise DataUnavailableError(f"the checkpoint of step {step}, {revision!r}, is missing; give {option}", root)
    return Located(step, revision, folder)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*INDEXES, *WHOLE))


def find_tensor(folder: Path, tensor: str, option: str) -> Path:
    """Return the file of a transformers checkpoint that holds a tensor.

    Args:
        folder: the checkpoint.
        tensor: name of the tensor.
        option: how a user would name another one, for messages.

    Raises:
        DataUnavailableError: when the folder holds no checkpoint, or not the shard.
        WeightsError: when the checkpoint has no such tensor.
        OSError: when a file cannot be read.
    """
    path = _file_of(folder, tensor, option)
    entries = open_tensors(path).entries
    if tensor not in entries:
        raise missing(f"{folder.name}/{path.name}", tensor, entries)
    return path


def _file_of(folder: Path, tensor: str, option: str) -> Path:
    for name in INDEXES:
        if (folder / name).is_file():
            shard = shard_of((folder / name).read_bytes(), f"{folder.name}/{name}", tensor)
            if not (folder / shard).is_file():
                said = f"{shard} is missing, and {name} says that it holds {tensor}; give {option}"
                raise DataUnavailableError(said, folder)
            return folder / shard
    for name in WHOLE:
        if (folder / name).is_file():
            return folder / name
    raise DataUnavailableError(f"the checkpoint holds none of {', '.join((*INDEXES, *WHOLE))}; give {option}", folder)
