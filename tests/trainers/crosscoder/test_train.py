"""What is released is what was trained: the same forward, a clean report, the same bytes however often it stopped."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.registry.build import build
from saereg.registry.evidence.golden_file import read_golden
from saereg.registry.files.names import LOG_FILE
from saereg.registry.loading import load_path
from saereg.registry.metrics.sources.opening import parameter_rows
from saereg.registry.validators.options import Options
from saereg.registry.validators.runner import validate
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest, ReleaseInfo
from saereg.trainers.crosscoder.calibrating import calibrated, spans
from saereg.trainers.crosscoder.evaluating import claims_of
from saereg.trainers.crosscoder.member import CrosscoderMember
from saereg.trainers.crosscoder.model import Crosscoder
from saereg.trainers.crosscoder.sources import open_sources
from saereg.trainers.crosscoder.statistics import input_numbers
from saereg.trainers.crosscoder.train import train_crosscoder, train_crosscoders
from saereg.trainers.rows.batches import batches
from tests.trainers.crosscoder.conftest import STEPS, VARIANTS, W_U

INFO = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")
FILES = ("weights.safetensors", "golden.safetensors", "decoder_analysis.safetensors", "cfg.json", LOG_FILE)


@pytest.fixture(scope="module")
def made(on_layers, on_steps, trajectory, tmp_path_factory):
    """A built release with every variant on activations, and with what is trained on parameters."""
    root = tmp_path_factory.mktemp("made")
    configs = [on_layers(name, artifact={"id": f"cross/{name}", "variant": name}) for name in VARIANTS]
    configs += [
        on_steps("jumprelu-per-source", artifact={"id": "W_U/per-source"}, crosscoder={"penalty": "tanh_quadratic"}),
        on_steps("topk", sources={"steps": [1000]}, artifact={"id": "W_U/step1000"}),
        on_steps("batchtopk", artifact={"id": "W_U/b"}, optimization={"snapshots": [160, 320], "lr": 3e-2}),
        on_steps("topk", artifact={"id": "W_U/topk"}, crosscoder={"preprocess": "scale", "dtype": "float64"}),
    ]
    for config in configs:
        train_crosscoder(config, root / "release", root / "checkpoints", info=INFO)
    build(root / "release", models={"tiny-trajectory": str(trajectory[0])})
    return root


def test_a_release_of_crosscoders_is_clean_at_level_data(made, trajectory):
    report = validate(made / "release", "data", options=Options(models={"tiny-trajectory": str(trajectory[0])}))
    assert [f"{f.code} {f.pointer} {f.message}" for f in report.findings] == []
    assert (
        len(Manifest.read(made / "release" / "manifest.json").evaluations["tiny-trajectory-W_U-step1000"].sha256) == 1
    )
    index = Index.read(made / "release" / "index.json")
    assert len(index.artifacts) == 12
    for artifact in index.artifacts:
        assert artifact.round_trip is not None
        assert {verdict.verdict for verdict in artifact.verdicts} == {"verified"}
    assert {file.role for file in index.all_files() if "analysis" in file.path} == {"analysis"}


def test_another_checkpoint_than_that_of_the_trajectory_is_refused_by_its_step(made, trajectory, tmp_path):
    other = shutil.copytree(trajectory[0], tmp_path / "other")
    weights = load_file(other / "step512" / "model.safetensors")
    weights[W_U] = weights[W_U] * 1.001
    save_file(weights, other / "step512" / "model.safetensors")
    report = validate(made / "release", "data", options=Options(models={"tiny-trajectory": str(other)}))
    said = [finding.message for finding in report.findings if "sha256 of the matrix at step 512 is" in finding.message]
    assert {finding.severity for finding in report.findings if finding.message in said} == {"error"}
    assert len(said) == len({f.artifact for f in report.findings if f.message in said}) >= 5
    assert not [f for f in report.findings if f.artifact == "W_U/step1000"]  # which does not read that step


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_released_dictionary_computes_what_the_trained_one_does(variant, made, on_layers):
    config = on_layers(variant)
    stack = open_sources(config)
    model = Crosscoder(config.crosscoder, stack.shape, 1, numbers=input_numbers(stack.places, 1000, "center_scale"))
    trained = load_file(made / "checkpoints" / "cross" / variant / "weights.safetensors")
    with torch.no_grad():
        for name, tensor in model.weights.items():
            tensor.copy_(trained[name])
    model.threshold = trained.get("threshold", model.threshold)
    x, released = stack.read(900, 1200), load_path(made / "release" / "cross" / variant)
    f, x_hat = model.forward(x)
    torch.testing.assert_close(released.encode(x), f, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(released(x), x_hat, rtol=1e-4, atol=1e-4)


def test_sources_are_said_in_the_manifest_and_claims_are_of_the_rows_that_are_shipped(made):
    manifest = Manifest.read(made / "release" / "manifest.json")
    by_id = {artifact.id: artifact for artifact in manifest.artifacts}
    layers, steps = by_id["cross/topk"], by_id["W_U/b/final"]
    assert layers.sources.sites == ("residual-0", "residual-1")
    assert (steps.sources.site, steps.sources.steps) == ("tiny-trajectory-W_U", STEPS)
    assert [by_id[f"W_U/b/{label}"].snapshot for label in ("160", "320", "final")] == ["160", "320", "final"]
    assert [by_id[f"W_U/b/{label}"].training.steps for label in ("160", "320", "final")] == [5, 10, 20]
    assert by_id["W_U/step1000"].sources.steps == (1000,)
    x = load_file(made / "release" / manifest.evaluations["held-out-residual-0-residual-1"].path)["x"]
    assert x.shape == (200, 2, 16)
    assert {(c.metric, c.units) for c in by_id["W_U/per-source"].claims} == {
        ("explained_variance", "raw"), ("explained_variance", "normalized"), ("l0_per_source_mean", "raw"),
        ("l0_any_source", "raw"),
    }  # fmt: skip


def test_golden_vectors_have_a_row_just_above_a_threshold(made):
    for name, rows in (("cross/topk", 6), ("cross/jumprelu", 7), ("cross/jumprelu-per-source", 7), ("W_U/b/final", 7)):
        folder = made / "release" / name
        golden, weights = read_golden(folder / "golden.safetensors"), load_file(folder / "weights.safetensors")
        assert len(golden.x) == rows
        if rows == 7:
            norm = weights["W_dec"].norm(dim=-1).T  # (K, F)
            norm = norm if "per-source" in name else norm.sum(0)
            f = torch.zeros(norm.numel()).index_add(0, golden.active[-1].clamp_min(0), golden.activations[-1])
            above = (f * norm.flatten() / weights["threshold"].expand(norm.shape).flatten() - 1)[f > 0]
            assert 0 < float(above.min()) < 1e-2


def test_the_log_of_a_snapshot_ends_with_it(made):
    for label, last in (("160", 5), ("320", 10), ("final", 20)):
        lines = (made / "release" / "W_U" / "b" / label / LOG_FILE).read_text().splitlines()
        assert json.loads(lines[-1])["step"] == last
    assert json.loads(lines[-1])["l0"] == 4.0


def test_the_analysis_is_of_the_released_decoder(made):
    for name in ("cross/standard", "W_U/b/final", "W_U/step1000"):
        folder = made / "release" / name
        W_dec = load_file(folder / "weights.safetensors")["W_dec"]
        found, norm = load_file(folder / "decoder_analysis.safetensors"), W_dec.norm(dim=-1)
        torch.testing.assert_close(found["decoder_norm"], norm)
        torch.testing.assert_close(found["relative_norm"], norm / norm.sum(1, keepdim=True))
        if W_dec.shape[1] > 1:
            cosine = torch.cosine_similarity(W_dec[:, 1:], W_dec[:, :-1], dim=-1)
            torch.testing.assert_close(found["decoder_cosine"], cosine)
        assert ("decoder_cosine" in found) == (W_dec.shape[1] > 1)


def test_statistics_are_those_that_metrics_are_computed_with(on_steps, trajectory):
    stack = open_sources(on_steps("topk"))
    record = stack.evaluation[1].model_copy(update={"preprocess": "center_scale"})
    theirs = parameter_rows(record, None, {"tiny-trajectory": str(trajectory[0])}, (3, 16)).read(0, 64)[0]
    numbers = input_numbers(stack.places, stack.rows, "center_scale")
    ours = numbers.applied(stack.read(0, 64), torch.float32)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.square().sum(-1).mean(0), torch.full((3,), 16.0))
    torch.testing.assert_close(numbers.undone(ours), stack.read(0, 64))


def test_the_calibrated_threshold_keeps_k_on_average_of_single_rows(on_layers):
    config = on_layers("batchtopk", crosscoder={"k": 3.5, "d_sae": 64})
    stack = open_sources(config)
    model = Crosscoder(config.crosscoder, stack.shape, 0, numbers=input_numbers(stack.places, 1000, "center_scale"))
    member = CrosscoderMember(config, model, tuple(stack.places))
    for _, batch in zip(range(20), batches(stack.places, stack.rows, 32, 0), strict=False):
        member.step(batch)
    running, model.threshold = float(model.threshold), calibrated(model, stack)
    f = model.codes(model.normalized(stack.read(0, stack.rows)))
    assert float((f > 0).sum(1).double().mean()) == pytest.approx(3.5, rel=0.01)
    assert float(model.threshold) != running  # which is the mean of cuts of weights that have changed since


def test_calibration_rows_are_spread_over_all_of_them():
    assert list(spans(1000, 600)) == [(0, 256), (256, 512), (512, 768)]
    assert list(spans(100_000, 700)) == [(0, 256), (130 * 256, 131 * 256), (260 * 256, 261 * 256)]
    assert sum(last - first for first, last in spans(1000, 1000)) == 1000


@pytest.mark.parametrize("variant", ["batchtopk", "jumprelu-per-source"])
def test_a_run_that_stopped_gives_the_same_bytes(variant, on_layers, tmp_path):
    crosscoder = {"target_l0": 4.0} if variant != "batchtopk" else {"dead_after_steps": 3}
    optimization = {"checkpoint_every": 5, "snapshots": [224], "lr_warm_up_steps": 3, "lr_decay_steps": 4}
    config = on_layers(variant, artifact={"id": "a"}, crosscoder=crosscoder, optimization=optimization)

    def stop(seen) -> None:
        if seen.tokens == 8 * 32:
            raise KeyboardInterrupt

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_crosscoder(config, whole / "r", whole / "c", info=INFO)
    with pytest.raises(KeyboardInterrupt):
        train_crosscoder(config, parts / "r", parts / "c", stop, info=INFO)
    train_crosscoder(config, parts / "r", parts / "c", info=INFO)
    for path in [*(f"a/{label}/{name}" for label in ("224", "final") for name in FILES), "manifest.json"]:
        assert (parts / "r" / path).read_bytes() == (whole / "r" / path).read_bytes(), path
    assert not (parts / "c" / "a" / "state").exists()


def test_crosscoders_that_share_a_pass_become_what_they_become_alone(on_layers, made, tmp_path):
    configs = [on_layers(name, artifact={"id": f"cross/{name}", "variant": name}) for name in ("topk", "gated")]
    done = train_crosscoders(configs, tmp_path / "r", tmp_path / "c", info=INFO, name="both")
    assert [one.artifact.id for one in done] == ["cross/topk", "cross/gated"]
    for one in done:
        alone = made / "release" / one.artifact.id
        assert all((one.folder / name).read_bytes() == (alone / name).read_bytes() for name in FILES)


def test_models_are_sources_when_their_rows_are_the_same_tokens(collecting, layers, on_layers, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(layers, other)
    document = json.loads((other / "collection.json").read_text())
    document["model"]["id"] = "tiny-tuned"
    for site in document["sites"].values():
        site["site"]["model"] = "tiny-tuned"
    (other / "collection.json").write_text(json.dumps(document))
    both = {"axis": "model", "collections": [str(layers), str(other)], "sites": ["residual-1"]}
    done = train_crosscoder(on_layers("batchtopk", sources=both), tmp_path / "r", tmp_path / "c", info=INFO)
    assert done.artifact.sources.sites == ("tiny-neox-residual-1", "tiny-tuned-residual-1")
    manifest = Manifest.read(tmp_path / "r" / "manifest.json")
    assert {site.model for site in manifest.sites.values()} == {"tiny-neox", "tiny-tuned"}
    assert validate(tmp_path / "r", "layout").summary.errors <= 1  # it is not built yet

    trajectory = {**both, "axis": "snapshot"}
    for path, step in ((other, 20), (tmp_path / "first", 10)):
        if step == 10:
            shutil.copytree(layers, path)
        document = json.loads((path / "collection.json").read_text())
        document["model"] |= {"id": "tiny-neox", "step": step}
        document["sites"]["residual-1"]["site"]["model"] = "tiny-neox"
        (path / "collection.json").write_text(json.dumps(document))
    stack = open_sources(
        on_layers("topk", sources={**trajectory, "collections": [str(tmp_path / "first"), str(other)]})
    )
    assert (stack.sources.site, stack.sources.steps) == ("residual-1", (10, 20))
    assert stack.base_models["tiny-neox"].schedule == (10, 20)


def test_claims_of_all_rows_do_not_depend_on_how_many_are_read_at_once(on_layers, monkeypatch):
    config = on_layers("jumprelu-per-source")
    stack = open_sources(config)
    model = Crosscoder(config.crosscoder, stack.shape, 0, numbers=input_numbers(stack.places, 1000, "center_scale"))
    whole = claims_of(model, stack)
    monkeypatch.setattr("saereg.trainers.crosscoder.evaluating.BATCH_VALUES", 5000)
    assert claims_of(model, stack) == whole
