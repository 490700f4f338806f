"""The files of an inventory: the document itself, and the configurations beside the weights that it lists."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from saereg.errors import DocumentError, NothingToValidateError, UsageError
from saereg.registry.foreign.document import Inventory, Leaf, is_ours, leaves, parse
from saereg.registry.foreign.placing import WEIGHTS
from saereg.schemas import jsontext
from saereg.schemas.names import path_problem

NAMES = ("index.json", "manifest.json")
"""Names under which an inventory is looked for in a folder."""

MOST_BESIDE = 1024 * 1024
"""Bytes of the largest configuration that is read beside weights."""


@dataclass
class InventoryFile:
    """An inventory on this machine.

    Attributes:
        path: its file.
        raw: its bytes.
        inventory: its rows.
        read: path relative to its folder → sha256, of the configurations read so far.
    """

    path: Path
    raw: bytes
    inventory: Inventory
    read: dict[str, str] = field(default_factory=dict)

    def beside(self, path: str) -> tuple[str, tuple[Leaf, ...]] | None:
        """Return name and values of the configuration beside the weights of a row; None where none can be read."""
        if path_problem(path):
            return None
        for name in (f"{WEIGHTS.sub('', path)}.config.json", f"{path}/cfg.json"):
            file = self.path.parent / name
            try:
                if not file.is_file() or file.stat().st_size > MOST_BESIDE:
                    continue
                raw = file.read_bytes()
                value = jsontext.parse(jsontext.decode(raw))
            except (OSError, jsontext.JsonError):
                continue
            if isinstance(value, dict):
                self.read[name] = hashlib.sha256(raw).hexdigest()
                return name, tuple(leaves(value))
        return None

    @property
    def sha256(self) -> str:
        """Digest of the document; where configurations beside weights were read, of all digests with their paths."""
        own = hashlib.sha256(self.raw).hexdigest()
        if not self.read:
            return own
        lines = sorted(f"{digest} {name}\n" for name, digest in {self.path.name: own, **self.read}.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def value_of(path: Path) -> tuple[bytes, jsontext.JsonValue]:
    """Return the bytes of a JSON document, and what it holds.

    Raises:
        DocumentError: when it is no strict JSON.
        UsageError: when it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return raw, jsontext.parse(jsontext.decode(raw))
    except jsontext.JsonError as problem:
        where = f"{path}:{problem.line}" if problem.line else path
        raise DocumentError(where, "", problem.problem) from None


def is_of_ours(raw: bytes) -> bool:
    """Whether the bytes of a manifest.json or index.json are, or were meant to be, a document of saereg.

    Args:
        raw: they need not be JSON: then the keys are looked for in the text.
    """
    try:
        return is_ours(jsontext.parse(jsontext.decode(raw)))
    except jsontext.JsonError:
        return b'"schema_version"' in raw or b'"$schema"' in raw


def is_inventory(path: Path) -> bool:
    """Whether there is an inventory of another make: in a JSON file, or in a folder that is no release of ours."""
    try:
        return _find(path) is not None
    except (UsageError, OSError):
        return False


def open_inventory(path: Path) -> InventoryFile:
    """Open an inventory.

    Args:
        path: its file, or a folder that has it as index.json or manifest.json.

    Raises:
        NothingToValidateError: when there is nothing.
        UsageError: when it is no inventory; of a document that is no JSON a DocumentError.
    """
    found = _find(path)
    if found is not None:
        return found
    if not path.exists():
        raise NothingToValidateError(f"{path} does not exist")
    names = " or ".join(NAMES)
    what = f"holds no {names} with a list of dictionaries" if path.is_dir() else "lists no dictionaries"
    raise UsageError(
        f"{path} {what}: a list of objects was expected, each with an id or a path and something else, such as a layer"
    )


def _find(path: Path) -> InventoryFile | None:
    found = None
    for file in [path / name for name in NAMES] if path.is_dir() else [path]:
        if not file.is_file():
            continue
        raw, value = value_of(file)
        if is_ours(value):
            if file.name == "manifest.json":
                return None
        elif found is None and (inventory := parse(value)) is not None:
            found = InventoryFile(file, raw, inventory)
    return found
