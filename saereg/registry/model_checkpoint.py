"""What a transformers checkpoint says of itself, here or on the Hub: names of its tensors, shape, vocabulary."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import DataUnavailableError
from saereg.registry import hub
from saereg.registry.files.header import Header, read_header
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.shard_index import INDEXES, WHOLE, names_of
from saereg.registry.remote import open_repository
from saereg.schemas import jsontext
from saereg.schemas.jsontext import JsonValue

CONFIG, TOKENIZER = "config.json", "tokenizer.json"

N_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
D_MODEL = ("hidden_size", "n_embd", "d_model")
CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length")
"""What configurations call the same number."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, of which no tensor was read.

    Attributes:
        names: names of its tensors; none for a pickle on the Hub, of which nothing can be read but the whole.
        config: its configuration; that of the text model, where there are several; empty where there is none.
        vocabulary: entries of its tokenizer; None where it has none.
    """

    names: tuple[str, ...]
    config: Mapping[str, JsonValue]
    vocabulary: int | None

    def number(self, keys: Iterable[str]) -> int | None:
        """Return the first of these that the configuration has as a number above 0."""
        found = (self.config.get(key) for key in keys)
        return next((value for value in found if type(value) is int and value > 0), None)


def local_checkpoint(folder: Path) -> Checkpoint:
    """Read what a folder says of itself.

    Raises:
        DataUnavailableError: when it holds no checkpoint.
        WeightsError: when its files are damaged.
        OSError: when they cannot be read.
    """
    held = {path.name for path in folder.iterdir() if path.is_file()}
    file = next((name for name in (*INDEXES, *WHOLE) if name in held), None)
    if file is None:
        raise DataUnavailableError(f"the checkpoint holds none of {', '.join((*INDEXES, *WHOLE))}", folder)
    if file in INDEXES:
        names = names_of((folder / file).read_bytes(), f"{folder.name}/{file}")
    elif file.endswith(".safetensors"):
        names = _tensors(read_header(folder / file))
    else:
        names = tuple(open_tensors(folder / file).entries)
    return _checkpoint(names, held, lambda name: (folder / name).read_bytes())


def hub_checkpoint(repo: str, revision: str) -> Checkpoint:
    """Ask the Hub what a revision says of itself: headers and small files are fetched, no tensors.

    Raises:
        DataUnavailableError: when it holds no checkpoint.
        WeightsError: when its files are damaged.
        PublishError: when the Hub cannot be asked.
    """
    place, where = open_repository(repo, revision), hub.name_of(repo, revision)
    held = {entry.path for entry in place.entries()}
    file = next((name for name in (*INDEXES, *WHOLE) if name in held), None)
    if file is None:
        raise DataUnavailableError(f"{where} holds none of {', '.join((*INDEXES, *WHOLE))}")
    if file in INDEXES:
        names = names_of(place.read(file), f"{where}: {file}")
    else:
        names = _tensors(place.header(file)) if file.endswith(".safetensors") else ()
    return _checkpoint(names, held, place.read)


def _tensors(header: Header) -> tuple[str, ...]:
    return tuple(header.tensors)


def _checkpoint(names: tuple[str, ...], held: set[str], read: Callable[[str], bytes]) -> Checkpoint:
    config = (_json(CONFIG, read) or {}) if CONFIG in held else {}
    text = config.get("text_config")
    config = config | text if isinstance(text, dict) else config
    return Checkpoint(names, config, _vocabulary(_json(TOKENIZER, read) or {}) if TOKENIZER in held else None)


def _json(name: str, read: Callable[[str], bytes]) -> dict[str, JsonValue] | None:
    """Return the object in a file; None where it holds none: nothing that is needed stands there."""
    try:
        value = jsontext.parse(jsontext.decode(read(name)))
    except jsontext.JsonError:
        return None
    return value if isinstance(value, dict) else None


def _vocabulary(tokenizer: Mapping[str, JsonValue]) -> int | None:
    """Return how many entries a tokenizer has: one more than its largest id."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    known = model.get("vocab") if isinstance(model, dict) else None
    largest = len(known) - 1 if isinstance(known, list) else -1
    ids = list(known.values()) if isinstance(known, dict) else []
    ids += [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    largest = max([largest, *(value for value in ids if type(value) is int)])
    return largest + 1 if largest >= 0 else None
