"""Make golden vectors with the trainer's own forward pass, before anything is exported."""

from importlib import metadata
from typing import TYPE_CHECKING, Any

from saereg.registry.evidence.golden_file import GoldenVectors
from saereg.schemas.training import WHOLE_K

if TYPE_CHECKING:
    from torch import Tensor

REAL_ROWS, RANDOM_ROWS = 8, 4
"""Rows of each kind. Random ones activate many more latents, so fewer of them keep the file small."""

POOL = 256
"""Held-out rows that the real ones are chosen from, and random rows drawn for the random ones."""

NEAR = 1e-4
"""Distance of the constructed row from a threshold, relative to the threshold."""

ROUNDING = 64 * 2.0**-23
"""The constructed row keeps at least this many roundings of float32 away, relative to ‖x‖·‖w‖."""


def make_golden(sae: Any, held_out: "Tensor", seed: int) -> GoldenVectors:  # noqa: ANN401
    """Return inputs and what the trainer makes of them.

    Of a pool of rows those are taken whose set of active latents is decided most clearly, so that another library's
    rounding cannot change it. Where latents have thresholds, one more row is constructed to lie just above one.

    Args:
        sae: SAELens' training SAE, input scale folded.
        held_out: rows (n, d_in) that were not trained on.
        seed: seed of the random rows.
    """
    import torch

    with torch.no_grad():
        real = held_out[:POOL].float()
        real = real[_clearest(sae, real, REAL_ROWS)]
        generator = torch.Generator().manual_seed(seed)
        random = torch.randn(POOL, held_out.shape[1], generator=generator)
        random = random * (real.norm(dim=1).mean() / random.norm(dim=1, keepdim=True))
        random = random[_clearest(sae, random, RANDOM_ROWS)]
        near = near_threshold(sae, held_out[:POOL].float())
        x = torch.cat([real, random] if near is None else [real, random, near.unsqueeze(0)])
        activations, x_hat = forward(sae, x)
    active, values = _sparse(activations)
    version = metadata.version("sae-lens")
    whose = "saereg's " if type(sae).__module__.startswith("saereg.") else ""
    gate = " gated by its running topk_threshold" if hasattr(sae, "topk_threshold") else ""
    made_by = f"sae_lens {version} {whose}{type(sae).__name__} forward{gate}"
    return GoldenVectors(x, active, values, x_hat.float(), made_by)


def forward(sae: Any, x: "Tensor") -> "tuple[Tensor, Tensor]":  # noqa: ANN401
    """Return (activations, x_hat) of the trainer.

    For BatchTopK its own encoder cannot be used: which latents it keeps depends on the other rows of the batch. What
    it learned for use on single rows is the running threshold of the smallest kept value; its pre-activations (times
    ‖W_dec‖) are gated by that, and its own decoder does the rest.
    """
    if not hasattr(sae, "topk_threshold"):
        activations = sae.encode(x)
    else:
        _, pre = sae.encode_with_hidden_pre(x)
        activations = pre.relu() * (pre > sae.topk_threshold.to(pre.dtype))
    return activations, sae.transcode(x, activations) if hasattr(sae, "transcode") else sae.decode(activations)


def margins(sae: Any, x: "Tensor") -> "Tensor":  # noqa: ANN401
    """Return how clearly each row's active latents are decided (n,): distance to a change, relative to the largest.

    Args:
        sae: SAELens' training SAE.
        x: rows (n, d_in).
    """
    largest: Tensor = pre_activations(sae, x).abs().max(dim=1).values
    return _distances(sae, x).min(dim=1).values / largest


def _distances(sae: Any, x: "Tensor") -> "Tensor":  # noqa: ANN401
    """Return how far each pre-activation (n, d_sae) is from the value at which the active set changes."""
    pre = pre_activations(sae, x)
    if sae.cfg.architecture() in WHOLE_K:
        return _topk_distances(pre, int(sae.cfg.k))
    if sae.cfg.architecture() == "gated":
        gate: Tensor = sae.process_sae_in(x) @ sae.W_enc + sae.b_gate
        return gate.abs().minimum(pre.abs().masked_fill(gate <= 0, float("inf")))
    return (pre - thresholds(sae)).abs()


def _topk_distances(pre: "Tensor", k: int) -> "Tensor":
    """Return the distance of each kept value from zero, and of the last kept one from the first dropped one."""
    import torch

    kept = pre.topk(min(k + 1, pre.shape[1]), dim=1).values
    gap = kept[:, k - 1 : k] - kept[:, k : k + 1]
    return torch.cat([kept[:, :k].abs(), gap], dim=1)


def pre_activations(sae: Any, x: "Tensor") -> "Tensor":  # noqa: ANN401
    """Return the quantity that decides (n, d_sae), as the trainer computes it."""
    pre: Tensor = sae.encode_with_hidden_pre(x)[1]
    return pre


def thresholds(sae: Any) -> "Tensor":  # noqa: ANN401
    """Return the threshold of each latent (d_sae,), zero where the architecture has none."""
    found: Tensor = sae.b_dec.new_zeros(())
    for name in ("threshold", "topk_threshold"):
        found = getattr(sae, name, found)
    return found.to(sae.dtype).expand(sae.cfg.d_sae)


def _clearest(sae: Any, rows: "Tensor", count: int) -> "Tensor":  # noqa: ANN401
    """Return the positions of the rows with the largest margins, in rising order."""
    best = margins(sae, rows).argsort(descending=True, stable=True)[:count]
    return best.sort().values


def near_threshold(sae: Any, rows: "Tensor") -> "Tensor | None":  # noqa: ANN401
    """Return a row (d_in,) with one pre-activation just above its threshold and all others clearly decided.

    A row x is moved along the encoder direction w of the latent that is closest to its threshold θ, by
    t = (θ + δ − pre)/(‖w‖²·n), with δ = NEAR·θ but no less than what float32 can resolve; n = ‖W_dec‖ where
    pre-activations are ranked times it, else 1. The move is verified on the row as it is stored, in float32.

    Returns:
        The row of the pool whose other latents are decided most clearly; None without positive thresholds, or where
        pre-activations are not linear in x (layer_norm).
    """
    import torch

    theta = thresholds(sae).double()
    if not bool((theta > 0).any()) or sae.cfg.normalize_activations == "layer_norm":
        return None
    pre = pre_activations(sae, rows).double()
    latents = (pre - theta).abs().masked_fill(theta <= 0, float("inf")).argmin(dim=1)
    directions = sae.W_enc.T[latents].double()
    scales = (
        sae.W_dec.norm(dim=1)[latents].double() if hasattr(sae, "topk_threshold") else torch.ones(len(rows)).double()
    )
    noise = ROUNDING * rows.norm(dim=1).double() * directions.norm(dim=1) * scales
    delta = torch.maximum(NEAR * theta[latents], noise)
    wanted = theta[latents] + delta - pre.gather(1, latents.unsqueeze(1)).squeeze(1)
    moved = (rows + (wanted / (directions.square().sum(dim=1) * scales)).unsqueeze(1) * directions).float()
    return _best_moved(sae, moved, latents, delta)


def _best_moved(sae: Any, moved: "Tensor", latents: "Tensor", delta: "Tensor") -> "Tensor | None":  # noqa: ANN401
    """Return the moved row whose own latent is above by about δ and whose others are farthest from a change."""
    signed = pre_activations(sae, moved).double() - thresholds(sae).double()
    chosen = latents.unsqueeze(1)
    own = signed.gather(1, chosen).squeeze(1)
    others = signed.abs().scatter(1, chosen, float("inf")).min(dim=1).values
    others = others.masked_fill((own < delta / 2) | (own > 2 * delta), -1.0)
    best = int(others.argmax())
    return moved[best] if float(others[best]) > 0 else None


def _sparse(activations: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return (ids, values), each (n, m): active latents in rising order, padded with −1 and 0."""
    import torch

    mask = activations != 0
    width = max(1, int(mask.sum(dim=1).max()))
    # a stable descending sort of the mask brings active ids to the front and keeps their order
    order = mask.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
    present = mask.gather(1, order)
    values = activations.gather(1, order).float().masked_fill(~present, 0.0)
    return order.masked_fill(~present, -1), values
