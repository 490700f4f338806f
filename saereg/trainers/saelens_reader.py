"""What SAELens itself makes of a released folder: the independent reader to compare with."""

import contextlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.registry.models.model import require

if TYPE_CHECKING:
    from torch import Tensor


def reconstruct(folder: Path, x: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return (f, x_hat) of rows x (n, d_in), by `sae_lens.SAE.load_from_disk` on a released folder.

    Raises:
        MissingExtraError: without the `train` extra.
    """
    torch = require("torch", "reading with SAELens")
    sae_lens = require("sae_lens", "reading with SAELens")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        dictionary = sae_lens.SAE.load_from_disk(str(folder))
        return dictionary.encode(x), dictionary(x)
