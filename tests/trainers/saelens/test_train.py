"""What is released is what was trained: weights, golden vectors, manifest, log."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saereg.cli import run
from saereg.cli.training import facts_of
from saereg.errors import MissingExtraError, UnknownNameError, UsageError
from saereg.registry.evidence.golden_file import read_golden
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.flat import open_safetensors
from saereg.registry.readings.recipes import Recipes, with_decoder_norms
from saereg.schemas.artifact_config import parse_config
from saereg.schemas.manifest import Manifest, ReleaseInfo
from saereg.schemas.metrics import Claim
from saereg.schemas.training import TrainConfig
from saereg.trainers.saelens.build import build, trainer_of
from saereg.trainers.saelens.member import SaeMember, estimate_scales
from saereg.trainers.saelens.train import train

ARCHITECTURES = ("standard", "topk", "batchtopk", "jumprelu", "gated")
INFO = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")


@pytest.fixture(scope="module")
def release(training, tmp_path_factory):
    """A release with one dictionary of each architecture, and the folder of their checkpoints."""
    root = tmp_path_factory.mktemp("trained")
    for architecture in ARCHITECTURES:
        sae = {"normalize_activations": "expected_average_only_in"} if architecture in ("batchtopk", "gated") else {}
        train(training(architecture, sae=sae), root / "release", root / "checkpoints", info=INFO)
    return root


def trained(root: Path, architecture: str):
    """Return SAELens' own training SAE from its checkpoint."""
    from sae_lens.registry import get_sae_training_class

    folder = root / "checkpoints" / "residual-1" / architecture
    sae_class, config_class = get_sae_training_class(architecture)
    sae = sae_class(config_class.from_dict(json.loads((folder / "cfg.json").read_text())))
    sae.load_weights_from_checkpoint(folder)
    return sae


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens_loads_the_export_and_replays_the_golden_vectors(architecture, release):
    from sae_lens import SAE

    folder = release / "release" / "residual-1" / architecture
    golden, sae = read_golden(folder / "golden.safetensors"), SAE.load_from_disk(folder)
    with torch.no_grad():
        activations = sae.encode(golden.x)
        x_hat = sae.decode(activations)
    for row, (active, values) in enumerate(zip(golden.active, golden.activations, strict=True)):
        ids = active[active >= 0]
        assert torch.equal(activations[row].nonzero().squeeze(1), ids)
        torch.testing.assert_close(activations[row, ids], values[: len(ids)], rtol=1e-5, atol=1e-6)
        assert (active[len(ids) :] == -1).all()
        assert (values[len(ids) :] == 0).all()
    assert ((x_hat - golden.x_hat).norm(dim=1) <= 1e-5 * golden.x_hat.norm(dim=1)).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_export_is_bitwise_what_saelens_exports(architecture, release, tmp_path):
    trained(release, architecture).save_inference_model(tmp_path)
    folder = release / "release" / "residual-1" / architecture
    theirs, ours = load_file(tmp_path / "sae_weights.safetensors"), load_file(folder / "sae_weights.safetensors")
    assert theirs.keys() == ours.keys()
    for name in theirs:
        assert theirs[name].dtype == ours[name].dtype
        assert torch.equal(theirs[name], ours[name]), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_configuration_is_saelens_own_but_for_the_folded_switch(architecture, release, tmp_path):
    trained(release, architecture).save_inference_model(tmp_path)
    theirs = json.loads((tmp_path / "cfg.json").read_text())
    ours = json.loads((release / "release" / "residual-1" / architecture / "cfg.json").read_text())
    details = ours["metadata"]["training_architecture_details"]
    assert ours["metadata"].pop("hook_name") == "blocks.1.hook_resid_post"
    assert ours["metadata"].pop("hf_hook_name") == "gpt_neox.layers.1"
    if architecture == "topk":
        assert (theirs.pop("rescale_acts_by_decoder_norm"), ours.pop("rescale_acts_by_decoder_norm")) == (True, False)
    if architecture in ("batchtopk", "gated"):
        assert details.pop("normalize_activations") == "expected_average_only_in"
        assert details.pop("input_scale") > 0
    for name in ("hook_name", "hf_hook_name"):
        theirs["metadata"].pop(name)
    assert ours == theirs


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_manifest_says_how_to_make_the_export_again(architecture, release):
    manifest = Manifest.read(release / "release" / "manifest.json")
    artifact = next(a for a in manifest.artifacts if a.id == f"residual-1/{architecture}")
    source = release / "checkpoints" / artifact.source_checkpoint.path
    assert artifact.source_checkpoint.sha256 == sha256_of(source)
    folder = release / "release" / artifact.path
    config = parse_config((folder / "cfg.json").read_text())
    recipes = with_decoder_norms(Recipes({"": open_safetensors(source)}, artifact.source_checkpoint.tensors))
    again = {name: recipes.whole(name) for name in recipes.plan}
    released = load_file(folder / "sae_weights.safetensors")
    assert again.keys() == released.keys()
    assert all(torch.equal(again[name], released[name]) for name in released)
    assert artifact.architecture == config.architecture
    assert (artifact.training.steps, artifact.training.tokens) == (20, 640)


def test_the_manifest_holds_every_dictionary_and_what_they_refer_to(release):
    manifest = Manifest.read(release / "release" / "manifest.json")
    assert [a.id for a in manifest.artifacts] == [f"residual-1/{name}" for name in ARCHITECTURES]
    assert manifest.release == INFO
    assert manifest.sites.keys() == {"residual-1"}
    assert manifest.base_models["tiny-neox"].weights_sha256 is not None
    evaluation = manifest.evaluations["held-out-residual-1"]
    assert load_file(release / "release" / evaluation.path)["x"].shape == (300, 16)
    assert manifest.tokens.context_size == 16


def test_held_out_rows_are_the_last_ones_and_are_never_trained_on(release, collection, training):
    from saereg.trainers.rows.activations import Activations, read_collection

    rows = Activations(collection, read_collection(collection), "residual-1").read(0, 2000)
    held_out = load_file(release / "release" / "evaluation" / "held-out-residual-1.safetensors")["x"]
    assert torch.equal(held_out, rows[1700:])


def test_the_log_has_one_object_per_logged_step(release):
    path = release / "release" / "residual-1" / "jumprelu" / "training.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 5, 10, 15, 20]
    assert [line["tokens"] for line in lines] == [32, 160, 320, 480, 640]
    assert lines[0].keys() == {
        *("step", "tokens", "lr", "loss", "mse_loss", "l0_loss", "l0", "explained_variance", "dead_fraction"),
        "l0_coefficient",
    }
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_the_same_configuration_gives_the_same_bytes(architecture, release, training, tmp_path):
    sae = {"normalize_activations": "expected_average_only_in"} if architecture == "batchtopk" else {}
    train(training(architecture, sae=sae), tmp_path / "release", tmp_path / "checkpoints", info=INFO)
    folder = Path("release") / "residual-1" / architecture
    for name in ("sae_weights.safetensors", "golden.safetensors", "cfg.json", "training.log"):
        assert sha256_of(tmp_path / folder / name) == sha256_of(release / folder / name), name


def test_another_seed_gives_other_weights(release, training, tmp_path):
    result = train(training("topk", seed=1), tmp_path / "r", tmp_path / "c", info=INFO)
    assert result.weights_sha256 != sha256_of(release / "release/residual-1/topk/sae_weights.safetensors")
    assert result.artifact.seed == 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loop_is_that_of_saelens(architecture, training, collection, tmp_path):
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    from saereg.trainers.rows.activations import read_collection

    rows = torch.randn(20, 32, 16, generator=torch.Generator().manual_seed(0)) * 3

    def batches():
        while True:
            yield from rows

    config = training(
        architecture, sae={"normalize_activations": "expected_average_only_in"}, optimization={"step": "saelens"}
    )
    document = read_collection(collection)
    ours, theirs = build(config, document), build(config, document)
    member, source = SaeMember(config, trainer_of(ours, config, 640, "cpu")), batches()
    named = ({"residual-1": rows} for rows in source)
    estimate_scales([member], lambda sites: named)
    for _ in range(20):
        member.step(next(named))
    ours = member.fitted().sae
    settings = SAETrainerConfig(640, 32, lr=3e-3, lr_end=3e-3, logger=LoggingConfig(log_to_wandb=False),
                                n_batches_for_norm_estimate=20)  # fmt: skip
    SAETrainer(settings, theirs, batches()).fit()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    assert ours.cfg.metadata.l0 == theirs.cfg.metadata.l0


@pytest.mark.parametrize("architecture", ["batchtopk", "gated"])
def test_an_input_scale_is_folded_into_the_weights(architecture, release):
    folder = release / "release" / "residual-1" / architecture
    cfg = json.loads((folder / "cfg.json").read_text())
    assert cfg["normalize_activations"] == "none"
    x = load_file(release / "release" / "evaluation" / "held-out-residual-1.safetensors")["x"]
    scale = cfg["metadata"]["training_architecture_details"]["input_scale"]
    assert abs(scale - 16**0.5 / x.norm(dim=1).mean()) < 0.05 * scale


def test_golden_rows_are_decided_clearly(release):
    from saereg.trainers.saelens.golden import RANDOM_ROWS, REAL_ROWS, margins

    for architecture in ARCHITECTURES:
        golden = read_golden(release / "release" / "residual-1" / architecture / "golden.safetensors")
        sae = trained(release, architecture)
        with torch.no_grad():
            assert margins(sae, golden.x[: REAL_ROWS + RANDOM_ROWS]).min() >= 1e-5, architecture
        assert golden.made_by.startswith("sae_lens ")


@pytest.mark.parametrize("architecture", ["jumprelu", "batchtopk"])
def test_one_golden_row_lies_just_above_a_threshold(architecture, release):
    from saereg.trainers.saelens.golden import pre_activations, thresholds

    golden = read_golden(release / "release" / "residual-1" / architecture / "golden.safetensors")
    assert len(golden.x) == 13
    sae = trained(release, architecture)
    with torch.no_grad():
        distance = (pre_activations(sae, golden.x[12:]) - thresholds(sae)).squeeze(0)
        nearest = int(distance.abs().argmin())
        assert 0 < float(distance[nearest]) < 3e-3 * float(thresholds(sae)[nearest])
    assert nearest in golden.active[12].tolist()


def test_a_dictionary_of_the_same_id_is_replaced_and_others_are_kept(training, tmp_path):
    folders = (tmp_path / "r", tmp_path / "c")
    for config in (training("topk"), training("standard"), training("topk", seed=5)):
        shutil.rmtree(tmp_path / "r" / config.artifact.id, ignore_errors=True)  # else it is refused
        train(config, *folders, info=INFO)
    manifest = Manifest.read(tmp_path / "r" / "manifest.json")
    assert [(a.id, a.seed) for a in manifest.artifacts] == [("residual-1/topk", 5), ("residual-1/standard", 0)]


def test_a_target_of_l0_that_was_missed_is_told_of_at_the_end(training, tmp_path, capsys):
    config = training("standard", sae={"target_l0": 2.0}, optimization={"tokens": 32})
    (tmp_path / "run.yaml").write_text(config.model_dump_json())
    words = ["train", "sae", str(tmp_path / "run.yaml"), "--release", str(tmp_path / "r"), "--license", "mit"]
    assert run(words) == 0
    line = capsys.readouterr().out
    assert re.match(r"residual-1/standard: 1 step, explained_variance ", line)
    assert re.search(r", l0 [\d.]+, its L0 is \d+% above target_l0 2 \(a longer run comes closer\), ", line)
    artifact = Manifest.read(tmp_path / "r" / "manifest.json").artifacts[0]
    near = Claim(metric="l0", value=2.09), Claim(metric="explained_variance", value=-0.0)
    assert facts_of(artifact.model_copy(update={"claims": near})) == ["1 step", "l0 2.09", "explained_variance 0"]
    assert len(facts_of(artifact.model_copy(update={"snapshot": "32"}))) == 3  # on its way


def test_other_held_out_rows_under_the_same_name_are_refused_before_training(release, training, tmp_path):
    calls = []
    config = training("topk", evaluation={"rows": 301})
    with pytest.raises(UsageError) as caught:
        train(config, release / "release", tmp_path / "c", lambda *numbers: calls.append(numbers))
    assert str(caught.value) == (
        f"{release / 'release' / 'manifest.json'}: evaluation 'held-out-residual-1' has another rows; "
        "give this one another name with evaluation.name, or use another release folder"
    )
    assert calls == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "residual-9"}, "unknown site in {collection} 'residual-9'; did you mean 'residual-1'?"),
        (
            {"evaluation": {"rows": 2000}},
            "evaluation.rows is 2000, but {collection} has 2000 rows; collect more, or hold out fewer",
        ),
        (
            {"sae": {"normalize_activations": "layer_norm"}, "optimization": {"step": "saelens"}},
            "architecture 'topk' cannot train with layer_norm: SAELens' auxiliary loss for dead latents works in "
            "unnormalized space; choose topk with step auto, or another normalization",
        ),
        ({"collection": "nowhere"}, "nowhere holds no collection.json; make it with `saereg train collect`"),
    ],
)
def test_mistakes_are_named_in_one_line(changes, message, training, collection, tmp_path):
    with pytest.raises((UsageError, UnknownNameError)) as caught:
        train(training("topk", **changes), tmp_path / "r", tmp_path / "c", info=INFO)
    assert str(caught.value) == message.format(collection=collection)
    assert not (tmp_path / "r").exists()


def test_a_new_release_needs_its_name(training, tmp_path):
    with pytest.raises(UsageError) as caught:
        train(training("topk"), tmp_path / "r", tmp_path / "c")
    path = tmp_path / "r" / "manifest.json"
    assert str(caught.value) == f"{path} does not exist; to make one, say the release's name, title and license"


@pytest.mark.parametrize("k", ["49", "3.5"])
def test_an_impossible_k_is_refused_with_its_place(k, training):
    text = training("topk").text().replace('"k": 4.0', f'"k": {k}')
    with pytest.raises(UsageError) as caught:
        TrainConfig.from_text(text, "run.yaml")
    assert str(caught.value) == "run.yaml#/sae: `k` must be at most d_sae, and whole for topk"


def test_modules_import_without_their_heavy_libraries():
    code = (
        "import sys, saereg.trainers.saelens.train, saereg.trainers.collecting.collect;"
        "import saereg.trainers.saelens.golden, saereg.registry.draft;"
        "sys.exit(bool({'torch', 'transformers', 'sae_lens', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["torch", "sae_lens", "transformers"])
def test_a_missing_extra_is_named(module, training, tmp_path, monkeypatch):
    from saereg.trainers.collecting.collect import CollectConfig, collect

    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    run = partial(train, training("topk"), tmp_path / "r", tmp_path / "c", info=INFO)
    if module == "transformers":
        run = partial(collect, CollectConfig("m", ["builtin:prose"], ["residual:0"], tmp_path, 10))
    with pytest.raises(MissingExtraError) as caught:
        run()
    assert str(caught.value).endswith(f" needs {module}, which is not installed: pip install 'saereg[train]'")
    assert list(tmp_path.iterdir()) == []


def test_a_float64_dictionary_has_a_float64_threshold(training, tmp_path):
    result = train(training("jumprelu", sae={"dtype": "float64"}), tmp_path / "r", tmp_path / "c", info=INFO)
    assert load_file(result.folder / "sae_weights.safetensors")["threshold"].dtype == torch.float64
    assert result.artifact.source_checkpoint.tensors["threshold"].operation == "cast to float64"


def test_progress_counts_tokens(training, tmp_path):
    calls = []
    train(training("topk"), tmp_path / "r", tmp_path / "c", calls.append, info=INFO)
    assert (calls[0].tokens, calls[0].total) == (32, 640)
    assert calls[-1].tokens == 640


def test_nothing_is_printed(training, tmp_path, capfd):
    train(
        training("topk", sae={"normalize_activations": "expected_average_only_in"}),
        tmp_path / "r",
        tmp_path / "c",
        info=INFO,
    )
    assert capfd.readouterr() == ("", "")
