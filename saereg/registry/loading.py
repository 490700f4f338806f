"""From a path or reference to something one can call."""

from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import FormatError, UsageError
from saereg.registry.blocks import require_torch
from saereg.registry.formats import FORMATS
from saereg.registry.refs import parse_reference
from saereg.registry.release import open_artifact

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary


def load(target: str | Path, device: str = "cpu") -> "Dictionary":
    """Load a dictionary; calling it on x gives x_hat, with normalization and skip connection included.

    Args:
        target: the folder of one dictionary in a known layout, an artifact of a release (`release:artifact_id`, or its
            folder), or `hf://org/repo[@revision]:artifact_id`. An artifact of a release is first compared with the
            release's index.json.
        device: torch device.

    Raises:
        FormatError: when a folder is in no known layout, or in several.
        WeightsError: when tensors or digests disagree.
        UsageError: when the reference names no single artifact.
        MissingExtraError: without the `torch` extra.
    """
    require_torch("loading a dictionary")
    reference = parse_reference(target)
    if reference.folder is not None and reference.artifact is None:
        if not reference.folder.is_dir():
            raise UsageError(f"{reference.folder} is not a folder")
        if detect(reference.folder) and not _in_release(reference.folder):
            return load_folder(reference.folder, device=device)
    return open_artifact(target).load(device=device)


def _in_release(folder: Path) -> bool:
    try:
        open_artifact(folder)
    except UsageError:
        return False
    return True


def detect(folder: Path) -> tuple[str, ...]:
    """Return the names of the layouts that a folder is in."""
    return tuple(name for name, layout in FORMATS.items() if layout.detect(folder))


def load_folder(folder: Path, device: str = "cpu", layout: str | None = None) -> "Dictionary":
    """Load the dictionary in one folder.

    Raises:
        FormatError: when the folder is in no known layout, or in several.
        WeightsError: when its tensors do not fit its configuration.
    """
    require_torch("loading a dictionary")
    from saereg.registry.dictionary import Dictionary

    names = (layout,) if layout else detect(folder)
    if len(names) != 1:
        raise FormatError(folder, "in several layouts" if names else "in no layout that saereg reads", names or FORMATS)
    return Dictionary(FORMATS[names[0]].read(folder, device=device))
