"""What lies at a path, before it is known what it is: the weight files and the documents beside them."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from saereg.errors import DocumentError, FormatError
from saereg.registry.files import yaml_problem
from saereg.registry.files.names import ANALYSIS_FILE, CONFIG_FILE, GOLDEN_FILE, SPARSITY_FILE, WEIGHTS_FILES
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.tensors import TensorFile

PICKLES = (".pt", ".pth", ".pkl", ".bin", ".ckpt")
"""Files that PyTorch writes, which may hold plain values beside tensors."""

WEIGHT_SUFFIXES = (".safetensors", ".npz", *PICKLES)
"""Files that may hold weights; what they hold is told by their content."""

DOCUMENT_SUFFIXES = (".json", ".yaml", ".yml")
"""Files that may say what the weights mean."""

BESIDE = (
    GOLDEN_FILE,
    SPARSITY_FILE,
    ANALYSIS_FILE,
    "log_feature_sparsity.safetensors",
    "activation_whitening.safetensors",
    "activations_store_state.safetensors",
    "trainer_state.pt",
    "state.pt",
    "last_eval_logs.pt",
)
"""Files beside the weights in known layouts: never candidates when a folder is given, opened when named themselves."""

BESIDE_PREFIXES = ("optimizer_", "lr_scheduler_", "rank_", "eval_logs_")
"""Beginnings of the names of more of them."""

RELEASED = frozenset({"kind", "architecture", "hook_name", "hook_point", "activation_fn_str"})
"""Keys of which cfg.json has one in saereg's dialect and in those of SAELens, old and new."""

MOST_FILES = 400
"""Most weight files of one dictionary: a cross-layer transcoder has two per layer."""

CHECKPOINTS = "checkpoints"
"""Folder that some trainers put weights in, with the documents one level up."""


@dataclass(frozen=True)
class Source:
    """A path, looked at.

    Attributes:
        path: as given: a weight file, or a folder.
        folder: where its documents are.
        names: the weight files, relative to the folder, sorted.
    """

    path: Path
    folder: Path
    names: tuple[str, ...]
    _opened: dict[str, TensorFile] = field(default_factory=dict)

    @cached_property
    def weights(self) -> TensorFile | None:
        """The weight file, where there is exactly one, or exactly one with the name that it has in a release.

        Raises:
            WeightsError: when it is damaged, or a pickle that asks to run code.
        """
        known = [name for name in self.names if name in WEIGHTS_FILES.values()]
        names = known if len(known) == 1 and len(self.names) > 1 and self._is_released() else self.names
        return self.file(names[0]) if len(names) == 1 else None

    def _is_released(self) -> bool:
        """Whether cfg.json is in one of the two dialects that releases are in: others have other names of files."""
        try:
            cfg = self.document(CONFIG_FILE) or {}
        except DocumentError:
            return False
        return bool(RELEASED & cfg.keys())

    @property
    def keys(self) -> frozenset[str]:
        """Names of the tensors in the only weight file; empty where there are several or none."""
        return frozenset(self.weights.entries) if self.weights is not None else frozenset()

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor in the only weight file; () when it is missing."""
        return self.weights.entries[key].shape if self.weights is not None and key in self.keys else ()

    def file(self, name: str) -> TensorFile:
        """Open one of the weight files, once.

        Raises:
            WeightsError: when it is damaged, or a pickle that asks to run code.
        """
        if name not in self._opened:
            self._opened[name] = open_tensors(self.folder / name)
        return self._opened[name]

    def only(self) -> TensorFile:
        """Return the weight file.

        Raises:
            FormatError: when there is none, or several.
        """
        if self.weights is None:
            none = f"holds no weight file; expected one that ends in {', '.join(WEIGHT_SUFFIXES)}"
            what = f"holds {len(self.names)} weight files; name one" if self.names else none
            raise FormatError(self.path, what, self.names[:12])
        return self.weights

    def needed(self, name: str) -> Path:
        """Return the path of a document that a layout cannot do without.

        Raises:
            FormatError: when it is not there.
        """
        path = self.folder / name
        if not path.is_file():
            raise FormatError(self.folder, f"{name} is missing; this layout needs it beside the weights")
        return path

    @property
    def has_documents(self) -> bool:
        """Whether a JSON or YAML document lies beside the weights."""
        return any(path.suffix in DOCUMENT_SUFFIXES for path in self.folder.iterdir())

    def document(self, name: str) -> dict[str, Any] | None:
        """Return a JSON or YAML document beside the weights, or None when there is none or it is no object.

        Documents of others are read as their own programs read them: NaN and repeated keys are let pass.

        Raises:
            DocumentError: when it does not parse.
        """
        for folder in (self.folder, self.folder.parent) if self.folder.name == CHECKPOINTS else (self.folder,):
            path = folder / name
            if path.is_file():
                return _parsed(path)
        return None

    @property
    def stem(self) -> str:
        """Name of the only weight file without its last suffix, for documents named after it."""
        return Path(self.names[0]).stem if len(self.names) == 1 else ""


def open_source(path: Path) -> Source:
    """Look at a path.

    Raises:
        FormatError: when there is nothing, or far too much.
    """
    if path.is_file():
        return Source(path, path.parent, (path.name,))
    if not path.is_dir():
        raise FormatError(path, "there is no such file or folder")
    names = _candidates(path)
    if not names and (path / CHECKPOINTS).is_dir():
        names = [f"{CHECKPOINTS}/{name}" for name in _candidates(path / CHECKPOINTS)]
    if len(names) > MOST_FILES:
        raise FormatError(
            path, f"holds {len(names)} weight files; name one of them, or make a release with saereg init"
        )
    return Source(path, path, tuple(names))


def _candidates(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix in WEIGHT_SUFFIXES
        and entry.name not in BESIDE
        and not entry.name.startswith((".", *BESIDE_PREFIXES))
        and entry.is_file()
    )


def _parsed(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8-sig")
        value = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except UnicodeDecodeError as error:
        raise DocumentError(path, "", f"is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise DocumentError(path, "", f"is not JSON: {error.msg} at line {error.lineno}") from None
    except yaml_problem.RAISED as error:
        raise DocumentError(path, "", f"cannot be parsed: {yaml_problem.sentence(error)[:200]}") from None
    return value if isinstance(value, dict) else None
