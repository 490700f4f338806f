"""Every architecture computes what SAELens computes, and can be computed from blocks of its matrices."""

import itertools

import pytest
import torch
from sae_lens import SAE
from sae_lens.registry import (
    SAE_CLASS_REGISTRY,
    SAE_TRAINING_CLASS_REGISTRY,
    get_sae_class,
    get_sae_training_class,
)

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.architectures import ARCHITECTURES, CROSSCODERS, architecture_of
from saereg.registry.architectures.cross_layer import vectors_of_layer
from saereg.registry.architectures.linear import (
    centred,
    decoder_norm,
    needs_decoder_norm,
    unscaled,
    vectors_of,
    with_output_bias,
)
from saereg.registry.architectures.normalization import Undo, normalize
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import read_checkpoint
from saereg.schemas.cfg import INFERENCE
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig
from saereg.schemas.cfg_training import TRAINING
from tests.registry import factories
from tests.registry.factories import D_IN, D_OUT, D_SAE, ROWS, relative

NORMALIZATIONS = {
    name: ("none", "layer_norm", "constant_norm_rescale", "expected_average_only_in")
    + (("constant_scalar_rescale",) if name == "temporal" else ("covariance_whitening",))
    for name in INFERENCE
}
SWITCHES = {
    "topk": ("rescale_acts_by_decoder_norm", (False, True)),
    "abstopk": ("rescale_acts_by_decoder_norm", (False, True)),
    "temporal": ("tied_weights", (False, True)),
    "matching_pursuit": ("stop_on_duplicate_support", (False, True)),
}
CASES = [
    pytest.param(name, {"normalize_activations": norm, "apply_b_dec_to_input": subtracts} | extra)
    for name in INFERENCE
    for norm in NORMALIZATIONS[name]
    for subtracts in ((False,) if "transcoder" in name else (False, True))
    for key, values in [SWITCHES.get(name, ("d_in", (D_IN,)))]
    for extra in ({key: value} for value in values)
]


def saelens_model(name, settings):
    """Return SAELens' own object with random parameters; thresholds on the knife's edge of two pre-activations."""
    cls, config = get_sae_class(name)
    sae = cls(config(**{"d_in": D_IN, "d_sae": D_SAE} | factories.SETTINGS.get(name, {}) | settings))
    randomize(sae)
    return sae


@torch.no_grad()
def randomize(sae):
    """Give every parameter a random value; thresholds and scales are positive."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sae.state_dict().items():
        value = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5
        parameter.copy_(value.abs() + 0.1 if "threshold" in name else value)


@torch.no_grad()
def put_thresholds_on_edge(sae, x):
    """Set a threshold to a pre-activation, and another to the float just below; return the two positions."""
    pre = sae.process_sae_in(x) @ sae.W_enc + sae.b_enc
    on = int(pre[0, 0].argmax())
    below = next(int(j) for j in pre[0, 1].argsort(descending=True) if int(j) != on)
    sae.threshold[on] = pre[0, 0, on]
    sae.threshold[below] = torch.nextafter(pre[0, 1, below], torch.tensor(-torch.inf))
    return (0, 0, on), (0, 1, below)


def agrees(dictionary, sae, x):
    """Check latents, active sets and output against SAELens."""
    with torch.no_grad():
        f, x_hat = sae.encode(x), sae(x)

    assert relative(dictionary.encode(x), f) < 1e-6
    assert torch.equal(dictionary.encode(x) != 0, f != 0)
    assert 0 < (f != 0).double().mean() < 1
    assert relative(dictionary(x), x_hat) < 1e-6


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_every_inference_architecture_computes_what_saelens_computes(name, settings, tmp_path):
    """Both directions: what SAELens wrote runs here, what we wrote runs there, with the same bits in the file."""
    x = factories.rows(3, ROWS, D_IN)
    sae = saelens_model(name, settings)
    if "jumprelu" in name:
        on, below = put_thresholds_on_edge(sae, x)
        assert sae.encode(x)[on] == 0
        assert sae.encode(x)[below] > 0
    sae.save_model(tmp_path / "theirs")

    checkpoint = read_checkpoint(tmp_path / "theirs")
    agrees(Dictionary(checkpoint), sae, x)

    factories.write(checkpoint, tmp_path / "ours")
    again = SAE.load_from_disk(tmp_path / "ours")
    assert type(again) is type(sae)
    assert all(torch.equal(again.state_dict()[key], value) for key, value in sae.state_dict().items())
    assert torch.equal(again(x), sae(x))


TRAINING_CASES = [(name, {}) for name in TRAINING if "topk" not in name] + [
    (name, {"rescale_acts_by_decoder_norm": rescales})
    for name in TRAINING
    if "topk" in name
    for rescales in (False, True)
]


@pytest.mark.parametrize(("name", "settings"), TRAINING_CASES)
def test_a_training_checkpoint_means_what_saelens_exports_from_it(name, settings, tmp_path):
    """The dictionary of a training checkpoint equals the inference model that SAELens makes of it."""
    cls, config = get_sae_training_class(name)
    widths = {"d_in": D_IN, "d_sae": D_SAE}
    sae = cls(config(**widths | factories.TRAINING_SETTINGS.get(name, {}) | settings))
    randomize(sae)
    sae.save_model(tmp_path / "training")
    sae.save_inference_model(tmp_path / "inference")

    checkpoint = read_checkpoint(tmp_path / "training")

    assert type(checkpoint.cfg) is TRAINING[name]
    assert set(checkpoint.weights) == set(checkpoint.cfg.tensors())
    agrees(Dictionary(checkpoint), SAE.load_from_disk(tmp_path / "inference"), factories.rows(ROWS, D_IN))


def test_heads_are_flattened_as_saelens_flattens_them(tmp_path):
    """With `hook_z` reshaping, x and x_hat are (..., heads, width)."""
    from sae_lens.saes.sae import SAEMetadata

    metadata = SAEMetadata(hook_name="blocks.0.attn.hook_z")
    settings = {"reshape_activations": "hook_z", "normalize_activations": "layer_norm", "metadata": metadata}
    sae = saelens_model("standard", settings)
    sae.save_model(tmp_path)
    x = factories.rows(ROWS, 2, D_IN // 2)

    dictionary = Dictionary(read_checkpoint(tmp_path))

    assert dictionary.encode(x).shape == (ROWS, D_SAE)
    assert dictionary(x).shape == x.shape
    agrees(dictionary, sae, x)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_inputs_are_cast_to_the_type_of_the_weights_as_in_saelens(dtype, tmp_path):
    """A float32 input to a dictionary of another type gives SAELens' own numbers, to the last bit."""
    sae = saelens_model("jumprelu", {"dtype": dtype})
    sae.save_model(tmp_path)
    x = factories.rows(ROWS, D_IN)

    dictionary = Dictionary(read_checkpoint(tmp_path))

    assert dictionary(x).dtype == getattr(torch, dtype)
    assert torch.equal(dictionary.encode(x), sae.encode(x))
    assert torch.equal(dictionary(x), sae(x))


def test_the_table_has_exactly_the_architectures_that_configurations_name():
    """No configuration without maths, no maths without configuration, and none of SAELens' is missing."""
    assert set(ARCHITECTURES) == {*INFERENCE, *TRAINING}
    assert set(INFERENCE) == set(SAE_CLASS_REGISTRY)
    theirs = {
        name for name, (kind, _) in SAE_TRAINING_CLASS_REGISTRY.items() if kind.__module__.startswith("sae_lens.")
    }
    assert set(TRAINING) == theirs
    assert set(CROSSCODERS) == set(CrosscoderConfig.model_fields["architecture"].annotation.__args__)
    assert all(key == value.name for key, value in (*ARCHITECTURES.items(), *CROSSCODERS.items()))


def test_an_architecture_without_maths_is_refused():
    """A configuration class that nobody wrote maths for says which ones exist."""
    stranger = factories.config("standard").model_copy(update={"architecture": "standart"})

    with pytest.raises(UnknownNameError, match="unknown architecture 'standart'; did you mean 'standard'"):
        architecture_of(stranger)


STREAMED = [name for name, cfg in factories.EVERY_CONFIG.items() if architecture_of(cfg).latents is not None]


@pytest.mark.parametrize("name", STREAMED)
def test_encoding_and_decoding_can_be_streamed_in_blocks_of_rows(name):
    """W_enc row blocks sum to the product; W_dec row blocks sum to x_hat; the two are never needed together."""
    cfg = factories.EVERY_CONFIG[name]
    weights = factories.checkpoint(cfg).weights
    architecture, dictionary = architecture_of(cfg), Dictionary(factories.checkpoint(cfg))
    crosscoder = isinstance(cfg, CrosscoderConfig)
    x = factories.rows_for(cfg)
    vectors = {key: value for key, value in weights.items() if key not in ("W_enc", "W_dec", "W_skip")}
    if needs_decoder_norm(cfg):
        parts = [decoder_norm(block, cfg) for block in weights["W_dec"].split(3)]
        vectors["decoder_norm"] = torch.cat(parts, dim=-1)

    x_in, _ = normalize(x, weights, cfg)
    x_c = centred(x_in, weights, cfg).flatten(-2) if crosscoder else centred(x_in, weights, cfg)
    W_enc = weights["W_enc"].flatten(0, -2)
    blocks = zip(x_c.split(4, dim=-1), W_enc.split(4), strict=True)
    f = architecture.latents(sum(part @ block for part, block in blocks), vectors, cfg)

    assert relative(f, dictionary.encode(x)) < 1e-6
    if not (crosscoder and cfg.gate == "per_source"):
        shrunk = unscaled(f, vectors, cfg)
        pairs = zip(shrunk.split(3, dim=-1), weights["W_dec"].flatten(1).split(3), strict=True)
        x_hat = sum(part @ block for part, block in pairs)
        x_hat = with_output_bias(x_hat.reshape(*f.shape[:-1], *weights["b_dec"].shape), weights, cfg)
        assert relative(x_hat, architecture.decode(weights, cfg, f)) < 1e-6


@pytest.mark.parametrize("name", ["jumprelu", "jumprelu_skip_transcoder", "training_batchtopk"])
def test_a_latent_exactly_on_its_threshold_is_silent(name):
    """The comparison is strict, as in the paper and in SAELens."""
    cfg = factories.EVERY_CONFIG[name]
    key = "topk_threshold" if "batchtopk" in name else "threshold"
    one = torch.ones(D_SAE)
    vectors = {"b_enc": 0 * one, "decoder_norm": one, key: torch.tensor(0.5) if "batch" in name else 0.5 * one}
    product = torch.full((1, D_SAE), 0.5)
    product[0, 3] += 1e-6

    f = architecture_of(cfg).latents(product, vectors, cfg)

    assert f.nonzero().tolist() == [[0, 3]]


def test_a_k_above_the_number_of_latents_is_refused():
    """The message names both numbers and the key."""
    dictionary = Dictionary(factories.checkpoint(factories.config("topk", k=21)))

    with pytest.raises(UsageError) as error:
        dictionary(factories.rows(ROWS, D_IN))

    assert str(error.value) == "k = 21, but there are only d_sae = 20 latents; correct `k` in cfg.json"


def test_topk_and_abstopk_rank_by_different_quantities():
    """A large negative pre-activation is active, with its sign, for AbsTopK alone."""
    product = torch.zeros(1, D_SAE)
    product[0, :6] = torch.tensor([5.0, -9.0, 4.0, -8.0, 0.5, 0.25])
    vectors = {"b_enc": torch.zeros(D_SAE)}

    signed = ARCHITECTURES["abstopk"].latents(product, vectors, factories.config("abstopk"))
    plain = ARCHITECTURES["topk"].latents(product, vectors, factories.config("topk"))

    assert signed[0, :6].tolist() == [5.0, -9.0, 4.0, -8.0, 0.0, 0.0]
    assert plain[0, :6].tolist() == [5.0, 0.0, 4.0, 0.0, 0.5, 0.25]


def test_the_residual_threshold_stops_matching_pursuit():
    """Orthonormal directions explain a row exactly, one per iteration, until the rest is small enough."""
    cfg = factories.config("matching_pursuit", residual_threshold=0.5, apply_b_dec_to_input=False)
    W_dec = torch.zeros(D_SAE, D_IN)
    W_dec[:D_IN] = torch.eye(D_IN)
    checkpoint = Checkpoint(cfg, {"W_dec": W_dec, "b_dec": torch.zeros(D_IN)})

    f = Dictionary(checkpoint).encode(torch.tensor([[3.0, 0.4, 0.0, 2.0, 0.2, 0.0], [0.0, 0.0, 1.0, 0, 0, 0]]))

    assert f[0].nonzero().flatten().tolist() == [0, 3]
    assert f[1].nonzero().flatten().tolist() == [2]


def test_the_iteration_limit_stops_matching_pursuit():
    """Never more selections than `max_iterations`."""
    cfg = factories.config("matching_pursuit", residual_threshold=0, max_iterations=2)
    f = Dictionary(factories.checkpoint(cfg)).encode(factories.rows(ROWS, D_IN))

    assert (f != 0).sum(dim=-1).max() <= 2


def test_later_positions_do_not_change_earlier_codes():
    """Temporal attention is causal, and a position's own code is no part of its prediction's keys."""
    dictionary = Dictionary(factories.checkpoint(factories.config("temporal")))
    x = factories.rows(2, ROWS, D_IN)
    changed = x.clone()
    changed[:, 4:] += 10

    assert torch.allclose(dictionary(x)[:, :4], dictionary(changed)[:, :4], atol=1e-5)
    assert not torch.allclose(dictionary(x)[:, 4:], dictionary(changed)[:, 4:], atol=1e-1)


def test_an_undo_keeps_the_type_of_the_reconstruction():
    """Statistics in float32 do not turn a bfloat16 reconstruction into float32."""
    undo = Undo(scale=torch.tensor(2.0), shift=torch.tensor([1.0, 0.5]))

    x_hat = undo(torch.ones(3, 2, dtype=torch.bfloat16))

    assert x_hat.dtype == torch.bfloat16
    assert x_hat[0].tolist() == [3.0, 2.5]


def test_vectors_leave_out_every_matrix():
    """What `latents` is given is at most one row per latent."""
    for cfg in factories.EVERY_CONFIG.values():
        if cfg.architecture == "temporal":
            continue
        weights = factories.checkpoint(cfg).weights
        layers = range(cfg.n_layers) if isinstance(cfg, CrossLayerConfig) else ()
        vectors = {f"{n} {i}": t for i in layers for n, t in vectors_of_layer(weights, i).items()}
        for name, tensor in (vectors or vectors_of(weights, cfg)).items():
            assert tensor.numel() <= factories.SOURCES * D_SAE, name


def test_every_switch_of_the_matrix_of_cases_is_covered():
    """The comparison with SAELens runs over every normalization that a configuration may name."""
    seen = {(case.values[0], case.values[1]["normalize_activations"]) for case in CASES}
    for name, cls in INFERENCE.items():
        allowed = cls.model_fields["normalize_activations"].annotation.__args__
        assert set(itertools.product([name], allowed)) == {pair for pair in seen if pair[0] == name}
    assert D_OUT != D_IN
