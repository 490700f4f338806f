"""A release may hold dictionaries in saereg's own dialect, which are built, validated and loaded like others."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import saereg
from saereg.registry.build import build
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.evidence.golden_file import write_golden
from saereg.registry.files.digest import sha256_of
from saereg.registry.validators.runner import validate
from saereg.schemas.artifact_config import parse_config
from saereg.schemas.document import canonical
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from tests.cases.tools import artifact_of, edit, reindex
from tests.registry.einsum import forward
from tests.releases import D_IN, D_OUT, D_SAE, ROWS, _manifest, golden_of, random_weights

GROUPMAX, SKIP, CROSS = "layer_1/groupmax", "layer_1/topk_skip_transcoder", "layer_1/cross-layer-2"

PLAIN = {"gate_quantity": "pre_activation", "pre_encoder_subtraction": "none"}
METADATA = {"model_name": "tiny/model", "hook_name": "blocks.1.hook_resid_post"}
WIDTHS = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32"}
STATISTICS = {"kind": "center_scale", "statistics": "stored", "inverted_on_output": True}
CONFIGS = {
    GROUPMAX: {
        "kind": "sae",
        "d_out": D_IN,
        "semantics": PLAIN | {"activation": "groupmax", "k": 5, "normalization": STATISTICS},
    },
    SKIP: {
        "kind": "transcoder",
        "d_out": D_OUT,
        "semantics": PLAIN | {"activation": "topk", "k": 3, "skip": "x_times_W_skip_transposed", "rectified": False},
    },
    CROSS: {
        "kind": "crosscoder",
        "architecture": "topk",
        "k": 3,
        "sources": {"axis": "layer", "sites": ["block-1", "block-1-mlp"]},
        "input": {"kind": "activations"},
        "n_sources": 2,
        "gate": "per_source",
        "code_norm": "per_source_norm",
    },
}
ARTIFACTS = {
    GROUPMAX: {"kind": "sae", "architecture": "groupmax", "site": "block-1", "sparsity": {"k": 5}},
    SKIP: {
        "kind": "transcoder",
        "architecture": "topk_skip_transcoder",
        "site": "block-1",
        "site_out": "block-1-mlp",
        "d_out": D_OUT,
        "sparsity": {"k": 3},
    },
    CROSS: {"kind": "crosscoder", "architecture": "topk", "sources": CONFIGS[CROSS]["sources"], "sparsity": {"k": 3}},
}


def source_of(root, weights) -> dict:
    """Write a source checkpoint of some weights and return what the manifest says of it."""
    path = root / "checkpoints/groupmax.safetensors"
    path.parent.mkdir()
    moved = {name: tensor for name, tensor in weights.items() if name != "W_enc"}
    save_file({"encoder.weight": weights["W_enc"].T.contiguous(), **moved}, path)
    plan = {name: {"key": name} for name in moved}
    plan["W_enc"] = {"key": "encoder.weight", "steps": [{"do": "transpose"}]}
    return {"path": path.name, "sha256": sha256_of(path), "tensors": plan}


def make(root):
    """Write a release of a groupmax SAE, a TopK transcoder with a skip, and a crosscoder that ranks at each source."""
    release, generator = root / "release", torch.Generator().manual_seed(7)
    (release / "evaluation").mkdir(parents=True)
    rows = torch.randn(ROWS, D_IN, generator=generator)
    y = torch.randn(ROWS, D_OUT, generator=generator)
    save_file({"x": rows, "y": y}, release / "evaluation/layer-1.safetensors")
    artifacts = []
    for seed, (name, value) in enumerate(CONFIGS.items()):
        cfg = parse_config(canonical(WIDTHS | value | {"metadata": METADATA}))
        checkpoint = Checkpoint(cfg, random_weights(cfg, seed))
        write_checkpoint(checkpoint, release / name, "saereg")
        x = torch.randn(5, 2, D_IN, generator=generator) if name == CROSS else rows[:5]
        write_golden(release / name / "golden.safetensors", golden_of(Dictionary(checkpoint), x))
        artifact = {"id": name, "path": name, "d_in": D_IN, "d_sae": D_SAE, "format": "saereg"} | ARTIFACTS[name]
        artifact["expected_failure"] = "its weights are random"
        artifact |= {"source_checkpoint": source_of(root, checkpoint.weights)} if name == GROUPMAX else {}
        artifacts.append(artifact)
    artifacts[0]["claims"] = [{"metric": "l0", "value": 5.0, "evaluation": "held-out"}]
    manifest = _manifest(artifacts)
    del manifest["evaluations"]["vocabulary"]
    (release / "manifest.json").write_text(Manifest.from_text(canonical(manifest)).text())
    return release


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    release = make(tmp_path_factory.mktemp("native"))
    build(release)
    claim = json.loads((release / "manifest.json").read_text())["artifacts"][0]["claims"][0]
    measured = Index.read(release / "index.json").artifacts[0].metrics
    value = next(m.value for m in measured if m.metric == "l0")
    edit(release / "manifest.json", lambda m: artifact_of(m, GROUPMAX).update(claims=[claim | {"value": value}]))
    build(release)
    return release


@pytest.fixture
def release(pristine, tmp_path):
    shutil.copytree(pristine.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "release"


def findings(release, level="header"):
    return [(f.code, f.path, f.message) for f in validate(release, level).findings]


def test_it_is_valid_at_every_level(release):
    """Golden vectors replay, the round trip is redone, metrics are measured again; and nothing is skipped."""
    report = validate(release, "data")

    assert (report.findings, report.summary.skipped) == ((), ())


def test_the_index_says_every_switch(release):
    """Of all three, with golden replays, the round trip and metrics."""
    groupmax, skip, crosscoder = Index.read(release / "index.json").artifacts

    assert (groupmax.semantics.activation, groupmax.semantics.k) == ("groupmax", 5)
    assert groupmax.semantics.normalization.kind == "center_scale"
    assert skip.semantics.skip == "x_times_W_skip_transposed"
    assert not skip.semantics.rectified
    assert crosscoder.semantics.gate == "per_source"
    assert all(artifact.golden.replayed[0].active_sets_equal for artifact in (groupmax, skip, crosscoder))
    assert {tensor.bitwise for tensor in groupmax.round_trip.tensors.values()} == {True}
    assert groupmax.verdicts[0].verdict == "verified"
    assert {m.evaluation for m in skip.metrics} == {"held-out-mlp"}
    for artifact in (groupmax, skip):
        assert {"explained_variance", "l0"} <= {m.metric for m in artifact.metrics}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_found_and_loaded_as_it_was_written(release, name):
    """By its fields, from the release and from its folder alone."""
    artifact = saereg.open(release)[name]
    x = torch.randn(3, 2, D_IN) if name == CROSS else torch.randn(3, D_IN)
    weights = load_file(release / name / "weights.safetensors")

    expected = forward(artifact.cfg, weights, x)[1]

    assert torch.allclose(artifact.load()(x), expected.float(), atol=1e-5)
    assert torch.allclose(saereg.load(release / name)(x), expected.float(), atol=1e-5)
    found = saereg.find(release, architecture=ARTIFACTS[name]["architecture"], kind=artifact.claim.kind)
    assert [artifact.id for artifact in found] == [name]


def retyped(kind):
    return lambda cfg: cfg.update(kind=kind)


CHANGES = {
    "another k": (
        GROUPMAX,
        lambda cfg: cfg["semantics"].update(k=2),
        ("SR215", "manifest.json", "the manifest says sparsity/k = 5, cfg.json says 2"),
    ),
    "another activation": (
        GROUPMAX,
        lambda cfg: cfg["semantics"].update(activation="topk"),
        ("SR215", "manifest.json", "the manifest says architecture = groupmax, cfg.json says topk"),
    ),
    "another kind": (
        GROUPMAX,
        retyped("transcoder"),
        ("SR102", f"{GROUPMAX}/cfg.json", "a transcoder's output lives in another space"),
    ),
    "a tensor that the switches need": (
        SKIP,
        lambda cfg: cfg["semantics"].update(
            activation="jumprelu", threshold="scalar", threshold_units="gate_quantity", k=None
        ),
        ("SR202", f"{SKIP}/weights.safetensors", "threshold is missing; jumprelu_skip_transcoder needs it"),
    ),
    "a tensor that the switches do not have": (
        SKIP,
        lambda cfg: cfg["semantics"].update(skip="none"),
        ("SR202", f"{SKIP}/weights.safetensors", "W_skip is no tensor of topk_transcoder"),
    ),
    "a wrong width": (
        SKIP,
        lambda cfg: cfg.update(d_out=D_IN),
        ("SR201", f"{SKIP}/weights.safetensors", "W_dec has shape (10, 3), the configuration implies (10, 4)"),
    ),
    "another type": (
        SKIP,
        lambda cfg: cfg.update(dtype="bfloat16"),
        ("SR204", f"{SKIP}/weights.safetensors", "W_enc is float32 in the file, cfg.json declares bfloat16"),
    ),
    "a folded normalization": (
        GROUPMAX,
        lambda cfg: cfg["semantics"].update(
            normalization={"kind": "expected_average_only_in", "statistics": "absent", "applied_by_reader": False}
        ),
        (
            "SR311",
            f"{GROUPMAX}/cfg.json",
            "normalization is 'expected_average_only_in', which readers do not apply at inference",
        ),
    ),
    "the state behind the last norm": (
        GROUPMAX,
        lambda cfg: cfg["metadata"].update(hf_hook_name="hidden_states[4]"),
        ("SR304", f"{GROUPMAX}/cfg.json", "the site reads hidden_states[4], which is after the final norm"),
    ),
    "a misspelt switch": (
        SKIP,
        lambda cfg: cfg["semantics"].update(rectifed=True),
        ("SR103", f"{SKIP}/cfg.json", "unknown key 'rectifed', did you mean 'rectified'?"),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_configuration_that_disagrees_is_a_finding(release, what):
    """At level header, by the rule that it breaks."""
    name, change, expected = CHANGES[what]
    edit(release / name / "cfg.json", change)
    reindex(release)

    found = findings(release)

    code, path, message = expected
    assert any((code, path) == (c, p) and m.startswith(message) for c, p, m in found), found


def test_a_dictionary_of_another_dialect_than_its_format_is_a_finding(release):
    """Both ways: the files are told apart by what they say, and nothing is loaded as what it is not."""
    folder = release / GROUPMAX
    value = {"architecture": "topk", "k": 3, "device": "cpu", "metadata": {"sae_lens_version": "6.54.12"}}
    theirs = parse_config(canonical(WIDTHS | value))
    (folder / "cfg.json").write_text(theirs.text())
    save_file(random_weights(theirs, 0), folder / "weights.safetensors")
    edit(release / "manifest.json", lambda m: artifact_of(m, GROUPMAX).update(architecture="topk", sparsity={"k": 3}))
    reindex(release)
    assert ("SR215", "manifest.json", "the manifest says format = saereg, cfg.json says saelens") in findings(
        release, "data"
    )

    skip = release / SKIP
    (skip / "weights.safetensors").rename(skip / "sae_weights.safetensors")
    edit(release / "manifest.json", lambda m: artifact_of(m, SKIP).update(format="saelens"))
    reindex(release)
    assert ("SR215", "manifest.json", "the manifest says format = saelens, cfg.json says saereg") in findings(
        release, "data"
    )


@pytest.mark.parametrize(
    ("name", "switch"),
    [
        (GROUPMAX, {"activation": "topk"}),
        (GROUPMAX, {"pre_encoder_subtraction": "b_dec"}),
        (GROUPMAX, {"normalization": STATISTICS | {"inverted_on_output": False}}),
        (SKIP, {"rectified": True}),
        (SKIP, {"k": 4}),
    ],
    ids=str,
)
def test_a_wrong_switch_does_not_replay(release, name, switch):
    """SR421: golden vectors catch what every other check lets pass."""
    edit(release / name / "cfg.json", lambda cfg: cfg["semantics"].update(switch))
    cfg = parse_config((release / name / "cfg.json").read_text())
    changed = {"architecture": cfg.architecture, "sparsity": {"k": cfg.semantics.k}}
    edit(release / "manifest.json", lambda m: artifact_of(m, name).update(changed))
    reindex(release)

    assert "SR421" in {code for code, _, _ in findings(release, "weights")}


@pytest.mark.parametrize("name", [GROUPMAX, SKIP])
def test_more_active_latents_than_k_are_a_finding(release, name):
    """SR413, also where k is a switch and the architecture a transcoder."""

    def record(index):
        metrics = next(a for a in index["artifacts"] if a["id"] == name)["metrics"]
        next(m for m in metrics if m["metric"] == "l0").update(maximum=7)

    edit(release / "index.json", record)

    k = ARTIFACTS[name]["sparsity"]["k"]
    assert findings(release) == [("SR413", "index.json", f"the index records up to 7 active latents, but k = {k}")]
