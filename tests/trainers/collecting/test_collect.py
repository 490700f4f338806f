"""Activations are the model's own, row by row, whatever happens on the way."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saereg.errors import UsageError
from saereg.schemas.collection import Collection
from saereg.trainers.collecting.collect import collect


class StoppedError(Exception):
    pass


def rows_of(folder: Path, site: str) -> torch.Tensor:
    collection = Collection.read(folder / "collection.json")
    return torch.cat([load_file(folder / shard.path)["x"] for shard in collection.sites[site].shards])


def expected_rows(model_folder: Path, texts: Path, index: int, context: int, batch: int) -> torch.Tensor:
    """Compute the rows by the plainest means: transformers' own hidden states, its own tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(model_folder), AutoModel.from_pretrained(model_folder).eval()
    ends = tokenizer.encode("", add_special_tokens=True)
    separator = tokenizer.sep_token_id if ends else tokenizer.eos_token_id
    stream = []
    for path in sorted(texts.iterdir()):
        stream += [*tokenizer.encode(path.read_text(), add_special_tokens=False), separator]
    content = context - len(ends)
    contexts = [[*ends[:1], *stream[i : i + content], *ends[1:]] for i in range(0, len(stream) - content + 1, content)]
    rows = []
    for first in range(0, len(contexts), batch):
        ids = torch.tensor(contexts[first : first + batch])
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states[index]
        rows.append(states[~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))])
    return torch.cat(rows)


@pytest.mark.parametrize("kind", ["neox", "bert"])
def test_rows_are_the_hidden_states_of_the_same_tokens_without_special_ones(kind, request, texts, collecting, tmp_path):
    folder = request.getfixturevalue(kind)
    found = collect(collecting(tmp_path / "c", model=str(folder), sites=("residual:0", "residual:1")))
    assert found.rows == 1000
    for layer in (0, 1):
        expected = expected_rows(folder, texts, layer + 1, context=16, batch=8)[:1000]
        assert torch.equal(rows_of(tmp_path / "c", f"residual-{layer}"), expected)


def test_every_site_has_exactly_the_rows_asked_for(collecting, tmp_path):
    found = collect(collecting(tmp_path / "c", sites=("residual:0", "mlp:1", "attention:2"), rows=701))
    for key, site in found.sites.items():
        assert [shard.rows for shard in site.shards] == [300, 300, 101]
        assert rows_of(tmp_path / "c", key).shape == (701, site.d_in)


def test_the_last_layer_of_a_pre_norm_model_has_no_hidden_states_index(collecting, tmp_path):
    found = collect(collecting(tmp_path / "c", sites=("residual:1", "residual:2"), rows=50))
    inner, last = (found.sites[key].site for key in ("residual-1", "residual-2"))
    assert (inner.hidden_states_index, inner.hook_name, inner.reason) == (2, "blocks.1.hook_resid_post", None)
    assert (last.hidden_states_index, last.hook_name) == (None, "blocks.2.hook_resid_post")
    assert last.reason == "hidden_states[3] is after the final norm"
    assert last.module == "gpt_neox.layers.2"
    assert found.model.final_norm


def test_a_post_norm_encoder_has_an_index_for_its_last_layer_and_no_transformer_lens_hook(collecting, bert, tmp_path):
    found = collect(collecting(tmp_path / "c", model=str(bert), sites=("residual:2", "attention:0"), rows=50))
    last, attention = (found.sites[key].site for key in ("residual-2", "attention-0"))
    assert (last.hidden_states_index, last.hook_name) == (3, None)
    assert attention.module == "encoder.layer.0.attention.output.dense"
    assert not found.model.final_norm
    assert not found.tokens.bos
    assert found.tokens.separator == "sep"


def test_branches_are_named_as_in_transformer_lens_where_they_add_up(collecting, tmp_path):
    found = collect(collecting(tmp_path / "c", sites=("mlp:1", "attention:1"), rows=50))
    assert found.sites["mlp-1"].site.hook_name == "blocks.1.hook_mlp_out"
    assert found.sites["attention-1"].site.hook_name == "blocks.1.hook_attn_out"
    assert found.sites["mlp-1"].site.hidden_states_index is None


def test_a_module_can_be_named(collecting, tmp_path):
    found = collect(collecting(tmp_path / "c", sites=("module=gpt_neox.layers.1.mlp.dense_h_to_4h",), rows=50))
    site = found.sites["gpt_neox.layers.1.mlp.dense_h_to_4h"]
    assert (site.d_in, site.site.layer, site.site.stream, site.site.hook_name) == (32, 1, "mlp", None)


@pytest.mark.parametrize("stop_at", [1, 3, 5, 8])
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(stop_at, collecting, collection, tmp_path):
    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == stop_at:
            raise StoppedError

    calls: list[int] = []
    config = collecting(tmp_path / "c", rows=2000)
    with pytest.raises(StoppedError):
        collect(config, stop)
    (config.out / "residual-1").mkdir(exist_ok=True)
    (config.out / "residual-1" / ".shard-00003.safetensors.1.tmp").write_bytes(b"half of a shard")
    collect(config)
    files = sorted(path.relative_to(collection) for path in collection.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(config.out) for path in config.out.rglob("*") if path.is_file())
    for file in files:
        assert (config.out / file).read_bytes() == (collection / file).read_bytes(), file


def test_a_finished_collection_is_returned_at_once(collecting, collection):
    calls = []
    found = collect(collecting(collection, rows=2000), lambda *numbers: calls.append(numbers))
    assert found.cursor is None
    assert calls == []


def test_progress_counts_rows(collecting, tmp_path):
    calls = []
    collect(collecting(tmp_path / "c", rows=200), lambda *numbers: calls.append(numbers))
    assert calls[-1] == (200, 200)
    assert calls == sorted(calls)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"rows": 2001}, "target_rows is 2000 there and 2001 here"),
        ({"dtype": "float16"}, "dtype is float32 there and float16 here"),
        ({"context_size": 17}, "tokens.context_size is 16 there and 17 here"),
        ({"batch_contexts": 4}, "batch_contexts is 8 there and 4 here"),
        ({"sites": ("residual:0",)}, "sites is ['residual-1'] there and ['residual-0'] here"),
    ],
)
def test_another_configuration_in_the_same_folder_is_refused(changes, difference, collecting, collection):
    with pytest.raises(UsageError) as caught:
        collect(collecting(collection, **({"rows": 2000} | changes)))
    path = collection / "collection.json"
    assert str(caught.value) == f"{path} is of another configuration: {difference}; collect into a new folder"


def test_a_changed_corpus_is_refused(collecting, texts, tmp_path):
    copy = tmp_path / "texts"
    shutil.copytree(texts, copy)
    config = collecting(tmp_path / "c", corpus=(str(copy),))

    def stop(done: int, total: int) -> None:
        if done > 600:
            raise StoppedError

    with pytest.raises(StoppedError):
        collect(config, stop)
    (copy / "00.txt").write_text("word1 word2")
    with pytest.raises(UsageError, match="the corpus has changed since collection began"):
        collect(config)


def test_a_damaged_shard_is_refused(collecting, tmp_path):
    config = collecting(tmp_path / "c", rows=400)
    collect(config)
    shard = tmp_path / "c" / "residual-1" / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(UsageError, match=r"shard-00000\.safetensors is missing or damaged"):
        collect(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": ("residual:7",)}, "layer 7: tiny-neox has layers 0 to 2"),
        (
            {"sites": ("resid:1",)},
            "site 'resid:1': write residual:LAYER, mlp:LAYER, attention:LAYER, mlp_in:LAYER or module=PATH",
        ),
        (
            {"sites": ("module=gpt_neox.layers.1.ffn",)},
            "tiny-neox has no module 'gpt_neox.layers.1.ffn'; gpt_neox.layers.1 has: input_layernorm, "
            "post_attention_layernorm, post_attention_dropout, post_mlp_dropout, attention, mlp",
        ),
        ({"sites": ()}, "no sites: give at least one, such as residual:2"),
        ({"rows": 0}, "rows must be at least 1, not 0"),
        ({"context_size": 65}, "context size 65: tiny-neox has 64 positions"),
        ({"corpus": ("builtin:pose",)}, "unknown corpus 'builtin:pose'; did you mean 'builtin:prose'?"),
        ({"corpus": ()}, "no corpus: give a file, a folder, or one of builtin:prose, builtin:code"),
    ],
)
def test_mistakes_are_named_in_one_line(changes, message, collecting, tmp_path):
    with pytest.raises(UsageError) as caught:
        collect(collecting(tmp_path / "c", **changes))
    assert str(caught.value) == message
    assert not (tmp_path / "c").exists()


def test_a_corpus_that_is_too_short_says_how_many_rows_it_gave(collecting, texts, tmp_path):
    with pytest.raises(UsageError, match=r"^the corpus ends after \d+ rows of 1000: ask for fewer rows, or add text$"):
        collect(collecting(tmp_path / "c", corpus=(str(texts / "03.txt"), str(texts / "04.txt"))))


def test_a_missing_model_is_one_line(collecting, tmp_path):
    with pytest.raises(UsageError, match="cannot be loaded as a model") as caught:
        collect(collecting(tmp_path / "c", model=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_overflow_in_float16_names_site_and_row(neox, collecting, tmp_path):
    from transformers import GPTNeoXForCausalLM

    folder = tmp_path / "loud"
    shutil.copytree(neox, folder)
    model = GPTNeoXForCausalLM.from_pretrained(neox)
    model.gpt_neox.embed_in.weight.data[10] *= 1e6
    model.save_pretrained(folder)
    with pytest.raises(UsageError, match=r"^site residual-1, row \d+: a value is not finite in float16; collect with "):
        collect(collecting(tmp_path / "c", model=str(folder), dtype="float16"))


def test_float16_rows_are_the_rounded_ones(collecting, collection, tmp_path):
    collect(collecting(tmp_path / "c", rows=500, dtype="float16"))
    assert torch.equal(rows_of(tmp_path / "c", "residual-1"), rows_of(collection, "residual-1")[:500].half())


def test_bos_can_be_asked_for(collecting, tmp_path):
    found = collect(collecting(tmp_path / "c", rows=100, bos=True))
    assert found.tokens.bos
