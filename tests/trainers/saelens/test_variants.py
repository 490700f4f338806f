"""Unit decoders, tied and nested dictionaries, normalized inputs: what is released is what was trained, and says so."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saereg.errors import UsageError
from saereg.registry.build import build
from saereg.registry.evidence.golden_file import read_golden
from saereg.registry.validators.runner import validate
from saereg.schemas.manifest import Manifest
from saereg.trainers.saelens.train import train_together
from tests.trainers.conftest import INFO

UNIT, SCALED = {"decoder_norm": "unit"}, {"normalize_activations": "expected_average_only_in"}
NORMALIZED = {"normalize_activations": "layer_norm"}

VARIANTS = {
    "unit-standard": ("standard", UNIT),
    "unit-scaled-standard": ("standard", UNIT | SCALED),
    "unit-scaled-gated": ("gated", UNIT | SCALED),
    "unit-scaled-jumprelu": ("jumprelu", UNIT | SCALED),
    "unit-scaled-topk": ("topk", UNIT | SCALED),
    "unit-scaled-batchtopk": ("batchtopk", UNIT | SCALED),
    "scaled-matryoshka": ("matryoshka_batchtopk", SCALED),
    "tied": ("topk", {"tied": True}),
    "scaled-tied": ("topk", {"tied": True} | SCALED),
    "normalized-standard": ("standard", NORMALIZED),
    "normalized-jumprelu": ("jumprelu", NORMALIZED),
    "normalized-gated": ("gated", NORMALIZED),
    "normalized-topk": ("topk", NORMALIZED),
    "normalized-tied": ("topk", {"tied": True} | NORMALIZED),
    "unit-normalized-standard": ("standard", UNIT | NORMALIZED),
}
"""Name → architecture and what is special."""


@pytest.fixture(scope="module")
def release(training, tmp_path_factory) -> Path:
    """A release with each variant, all trained in one pass."""
    root = tmp_path_factory.mktemp("variants")
    configs = [
        training(architecture, sae=sae, optimization={"tokens": 1280}, artifact={"id": name, "variant": name})
        for name, (architecture, sae) in VARIANTS.items()
    ]
    train_together(configs, root / "release", root / "checkpoints", info=INFO)
    return root


def entries(release: Path):
    return {one.id: one for one in Manifest.read(release / "release" / "manifest.json").artifacts}


def weights(release: Path, name: str):
    return load_file(release / "release" / name / "sae_weights.safetensors")


def test_build_verifies_every_claim_and_validate_finds_nothing(release):
    index = build(release / "release", checkpoints=release / "checkpoints")
    verdicts = [verdict.verdict for one in index.artifacts for verdict in one.verdicts]
    assert verdicts == ["verified"] * 2 * len(VARIANTS)
    report = validate(release / "release", "data")
    assert [(one.code, one.message) for one in report.findings if one.severity != "info"] == []


@pytest.mark.parametrize("name", VARIANTS)
def test_saelens_replays_the_trainers_own_forward(name, release):
    from sae_lens import SAE

    folder = release / "release" / name
    golden, sae = read_golden(folder / "golden.safetensors"), SAE.load_from_disk(folder)
    with torch.no_grad():
        f, x_hat = sae.encode(golden.x), sae(golden.x)
    for row, (active, values) in enumerate(zip(golden.active, golden.activations, strict=True)):
        ids = active[active >= 0]
        assert torch.equal(f[row].nonzero().squeeze(1), ids)
        torch.testing.assert_close(f[row, ids], values[: len(ids)], rtol=1e-5, atol=1e-6)
    assert ((x_hat - golden.x_hat).norm(dim=1) <= 1e-5 * golden.x_hat.norm(dim=1)).all()
    assert sae.cfg.normalize_activations == ("layer_norm" if "normalized" in name else "none")


@pytest.mark.parametrize("name", [name for name in VARIANTS if "unit" in name])
def test_a_unit_decoder_is_unit_in_the_release_whatever_was_folded(name, release):
    torch.testing.assert_close(weights(release, name)["W_dec"].norm(dim=1), torch.ones(48))
    assert entries(release)[name].decoder_norm == "unit"


def test_norms_are_claimed_where_they_are_unit_and_nowhere_else(release):
    for name, entry in entries(release).items():
        norms = weights(release, name)["W_dec"].norm(dim=1)
        assert (entry.decoder_norm == "unit") == bool(((norms - 1).abs() < 1e-3).all()), name
    assert entries(release)["scaled-matryoshka"].decoder_norm == "unit"  # folded, as they rank
    assert entries(release)["normalized-standard"].decoder_norm is None


def test_tied_weights_are_the_same_numbers_by_a_recipe_that_only_moves_them(release):
    for name in ("tied", "scaled-tied", "normalized-tied"):
        found, entry = weights(release, name), entries(release)[name]
        assert torch.equal(found["W_enc"], found["W_dec"].T)
        assert entry.tied is True
        assert {key: recipe.operation for key, recipe in entry.source_checkpoint.tensors.items()} == {
            "W_enc": "transpose", "W_dec": "identity", "b_enc": "identity", "b_dec": "identity"
        }  # fmt: skip
    assert entries(release)["normalized-topk"].tied is None


def test_a_nested_dictionary_is_a_jumprelu_that_remembers_its_widths(release):
    cfg = json.loads((release / "release" / "scaled-matryoshka" / "cfg.json").read_text())
    details = cfg["metadata"]["training_architecture_details"]
    assert (cfg["architecture"], cfg["metadata"]["training_architecture"]) == ("jumprelu", "matryoshka_batchtopk")
    assert details["matryoshka_widths"] == [12, 24, 48]
    threshold = weights(release, "scaled-matryoshka")["threshold"]
    assert threshold.shape == (48,)
    assert float(threshold.min()) == float(threshold.max()) > 0
    first = json.loads((release / "release" / "scaled-matryoshka" / "training.log").read_text().splitlines()[0])
    assert {"inner_mse_loss_12", "inner_mse_loss_24", "mse_loss"} <= first.keys()


def test_explained_variance_of_normalized_inputs_is_in_their_own_units(release):
    log = [json.loads(line) for line in (release / "release/normalized-standard/training.log").read_text().splitlines()]
    assert 0.1 < log[-1]["explained_variance"] < 1
    stated = {claim.metric: claim.value for claim in entries(release)["normalized-standard"].claims}
    assert abs(stated["explained_variance"] - log[-1]["explained_variance"]) < 0.2


@pytest.mark.parametrize("architecture", ["standard", "batchtopk"])
def test_the_rows_of_a_unit_decoder_stay_unit_and_adam_knows_nothing_along_them(architecture, training, collection):
    from saereg.trainers.rows.activations import read_collection
    from saereg.trainers.saelens.build import build as built
    from saereg.trainers.saelens.build import trainer_of

    config = training(architecture, sae=UNIT)
    sae = built(config, read_collection(collection))
    trainer, seen = trainer_of(sae, config, 640, "cpu"), []

    def look(optimizer, args, kwargs):
        W, gradient = sae.W_dec.detach().double(), sae.W_dec.grad.double()
        seen.append(float(((gradient * W).sum(dim=1).abs() / gradient.norm(dim=1).clamp_min(1e-12)).max()))

    trainer.optimizer.register_step_pre_hook(look)  # behind the one that projects
    start = sae.W_dec.detach().clone()
    for seed in range(5):
        trainer.step(torch.randn(32, 16, generator=torch.Generator().manual_seed(seed)))
        torch.testing.assert_close(sae.W_dec.detach().norm(dim=1), torch.ones(48))
    assert max(seen) < 1e-5
    assert float((sae.W_dec.detach() - start).norm()) > 0.1


def test_the_gate_of_normalized_inputs_learns_from_what_it_reads(training, collection):
    from sae_lens.saes.gated_sae import GatedTrainingSAE
    from sae_lens.saes.sae import TrainStepInput

    from saereg.trainers.rows.activations import read_collection
    from saereg.trainers.saelens.build import build as built

    ours = built(training("gated", sae=NORMALIZED), read_collection(collection))
    x = torch.randn(32, 16, generator=torch.Generator().manual_seed(0)) * 5 + 3
    step = TrainStepInput(x, {"l1": 0.5}, None, 0, is_logging_step=False)
    found = ours.training_forward_pass(step).losses
    with torch.no_grad():
        ours.r_mag.zero_()
        ours.b_mag.copy_(ours.b_gate)
    # with the same encoder for gate and size, the reconstruction via the gate is the reconstruction
    assert float(found["auxiliary_reconstruction_loss"]) == pytest.approx(float(found["mse_loss"]), rel=1e-5)
    theirs = GatedTrainingSAE.calculate_aux_loss(ours, step, x, x, x)["auxiliary_reconstruction_loss"]
    assert float(theirs) > 1.5 * float(found["mse_loss"])  # SAELens' own compares what was not normalized


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("gated", {"sae": NORMALIZED, "optimization": {"step": "saelens"}},
         "architecture 'gated' cannot train with layer_norm and step saelens: SAELens' losses of the gate read inputs "
         "that are not normalized; choose step auto, or another normalization"),
        ("batchtopk", {"sae": NORMALIZED},
         "architecture 'batchtopk' cannot train with layer_norm: SAELens' auxiliary loss for dead latents works in "
         "unnormalized space; choose topk with step auto, or another normalization"),
    ],
)  # fmt: skip
def test_what_saelens_would_train_wrongly_is_refused(architecture, changes, message, training, tmp_path):
    with pytest.raises(UsageError) as caught:
        train_together([training(architecture, **changes)], tmp_path / "r", tmp_path / "c", info=INFO)
    assert str(caught.value) == message


@pytest.mark.parametrize("setting", ["aux_loss_coefficient", "pre_act_loss_coefficient", "threshold", "bandwidth"])
def test_a_setting_of_another_architecture_is_refused(setting, training):
    with pytest.raises(ValueError, match=f"architecture 'standard' has no `{setting}`"):
        training("standard", sae={setting: 0.5})


def test_the_loss_on_dead_pre_activations_is_that_of_saelens(training, collection, tmp_path):
    config = training("jumprelu", sae={"pre_act_loss_coefficient": 1e-3, "threshold": 5.0, "dead_after_steps": 2})
    (done,) = train_together([config], tmp_path / "r", tmp_path / "c", info=INFO)
    lines = [json.loads(line) for line in (done.folder / "training.log").read_text().splitlines()]
    assert lines[0]["pre_act_loss"] == 0 < lines[-1]["pre_act_loss"]


def test_no_threshold_is_released_below_zero(training, tmp_path):
    """SAELens' trainer moves thresholds below zero, and back before the next step; behind the last there is none."""
    config = training(
        "jumprelu", sae={"l0_coefficient": 0.0, "threshold": 1e-4}, optimization={"lr": 0.1, "tokens": 320}
    )
    (done,) = train_together([config], tmp_path / "r", tmp_path / "c", info=INFO)
    threshold = load_file(done.folder / "sae_weights.safetensors")["threshold"]
    assert float(threshold.min()) == 0 < float(threshold.max())
    assert torch.equal(threshold, load_file(done.checkpoint)["threshold"])
