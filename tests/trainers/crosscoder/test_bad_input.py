"""What cannot be trained on is refused before the first step, in one line that says where, what, and what next."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.errors import DocumentError, UnknownNameError, UsageError
from saereg.schemas.manifest import ReleaseInfo
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.crosscoder.sources import open_sources
from saereg.trainers.crosscoder.train import train_crosscoder, train_crosscoders
from saereg.trainers.rows.parameters import read_parameters

INFO = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crosscoder": {"k": 49}}, "#/crosscoder: `k` must be at most d_sae, and whole for topk"),
        ({"crosscoder": {"k": 2.5}}, "#/crosscoder: `k` must be at most d_sae, and whole for topk"),
        (
            {"crosscoder": {"l1_coefficient": 1.0}},
            "#/crosscoder: architecture 'topk' takes `k`, and no other of the two",
        ),
        (
            {"crosscoder": {"gate": "per_source"}},
            "#/crosscoder: gate 'per_source' is trained for architecture 'jumprelu'",
        ),
        (
            {"optimization": {"compile": True}},
            "`optimization.compile` is for SAEs: the step of crosscoders is written by hand",
        ),
        ({"sources": {"axis": "model"}}, "#/sources: sources of activations need `collections` and `sites`"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, message, on_layers):
    plain = on_layers("topk").model_dump(mode="json", exclude_none=True)
    for group, settings in changes.items():
        plain[group] = settings if group == "sources" else plain[group] | settings
    with pytest.raises(DocumentError) as caught:
        CrosscoderTrainConfig.from_text(json.dumps(plain), "run.yaml")
    assert message in str(caught.value)


def changed(config: CrosscoderTrainConfig, **sources) -> CrosscoderTrainConfig:
    return config.model_copy(update={"sources": config.sources.model_copy(update=sources)})


def test_sources_of_another_width_text_or_name_are_refused(on_layers, layers, tmp_path):
    config = on_layers("topk")
    with pytest.raises(UnknownNameError, match=r"unknown site in .* 'residual-9'"):
        open_sources(changed(config, sites=("residual-0", "residual-9")))
    with pytest.raises(UsageError, match=r"a site stands twice in sources\.sites"):
        open_sources(changed(config, sites=("residual-0", "residual-0")))

    other = tmp_path / "other"
    shutil.copytree(layers, other)
    whole = json.loads((other / "collection.json").read_text())
    both = changed(config, axis="model", collections=(str(layers), str(other)), sites=("residual-0",))

    def with_document(**changes) -> None:
        (other / "collection.json").write_text(json.dumps(whole | changes))

    with pytest.raises(UsageError, match="two of the models are called 'tiny-neox'; collect with --model-name"):
        open_sources(both)
    with_document(dataset={**whole["dataset"], "sha256": "0" * 64})
    with pytest.raises(UsageError, match=r"has another text than .* so that their rows are not the same tokens"):
        open_sources(both)
    with_document(rows=900, target_rows=900)
    with pytest.raises(UsageError, match="has another number of rows than"):
        open_sources(both)
    with_document()
    with pytest.raises(UsageError, match=r"must be of models with rising pretraining steps; found \(None, None\)"):
        open_sources(changed(both, axis="snapshot"))
    for shard in whole["sites"]["residual-0"]["shards"]:
        rows = load_file(other / shard["path"])["x"]
        save_file({"x": torch.cat([rows, rows[:, :1]], 1)}, other / shard["path"])
    with_document(sites={**whole["sites"], "residual-0": {**whole["sites"]["residual-0"], "d_in": 17}})
    with pytest.raises(UsageError, match=r"all sources must have one width, but .* is 16, .* is 17"):
        open_sources(both)


@pytest.mark.parametrize("preprocess", ["center_scale", "none"])
def test_rows_that_are_not_finite_stop_the_run_in_one_line(
    preprocess, on_layers, on_steps, layers, trajectory, tmp_path
):
    bad = tmp_path / "bad"
    shutil.copytree(layers, bad / "layers")
    shutil.copytree(trajectory[1], bad / "steps")
    shard = json.loads((layers / "collection.json").read_text())["sites"]["residual-1"]["shards"][0]["path"]
    for path in (bad / "layers" / shard, bad / "steps" / read_parameters(trajectory[1]).snapshots[1].path):
        rows = load_file(path)["x"]
        rows[7, 3] = torch.nan
        save_file({"x": rows}, path)
    settings = {"crosscoder": {"preprocess": preprocess}, "optimization": {"tokens": 1000, "batch_size": 50}}
    configs = (
        changed(on_layers("topk", **settings), collections=(str(bad / "layers"),)),
        on_steps("topk", sources={"parameters": str(bad / "steps")}, **settings),
    )
    for config in configs:
        with pytest.raises(UsageError, match=r"safetensors, row 7.* holds a value that is not finite; "):
            train_crosscoder(config, tmp_path / "r", tmp_path / "c", info=INFO)
        assert not list((tmp_path / "r").rglob("weights.safetensors"))


def test_too_few_rows_are_refused(on_layers, on_steps, layers):
    with pytest.raises(UsageError, match=r"evaluation\.rows is 1200, but .* has 1200 rows; collect more"):
        open_sources(on_layers("topk", evaluation={"rows": 1200}))
    with pytest.raises(UsageError, match=r"optimization\.batch_size is 2000, but there are only 1000 rows to train on"):
        open_sources(on_layers("topk", optimization={"batch_size": 2000, "tokens": 2000}))
    with pytest.raises(UsageError, match=r"batch_size is 65, but there are only 64 rows"):
        open_sources(on_steps("topk", optimization={"batch_size": 65}))


def test_equal_rows_cannot_be_scaled(on_steps, trajectory, tmp_path):
    flat = tmp_path / "flat"
    shutil.copytree(trajectory[1], flat)
    path = flat / read_parameters(flat).snapshots[1].path
    save_file({"x": torch.ones_like(load_file(path)["x"])}, path)
    config = on_steps("topk", sources={"parameters": str(flat)})
    with pytest.raises(UsageError, match="source step512: all rows are equal, so they cannot be scaled"):
        train_crosscoder(config, tmp_path / "r", tmp_path / "c", info=INFO)


def test_snapshots_that_are_missing_are_named(on_steps, trajectory, tmp_path):
    with pytest.raises(UsageError, match="has no step 3 of W_U; it has 0, 512, 1000"):
        open_sources(on_steps("topk", sources={"steps": [0, 3]}))
    with pytest.raises(UsageError, match=r"holds no parameters.json; make it with `saereg train snapshots`"):
        open_sources(on_steps("topk", sources={"parameters": str(tmp_path)}))
    folder = tmp_path / "cut"
    shutil.copytree(trajectory[1], folder)
    stored = read_parameters(folder)
    (folder / stored.snapshots[2].path).unlink()
    with pytest.raises(UsageError, match=r"is missing; run `saereg train snapshots` again"):
        open_sources(on_steps("topk", sources={"parameters": str(folder)}))
    unfinished = stored.model_copy(update={"snapshots": stored.snapshots[:1]})
    (folder / "parameters.json").write_text(unfinished.text())
    with pytest.raises(UsageError, match="is not finished: step 512 is missing, and 1 more"):
        open_sources(on_steps("topk", sources={"parameters": str(folder)}))


def test_crosscoders_of_other_rows_do_not_share_a_pass(on_layers, tmp_path):
    configs = [on_layers("topk"), on_layers("gated", seed=1)]
    with pytest.raises(UsageError, match=r"cross/gated: order_seed \(or seed\) is 1, and 0 for cross/topk"):
        train_crosscoders(configs, tmp_path / "r", tmp_path / "c", info=INFO)


def test_other_held_out_rows_under_the_same_name_are_refused(on_layers, tmp_path):
    train_crosscoder(on_layers("topk"), tmp_path / "r", tmp_path / "c", info=INFO)
    before = (tmp_path / "r" / "manifest.json").read_bytes()
    told = r"evaluation 'held-out-residual-0-residual-1' has another rows; give this one another name"
    with pytest.raises(UsageError, match=told):
        train_crosscoder(on_layers("topk", evaluation={"rows": 100}), tmp_path / "r", tmp_path / "c")
    assert (tmp_path / "r" / "manifest.json").read_bytes() == before


def test_a_device_that_is_not_there_and_an_id_in_the_way_are_refused_before_anything_is_written(on_layers, tmp_path):
    for changes, message in (
        ({"device": "cuda:77"}, "device 'cuda:77' cannot be used: "),
        ({"artifact": {"id": "evaluation/a"}}, "the id 'evaluation/a' begins with 'evaluation'"),
    ):
        with pytest.raises(UsageError, match=message):
            train_crosscoder(on_layers("topk", **changes), tmp_path / "r", tmp_path / "c", info=INFO)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_crosscoder_is_not_replaced_by_one_of_other_settings(on_layers, tmp_path):
    train_crosscoder(on_layers("topk"), tmp_path / "r", tmp_path / "c", info=INFO)
    with pytest.raises(UsageError, match=r"r/cross/topk is of another run: cross/topk.seed is 0 there and 3 here; "):
        train_crosscoder(on_layers("topk", seed=3), tmp_path / "r", tmp_path / "c")
