"""Fast runners give what dictionaries give: the same active latents, and the same reconstructions up to rounding."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from saereg.errors import UsageError, WeightsError
from saereg.registry.architectures.linear import value_and_gate, vectors_of
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.kernels import pairs
from saereg.registry.kernels.active import Active, active_of
from saereg.registry.kernels.matrices import Loaded
from saereg.registry.kernels.plain import PlainRunner
from saereg.registry.kernels.plan import Plan, slab_plan
from saereg.registry.kernels.ranked import RankedRunner
from saereg.registry.kernels.running import fast_runner, has_fast_path, runner_of
from saereg.registry.kernels.scratch import Scratch
from saereg.registry.kernels.slabs import SlabRunner
from saereg.registry.metrics.moments import moments_of
from saereg.registry.semantics import row_shape, semantics_of
from saereg.schemas.cfg import INFERENCE
from saereg.schemas.cfg_training import TRAINING
from tests.registry import factories
from tests.registry.factories import D_IN, D_SAE, PREPROCESS, relative

PER_ROW = ("layer_norm", "constant_norm_rescale")

CONFIGS = (
    {name: cfg for name, cfg in factories.EVERY_CONFIG.items() if cfg.architecture != "temporal"}
    | {
        f"{name}_{norm}_{subtracts}": factories.config(name, normalize_activations=norm, apply_b_dec_to_input=subtracts)
        for name in INFERENCE
        if name != "temporal"
        for norm in (*PER_ROW, "expected_average_only_in")
        for subtracts in ((False,) if "transcoder" in name else (False, True))
    }
    | {
        f"training_{name}_rescaled": factories.training_config(name, rescale_acts_by_decoder_norm=True)
        for name in TRAINING
        if "topk" in name
    }
    | {f"{name}_rescaled": factories.config(name, rescale_acts_by_decoder_norm=True) for name in ("topk", "abstopk")}
    | {
        f"crosscoder_{name}_{preprocess}": factories.crosscoder_config(name, preprocess)
        for name in factories.CROSSCODERS
        for preprocess in PREPROCESS
    }
    | {
        f"native_{name}_{kind}_{preprocess}": factories.native_config(name, kind, preprocess)
        for name in factories.NATIVE
        for kind, preprocess in (*(("sae", p) for p in (*PREPROCESS, *PER_ROW)), ("transcoder", "layer_norm"))
    }
)
"""Every architecture, crosscoder and dialect, with every normalization and switch that it knows."""

FAST = [name for name, cfg in CONFIGS.items() if has_fast_path(cfg)]

PLAIN_FAST = [name for name in FAST if name in factories.EVERY_CONFIG]


def rows(cfg, count=13, seed=1):
    """Return random rows of the shape that a runner reads."""
    return factories.rows(count, *row_shape(cfg), seed=seed)


def small(dictionary, tile=5, slab=7):
    """Return a fast runner that needs several tiles and slabs for anything."""
    runner = fast_runner(Loaded(dictionary))
    k = int(semantics_of(dictionary.cfg).k or 1)
    if semantics_of(dictionary.cfg).activation == "groupmax":
        slab = D_SAE // k * 2
    return replace(runner, plan=Plan(64, tile, slab, slab))


def same(found: Active, expected: Active, within=1e-6):
    """Check every count, and the sizes up to rounding."""
    for name in ("counts", "fired", "at_sources", "fired_at_sources"):
        left, right = getattr(found, name), getattr(expected, name)
        assert (left is None) == (right is None), name
        assert left is None or torch.equal(left, right), name
    assert (found.positive, found.per_source) == (expected.positive, expected.per_source)
    assert (found.sizes.shape, found.sizes.dtype) == (expected.sizes.shape, torch.float64)
    assert torch.allclose(found.sizes, expected.sizes, rtol=within, atol=0.0)


def agrees(runner, dictionary, x, within):
    """Check what a runner makes of rows against the dictionary itself."""
    f, found, exact = dictionary.encode(x), runner.run(x), PlainRunner(dictionary).run(x)
    same(found.active, active_of(f), within)
    assert relative(found.x_hat, dictionary.decode(f, x)) < within
    assert relative(found.x_in, exact.x_in) < within
    assert relative(found.x_hat_in, exact.x_hat_in) < within
    assert found.x_hat.shape == exact.x_hat.shape
    assert (found.x_hat_in is found.x_hat) == (exact.x_hat_in is exact.x_hat)


@pytest.mark.parametrize("share", [-1.0, 2.0], ids=["by_products", "by_sums"])
def test_every_dictionary_runs_as_its_own_encode_and_decode(share, monkeypatch):
    """In float64 nothing lies within rounding of a cut: active sets and counts are equal, outputs to 1e-12."""
    monkeypatch.setitem(pairs.DENSE_FROM, "cpu", share)
    for name, cfg in CONFIGS.items():
        dictionary = Dictionary(factories.checkpoint(cfg)).to(dtype=torch.float64)
        runner = small(dictionary) if has_fast_path(cfg) else runner_of(dictionary)
        try:
            agrees(runner, dictionary, rows(cfg), 1e-12)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_float32_outputs_agree_to_its_rounding():
    """The order of additions differs, and nothing else; as many rows and latents at once as there are."""
    for name in FAST:
        dictionary = Dictionary(factories.checkpoint(CONFIGS[name]))
        x = rows(CONFIGS[name])
        assert relative(runner_of(dictionary).run(x).x_hat, dictionary(x)) < 1e-5, name


def whole_numbers(cfg, seed=0):
    """Return a dictionary of small whole numbers: products are exact, and meet thresholds and zero all the time."""
    generator = torch.Generator().manual_seed(seed)
    checkpoint = factories.checkpoint(cfg, seed)
    for name, tensor in checkpoint.weights.items():
        if name not in ("input_mean", "input_scale"):
            tensor.copy_(torch.randint(-2, 3, tensor.shape, generator=generator) * (4 if "threshold" in name else 1))
    checkpoint.weights["W_dec"][1] = 0  # a decoder norm of zero
    return Dictionary(checkpoint)


ON_THE_CUT = {
    name: cfg
    for name, cfg in CONFIGS.items()
    if has_fast_path(cfg)
    and semantics_of(cfg).activation not in ("topk", "abstopk", "groupmax")
    and semantics_of(cfg).normalization.statistics == "none"
} | {
    "negative_norms": factories.crosscoder_config(
        "jumprelu_mixed_norm", code_norm_weights=[0.5, -0.75], architecture="jumprelu"
    )
}


@pytest.mark.parametrize("share", [-1.0, 2.0], ids=["by_products", "by_sums"])
def test_a_latent_on_its_cut_is_active_where_the_dictionary_says_so(share, monkeypatch):
    """Exactly on, above and below thresholds of either sign, with norms of zero and below, in exact arithmetic."""
    monkeypatch.setitem(pairs.DENSE_FROM, "cpu", share)
    on_the_cut = 0
    for cfg in ON_THE_CUT.values():
        for seed in range(3):
            dictionary = whole_numbers(cfg, seed)
            x = torch.randint(-2, 3, (13, *row_shape(cfg)), generator=torch.Generator().manual_seed(seed)).float()
            f = dictionary.encode(x)
            same(small(dictionary).run(x).active, active_of(f))
            on_the_cut += int((x.flatten(1) @ dictionary.weights["W_enc"].flatten(0, -2) == 0).sum())
    assert on_the_cut > 1000


@pytest.mark.parametrize(
    "name",
    ["native_jumprelu", "native_jumprelu_times_norm", "native_jumprelu_negative", "crosscoder_jumprelu_joint_norm"],
)
def test_one_unit_in_the_last_place_above_a_threshold_is_above_it(name, monkeypatch):
    """The bound under which nothing is looked at lies low enough for the rounding behind it."""
    monkeypatch.setitem(pairs.DENSE_FROM, "cpu", 2.0)
    cfg = factories.native_config(name[7:]) if name[:6] == "native" else factories.crosscoder_config(name[11:])
    for seed in range(40):
        checkpoint = factories.checkpoint(cfg, seed)
        generator = torch.Generator().manual_seed(seed)
        checkpoint.weights["W_enc"].copy_(torch.randint(-2, 3, checkpoint.weights["W_enc"].shape, generator=generator))
        x = torch.randint(-2, 3, (1, *row_shape(cfg)), generator=generator).float()
        product = x.flatten(1) @ checkpoint.weights["W_enc"].flatten(0, -2)
        _, gate = value_and_gate(product, vectors_of(checkpoint.weights, cfg), cfg)
        checkpoint.weights["threshold"].copy_(torch.nextafter(gate[0], torch.tensor(-torch.inf)))
        dictionary = Dictionary(checkpoint)
        assert torch.equal(small(dictionary).run(x).active.fired, (dictionary.encode(x)[0] != 0).long())


def test_a_row_that_is_not_a_number_is_named_and_spoils_no_other():
    """No comparison and no rank hides it."""
    for name in PLAIN_FAST:
        dictionary, x = Dictionary(factories.checkpoint(CONFIGS[name])), rows(CONFIGS[name])
        expected = small(dictionary).run(x).x_hat
        x[4].view(-1)[2] = float("nan")
        found = small(dictionary).run(x)
        others = torch.arange(len(x)) != 4
        assert relative(found.x_hat[others], expected[others]) < 1e-5, name
        with pytest.raises(WeightsError, match="the reconstruction of row 104 is not finite"):
            moments_of(torch.zeros_like(found.x_hat), found.x_hat, found.active, 100)


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinite_rows_give_what_they_give_in_the_dictionary(value):
    """Finite reconstructions only where its own are."""
    for name in PLAIN_FAST:
        dictionary, x = Dictionary(factories.checkpoint(CONFIGS[name])), rows(CONFIGS[name])
        x[4].view(-1)[2] = value
        found, expected = small(dictionary).run(x).x_hat[4], dictionary(x)[4]
        assert bool(torch.isfinite(found).all()) == bool(torch.isfinite(expected).all()), name


def test_blocks_tiles_and_slabs_change_no_count():
    """Any split gives the same counts, and the same outputs up to rounding."""
    for name in ("crosscoder_jumprelu_per_source", "crosscoder_topk_per_source", "native_jumprelu", "native_topk"):
        dictionary = Dictionary(factories.checkpoint(CONFIGS[name])).to(dtype=torch.float64)
        x = rows(CONFIGS[name], 40)
        whole = runner_of(dictionary).run(x)
        for tile, slab, block in ((1, 4, 5), (3, 20, 7), (40, 6, 40), (64, 64, 13)):
            parts = [small(dictionary, tile, slab).run(part) for part in x.split(block)]
            assert torch.equal(torch.cat([part.active.counts for part in parts]), whole.active.counts)
            assert torch.equal(sum(part.active.fired for part in parts), whole.active.fired)
            assert relative(sum(part.active.sizes for part in parts), whole.active.sizes) < 1e-12
            assert relative(torch.cat([part.x_hat for part in parts]), whole.x_hat) < 1e-12


def test_sizes_are_summed_in_pieces_without_touching_the_values():
    """In float64 whatever the type, the same digits on any number of threads."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        f = factories.rows(3, 40_000).to(dtype)
        kept, before, found = f.clone(), torch.get_num_threads(), set()
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                found.add(float(active_of(f).sizes))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(f, kept)
        assert len(found) == 1
        assert found.pop() == pytest.approx(float(f.double().abs().sum()), rel=1e-14)


def test_wide_outputs_are_summed_in_pieces_of_columns(monkeypatch):
    """Pieces that do not divide the width, of devices with and without a fused sum."""
    generator = torch.Generator().manual_seed(0)
    f = torch.randn(9, 30, generator=generator).relu()
    W_dec = torch.randn(30, 50, generator=generator)
    chosen = pairs.Pairs(torch.tensor([0, *(f != 0).sum(1).cumsum(0)]), (f != 0).nonzero()[:, 1], f[f != 0])
    monkeypatch.setattr(pairs, "PIECE", 8)
    monkeypatch.setattr(pairs, "GATHERED", 100)
    for fused in (("cpu",), ()):
        monkeypatch.setattr(pairs, "FUSED", fused)
        total = torch.ones(9, 50)
        pairs.add_sums(total, chosen, W_dec)
        assert relative(total, 1 + f @ W_dec) < 1e-6


def test_narrow_types_run_in_float32_on_a_cpu():
    """They have no fast product there; the runner says what it ran in, and gives what float32 gives."""
    for dtype in (torch.bfloat16, torch.float16):
        for name in ("native_jumprelu_times_norm", "native_topk_stored_times_norm", "skip_transcoder"):
            dictionary, x = Dictionary(factories.checkpoint(CONFIGS[name])).to(dtype=dtype), rows(CONFIGS[name])
            runner = runner_of(dictionary)
            assert (runner.dtype, runner_of(dictionary, exact=True).dtype) == ("float32", str(dtype)[6:])
            agrees(runner, dictionary.to(dtype=torch.float32), x, 1e-5)


def test_exact_means_the_dictionarys_own_order_to_the_last_bit():
    """And what has no fast path runs so anyway."""
    for cfg in CONFIGS.values():
        dictionary, x = Dictionary(factories.checkpoint(cfg)), rows(cfg)
        runner = runner_of(dictionary, exact=True)
        assert isinstance(runner, PlainRunner)
        assert torch.equal(runner.run(x).x_hat, dictionary(x))
    kinds = {cfg.architecture: type(runner_of(Dictionary(factories.checkpoint(cfg)))) for cfg in CONFIGS.values()}
    assert kinds["matching_pursuit"] is PlainRunner
    assert (kinds["jumprelu_transcoder"], kinds["abstopk"]) == (SlabRunner, RankedRunner)


def test_heads_are_flattened_inside_and_come_back():
    """With `hook_z` reshaping, rows are (heads, width)."""
    metadata = {"sae_lens_version": "6.54.12", "hook_name": "blocks.0.attn.hook_z"}
    cfg = factories.config(
        "standard", reshape_activations="hook_z", normalize_activations="layer_norm", metadata=metadata
    )
    dictionary = Dictionary(factories.checkpoint(cfg)).to(dtype=torch.float64)
    agrees(small(dictionary), dictionary, factories.rows(13, 2, D_IN // 2), 1e-12)


def test_each_position_of_a_temporal_dictionary_is_a_row():
    """It reads texts; what it counts are positions."""
    dictionary = Dictionary(factories.checkpoint(CONFIGS.get("temporal", factories.config("temporal"))))
    x = factories.rows(3, 7, D_IN)
    coded = runner_of(dictionary).run(x)
    assert torch.equal(coded.active.counts, (dictionary.encode(x) != 0).sum(-1).flatten())
    assert torch.equal(coded.x_hat, dictionary(x).flatten(0, 1))
    assert coded.x_in.shape == coded.x_hat_in.shape == (21, D_IN)


def test_rows_of_another_shape_are_refused():
    """The message says what is read."""
    runner = runner_of(Dictionary(factories.checkpoint(CONFIGS["standard"])))
    with pytest.raises(UsageError, match="the dictionary reads d_in = 6"):
        runner.run(torch.zeros(3, 5))
    with pytest.raises(UsageError, match=r"the dictionary reads \(rows, 6\)"):
        runner.run(torch.zeros(2, 3, 6))


def test_more_kept_than_there_are_latents_is_refused_with_the_key():
    """In the words of the dictionary itself."""
    runner = runner_of(Dictionary(factories.checkpoint(factories.config("topk", k=21))))
    with pytest.raises(UsageError, match="k = 21, but there are only d_sae = 20 latents; correct `k`"):
        runner.run(rows(runner.matrices.cfg))


def test_tiles_of_big_dictionaries_stay_in_cache_and_blocks_in_memory():
    """A tile is 16 MB whatever d_sae is; wide rows come in smaller blocks."""
    with torch.device("meta"):
        big = factories.config("standard", d_in=768, d_sae=1 << 20)
        weights = {name: torch.empty(spec.shape) for name, spec in big.tensors().items()}

    class OnCpu(Loaded):
        device = torch.device("cpu")

    plan = slab_plan(OnCpu(Dictionary(Checkpoint(big, weights))))
    assert plan.tile_rows * plan.encoder_slab * 4 == 16 * 1024**2
    wide = factories.crosscoder_config("standard", d_in=8192)
    assert slab_plan(Loaded(Dictionary(factories.checkpoint(wide)))).block_rows == 640


def test_one_runner_serves_several_threads_at_once():
    """Each has a buffer of its own, which the next one takes over; a copy elsewhere starts without."""
    for name in ("native_relu", "native_topk"):
        runner = small(Dictionary(factories.checkpoint(CONFIGS[name])))
        blocks = [rows(CONFIGS[name], seed=seed) for seed in range(24)]
        expected = [runner.run(block).x_hat for block in blocks]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda block, runner=runner: runner.run(block).x_hat, blocks))
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    scratch = Scratch()
    with scratch.lent(8, torch.float32, torch.device("cpu")) as first:
        at = first.data_ptr()
    with scratch.lent(4, torch.float32, torch.device("cpu")) as again:
        assert (again.data_ptr(), len(again)) == (at, 4)
    assert len(pickle.dumps(scratch)) < 200
