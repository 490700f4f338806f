"""A transformer to read activations from: any architecture that transformers loads, without a table of names."""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from saereg.errors import MissingExtraError, UsageError
from saereg.registry.files.digest import sha256_of
from saereg.schemas.site import BaseModelRef

CAUSAL = ("ForCausalLM", "LMHeadModel")
"""Ends of the class names of models that are loaded with their language-model head, so that module paths are usual."""

WEIGHT_FILES = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "pytorch_model.bin",
    "pytorch_model-*-of-*.bin",
    "*.safetensors",
    "*.bin",
)
"""Weight files of a local folder; the first pattern with a match counts, as transformers looks for them."""

CODE = "needs code of its own, which is never run; give a copy that transformers loads by itself"
"""Of a model whose `auto_map` names classes that transformers has not."""


@dataclass(frozen=True)
class LoadedModel:
    """A model, ready to run, with what a release says of it.

    Attributes:
        model: torch module, in evaluation mode.
        tokenizer: its tokenizer; None where it was loaded without.
        ref: the facts for a manifest; `final_norm` is provisional until a probe has run.
        auto_class: transformers class that loads it with these module paths.
        layers: module path of the list of layers, e.g. `encoder.layer`; None when there is no single one.
        device: torch device.
    """

    model: Any
    tokenizer: Any
    ref: BaseModelRef
    auto_class: str
    layers: str | None
    device: str

    @property
    def causal(self) -> bool:
        """Whether it is a decoder with a language-model head."""
        return self.auto_class == "AutoModelForCausalLM"


@dataclass(frozen=True)
class ModelSource:
    """Which model, and how to load it.

    Attributes:
        path: local folder, or repository id on the Hub.
        revision: commit on the Hub; None for a local folder or the newest.
        name: id to write into the release; None: the repository id, the package that holds the folder, or its name.
        license: licence of the weights.
        dtype: type in which the model runs.
        device: torch device.
        tokenizer: whether to load the tokenizer too: token ids that are stored need none.
        offline: whether to look in the local cache of the Hub only.
        weights: whether to load weights: without them the model cannot run, and tells of its shape only.
    """

    path: str
    revision: str | None = None
    name: str | None = None
    license: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    tokenizer: bool = True
    offline: bool = False
    weights: bool = True


def require(module: str, what: str) -> ModuleType:
    """Import a module of the `train` extra.

    Raises:
        MissingExtraError: when it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtraError(what, "train", module) from None


def load_model(source: ModelSource | str, device: str = "cpu") -> LoadedModel:
    """Load a model and its tokenizer. `HF_HUB_OFFLINE` is honoured; code that comes with a model is never run.

    Args:
        source: what to load; a plain string is a folder or a repository id.
        device: torch device, when `source` is a string.

    Raises:
        MissingExtraError: without the `train` extra.
        UsageError: when there is no such model.
    """
    source = ModelSource(source, device=device) if isinstance(source, str) else source
    transformers = require("transformers", "running a model")
    torch = require("torch", "running a model")
    pinned = {"revision": source.revision, "local_files_only": source.offline, "trust_remote_code": False}
    with _quiet(), _as_usage_error(source.path):
        config = transformers.AutoConfig.from_pretrained(source.path, **pinned)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.path, **pinned) if source.tokenizer else None
        auto_class = _auto_class(config)
        loader = getattr(transformers, auto_class)
        if source.weights:
            model = loader.from_pretrained(source.path, **pinned, dtype=getattr(torch, source.dtype)).to(source.device)
        else:
            with torch.device("meta"):
                model = loader.from_config(config, trust_remote_code=False)
    model.eval().requires_grad_(requires_grad=False)
    ref = _facts(source, config)
    return LoadedModel(model, tokenizer, ref, auto_class, _find_layers(model, ref.n_layers), source.device)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turn off the progress bar of transformers: a library prints nothing."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _as_usage_error(path: str) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, SafetensorError) as problem:
        first_line = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        if "trust_remote_code" in str(problem):
            first_line = CODE
        raise UsageError(f"{path}: cannot be loaded as a model: {first_line}") from problem


def _auto_class(config: Any) -> str:  # noqa: ANN401
    names = getattr(config, "architectures", None) or ()
    return "AutoModelForCausalLM" if any(name.endswith(CAUSAL) for name in names) else "AutoModel"


def _facts(source: ModelSource, config: Any) -> BaseModelRef:  # noqa: ANN401
    text = config.get_text_config()
    folder = Path(source.path)
    local = folder.is_dir()
    return BaseModelRef(
        id=source.name or (_local_name(folder) if local else source.path),
        revision=None if local else getattr(config, "_commit_hash", None) or source.revision,
        license=source.license,
        weights_sha256=weights_digest(folder) if local and source.weights else None,
        n_layers=getattr(text, "num_hidden_layers", None),
        d_model=getattr(text, "hidden_size", None),
    )


@lru_cache(maxsize=1)
def _packages() -> Mapping[str, list[str]]:
    """Return importable name → distributions; with a few hundred of them it takes a second to find out."""
    return metadata.packages_distributions()


def _local_name(folder: Path) -> str:
    """Return the distribution that installed a folder, else the folder's own name: a path means nothing elsewhere."""
    folder = folder.resolve()
    for name, distributions in _packages().items():
        if name in folder.parts and (_site_of(distributions[0]) / name in (folder, *folder.parents)):
            return distributions[0]
    return folder.name


def _site_of(distribution: str) -> Path:
    return Path(str(metadata.distribution(distribution).locate_file(""))).resolve()


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the weight files of a folder, in order of name."""
    found = (tuple(sorted(folder.glob(pattern))) for pattern in WEIGHT_FILES)
    return next((files for files in found if files), ())


def stamp_of(files: Sequence[Path]) -> tuple[tuple[Path, int, int], ...]:
    """Return (path, size, time of the last change) of files.

    Raises:
        OSError: when one of them cannot be read.
    """
    return tuple((file, s.st_size, s.st_mtime_ns) for file in files for s in [file.stat()])


def weights_digest(folder: Path) -> str | None:
    """Return the SHA-256 of the weight file; of several, that of the lines `digest  name` in order of name."""
    return digest_of(stamp_of(weight_files(folder)))


@lru_cache(maxsize=32)
def digest_of(stamp: tuple[tuple[Path, int, int], ...]) -> str | None:
    """Return the digest of files, which are read again only when they have changed: they may be of many gigabytes."""
    files = [file for file, _, _ in stamp]
    if len(files) < 2:
        return sha256_of(files[0]) if files else None
    lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _find_layers(model: Any, n_layers: int | None) -> str | None:  # noqa: ANN401
    """Return the path of the one outermost ModuleList with an entry per layer."""
    from torch.nn import ModuleList

    found = [
        name for name, module in model.named_modules() if isinstance(module, ModuleList) and len(module) == n_layers
    ]
    outer = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    return outer[0] if len(outer) == 1 else None


def slug(name: str) -> str:
    """Return a name as a key of a document.

    >>> slug("EleutherAI/pythia-70m")
    'pythia-70m'
    """
    last = name.rstrip("/").split("/")[-1]
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", last).strip("-.") or "model"
