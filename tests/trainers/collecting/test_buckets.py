"""Lengths are drawn from buckets, the same wherever a run resumes, and padding changes no activation."""

import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from saereg.cli import cli
from saereg.errors import UsageError
from saereg.registry.metrics.sources.contexts import ContextFile
from saereg.schemas.collection import Collection, Cursor
from saereg.schemas.site import TokenPolicy
from saereg.trainers.collecting.buckets import Limits, parse_bucket, plan_of
from saereg.trainers.collecting.collect import collect
from saereg.trainers.collecting.packing import Framing, batches

OLMO = ((512, 2048), (3500, 5000), (7000, 8192))
TINY = ((5, 9), (20, 24), (40, 63))

DRAWN = [(4928, 4836, 4985), (734, 762, 795, 792, 819, 882, 845, 835, 783), (4714, 4714, 4802)]


class StoppedError(Exception):
    pass


def policy(buckets=OLMO, seed=0) -> TokenPolicy:
    return TokenPolicy(bos=False, packing="mixed", buckets=buckets, seed=seed)


@pytest.mark.parametrize("limits", [Limits(100, 16384), Limits(4), Limits(1000, 65536)])
def test_each_bucket_gets_its_share_of_the_tokens_however_many_share_a_batch(limits):
    plan, tokens, contexts, padded, extremes = plan_of(policy(), limits), Counter(), Counter(), 0, set()
    for number in range(8000):
        batch = plan(number)
        (bucket,) = {next(b for b in OLMO if b[0] <= length <= b[1]) for length in batch}
        assert len(batch) <= limits.contexts
        assert limits.tokens is None or len(batch) * max(batch) <= limits.tokens
        tokens[bucket] += sum(batch)
        contexts[bucket] += len(batch)
        padded += max(batch) * len(batch)
        extremes |= set(batch) & {512, 2048, 3500, 5000, 7000, 8192}
    total = sum(tokens.values())
    assert all(abs(count / total - 1 / 3) < 0.03 for count in tokens.values())
    assert all(abs(tokens[b] / contexts[b] - sum(b) / 2) < 0.02 * sum(b) / 2 for b in OLMO)  # all lengths alike
    assert len(extremes) == 6
    assert total / padded > 0.95


def test_the_lengths_of_a_batch_hang_on_seed_and_number_alone():
    whole = [plan_of(policy(TINY), Limits(3))(number) for number in range(20)]
    backwards = [plan_of(policy(TINY), Limits(3))(number) for number in reversed(range(20))]
    assert backwards[::-1] == whole
    assert [plan_of(policy(TINY, seed=1), Limits(3))(number) for number in range(20)] != whole
    # written down, so that no version of Python or of this code draws others unnoticed
    assert [plan_of(policy(seed=7), Limits(9, 16384))(number) for number in range(3)] == DRAWN


def test_a_bucket_of_few_lengths_has_them_all():
    plan = plan_of(policy(((3, 5), (9, 9))), Limits(2))
    assert {length for number in range(200) for length in plan(number)} == {3, 4, 5, 9}


@pytest.mark.parametrize("separator", [None, 7])
def test_reading_from_any_batch_gives_the_rest(separator):
    texts = ["abcde" * 9, "", "f" * 300, "ghi", "", "jklmnopq" * 70, "r" * 200]
    frame = Framing((1,), (2,), separator, frozenset({1, 2}), policy(TINY))
    plan = plan_of(frame.policy, Limits(3, 130))

    def read(start):
        def letters(text, **_):
            return {"input_ids": [ord(letter) for letter in text]}

        return list(batches(iter(texts), letters, frame, start=start, plan=plan))

    whole = read(Cursor())
    assert len(whole) > 8
    assert len({len(context) for batch in whole for context in batch.contexts}) > 8
    for number, batch in enumerate(whole):
        assert read(batch.start) == whole[number:]


def alone(folder: Path, contexts, index: int) -> torch.Tensor:
    """Run each context by itself: no other, no padding, no mask."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    special, rows = torch.tensor(tokenizer.all_special_ids), []
    for context in contexts:
        ids = torch.tensor([context])
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states[index]
        rows.append(states[~torch.isin(ids, special)])
    return torch.cat(rows)


@pytest.fixture(scope="module")
def zero(neox, tmp_path_factory) -> Path:
    """The decoder with a tokenizer in which id 0, of which padding is, is a word and no special token."""
    folder = tmp_path_factory.mktemp("zero") / "tiny-neox"
    shutil.copytree(neox, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["[UNK]"], vocabulary["word39"] = vocabulary["word39"], 0
    for token in tokenizer["added_tokens"]:
        token["id"] = vocabulary[token["content"]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.parametrize("kind", ["zero", "bert"])
def test_padding_changes_no_activation_and_becomes_no_row(kind, request, texts, collecting, tmp_path):
    folder = request.getfixturevalue(kind)
    settings = {"model": str(folder), "buckets": TINY, "batch_tokens": 320, "sites": ("residual:0", "residual:1")}
    found = collect(collecting(tmp_path / "c", **settings))
    assert found.tokens.packing == "mixed"
    assert (found.tokens.buckets, found.tokens.seed, found.tokens.context_size) == (TINY, 0, None)
    assert found.tokens.excluded == ("special", "pad")
    contexts = mixed_contexts(folder, texts, found)
    assert len({len(context) for context in contexts}) > 10
    for layer in (0, 1):
        shards = found.sites[f"residual-{layer}"].shards
        rows = torch.cat([load_file(tmp_path / "c" / shard.path)["x"] for shard in shards])
        expected = alone(folder, contexts, layer + 1)[:1000]
        assert rows.shape == expected.shape
        assert float((rows - expected).abs().max()) < 1e-5


def test_token_files_have_contexts_of_mixed_lengths_too(neox, texts, tmp_path):
    words = ["--model", neox, "--text", texts, "--out", tmp_path / "t.safetensors", "--contexts", 6]
    buckets = [word for low, high in TINY for word in ("--bucket", f"{low}:{high}")]
    run = CliRunner().invoke(cli, ["train", "tokens", *map(str, words), *buckets], catch_exceptions=False)
    assert run.exit_code == 0
    lengths = ContextFile(tmp_path / "t.safetensors").lengths.tolist()
    assert lengths == [plan_of(policy(TINY), Limits(1))(number)[0] for number in range(6)]


def mixed_contexts(folder: Path, texts: Path, found: Collection) -> list[list[int]]:
    """Cut the text by the plainest means: all documents one behind the other, then length by length."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = tokenizer.encode("", add_special_tokens=True)
    stream: list[int] = []
    for path in sorted(texts.iterdir()):
        separator = tokenizer.sep_token_id if ends else tokenizer.eos_token_id
        stream += [*tokenizer.encode(path.read_text(), add_special_tokens=False), separator]
    plan, contexts = plan_of(found.tokens, Limits(found.batch_contexts, found.batch_tokens)), []
    for number in range(100):
        for length in plan(number):
            content = length - len(ends)
            if len(stream) >= content:
                contexts.append([*ends[:1], *stream[:content], *ends[1:]])
                stream = stream[content:]
    return contexts


@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_stopped_run_ends_with_the_same_bytes(stop_at, collecting, tmp_path):
    def stop(*_: int) -> None:
        calls.append(1)
        if len(calls) == stop_at:
            raise StoppedError

    calls: list[int] = []
    settings = {"buckets": TINY, "batch_tokens": 200, "shard_rows": 170, "rows": 900, "seed": 3}
    collect(collecting(tmp_path / "whole", **settings))
    with pytest.raises(StoppedError):
        collect(collecting(tmp_path / "cut", **settings), stop)
    collect(collecting(tmp_path / "cut", **settings))
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*"))
    assert len(files) == 14
    for file in files:
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    with pytest.raises(UsageError, match=r"tokens\.seed is 3 there and 4 here"):
        collect(collecting(tmp_path / "cut", **settings | {"seed": 4}))
    with pytest.raises(UsageError, match=r"batch_tokens is 200 there and 201 here"):
        collect(collecting(tmp_path / "cut", **settings | {"batch_tokens": 201}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buckets": ((5, 9), (40, 65))}, "bucket 40:65: tiny-neox has 64 positions"),
        ({"buckets": ((1, 9),), "bos": True}, "bucket 1:9: 1 of 1 are special tokens"),
        ({"batch_tokens": 15}, "a batch of 15 tokens holds no context of 16: allow more batch tokens"),
        ({"batch_tokens": 0}, "batch tokens must be at least 1, not 0"),
    ],
)
def test_lengths_that_do_not_fit_are_one_line(changes, message, collecting, tmp_path):
    with pytest.raises(UsageError) as caught:
        collect(collecting(tmp_path / "c", **changes))
    assert str(caught.value) == message
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("text", ["512", "9:5", "0:4", "a:b", "1:2:3", ":"])
def test_a_bucket_is_two_lengths(text):
    with pytest.raises(UsageError, match=r"write SHORTEST:LONGEST in tokens, such as 512:2048$"):
        parse_bucket(text)
    assert parse_bucket("512:2048") == (512, 2048)


def test_contexts_of_one_length_share_a_batch_up_to_the_tokens_allowed():
    frame = Framing((), (), None, frozenset(), TokenPolicy(bos=False, context_size=4))
    plan = plan_of(frame.policy, Limits(32, 11))
    found = batches(
        iter(["x" * 40]), lambda text, **_: {"input_ids": [1] * len(text)}, frame, start=Cursor(), plan=plan
    )
    assert [len(batch.contexts) for batch in islice(found, 3)] == [2, 2, 2]
