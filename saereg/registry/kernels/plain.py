"""Any dictionary, run by its own encode and decode: the exact order of operations, and no speed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saereg.registry.architectures import architecture_of
from saereg.registry.dictionary import Dictionary
from saereg.registry.kernels.active import active_of
from saereg.registry.kernels.coded import Coded


@dataclass(frozen=True)
class PlainRunner:
    """A dictionary in memory.

    Attributes:
        dictionary: the dictionary.
        block_rows: rows at once.
    """

    dictionary: Dictionary
    block_rows: int = 2048

    @property
    def dtype(self) -> str:
        """Type of its weights."""
        return str(self.dictionary.dtype).removeprefix("torch.")

    def run(self, x: Tensor) -> Coded:
        """Encode and decode some rows; to a temporal dictionary (texts, positions, D), each position is a row."""
        with torch.no_grad():
            x = x.to(self.dictionary.device)
            f = self.dictionary.encode(x)
            x_hat, x_in, x_hat_in = self.dictionary.decode_in_both_units(f, x)
        if architecture_of(self.dictionary.cfg).context is not None:
            same = x_hat_in is x_hat
            f, x_hat, x_in, x_hat_in = (tensor.flatten(0, -2) for tensor in (f, x_hat, x_in, x_hat_in))
            x_hat_in = x_hat if same else x_hat_in
        return Coded(x_hat, active_of(f), x_in, x_hat_in)
