"""Rows computed from tokens are the model's own, each in its place, whoever reads them."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from saereg.errors import DataUnavailableError, WeightsError
from saereg.registry.dictionary import Dictionary
from saereg.registry.kernels.plain import PlainRunner
from saereg.registry.metrics.engine import Wanted, total_sums
from saereg.registry.metrics.sources import tokens
from saereg.registry.metrics.sources.contexts import ContextFile, write_contexts
from saereg.registry.metrics.sources.opening import Surroundings, open_rows
from saereg.schemas.collection import Collection
from saereg.trainers.collecting.collect import CollectConfig, collect
from tests.registry.factories import checkpoint, config
from tests.registry.metrics.token_data import BOS, SEP, contexts_of, manifest_of, token_rows


def plain(folder, contexts, layer: int = 2) -> list[torch.Tensor]:
    """Return transformers' own hidden states of each context by itself."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        outputs = [model(input_ids=torch.tensor([ids]), output_hidden_states=True) for ids in contexts]
    return [output.hidden_states[layer][0] for output in outputs]


@pytest.mark.parametrize("kind", ["neox", "bert"])
def test_rows_are_the_hidden_states_of_each_context_in_its_place(kind, tiny, tmp_path):
    """Without BOS and separators; contexts of one token, that give no row, included."""
    contexts = contexts_of()
    rows = token_rows(tmp_path, tiny, contexts, dropped=(BOS, SEP), site=kind)
    kept = [[token not in (BOS, SEP) for token in context] for context in contexts]
    states = plain(tiny(kind), contexts)
    expected = torch.cat([state[torch.tensor(mask)] for state, mask in zip(states, kept, strict=True)])

    x, target = rows.read(0, rows.rows)
    assert target is x
    assert rows.rows == len(expected) < sum(map(len, contexts))
    assert rows.excluded == ("special",)
    assert torch.allclose(x, expected, atol=2e-5)


def test_rows_are_those_that_collecting_stores_and_so_is_their_explained_variance(tiny, tmp_path):
    """The same text, packed by the trainer, read back from shards."""
    (tmp_path / "text.txt").write_text(" ".join(f"word{i * i % 40}" for i in range(900)))
    settings_ = {"rows": 300, "context_size": 20, "batch_contexts": 8}
    folder = tmp_path / "acts"
    made = collect(CollectConfig(str(tiny("neox")), [str(tmp_path / "text.txt")], ["residual:1"], folder, **settings_))
    stored = torch.cat([load_file(folder / shard.path)["x"] for shard in made.sites["residual-1"].shards])
    assert Collection.read(folder / "collection.json").sites["residual-1"].site.module == "gpt_neox.layers.1"

    words = [2 + i * i % 40 for i in range(300)]
    rows = token_rows(tmp_path, tiny, [words[i : i + 20] for i in range(0, 300, 20)])
    runner = PlainRunner(Dictionary(checkpoint(config("standard", d_in=16, d_sae=24))))
    x, _ = rows.read(0, 300)
    assert torch.allclose(x, stored, atol=1e-5)

    moments = total_sums(runner, rows, Wanted()).moments["raw"]
    x_hat = runner.run(stored).x_hat.double()
    error, variance = (
        (x_hat - stored.double()).square().sum(),
        (stored.double() - stored.double().mean(0)).square().sum(),
    )
    assert moments.total_error / moments.total_variance == pytest.approx(float(error / variance), rel=1e-5)


@pytest.fixture(scope="module")
def opened(tiny, tmp_path_factory):
    """Rows of many contexts in windows of 64 tokens, and all of them at once."""
    patch = pytest.MonkeyPatch()
    patch.setattr(tokens, "WINDOW_TOKENS", 64)
    patch.setattr(tokens, "LEAST_WINDOW_TOKENS", 64)
    rows = token_rows(tmp_path_factory.mktemp("opened"), tiny, dropped=(BOS,))
    yield rows, rows.read(0, rows.rows)[0]
    patch.undo()


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_row_has_the_same_bits_whatever_is_read_with_it(opened, data):
    """Access is random, and a copy that another process takes along reads the same."""
    rows, everything = opened
    first = data.draw(st.integers(0, rows.rows - 1))
    count = data.draw(st.integers(1, rows.rows - first))

    assert torch.equal(rows.read(first, count)[0], everything[first : first + count])
    copy = pickle.loads(pickle.dumps(rows))
    assert copy == rows
    assert copy._window == {}
    assert torch.equal(copy.read(first, count)[0], everything[first : first + count])


def test_a_window_is_computed_once_while_reading_goes_on(opened, monkeypatch):
    """Reading block after block runs the model over each context once."""
    rows, everything = opened
    runs = []
    forward = tokens._forward
    monkeypatch.setattr(tokens, "_forward", lambda *a: runs.append(len(a[2])) or forward(*a))
    rows._window.clear()
    blocks = [rows.read(first, min(10, rows.rows - first))[0] for first in range(0, rows.rows, 10)]

    assert torch.equal(torch.cat(blocks), everything)
    assert sum(runs) == rows.file.contexts


def test_a_transcoder_has_targets_and_a_crosscoder_a_row_per_site(tiny, tmp_path):
    """At the input and output of a module, over layers, and over two models that read the same tokens."""
    sites = {
        "mlp-in": {"model": "neox", "module": "layers.1.mlp", "io": "input", "stream": "mlp"},
        "mlp-out": {"model": "neox", "module": "layers.1.mlp", "stream": "mlp"},
        "first": {"model": "neox", "module": "layers.0"},
    }
    between = token_rows(tmp_path, tiny, sites=sites, site="mlp-in", site_out="mlp-out")
    x, target = between.read(0, between.rows)
    mlp = between.model("neox").model.gpt_neox.layers[1].mlp
    assert between.has_target
    assert torch.allclose(mlp(x), target, atol=1e-5)

    crossed = token_rows(tmp_path, tiny, keys=["neox", "first", "gemma"], sites=sites)
    x, target = crossed.read(0, crossed.rows)
    assert target is x
    assert x.shape == (crossed.rows, 3, 16)
    for k, (kind, layer) in enumerate((("neox", 2), ("neox", 1), ("gemma", 2))):
        assert torch.allclose(x[:, k], torch.cat(plain(tiny(kind), contexts_of(), layer)), atol=2e-5)


def test_digests_name_what_decides_the_rows(tiny, tmp_path):
    """Tokens, weights, site and type of the model; not where they are."""
    one = token_rows(tmp_path / "a", tiny)
    assert token_rows(tmp_path / "b", tiny).digest() == one.digest()
    other = [
        token_rows(tmp_path / "c", tiny, contexts_of(seed=1)),
        token_rows(tmp_path / "d", tiny, dropped=(BOS,)),
        token_rows(tmp_path / "e", tiny, site="gemma"),
        token_rows(tmp_path / "f", tiny, model_dtype="bfloat16"),
    ]
    digests = {rows.digest() for rows in (one, *other)}
    assert len(digests) == 5
    assert all(len(digest) == 64 for digest in digests)


def test_rows_are_in_the_type_that_the_model_runs_in(tiny, tmp_path):
    """Which the manifest names: it moves every metric."""
    full, half = (token_rows(tmp_path / kind, tiny, model_dtype=kind) for kind in ("float32", "bfloat16"))
    x, y = full.read(0, 50)[0], half.read(0, 50)[0]

    assert (x.dtype, y.dtype) == (torch.float32, torch.bfloat16)
    assert 1e-4 < float((x - y.float()).norm() / x.norm()) < 0.05


def test_heads_are_told_apart_where_the_site_is_a_hook_z(tiny, tmp_path):
    """A dictionary of attention heads reads (heads, width)."""
    site = {"model": "neox", "module": "layers.1.attention.dense", "io": "input", "hook_name": "blocks.1.attn.hook_z"}
    rows = token_rows(tmp_path, tiny, sites={"z": site}, site="z")
    assert rows.read(0, 5)[0].shape == (5, 2, 8)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"tokens": torch.ones(4, dtype=torch.int32)}, "lengths: missing; the file holds tokens"),
        ({"tokens": torch.ones(4), "lengths": torch.tensor([4])}, r"tokens: expected shape \(n,\) and type I32 or I64"),
        (
            {"tokens": torch.ones(4, dtype=torch.int64), "lengths": torch.tensor([3])},
            "lengths: must be at least 1 each",
        ),
        ({"tokens": torch.ones(4, dtype=torch.int64), "lengths": torch.tensor([5, -1])}, "lengths: must be at least 1"),
        (  # 4, when int64 begins anew
            {"tokens": torch.ones(4, dtype=torch.int64), "lengths": torch.tensor([2**63 - 1, 2**63 - 1, 6])},
            "lengths: must be at least 1",
        ),
        (
            {"tokens": torch.full((4,), 64), "lengths": torch.tensor([4])},
            "token 0 has the id 64; tiny/neox has ids 0 to",
        ),
        ({"tokens": torch.full((4,), -1), "lengths": torch.tensor([4])}, "token 0 has the id -1"),
        (
            {"tokens": torch.ones(65, dtype=torch.int64), "lengths": torch.tensor([65])},
            "context 0 has 65 tokens, tiny/neox",
        ),
        (
            {"tokens": torch.ones(4, dtype=torch.int64), "lengths": torch.tensor([4]), "kept": torch.ones(3).bool()},
            "kept: has 3 entries for 4 tokens",
        ),
        (
            {"tokens": torch.ones(4, dtype=torch.int64), "lengths": torch.tensor([4]), "kept": torch.arange(4) > 0},
            "kept: 3 tokens become rows, the manifest says 4",
        ),
    ],
)
def test_a_file_that_is_not_what_is_said_is_one_line(tensors, problem, tiny, tmp_path):
    """Before the model runs."""
    rows = token_rows(tmp_path, tiny, [[5] * len(tensors["tokens"])])
    save_file(tensors, tmp_path / "evaluation" / "tokens.safetensors")
    with pytest.raises(WeightsError, match=problem):
        rows.read(0, 1)


@pytest.mark.parametrize(
    ("settings_", "dropped", "problem"),
    [
        ({"rows": 239}, (), "208 tokens become rows, the manifest says 239"),
        ({"excluded": ["bos"]}, (), "the file leaves no token out, `excluded` of the evaluation names bos"),
        ({"excluded": []}, (BOS,), "the file leaves tokens out, `excluded` of the evaluation names none"),
        ({"preprocess": "center"}, (), "cannot have `preprocess` 'center': store them"),
        ({"site": "nowhere"}, (), "the manifest has no site 'nowhere'"),
        ({"site": "hook"}, (), "site blocks.1.hook_resid_post has no `module`"),
        ({"site": "gone"}, (), "tiny/neox has no module 'layers.8'"),
        ({"site": "weights"}, (), "site 'weights' is a parameter"),
    ],
)
def test_an_evaluation_that_cannot_be_is_one_line(settings_, dropped, problem, tiny, tmp_path):
    """What the manifest says of it is held against the file and the model."""
    sites = {
        "hook": {"model": "neox", "hook_name": "blocks.1.hook_resid_post"},
        "gone": {"model": "neox", "module": "layers.8"},
        "weights": {"model": "neox", "stream": "parameter", "parameter": "W_U"},
    }
    with pytest.raises(WeightsError, match=problem):
        token_rows(tmp_path, tiny, dropped=dropped, sites=sites, **settings_).read(0, 1)


def test_a_model_that_is_not_here_is_asked_for(tiny, tmp_path):
    """The line says how to name it; opening alone needs no model."""
    count = write_contexts(tmp_path / "evaluation" / "tokens.safetensors", contexts_of())
    manifest = manifest_of({"rows": count, "site": "neox"})
    rows = open_rows(manifest.evaluations["held-out"], Surroundings(tmp_path, manifest, (16,)))
    with pytest.raises(DataUnavailableError, match="--model neox=WHERE"):
        rows.read(0, 1)


def test_contexts_come_back_and_the_first_token_may_be_left_out_whatever_it_is(tmp_path):
    """As dictionary_learning does with BOS."""
    contexts = [[5, 6, 5], [7], [8, 5]]
    assert write_contexts(tmp_path / "a", contexts, dropped=(5,), first_dropped=True) == 1
    ids, kept = ContextFile(tmp_path / "a").read(0, 3)
    assert [part.tolist() for part in ids] == contexts
    assert [part.tolist() for part in kept] == [[False, True, False], [False], [False, False]]
    assert write_contexts(tmp_path / "b", contexts) == 6
    assert not ContextFile(tmp_path / "b").masked
    for bad in ([], [[]], [[2**31]], [[-1]]):
        with pytest.raises(WeightsError):
            write_contexts(tmp_path / "c", bad)
    assert not (tmp_path / "c").exists()
