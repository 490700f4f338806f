"""examples/trajectory in small: twelve checkpoints of a toy, and every kind of dictionary of the example on them."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from saereg.api import validate
from saereg.cli import run
from saereg.registry.release import open_release
from saereg.schemas.index import Index
from saereg.schemas.schedule import PYTHIA
from saereg.schemas.sweep import SweepConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "trajectory"

CONFIGS = sorted((EXAMPLE / "configs").glob("*.yaml"))

STEPS = [step for step in PYTHIA if step <= 21_000]


def module(name):
    """Return a file of the example as a module."""
    spec = importlib.util.spec_from_file_location(f"trajectory_{name}", EXAMPLE / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def sweep(path, change=lambda text: text):
    """Return a sweep of the example."""
    return SweepConfig.from_text(json.dumps(yaml.safe_load(change(path.read_text(encoding="utf-8")))), path)


def test_the_files_name_every_dictionary_of_the_release_once():
    """Of each kind that the published release has there is one, per snapshot one of each of the 32."""
    runs = {config.artifact.id.removeprefix("tiny-neox/"): config for path in CONFIGS for config in sweep(path).runs()}

    kinds = [tuple(name.split("/")[:2]) for name in runs]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("W_E", "cross-snapshot-32"): 4,
        ("W_U", "architecture-comparison"): 3,
        ("W_U", "cross-snapshot-16"): 1,
        ("W_U", "cross-snapshot-32"): 4,
        ("W_U", "final-snapshot-saes"): 5,
        ("W_U", "lambda-sweep"): 7,
        ("W_U", "per-snapshot-saes"): 32,
    }
    per_snapshot = {name: config.sources.steps for name, config in runs.items() if "per-snapshot" in name}
    assert per_snapshot == {f"W_U/per-snapshot-saes/d256/step{step}": (step,) for step in STEPS}
    assert len(runs["W_U/cross-snapshot-16/d256/seed0"].sources.steps) == 16
    assert set(runs["W_U/cross-snapshot-16/d256/seed0"].sources.steps) <= set(STEPS)


def test_the_script_trains_every_file_on_the_steps_at_which_the_model_is_kept():
    """A file that nobody trains, or a step of which there is no checkpoint, would be found by a reader alone."""
    script = (EXAMPLE / "run.sh").read_text(encoding="utf-8")

    assert [path.stem for path in CONFIGS if path.stem not in script] == []
    assert list(module("pretrain").Plan().kept) == STEPS
    assert len(STEPS) == 32


SMALLER = {
    "cross-snapshot-32": "cross-snapshot-12",
    "cross-snapshot-16": "cross-snapshot-6",
    "512, 2000, 4000, 6000, 8000, 10000, 12000, 14000, 16000, 18000, 21000]": "512]",
    "steps: [21000]": "steps: [1000]",
    "tokens: 15360": "tokens: 1280",
}
"""What a file of the example says of 32 checkpoints → what it says of the 12 of the toy."""


def small(text):
    """Return a configuration for the toy, in 10 steps of training."""
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    kept = ("/step0}", "/step1000}")
    return "\n".join(line for line in text.splitlines() if "saes/d256/step" not in line or line.endswith(kept))


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The release of the toy, built."""
    out = tmp_path_factory.mktemp("trajectory")
    plan = module("pretrain").QUICK
    told = module("pretrain").pretrain(out / "model", plan)
    assert told["loss_at_end"] < told["loss_at_start"] - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out)
        steps = ",".join(str(step) for step in plan.kept)
        for parameter in ("W_U", "W_E"):
            words = ["--parameter", parameter, "--schedule", steps, "--out", f"parameters/{parameter}"]
            assert run(["train", "snapshots", "--model", "model", *words, "--model-name", "tiny-neox"]) == 0
        for path in CONFIGS:
            (out / path.name).write_text(small(path.read_text(encoding="utf-8")), encoding="utf-8")
            words = ["--release", "release", "--name", "toy", "--license", "mit"]
            assert run(["train", "sweep", path.name, *words]) == 0
        annotated = json.loads((out / "release/manifest.json").read_text(encoding="utf-8"))
        module("annotate").annotate(annotated)
        (out / "release/manifest.json").write_text(json.dumps(annotated), encoding="utf-8")
        assert run(["build", "release", "--model", "tiny-neox=model"]) == 0
    return out / "release"


@pytest.mark.slow
def test_every_number_is_recomputed_from_the_rows_of_the_checkpoints(release):
    """All that the trainers stated is verified on rows of source `parameters`; nothing else is wrong at level data."""
    index = Index.read(release / "index.json")
    evaluations = open_release(release).manifest.evaluations

    assert {evaluation.source for evaluation in evaluations.values()} == {"parameters"}
    assert {verdict.verdict for artifact in index.artifacts for verdict in artifact.verdicts} == {"verified"}
    report = validate(release, "data", models={"tiny-neox": str(release.parent / "model")})
    assert [finding.message for finding in report.findings if finding.severity == "error"] == []
    assert "SR301" not in {finding.code for finding in report.findings}  # every matrix is pinned, step by step


@pytest.mark.slow
def test_the_picks_are_those_of_the_rule_and_the_failure_is_told(release):
    """One artifact per matrix and width is canonical, and of the gated run the manifest says why it is there."""
    claims = {artifact.id: artifact.claim for artifact in open_release(release)}

    picks = sorted((claim.sources.site, claim.d_sae) for claim in claims.values() if claim.canonical)
    assert picks == [(f"tiny-neox-{name}", width) for name in ("W_E", "W_U") for width in (256, 512)]
    assert [name for name, claim in claims.items() if claim.expected_failure] == [module("annotate").FAILED]
    assert len(claims) == 26
