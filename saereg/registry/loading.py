"""From the folder of one dictionary to something one can call."""

from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import FormatError, UsageError
from saereg.registry.files.blocks import require_torch
from saereg.registry.formats import FORMATS

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary


def detect(folder: Path) -> tuple[str, ...]:
    """Return the names of the layouts that a folder is in."""
    return tuple(name for name, layout in FORMATS.items() if layout.detect(folder))


def _require_device(device: str) -> None:
    """Try a device before any weights are read; torch says in many ways that there is none."""
    import torch

    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise UsageError(f"device {str(device)!r} cannot be used on this machine: {why}") from None


def load_folder(folder: Path, device: str = "cpu", layout: str | None = None) -> "Dictionary":
    """Load the dictionary in one folder.

    Raises:
        FormatError: when the folder is in no known layout, or in several.
        WeightsError: when its tensors do not fit its configuration.
        UsageError: when there is no such device.
    """
    require_torch("loading a dictionary")
    _require_device(device)
    from saereg.registry.dictionary import Dictionary

    names = (layout,) if layout else detect(folder)
    if len(names) != 1:
        raise FormatError(folder, "in several layouts" if names else "in no layout that saereg reads", names or FORMATS)
    return Dictionary(FORMATS[names[0]].read(folder, device=device))
