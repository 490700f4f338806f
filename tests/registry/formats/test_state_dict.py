"""Anonymous checkpoints in many styles, each against a forward as its training script would have it."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given as examples
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from saereg.errors import FormatError, SaeregError, UsageError
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.conversion.proof import golden_vectors
from saereg.registry.dictionary import Dictionary
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.formats import FORMATS
from saereg.registry.formats.anatomy import dissect
from saereg.registry.formats.tensor_names import role, side
from saereg.registry.loading import matches, read
from saereg.registry.readings.given import Given
from saereg.registry.readings.source import open_source
from tests.upstream import TOLERANCE, D, F, K, O, assert_same, random, relative, rows

RELU = {"activation": "relu", "normalization": "none", "pre_encoder_subtraction": "none"}


def matrices() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (encoder (F, D), decoder (D, F), encoder's bias, decoder's bias), as two Linear layers have them."""
    return random(F, D, seed=1), random(D, F, seed=2), random(F, seed=3), random(D, seed=4)


class Script(nn.Module):
    """The SAE of a training script: two Linear layers, ReLU between."""

    def __init__(self, width: int = D, latents: int = F) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(width, latents), nn.Linear(latents, width)
        with torch.no_grad():
            for seed, parameter in enumerate(self.parameters()):
                parameter.copy_(random(*parameter.shape, seed=seed))

    def forward(self, x: Tensor) -> Tensor:
        """Return x_hat."""
        return self.decoder(self.encoder(x).relu())


@dataclass(frozen=True)
class Style:
    """How a script saves."""

    saved: object
    given: dict[str, object]


def styles() -> dict[str, Style]:
    """Return the two Linear layers in every style, all of one function."""
    encoder, decoder, b_enc, b_dec = matrices()
    plain = {"encoder.weight": encoder, "encoder.bias": b_enc, "decoder.weight": decoder, "decoder.bias": b_dec}
    canonical = {"W_enc": encoder.T.contiguous(), "W_dec": decoder.T.contiguous(), "b_enc": b_enc, "b_dec": b_dec}
    adam = {"state": {0: {"step": torch.tensor(9.0), "exp_avg": random(F, D), "exp_avg_sq": random(F, D)}}}
    return {
        "two Linear layers": Style(plain, {}),
        "row-major names": Style(canonical, {}),
        "short names": Style({"W_E": encoder, "W_D": decoder, "b_E": b_enc, "b_D": b_dec}, {}),
        "one-letter names": Style({"E": encoder, "D": decoder, "bias": b_dec, "latent_bias": b_enc}, {}),
        "state_dict with optimizer": Style(
            {"state_dict": plain, "optimizer": adam, "step": 12, "config": {"lr": 1e-4, "expansion_factor": 3}}, {}
        ),
        "a nest in a nest": Style({"checkpoint": {"model_state_dict": plain, "epoch": 3}}, {}),
        "DataParallel and compiled": Style({f"module._orig_mod.{name}": t for name, t in plain.items()}, {}),
        "nested by layers": Style(
            {"encoder": {"weight": encoder, "bias": b_enc}, "decoder": {"weight": decoder, "bias": b_dec}}, {}
        ),
        "counters beside": Style(
            plain | {"steps_since_fired": torch.zeros(F), "num_tokens": torch.tensor(7), "act_freq": random(F)}, {}
        ),
        "biases as rows": Style(
            {"W_enc": encoder.T.contiguous(), "W_dec": decoder, "b_enc": b_enc[None], "b_dec": b_dec[None, :]}, {}
        ),
        "biases without names": Style({"encoder.w": encoder, "decoder.w": decoder, "u": b_enc, "v": b_dec}, {}),
        "nothing has a name": Style(
            {"0": encoder, "1": decoder, "2": b_enc, "3": b_dec}, {"decoder": "1"}
        ),
        "nothing has a usable name": Style(
            {"x.p": encoder, "x.q": decoder, "x.r": b_enc, "x.s": b_dec},
            {"encoder": "x.p", "b_enc": "x.r", "b_dec": "x.s", "d_sae": F},
        ),
        "two models in one file": Style({"sae": plain, "ema": {n: t * 2 for n, t in plain.items()}}, {"inside": "sae"}),
        "something else beside": Style(plain | {"probe": random(F, seed=9)}, {"unused": "probe"}),
    }  # fmt: skip


def saved(path: Path, value: object) -> Path:
    """Save as a training script does."""
    torch.save(value, path)
    return path


def refused(path: Path, **given: object) -> str:
    """Return the one line with which reading is refused."""
    with pytest.raises(SaeregError) as caught:
        read(path, given, "state_dict").checkpoint()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def converts(path: Path, target: Path, to: str, **given: object):
    """Convert with proof; return the record."""
    record = convert(Order(path, target, to, "state_dict", given))
    assert record.golden.replayed[0].active_sets_equal
    assert record.golden.replayed[0].max_rel_error <= TOLERANCE
    return record


@pytest.mark.parametrize("style", styles().values(), ids=styles())
@pytest.mark.parametrize("subtraction", ["none", "b_dec"])
def test_every_style_is_the_one_function(tmp_path, style, subtraction):
    """Equal active sets, and x_hat to rounding, whether b_dec is subtracted or not."""
    path, x = saved(tmp_path / "sae.pt", style.saved), rows(D)
    encoder, decoder, b_enc, b_dec = matrices()
    f = ((x - (b_dec if subtraction == "b_dec" else 0)) @ encoder.T + b_enc).relu()
    given = RELU | {"pre_encoder_subtraction": subtraction} | style.given
    assert_same(path, x, f, f @ decoder.T + b_dec, given=given, layout="state_dict")


@pytest.mark.parametrize("style", styles().values(), ids=styles())
@pytest.mark.parametrize("to", ["saelens", "saereg"])
def test_every_style_converts_with_proof(tmp_path, style, to):
    """And all of it is moved, nothing computed."""
    record = converts(saved(tmp_path / "sae.pt", style.saved), tmp_path / to, to, **(RELU | style.given))
    assert all(tensor.bitwise for tensor in record.tensors.values())


def test_saelens_loads_the_result_and_computes_the_same(tmp_path):
    """With the flag that decides."""
    from sae_lens import SAE

    encoder, decoder, b_enc, b_dec = matrices()
    path = saved(tmp_path / "sae.pt", styles()["two Linear layers"].saved)
    converts(path, tmp_path / "out", "saelens", **RELU)
    x = rows(D)
    with torch.no_grad():
        x_hat = SAE.load_from_disk(tmp_path / "out", device="cpu")(x)
    assert relative(x_hat, (x @ encoder.T + b_enc).relu() @ decoder.T + b_dec) <= TOLERANCE


def test_it_is_never_detected(tmp_path):
    """Any file of tensors could be one."""
    for style in styles().values():
        assert FORMATS["state_dict"].detect(open_source(saved(tmp_path / "sae.pt", style.saved))) is None
    save_file({"anything": torch.zeros(3)}, tmp_path / "x.safetensors")
    assert matches(open_source(tmp_path / "x.safetensors")) == ()


def test_everything_that_is_not_said_is_asked_for_at_once(tmp_path):
    """One line, with the choices, and with what stands beside the tensors."""
    path = saved(tmp_path / "sae.pt", {"model": Script().state_dict(), "top_k": 64, "normalize": True, "lr": 0.1})
    assert refused(path) == (
        f"{path}: the tensors do not say activation, normalization, pre_encoder_subtraction (decoder.bias is added "
        "after the decoder, and may be subtracted before the encoder), k (for topk, abstopk, groupmax); say them: "
        "--set activation=relu|topk|abstopk|groupmax|batchtopk|jumprelu|gated "
        "--set normalization=none|layer_norm|constant_norm_rescale --set pre_encoder_subtraction=none|b_dec --set k=K "
        "(beside them the file says top_k = 64, normalize = True)"
    )
    assert refused(path, activation="relu", normalization="none") == (
        f"{path}: the tensors do not say pre_encoder_subtraction (decoder.bias is added after the decoder, and may be "
        "subtracted before the encoder); say it: --set pre_encoder_subtraction=none|b_dec "
        "(beside them the file says top_k = 64, normalize = True)"
    )


def test_square_matrices_need_their_orientation(tmp_path):
    """Both orientations are read, and they differ."""
    script, x = Script(D, D), rows(D)
    path = saved(tmp_path / "sae.pt", script.state_dict())
    asked = refused(path, **RELU)
    assert "encoder_latents (encoder.weight is square)" in asked
    assert asked.endswith("--set encoder_latents=rows|columns --set decoder_latents=rows|columns")
    given = RELU | {"encoder_latents": "rows", "decoder_latents": "columns"}
    f = script.encoder(x).relu().detach()
    dictionary = assert_same(path, x, f, script(x).detach(), given=given, layout="state_dict")
    other = read(path, given | {"encoder_latents": "columns"}, "state_dict")
    assert not torch.equal(other.checkpoint().weights["W_enc"], dictionary.weights["W_enc"])
    converts(path, tmp_path / "out", "saelens", **given)


def test_the_biases_of_square_matrices_are_told_by_name_or_asked_for(tmp_path):
    """Their lengths are equal."""
    script = Script(D, D).state_dict()
    path = saved(tmp_path / "a.pt", script | {"encoder.bias": script["encoder.bias"]})
    given = RELU | {"encoder_latents": "rows", "decoder_latents": "columns"}
    assert read(path, given, "state_dict").plan["b_enc"].key == "encoder.bias"
    renamed = {n: t for n, t in script.items() if "weight" in n} | {"u": script["encoder.bias"], "v": random(D)}
    path = saved(tmp_path / "b.pt", renamed)
    assert "--set b_enc=u|v --set b_dec=u|v" in refused(path, **given)
    reading = read(path, given | {"b_enc": "v", "b_dec": "u"}, "state_dict")
    assert (reading.plan["b_enc"].key, reading.plan["b_dec"].key) == ("v", "u")


def test_one_matrix_is_tied(tmp_path):
    """In both orientations; the decoder's rows are the encoder's columns."""
    encoder, _, b_enc, b_dec = matrices()
    x = rows(D)
    f = ((x - b_dec) @ encoder.T + b_enc).relu()
    for name, stored in (("rows", encoder), ("columns", encoder.T.contiguous())):
        path = saved(tmp_path / f"{name}.pt", {"W": stored, "b_enc": b_enc, "pre_bias": b_dec})
        given = RELU | {"pre_encoder_subtraction": "b_dec"}
        assert_same(path, x, f, f @ encoder + b_dec, given=given, layout="state_dict")
        record = converts(path, tmp_path / name, "saelens", **given)
        notes = {note.field: note.value for note in record.assumptions}
        assert notes["W_dec"] == "the encoder, transposed"
        assert notes["b_dec"] == "pre_bias"


def test_a_tied_square_matrix_has_one_orientation(tmp_path):
    """One question."""
    path = saved(tmp_path / "sae.pt", {"W": random(D, D), "b_enc": random(D, seed=1)})
    asked = refused(path, **RELU)
    assert "decoder_latents" not in asked
    reading = read(path, RELU | {"encoder_latents": "rows"}, "state_dict").checkpoint()
    assert torch.equal(reading.weights["W_dec"], reading.weights["W_enc"].T)
    assert torch.equal(reading.weights["W_dec"], random(D, D))


def test_the_matrix_with_unit_latents_is_the_decoder(tmp_path):
    """Where no name tells, and only if the other has none; else it is asked for."""
    encoder, decoder, *_ = matrices()
    unit = decoder / decoder.norm(dim=0)
    path = saved(tmp_path / "unit.pt", {"p": unit, "q": encoder})
    reading = read(path, RELU, "state_dict")
    assert (reading.plan["W_enc"].key, reading.plan["W_dec"].key) == ("q", "p")
    assert any("have norm 1" in note.because for note in reading.cfg.assumptions)
    path = saved(tmp_path / "free.pt", {"p": decoder, "q": encoder})
    assert refused(path, **RELU) == (
        f"{path}: the tensors do not say decoder (no name tells encoder and decoder apart); say it: --set decoder=p|q"
    )


def test_an_undercomplete_dictionary_is_told_by_its_bias(tmp_path):
    """F < D: the named bias wins over the longer axis; without one, that is recorded and can be given."""
    named = {"encoder.weight": random(5, D), "decoder.weight": random(D, 5), "encoder.bias": random(5)}
    path = saved(tmp_path / "a.pt", named)
    assert read(path, RELU, "state_dict").cfg.d_sae == 5
    path = saved(tmp_path / "b.pt", {name: t for name, t in named.items() if "weight" in name})
    cfg = read(path, RELU, "state_dict").cfg
    assert cfg.d_sae == D
    assert "the longer of the axes [5, 16]" in next(n.because for n in cfg.assumptions if n.field == "d_sae")
    assert read(path, RELU | {"d_sae": "5"}, "state_dict").cfg.d_sae == 5
    assert refused(path, **RELU, d_sae="7") == (
        f"{path}: encoder.weight (5, 16) and decoder.weight (16, 5): d_sae = 7 is no axis of both"
    )


@pytest.mark.parametrize("stored", ["threshold", "log_threshold"])
@pytest.mark.parametrize("scalar", [False, True])
def test_a_threshold_is_read_as_it_is_stored(tmp_path, stored, scalar):
    """Per latent or one for all, linear or logarithmic."""
    encoder, decoder, b_enc, b_dec = matrices()
    x = rows(D)
    pre = x @ encoder.T + b_enc
    cut = random(1 if scalar else F, seed=8).abs() + 0.1
    kept = cut.log() if "log" in stored else cut
    tensors = {"W_enc": encoder.T.contiguous(), "b_enc": b_enc, "W_dec": decoder.T.contiguous(), "b_dec": b_dec}
    path = saved(tmp_path / "sae.pt", tensors | {stored: kept})
    f = torch.where(pre > (kept.exp() if "log" in stored else kept), pre, torch.zeros(()))
    given = RELU | {"activation": "jumprelu"}
    assert_same(path, x, f, f @ decoder.T + b_dec, given=given, layout="state_dict")
    converts(path, tmp_path / "out", "saelens", **given)


def test_a_threshold_is_strict(tmp_path):
    """A pre-activation at it is not above it; one that is 1e-6 above it is."""
    eye = torch.eye(2, 3)
    path = saved(tmp_path / "sae.pt", {"W_enc": eye, "W_dec": eye.T, "threshold": torch.full((3,), 0.5)})
    given = {"activation": "jumprelu", "normalization": "none"}
    x = torch.tensor([[0.5, 0.5 + 1e-6], [0.5 - 1e-6, 0.6]])
    f = torch.tensor([[0, 0.5 + 1e-6, 0], [0, 0.6, 0]])
    assert_same(path, x, f, f @ eye.T, given=given, layout="state_dict")


WRONG = {
    "b_dec subtracted": (F, {}, {"pre_encoder_subtraction": "b_dec"}),
    "no layer norm": (F, {"normalization": "layer_norm"}, {"normalization": "none"}),
    "TopK turned dense": (F, {"activation": "topk", "k": K}, {"activation": "relu"}),
    "another k": (F, {"activation": "topk", "k": K}, {"k": 2 * K}),
    "a square encoder transposed": (
        D,
        {"encoder_latents": "rows", "decoder_latents": "columns"},
        {"encoder_latents": "columns"},
    ),
    "a square decoder transposed": (
        D,
        {"encoder_latents": "rows", "decoder_latents": "columns"},
        {"decoder_latents": "rows"},
    ),
}


@pytest.mark.parametrize(("latents", "right", "wrong"), WRONG.values(), ids=WRONG)
def test_golden_vectors_catch_a_wrong_switch(tmp_path, latents, right, wrong):
    """None of them raises an error when it is read."""
    path = saved(tmp_path / "sae.pt", Script(D, latents).state_dict())
    given = RELU | right
    golden = golden_vectors(FORMATS["state_dict"], read(path, given, "state_dict"))
    mistaken = given | wrong
    mistaken = {n: v for n, v in mistaken.items() if n != "k" or mistaken["activation"] == "topk"}
    other = Dictionary(read(path, mistaken, "state_dict").checkpoint())
    assert relative(Dictionary(read(path, given, "state_dict").checkpoint())(golden.x), golden.x_hat) <= TOLERANCE
    assert relative(other(golden.x), golden.x_hat) > 1e-3


def test_thresholds_that_do_not_fit_are_refused(tmp_path):
    """Negative ones, unused ones, missing ones."""
    plain = Script().state_dict()
    path = saved(tmp_path / "a.pt", plain | {"threshold": torch.full((F,), -1.0)})
    given = RELU | {"activation": "jumprelu"}
    assert refused(path, **given) == (
        f"{path}: threshold holds values below 0 or NaN; −1 often marks one that was never set"
    )
    assert refused(path, **RELU) == (
        f"{path}: threshold is a threshold, which activation relu does not use; say --set activation=jumprelu, or "
        "--set unused=threshold"
    )
    assert read(path, RELU | {"unused": "threshold"}, "state_dict").left_out == ("threshold",)
    path = saved(tmp_path / "b.pt", plain)
    assert refused(path, **given) == f"{path}: activation jumprelu needs a threshold, and no tensor is one"
    path = saved(tmp_path / "c.pt", plain | {"threshold": torch.ones(F)})
    assert refused(path, **(RELU | {"activation": "batchtopk"})) == (
        f"{path}: threshold has a value for each latent: that is activation jumprelu"
    )


@pytest.mark.parametrize("activation", ["topk", "abstopk", "groupmax"])
@pytest.mark.parametrize("normalization", ["none", "layer_norm", "constant_norm_rescale"])
def test_activations_by_k_and_normalizations(tmp_path, activation, normalization):
    """Each as it is written in the papers, in float64."""
    encoder, decoder, b_enc, b_dec = (t.double() for t in matrices())
    x = rows(D).double()
    mean, scale = torch.zeros(()), torch.ones(())
    x_in = x
    if normalization == "layer_norm":
        mean, scale = x.mean(1, keepdim=True), x.std(1, keepdim=True)
        x_in = (x - mean) / (scale + 1e-5)
    elif normalization == "constant_norm_rescale":
        scale = x.norm(dim=1, keepdim=True) / D**0.5
        x_in = x / scale
    pre = (x_in - b_dec) @ encoder.T + b_enc
    if activation == "groupmax":
        k = 6
        groups = pre.reshape(len(x), k, F // k)
        f = (groups * (groups == groups.max(-1, keepdim=True).values)).flatten(1).relu()
    else:
        k = K
        kept = (pre.abs() if activation == "abstopk" else pre).topk(k).indices
        f = torch.zeros_like(pre).scatter(1, kept, pre.gather(1, kept))
        f = f.relu() if activation == "topk" else f
    x_hat = (f @ decoder.T + b_dec) * scale + mean
    path = saved(tmp_path / "sae.pt", styles()["two Linear layers"].saved)
    given = {"activation": activation, "normalization": normalization, "pre_encoder_subtraction": "b_dec", "k": k}
    assert_same(path, x.float(), f.float(), x_hat.float(), given=given, layout="state_dict")
    converts(path, tmp_path / "out", "saereg", **given)


def test_a_topk_may_keep_negative_latents_if_it_is_said(tmp_path):
    """Otherwise ReLU is assumed, and recorded."""
    path = saved(tmp_path / "sae.pt", styles()["two Linear layers"].saved)
    given = RELU | {"activation": "topk", "k": F}
    assumed = read(path, given, "state_dict")
    assert assumed.cfg.semantics.rectified
    assert any(note.field == "rectified" for note in assumed.cfg.assumptions)
    kept = read(path, given | {"rectified": "false"}, "state_dict")
    assert not kept.cfg.semantics.rectified
    converts(path, tmp_path / "out", "saereg", **given, rectified="false")
    assert "only topk does" in refused(path, **RELU, rectified="false")


def test_gated_vectors_make_a_gated_dictionary(tmp_path):
    """All three or none."""
    encoder, decoder, _, b_dec = matrices()
    gates = {"gate_bias": random(F, seed=5), "mag_bias": random(F, seed=6), "r_mag": random(F, seed=7)}
    tensors = {"encoder.weight": encoder, "decoder.weight": decoder, "decoder_bias": b_dec, **gates}
    path, x = saved(tmp_path / "sae.pt", tensors), rows(D)
    product = (x - b_dec) @ encoder.T
    open_ = product + gates["gate_bias"] > 0
    f = open_ * (product * gates["r_mag"].exp() + gates["mag_bias"]).relu()
    given = RELU | {"activation": "gated", "pre_encoder_subtraction": "b_dec"}
    assert_same(path, x, f, f @ decoder.T + b_dec, given=given, layout="state_dict")
    converts(path, tmp_path / "out", "saelens", **given)
    assert refused(path, **RELU) == (
        f"{path}: activation gated, and no other, has b_gate, b_mag, r_mag; the file holds gate_bias, mag_bias, r_mag"
    )


def test_a_transcoder_is_told_by_its_widths_or_named(tmp_path):
    """Its output has another width, or is said to be elsewhere."""
    encoder, b_enc = random(F, D), random(F, seed=1)
    decoder, b_dec = random(O, F, seed=2), random(O, seed=3)
    tensors = {"encoder.weight": encoder, "decoder.weight": decoder, "encoder.bias": b_enc, "decoder.bias": b_dec}
    path, x = saved(tmp_path / "a.pt", tensors), rows(D)
    f = (x @ encoder.T + b_enc).relu()
    dictionary = assert_same(path, x, f, f @ decoder.T + b_dec, given=RELU, layout="state_dict")
    assert dictionary.cfg.kind == "transcoder"
    assert refused(path, **RELU, kind="sae") == "kind=sae, but input and output have other widths"
    path = saved(tmp_path / "b.pt", styles()["two Linear layers"].saved)
    assert read(path, RELU | {"kind": "transcoder"}, "state_dict").cfg.kind == "transcoder"
    assert any(n.field == "kind" for n in read(path, RELU, "state_dict").cfg.assumptions)


def test_two_biases_before_and_after_must_be_one(tmp_path):
    """Equal: one; different: refused with what to do."""
    encoder, decoder, b_enc, b_dec = matrices()
    tensors = {"encoder.weight": encoder, "decoder.weight": decoder, "encoder.bias": b_enc, "b_dec": b_dec}
    given = RELU | {"pre_encoder_subtraction": "b_dec"}
    path = saved(tmp_path / "a.pt", tensors | {"pre_bias": b_dec.clone()})
    reading = read(path, given, "state_dict")
    assert reading.left_out == ("pre_bias",)
    path = saved(tmp_path / "b.pt", tensors | {"pre_bias": b_dec + 1})
    assert refused(path, **given) == (
        f"{path}: pre_bias and b_dec differ: what is subtracted before the encoder would be another vector than what "
        "is added after the decoder; fold the first into the encoder's bias, b_enc − pre_bias·W_enc"
    )


def test_a_file_without_biases_has_none(tmp_path):
    """They are zeros, on record; then nothing is asked about a subtraction."""
    encoder, decoder, *_ = matrices()
    path, x = saved(tmp_path / "sae.pt", {"encoder.weight": encoder, "decoder.weight": decoder}), rows(D)
    given = {"activation": "relu", "normalization": "none"}
    f = (x @ encoder.T).relu()
    dictionary = assert_same(path, x, f, f @ decoder.T, given=given, layout="state_dict")
    assert {"b_enc", "b_dec"} <= {note.field for note in dictionary.cfg.assumptions if note.value == "0"}
    converts(path, tmp_path / "out", "saelens", **given)


def test_a_backup_of_dictionary_learning_is_sent_there(tmp_path):
    """Its biases are in other units."""
    path = saved(tmp_path / "ae.pt", {"step": 5, "ae": Script().state_dict(), "optimizer": {}, "norm_factor": 21.0})
    path = saved(path, {"step": 5, "ae": Script().state_dict(), "optimizer": {"lr": 1.0}, "norm_factor": 21.0})
    assert refused(path, **RELU) == (
        f"{path}: a backup that dictionary_learning makes in the middle of a run: its biases are in other units than "
        "its ae.pt; use that, or read this --from dictionary-learning"
    )


def test_a_scale_beside_the_tensors_is_not_dropped_in_silence(tmp_path):
    """Neither as a number nor as a tensor; an expansion factor is no scale."""
    plain = Script().state_dict()
    path = saved(tmp_path / "a.pt", {"model": plain, "norm_factor": 21.5, "expansion_factor": 3})
    assert refused(path, **RELU) == (
        f"{path}: norm_factor = 21.5 may be a scale of inputs, which these tensors would need; fold it into them, or "
        "say that it is not: --set unused=norm_factor"
    )
    cfg = read(path, RELU | {"unused": "norm_factor"}, "state_dict").cfg
    assert ("beside the tensors", "norm_factor = 21.5; expansion_factor = 3") in {
        (n.field, n.value) for n in cfg.assumptions
    }
    path = saved(tmp_path / "b.pt", plain | {"running_mean": random(D)})
    assert refused(path, **RELU).endswith("say it: --set unused=running_mean")
    path = saved(tmp_path / "c.pt", {"model": plain, "scaling": torch.tensor(3.0)})
    assert refused(path, **RELU).endswith("say it: --set unused=scaling")


def test_a_k_that_the_file_contradicts_is_refused(tmp_path):
    """As a number or as a tensor."""
    plain = Script().state_dict()
    given = RELU | {"activation": "topk", "k": "5"}
    path = saved(tmp_path / "a.pt", {"model": plain, "cfg": {"top_k": 8}})
    assert refused(path, **given) == "k=5, but a.pt says cfg/top_k = 8"
    path = saved(tmp_path / "b.pt", plain | {"k": torch.tensor(8)})
    assert refused(path, **given) == "k=5, but b.pt says k = 8"
    path = saved(tmp_path / "c.pt", plain | {"k": torch.tensor(5)})
    assert read(path, given, "state_dict").cfg.semantics.k == 5
    assert refused(path, **(RELU | {"k": "5"})) == "k=5: activation relu has no k"


ODD = {
    "no matrix": ({"b": random(F)}, "expected the two matrices of a dictionary, or one that is tied; found none"),
    "three matrices": (
        {"encoder.weight": random(F, D), "decoder.weight": random(D, F), "W_skip": random(D, D)},
        "found encoder.weight (48, 16), decoder.weight (16, 48), W_skip (16, 16); name those that are not of the "
        "function: --set unused=NAME,NAME",
    ),
    "three axes": ({"W_enc": random(2, D, F), "W_dec": random(2, F, D)}, "found W_enc (2, 16, 48), W_dec (2, 48, 16)"),
    "no shared axis": (
        {"W_enc": random(D, F), "W_dec": random(7, 9)},
        "W_enc (16, 48) and W_dec (7, 9): share no axis, so no number of latents",
    ),
    "a bias of another length": (
        {"W_enc": random(D, F), "W_dec": random(F, D), "b_enc": random(7)},
        "b_enc (7,) would be b_enc, which has 48 values; say what it is, or --set unused=b_enc",
    ),
    "a vector of no length": (
        {"W_enc": random(D, F), "W_dec": random(F, D), "u": random(7)},
        "the tensors do not say unused (if it is so; else it is a part that this layout has not); say it: "
        "--set unused=u",
    ),
    "two encoder biases": (
        {"W_enc": random(D, F), "W_dec": random(F, D), "b_enc": random(F), "latent_bias": random(F)},
        "the tensors do not say b_enc (several are named so); say it: --set b_enc=b_enc|latent_bias",
    ),
    "two nests": (
        {"a": {"W_enc": random(D, F)}, "b": {"W_enc": random(D, F)}},
        "the tensors do not say inside (several nests hold matrices); say it: --set inside=a|b",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tensors", "message"), ODD.values(), ids=ODD)
def test_odd_files_are_one_line(tmp_path, tensors, message):
    """Where, what, and what to do."""
    path = saved(tmp_path / "sae.pt", tensors)
    line = refused(path, **RELU)
    assert line.startswith(f"{path}: ")
    assert message in line


BAD = {
    "an unknown activation": ({"activation": "gelu"}, "activation=gelu: choose from relu, topk,"),
    "an unknown normalization": ({"normalization": "batch"}, "normalization=batch: choose from none, layer_norm,"),
    "a misspelt name": ({"activaton": "relu"}, "this layout does not ask for 'activaton'; did you mean 'activation'?"),
    "a tensor that is not there": ({"b_enc": "x"}, "b_enc=x: sae.pt has no such tensor; it holds decoder.bias,"),
    "a bias for a matrix": ({"encoder": "encoder.bias"}, "encoder.bias is no matrix of the dictionary"),
    "a nest that is not there": ({"inside": "sae"}, "inside=sae: sae.pt has no such nest"),
    "k beyond d_sae": ({"activation": "topk", "k": "99"}, "k = 99 exceeds d_sae = 48"),
    "k zero": ({"activation": "topk", "k": "0"}, "k=0: expected a positive number"),
    "a wrong orientation": ({"encoder_latents": "columns"}, "encoder_latents=columns: encoder.weight is (48, 16)"),
    "a kind that is none": ({"kind": "crosscoder"}, "kind=crosscoder: choose from sae, transcoder"),
}


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD)
def test_what_is_given_wrongly_is_one_line(tmp_path, given, message):
    """Never a traceback."""
    path = saved(tmp_path / "sae.pt", Script().state_dict())
    assert message in refused(path, **(RELU | given))


def test_half_precision_is_moved_and_computed_in_float32(tmp_path):
    """The logarithm of a threshold in bfloat16 is widened first."""
    state = {name: t.bfloat16() for name, t in Script().state_dict().items()}
    path = saved(tmp_path / "sae.pt", state | {"log_threshold": random(F).bfloat16()})
    given = RELU | {"activation": "jumprelu"}
    reading = read(path, given, "state_dict")
    assert (reading.cfg.dtype, reading.cfg.dtypes) == ("bfloat16", {"threshold": "float32"})
    record = converts(path, tmp_path / "out", "saereg", **given)
    assert record.tensors["W_enc"].bitwise
    assert not record.tensors["threshold"].bitwise


def test_every_inference_is_on_record(tmp_path):
    """Field, value and reason."""
    path = saved(tmp_path / "sae.pt", Script().state_dict())
    notes = {note.field: note for note in read(path, RELU, "state_dict").cfg.assumptions}
    assert notes["d_sae"].because == "encoder.bias has 48 values"
    assert notes["encoder, decoder"].because == "by name: encoder.weight and decoder.weight"
    assert notes["activation"].because == "given by the caller"
    assert set(notes) == {"d_sae", "encoder, decoder", "kind", *RELU}


NAMES = {
    "encoder.bias": "b_enc", "b_enc": "b_enc", "latent_bias": "b_enc", "enc_b": "b_enc", "bias": "b_dec",
    "b_D": "b_dec", "decoder_bias": "b_dec", "pre_bias": "pre_bias", "pre_encoder_bias": "pre_bias",
    "b_pre": "pre_bias", "log_jumprelu_threshold": "log_threshold", "activation.threshold": "threshold",
    "gate_bias": "b_gate", "mag_bias": "b_mag", "r_mag": "r_mag", "encoder.scale": "scale",
    "stats_last_nonzero": "statistic", "latents_mean_square": "statistic", "u": None, "weight": None,
}  # fmt: skip


@pytest.mark.parametrize(("name", "part"), NAMES.items())
def test_the_part_that_a_name_tells(name, part):
    """Or none."""
    assert role(name) == part


def test_the_side_that_a_name_tells():
    """One of two, never both."""
    assert [side(n) for n in ("W_enc", "encoder.weight", "E", "W_dec", "decode", "D", "encoder_decoder", "W")] == [
        "encoder", "encoder", "encoder", "decoder", "decoder", "decoder", None, None,
    ]  # fmt: skip


SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
FILES = st.dictionaries(st.sampled_from([*NAMES, "W_enc", "W_dec", "a/W", "b/W", "module.W_enc"]), SHAPES, max_size=6)


@examples(FILES)
def test_no_file_of_any_tensors_breaks_it(shapes):
    """It is taken apart, or refused with a sentence."""
    file = MemoryFile({name: torch.zeros(shape) for name, shape in shapes.items()}, Path("any.pt"))
    with contextlib.suppress(FormatError, UsageError):
        dissect(file, Given())


@pytest.mark.parametrize(
    ("name", "what"),
    [("encoder.weight", "a matrix"), ("encoder.bias", "a tensor"), ("threshold", "a tensor"), ("b_dec", "a tensor")],
)
def test_float8_is_refused_in_one_line(tmp_path, name, what):
    """No reader computes with it, and a bias of it is not left out in silence."""
    encoder, decoder, b_enc, b_dec = matrices()
    state = {"encoder.weight": encoder, "decoder.weight": decoder, "encoder.bias": b_enc, "b_dec": b_dec}
    state |= {"threshold": random(F).abs()}
    state[name] = state[name].to(torch.float8_e4m3fn)
    path = saved(tmp_path / "a.pt", state)
    assert refused(path, **RELU | {"activation": "jumprelu"}) == (
        f"{path}: {name} is {what} of float8_e4m3fn, which may be quantized weights; "
        f"convert it to float32, or say --set unused={name}"
    )
