"""A small grid of anonymous checkpoints: the SAE of a training script, for some layers and moments of training."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from tests.upstream import D, F, random

TEMPLATE = "sae_layer{layer:02d}_{snapshot}.pt"

LAYERS, SNAPSHOTS, GAP = range(4), ("50M", "100M", "final"), (2, "100M")

GIVEN = {"activation": "relu", "normalization": "none", "pre_encoder_subtraction": "none"}


def state(layer: int, snapshot: str, width: int = D, latents: int = F) -> dict[str, Tensor]:
    """Return the weights of two Linear layers, others for every cell."""
    seed = 1000 * layer + 10 * SNAPSHOTS.index(snapshot)
    return {
        "encoder.weight": random(latents, width, seed=seed),
        "encoder.bias": random(latents, seed=seed + 1),
        "decoder.weight": random(width, latents, seed=seed + 2),
        "decoder.bias": random(width, seed=seed + 3),
    }


def forward(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Return x_hat as the script computes it."""
    f = (x @ weights["encoder.weight"].T + weights["encoder.bias"]).relu()
    return f @ weights["decoder.weight"].T + weights["decoder.bias"]


def save_grid(folder: Path, layers: Iterable[int] = LAYERS, snapshots: Iterable[str] = SNAPSHOTS) -> Path:
    """Save a grid with one gap and a file that is something else; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for layer in layers:
        for step, snapshot in enumerate(snapshots):
            if (layer, snapshot) != GAP:
                value = {"state_dict": state(layer, snapshot), "step": step}
                torch.save(value, folder / f"sae_layer{layer:02d}_{snapshot}.pt")
    torch.save({"mean": torch.zeros(3)}, folder / "notes.pt")
    (folder / "README.md").write_text("# A grid\n")
    return folder
