"""A file of tensors, whatever its kind: names, shapes and types at once, values box by box.

A box is (start, stop) along each axis. Reading boxes, and never whole files, keeps memory at one block.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from saereg.registry.files.memory import contiguous
from saereg.schemas.jsontext import JsonValue

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[tuple[int, int], ...]
"""(start, stop) along each axis."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        dtype: as torch names it, e.g. `float32`.
        shape: its shape.
    """

    dtype: str
    shape: tuple[int, ...]


class TensorFile(Protocol):
    """Tensors that can be read in boxes."""

    @property
    def path(self) -> Path:
        """The file, for messages."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Name → shape and type. In a nested pickle the keys on the way are joined by `/`."""

    @property
    def facts(self) -> Mapping[str, JsonValue]:
        """What else the file says: the header's metadata, or the numbers and strings of a pickle, by the same names."""

    def begin(self, name: str) -> int | None:
        """Return where in the file the bytes of a tensor begin that lie there in row-major order.

        None where they do not, or nobody knows: then they are read box by box.
        """

    def box(self, name: str, box: Box) -> "Tensor":
        """Return a part of a tensor, contiguous, in the stored type.

        Raises:
            OSError: when the bytes are not there.
            WeightsError: when the file cannot be read any more.
        """


def whole(file: TensorFile, name: str) -> "Tensor":
    """Return a whole tensor: for vectors and scalars."""
    return file.box(name, full_box(file.entries[name].shape))


def full_box(shape: tuple[int, ...]) -> Box:
    """Return the box of a whole tensor."""
    return tuple((0, size) for size in shape)


@dataclass(frozen=True)
class MemoryFile:
    """Tensors in memory, read like those of a file.

    Attributes:
        tensors: name → tensor.
        path: what messages call it.
        facts: what else is known.
    """

    tensors: Mapping[str, "Tensor"]
    path: Path = Path("memory")
    facts: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Name → shape and type."""
        return {
            name: Entry(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            for name, tensor in self.tensors.items()
        }

    def begin(self, name: str) -> int | None:
        """Return None: there is no file."""
        return None

    def box(self, name: str, box: Box) -> "Tensor":
        """Return a part of a tensor, contiguous and on the CPU."""
        return contiguous(self.tensors[name].detach()[tuple(slice(*span) for span in box)].cpu())
