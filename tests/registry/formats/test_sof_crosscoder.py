"""Crosscoders of the science-of-finetuning fork, against a forward written from its `dictionary.py` (173f7fa)."""

import itertools
import json

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import save_file

from saereg.errors import FormatError
from saereg.registry.loading import detect, read
from tests.upstream import D, F, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

SOURCES, K = 3, 5
NORMS = ("CROSSCODER", "SAE", "MIXED", "NONE", "DECOUPLED")
CUTS = {"CROSSCODER": 9.0, "SAE": 6.0, "MIXED": 7.0, "NONE": 3.0, "DECOUPLED": [2.0, 5.0, 4.0]}
NAN = float("nan")
BUFFERS = ("activation_mean", "activation_std", "activation_global_scale", "target_rms")


def tensors(norm="CROSSCODER", batchtopk=True, statistics=False, target_rms=1.7):
    """Return a state dict. Latent 0 lies exactly at the threshold, and latent 1 just above it."""
    made = {
        "encoder.weight": random(SOURCES, D, F, seed=1),
        "encoder.bias": random(F, seed=2),
        "decoder.weight": random(SOURCES, F, D, seed=3),
        "decoder.bias": random(SOURCES, D, seed=4),
        "code_normalization_id": torch.tensor(NORMS.index(norm) + 1),
        "target_rms": torch.tensor(target_rms),
        "activation_mean": torch.full((SOURCES, D), NAN),
        "activation_std": torch.full((SOURCES, D), NAN),
        "activation_global_scale": torch.ones(SOURCES),
    }
    if batchtopk:
        cut = torch.tensor(CUTS[norm]) * (0.3 if statistics else 1.0)
        made |= {"k": torch.tensor(K, dtype=torch.int), "threshold": cut}
        made["encoder.weight"][..., :2], made["decoder.weight"][:, :2] = 0, 0
        made["decoder.weight"][:, :2, 0] = 1
        at = cut.max() / code_norm(made, norm).reshape(-1, F)[0, 0]
        made["encoder.bias"][:2] = torch.stack([at, at * (1 + 1e-6)])
    if statistics:
        std = random(SOURCES, D, seed=6).abs() + 0.3
        made |= {"activation_mean": random(SOURCES, D, seed=5), "activation_std": std}
        made["activation_global_scale"] = target_rms / (std.square().sum(-1) + 1e-8).sqrt()
    return made


def code_norm(weights, norm, alphas=(1.0, 0.1)):
    """Return what pre-activations are multiplied by before the cut, (F,), or (K, F)."""
    norms = weights["decoder.weight"].norm(dim=2)
    joint, total = weights["decoder.weight"].norm(dim=(0, 2)), norms.sum(0)
    mixed = alphas[0] * joint + alphas[1] * total
    return dict(zip(NORMS, (total, joint, mixed, torch.ones(F), norms), strict=True))[norm]


def forward(weights, x, norm="CROSSCODER", alphas=(1.0, 0.1), keep=True):
    """Return the fork's (f, x_hat): normalize, sum, ReLU, cut at relu(pre)·code norm > threshold, decode, map back.

    A DECOUPLED BatchTopK normalizes twice: `encode_decoupled` calls an `encode` that does it again.
    """
    mean, std = weights["activation_mean"], weights["activation_std"]
    normalizes = not (mean.isnan().any() or std.isnan().any())
    scale = weights["activation_global_scale"][:, None]

    def normalized(x):
        return ((x - mean) * scale if keep else (x - mean) / (std + 1e-8)) if normalizes else x

    decoupled = norm == "DECOUPLED" and "threshold" in weights
    x_in = normalized(normalized(x)) if decoupled else normalized(x)
    f = (torch.einsum("nkd,kdf->nf", x_in, weights["encoder.weight"]) + weights["encoder.bias"]).relu()
    if decoupled:
        f = f[:, None] * (f[:, None] * code_norm(weights, norm) > weights["threshold"][:, None])
    elif "threshold" in weights:
        f = f * (f * code_norm(weights, norm, alphas) > weights["threshold"])
    x_hat = torch.einsum("nkf,kfd->nkd" if f.ndim == 3 else "nf,kfd->nkd", f, weights["decoder.weight"])
    x_hat = x_hat + weights["decoder.bias"]
    if normalizes:
        x_hat = (x_hat / (scale + 1e-8) if keep else x_hat * (std + 1e-8)) + mean
    return f, x_hat


def local(folder, weights):
    """Save as the fork's trainer does."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / "model_final.pt")
    return folder / "model_final.pt"


def hub(folder, weights, **config):
    """Save as the fork's Hub mixin does."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    made = {"activation_dim": D, "dict_size": F, "num_layers": SOURCES, "norm_init_scale": 1.0, "k": K}
    (folder / "config.json").write_text(json.dumps(made | config))
    return folder


@pytest.mark.parametrize(("norm", "batchtopk", "statistics"), itertools.product(NORMS, [True, False], [True, False]))
def test_it_computes_what_the_fork_computes(tmp_path, norm, batchtopk, statistics):
    """Both classes, all code norms, with and without input statistics; and so does what it is converted to."""
    weights, x = tensors(norm, batchtopk, statistics), rows(SOURCES, D)
    f, x_hat = forward(weights, x, norm)
    path = local(tmp_path / "a", weights)

    assert detect(path) == detect(path.parent) == ("sof_crosscoder",)
    assert_same(path, x, f, x_hat)
    assert_same(hub(tmp_path / "b", weights, code_normalization=norm), x, f, x_hat)
    assert_converts(path, tmp_path / "c", "saereg")
    assert_same(tmp_path / "c", x, f, x_hat)


def test_the_cut_is_strict(tmp_path):
    """Exactly at the threshold is off, one part in a million above it is on."""
    weights = tensors("CROSSCODER")
    f, _ = forward(weights, rows(SOURCES, D))
    found = assert_same(local(tmp_path, weights), rows(SOURCES, D), *forward(weights, rows(SOURCES, D)))
    assert not f[:, 0].any()
    assert f[:, 1].all()
    assert found.cfg.k == K


@pytest.mark.parametrize("norm", ["CROSSCODER", "SAE", "MIXED", "NONE"])
@pytest.mark.parametrize("statistics", [True, False])
def test_saelens_reads_those_with_one_code(tmp_path, norm, statistics):
    """As SAEs of width K·D."""
    weights = tensors(norm, statistics=statistics)
    weights["encoder.bias"][:2] = 0  # at the threshold, rounding decides, and norms are rounded otherwise
    x = rows(SOURCES, D)
    f, x_hat = forward(weights, x, norm)
    assert_converts(local(tmp_path / "a", weights), tmp_path / "b", "saelens")
    sae = SAE.load_from_disk(tmp_path / "b")
    with torch.no_grad():
        assert torch.equal(sae.encode(x.flatten(1)) != 0, f != 0)
        assert relative(sae(x.flatten(1)), x_hat.flatten(1)) <= 2e-6


def test_saelens_cannot_say_a_gate_at_each_source(tmp_path):
    """DECOUPLED."""
    with pytest.raises(FormatError, match="each source has a gate of its own"):
        assert_converts(local(tmp_path / "a", tensors("DECOUPLED")), tmp_path / "b", "saelens")


def test_compiled_modules_are_read(tmp_path):
    """Their names begin with `_orig_mod.`."""
    weights, x = tensors("SAE"), rows(SOURCES, D)
    path = local(tmp_path / "a", {f"_orig_mod.{name}": tensor for name, tensor in weights.items()})
    assert_same(path, x, *forward(weights, x, "SAE"))
    assert_converts(path, tmp_path / "b", "saereg")


def test_old_files_without_buffers_are_crosscoder_and_have_no_statistics(tmp_path):
    """As the fork's own loader assumes; both are recorded."""
    weights, x = tensors("CROSSCODER"), rows(SOURCES, D)
    old = {name: t for name, t in weights.items() if name not in (*BUFFERS, "code_normalization_id")}
    dictionary = assert_same(local(tmp_path, old), x, *forward(weights, x))
    notes = {note.field: note.value for note in dictionary.cfg.assumptions}
    assert notes == {
        "code_normalization": "CROSSCODER",
        "activation_mean": "none",
        "sources": "source-0, source-1, source-2",
        "axis": "model",
    }


def test_weights_of_mixed_stand_in_the_config(tmp_path):
    """Else they are the defaults of the class, which is recorded."""
    weights, x = tensors("MIXED"), rows(SOURCES, D)
    config = {"code_normalization": "MIXED", "code_normalization_alpha_sae": 0.5, "code_normalization_alpha_cc": 0.3}
    dictionary = assert_same(hub(tmp_path / "a", weights, **config), x, *forward(weights, x, "MIXED", (0.5, 0.3)))
    assert dictionary.cfg.code_norm_weights == (0.5, 0.3)
    noted = {note.field: note.value for note in read(local(tmp_path / "b", weights)).cfg.assumptions}
    assert (noted["code_normalization_alpha_sae"], noted["code_normalization_alpha_cc"]) == ("1.0", "0.1")
    assert refusal(hub(tmp_path / "c", weights, **(config | {"code_normalization_alpha_cc": "x"}))) == (
        f"{tmp_path}/c: config.json says code_normalization_alpha_cc = 'x'; expected a number"
    )


def test_element_wise_statistics_are_read(tmp_path):
    """`keep_relative_variance: false` divides every element by its own deviation."""
    weights, x = tensors("SAE", statistics=True), rows(SOURCES, D)
    weights["threshold"] = torch.tensor(9.0)
    path = hub(tmp_path / "a", weights, code_normalization="SAE", keep_relative_variance=False)
    dictionary = assert_same(path, x, *forward(weights, x, "SAE", keep=False))
    assert dictionary.cfg.statistics.scale_per == "element"
    assert_converts(path, tmp_path / "b", "saereg")
    assert_converts(path, tmp_path / "c", "saelens")


def test_a_threshold_that_was_never_set_is_asked_about(tmp_path):
    """−1 cuts nothing off."""
    weights, x = tensors("CROSSCODER") | {"threshold": torch.tensor(-1.0)}, rows(SOURCES, D)
    path = local(tmp_path / "a", weights)
    assert refusal(path) == (
        f"{path}: threshold is -1, which says that none was ever set, so that nothing is cut off; "
        "say it: --set unset_threshold=relu"
    )
    given = {"unset_threshold": "relu"}
    assert assert_same(path, x, *forward(weights, x), given=given).cfg.architecture == "standard"
    assert_converts(path, tmp_path / "b", "saereg", given=given)


def test_thresholds_that_were_set_for_some_sources_are_asked_about(tmp_path):
    """And are kept as they are then: a negative one cuts nothing off there."""
    weights, x = tensors("DECOUPLED"), rows(SOURCES, D)
    weights["threshold"][1] = -1
    path = local(tmp_path, weights)
    assert "threshold is -1" in refusal(path)
    assert_same(path, x, *forward(weights, x, "DECOUPLED"), given={"unset_threshold": "relu"})


def test_sources_can_be_named(tmp_path):
    """Files only number them; a name changes no number."""
    path = local(tmp_path, tensors())
    cfg = read(path, {"sources": "base, chat,google/gemma-2", "axis": "layer"}).cfg
    assert cfg.sources.sites == ("base", "chat", "google-gemma-2")
    assert cfg.sources.axis == "layer"
    assert refusal(path, sources="base,chat") == "sources=base,chat: expected 3 names with commas between them"


def test_golden_vectors_catch_wrong_readings(tmp_path):
    """A wrong code norm, statistics left out, and one normalization instead of two."""
    weights, scaled = tensors("CROSSCODER"), tensors("CROSSCODER", statistics=True)
    weights["encoder.bias"][:2], scaled["encoder.bias"][:2] = 0, 0  # at the threshold float32 and float64 differ
    unscaled = scaled | {"activation_mean": torch.full((SOURCES, D), NAN)}
    path, other = local(tmp_path / "a", weights), local(tmp_path / "b", scaled)
    assert_golden_catches(path, lambda d: forward(weights, d.golden_x, "SAE")[1])
    assert_golden_catches(other, lambda d: forward(unscaled, d.golden_x)[1])
    assert_golden_catches(other, lambda d: forward(scaled, d.golden_x, keep=False)[1])


def without(*names):
    """Return a state dict that lacks buffers."""
    return {name: tensor for name, tensor in tensors().items() if name not in names}


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        (tensors() | {"code_normalization_id": torch.tensor(6)}, "code_normalization_id is 6; expected 1 to 5"),
        (tensors() | {"code_normalization_id": torch.tensor(1.5)}, "code_normalization_id is 1.5; expected 1 to 5"),
        (tensors() | {"k": torch.ones(2)}, "k has shape (2,); expected one number"),
        (
            tensors() | {"threshold": torch.ones(3)},
            "threshold has shape (3,), which does not fit code normalization CROSSCODER",
        ),
        (
            without("activation_std"),
            "holds activation_mean, activation_global_scale, target_rms but not activation_std: "
            "input statistics are whole",
        ),
        (tensors() | {"extra.weight": torch.ones(3)}, "extra.weight: is no tensor of this layout; it would be lost"),
    ],
)
def test_odd_tensors_are_refused(tmp_path, weights, problem):
    """In one line."""
    path = local(tmp_path, weights)
    assert refusal(path) == f"{path}: {problem}"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"code_normalization": "L2"}, "code_normalization is 'L2'; expected one of " + ", ".join(NORMS)),
        (
            {"code_normalization": "SAE"},
            "config.json says code_normalization SAE, but the tensor says CROSSCODER; correct config.json",
        ),
        (
            {"encoder_layers": [0, 2]},
            "config.json says that encoder_layers is [0, 2], a choice among the sources; such crosscoders are not read",
        ),
        (
            {"num_decoder_layers": 2},
            "config.json says that num_decoder_layers is 2, not the number of sources; such crosscoders are not read",
        ),
        (
            {"latent_processor": "f"},
            "config.json says that latent_processor is 'f'; such crosscoders are not read",
        ),
    ],
)
def test_odd_configurations_are_refused(tmp_path, config, problem):
    """In one line."""
    assert refusal(hub(tmp_path, tensors(), **config)) == f"{tmp_path}: {problem}"


def test_unknown_arguments_are_recorded(tmp_path):
    """A later version of the class may have more of them."""
    notes = {note.field: note.value for note in read(hub(tmp_path, tensors(), new_option=3)).cfg.assumptions}
    assert notes["new_option"] == "3"


def test_a_dictionary_of_the_same_library_is_no_crosscoder(tmp_path):
    """Its encoder is a matrix."""
    torch.save({"encoder.weight": random(F, D), "decoder.weight": random(D, F)}, tmp_path / "ae.pt")
    assert "sof_crosscoder" not in detect(tmp_path)


def trained(folder, weights, **trainer):
    """Save as a local run does: the tensors, and the settings of training beside them."""
    path = local(folder, weights)
    (folder / "config.json").write_text(json.dumps({"trainer": {"activation_dim": D, "dict_size": F} | trainer}))
    return path


def test_settings_of_a_local_run_say_code_normalization_and_its_weights(tmp_path):
    """Under `trainer`, with the name of the enumeration; the fork's own loader takes 1.0 and 0.1 regardless."""
    weights, x = tensors("MIXED"), rows(SOURCES, D)
    alphas = {"code_normalization_alpha_sae": 0.7, "code_normalization_alpha_cc": 0.3}
    said = {"code_normalization": "CodeNormalization.MIXED", **alphas}
    expected = forward(weights, x, "MIXED", (0.7, 0.3))
    path = trained(tmp_path / "a", weights, **said)
    dictionary = assert_same(path, x, *expected)
    assert dictionary.cfg.code_norm_weights == (0.7, 0.3)
    notes = {note.field: note.because for note in dictionary.cfg.assumptions}
    assert notes["code_normalization_alpha_cc"] == (
        "settings of training; the fork's own loader of local files takes 0.1 regardless"
    )
    assert_converts(path, tmp_path / "b", "saereg")
    del weights["code_normalization_id"]
    assert_same(trained(tmp_path / "c", weights, **said), x, *expected)
    wrong = trained(tmp_path / "d", tensors("SAE"), **said)
    assert refusal(wrong) == (
        f"{wrong}: config.json says code_normalization MIXED, but the tensor says SAE; correct config.json"
    )


def test_defaults_in_the_settings_of_a_local_run_are_no_assumption(tmp_path):
    """They are said, and the fork's own loader takes the same."""
    alphas = {"code_normalization_alpha_sae": 1.0, "code_normalization_alpha_cc": 0.1}
    cfg = read(trained(tmp_path, tensors("MIXED"), **alphas)).cfg
    assert cfg.code_norm_weights == (1.0, 0.1)
    assert not {note.field for note in cfg.assumptions} & set(alphas)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"encoder_layers": "[0, 2]"}, "encoder_layers is [0, 2], a choice among the sources"),
        ({"num_decoder_layers": "2"}, "num_decoder_layers is 2, not the number of sources"),
        ({"latent_processor": "<function f>"}, "latent_processor is '<function f>'"),
    ],
)
def test_arguments_of_the_class_in_the_settings_are_looked_at(tmp_path, arguments, problem):
    """A local run saves them as words."""
    path = trained(tmp_path, tensors(), dict_class_kwargs=arguments)
    assert refusal(path) == f"{path}: config.json says that {problem}; such crosscoders are not read"


def test_harmless_arguments_in_the_settings_are_read_and_unknown_ones_recorded(tmp_path):
    """`None` is none."""
    arguments = {"encoder_layers": "None", "init_with_transpose": "True", "new_option": "3"}
    cfg = read(trained(tmp_path, tensors(), dict_class_kwargs=arguments)).cfg
    assert ("new_option", "3") in {(note.field, note.value) for note in cfg.assumptions}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("norm", "batchtopk"), [("CROSSCODER", True), ("DECOUPLED", True), ("NONE", False)])
def test_the_epsilon_of_the_way_back_counts_where_scales_are_small(tmp_path, norm, batchtopk, dtype):
    """The fork divides by scale + 1e-8: at a scale of 2.5e-5 that is 4 parts in 10,000."""
    weights, x = tensors(norm, batchtopk, statistics=True), rows(SOURCES, D)
    weights["encoder.bias"][:2] = 0  # at the threshold, rounding decides
    half = {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}
    weights |= {name: weights[name].to(dtype) for name in half}
    exact = {name: t.float() for name, t in weights.items()}
    scales = torch.tensor([2.5e-5, 1.0, 4e-6])
    weights["activation_global_scale"] = exact["activation_global_scale"] = scales
    x = x * torch.tensor([4e4, 1, 2.5e5])[:, None]
    if norm == "DECOUPLED":  # normalizes twice
        x = x / scales[:, None].clamp_max(1)
        weights["activation_mean"] = exact["activation_mean"] = exact["activation_mean"] * 0
    f, x_hat = forward({n: t.double() for n, t in exact.items()}, x.double(), norm)
    dictionary = assert_same(local(tmp_path / "a", weights), x, f, x_hat)
    found = dictionary(x)
    for source in range(SOURCES):
        assert relative(found[:, source], x_hat[:, source]) < 1e-6
    assert_converts(tmp_path / "a", tmp_path / "b", "saereg")
    if norm != "DECOUPLED":
        assert_converts(tmp_path / "a", tmp_path / "c", "saelens")


def test_at_ordinary_scales_every_tensor_is_moved(tmp_path):
    """The epsilon is lost in float32 there."""
    weights, x = tensors(statistics=True), rows(SOURCES, D)
    weights["activation_global_scale"] = torch.ones(SOURCES)
    path = local(tmp_path / "a", weights)
    assert_same(path, x, *forward(weights, x))
    assert all(tensor.bitwise for tensor in assert_converts(path, tmp_path / "b", "saereg").tensors.values())


@pytest.mark.parametrize("names", [("threshold",), ("encoder.weight", "decoder.weight"), ("activation_mean",)])
def test_float8_is_refused_in_one_line(tmp_path, names):
    """No reader computes with it."""
    weights = tensors(statistics=True)
    weights |= {name: weights[name].to(torch.float8_e4m3fn) for name in names}
    assert "stored as float8_e4m3fn, expected one of float64, float32, " in refusal(local(tmp_path, weights))
