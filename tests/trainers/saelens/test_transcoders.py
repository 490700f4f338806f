"""Transcoders of every architecture: what SAELens reads, and what build and validate recompute, is what was trained."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.build import build
from saereg.registry.evidence.golden_file import read_golden
from saereg.registry.files.digest import sha256_of
from saereg.registry.loading import load_path
from saereg.registry.validators.runner import validate
from saereg.schemas.manifest import Manifest
from saereg.schemas.training import TrainConfig
from saereg.trainers.collecting.collect import collect
from saereg.trainers.saelens.train import train, train_together
from tests.trainers.conftest import INFO

WIDE = "module=gpt_neox.layers.1.mlp.dense_h_to_4h"
"""Site of width 32, where the stream has 16."""

SETTINGS = {
    "transcoder": {"l1_coefficient": 0.5, "resample_steps": (15,), "dead_after_steps": 5},
    "skip_transcoder": {"l1_coefficient": 0.5, "normalize_activations": "layer_norm"},
    "jumprelu_transcoder": {"l0_coefficient": 0.01},
    "jumprelu_skip_transcoder": {"l0_coefficient": 0.01, "normalize_activations": "expected_average_only_in"},
    "topk_transcoder": {"k": 4.0, "normalize_activations": "expected_average_only_in"},
    "topk_skip_transcoder": {"k": 4.0},
}
OF_SAELENS = [name for name in SETTINGS if "topk" not in name]


@pytest.fixture(scope="module")
def pairs(collecting, tmp_path_factory) -> Path:
    """What the MLP of a layer reads and gives, and what stands between."""
    folder = tmp_path_factory.mktemp("pairs") / "acts"
    collect(collecting(folder, sites=("mlp_in:1", "mlp:1", WIDE), rows=2000))
    return folder


@pytest.fixture(scope="module")
def configured(pairs):
    """Return a function from (architecture, changes) to the configuration of a run of 40 steps."""

    def make(architecture: str, **changes) -> TrainConfig:
        settings = {
            "collection": str(pairs),
            "site": "mlp_in-1",
            "site_out": "gpt_neox.layers.1.mlp.dense_h_to_4h" if "jumprelu" in architecture else "mlp-1",
            "sae": {"architecture": architecture, "d_sae": 48, **SETTINGS[architecture], **changes.pop("sae", {})},
            "optimization": {"tokens": 1280, "batch_size": 32, "lr": 3e-3, "log_every": 10},
            "evaluation": {"rows": 300},
            "artifact": {"id": f"mlp-1/{architecture}"},
        }
        return TrainConfig.model_validate(settings | changes)

    return make


@pytest.fixture(scope="module")
def release(configured, tmp_path_factory) -> Path:
    """A release with one transcoder of each architecture, all trained in one pass."""
    root = tmp_path_factory.mktemp("transcoders")
    train_together([configured(name) for name in SETTINGS], root / "release", root / "checkpoints", info=INFO)
    return root


def artifact(release: Path, name: str):
    manifest = Manifest.read(release / "release" / "manifest.json")
    return next(one for one in manifest.artifacts if one.id == f"mlp-1/{name}")


def test_build_and_validate_find_nothing_wrong(release):
    index = build(release / "release", checkpoints=release / "checkpoints")
    verdicts = [verdict for one in index.artifacts for verdict in one.verdicts]
    assert len(verdicts) == 2 * len(SETTINGS)
    assert {verdict.verdict for verdict in verdicts} == {"verified"}
    report = validate(release / "release", "data")
    assert [(one.code, one.message) for one in report.findings if one.severity != "info"] == []


@pytest.mark.parametrize("architecture", OF_SAELENS)
def test_saelens_loads_the_export_and_replays_the_golden_vectors(architecture, release):
    from sae_lens import SAE

    folder = release / "release" / "mlp-1" / architecture
    golden, theirs = read_golden(folder / "golden.safetensors"), SAE.load_from_disk(folder)
    assert theirs.cfg.architecture() == architecture
    with torch.no_grad():
        f, y_hat = theirs.encode(golden.x), theirs(golden.x)
    for row, (active, values) in enumerate(zip(golden.active, golden.activations, strict=True)):
        ids = active[active >= 0]
        assert torch.equal(f[row].nonzero().squeeze(1), ids)
        torch.testing.assert_close(f[row, ids], values[: len(ids)], rtol=1e-5, atol=1e-6)
    assert ((y_hat - golden.x_hat).norm(dim=1) <= 1e-5 * golden.x_hat.norm(dim=1)).all()
    assert golden.x_hat.shape[1] == (32 if "jumprelu" in architecture else 16)
    assert "saereg's" in golden.made_by


def test_topk_transcoders_are_released_in_the_layout_that_can_say_them(release):
    for name, skip in (("topk_transcoder", "none"), ("topk_skip_transcoder", "x_times_W_skip_transposed")):
        folder = release / "release" / "mlp-1" / name
        cfg = json.loads((folder / "cfg.json").read_text())
        rules = cfg["semantics"]
        assert (cfg["kind"], cfg["d_out"], rules["k"], rules["skip"]) == ("transcoder", 16, 4.0, skip)
        assert rules["gate_quantity"] == "pre_activation"
        weights = load_file(folder / "weights.safetensors")
        torch.testing.assert_close(weights["W_dec"].norm(dim=1), torch.ones(48))
        assert ("W_skip" in weights) == (skip != "none")
        entry = artifact(release, name)
        assert (entry.format, entry.architecture, entry.sparsity.k) == ("saereg", name, 4.0)


def test_the_entry_says_what_is_read_and_what_is_predicted(release):
    entry = artifact(release, "jumprelu_skip_transcoder")
    assert (entry.kind, entry.format, entry.site, entry.d_in, entry.d_out) == (
        "transcoder",
        "saelens",
        "mlp_in-1",
        16,
        32,
    )
    assert entry.site_out == "gpt_neox.layers.1.mlp.dense_h_to_4h"
    manifest = Manifest.read(release / "release" / "manifest.json")
    assert manifest.sites["mlp_in-1"].io == "input"
    assert {key: (e.site, e.target) for key, e in manifest.evaluations.items()} == {
        "held-out-mlp_in-1-to-mlp-1": ("mlp_in-1", "target"),
        "held-out-mlp_in-1-to-gpt_neox.layers.1.mlp.dense_h_to_4h": ("mlp_in-1", "target"),
    }
    cfg = json.loads((release / "release/mlp-1/transcoder/cfg.json").read_text())
    assert cfg["metadata"]["hf_hook_name_out"] == "gpt_neox.layers.1.mlp"
    assert cfg["metadata"]["hook_name_out"] == "blocks.1.hook_mlp_out"
    assert "hf_hook_name" not in cfg["metadata"]  # the input of a module has no such name
    scales = json.loads((release / "release/mlp-1/jumprelu_skip_transcoder/cfg.json").read_text())
    details = scales["metadata"]["training_architecture_details"]
    assert scales["normalize_activations"] == "none"
    assert details["input_scale"] != details["output_scale"]


def test_what_is_claimed_is_of_the_target(release):
    rows = load_file(release / "release" / "evaluation" / "held-out-mlp_in-1-to-mlp-1.safetensors")
    x, y = rows["x"].double(), rows["target"].double()
    with torch.no_grad():
        y_hat = load_path(release / "release" / "mlp-1" / "transcoder")(rows["x"]).double()
    expected = 1 - (y - y_hat).square().sum() / (y - y.mean(dim=0)).square().sum()
    claims = {claim.metric: claim.value for claim in artifact(release, "transcoder").claims}
    assert abs(claims["explained_variance"] - float(expected)) < 1e-4
    assert len(x) == 300


def test_held_out_pairs_are_rows_of_one_token(release, neox):
    from transformers import AutoModel

    rows = load_file(release / "release" / "evaluation" / "held-out-mlp_in-1-to-mlp-1.safetensors")
    with torch.no_grad():
        made = AutoModel.from_pretrained(neox).eval().layers[1].mlp(rows["x"])
    torch.testing.assert_close(made, rows["target"], rtol=1e-5, atol=1e-6)


def test_each_is_what_it_would_have_become_alone_and_goes_on_to_the_same_bytes(configured, release, tmp_path):
    from saereg.errors import InterruptedRunError

    def stop(seen):
        if seen.tokens == 320:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    config = configured("jumprelu_skip_transcoder")
    with pytest.raises(InterruptedRunError):
        train(config, tmp_path / "release", tmp_path / "checkpoints", stop, info=INFO)
    train(config, tmp_path / "release", tmp_path / "checkpoints", info=INFO)
    folder = Path("release") / config.artifact.id
    for name in ("sae_weights.safetensors", "golden.safetensors", "cfg.json", "training.log"):
        assert sha256_of(tmp_path / folder / name) == sha256_of(release / folder / name), name


def test_a_missing_or_unknown_target_is_one_line_before_training(configured, pairs, tmp_path):
    folders = (tmp_path / "r", tmp_path / "c")
    with pytest.raises(UnknownNameError, match=r"unknown site in .* 'mlp-9'; did you mean 'mlp-1'"):
        train(configured("transcoder", site_out="mlp-9"), *folders, info=INFO)
    with pytest.raises(ValueError, match="`site_out` is for transcoders, which need it"):
        configured("transcoder", site_out=None)
    with pytest.raises(UsageError, match="cannot train with layer_norm"):
        train(configured("topk_transcoder", sae={"normalize_activations": "layer_norm"}), *folders, info=INFO)
    assert not any(folder.exists() for folder in folders)


def test_sites_with_different_numbers_of_rows_are_refused(configured, pairs, tmp_path):
    import shutil

    folder = tmp_path / "acts"
    shutil.copytree(pairs, folder)
    document = json.loads((folder / "collection.json").read_text())
    shard = document["sites"]["mlp-1"]["shards"][-1]
    shard["rows"] -= 1
    rows = load_file(folder / shard["path"])["x"]
    save_file({"x": rows[:-1].contiguous()}, folder / shard["path"])
    (folder / "collection.json").write_text(json.dumps(document))
    config = configured("transcoder", collection=str(folder))
    with pytest.raises(UsageError, match=r"different numbers of rows \(2000 at mlp_in-1, 1999 at mlp-1\)"):
        train(config, tmp_path / "r", tmp_path / "c", info=INFO)
