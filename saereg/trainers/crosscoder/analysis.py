"""What the decoder says of how sources differ: a file of small vectors beside the weights, of the released weights.

    decoder_norm[j, k]   = ‖W_dec[j, k]‖
    relative_norm[j, k]  = ‖W_dec[j, k]‖ / Σ_l ‖W_dec[j, l]‖       for K = 2, relative_norm[j, 1] is ‖b‖/(‖a‖+‖b‖)
    decoder_cosine[j, k] = cos(W_dec[j, k], W_dec[j, k+1])         for K − 1 neighbours; for K = 1 there is none
A latent with a relative norm about 1 at one source is of that source alone. Source: Anthropic, "Sparse Crosscoders",
2024, and arXiv:2504.02922, which shows that a small norm may be an artefact of the L1 penalty.
"""

from pathlib import Path

import torch
from torch import Tensor

from saereg.registry.files.blocks import row_blocks
from saereg.registry.files.header import read_header

SMALLEST = 1e-30


def analysis_of(weights: Path) -> dict[str, Tensor]:
    """Return the vectors of a released file of weights, read in blocks; float32."""
    entry = read_header(weights).tensors["W_dec"]
    norms, cosines = [], []
    for _, block in row_blocks(weights, entry):
        W_dec = block.double()
        norm = torch.linalg.vector_norm(W_dec, dim=-1)
        norms.append(norm)
        dots = (W_dec[:, 1:] * W_dec[:, :-1]).sum(-1)
        cosines.append(dots / (norm[:, 1:] * norm[:, :-1]).clamp_min(SMALLEST))
    norm = torch.cat(norms)
    found = {"decoder_norm": norm, "relative_norm": norm / norm.sum(1, keepdim=True).clamp_min(SMALLEST)}
    if norm.shape[1] > 1:
        found["decoder_cosine"] = torch.cat(cosines)
    return {name: tensor.float().contiguous() for name, tensor in found.items()}
