"""A sweep is the runs that it stands for, trained together where they read the same rows."""

import json

import pytest
import yaml
from safetensors.torch import load_file

from saereg.cli import run as saereg
from saereg.errors import DocumentError, UsageError
from saereg.registry.files.digest import sha256_of
from saereg.schemas.manifest import Manifest, ReleaseInfo
from saereg.schemas.sweep import SweepConfig
from saereg.trainers.saelens.train import train
from saereg.trainers.saelens.writing import variant_of
from saereg.trainers.sweep import groups, train_group


@pytest.fixture
def settings(training) -> dict:
    """A sweep of four runs as a user writes it."""
    base = training("standard", optimization={"tokens": 160, "log_every": 1}).model_dump(mode="json")
    return {
        "kind": "sae",
        "base": {key: value for key, value in base.items() if key not in ("artifact", "order_seed")},
        "grid": {"sae.l1_coefficient": [0.1, 0.25], "seed": [3, 4]},
        "id": "l1_{sae.l1_coefficient:.2f}/seed{seed}",
    }


def sweep(settings, **changes) -> SweepConfig:
    return SweepConfig.from_text(json.dumps(settings | changes), "sweep")


def test_every_combination_is_a_run_with_a_name_of_its_own(settings):
    runs = sweep(settings).runs()
    assert [run.artifact.id for run in runs] == [f"l1_{l1}/seed{s}" for l1 in ("0.10", "0.25") for s in (3, 4)]
    assert [(run.sae.l1_coefficient, run.seed) for run in runs] == [(0.1, 3), (0.1, 4), (0.25, 3), (0.25, 4)]
    assert {run.order for run in runs} == {0}


def test_a_case_brings_settings_that_belong_together(settings):
    case = {"id": "topk_{sae.k}/{seed}", "sae.architecture": "topk", "sae.k": 4, "sae.l1_coefficient": None}
    runs = sweep(settings, cases=[{}, case]).runs()
    assert [run.artifact.id for run in runs[4:]] == ["topk_4/3", "topk_4/4"]
    assert {run.sae.architecture for run in runs[4:]} == {"topk"}


def test_what_no_field_tells_is_told_by_the_variant(settings):
    """Runs of several learning rates would be one thing by their fields (SR110)."""
    base = settings["base"] | {"artifact": {"variant": "lr {optimization.lr:.0e}"}}
    runs = sweep(settings, base=base, grid={"optimization.lr": [1e-3, 1e-4]}, id="{optimization.lr:.0e}").runs()
    assert [run.artifact.variant for run in runs] == ["lr 1e-03", "lr 1e-04"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"id": "one"}, UsageError, "two runs of the sweep are called 'one'; put what differs into `id`"),
        ({"id": "{sae.l2}"}, UsageError, "`id` of the sweep: {sae.l2} names no setting of a run"),
        (
            {"id": "{seed:Q}"},
            UsageError,
            "`id` of the sweep: {seed:Q}: Unknown format code 'Q' for object of type 'int'",
        ),
        ({"grid": {"sae.kk": [1]}, "id": "a"}, DocumentError, "run a#/sae/kk: "),
        ({"grid": {"seed.x": [1]}, "id": "a"}, UsageError, "'seed' in 'seed.x' is a value, not a group of settings"),
        ({"grid": {"optimization.lr": [1e-3, 1e-4]}, "id": "{optimization.lr}"}, UsageError, "in what they differ"),
        ({"grid": {"seed": []}}, DocumentError, "sweep: `grid` has no values for seed"),
    ],
)
def test_mistakes_are_named_in_one_line(changes, error, message, settings):
    with pytest.raises(error) as caught:
        sweep(settings, **changes).runs()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_that_read_the_same_rows_share_a_pass_up_to_a_number(settings, tmp_path):
    found = groups(sweep(settings, together=3), tmp_path, tmp_path)
    assert [(group.name, len(group.configs)) for group in found] == [("sweep-0", 3), ("sweep-1", 1)]
    other = groups(sweep(settings, grid={"order_seed": [1, 2]}, id="{order_seed}"), tmp_path, tmp_path)
    assert [len(group.configs) for group in other] == [1, 1]


def test_a_run_in_the_folder_of_another_is_refused_whatever_group_it_is_in(settings, tmp_path):
    cases = [{"id": "a"}, {"id": "a/final", "order_seed": 9}]
    with pytest.raises(UsageError, match="the ids 'a' and 'a/final' lie in one folder"):
        groups(sweep(settings, cases=cases, grid={}), tmp_path, tmp_path)


def test_the_command_trains_what_each_run_gives_alone(settings, tmp_path, capsys):
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(settings))
    words = ["train", "sweep", str(tmp_path / "sweep.yaml"), "--release", str(tmp_path / "r"), "--license", "mit"]
    assert saereg(words) == 0
    assert "l1_0.25/seed4: 5 steps, explained_variance" in capsys.readouterr().out
    manifest = Manifest.read(tmp_path / "r" / "manifest.json")
    assert [artifact.id for artifact in manifest.artifacts] == [run.artifact.id for run in sweep(settings).runs()]
    last = sweep(settings).runs()[-1]
    alone = train(
        last,
        tmp_path / "alone",
        tmp_path / "c",
        info=ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit"),
    )
    assert alone.weights_sha256 == sha256_of(tmp_path / "r" / "l1_0.25/seed4" / "sae_weights.safetensors")
    assert load_file(alone.folder / "sae_weights.safetensors")["W_enc"].shape == (16, 48)


def test_a_grid_that_grew_is_trained_and_another_setting_of_a_finished_run_is_refused(settings, tmp_path):
    info = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")

    def done(**changes):
        (group,) = groups(sweep(settings, **changes), tmp_path / "r", tmp_path / "c", info)
        return [artifact.id for artifact in train_group(group)]

    few = {"sae.l1_coefficient": [0.1], "seed": [3]}
    assert done(grid=few) == ["l1_0.10/seed3"]
    assert done(grid=few | {"seed": [3, 4]}) == ["l1_0.10/seed3", "l1_0.10/seed4"]
    base = settings["base"] | {"optimization": settings["base"]["optimization"] | {"lr": 0.5}}
    with pytest.raises(UsageError, match=r"l1_0.10/seed3 is of another run: .*lr is 0.003 there and 0.5 here; give"):
        done(grid=few, base=base)


def test_the_groups_can_be_listed_without_training(settings, tmp_path, capsys):
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(settings))
    assert saereg(["train", "sweep", str(tmp_path / "sweep.yaml"), "--release", str(tmp_path / "r"), "--list"]) == 0
    assert capsys.readouterr().out.startswith("sweep-0: l1_0.10/seed3, l1_0.10/seed4, l1_0.25/seed3")
    assert not (tmp_path / "r").exists()


def test_what_no_other_field_of_an_entry_tells_is_its_variant(training):
    """A batch TopK and a matryoshka one are both released as jumprelu."""
    config = training("standard")
    scaled = config.model_copy(update={"sae": config.sae.model_copy(update={"normalize_activations": "layer_norm"})})
    nested = config.model_copy(update={"sae": config.sae.model_copy(update={"matryoshka_widths": (4,)})})
    assert [variant_of(one) for one in (config, scaled, nested)] == [
        config.artifact.variant,
        "layer_norm",
        "matryoshka",
    ]
