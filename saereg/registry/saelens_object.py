"""A dictionary as an object of SAELens, made by SAELens' own loader from the files that it is released in."""

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import MissingExtraError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint

if TYPE_CHECKING:
    from sae_lens import SAE


def to_saelens(checkpoint: Checkpoint, device: str) -> "SAE":
    """Return a dictionary as SAELens' object, on a device.

    It is written to a temporary folder and read by `SAE.load_from_disk` (sae-lens 6.54), so that it is what
    anybody gets who loads the converted files with SAELens.

    Args:
        checkpoint: configuration and tensors.
        device: torch device.

    Raises:
        MissingExtraError: without SAELens.
        FormatError: with the reason, when SAELens has no words for it, as for crosscoders.
    """
    if importlib.util.find_spec("sae_lens") is None:
        raise MissingExtraError("a SAELens object", "train", "sae_lens")
    with tempfile.TemporaryDirectory(prefix="saereg-") as folder:
        write_checkpoint(checkpoint, Path(folder), "saelens")
        from sae_lens import SAE

        return SAE.load_from_disk(folder, device=device)
