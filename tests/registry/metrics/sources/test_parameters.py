"""Rows of a parameter at snapshots: the model's own numbers, from folders and from the Hub, the same however stored."""

import hashlib
import json
import os
import pickle
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.cli.options import models
from saereg.errors import DataUnavailableError, PublishError, UsageError, WeightsError
from saereg.registry.files.state import state_folder
from saereg.registry.metrics.sources import opening
from saereg.registry.metrics.sources.opening import Surroundings, open_rows, parameter_rows
from saereg.registry.metrics.sources.parameters import ParameterSource
from saereg.registry.metrics.sources.spec import rows_of_spec
from saereg.schemas.evaluation import ParameterRows, Preprocess
from saereg.schemas.manifest import Manifest
from tests.reading_hub import REPO, SHA, Server, hub

VOCABULARY, WIDTH, STEPS = 50, 8, (0, 512, 1000)
W_U = "embed_out.weight"


def record(steps: tuple[int, ...] = STEPS, **more) -> ParameterRows:
    values = {"source": "parameters", "tensor": W_U, "steps": steps, "rows": VOCABULARY}
    return ParameterRows.model_validate(values | more)


def rows_at(where: object, what: ParameterRows | None = None, shape: tuple[int, ...] | None = None) -> ParameterSource:
    what = what or record()
    shape = shape or ((len(what.steps), WIDTH) if len(what.steps) > 1 else (WIDTH,))
    return parameter_rows(what, None, {"base": str(where)}, shape)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, list[torch.Tensor]]:
    """A GPT-NeoX at three steps, saved by transformers, and W_U as the model itself gives it."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    root, truth = tmp_path_factory.mktemp("trained"), []
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16,
    )  # fmt: skip
    for step in STEPS:
        torch.manual_seed(step)
        model = GPTNeoXForCausalLM(config)
        model.get_output_embeddings().weight.data += 0.3 * (1 + torch.arange(WIDTH)) * (1 + step)
        model.save_pretrained(root / f"step{step}")
        truth.append(model.get_output_embeddings().weight.detach().clone())
    return root, truth


@pytest.fixture(scope="module")
def layouts(trained, tmp_path_factory) -> dict[str, Path]:
    """The same checkpoints in shards, as pickles, as a cache of the Hub's client, and in half precision."""
    from safetensors.torch import load_file
    from transformers import GPTNeoXForCausalLM

    root, found = trained[0], {"whole": trained[0]}
    for name in ("shards", "pickles", "cache", "half"):
        found[name] = tmp_path_factory.mktemp(name)
    for step in STEPS:
        model = GPTNeoXForCausalLM.from_pretrained(root / f"step{step}")
        model.save_pretrained(found["shards"] / f"step{step}", max_shard_size="2KB")
        assert (found["shards"] / f"step{step}/model.safetensors.index.json").is_file()
        (found["pickles"] / f"step{step}").mkdir()
        stored = load_file(root / f"step{step}/model.safetensors")
        torch.save(stored, found["pickles"] / f"step{step}/pytorch_model.bin")
        model.to(torch.bfloat16 if step else torch.float16).save_pretrained(found["half"] / f"step{step}")
        (found["cache"] / "refs").mkdir(exist_ok=True)
        (found["cache"] / f"refs/step{step}").write_text(f"{step:040d}")
        shutil.copytree(root / f"step{step}", found["cache"] / f"snapshots/{step:040d}")
    return found


@pytest.mark.parametrize("layout", ["whole", "shards", "pickles", "cache"])
def test_rows_are_those_of_the_model_itself(trained, layouts, layout):
    """(vocabulary, steps, width), in the order of the steps; digests do not depend on how they are stored."""
    rows = rows_at(layouts[layout])

    x, target = rows.read(0, VOCABULARY)

    assert x is target
    assert torch.equal(x, torch.stack(trained[1], 1))
    assert rows.digest() == rows_at(trained[0]).digest()


def test_half_precision_is_read_as_float32(trained, layouts):
    """Every snapshot in the type that it is stored in, and digested in."""
    x = rows_at(layouts["half"]).read(0, VOCABULARY)[0]

    types = (torch.float16, torch.bfloat16, torch.bfloat16)
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.stack([w.to(t).float() for w, t in zip(trained[1], types, strict=True)], 1))
    assert rows_at(layouts["half"]).digest() != rows_at(trained[0]).digest()


def test_one_snapshot_gives_rows_of_an_autoencoder(trained):
    """Without an axis of sources, unless a crosscoder of one source reads them; the folder may be the checkpoint."""
    one = record((512,))

    assert torch.equal(rows_at(trained[0], one).read(3, 5)[0], trained[1][1][3:8])
    assert torch.equal(rows_at(trained[0] / "step512", one).read(3, 5)[0], trained[1][1][3:8])
    assert torch.equal(rows_at(trained[0], one, (1, WIDTH)).read(3, 5)[0], trained[1][1][3:8, None])


def prepared(x: torch.Tensor, how: Preprocess) -> torch.Tensor:
    """Return rows (n, K, d) preprocessed as docs/metrics.md says, in float64, all at once."""
    x = x.double()
    if how in ("center", "center_scale"):
        x = x - x.mean(0)
    if how in ("scale", "center_scale"):
        x = x * (x.shape[2] / x.square().sum(2).mean(0)).sqrt()[:, None]
    return x


@pytest.mark.parametrize("how", ["none", "center", "scale", "center_scale"])
def test_rows_are_centred_and_scaled_over_all_rows(trained, how):
    """Per snapshot; part of the rows is that part of all, whatever is read."""
    rows = rows_at(trained[0], record(preprocess=how))

    truth = prepared(torch.stack(trained[1], 1), how)

    x = rows.read(0, VOCABULARY)[0]
    assert float((x.double() - truth).abs().max() / truth.abs().max()) < 1e-7
    assert torch.equal(rows.read(20, 7)[0], x[20:27])
    if how != "none":
        assert float((x - torch.stack(trained[1], 1)).abs().max()) > 0.1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, VOCABULARY), st.integers(0, VOCABULARY))
def test_rows_are_the_same_however_they_are_read(trained, first, last):
    """Digits and all."""
    first, last = sorted((first, last))
    rows = rows_at(trained[0], record(preprocess="center_scale"))

    assert torch.equal(rows.read(first, last - first)[0], rows.read(0, VOCABULARY)[0][first:last])


def test_statistics_are_those_of_blocks_as_of_the_whole(trained, monkeypatch):
    """A large matrix is read through block by block, and none of it is kept; a mean far from 0 costs no digits."""
    from saereg.registry.metrics.sources import parameters

    whole = rows_at(trained[0], record(preprocess="center_scale"))
    expected, digest = whole.read(0, VOCABULARY)[0], whole.digest()
    _forget(parameters)
    monkeypatch.setattr(parameters, "BLOCK_BYTES", 7 * 4 * WIDTH)
    monkeypatch.setattr(parameters, "PART_VALUES", 3 * WIDTH)
    blocks = rows_at(trained[0], record(preprocess="center_scale"))

    assert blocks.digest() == digest
    assert float((blocks.read(0, VOCABULARY)[0] - expected).abs().max()) < 1e-6
    _forget(parameters)


def _forget(parameters) -> None:
    parameters._sha256_of.cache_clear()
    parameters._statistics_of.cache_clear()


def test_the_digest_is_that_of_a_line_per_snapshot(trained):
    """Anybody can compute it: the bytes of each matrix, their order, and what is done to the rows."""
    lines = [
        f"{step} step{step} {hashlib.sha256(w.numpy().tobytes()).hexdigest()} float32 {VOCABULARY}x{WIDTH}\n"
        for step, w in zip(STEPS, trained[1], strict=True)
    ]

    assert rows_at(trained[0]).digest() == hashlib.sha256("".join([*lines, "none\n"]).encode()).hexdigest()
    others = (record(preprocess="center"), record(STEPS[::-1]), record(STEPS[:2]), record(STEPS[:1]))
    assert len({rows_at(trained[0]).digest(), *(rows_at(trained[0], what).digest() for what in others)}) == 5


def test_rows_can_be_sent_to_another_process(trained):
    """With the statistics, which are not computed again there."""
    rows = rows_at(trained[0], record(preprocess="center_scale"))
    digest, x = rows.digest(), rows.read(0, 9)[0]

    there = pickle.loads(pickle.dumps(rows))

    assert "_statistics" in vars(there)
    assert torch.equal(there.read(0, 9)[0], x)
    assert there.digest() == digest


def _without(layout: Path, copy: Path, change) -> Path:
    shutil.copytree(layout, copy)
    change(copy)
    return copy


REFUSED = {
    "no folder of a step": (
        lambda p: shutil.rmtree(p / "step512"), DataUnavailableError,
        "copy: the checkpoint of step 512, 'step512', is missing; give --model",
    ),
    "no weights": (
        lambda p: (p / "step512/model.safetensors").unlink(), DataUnavailableError, "holds none of model.safetensors",
    ),
    "other vocabulary": (
        lambda p: _save(p / "step512", torch.ones(51, WIDTH)),
        WeightsError, f"step512/model.safetensors: {W_U}: has shape (51, 8), that of step0 (50, 8)",
    ),
    "integers": (
        lambda p: _save(p / "step512", torch.ones(VOCABULARY, WIDTH, dtype=torch.int8)),
        WeightsError, f"step512/model.safetensors: {W_U}: is of type int8; rows are one of float64,",
    ),
    "a vector": (
        lambda p: _save(p / "step512", torch.ones(VOCABULARY)),
        WeightsError, f"step512/model.safetensors: {W_U}: has shape (50,); rows are at least (rows, d_in)",
    ),
    "another name": (
        lambda p: _save(p / "step512", torch.ones(VOCABULARY, WIDTH), "embed_in.weight"),
        WeightsError, f"step512/model.safetensors: {W_U}: missing; did you mean 'embed_in.weight'?",
    ),
    "equal rows": (
        lambda p: _save(p / "step512", torch.ones(VOCABULARY, WIDTH)),
        WeightsError, f"step512: {W_U}: all rows are equal: they cannot be scaled",
    ),
    "not finite": (
        lambda p: _save(p / "step512", torch.full((VOCABULARY, WIDTH), torch.nan)),
        WeightsError, f"step512/model.safetensors: {W_U}: holds numbers that are not finite",
    ),
}  # fmt: skip


def _save(folder: Path, tensor: torch.Tensor, name: str = W_U) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor}, folder / "model.safetensors")


@pytest.mark.parametrize("name", REFUSED)
def test_snapshots_that_do_not_fit_are_refused(trained, tmp_path, name):
    """In one line that names the snapshot."""
    change, kind, message = REFUSED[name]
    folder = _without(trained[0], tmp_path / "copy", change)

    with pytest.raises(kind) as caught:
        rows_at(folder, record(preprocess="center_scale")).read(0, 1)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_of_shards_is_not_believed_blindly(layouts, tmp_path):
    """A shard may be missing, or lie elsewhere, or the index name no such tensor."""
    folder = shutil.copytree(layouts["shards"], tmp_path / "copy")
    index = folder / "step0/model.safetensors.index.json"
    value = json.loads(index.read_text())
    for name, message in (("gone.safetensors", "gone.safetensors is missing"), ("../x", "does not name a file")):
        value["weight_map"][W_U] = name
        index.write_text(json.dumps(value))
        with pytest.raises((DataUnavailableError, WeightsError), match=message):
            rows_at(folder)
    del value["weight_map"][W_U]
    index.write_text(json.dumps(value))
    with pytest.raises(WeightsError, match=r"lm_head.weight: missing; it holds gpt_neox.embed_in.weight$"):
        rows_at(folder, record(tensor="lm_head.weight"))
    value["weight_map"] = {}
    index.write_text(json.dumps(value))
    with pytest.raises(WeightsError, match="a tied matrix is stored once"):
        rows_at(folder)


def test_other_numbers_than_declared_are_refused(trained):
    """Statistics are those of all rows: part of a vocabulary would be other data."""
    with pytest.raises(WeightsError, match="has 50 rows, 40 are declared"):
        rows_at(trained[0], record(rows=40))
    with pytest.raises(WeightsError, match=r"has rows \(sources, d_in\) = \(3, 8\), the dictionary reads \(4, 8\)"):
        rows_at(trained[0], shape=(4, WIDTH))
    with pytest.raises(WeightsError, match="rows 49 to 51 are not there; it has 50"):
        rows_at(trained[0]).read(49, 2)


def test_other_bytes_than_declared_are_refused(trained, tmp_path):
    """A checkpoint that was trained on, fine-tuned or stored in another type since; the step is named."""
    digests = tuple(hashlib.sha256(w.numpy().tobytes()).hexdigest() for w in trained[1])
    pinned = record(sha256=digests)
    assert rows_at(trained[0], pinned).digest() == rows_at(trained[0]).digest()

    other = trained[1][1].clone()
    other[49, 7] += 1e-3
    for stored in (other, trained[1][1].double()):
        folder = _without(
            trained[0], tmp_path / str(stored.dtype), lambda p, stored=stored: _save(p / "step512", stored)
        )
        with pytest.raises(WeightsError) as caught:
            rows_at(folder, pinned)
        found = hashlib.sha256(stored.numpy().tobytes()).hexdigest()
        assert str(caught.value) == (
            f"step512/model.safetensors: {W_U}: sha256 of the matrix at step 512 is {found}, {digests[1]} is declared; "
            "give the checkpoints that the dictionaries were trained on, with --model"
        )
    with pytest.raises(ValueError, match="`sha256` has 2 digests for 3 steps; one each, or none"):
        record(sha256=digests[:2])


def test_revisions_with_more_than_the_step_in_them_are_found(trained, tmp_path):
    """As OLMo's, `stage1-step1000-tokens5B`: the pattern is to match one, and its name is in the digest."""
    for number, step in enumerate(STEPS):
        shutil.copytree(trained[0] / f"step{step}", tmp_path / f"stage1-step{step}-tokens{number}B")
    what = record(revision="stage1-step{step}-tokens*")

    assert torch.equal(rows_at(tmp_path, what).read(0, 50)[0], torch.stack(trained[1], 1))
    assert rows_at(tmp_path, what).digest() != rows_at(trained[0]).digest()

    (tmp_path / "stage1-step512-tokens9B").mkdir()
    with pytest.raises(
        DataUnavailableError, match=r"stage1-step512-tokens1B, stage1-step512-tokens9B: .* 2 names match"
    ):
        rows_at(tmp_path, what)


def test_why_rows_cannot_be_had_names_no_folder_of_this_machine(trained, tmp_path):
    """An index holds it, and is published; the error itself names the folder."""
    secret = tmp_path / "jane-secret"
    changes = {
        "no step": lambda p: shutil.rmtree(p / "step512"),
        "no weights": lambda p: (p / "step512/model.safetensors").unlink(),
        "no folder": shutil.rmtree,
    }
    for change in changes.values():
        _without(trained[0], secret, change)
        with pytest.raises(DataUnavailableError) as caught:
            rows_at(secret)
        assert "jane-secret" in str(caught.value)
        assert str(tmp_path) not in caught.value.why
        assert "jane" not in caught.value.why
        assert "--model base=FOLDER" in caught.value.why
        shutil.rmtree(secret, ignore_errors=True)


REVISIONS = ("../step{step}", "a/../../b{step}", "/step{step}", "a\\{step}", "a\0{step}", "C:{step}", "~{step}")


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_that_leads_elsewhere_is_refused(revision):
    """A record is a stranger's: it names folders below the one that a user names, and no others."""
    with pytest.raises(ValueError, match="a revision, or a folder below that of the checkpoints"):
        record(revision=revision)
    assert record(revision="refs/pr/1-{step}*").revision == "refs/pr/1-{step}*"


def test_a_ref_of_the_cache_that_leads_elsewhere_is_refused(trained, tmp_path):
    """As schemas refuse it in a record."""
    (tmp_path / "cache/refs").mkdir(parents=True)
    (tmp_path / "cache/snapshots").mkdir()
    shutil.copytree(trained[0] / "step0", tmp_path / "elsewhere")
    (tmp_path / "cache/refs/step0").write_text("../../elsewhere")
    with pytest.raises(DataUnavailableError, match="'step0' leads out of the folder of checkpoints"):
        rows_at(tmp_path / "cache", record((0,)))


def test_what_is_not_at_hand_names_the_option(tmp_path):
    """With the key of the model, as a release has it."""
    manifest = Manifest.model_validate_json(json.dumps(MANIFEST))
    around = Surroundings(tmp_path, manifest, (len(STEPS), WIDTH))

    with pytest.raises(DataUnavailableError) as caught:
        open_rows(record(site="W_U"), around)

    assert str(caught.value) == (
        "the rows of embed_out.weight come from checkpoints of tiny/model: give --model base=FOLDER "
        "(with a folder step{step} per step), or --model base=hf://org/name"
    )


MANIFEST = {
    "release": {"name": "r", "version": "1.0.0", "title": "R", "license": "mit"},
    "base_models": {"base": {"id": "tiny/model"}, "other": {"id": "tiny/other"}},
    "sites": {"W_U": {"model": "base", "stream": "parameter", "parameter": "W_U"}},
    "artifacts": [],
}


def test_a_record_in_a_file_names_rows_of_parameters(trained, tmp_path):
    """For a dictionary that is in no release."""
    path = tmp_path / "w_u.json"
    path.write_text(json.dumps(record().model_dump(mode="json", exclude_defaults=True) | {"source": "parameters"}))

    rows = rows_of_spec(str(path), (len(STEPS), WIDTH), models={"pythia": str(trained[0])})

    assert rows.digest() == rows_at(trained[0]).digest()


def test_options_name_models():
    """KEY=WHERE, each key once."""
    assert models(["a=/x=y", "b = hf://org/name"]) == {"a": "/x=y", "b": "hf://org/name"}
    for words in (["a"], ["=x"], ["a="], ["a=x", "a=y"]):
        with pytest.raises(UsageError, match="--model"):
            models(words)


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Serve a folder to the client of this process, with an empty cache."""
    from huggingface_hub import constants

    with ExitStack() as stack:

        def start(root: Path) -> Server:
            server = stack.enter_context(hub(root))
            monkeypatch.setattr(constants, "ENDPOINT", server.url)
            template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
            return server

        monkeypatch.setenv("SAEREG_CACHE", str(tmp_path / "kept"))
        yield start


def large(folder: Path) -> torch.Tensor:
    """Write a checkpoint of 8 MiB in which the matrix has 12,800 bytes; return the matrix."""
    from safetensors.torch import save_file

    w = torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(0))
    folder.mkdir()
    save_file({W_U: w, "gpt_neox.other": torch.zeros(2**20), "after": torch.zeros(2**20)}, folder / "model.safetensors")
    return w


def test_of_a_checkpoint_on_the_hub_the_one_tensor_is_fetched_once(serve, tmp_path, monkeypatch):
    """A header and 12,800 of 8,400,000 bytes; then it is kept, also for when there is no Hub."""
    from huggingface_hub import constants

    from saereg.registry import hub_tensors

    monkeypatch.setattr(hub_tensors, "BLOCK_BYTES", 5000)
    w = large(tmp_path / "model")
    server = serve(tmp_path / "model")
    one = record((0,), rows=400, revision="main")

    rows = rows_at(f"hf://{REPO}", one)

    assert torch.equal(rows.read(0, 400)[0], w)
    assert server.sent[f"/{REPO}/resolve/{SHA}/model.safetensors"] < 64 * 1024 + 4 * w.numel() + 1
    (kept,) = state_folder().rglob("*.safetensors")
    assert (kept.parent.name, kept.stat().st_size < 4 * w.numel() + 200) == (SHA, True)

    server.sent.clear()
    assert rows_at(REPO, one).digest() == rows.digest()
    assert not [path for path in server.sent if "model.safetensors" in path]

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.requests.clear()
    assert rows_at(REPO, one).digest() == rows.digest()
    assert not server.requests
    with pytest.raises(DataUnavailableError, match=r"@step7: embed_out.weight was not fetched before, and HF_HUB_OFF"):
        rows_at(REPO, record((7,)))


@pytest.mark.parametrize("layout", ["shards", "pickles"])
def test_every_layout_of_checkpoint_is_read_on_the_hub(serve, trained, layouts, layout):
    """The index says which shard; of a pickle, whose tensors have no known places, all is fetched and one kept."""
    server = serve(layouts[layout] / "step512")

    rows = rows_at(f"hf://{REPO}", record((512,), revision=SHA))

    assert torch.equal(rows.read(0, VOCABULARY)[0], trained[1][1])
    assert len(server.fetched()) == {"shards": 2, "pickles": 1}[layout]
    assert [path.name for path in state_folder().rglob("*") if path.is_file() and path.parent.name == SHA] == [
        "embed_out.weight.safetensors"
    ]


def test_what_a_killed_fetch_left_is_swept_away(serve, layouts, monkeypatch):
    """Of whole pickles, gigabytes: of processes that are gone; those of others on a shared disk after a day."""
    import subprocess

    from saereg.registry import hub_tensors

    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    serve(layouts["pickles"] / "step512")
    folder = state_folder() / f"parameters/{REPO.replace('/', '--')}/0123"
    folder.mkdir(parents=True)
    here = hub_tensors._here()
    names = {
        "gone": f".w.{here}.{gone.pid}.bin",
        "running": f".w.{here}.{os.getpid()}.bin",
        "other": f".w.other.{gone.pid}.bin",
        "old": f".w.another.{gone.pid}.bin",
        "tensor": "w.safetensors",
    }
    for name in names.values():
        (folder / name).write_bytes(b"x")
    os.utime(folder / names["old"], (1, 1))
    rows_at(f"hf://{REPO}", record((512,), revision=SHA))
    assert {p.name for p in folder.iterdir()} == {names[name] for name in ("running", "other", "tensor")}
    assert not [p for p in state_folder().rglob(".*.bin") if p.parent != folder]


def test_what_the_hub_has_not_is_one_line(serve, tmp_path):
    """No such revision, no checkpoint, no such tensor, no repository's name."""
    large(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/README.md").write_text("nothing")
    server = serve(tmp_path / "model")
    with pytest.raises(PublishError, match="no such revision"):
        rows_at(REPO, record((7,)))
    with pytest.raises(WeightsError, match=r"model.safetensors: lm_head.weight: missing; it holds embed_out.weight"):
        rows_at(REPO, record((0,), revision="main", tensor="lm_head.weight"))
    server.root = tmp_path / "empty"
    with pytest.raises(DataUnavailableError, match="holds none of model"):
        rows_at(REPO, record((0,), revision="main", tensor="other"))
    with pytest.raises(DataUnavailableError, match="is neither a folder nor a repository on the Hub"):
        rows_at(tmp_path / "nowhere", record((0,)))


def test_every_kind_of_source_can_be_opened():
    """The table is complete."""
    assert set(opening.OPENERS) == {"activations", "tokens", "parameters", "synthetic"}
