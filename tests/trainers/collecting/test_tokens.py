"""Contexts of a text are those that are collected from, and can be read back without a tokenizer."""

import pytest
import torch
from safetensors.torch import load_file

from saereg.cli import run
from saereg.errors import UsageError
from saereg.registry.metrics.sources.contexts import ContextFile
from saereg.trainers.collecting.collect import collect
from saereg.trainers.collecting.tokens import TokensConfig, excluded_ids, write_tokens


@pytest.mark.parametrize("kind", ["neox", "bert"])
def test_contexts_are_those_of_a_collection(kind, request, texts, collecting, tmp_path):
    """Cut and framed the same; the rows that are left out are those that collecting drops."""
    from transformers import AutoModel

    folder = request.getfixturevalue(kind)
    done = write_tokens(TokensConfig(str(folder), (str(texts),), tmp_path / "tokens", 20, context_size=16))
    ids, kept = ContextFile(tmp_path / "tokens").read(0, 20)
    assert [len(context) for context in ids] == [16] * 20
    assert done.rows == sum(int(mask.sum()) for mask in kept) < done.tokens == 320
    assert done.evaluation("tokens")["excluded"] == ["special"]

    made = collect(collecting(tmp_path / "acts", model=str(folder), rows=done.rows))
    stored = torch.cat([load_file(tmp_path / "acts" / shard.path)["x"] for shard in made.sites["residual-1"].shards])
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(input_ids=torch.stack(ids).long(), output_hidden_states=True).hidden_states[2]
    assert torch.allclose(states[torch.stack(kept)], stored, atol=1e-5)


def test_tokens_are_left_out_by_name(neox, bert, texts, tmp_path):
    """By their ids, or by their place."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert)
    assert excluded_ids(tokenizer, ("sep", "cls")) == {2, 3}
    assert excluded_ids(tokenizer, ("special",)) == {0, 1, 2, 3}
    assert excluded_ids(tokenizer, ("none", "first")) == frozenset()
    with pytest.raises(UsageError, match="no token 'bos'"):
        excluded_ids(tokenizer, ("bos",))
    with pytest.raises(UsageError, match="token 'commas': write bos"):
        excluded_ids(tokenizer, ("commas",))
    done = write_tokens(
        TokensConfig(str(neox), (str(texts),), tmp_path / "tokens", 5, context_size=16, excluded=("first",))
    )
    assert (done.rows, done.tokens, done.excluded) == (75, 80, ("first",))


def test_the_command_says_what_to_write_into_the_manifest(neox, texts, tmp_path, capsys):
    """And a corpus that is too short how far it goes; no file is left then."""
    words = ["train", "tokens", "--model", str(neox), "--text", str(texts), "--context-size", "16", "--out"]
    assert run([*words, str(tmp_path / "held.safetensors"), "--contexts", "4", "--exclude", "none"]) == 0
    said = capsys.readouterr().out
    assert "64 rows of 64 tokens in 4 contexts" in said
    assert '"path": "evaluation/held.safetensors"' in said
    assert run([*words, str(tmp_path / "more"), "--contexts", "100000"]) == 2
    assert "of 100000: ask for fewer, or add text" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()
