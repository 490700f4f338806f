"""Sources that the tests of crosscoders share: a tiny model at two layers, and its W_U at three steps."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.collecting.collect import collect
from saereg.trainers.collecting.snapshots import SnapshotsConfig, snapshots

STEPS = (0, 512, 1000)
W_U = "embed_out.weight"

VARIANTS = {
    "standard": {"architecture": "standard", "l1_coefficient": 0.05},
    "topk": {"architecture": "topk", "k": 4},
    "batchtopk": {"architecture": "batchtopk", "k": 4},
    "jumprelu": {"architecture": "jumprelu", "l1_coefficient": 0.02},
    "jumprelu-per-source": {"architecture": "jumprelu", "l1_coefficient": 0.02, "gate": "per_source"},
    "gated": {"architecture": "gated", "l1_coefficient": 0.05},
}
"""Every architecture and gate."""


@pytest.fixture(scope="session")
def layers(collecting, tmp_path_factory) -> Path:
    """A finished collection of 1200 rows at two layers."""
    folder = tmp_path_factory.mktemp("layers") / "acts"
    collect(collecting(folder, sites=("residual:0", "residual:1"), rows=1200))
    return folder


@pytest.fixture(scope="session")
def trajectory(neox, tmp_path_factory) -> tuple[Path, Path]:
    """(checkpoints of a model at three steps, its W_U as `saereg train snapshots` stores it)."""
    from safetensors.torch import load_file, save_file

    root, folder = tmp_path_factory.mktemp("trajectory"), tmp_path_factory.mktemp("snapshots")
    weights, generator = load_file(neox / "model.safetensors"), torch.Generator().manual_seed(1)
    for number, step in enumerate(STEPS):
        shutil.copytree(neox, root / f"step{step}")
        drift = torch.randn(64, 16, generator=generator) * 0.2 * number + 0.1 * number
        save_file({**weights, W_U: weights[W_U] + drift}, root / f"step{step}" / "model.safetensors")
    schedule = ",".join(str(step) for step in STEPS)
    snapshots(SnapshotsConfig(str(root), "W_U", schedule, folder / "W_U", model_name="tiny-trajectory"))
    return root, folder / "W_U"


@pytest.fixture(scope="session")
def on_layers(layers):
    """Return a function from (variant, changes) to the configuration of a run of 20 steps on activations."""

    def make(variant: str, **changes) -> CrosscoderTrainConfig:
        sources = {"axis": "layer", "collections": [str(layers)], "sites": ["residual-0", "residual-1"]}
        return _config(variant, {"sources": sources, "evaluation": {"rows": 200}, **changes})

    return make


@pytest.fixture(scope="session")
def on_steps(trajectory):
    """Return a function from (variant, changes) to the configuration of a run of 20 steps on W_U."""

    def make(variant: str, **changes) -> CrosscoderTrainConfig:
        sources = {"axis": "snapshot", "parameters": str(trajectory[1]), **changes.pop("sources", {})}
        return _config(variant, {"sources": sources, **changes})

    return make


def _config(variant: str, changes) -> CrosscoderTrainConfig:
    crosscoder = {"d_sae": 48, "preprocess": "center_scale", **VARIANTS[variant], **changes.pop("crosscoder", {})}
    optimization = {"tokens": 640, "batch_size": 32, "lr": 1e-2, "log_every": 5, **changes.pop("optimization", {})}
    settings = {"crosscoder": crosscoder, "optimization": optimization, "artifact": {"id": f"cross/{variant}"}}
    return CrosscoderTrainConfig.from_text(json.dumps(settings | changes), "test")
