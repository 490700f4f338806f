"""What a layout is: how to recognize, read and write a folder. Does not import torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from saereg.registry.checkpoint import Checkpoint


class Read(Protocol):
    """Reads a folder into memory."""

    def __call__(self, folder: Path, device: str = "cpu") -> Checkpoint:
        """Return the checkpoint in a folder."""


@dataclass(frozen=True)
class Format:
    """One layout; `read(write(checkpoint)) == checkpoint`, byte for byte.

    Attributes:
        name: as in the manifest.
        detect: folder → whether its configuration and its tensor names are those of this layout.
        read: (folder, device) → checkpoint, checked.
        write: (checkpoint, folder) → None; no file is ever half written, and cfg.json comes last.
    """

    name: str
    detect: Callable[[Path], bool]
    read: Read
    write: Callable[[Checkpoint, Path], None]
