"""The text that is collected beside activations is the text that they are of, and goes with held-out rows."""

import json

import pytest
import torch
from safetensors.torch import load_file

from saereg.cli import run
from saereg.errors import UsageError
from saereg.registry.build import build
from saereg.registry.features.views import view_artifact
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.collected import text_of
from saereg.registry.metrics.sources.contexts import write_contexts
from saereg.registry.metrics.sources.texts import AFTER, BEFORE, TextFile
from saereg.registry.release import open_release
from saereg.schemas.features import FeatureView
from saereg.schemas.manifest import ReleaseInfo
from saereg.trainers.collecting.collect import collect
from saereg.trainers.rows.activations import Activations, read_collection
from saereg.trainers.runs.held_out import write_held_out_text
from saereg.trainers.saelens.train import train

INFO = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")


@pytest.mark.parametrize("shape", [{}, {"buckets": ((4, 9), (20, 40)), "batch_tokens": 90, "bos": True}])
def test_the_tokens_of_every_row_give_its_activations(shape, collecting, neox, tmp_path):
    """The model, run over the contexts of each shard, gives the rows that the text says: all of them, each once."""
    from transformers import AutoModelForCausalLM

    collection = collect(collecting(tmp_path, rows=300, shard_rows=110, **shape))
    model = AutoModelForCausalLM.from_pretrained(neox)
    x = Activations(tmp_path, collection, "residual-1").read(0, 300)
    text, seen = text_of(tmp_path, collection), set()
    with torch.no_grad():
        for part in text.parts(0, 300):
            ends = part.lengths.cumsum(0).tolist()
            for end, length in zip(ends, part.lengths.tolist(), strict=True):
                ids, rows = part.tokens[end - length : end], part.rows[end - length : end]
                inside = (rows >= 0) & (rows < 300)
                found = model(ids[None], output_hidden_states=True).hidden_states[2][0]
                assert torch.allclose(found[inside], x[rows[inside]], atol=1e-4)
                seen |= set(rows[inside].tolist())
    assert seen == set(range(300))


def test_pieces_are_those_of_the_tokenizer(collection, neox):
    """Entry by entry, with a space before a word; special tokens as they are written."""
    vocabulary = json.loads((neox / "tokenizer.json").read_text())["model"]["vocab"]
    pieces = text_of(collection, read_collection(collection)).pieces
    assert pieces[vocabulary["word3"]] == b" word3"
    assert pieces[vocabulary["<eos>"]] == b"<eos>"
    assert len(pieces) == len(vocabulary)


def test_held_out_rows_take_their_text_along_and_no_more(collection, tmp_path):
    """The last 100 rows: their tokens, and of the text before them BEFORE tokens at most."""
    rows = tmp_path / "rows.safetensors"
    rows.write_bytes(b"")
    text = text_of(collection, read_collection(collection))
    write_held_out_text(rows, text, range(1900, 2000))
    file = TextFile(tmp_path / "rows.text.safetensors")
    (part,) = file.parts()
    assert sorted(set(part.rows.tolist()) - {-1}) == list(range(100))
    (whole,) = (part for part in text.parts(1900, 1901) if 1900 in part.rows)
    place = int((whole.rows == 1900).nonzero()[0])
    assert file.pieces[file.window(0).tokens[file.window(0).peak]] == text.pieces[int(whole.tokens[place])]
    assert len(part.tokens) < 100 + BEFORE + AFTER + 2 * len(part.lengths)


def test_a_text_that_changed_is_refused_where_a_run_goes_on(collecting, tmp_path):
    """As a shard of activations is."""

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(collecting(tmp_path, rows=200, shard_rows=40), stop)
    (tmp_path / "text/shard-00000.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"shard-00000\.safetensors is missing or damaged"):
        collect(collecting(tmp_path, rows=200, shard_rows=40))


def test_a_collection_of_an_earlier_version_goes_on_without_a_text(collecting, tmp_path):
    """Its document has none: shards stay as they were begun, and none is of half of the rows."""

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(collecting(tmp_path, rows=200, shard_rows=40), stop)
    document = json.loads((tmp_path / "collection.json").read_text())
    assert document.pop("texts")["shards"]
    (tmp_path / "collection.json").write_text(json.dumps(document))
    collection = collect(collecting(tmp_path, rows=200, shard_rows=40))
    assert (collection.rows, collection.texts) == (200, None)
    assert text_of(tmp_path, collection) is None


@pytest.fixture
def built(training, tmp_path):
    """A release with one trained dictionary, and its evidence."""
    train(training("topk"), tmp_path / "release", tmp_path / "checkpoints", info=INFO)
    build(tmp_path / "release")
    return tmp_path / "release"


@pytest.mark.slow
def test_from_text_to_features(built, collection, capsys):
    """Collect, train, build, look: the peak of every context is the token of its row, and its activation the SAE's."""
    release = open_release(built)
    (path,) = (built / "evaluation").glob("*.text.safetensors")
    data = path.with_name(path.name.replace(".text", ""))
    assert TextFile(path).data_sha256 == sha256_of(data)
    view = view_artifact(release, "residual-1/topk").view
    f = release["residual-1/topk"].load().encode(load_file(data)["x"].float())
    text, tokens = text_of(collection, read_collection(collection)), {}
    for part in text.parts(1700, 2000):
        tokens |= dict(zip(part.rows.tolist(), part.tokens.tolist(), strict=True))
    assert view.text_note is None
    for latent in view.latents:
        for context in latent.contexts:
            assert context.tokens[context.peak].encode() == text.pieces[tokens[1700 + context.row]]
            assert context.activation == pytest.approx(float(f[context.row, latent.index]), rel=1e-4)
    assert run(["features", f"{built}:residual-1/topk", "--format", "json"]) == 0
    assert FeatureView.from_text(capsys.readouterr().out) == view


@pytest.mark.slow
def test_tokens_that_a_model_reads_have_its_text_and_logits(built, neox, capsys):
    """An evaluation of tokens, with the model at hand: its tokenizer, its rows, its unembedding."""
    contexts = [[1, 2 + number, 9, 10, 11, 12 + number] for number in range(20)]
    rows = write_contexts(built / "evaluation/tokens.safetensors", contexts, dropped={1})
    manifest = json.loads((built / "manifest.json").read_text())
    manifest["evaluations"]["read"] = {
        "source": "tokens", "path": "evaluation/tokens.safetensors", "rows": rows, "site": "residual-1",
        "excluded": ["special"],
    }  # fmt: skip
    (built / "manifest.json").write_text(json.dumps(manifest))
    words = ["features", f"{built}:residual-1/topk", "--evaluation", "read", "--format", "json"]
    assert run([*words, "--model", f"tiny-neox={neox}"]) == 0
    view = FeatureView.from_text(capsys.readouterr().out)
    assert (view.rows, view.text_note, view.readout) == (rows, None, "logits")
    latent = view.latents[-1]
    assert len(latent.promoted) == len(latent.suppressed) == 10
    assert latent.promoted[0].token.startswith((" word", "<eos>", "⟨"))
    for context in latent.contexts:
        ids = contexts[context.row // 5]
        assert context.tokens == tuple("<eos>" if number == 1 else f" word{number - 2}" for number in ids)
        assert context.peak == context.row % 5 + 1
