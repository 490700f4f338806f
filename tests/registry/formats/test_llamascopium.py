"""llamascopium's dictionaries, against forwards written from its model classes (2.0.0b34)."""

import json
import math

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import save_file

from saereg.errors import FormatError
from saereg.registry.loading import detect, read
from tests.upstream import D, F, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

THRESHOLD, NORMS = "activation_function.log_jumprelu_threshold", "dataset_average_activation_norm."
COUNT, K = 3, 5
IN, OUT = "blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out"
HOOKS = [f"blocks.{layer}.hook_resid_post" for layer in range(COUNT)]
OUTS = [f"blocks.{layer}.hook_mlp_out" for layer in range(COUNT)]
MEANS = (
    {IN: 7.0, OUT: 2.5}
    | dict(zip(HOOKS, (3.0, 5.0, 9.0), strict=True))
    | dict(zip(OUTS, (2.0, 6.0, 11.0), strict=True))
)


def config(kind="sae", act_fn="relu", norm="inference", transcoder=False, **changes):
    """Return a config.json as the class writes it."""
    hooks = {
        "sae": {"hook_point_in": IN, "hook_point_out": OUT if transcoder else IN},
        "crosscoder": {"hook_points": HOOKS},
        "clt": {"hook_points_in": HOOKS, "hook_points_out": OUTS},
    }
    common = {
        "sae_type": kind,
        "d_model": D,
        "expansion_factor": 3.0,
        "use_decoder_bias": True,
        "act_fn": act_fn,
        "norm_activation": norm,
        "sparsity_include_decoder_norm": True,
        "top_k": K,
        "use_triton_kernel": False,
        "jumprelu_threshold_window": 2.0,
        "use_glu_encoder": False,
    }
    return common | hooks[kind] | changes


def tensors(cfg):
    """Return weights for a config.json; latent 0 of an SAE lies exactly at the threshold, latent 1 just above it."""
    heads = () if cfg["sae_type"] == "sae" else (COUNT,)
    made = {"W_E": random(*heads, D, F, seed=1), "b_E": random(*heads, F, seed=2)}
    if cfg["sae_type"] == "clt":
        made |= {f"W_D.{t}": random(t + 1, F, D, seed=10 + t) for t in range(COUNT)}
        made |= {f"b_D.{t}": random(D, seed=20 + t) for t in range(COUNT)}
    else:
        made |= {"W_D": random(*heads, F, D, seed=3), "b_D": random(*heads, D, seed=4)}
    if cfg["act_fn"] == "jumprelu":
        shape = (COUNT, F) if cfg["sae_type"] == "clt" else (F,)
        made[THRESHOLD] = random(*shape, seed=5) + (1 if cfg["sparsity_include_decoder_norm"] else 0)
    if cfg["act_fn"] == "jumprelu" and cfg["sae_type"] == "sae":
        made["W_E"][:, :2], made["W_D"][:2], made[THRESHOLD][:2] = 0, 0, 0
        made["W_D"][:2, 0], made["b_E"][0], made["b_E"][1] = 1, 1, 1 + 1e-6
    used = [hook for key in cfg if key.startswith("hook_point") for hook in ([cfg[key]] if heads == () else cfg[key])]
    for hook in used:
        made[NORMS + hook] = torch.tensor(MEANS[hook] if cfg["norm_activation"] == "dataset-wise" else 1e-41)
    return made


def write(folder, cfg, weights=None, suffix=".safetensors"):
    """Write a folder as the class does."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = tensors(cfg) if weights is None else weights
    if suffix == ".pt":
        torch.save({"sae": weights, "version": "2.0.0"}, folder / "sae_weights.pt")
    else:
        save_file(weights, folder / "sae_weights.safetensors", metadata={"version": "2.0.0"})
    (folder / "config.json").write_text(json.dumps(cfg))
    (folder / "lm_config.json").write_text(json.dumps({"model_name": "Qwen/Qwen3-1.7B"}))
    return folder


def factor(cfg, hook):
    """Return √D over the mean norm."""
    return math.sqrt(D) / MEANS[hook] if cfg["norm_activation"] == "dataset-wise" else 1.0


def act(cfg, weights, pre, norm):
    """Return act(pre·n)/n."""
    if not cfg["sparsity_include_decoder_norm"]:
        norm = torch.ones_like(norm)
    scaled = pre * norm
    if cfg["act_fn"] == "jumprelu":
        return pre * (scaled > weights[THRESHOLD].exp())
    if cfg["act_fn"] == "topk":
        best = scaled.relu().topk(cfg["top_k"]).indices
        return torch.zeros_like(pre.expand(scaled.shape)).scatter(
            -1, best, pre.relu().expand(scaled.shape).gather(-1, best)
        )
    return pre.relu()


def sae(cfg, weights, x):
    """Return (f, x_hat) of an SAE or transcoder: x is scaled, and x_hat mapped back from the scale of the output."""
    into, out = factor(cfg, cfg["hook_point_in"]), factor(cfg, cfg["hook_point_out"])
    if cfg["norm_activation"] == "token-wise":
        into = out = math.sqrt(D) / x.norm(dim=-1, keepdim=True)
    f = act(cfg, weights, (x * into) @ weights["W_E"] + weights["b_E"], weights["W_D"].norm(dim=1))
    return f, (f @ weights["W_D"] + (weights["b_D"] if cfg["use_decoder_bias"] else 0)) / out


def crosscoder(cfg, weights, x):
    """Return (f, x_hat): one sum over heads, and at each head act(pre·n_k)/n_k."""
    scale = torch.tensor([factor(cfg, hook) for hook in HOOKS])[:, None]
    pre = torch.einsum("nkd,kdf->nf", x * scale, weights["W_E"]) + weights["b_E"].sum(0)
    f = act(cfg, weights, pre[:, None].expand(-1, COUNT, -1), weights["W_D"].norm(dim=-1))
    x_hat = (torch.einsum("nkf,kfd->nkd", f, weights["W_D"]) + weights["b_D"]) / scale
    return (f[:, 0] if cfg["act_fn"] == "relu" else f), x_hat


def clt(cfg, weights, x):
    """Return (f, x_hat): the norm of a latent is that of all its decoders, in the layer and behind it."""
    scale = torch.tensor([factor(cfg, hook) for hook in HOOKS])[:, None]
    pre = torch.einsum("nld,ldf->nlf", x * scale, weights["W_E"]) + weights["b_E"]
    norms = torch.stack(
        [sum(weights[f"W_D.{t}"][i].square().sum(-1) for t in range(i, COUNT)).sqrt() for i in range(COUNT)]
    )
    f = act(cfg, weights, pre, norms)
    out = [
        (sum(f[:, i] @ weights[f"W_D.{t}"][i] for i in range(t + 1)) + weights[f"b_D.{t}"]) / factor(cfg, OUTS[t])
        for t in range(COUNT)
    ]
    return f, torch.stack(out, dim=1)


FORWARDS = {"sae": sae, "crosscoder": crosscoder, "clt": clt}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("norm", ["inference", "dataset-wise", "token-wise"])
def test_saes(tmp_path, norm, act_fn, suffix):
    """Every activation and normalization."""
    cfg, x = config(act_fn=act_fn, norm=norm), rows(D)
    path = write(tmp_path / "a", cfg, suffix=suffix)
    assert detect(path) == ("llamascopium",)
    dictionary = assert_same(path, x, *sae(cfg, tensors(cfg), x))
    assert dictionary.cfg.metadata.hook_name == IN
    assert dictionary.cfg.metadata.model_name == "Qwen/Qwen3-1.7B"
    assert_converts(path, tmp_path / "b", "saereg")


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("norm", ["inference", "dataset-wise"])
@pytest.mark.parametrize("by_norm", [True, False])
def test_transcoders(tmp_path, norm, act_fn, by_norm):
    """Input and output have scales of their own."""
    cfg = config(act_fn=act_fn, norm=norm, transcoder=True, sparsity_include_decoder_norm=by_norm)
    path, x = write(tmp_path / "a", cfg), rows(D)
    dictionary = assert_same(path, x, *sae(cfg, tensors(cfg), x))
    assert dictionary.cfg.kind == "transcoder"
    assert dictionary.cfg.metadata.hook_name_out == OUT
    assert_converts(path, tmp_path / "b", "saereg")


@pytest.mark.parametrize("norm", ["inference", "dataset-wise"])
@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("kind", ["crosscoder", "clt"])
def test_dictionaries_of_several_layers(tmp_path, kind, act_fn, norm):
    """Heads decide apart, unless by ReLU; the threshold of a CLT is divided by the norm of all decoders."""
    cfg = config(kind, act_fn, norm, sparsity_include_decoder_norm=kind == "crosscoder" or act_fn != "topk")
    path, x = write(tmp_path / "a", cfg), rows(COUNT, D)
    assert_same(path, x, *FORWARDS[kind](cfg, tensors(cfg), x))
    assert_converts(path, tmp_path / "b", "saereg")
    assert_same(tmp_path / "b", x, *FORWARDS[kind](cfg, tensors(cfg), x))


@pytest.mark.parametrize("norm", ["inference", "dataset-wise", "token-wise"])
@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_saelens_reads_saes(tmp_path, act_fn, norm):
    """TopK where the caller wants latents times the norm that they are ranked by."""
    cfg = config(act_fn=act_fn, norm=norm)
    weights, x = tensors(cfg), rows(D)
    weights["b_E"][:2] = 0
    given = {"latents_times_decoder_norm": "true"} if act_fn == "topk" else {}
    assert_converts(write(tmp_path / "a", cfg, weights), tmp_path / "b", "saelens", given=given)
    theirs, (f, x_hat) = SAE.load_from_disk(tmp_path / "b"), sae(cfg, weights, x)
    with torch.no_grad():
        assert torch.equal(theirs.encode(x) != 0, f != 0)
        assert relative(theirs(x), x_hat) <= 2e-6


def test_saelens_cannot_say_topk_that_does_not_store_what_it_ranks_by(tmp_path):
    """Unless the caller changes what a latent is worth."""
    path = write(tmp_path / "a", config(act_fn="topk"))
    with pytest.raises(FormatError, match="it also stores that as the activation"):
        assert_converts(path, tmp_path / "b", "saelens")


def test_saelens_reads_relu_crosscoders_side_by_side(tmp_path):
    """The only ones with one code."""
    cfg, x = config("crosscoder", norm="dataset-wise"), rows(COUNT, D)
    assert_converts(write(tmp_path / "a", cfg), tmp_path / "b", "saelens")
    with torch.no_grad():
        found = SAE.load_from_disk(tmp_path / "b")(x.flatten(1))
    assert relative(found, crosscoder(cfg, tensors(cfg), x)[1].flatten(1)) <= 1e-6
    with pytest.raises(FormatError, match="each source has a gate of its own"):
        assert_converts(write(tmp_path / "c", config("crosscoder", "jumprelu")), tmp_path / "d", "saelens")


def test_a_decoder_may_have_no_bias(tmp_path):
    """`use_decoder_bias: false`."""
    cfg, x = config(use_decoder_bias=False), rows(D)
    weights = {name: tensor for name, tensor in tensors(cfg).items() if name != "b_D"}
    assert_same(write(tmp_path / "a", cfg, weights), x, *sae(cfg, weights, x))


def test_half_types_are_computed_with_in_float32(tmp_path):
    """A factor or an exponential would round every number once more."""
    cfg, x = config(act_fn="jumprelu", norm="dataset-wise"), rows(D)
    weights = {name: t if name.startswith(NORMS) else t.bfloat16() for name, t in tensors(cfg).items()}
    weights["b_E"][:2] = 0
    expected = sae(cfg, {name: tensor.float() for name, tensor in weights.items()}, x)
    reading = read(write(tmp_path, cfg, weights)).checkpoint()
    assert reading.weights["threshold"].dtype == reading.weights["W_enc"].dtype == torch.float32
    assert_same(tmp_path, x, *expected)


def test_the_threshold_is_scaled_with_the_decoder(tmp_path):
    """As it is, it would cut other latents: norms are those of the scaled decoder."""
    cfg = config(act_fn="jumprelu", norm="dataset-wise", transcoder=True)
    weights = tensors(cfg)
    weights["b_E"][:2] = 0
    path = write(tmp_path, cfg, weights)
    raised = weights | {THRESHOLD: weights[THRESHOLD] + math.log(factor(cfg, OUT))}
    assert_golden_catches(path, lambda d: sae(cfg, raised, d.golden_x)[1])
    assert_golden_catches(path, lambda d: sae(cfg | {"norm_activation": "inference"}, weights, d.golden_x)[1])
    plain = cfg | {"sparsity_include_decoder_norm": False}
    assert_golden_catches(path, lambda d: sae(plain, weights, d.golden_x)[1])


@pytest.mark.parametrize("kind", ["sae", "crosscoder", "clt"])
def test_batchtopk_is_read_as_topk_when_asked_for(tmp_path, kind):
    """No threshold is saved."""
    cfg, x = (
        config(kind, "batchtopk", sparsity_include_decoder_norm=kind != "clt"),
        rows(*(() if kind == "sae" else (COUNT,)), D),
    )
    path = write(tmp_path, cfg)
    assert refusal(path) == (
        f"{path}: batchtopk keeps the largest of a batch, so that a row's latents depend on the other rows; only the k "
        "largest of each row can be read; say it: --set activation=topk"
    )
    assert_same(path, x, *FORWARDS[kind](cfg | {"act_fn": "topk"}, tensors(cfg), x), given={"activation": "topk"})


def test_norms_that_were_never_set_are_refused_or_given(tmp_path):
    """Whatever lay in memory was saved then."""
    cfg, x = config(norm="dataset-wise", transcoder=True), rows(D)
    path = write(tmp_path, cfg, tensors(cfg) | {NORMS + OUT: torch.tensor(0.0)})
    assert refusal(path) == (
        f"{path}: norm_activation is dataset-wise, but '{NORMS}{OUT}' is 0, as if it was never set; "
        "say the mean norms: --set input_norm=27.1, and of a transcoder --set output_norm=3.4 too"
    )
    assert_same(path, x, *sae(cfg, tensors(cfg), x), given={"output_norm": MEANS[OUT]})
    missing = {name: tensor for name, tensor in tensors(cfg).items() if not name.startswith(NORMS)}
    assert f"'{NORMS}{IN}' is missing" in refusal(write(tmp_path / "b", cfg, missing))
    given = {"input_norm": MEANS[IN], "output_norm": MEANS[OUT]}
    assert_same(tmp_path / "b", x, *sae(cfg, tensors(cfg), x), given=given)
    assert_converts(tmp_path / "b", tmp_path / "c", "saereg", given=given)


@pytest.mark.parametrize("kind", ["crosscoder", "clt"])
def test_a_missing_norm_of_several_layers_names_a_next_step(tmp_path, kind):
    """The caller cannot say as many."""
    cfg = config(kind, norm="dataset-wise")
    weights = {name: tensor for name, tensor in tensors(cfg).items() if name != NORMS + HOOKS[1]}
    assert refusal(write(tmp_path, cfg, weights)) == (
        f"{tmp_path}: norm_activation is dataset-wise, but '{NORMS}{HOOKS[1]}' is missing; save it again with the mean "
        "norm of every hook, after its own set_dataset_average_activation_norm"
    )


def test_a_norm_that_is_no_number_is_refused(tmp_path):
    """A vector."""
    path = write(tmp_path, config(norm="dataset-wise"), tensors(config()) | {NORMS + IN: torch.ones(2)})
    assert refusal(path) == f"{path}: '{NORMS}{IN}' is of shape (2,); expected one number"


def test_what_the_sources_of_a_crosscoder_are_is_said_or_noted(tmp_path):
    """Its hooks name them; that they are layers is in no file."""
    path = write(tmp_path, config("crosscoder"))
    reading = read(path)
    assert reading.cfg.sources.sites == tuple(HOOKS)
    assert [(note.field, note.value) for note in reading.cfg.assumptions] == [("axis", "layer")]
    given = read(path, {"axis": "model", "sources": "base,chat,math"}).cfg
    assert (given.sources.axis, given.sources.sites) == ("model", ("base", "chat", "math"))


def test_a_key_that_is_not_known_is_noted(tmp_path):
    """Those of older versions and of training are known."""
    cfg = config(apply_decoder_bias_to_pre_encoder=False, force_unit_decoder_norm=True, whiten="zca")
    notes = read(write(tmp_path, cfg)).cfg.assumptions
    assert [(note.field, note.value) for note in notes] == [("whiten", "zca")]


def test_defaults_of_the_class_are_recorded(tmp_path):
    """Where config.json lacks a key."""
    cfg = {key: value for key, value in config(norm="dataset-wise").items() if key not in ("act_fn", "norm_activation")}
    path = write(tmp_path, cfg, tensors(config(norm="dataset-wise")))
    notes = {note.field: note.value for note in read(path).cfg.assumptions}
    assert notes == {"act_fn": "relu", "norm_activation": "dataset-wise"}


@pytest.mark.parametrize(
    ("cfg", "problem"),
    [
        (
            config(use_glu_encoder=True),
            "config.json says use_glu_encoder: a sigmoid of a second encoder multiplies each pre-activation, and no "
            "switch says that",
        ),
        (
            config(apply_decoder_bias_to_pre_encoder=True),
            "config.json says apply_decoder_bias_to_pre_encoder: versions before subtracted b_D from the input, and "
            "the class of this layout does not",
        ),
        (
            config(norm="batch-wise"),
            "config.json says norm_activation 'batch-wise': each batch has a factor of its own",
        ),
        (
            config("clt", norm="token-wise"),
            "config.json says norm_activation 'token-wise': it is read of plain SAEs only",
        ),
        (
            config(norm="token-wise", transcoder=True),
            "config.json says norm_activation 'token-wise' of a transcoder: the output is in units of the norm of what "
            "it predicts, which a reader does not know",
        ),
        (
            config("clt", "layertopk"),
            "config.json says act_fn 'layertopk', which cannot be said row by row and layer by layer",
        ),
        (
            config("clt", "topk"),
            "config.json says topk and sparsity_include_decoder_norm: it ranks by pre times the norm of all decoders "
            "of a latent, which cannot be said across layers",
        ),
        (config(act_fn="topk", top_k=0), "config.json says top_k = 0; expected a whole number from 1 to d_sae = 48"),
        (
            config(act_fn="topk", top_k=F + 1),
            "config.json says top_k = 49; expected a whole number from 1 to d_sae = 48",
        ),
        (config(top_k="50"), "config.json says top_k = '50'; expected one like 50"),
        (
            config(expansion_factor=4),
            "config.json says d_model = 16, expansion_factor = 4, but W_E is (16, 48); correct config.json",
        ),
        (
            config(expansion_factor=math.nan),
            "config.json says d_model = 16, expansion_factor = nan, but W_E is (16, 48); correct config.json",
        ),
        (
            config(d_model=None),
            "config.json says d_model = None, expansion_factor = 3.0, but W_E is (16, 48); correct config.json",
        ),
        (
            config("crosscoder", hook_points=HOOKS[:2]),
            f"config.json says hook_points = {HOOKS[:2]}"[:107] + "; expected 3 names, as many as W_E has",
        ),
        (
            config("crosscoder", use_decoder_bias=False),
            "a crosscoder has sparsity_include_decoder_norm and use_decoder_bias there",
        ),
    ],
)
def test_what_cannot_be_said_is_refused(tmp_path, cfg, problem):
    """In one line."""
    kept = cfg | {"hook_points": HOOKS} if "hook_points" in cfg else cfg
    assert refusal(write(tmp_path, cfg, tensors(kept))) == f"{tmp_path}: {problem}"


@pytest.mark.parametrize("kind", ["lorsa", "molt"])
def test_other_types_are_named(tmp_path, kind):
    """They are recognized, so that nobody is told that the layout is unknown."""
    path = write(tmp_path, config() | {"sae_type": kind}, {"W_Q": random(2, 3)})
    assert detect(path) == ("llamascopium",)
    assert f"config.json says sae_type {kind!r}: " in refusal(path)


def test_odd_tensors_are_refused(tmp_path):
    """None is dropped, and none may lack."""
    cfg = config()
    assert refusal(write(tmp_path / "a", cfg, tensors(cfg) | {"W_E_glu": random(D, F)})).endswith(
        "W_E_glu: is no tensor of this layout; it would be lost"
    )
    lacking = {name: tensor for name, tensor in tensors(cfg).items() if name != "b_E"}
    assert "b_E: missing" in refusal(write(tmp_path / "b", cfg, lacking))
