"""Snapshots of a parameter are the checkpoints' own numbers, whatever the architecture calls it and wherever it is."""

import hashlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.torch import load_file, save_file

from saereg.cli import cli
from saereg.errors import DataUnavailableError, UsageError, WeightsError
from saereg.publishers.local_hub import local_hub
from saereg.registry.metrics.sources.opening import parameter_rows
from saereg.schemas.parameters import StoredParameter
from saereg.trainers.collecting.collect import CollectConfig, collect
from saereg.trainers.collecting.snapshots import SnapshotsConfig, snapshots

VOCABULARY, WIDTH, STEPS = 50, 8, (0, 1, 2, 512, 1000, 2000)


def save(folder: Path, step: int, **tensors: torch.Tensor) -> None:
    """Write a checkpoint with just these tensors; two underscores in a name stand for a dot."""
    (folder / f"step{step}").mkdir(parents=True, exist_ok=True)
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file(named, folder / f"step{step}/model.safetensors")


@pytest.fixture(scope="module")
def neox(tmp_path_factory) -> Path:
    """A GPT-NeoX at some steps, saved by transformers in shards, in float16, beside a tokenizer of 42 entries."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    root = tmp_path_factory.mktemp("neox") / "tiny-pythia"
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16,
    )  # fmt: skip
    for step in STEPS:
        torch.manual_seed(step)
        GPTNeoXForCausalLM(config).half().save_pretrained(root / f"step{step}", max_shard_size="2KB")
        vocabulary = {"model": {"vocab": {f"w{i}": i for i in range(40)}}, "added_tokens": [{"id": 41}]}
        (root / f"step{step}/tokenizer.json").write_text(json.dumps(vocabulary))
    return root


def truth(root: Path, step: int, embedding: str) -> torch.Tensor:
    from transformers import GPTNeoXForCausalLM

    model = GPTNeoXForCausalLM.from_pretrained(root / f"step{step}", dtype=torch.float16)
    return getattr(model, f"get_{embedding}_embeddings")().weight.detach()


def config(model: Path, out: Path, schedule: str = "pythia-154", **more) -> SnapshotsConfig:
    return SnapshotsConfig(**({"model": str(model), "parameter": "W_U", "schedule": schedule, "out": out} | more))


@pytest.mark.parametrize(("parameter", "embedding"), [("W_U", "output"), ("W_E", "input")])
def test_rows_are_those_of_the_model_itself(parameter, embedding, neox, tmp_path):
    found = snapshots(config(neox, tmp_path / "p", parameter=parameter, steps="0,512,2000"))
    assert found == StoredParameter.read(tmp_path / "p/parameters.json")
    assert [(one.step, one.revision) for one in found.snapshots] == [(s, f"step{s}") for s in (0, 512, 2000)]
    assert (found.rows, found.d_in, found.dtype, found.tied) == (VOCABULARY, WIDTH, "float16", False)
    assert found.vocabulary == 42
    model = found.model
    assert (model.id, model.n_layers, model.d_model, model.schedule) == ("tiny-pythia", 2, WIDTH, "pythia-154")
    for one in found.snapshots:
        x = load_file(tmp_path / "p" / one.path)["x"]
        assert torch.equal(x, truth(neox, one.step, embedding))


def test_what_a_manifest_says_of_them_leads_back_to_the_checkpoints(neox, tmp_path):
    found = snapshots(config(neox, tmp_path / "p", steps="0,512,1000"))
    rows = parameter_rows(found.evaluation(steps=(0, 1000)), None, {"base": str(neox)}, (2, WIDTH))
    kept = [load_file(tmp_path / f"p/step{step}.safetensors")["x"].float() for step in (0, 1000)]
    assert torch.equal(rows.read(0, VOCABULARY)[0], torch.stack(kept, 1))


def test_checkpoints_are_pinned_by_the_bytes_of_their_matrices(neox, tmp_path):
    """Also where the rows are stored in another type; a folder of an earlier version is read again for them."""
    found = snapshots(config(neox, tmp_path / "p", steps="0,512,1000", dtype="float32"))
    expected = [hashlib.sha256(truth(neox, step, "output").numpy().tobytes()).hexdigest() for step in (0, 512, 1000)]
    assert [one.matrix_sha256 for one in found.snapshots] == expected
    record = found.evaluation(steps=(0, 1000))
    assert record.sha256 == (expected[0], expected[2])
    assert parameter_rows(record, None, {"base": str(neox)}, (2, WIDTH)).rows == VOCABULARY

    path = tmp_path / "p/parameters.json"
    whole, old = path.read_text(), json.loads(path.read_text())
    del old["snapshots"][1]["matrix_sha256"]
    path.write_text(json.dumps(old))
    earlier = StoredParameter.read(path)
    assert earlier.evaluation().sha256 == ()
    assert earlier.evaluation(steps=(0, 1000)) == record
    assert earlier.unpinned().text() == found.unpinned().text()
    snapshots(config(neox, tmp_path / "p", steps="0,512,1000", dtype="float32"))
    assert path.read_text() == whole


@pytest.mark.parametrize(
    ("schedule", "more", "steps"),
    [
        ("every:1000", {}, (0, 1000, 2000)),
        ("every:500:1000", {"steps": "0,1000"}, (0, 1000)),
        ("0,1,2,512", {}, (0, 1, 2, 512)),
        ("0,1,2,512,1000,2000", {"count": 3}, (0, 512, 2000)),
    ],
)
def test_steps_are_those_of_the_schedule(schedule, more, steps, neox, tmp_path):
    found = snapshots(config(neox, tmp_path / "p", schedule, **more))
    assert tuple(one.step for one in found.snapshots) == found.target_steps == steps


def test_a_stopped_run_keeps_the_steps_that_it_finished(neox, tmp_path):
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert total == 4
        if done == 2:
            raise StoppedError

    wanted = {"steps": "0,1,512,2000"}
    snapshots(config(neox, tmp_path / "whole", **wanted))
    with pytest.raises(StoppedError):
        snapshots(config(neox, tmp_path / "p", **wanted), stop)
    first = tmp_path / "p/step0.safetensors"
    before = first.stat().st_mtime_ns
    (tmp_path / "p/step1.safetensors").write_bytes(b"damaged since")
    (tmp_path / "p/.step512.safetensors.1.tmp").write_bytes(b"half")
    snapshots(config(neox, tmp_path / "p", **wanted))
    assert first.stat().st_mtime_ns == before
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir())
    for name in names:
        assert (tmp_path / "p" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert len(snapshots(config(neox, tmp_path / "p", steps="0,1,2,512,2000")).snapshots) == 5  # more may be wanted
    for changes, said in (
        ({"parameter": "W_E"}, "parameter is W_U there and W_E here"),
        ({"dtype": "float32"}, "dtype is float16 there and float32 here"),
        ({"schedule": "0,1,512,2000"}, r"schedule is pythia-154 there and \(0, 1, 512, 2000\) here"),
        ({"steps": "0,1"}, "holds step 2, which is not among those wanted"),
    ):
        with pytest.raises(UsageError, match=said):
            snapshots(config(neox, tmp_path / "p", **wanted | changes))


NAMES = [
    ("W_U", {"lm_head__weight": 0, "model__embed_tokens__weight": 1}, {}, ("lm_head.weight", False)),
    ("W_E", {"lm_head__weight": 0, "model__embed_tokens__weight": 1}, {}, ("model.embed_tokens.weight", False)),
    ("W_U", {"transformer__wte__weight": 0, "transformer__wpe__weight": 1}, {}, ("transformer.wte.weight", True)),
    ("W_U", {"wte__weight": 0}, {"tie_word_embeddings": True}, ("wte.weight", True)),
    ("W_E", {"wte__weight": 0}, {"tie_word_embeddings": True}, ("wte.weight", True)),
    ("W_E", {"backbone__embeddings__weight": 0}, {}, ("backbone.embeddings.weight", False)),
    ("embed_out.weight", {"embed_out__weight": 0, "embed_in__weight": 1}, {}, ("embed_out.weight", False)),
]


@pytest.mark.parametrize(("parameter", "tensors", "settings", "expected"), NAMES)
def test_the_names_in_the_file_tell_which_tensor_it_is(parameter, tensors, settings, expected, tmp_path):
    matrices = {name: torch.full((4, 3), float(number)) for name, number in tensors.items()}
    save(tmp_path / "m", 0, **matrices)
    (tmp_path / "m/step0/config.json").write_text(json.dumps(settings))
    found = snapshots(config(tmp_path / "m", tmp_path / "p", "0", parameter=parameter))
    assert (found.tensor, found.tied) == expected
    assert torch.equal(load_file(tmp_path / "p/step0.safetensors")["x"], matrices[found.tensor.replace(".", "__")])


def test_types_are_kept_or_cast(tmp_path):
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    for step, dtype in ((0, torch.bfloat16), (1, torch.float32)):
        save(tmp_path / "m", step, lm_head__weight=x.to(dtype))
    with pytest.raises(
        WeightsError, match=r"step 1 \(step1\): lm_head.weight: is stored as float32, step 0 as bfloat16"
    ):
        snapshots(config(tmp_path / "m", tmp_path / "p", "0,1"))
    found = snapshots(config(tmp_path / "m", tmp_path / "q", "0,1", dtype="float16"))
    assert found.dtype == "float16"
    assert torch.equal(load_file(tmp_path / "q/step1.safetensors")["x"], x.half())


@pytest.mark.parametrize(
    ("tensors", "more", "said"),
    [
        (
            [torch.zeros(5, 3), torch.zeros(6, 3)],
            {},
            r"step 1 \(step1\): .* has shape \(6, 3\), step 0 has \(5, 3\): all",
        ),
        ([torch.zeros(5), torch.zeros(5)], {}, r"step 0 \(step0\): lm_head.weight: has shape \(5,\); a matrix"),
        ([torch.zeros(5, 3).int()] * 2, {}, r"is int32; floating-point numbers are needed"),
        ([torch.full((5, 3), 1e6)] * 2, {"dtype": "float16"}, r"row 0 is not finite in float16; give --dtype bfloat16"),
        ([torch.full((5, 3), torch.nan)] * 2, {}, r"step 0 \(step0\): lm_head.weight: row 0 is not finite$"),
        (
            [torch.zeros(5, 3)] * 2,
            {"parameter": "W_E"},
            r"step0: none of its tensors is known as W_E; name it by --ten",
        ),
        (
            [torch.zeros(5, 3)] * 2,
            {"parameter": "lm_had.weight"},
            r"no tensor 'lm_had.weight'; did you mean 'lm_head.w",
        ),
        ([torch.zeros(5, 3)], {}, r"the checkpoint of step 1, 'step1', is missing"),
        ([torch.zeros(5, 3)], {"schedule": "1,0"}, r"--schedule '1,0': write rising steps with commas between"),
        ([torch.zeros(5, 3)], {"schedule": "often"}, r"--schedule: 'often' is no schedule; write 'pythia-154'"),
        (
            [torch.zeros(5, 3)],
            {"schedule": "every:7", "revision": "s{step}"},
            r"called 's{step}' at a step of every:7;",
        ),
        ([torch.zeros(5, 3)], {"steps": "3"}, r"--steps: there is no checkpoint of step 3; the nearest is 1"),
        ([torch.zeros(5, 3)], {"steps": "0", "count": 1}, r"--steps and --count both choose"),
        ([torch.zeros(5, 3)], {"count": 9}, r"--count 9: the schedule has 2 steps"),
        ([torch.zeros(5, 3)], {"revision": "main"}, r"--revision 'main': write {step} where the step stands"),
        ([torch.zeros(5, 3)], {"revision": "../{step}"}, r"--revision '../{step}', .*: no '..', '.', backslash"),
    ],
)
def test_mistakes_are_one_line_and_no_step_is_half_written(tensors, more, said, tmp_path):
    for step, tensor in enumerate(tensors):
        save(tmp_path / "m", step, lm_head__weight=tensor)
    with pytest.raises((UsageError, WeightsError, DataUnavailableError), match=said) as caught:
        snapshots(config(tmp_path / "m", tmp_path / "p", **{"schedule": "0,1"} | more))
    assert "\n" not in str(caught.value)
    left = {path.name for path in (tmp_path / "p").glob("*")} if (tmp_path / "p").exists() else set()
    assert left <= {"parameters.json", "step0.safetensors"}


@pytest.mark.parametrize(
    ("names", "settings", "said"),
    [
        (("encoder__embed_tokens__weight", "decoder__embed_tokens__weight"), {}, r"may be W_E; say which by --tensor"),
        (("layers__0__weight",), {}, r"it holds no tensor that is called like a vocabulary"),
    ],
)
def test_a_tensor_that_cannot_be_told_is_asked_for(names, settings, said, tmp_path):
    save(tmp_path / "m", 0, **{name: torch.zeros(4, 2) for name in names})
    with pytest.raises(UsageError, match=said):
        snapshots(config(tmp_path / "m", tmp_path / "p", "0", parameter="W_E"))
    tensor = names[0].replace("__", ".")
    found = snapshots(config(tmp_path / "m", tmp_path / "p", "0", parameter="W_E", tensor=tensor))
    assert (found.parameter, found.tensor) == ("W_E", tensor)


def test_a_model_without_a_head_has_no_unembedding(tmp_path):
    save(tmp_path / "m", 0, model__embed_tokens__weight=torch.zeros(4, 2))
    (tmp_path / "m/step0/config.json").write_text('{"tie_word_embeddings": false}')
    with pytest.raises(
        UsageError, match=r"has no W_U: a model without a head, whose config\.json says that it is not tied"
    ):
        snapshots(config(tmp_path / "m", tmp_path / "p", "0"))


def test_a_folder_that_cannot_be_written_is_one_line(neox, tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = ["--model", neox, "--schedule", "0,1", "--out", tmp_path / "file/p"]
    run = CliRunner().invoke(cli, ["train", "snapshots", *map(str, words)])
    assert isinstance(run.exception, OSError)
    assert "file" in str(run.exception.filename)


def test_a_disk_that_is_full_leaves_whole_steps_and_the_run_goes_on_later(tmp_path):
    matrices = [torch.randn(rows, 8, generator=torch.Generator().manual_seed(rows)) for rows in (900, 900)]
    for step, matrix in enumerate(matrices):
        save(tmp_path / "m", step, lm_head__weight=matrix)
    wanted = config(tmp_path / "m", tmp_path / "p", "0,1")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done: int, _total: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000 if done == 1 else limits[0], limits[1]))

    try:
        with pytest.raises(OSError, match="File too large") as caught:
            snapshots(wanted, fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / "p/step1.safetensors")
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["parameters.json", "step0.safetensors"]
    assert [one.step for one in StoredParameter.read(tmp_path / "p/parameters.json").snapshots] == [0]
    snapshots(wanted)
    assert torch.equal(load_file(tmp_path / "p/step1.safetensors")["x"], matrices[1])


def test_of_the_hub_headers_and_the_tensor_alone_are_fetched(tmp_path):
    """Revisions with a wildcard; commits are written down; of the file no other tensor is on this disk."""
    big, truths = torch.zeros(3000, 100), {}
    with local_hub(tmp_path / "hub") as server:
        api = HfApi(endpoint=server.url, token="hf_writer")
        api.create_repo("org/model")
        for step in (0, 1000):
            truths[step] = torch.randn(9, 4, generator=torch.Generator().manual_seed(step))
            save(tmp_path / "m", step, lm_head__weight=truths[step], big=big, model__embed_tokens__weight=-truths[step])
            branch = f"stage1-step{step}-tokens{step // 500}B"
            api.create_branch("org/model", branch=branch)
            path = tmp_path / f"m/step{step}/model.safetensors"
            files = [
                CommitOperationAdd("model.safetensors", path),
                CommitOperationAdd("config.json", b'{"n_layer": 7}'),
            ]
            commit = api.create_commit("org/model", files, commit_message="step", revision=branch).oid
        server.requests.clear()
        words = ["--model", "org/model", "--schedule", "every:1000", "--revision", "stage1-step{step}-tokens*B"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        settings = {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "home"),
            "SAEREG_CACHE": str(tmp_path / "state"),
        }
        command = [sys.executable, "-m", "saereg", "train", "snapshots", *words, "--out", str(tmp_path / "p")]
        run = subprocess.run(command, env=clean | settings, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("2 steps of W_U (lm_head.weight, 9 × 4, float32) in ")
    found = StoredParameter.read(tmp_path / "p/parameters.json")
    assert found.snapshots[1].commit == commit
    assert (found.snapshots[1].revision, found.model.id) == ("stage1-step1000-tokens2B", "org/model")
    assert found.model.n_layers == 7
    for step, matrix in truths.items():
        assert torch.equal(load_file(tmp_path / f"p/step{step}.safetensors")["x"], matrix)
    cached = list((tmp_path / "state").rglob("*.safetensors"))
    assert len(cached) == 2
    assert sum(path.stat().st_size for path in cached) < 1000
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_rows_and_parameters_do_not_share_a_folder(neox, tmp_path):
    (tmp_path / "collection.json").touch()
    with pytest.raises(UsageError, match=r"holds a collection of activations \(collection.json\); write to"):
        snapshots(config(neox, tmp_path))
    (tmp_path / "collection.json").rename(tmp_path / "parameters.json")
    wanted = CollectConfig(str(neox), ("none",), ("residual:0",), tmp_path, rows=1, context_size=16)
    with pytest.raises(UsageError, match=r"holds snapshots of a parameter \(parameters.json\); collect into a new"):
        collect(wanted)
