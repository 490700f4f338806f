"""A crosscoder in training: its weights, and the forward that is released.

Shapes: n rows, K sources, D = d_in, F latents of this process out of d_sae.
    x'   = (x − mean_k)·scale_k                        per source, (n, K, D)
    pre  = Σ_k x'_k·W_enc[k] + b_enc                   one product over the flattened K·D
    f    = activation(pre)                             (n, F), or (n, K, F) where each source has a gate of its own
    x̂'_k = f·W_dec[:, k] + b_dec[k],   x̂ = x̂'/scale_k + mean_k
    n_j  = Σ_k ‖W_dec[j, k]‖, or n_jk = ‖W_dec[j, k]‖ for a gate per source
    standard  f = relu(pre)
    topk      f = relu(pre) of the k latents with the largest pre·n
    batchtopk f = relu(pre) where pre·n > threshold, a number calibrated behind training
    jumprelu  f = pre where pre·n > θ, θ = exp(log_threshold), (F,)
    gated     f = relu(exp(r_mag)·Σ_k x'_k·W_enc[k] + b_mag) where Σ_k x'_k·W_enc[k] + b_gate > 0
That latents are ranked and compared times their decoder norms makes them independent of how a latent's size is split
between encoder and decoder. Sources: Anthropic, Circuits Updates, October 2024 ("Sparse Crosscoders") and January 2025;
arXiv:2412.06410 (BatchTopK); arXiv:2404.16014 (gated).
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saereg.schemas.training_crosscoder import CrosscoderSettings
from saereg.trainers.crosscoder.choosing import top_of_rows
from saereg.trainers.crosscoder.group import ALONE, Group, share, summed
from saereg.trainers.crosscoder.products import decoded, encoded

if TYPE_CHECKING:
    from saereg.trainers.runs.state import Tree

BLOCK = 1024
"""Latents whose first weights are drawn at once, so that they do not depend on who holds them."""

FIRST_THRESHOLD = 0.1
"""Threshold of JumpReLU until one is taken from the first batch. Source: Anthropic, Circuits Updates, January 2025."""

SPLIT = {
    "W_enc": -1, "W_dec": 0, "b_enc": 0, "b_gate": 0, "b_mag": 0, "r_mag": 0, "log_threshold": 0,
}  # fmt: skip
"""Weight → its axis of latents; `b_dec` has none and is the same in every process."""


@dataclass(frozen=True)
class InputNumbers:
    """What the rows of each source are centred and scaled by.

    Attributes:
        mean: (K, D), float32; None: rows are not centred.
        scale: (K,), float32; None: rows are not scaled.
    """

    mean: Tensor | None = None
    scale: Tensor | None = None

    def applied(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return (x − mean)·scale (n, K, D), as readers of the released file compute it."""
        x = x if self.mean is None else x - self.mean
        x = x if self.scale is None else x * self.scale.unsqueeze(-1)
        return x.to(dtype)

    def undone(self, x_hat: Tensor) -> Tensor:
        """Return x̂/scale + mean (n, K, D)."""
        dtype = x_hat.dtype
        x_hat = x_hat if self.scale is None else x_hat * (1 / self.scale.unsqueeze(-1))
        x_hat = x_hat if self.mean is None else x_hat + self.mean
        return x_hat.to(dtype)

    def to(self, device: str) -> "InputNumbers":
        """Return the same on a device."""
        return InputNumbers(
            None if self.mean is None else self.mean.to(device), None if self.scale is None else self.scale.to(device)
        )


class Crosscoder:
    """Weights in training.

    Args:
        settings: the dictionary.
        shape: (K, D).
        seed: seed of the first weights.
        numbers: what rows are centred and scaled by.
        device: torch device.
        group: the processes that hold the latents.
        half: whether dense products are of bfloat16.

    Attributes:
        weights: name → tensor that is trained.
        threshold: scalar of batchtopk: the running mean of the batches' cuts, until it is calibrated.
        latents: which of the d_sae latents these are.
    """

    def __init__(
        self,
        settings: CrosscoderSettings,
        shape: tuple[int, int],
        seed: int,
        *,
        numbers: InputNumbers | None = None,
        device: str = "cpu",
        group: Group = ALONE,
        half: bool = False,
    ) -> None:
        self.settings, self.shape, self.group, self.half, self.device = settings, shape, group, half, device
        self.latents = share(settings.d_sae, group)
        self.numbers = (numbers or InputNumbers()).to(device)
        first = initial(settings, shape, seed, self.latents)
        self.weights = {name: tensor.to(device).requires_grad_() for name, tensor in first.items()}
        self.threshold = torch.zeros((), dtype=self.dtype, device=device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return torch.float64 if self.settings.dtype == "float64" else torch.float32

    @property
    def per_source(self) -> bool:
        """Whether each source has a gate of its own."""
        return self.settings.gate == "per_source"

    def encoder_product(self, x: Tensor) -> Tensor:
        """Return Σ_k x_k·W_enc[k] (n, F) of centred and scaled rows (n, K, D)."""
        return encoded(x.flatten(1), self.weights["W_enc"].flatten(0, 1), self.half)

    def pre_activations(self, x: Tensor) -> Tensor:
        """Return pre (n, F); of gated, the quantity of its gate."""
        bias = "b_gate" if self.settings.architecture == "gated" else "b_enc"
        return self.encoder_product(x) + self.weights[bias]

    def source_norms(self) -> Tensor:
        """Return ‖W_dec[j, k]‖ (F, K)."""
        norms: Tensor = torch.linalg.vector_norm(self.weights["W_dec"], dim=-1)
        return norms

    def norms(self) -> Tensor:
        """Return Σ_k ‖W_dec[j, k]‖ (F,)."""
        return self.source_norms().sum(-1)

    def decode(self, f: Tensor, everywhere: bool = False) -> Tensor:
        """Return x̂' (n, K, D) of codes (n, F), those of other processes included."""
        partial = decoded(f, self.weights["W_dec"].flatten(1), everywhere, self.half)
        return summed(partial, self.group).view(len(f), *self.shape) + self.weights["b_dec"]

    def normalized(self, x: Tensor) -> Tensor:
        """Return centred and scaled rows (n, K, D) of rows as they are stored."""
        return self.numbers.applied(x.to(self.device), self.dtype)

    def gates(self, pre: Tensor) -> Tensor:
        """Return what decides, (n, F), or (n, K, F) where each source has a gate of its own."""
        if self.per_source:
            return pre.unsqueeze(1) * self.source_norms().t()
        if self.settings.architecture in ("standard", "gated"):
            return pre
        return pre * self.norms()

    def cuts(self) -> Tensor:
        """Return what a gate must exceed, (F,) or (); topk has none and gives 0."""
        if self.settings.architecture == "jumprelu":
            return self.weights["log_threshold"].exp()
        return self.threshold if self.settings.architecture == "batchtopk" else torch.zeros_like(self.threshold)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Return f of centred and scaled rows as the released file means it, (n, F) or (n, K, F), of this process."""
        product = self.encoder_product(x)
        if self.settings.architecture == "gated":
            magnitude = (product * self.weights["r_mag"].exp() + self.weights["b_mag"]).relu()
            return magnitude * (product + self.weights["b_gate"] > 0)
        pre = product + self.weights["b_enc"]
        if self.settings.architecture == "standard":
            return pre.relu()
        gates = self.gates(pre)
        if self.settings.architecture == "topk":
            return pre.relu() * top_of_rows(gates, int(self.settings.k or 0), self.group)
        return (pre.unsqueeze(1) if self.per_source else pre).relu() * (gates > self.cuts())

    @torch.no_grad()
    def reconstructed(self, f: Tensor) -> Tensor:
        """Return x̂' (n, K, D) of codes as `codes` gives them."""
        if not self.per_source:
            return self.decode(f)
        W_dec = self.weights["W_dec"]
        parts = [decoded(f[:, k], W_dec[:, k], half=self.half) for k in range(self.shape[0])]
        return self.group.sum_(torch.stack(parts, 1)) + self.weights["b_dec"]

    @torch.no_grad()
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (f, x̂) of rows as they are stored: all latents' codes, and the reconstruction in units of the rows."""
        f = self.codes(self.normalized(x))
        return self.group.joined(f, -1), self.numbers.undone(self.reconstructed(f))

    def state(self) -> "Tree":
        """Return the weights of this process."""
        numbers = {"mean": self.numbers.mean, "scale": self.numbers.scale}
        return {"weights": dict(self.weights), "threshold": self.threshold, "numbers": numbers}

    @torch.no_grad()
    def load(self, state: "Tree") -> None:
        """Take the weights of a state."""
        for name, tensor in self.weights.items():
            tensor.copy_(state["weights"][name])
        self.threshold = state["threshold"].to(self.device)
        self.numbers = InputNumbers(**state["numbers"]).to(self.device)


def initial(settings: CrosscoderSettings, shape: tuple[int, int], seed: int, latents: range) -> dict[str, Tensor]:
    """Return the first weights of some latents, the same whichever others are drawn beside them.

    W_dec is random, each source's part of a row of norm `decoder_init_norm`; W_enc is its transpose; biases are 0.
    Source: Anthropic, Circuits Updates, April 2024.
    """
    dtype = torch.float64 if settings.dtype == "float64" else torch.float32
    W_dec = torch.empty(len(latents), *shape, dtype=dtype)
    for block in range(latents.start // BLOCK, -(-latents.stop // BLOCK)):
        drawn = torch.randn(BLOCK, *shape, generator=_generator(seed, block))
        drawn *= settings.decoder_init_norm / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True)
        first, last = max(latents.start, block * BLOCK), min(latents.stop, (block + 1) * BLOCK)
        W_dec[first - latents.start : last - latents.start] = drawn[first - block * BLOCK : last - block * BLOCK]
    zeros = torch.zeros(len(latents), dtype=dtype)
    weights = {"W_enc": W_dec.permute(1, 2, 0).contiguous(), "W_dec": W_dec, "b_dec": torch.zeros(shape, dtype=dtype)}
    names = ("b_gate", "b_mag", "r_mag") if settings.architecture == "gated" else ("b_enc",)
    weights |= {name: zeros.clone() for name in names}
    if settings.architecture == "jumprelu":
        weights["log_threshold"] = torch.full_like(zeros, settings.threshold or FIRST_THRESHOLD).log()
    return weights


def _generator(seed: int, block: int) -> torch.Generator:
    """Return the generator of a block; torch's takes 32 bits of a seed, so that sums of the two would not do."""
    digest = hashlib.sha256(f"crosscoder {seed} {block}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))
