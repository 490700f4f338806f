"""Rows on their way to the encoder, and reconstructions on their way back: everything but the two big products."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saereg.errors import UsageError
from saereg.registry.architectures.linear import centred, with_output_bias
from saereg.registry.architectures.normalization import Undo, normalize
from saereg.registry.dictionary import checked_rows
from saereg.registry.kernels.active import Active
from saereg.registry.kernels.coded import Coded
from saereg.registry.kernels.matrices import Matrices
from saereg.registry.semantics import row_shape, semantics_of


@dataclass(frozen=True)
class Passage:
    """One block of n rows.

    Attributes:
        matrices: the dictionary's.
        given: rows as they were given, on the device; heads not flattened.
        rows: the same, heads flattened.
        x_in: as the encoder reads them.
        undo: the way back.
    """

    matrices: Matrices
    given: Tensor
    rows: Tensor
    x_in: Tensor
    undo: Undo

    def encoded_rows(self) -> Tensor:
        """Return what is multiplied by W_enc, (n, W): b_dec taken off if the dictionary does so.

        One subtraction per block: cheaper than a pass over W_enc for b_dec·W_enc, and no digits of large means are
        lost in the product.
        """
        return centred(self.x_in, self.matrices.vectors, self.matrices.cfg).flatten(1).contiguous()

    def coded(self, decoded: Tensor, active: Active) -> Coded:
        """Return what the dictionary made of the rows.

        Args:
            decoded: f·W_dec, (n, O), in float32 at least.
            active: what was active.
        """
        cfg, vectors, rules = self.matrices.cfg, self.matrices.vectors, semantics_of(self.matrices.cfg)
        shape = cfg.tensors()["W_dec"].shape[1:]
        x_hat_in = with_output_bias(decoded.reshape(len(decoded), *shape), vectors, cfg).to(self.matrices.dtype)
        x_hat = self.undo(x_hat_in)
        if rules.skip != "none":
            skipped, scale = self.rows.to(self.matrices.dtype) @ vectors["W_skip"].T, self.undo.scale
            x_hat, x_hat_in = x_hat + skipped, x_hat_in + (skipped if scale is None else skipped / scale)
        shaped = x_hat.reshape(self.given.shape) if rules.reshape == "hook_z" else x_hat
        return Coded(shaped, active, self.x_in, x_hat if self.undo.is_identity else x_hat_in)


def passage(matrices: Matrices, x: Tensor) -> Passage:
    """Return the passage of some rows (n, D), or (n, K, D) for a crosscoder.

    Raises:
        UsageError: when they have another shape than the dictionary reads.
    """
    cfg = matrices.cfg
    if matrices.device.type == "mps" and x.dtype == torch.float64:
        x = x.float()  # there is no float64 on such a device
    given = x.to(matrices.device)
    rows = checked_rows(given, cfg)
    if rows.dim() != 1 + len(row_shape(cfg)):
        expected = ", ".join(["rows", *map(str, row_shape(cfg))])
        raise UsageError(f"x has shape {tuple(x.shape)}, the dictionary reads ({expected})")
    weights = {**matrices.vectors, "W_dec": torch.empty(0, dtype=matrices.dtype, device=matrices.device)}
    x_in, undo = normalize(rows, weights, cfg)
    return Passage(matrices, given, rows, x_in, undo)
