"""The model that a manifest names: found on this machine, loaded once, and compared with what is said of it."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from saereg.errors import DataUnavailableError, MissingExtraError, UsageError, WeightsError
from saereg.registry.files.digest import sha256_of
from saereg.registry.models.folders import check_own, commit_of, folder_of
from saereg.registry.models.model import (
    LoadedModel,
    ModelSource,
    load_model,
    require,
    stamp_of,
    weight_files,
    weights_digest,
)
from saereg.schemas.site import BaseModelRef

Stamp = tuple[tuple[Path, int, int], ...]
"""(path, size, time of the last change) of files."""

ONE_AT_A_TIME = threading.RLock()
"""Held while a model runs: hooks of one thread would hold what the pass of another gives."""


@dataclass(frozen=True)
class PinnedModel:
    """A base model of a manifest, and where its weights are.

    Attributes:
        key: its key in the manifest.
        ref: what the manifest says of it.
        given: folder, or repository id on the Hub, to take the weights from; None: an installed package of that
            name, else the local cache of the Hub. Only a repository id that is given is ever downloaded.
        dtype: type in which it runs.
        device: torch device.
    """

    key: str
    ref: BaseModelRef
    given: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    _known: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def identity(self) -> str:
        """What tells the model that runs from others: digests of its weights and of its configuration.

        What a manifest names, a commit above all, is compared with it, and stands in for nothing. What is loaded later
        must be the same, also in another process that takes this along.

        Raises:
            DataUnavailableError: when its weights are not on this machine, or may be others than the manifest pins.
            WeightsError: when they are others.
        """
        with ONE_AT_A_TIME, self._as_unavailable():
            found = self._found()[1]
        self._known.setdefault("identity", found)
        return found

    def load(self) -> LoadedModel:
        """Return the model, which stays in memory until another one is asked for.

        Raises:
            DataUnavailableError: when its weights are not on this machine, or may be others than the manifest pins, or
                what runs them is not installed.
            WeightsError: when they are others than the manifest names, or than `identity` said.
        """
        with ONE_AT_A_TIME, self._as_unavailable():
            folder, identity = self._found()
            if self._known.setdefault("identity", identity) != identity:
                raise WeightsError(f"base model {self.key}", "changed while it was measured")
            loaded = _loaded(self._source(folder), _stamp(folder))
            for name in ("n_layers", "d_model"):
                self._check(name, getattr(loaded.ref, name))
        return loaded

    @contextlib.contextmanager
    def _as_unavailable(self) -> Iterator[None]:
        """Say what is missing and how to name it; no path of this machine, as the line goes into releases."""
        try:
            yield
        except MissingExtraError as problem:
            raise DataUnavailableError(str(problem)) from None
        except (UsageError, OSError) as problem:
            at = f" at {self.ref.revision}" if self.ref.revision else ""
            what = f"base model {self.key} ({self.ref.id}{at})"
            said = problem.strerror or "cannot be read" if isinstance(problem, OSError) else str(problem)
            where = f"say where it is: --model {self.key}=WHERE, a folder or a repository id"
            raise DataUnavailableError(f"{what} cannot be loaded; {where} ({said})") from None

    def _found(self) -> tuple[Path, str]:
        """Return the folder of the model, and what tells it from others; it is the one that the manifest names."""
        require("transformers", "running a model")
        folder = folder_of(self.ref.id, self.given, self.ref.revision)
        check_own(folder)
        weights = weights_digest(folder)
        self._check("weights_sha256", weights)
        if self.ref.revision is not None:
            commit = commit_of(folder)
            self._check("revision", commit)
            if commit is None and self.ref.weights_sha256 is None:
                raise UsageError(
                    "nothing tells that the folder holds this commit: give hf://org/name, a snapshot in the cache of"
                    f" the Hub, or state the weights in the manifest, weights_sha256 {weights}"
                )
        return folder, f"{self.ref.id}@{weights}+{sha256_of(folder / 'config.json')}"

    def _source(self, folder: Path) -> ModelSource:
        return ModelSource(
            str(folder), dtype=self.dtype, device=self.device, tokenizer=False, name=self.ref.id, offline=True
        )

    def _check(self, name: str, found: object) -> None:
        """Refuse a model of which something is known to be other than the manifest says."""
        said = getattr(self.ref, name)
        if said is not None and found is not None and said != found:
            raise WeightsError(f"base model {self.key}", f"{name} is {found}, the manifest says {said}")


def _stamp(folder: Path) -> Stamp:
    return stamp_of((folder / "config.json", *weight_files(folder)))


@lru_cache(maxsize=1)
def _loaded(source: ModelSource, stamp: Stamp) -> LoadedModel:  # other files, another model
    try:
        loaded = load_model(source)
    except MissingExtraError:
        raise
    except UsageError as problem:
        said = str(problem).removeprefix(f"{source.path}: ")
        raise UsageError(said.replace(source.path, "the folder")) from None
    loaded.model.config.use_cache = False  # keys and values of one pass are of no use to the next
    return loaded
