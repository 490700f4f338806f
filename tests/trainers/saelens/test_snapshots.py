"""Snapshots by tokens, runs that stop in the middle, and runs that are asked for again."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from saereg.errors import InterruptedRunError, UsageError
from saereg.registry.build import build
from saereg.registry.files.digest import sha256_of
from saereg.registry.validators.runner import validate
from saereg.schemas.manifest import Manifest
from saereg.trainers.saelens.train import train, train_together
from tests.trainers.conftest import INFO

LABELS = ("200", "1K", "final")

EVERYTHING = {
    "sae": {
        "normalize_activations": "expected_average_only_in", "decoder_norm": "unit", "target_l0": 6.0,
        "dead_after_steps": 1, "resample_steps": (20, 38), "l1_coefficient": 5.0, "sparsity_warm_up_steps": 5,
    },
    "optimization": {"snapshots": (200, "1K"), "tokens": 1280, "log_every": 3, "lr": 0.02, "lr_decay_steps": 8},
    "artifact": {"id": "l1/standard", "canonical": True},
}  # fmt: skip
"""A run with all that has a state of its own."""


def configured(training, **changes):
    return training("standard", **{key: dict(value) for key, value in EVERYTHING.items()} | changes)


def digests(root: Path) -> dict[str, str]:
    release = root / "release"
    return {path.relative_to(release).as_posix(): sha256_of(path) for path in release.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(training, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("snapshots")
    train(configured(training), root / "release", root / "checkpoints", info=INFO)
    return root


def test_each_snapshot_is_an_artifact_of_its_own(finished):
    artifacts = Manifest.read(finished / "release" / "manifest.json").artifacts
    assert [(one.id, one.snapshot, one.canonical) for one in artifacts] == [
        ("l1/standard/200", "200", False), ("l1/standard/1K", "1K", False), ("l1/standard/final", "final", True)
    ]  # fmt: skip
    # the first step after which so many rows were seen
    assert [(one.training.steps, one.training.tokens) for one in artifacts] == [(7, 224), (32, 1024), (40, 1280)]


def test_snapshots_validate_at_level_data(finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    index = build(tmp_path / "release", checkpoints=tmp_path / "checkpoints")
    assert {verdict.verdict for one in index.artifacts for verdict in one.verdicts} == {"verified"}
    report = validate(tmp_path / "release", "data")
    found = {one.code for one in report.findings if one.severity != "info"}
    assert found == {"SR433"}  # one is canonical, and by which rule is for a person to say


def test_the_log_of_a_snapshot_holds_its_own_steps_and_its_last(finished):
    logs = {}
    for label in LABELS:
        lines = (finished / "release" / "l1/standard" / label / "training.log").read_text().splitlines()
        logs[label] = [json.loads(line)["step"] for line in lines]
    assert logs["200"] == [1, 3, 6, 7]
    assert logs["1K"] == [1, 3, 6, 7, 9, 12, 15, 18, 21, 24, 27, 30, 32]
    assert logs["final"] == [*logs["1K"], 33, 36, 39, 40]


def test_the_entry_holds_the_coefficient_that_each_snapshot_had(finished):
    for one in Manifest.read(finished / "release" / "manifest.json").artifacts:
        log = (finished / "release" / one.training.log).read_text().splitlines()
        assert one.sparsity.target_l0 == 6
        assert one.sparsity.l1_coefficient != json.loads(log[-1])["l1_coefficient"]  # it moved once more behind that
        assert one.sparsity.l1_coefficient == pytest.approx(json.loads(log[-1])["l1_coefficient"], rel=0.06)


@pytest.mark.parametrize("step", [4, 7, 17, 24, 36])
def test_a_run_that_stopped_ends_with_the_same_bytes(step, finished, training, tmp_path):
    def stop(seen):
        if seen.tokens == 32 * step:
            import signal

            signal.raise_signal(signal.SIGTERM)

    places = tmp_path / "release", tmp_path / "checkpoints"
    with pytest.raises(InterruptedRunError):
        train(configured(training), *places, stop, info=INFO)
    assert (tmp_path / "checkpoints" / "l1/standard/state").is_dir()
    done = train(configured(training), *places, info=INFO)
    assert digests(tmp_path) == digests(finished)
    assert done.artifact.id == "l1/standard/final"
    assert not (tmp_path / "checkpoints" / "l1/standard/state").exists()


def test_everything_with_a_state_did_something(finished):
    lines = [
        json.loads(line) for line in (finished / "release/l1/standard/final/training.log").read_text().splitlines()
    ]
    assert lines[-1]["resampled"] > 0
    assert len({line["l1_coefficient"] for line in lines}) == len(lines)
    assert lines[-1]["lr"] < lines[0]["lr"]


def test_a_finished_run_is_not_done_again(finished, training):
    before, calls = digests(finished), []
    done = train_together([configured(training)], finished / "release", finished / "checkpoints", calls.append)
    assert (digests(finished), calls) == (before, [])
    assert [one.artifact.id for one in done] == [f"l1/standard/{label}" for label in LABELS]
    assert done[-1].weights_sha256 == sha256_of(done[-1].folder / "sae_weights.safetensors")
    assert done[-1].checkpoint.is_file()
    assert done[-1].l0 > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "release/l1/standard/200/golden.safetensors").unlink(),
        lambda root: (root / "release/l1/standard/final/cfg.json").write_text("{}"),
        lambda root: (root / "release/manifest.json").unlink(),
    ],
)
def test_a_finished_run_of_which_something_is_gone_is_done_again(change, finished, training, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    change(tmp_path)
    calls = []
    train(configured(training), tmp_path / "release", tmp_path / "checkpoints", calls.append, info=INFO)
    assert len(calls) == 40
    assert digests(tmp_path) == digests(finished)


def test_another_configuration_of_the_same_id_is_done(finished, training, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    config = configured(training, artifact={"id": "l1/standard", "variant": "other"})
    done = train(config, tmp_path / "release", tmp_path / "checkpoints")
    assert (done.artifact.variant, done.artifact.canonical) == ("other", False)


def test_a_finished_run_is_not_replaced_by_one_of_other_settings_until_it_is_removed(finished, training, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    config = configured(training, seed=5)
    places = tmp_path / "release", tmp_path / "checkpoints"
    with pytest.raises(UsageError) as caught:
        train(config, *places, info=INFO)
    folder = tmp_path / "release/l1/standard"
    assert str(caught.value) == (
        f"{folder} is of another run: l1/standard.seed is 0 there and 5 here; give another id, or "
        f"remove {folder} to train it anew"
    )
    assert digests(tmp_path) == digests(finished)
    shutil.rmtree(folder)
    assert train(config, *places).artifact.seed == 5


@pytest.mark.parametrize(
    ("identifier", "other"),
    [("l1", "l1/standard"), ("l1/standard/1024", "l1/standard"), ("L1/Standard", "l1/standard")],
)
def test_an_id_in_the_way_of_what_stands_is_refused(identifier, other, finished, training, tmp_path):
    config = configured(training, artifact={"id": identifier})
    with pytest.raises(UsageError, match=f"the ids '{other}' and '{identifier}' (lie in one|differ only)"):
        train(config, finished / "release", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_going_on_behind_a_snapshot_that_is_not_there_is_refused(training, tmp_path):
    def stop(seen):
        if seen.tokens == 320:
            import signal

            signal.raise_signal(signal.SIGTERM)

    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(InterruptedRunError):
        train(configured(training), tmp_path / "one", checkpoints, stop, info=INFO)
    with pytest.raises(UsageError) as caught:
        train(configured(training), tmp_path / "other", checkpoints, info=INFO)
    state = checkpoints / "l1/standard/state"
    assert str(caught.value) == (
        f"{state / 'step-000000011'} is behind the snapshot l1/standard/200, which {tmp_path / 'other'} does not hold; "
        f"give the release that it went to, or remove {state} to begin anew"
    )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("snapshots", "message"),
    [
        ((200, 210), "210 and 200 are the same step (7) of 32 rows"),
        ((1270,), "1270 and the end are the same step (40) of 32 rows"),
    ],
)
def test_snapshots_on_one_step_are_refused(snapshots, message, training, tmp_path):
    config = configured(training, optimization={"tokens": 1280, "snapshots": snapshots})
    with pytest.raises(UsageError) as caught:
        train(config, tmp_path / "r", tmp_path / "c", info=INFO)
    assert str(caught.value) == f"optimization.snapshots: {message}; leave one out"
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_is_what_the_dictionary_was_then(finished, training, tmp_path):
    """A run that ends there has the same weights, where nothing looks at the length of the run."""
    plain = {"sae": {"l1_coefficient": 0.5}, "artifact": {"id": "a"}}
    long = training("standard", **plain, optimization={"snapshots": (320,), "tokens": 640})
    short = training("standard", **plain, optimization={"tokens": 320})
    found = [
        train_together([run], tmp_path / f"{n}", tmp_path / f"c{n}", info=INFO)[0]
        for n, run in enumerate((long, short))
    ]
    one, other = (load_file(done.folder / "sae_weights.safetensors") for done in found)
    assert all((one[name] == other[name]).all() for name in one)
