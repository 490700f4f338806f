"""A dictionary is called with activations and answers in their units; what it cannot do it says."""

import pytest
import torch

from saereg.errors import UsageError, WeightsError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.schemas.artifact_config import parse_config
from tests.registry import factories
from tests.registry.einsum import forward
from tests.registry.factories import (
    CROSS_LAYERS,
    CROSSCODERS,
    D_IN,
    D_OUT,
    D_SAE,
    EVERY_CONFIG,
    NATIVE,
    PREPROCESS,
    ROWS,
    SOURCES,
    checkpoint,
    config,
    cross_layer_config,
    crosscoder_config,
    native_config,
    relative,
    rows,
    rows_for,
)

OWN = (
    {
        f"{name} {preprocess}": lambda name=name, preprocess=preprocess: crosscoder_config(name, preprocess)
        for name in CROSSCODERS
        for preprocess in PREPROCESS
    }
    | {
        f"{name} {kind} {preprocess}": lambda given=(name, kind, preprocess): native_config(*given)
        for name in NATIVE
        for kind in ("sae", "transcoder")
        for preprocess in (*PREPROCESS, "layer_norm", "constant_norm_rescale")
    }
    | {
        f"{name} across {writes}{' with skip' if skip else ''}": (
            lambda name=name, writes=writes, skip=skip: cross_layer_config(name, writes, skip=skip)
        )
        for name in CROSS_LAYERS
        for writes in ("same_and_later", "all")
        for skip in (False, True)
    }
)


@pytest.mark.parametrize("what", OWN)
def test_a_dictionary_in_our_own_dialect_computes_its_definition(what):
    """Every activation, gate, code norm, bias, statistic, skip and way of writing agrees with plain sums."""
    source = checkpoint(OWN[what]())
    x = rows_for(source.cfg)
    x = x if source.cfg.kind in ("crosscoder", "cross_layer") else x.flatten(0, 1)
    f, x_hat = forward(source.cfg, source.weights, x)

    dictionary = Dictionary(source).to(dtype=torch.float64)

    assert 0 < (f != 0).double().mean() < 1
    assert torch.equal(dictionary.encode(x) != 0, f != 0)
    assert relative(dictionary.encode(x), f) < 1e-7
    assert relative(dictionary(x), x_hat) < 1e-7
    assert relative(Dictionary(source)(x), x_hat) < 1e-5


def test_a_statistic_may_be_there_for_every_element():
    """And not for each source alone."""
    cfg = crosscoder_config("topk", statistics={"preprocess": "center_scale", "scale_per": "element"})
    source = checkpoint(cfg)
    x = rows_for(cfg)

    assert source.weights["input_scale"].shape == (SOURCES, D_IN)
    assert relative(Dictionary(source)(x), forward(cfg, source.weights, x)[1]) < 1e-6


def test_one_latent_of_each_group_is_kept():
    """Groups are neighbours, and a group whose largest is negative keeps none after the ReLU."""
    cfg = native_config("groupmax")
    weights = dict(checkpoint(cfg).weights)
    pre = torch.arange(1.0, 1 + D_SAE)
    pre[:4] = torch.tensor([-3.0, -1.0, -2.0, -4.0])
    weights |= {"W_enc": torch.zeros(D_IN, D_SAE), "b_enc": pre}

    f = Dictionary(Checkpoint(cfg, weights)).encode(torch.zeros(1, D_IN))
    signed = Dictionary(Checkpoint(native_config("groupmax_negative"), weights)).encode(torch.zeros(1, D_IN))

    assert f.nonzero()[:, 1].tolist() == [7, 11, 15, 19]
    assert signed.nonzero()[:, 1].tolist() == [1, 7, 11, 15, 19]
    assert signed[0, 1] == -1


@pytest.mark.parametrize("name", ["topk_negative", "jumprelu_negative"])
def test_what_is_not_rectified_stays_negative(name):
    """A latent that was kept is kept with its sign; rectified, it would be silent."""
    cfg = native_config(name)
    weights = dict(checkpoint(cfg).weights)
    weights |= {"W_enc": torch.zeros(D_IN, D_SAE), "b_enc": -torch.arange(1.0, 1 + D_SAE)}
    if "threshold" in weights:
        weights["threshold"] = torch.full((D_SAE,), -4.5)

    f = Dictionary(Checkpoint(cfg, weights)).encode(torch.zeros(1, D_IN))
    rectified = cfg.model_copy(update={"semantics": cfg.semantics.model_copy(update={"rectified": True})})

    assert f[0, :5].tolist() == [-1.0, -2.0, -3.0, -4.0, 0.0]
    assert not Dictionary(Checkpoint(rectified, weights)).encode(torch.zeros(1, D_IN)).any()


@pytest.mark.parametrize("name", ["topk_per_source", "batchtopk_per_source"])
def test_every_source_ranks_and_cuts_by_itself(name):
    """TopK keeps k at each source; a scalar threshold may differ from source to source."""
    cfg = crosscoder_config(name)
    weights = dict(checkpoint(cfg).weights)
    if "threshold" in weights:
        weights["threshold"] = torch.tensor([0.1, 3.0, torch.inf])

    f = Dictionary(Checkpoint(cfg, weights)).encode(rows(ROWS, SOURCES, D_IN))

    counts = (f != 0).sum(dim=-1).double().mean(dim=0)
    if name == "topk_per_source":
        assert (f != 0).sum(dim=-1).max() == cfg.k
    else:
        assert counts[0] > counts[1] > counts[2] == 0


def test_a_mixed_norm_is_a_weighted_sum_of_the_joint_norm_and_the_sum_of_norms():
    """At the ends it is one of the two."""
    source, x = checkpoint(crosscoder_config("jumprelu_joint_norm")), rows(ROWS, SOURCES, D_IN)
    for name, weights in {"joint_norm": [1.0, 0.0], "sum_of_norms": [0.0, 1.0]}.items():
        plain = crosscoder_config("jumprelu_joint_norm", code_norm=name)
        mixed = crosscoder_config("jumprelu_mixed_norm", code_norm_weights=weights)
        found, expected = (Dictionary(Checkpoint(cfg, source.weights)).encode(x) for cfg in (mixed, plain))
        assert torch.equal(found, expected)


def test_a_code_is_decoded_at_its_own_layer_and_behind_it():
    """Earlier layers see nothing of later ones, unless every layer decodes every code."""
    x = rows(ROWS, SOURCES, D_IN)
    changed = x.clone()
    changed[:, 1] += 1
    differs = {}
    for writes in ("same_and_later", "all"):
        dictionary = Dictionary(checkpoint(cross_layer_config("relu", writes)))
        differs[writes] = (dictionary(changed) - dictionary(x)).flatten(2).abs().amax(dim=(0, 2)) > 1e-3

    assert differs["same_and_later"].tolist() == [False, True, True]
    assert differs["all"].tolist() == [True, True, True]


@pytest.mark.parametrize("name", ["standard", "standard_summed_bias", "topk", "jumprelu_joint_norm", "gated"])
def test_a_crosscoder_with_shared_code_is_an_ordinary_sae_of_its_concatenated_sources(name):
    """Matrices are views, biases are summed, and a threshold in units of pre × norm is divided by the norm."""
    cfg = crosscoder_config(name)
    source = checkpoint(cfg)
    weights = dict(source.weights)
    norm = weights["W_dec"].flatten(1).norm(dim=1)
    if cfg.bias_reduction == "sum_over_sources":
        weights["b_enc"] = weights["b_enc"].sum(0)
    if "threshold" in weights:
        weights["threshold"] = weights["threshold"] / norm
    flat = {"W_enc": weights["W_enc"].flatten(0, 1), "W_dec": weights["W_dec"].flatten(1)}
    flat |= {"b_dec": weights["b_dec"].flatten()}
    sae = config(cfg.architecture, d_in=SOURCES * D_IN, apply_b_dec_to_input=False)
    x = rows(ROWS, SOURCES, D_IN)

    ordinary, crosscoder = Dictionary(Checkpoint(sae, weights | flat)), Dictionary(source)

    assert relative(crosscoder.encode(x), ordinary.encode(x.flatten(-2))) < 1e-6
    assert relative(crosscoder(x).flatten(-2), ordinary(x.flatten(-2))) < 1e-6


def test_a_gate_per_source_keeps_a_latent_at_some_sources_only():
    """This is what no ordinary SAE can do."""
    f = Dictionary(checkpoint(crosscoder_config("jumprelu_per_source"))).encode(rows(ROWS, SOURCES, D_IN))

    assert f.shape == (ROWS, SOURCES, D_SAE)
    assert ((f != 0).any(dim=1) & ~(f != 0).all(dim=1)).any()


def test_statistics_may_stay_on_the_input():
    """Without `inverted_on_output` the reconstruction is in normalized units."""
    statistics = {"preprocess": "center_scale", "inverted_on_output": False}
    cfg = crosscoder_config("standard", statistics=statistics)
    source = checkpoint(cfg)
    x = rows(ROWS, SOURCES, D_IN)

    assert relative(Dictionary(source)(x), forward(cfg, source.weights, x)[1]) < 1e-6


def test_rows_are_centred_before_they_are_rounded():
    """A bfloat16 crosscoder sees small differences on top of a large mean: statistics are applied in float32."""
    cfg = crosscoder_config("standard", "center", dtype="bfloat16")
    weights = dict(checkpoint(cfg).weights)
    weights["input_mean"] = torch.full((SOURCES, D_IN), 1000.0)
    x = rows(ROWS, SOURCES, D_IN)

    plain = Dictionary(checkpoint(crosscoder_config("standard", dtype="bfloat16")))
    centred = Dictionary(Checkpoint(cfg, weights))

    assert relative(centred.encode(x + 1000), plain.encode(x)) < 1e-2


@pytest.mark.parametrize("name", EVERY_CONFIG)
def test_leading_dimensions_do_not_change_what_a_row_means(name):
    """Any number of batch dimensions gives the same numbers."""
    cfg = EVERY_CONFIG[name]
    dictionary, x = Dictionary(checkpoint(cfg)), rows_for(cfg)
    stacked = torch.stack([x, x + 1]).unsqueeze(0)

    assert relative(dictionary(stacked)[0, 0], dictionary(x)) < 1e-6
    assert relative(dictionary.encode(stacked)[0, 1], dictionary.encode(x + 1)) < 1e-6


def test_a_single_row_needs_no_batch():
    """One vector in, one vector out, for matching pursuit too."""
    x = rows(D_IN)
    for name in ("jumprelu", "matching_pursuit"):
        dictionary = Dictionary(checkpoint(config(name)))
        assert dictionary.encode(x).shape == (D_SAE,)
        assert relative(dictionary(x), dictionary(x[None])[0]) < 1e-6


@pytest.mark.parametrize("name", EVERY_CONFIG)
def test_calling_is_decoding_what_was_encoded(name):
    """`dictionary(x)` is `decode(encode(x), x)` for every architecture."""
    cfg = EVERY_CONFIG[name]
    dictionary, x = Dictionary(checkpoint(cfg)), rows_for(cfg)

    assert torch.equal(dictionary(x), dictionary.decode(dictionary.encode(x), x))


@pytest.mark.parametrize("name", EVERY_CONFIG)
def test_gradients_reach_the_input_and_no_weight(name):
    """Attribution works through a dictionary; its weights are constants."""
    cfg = EVERY_CONFIG[name]
    dictionary = Dictionary(checkpoint(cfg))
    x = rows_for(cfg).requires_grad_()

    dictionary(x).sum().backward()

    assert x.grad is not None
    assert 0 < x.grad.norm() < torch.inf
    assert not any(tensor.requires_grad for tensor in dictionary.weights.values())


@pytest.mark.parametrize("cfg", [config("skip_transcoder"), native_config("relu", "transcoder")])
def test_decoding_without_rows_leaves_out_the_skip_connection(cfg):
    """The decoder part alone is f·W_dec + b_dec, as in SAELens; with the rows the skip connection is added."""
    source = checkpoint(cfg)
    dictionary, x = Dictionary(source), rows(ROWS, D_IN)
    f = dictionary.encode(x)

    skip = dictionary.decode(f, x) - dictionary.decode(f)

    assert dictionary.decode(f).shape == (ROWS, D_OUT)
    assert torch.allclose(dictionary.decode(f), f @ source.weights["W_dec"] + source.weights["b_dec"])
    assert torch.allclose(skip, x @ source.weights["W_skip"].T, atol=1e-5)


def test_decoding_without_rows_works_where_the_way_back_is_stored():
    """Stored statistics and factors need no rows."""
    cfg = crosscoder_config("standard", "center_scale")
    dictionary, x = Dictionary(checkpoint(cfg)), rows_for(cfg)

    assert torch.equal(dictionary.decode(dictionary.encode(x)), dictionary(x))


def test_decoding_novel_codes_alone_leaves_out_what_was_predicted():
    """A temporal reconstruction is the decoded sum of novel and predicted codes."""
    dictionary = Dictionary(checkpoint(config("temporal")))
    x = rows(2, ROWS, D_IN)

    novel = dictionary.decode(dictionary.encode(x))

    assert relative(novel, dictionary(x)) > 1e-2


@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_decoding_needs_the_rows_where_the_way_back_depends_on_them(kind):
    """A scale that is not stored cannot be undone."""
    dictionary = Dictionary(checkpoint(config("standard", normalize_activations=kind)))

    with pytest.raises(UsageError) as error:
        dictionary.decode(torch.zeros(ROWS, D_SAE))

    assert str(error.value) == (
        f"normalization {kind!r} takes its scale from each row: pass the rows too, `decode(f, x)`"
    )


def test_decoding_needs_the_rows_where_heads_were_flattened():
    """The number of heads is no part of a configuration."""
    dictionary = Dictionary(checkpoint(config("standard", reshape_activations="hook_z")))

    with pytest.raises(UsageError) as error:
        dictionary.decode(torch.zeros(ROWS, D_SAE))

    assert str(error.value) == "the number of heads is known only from the rows: pass them too, `decode(f, x)`"


@pytest.mark.parametrize(
    ("cfg", "shape", "message"),
    [
        (config("standard"), (7, 5), "x has width 5, the dictionary reads d_in = 6"),
        (config("standard"), (), "x has no axes, the dictionary reads d_in = 6"),
        (
            config("standard", reshape_activations="hook_z"),
            (7, 6),
            "x has shape (7, 6), the dictionary reads (..., heads, width) with heads × width = d_in = 6",
        ),
        (
            crosscoder_config("standard"),
            (7, 6, 3),
            "x has shape (7, 6, 3), the crosscoder reads (..., n_sources = 3, d_in = 6)",
        ),
        (
            cross_layer_config("relu"),
            (7, 6),
            "x has shape (7, 6), the cross-layer dictionary reads (..., n_layers = 3, d_in = 6)",
        ),
        (native_config("groupmax"), (7, 5), "x has width 5, the dictionary reads d_in = 6"),
        (
            config("temporal"),
            (7, 6),
            "x has shape (7, 6), a temporal dictionary reads (batch, position, d_in), "
            "positions in the order of the text",
        ),
    ],
)
def test_rows_of_another_shape_are_refused(cfg, shape, message):
    """The sentence says what was given and what is read."""
    with pytest.raises(UsageError) as error:
        Dictionary(checkpoint(cfg))(torch.zeros(shape))

    assert str(error.value) == message


@pytest.mark.parametrize(
    ("cfg", "shape", "message"),
    [
        (config("standard"), (7, 5), "f has width 5, the dictionary has d_sae = 20"),
        (
            crosscoder_config("jumprelu_per_source"),
            (7, 20),
            "f has shape (7, 20), one gate per source means (..., n_sources = 3, d_sae = 20)",
        ),
        (
            cross_layer_config("topk"),
            (7, 20),
            "f has shape (7, 20), one code per layer means (..., n_layers = 3, d_sae = 20)",
        ),
    ],
)
def test_latents_of_another_shape_are_refused(cfg, shape, message):
    """A shared code is not broadcast over a gate per source."""
    with pytest.raises(UsageError) as error:
        Dictionary(checkpoint(cfg)).decode(torch.zeros(shape))

    assert str(error.value) == message


def test_weights_that_do_not_fit_are_refused():
    """A dictionary is built from checked tensors only."""
    source = checkpoint(config("standard"))
    wrong = Checkpoint(source.cfg, dict(source.weights) | {"W_dec": source.weights["W_dec"].T}, "here")

    with pytest.raises(WeightsError) as error:
        Dictionary(wrong)

    assert str(error.value) == "here: W_dec: shape (6, 20), expected (20, 6) by the configuration"


def test_weights_are_used_in_the_type_of_the_configuration():
    """A bfloat16 file with a float32 configuration runs in float32, as in SAELens."""
    source = checkpoint(config("standard"))
    stored = {name: tensor.bfloat16() for name, tensor in source.weights.items()}

    dictionary = Dictionary(Checkpoint(source.cfg, stored))

    assert dictionary.dtype == torch.float32
    assert {tensor.dtype for tensor in dictionary.weights.values()} == {torch.float32}


def test_moving_returns_a_new_dictionary_and_keeps_fixed_types():
    """Input statistics stay float32; the original is unchanged."""
    dictionary = Dictionary(checkpoint(crosscoder_config("topk_sum_of_norms", "center_scale")))
    x = rows(ROWS, SOURCES, D_IN)
    before = dictionary(x)

    moved = dictionary.to(dtype=torch.float64, device="cpu")

    assert moved.dtype == torch.float64
    assert moved.weights["W_enc"].dtype == torch.float64
    assert moved.weights["input_mean"].dtype == torch.float32
    assert relative(moved(x), before) < 1e-6
    assert dictionary.dtype == torch.float32
    assert torch.equal(dictionary(x), before)


def test_weights_cannot_be_replaced_behind_the_dictionary():
    """The mapping is read-only."""
    dictionary = Dictionary(checkpoint(config("standard")))

    with pytest.raises(TypeError):
        dictionary.weights["W_dec"] = torch.zeros(D_SAE, D_IN)


@pytest.mark.parametrize(
    ("cfg", "line"),
    [
        (config("jumprelu"), "Dictionary(jumprelu, d_in=6, d_sae=20, float32, cpu)"),
        (config("transcoder"), "Dictionary(transcoder, d_in=6, d_out=5, d_sae=20, float32, cpu)"),
        (
            crosscoder_config("gated", dtype="bfloat16"),
            "Dictionary(gated crosscoder, n_sources=3, d_in=6, d_sae=20, bfloat16, cpu)",
        ),
        (native_config("groupmax"), "Dictionary(groupmax, d_in=6, d_sae=20, float32, cpu)"),
        (
            native_config("topk", "transcoder"),
            "Dictionary(topk_skip_transcoder, d_in=6, d_out=5, d_sae=20, float32, cpu)",
        ),
        (
            cross_layer_config("jumprelu"),
            "Dictionary(jumprelu across layers, n_layers=3, d_in=6, d_sae=20, float32, cpu)",
        ),
    ],
)
def test_a_dictionary_prints_as_one_line(cfg, line):
    """Architecture, widths, type, device."""
    assert repr(Dictionary(checkpoint(cfg))) == line


def test_the_semantics_are_those_of_the_configuration():
    """What the dictionary says it computes is what the index will say."""
    cfg = parse_config(config("topk", rescale_acts_by_decoder_norm=True).text())
    dictionary = Dictionary(checkpoint(cfg))

    assert dictionary.semantics.latents_scaled_by_decoder_norm
    assert dictionary.cfg is cfg
    assert dictionary.encode(rows(ROWS, D_IN)).shape[-1] == factories.D_SAE
