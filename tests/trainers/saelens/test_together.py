"""Dictionaries that share a pass over the rows: each becomes what it becomes alone, and what SAELens makes of it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saereg.errors import InterruptedRunError, UsageError
from saereg.registry.files.digest import sha256_of
from saereg.schemas.manifest import Manifest
from saereg.trainers.collecting.collect import collect
from saereg.trainers.rows.activations import read_collection
from saereg.trainers.saelens import prepare
from saereg.trainers.saelens.build import build, trainer_of
from saereg.trainers.saelens.member import SaeMember, estimate_scales
from saereg.trainers.saelens.train import train, train_together
from tests.trainers.conftest import INFO

FILES = ("sae_weights.safetensors", "cfg.json", "golden.safetensors", "training.log")

SCALED = {"normalize_activations": "expected_average_only_in"}

RUNS = {
    "a": ("standard", 0, "residual-0", {}),
    "b": ("standard", 1, "residual-0", SCALED | {"target_l0": 5.0}),
    "c": ("topk", 2, "residual-1", {"tied": True}),
    "d": ("matryoshka_batchtopk", 3, "residual-1", SCALED),
    "e": ("gated", 4, "residual-1", {"decoder_norm": "unit", "dead_after_steps": 1, "resample_steps": (12,)} | SCALED),
}
"""Id → architecture, seed, site, settings."""


@pytest.fixture(scope="module")
def layers(collecting, tmp_path_factory) -> Path:
    """Two sites of one model."""
    folder = tmp_path_factory.mktemp("layers") / "acts"
    collect(collecting(folder, sites=("residual:0", "residual:1"), rows=2000))
    return folder


@pytest.fixture(scope="module")
def configs(layers, training):
    return [
        training(
            architecture, collection=str(layers), site=site, seed=seed, order_seed=7, sae=sae, artifact={"id": name}
        )
        for name, (architecture, seed, site, sae) in RUNS.items()
    ]


@pytest.fixture(scope="module")
def together(configs, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("together")
    train_together(configs, root / "release", root / "checkpoints", info=INFO, name="all")
    return root


@pytest.mark.parametrize("position", range(len(RUNS)))
def test_each_becomes_bitwise_what_it_becomes_alone(position, configs, together, tmp_path):
    config = configs[position]
    done = train(config, tmp_path / "release", tmp_path / "checkpoints", info=INFO)
    for name in FILES:
        assert sha256_of(done.folder / name) == sha256_of(together / "release" / config.artifact.id / name), name


def test_the_order_of_rows_does_not_depend_on_other_sites_when_they_do_not_fit_the_buffer(
    configs, tmp_path, monkeypatch
):
    monkeypatch.setattr(prepare, "BUFFER_ROWS", 1100)
    train_together(configs[1:3], tmp_path / "both", tmp_path / "c1", info=INFO)
    alone = train(configs[2], tmp_path / "alone", tmp_path / "c2", info=INFO)
    assert alone.weights_sha256 == sha256_of(tmp_path / "both" / "c" / "sae_weights.safetensors")


def test_a_shared_pass_that_stopped_ends_with_the_same_bytes(configs, together, tmp_path):
    def stop(seen):
        if seen.tokens == 32 * 11:
            import signal

            signal.raise_signal(signal.SIGINT)

    places = tmp_path / "release", tmp_path / "checkpoints"
    with pytest.raises(InterruptedRunError):
        train_together(configs, *places, stop, info=INFO, name="all")
    done = train_together(configs, *places, info=INFO, name="all")
    assert [one.artifact.id for one in done] == list(RUNS)
    for name in (f"{one}/{file}" for one in RUNS for file in FILES):
        assert sha256_of(tmp_path / "release" / name) == sha256_of(together / "release" / name), name


def test_the_manifest_holds_all_of_them_with_one_evaluation_per_site(together):
    manifest = Manifest.read(together / "release" / "manifest.json")
    assert [(one.id, one.site, one.seed) for one in manifest.artifacts] == [
        (name, site, seed) for name, (_, seed, site, _) in RUNS.items()
    ]
    assert manifest.evaluations.keys() == {"held-out-residual-0", "held-out-residual-1"}


@pytest.mark.parametrize("sae", [{}, SCALED])
def test_the_steps_are_those_of_saelens_multi_trainer(sae, layers, training):
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.multi_sae_trainer import MultiSAETrainer

    rows = [
        {site: torch.randn(32, 16, generator=torch.Generator().manual_seed(2 * step + place)) * 3 for place, site in
         enumerate(("residual-0", "residual-1"))} for step in range(20)
    ]  # fmt: skip
    runs = [
        training(architecture, collection=str(layers), site=site, sae=sae, seed=seed, artifact={"id": f"{seed}"},
                 optimization={"step": "saelens"})
        for seed, (architecture, site) in enumerate([("standard", "residual-0"), ("batchtopk", "residual-1"),
                                                     ("jumprelu", "residual-1")])
    ]  # fmt: skip
    document = read_collection(layers)
    members = [SaeMember(run, trainer_of(build(run, document), run, 640, "cpu")) for run in runs]
    estimate_scales(members, lambda sites: iter(rows))
    for batch in rows:
        for member in members:
            member.step(batch)
    settings = SAETrainerConfig(640, 32, lr=3e-3, lr_end=3e-3, logger=LoggingConfig(log_to_wandb=False),
                                n_batches_for_norm_estimate=20)  # fmt: skip
    theirs = MultiSAETrainer(
        settings,
        {run.artifact.id: build(run, document) for run in runs},
        {run.artifact.id: run.site for run in runs},
        iter([*(rows if sae else []), *rows]),  # the batches of the estimate are the first ones of the run
    ).fit()
    for member in members:
        ours = member.fitted().sae.state_dict()
        for name, tensor in theirs[member.name].state_dict().items():
            assert torch.equal(tensor, ours[name]), (member.name, name)


def test_members_of_one_site_have_one_scale_and_those_of_another_have_another(together):
    import json

    scales = {}
    for name in ("b", "d", "e"):
        cfg = json.loads((together / "release" / name / "cfg.json").read_text())
        scales[name] = cfg["metadata"]["training_architecture_details"]["input_scale"]
    assert scales["d"] == scales["e"] != scales["b"]
    x = load_file(together / "release/evaluation/held-out-residual-0.safetensors")["x"]
    assert scales["b"] == pytest.approx(4 / float(x.norm(dim=1).mean()), rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimization": {"tokens": 1280}}, "y: optimization.tokens is 1280, and 640 for x"),
        ({"optimization": {"batch_size": 16}}, "y: optimization.batch_size is 16, and 32 for x"),
        ({"optimization": {"snapshots": (320,)}}, "y: optimization.snapshots is (320,), and () for x"),
        ({"seed": 1}, "y: order_seed (or seed) is 1, and 0 for x"),
        ({"evaluation": {"rows": 301}}, "y: evaluation is ('held-out', 301), and ('held-out', 300) for x"),
        ({"collection": "elsewhere"}, "y: collection is elsewhere, and {collection} for x"),
        ({"device": "cpu"}, "y: device is cpu, and auto for x"),
    ],
)
def test_runs_that_cannot_share_a_pass_are_refused_in_one_line(changes, message, collection, training, tmp_path):
    runs = [training("topk", artifact={"id": "x"}), training("topk", artifact={"id": "y"}, **changes)]
    with pytest.raises(UsageError) as caught:
        train_together(runs, tmp_path / "r", tmp_path / "c", info=INFO)
    expected = message.format(collection=collection)
    assert str(caught.value) == f"{expected}; dictionaries that are trained together have the same"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("one", "other"), [("x", "x"), ("x", "x/50M"), ("x/y/z", "x/y")])
def test_ids_that_share_a_folder_are_refused(one, other, training, tmp_path):
    runs = [training("topk", artifact={"id": one}), training("topk", artifact={"id": other}, seed=1, order_seed=0)]
    with pytest.raises(UsageError) as caught:
        train_together(runs, tmp_path / "r", tmp_path / "c", info=INFO)
    assert str(caught.value) == f"the ids {one!r} and {other!r} lie in one folder; give another id"
