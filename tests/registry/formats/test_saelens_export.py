"""Every dictionary in saereg's words that SAELens can say, as SAELens loads and computes it; and all that it cannot."""

import json

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from saereg.errors import FormatError
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.dictionary import Dictionary
from saereg.registry.formats.saelens_export import ARCHITECTURES, to_saelens
from saereg.registry.loading import read
from saereg.schemas.cfg import SaelensMetadata
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig
from saereg.schemas.semantics import Assumption, Normalization, Semantics
from tests.upstream import D, F, K, O, assert_converts, random, relative, rows

THRESHOLDS = {"jumprelu": "per_latent", "batchtopk": "scalar"}
INVERTED = {"statistics": "per_row", "inverted_on_output": True}
BY_NORM = {"gate_quantity": "pre_times_decoder_norm"}
SCALED = BY_NORM | {"latents_scaled_by_decoder_norm": True}


def config(
    kind: str, activation: str, *, dtype: str = "float32", d_out: int | None = None, **fields
) -> DictionaryConfig:
    """Return a configuration; fields that are none of the document's are switches."""
    outer = {name: fields.pop(name) for name in ("dtypes", "metadata", "assumptions") if name in fields}
    threshold = THRESHOLDS.get(activation, "none")
    rules = {
        "pre_encoder_subtraction": "b_dec" if kind == "sae" else "none",
        "activation": activation,
        "gate_quantity": "gate_pre_activation" if activation == "gated" else "pre_activation",
        "rectified": activation != "abstopk",
        "threshold": threshold,
        "threshold_units": "none" if threshold == "none" else "gate_quantity",
        "k": float(K) if "topk" in activation or activation == "groupmax" else None,
    }
    widths = {"d_in": D, "d_sae": F, "d_out": d_out or (D if kind == "sae" else O)}
    semantics = Semantics(**rules | fields)
    return DictionaryConfig.made("test", kind=kind, dtype=dtype, **widths, semantics=semantics, **outer)


def written(path, cfg: DictionaryConfig, *, seed: int = 0):
    """Write a folder of saereg's own layout, with weights that hide no mistake."""
    path.mkdir()
    tensors = {}
    for position, (name, spec) in enumerate(cfg.tensors().items()):
        value = random(*spec.shape, seed=seed + position)
        value = value.abs() + 0.1 if name == "threshold" else value
        tensors[name] = value.to(getattr(torch, spec.dtype or cfg.dtype))
    save_file(tensors, path / "weights.safetensors")
    (path / "cfg.json").write_text(cfg.text())
    return path


def agrees(sae, dictionary, x, *, tolerance: float = 1e-5):
    """Compare SAELens with what was converted."""
    with torch.no_grad():
        f, x_hat = sae.encode(x), sae(x)
    assert torch.equal(dictionary.encode(x) != 0, f != 0)
    assert relative(f, dictionary.encode(x)) < tolerance
    assert relative(x_hat, dictionary(x)) < tolerance


NORMALIZED = {
    "layer_norm": {"normalization": Normalization(kind="layer_norm", **INVERTED)},
    "constant_norm_rescale": {"normalization": Normalization(kind="constant_norm_rescale", **INVERTED)},
}


def gates(activation: str) -> dict[str, dict]:
    """Return the gates that SAELens can be given for an activation."""
    if activation in ("topk", "abstopk"):
        return {"plain": {}, "rescaled": SCALED}
    return {"plain": {}} | ({} if activation == "gated" else {"by norm": BY_NORM, "by norm, stored": SCALED})


def cases():
    """Return every row of the table, with every switch that SAELens has for it."""
    for (kind, activation), name in ARCHITECTURES.items():
        fields = dict(gates(activation))
        for normalization, norm in NORMALIZED.items():
            if kind == "transcoder":
                norm = {key: value.model_copy(update={"inverted_on_output": False}) for key, value in norm.items()}
            fields[normalization] = norm
        if kind == "sae":
            fields["nothing subtracted"] = {"pre_encoder_subtraction": "none"}
        for label, switches in fields.items():
            yield pytest.param(kind, activation, name, switches, id=f"{kind}, {activation}, {label}")
            if kind == "transcoder":
                full = {"skip": "x_times_W_skip_transposed"} | switches
                skips = name.replace("transcoder", "skip_transcoder")
                yield pytest.param(kind, activation, skips, full, id=f"skip {kind}, {activation}, {label}")


@pytest.mark.parametrize(("kind", "activation", "architecture", "fields"), cases())
def test_saelens_computes_what_was_converted(tmp_path, kind, activation, architecture, fields):
    """Equal active sets, activations and x_hat, with the proof of the conversion beside it."""
    path, x = written(tmp_path / "a", config(kind, activation, **fields)), rows(D)
    assert_converts(path, tmp_path / "b", "saelens")
    sae = SAE.load_from_disk(tmp_path / "b")
    assert sae.cfg.architecture() == architecture
    agrees(sae, Dictionary(read(path).checkpoint()), x)


def test_a_threshold_by_norm_is_passed_strictly_after_the_fold(tmp_path):
    """With norms that are powers of two, no rounding hides the edge."""
    path, x = written(tmp_path / "a", config("sae", "jumprelu", **BY_NORM)), rows(D)
    tensors = load_file(path / "weights.safetensors")
    tensors["W_dec"] = torch.zeros(F, D)
    tensors["W_dec"][torch.arange(F), torch.arange(F) % D] = 2.0 ** (torch.arange(F) % 5 - 2)
    n = tensors["W_dec"].norm(dim=1)
    gate = ((x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]) * n
    on = int(gate[0].argmax())
    below = next(int(j) for j in gate[1].argsort(descending=True) if int(j) != on)
    tensors["threshold"][on] = gate[0, on]
    tensors["threshold"][below] = torch.nextafter(gate[1, below], torch.tensor(-torch.inf))
    save_file(tensors, path / "weights.safetensors")
    assert_converts(path, tmp_path / "b", "saelens")
    sae = SAE.load_from_disk(tmp_path / "b")
    with torch.no_grad():
        assert sae.encode(x)[0, on] == 0
        assert sae.encode(x)[1, below] > 0
    agrees(sae, Dictionary(read(path).checkpoint()), x)


MIXED = [
    ("float32", {"threshold": "float64"}, "float64"),
    ("bfloat16", {"threshold": "float32"}, "float32"),
    ("bfloat16", {"b_dec": "float16"}, "float32"),
    ("float16", {"W_enc": "float32", "b_enc": "bfloat16"}, "float32"),
    ("bfloat16", {}, "bfloat16"),
    ("float16", {}, "float16"),
    ("float64", {"threshold": "float32"}, "float64"),
]


@pytest.mark.parametrize(("dtype", "dtypes", "expected"), MIXED)
def test_types_are_widened_to_one_that_holds_them_all(tmp_path, dtype, dtypes, expected):
    """SAELens has one type for all tensors; no value changes."""
    path = written(tmp_path / "a", config("sae", "jumprelu", dtype=dtype, dtypes=dtypes))
    convert(Order(path, tmp_path / "b", "saelens"))
    before, after = load_file(path / "weights.safetensors"), load_file(tmp_path / "b/sae_weights.safetensors")
    assert all(torch.equal(after[name].double(), tensor.double()) for name, tensor in before.items())
    assert {str(tensor.dtype) for tensor in after.values()} == {f"torch.{expected}"}
    assert SAE.load_from_disk(tmp_path / "b").W_dec.dtype == getattr(torch, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_norms_of_half_types_go_into_float32(tmp_path, dtype):
    """Rounding thresholds to half precision again would flip gates."""
    path, x = written(tmp_path / "a", config("sae", "jumprelu", dtype=dtype, **BY_NORM)), rows(D)
    assert_converts(path, tmp_path / "b", "saelens")
    sae = SAE.load_from_disk(tmp_path / "b")
    assert sae.W_dec.dtype == torch.float32
    tensors = {name: tensor.float() for name, tensor in load_file(path / "weights.safetensors").items()}
    wide = written(tmp_path / "wide", config("sae", "jumprelu", **BY_NORM))
    save_file(tensors, wide / "weights.safetensors")
    agrees(sae, Dictionary(read(wide).checkpoint()), x)


def test_heads_are_flattened_in_saelens_too(tmp_path):
    """Where the hook's name says so."""
    fields = {"reshape": "hook_z", "metadata": SaelensMetadata(hook_name="blocks.1.attn.hook_z")}
    path, x = written(tmp_path / "a", config("sae", "relu", **fields)), rows(4, D // 4)
    assert_converts(path, tmp_path / "b", "saelens")
    agrees(SAE.load_from_disk(tmp_path / "b"), Dictionary(read(path).checkpoint()), x)


def test_what_is_known_goes_along(tmp_path):
    """Metadata, assumptions, the k of BatchTopK; a version of before 6 would make SAELens read another format."""
    fields = {
        "metadata": SaelensMetadata(
            hook_name="blocks.1.hook_resid_post", model_name="pythia", sae_lens_version="5.1.0"
        ),
        "assumptions": (Assumption(field="k", value="5", because="told"),),
    }
    path = written(tmp_path / "a", config("sae", "batchtopk", **fields))
    assert_converts(path, tmp_path / "b", "saelens")
    metadata = SAE.load_from_disk(tmp_path / "b").cfg.metadata
    assert (metadata.hook_name, metadata.model_name) == ("blocks.1.hook_resid_post", "pythia")
    assert metadata.saereg_assumptions == [{"field": "k", "value": "5", "because": "told"}]
    assert metadata.training_architecture_details == {"k": 5.0}
    said = json.loads((tmp_path / "b/cfg.json").read_text())["metadata"]
    assert said["source_sae_lens_version"] == "5.1.0"
    assert said["sae_lens_version"].startswith("6.")


USE = "; use --to saereg"
REFUSED = {
    "groupmax": (("sae", "groupmax"), {"k": 6.0}, "an SAE with activation 'groupmax' has no class there" + USE),
    "TopK transcoder": (("transcoder", "topk"), {}, "a transcoder with activation 'topk' has no class there" + USE),
    "gated transcoder": (("transcoder", "gated"), {}, "a transcoder with activation 'gated' has no class there" + USE),
    "negative latents": (
        ("sae", "topk"),
        {"rectified": False},
        "it keeps active latents that are negative, and SAELens sets them to 0" + USE,
    ),
    "statistics": (
        ("sae", "relu"),
        {"normalization": Normalization(kind="center_scale", statistics="stored", inverted_on_output=True)},
        "it has no input normalization 'center_scale'" + USE,
    ),
    "an SAE that is not mapped back": (
        ("sae", "relu"),
        {"normalization": Normalization(kind="layer_norm", statistics="per_row")},
        "it maps the output of an SAE back, and of a transcoder never" + USE,
    ),
    "TopK by norm, not stored": (
        ("sae", "topk"),
        BY_NORM,
        "where it ranks by pre·‖W_dec‖ it also stores that as the activation, and here it is not stored",
    ),
    "no output bias": (("sae", "relu"), {"output_bias": "none"}, "it always adds b_dec to the output"),
    "SAE with a skip": (
        ("sae", "relu"),
        {"skip": "x_times_W_skip_transposed"},
        "only its transcoders have skip connections",
    ),
    "transcoder that subtracts": (
        ("transcoder", "relu"),
        {"d_out": D, "pre_encoder_subtraction": "b_dec"},
        "its transcoders never subtract b_dec from the input" + USE,
    ),
    "transcoder of heads": (
        ("transcoder", "relu"),
        {"reshape": "hook_z"},
        "its transcoders do not flatten heads" + USE,
    ),
    "heads elsewhere": (
        ("sae", "relu"),
        {"reshape": "hook_z", "metadata": SaelensMetadata(hook_name="blocks.0.hook_q")},
        "it flattens heads only at hooks whose name ends in _z, and hook_name is 'blocks.0.hook_q'",
    ),
}


@pytest.mark.parametrize(("row", "fields", "why"), REFUSED.values(), ids=REFUSED)
def test_what_saelens_would_read_as_another_function_is_refused(row, fields, why):
    """With the reason, in one line."""
    with pytest.raises(FormatError) as caught:
        to_saelens(config(*row, **fields))
    assert str(caught.value) == f"SAELens: cannot say this dictionary: {why}"


def test_codes_across_layers_are_refused():
    """They have no class there."""
    rules = Semantics(pre_encoder_subtraction="none", activation="relu", gate_quantity="pre_activation")
    widths = {"d_in": D, "d_out": D, "d_sae": F, "n_layers": 2, "dtype": "float32"}
    cfg = CrossLayerConfig.made("test", kind="cross_layer", writes="all", semantics=rules, **widths)
    with pytest.raises(FormatError) as caught:
        to_saelens(cfg)
    assert str(caught.value) == (
        "SAELens: cannot say this dictionary: a code for each layer, decoded by several, has no class there; use --to "
        "saereg"
    )


def test_a_dead_latent_does_not_become_infinite(tmp_path):
    """Norms have a floor, as in SAELens; a latent that writes nothing was never active, and stays so."""
    path, x = written(tmp_path / "a", config("sae", "jumprelu", **BY_NORM)), rows(D)
    tensors = load_file(path / "weights.safetensors")
    tensors["W_dec"][3] = 0
    save_file(tensors, path / "weights.safetensors")
    assert_converts(path, tmp_path / "b", "saelens")
    after = load_file(tmp_path / "b/sae_weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in after.values())
    agrees(SAE.load_from_disk(tmp_path / "b"), Dictionary(read(path).checkpoint()), x)
