"""The forward of a configuration, from its switches, in float64: the reference of the layouts that spell them out.

Written apart from `saereg/registry/architectures`, so that the two can disagree.
"""

from typing import TYPE_CHECKING

from saereg.registry.semantics import semantics_of
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig
from saereg.schemas.semantics import Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reading import Reading
    from saereg.registry.readings.reference import Codes, Decided, Raw


def reference(raw: "Raw", reading: "Reading", x: "Tensor") -> "Codes | None":
    """Return the codes of a few rows, or None for matching pursuit and temporal, which have no switches to go by."""
    cfg = reading.cfg
    rules = semantics_of(cfg)
    if rules.activation in ("matching_pursuit", "temporal"):
        return None
    if isinstance(cfg, CrosscoderConfig):
        return _crosscoder(raw, cfg, rules, x.double())
    if isinstance(cfg, CrossLayerConfig):
        return _cross_layer(raw, cfg, rules, x.double())
    return _rows(raw, rules, x.double())


def _rows(raw: "Raw", rules: Semantics, x: "Tensor") -> "Codes":
    from saereg.registry.readings.reference import Codes, layer_norm

    kind, mean, scale = rules.normalization.kind, None, None
    x_in = x
    if kind == "layer_norm":
        x_in, mean, scale = layer_norm(x)
    elif kind == "constant_norm_rescale":
        scale = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        x_in = x / scale
    elif kind in ("center", "scale", "center_scale"):
        mean = raw.vector("input_mean") if "center" in kind else None
        scale = 1 / raw.vector("input_scale") if "scale" in kind else None
        x_in = (x if mean is None else x - mean) / (1 if scale is None else scale)
    x_c = x_in - raw.vector("b_dec") if rules.pre_encoder_subtraction == "b_dec" else x_in
    norms = raw.row_norms("W_dec") if "decoder_norm" in rules.gate_quantity else None
    f, margin = _decide(raw, rules, raw.times(x_c, "W_enc"), norms)
    codes = f / norms if rules.latents_scaled_by_decoder_norm and norms is not None else f
    x_hat = raw.times(codes, "W_dec") + (raw.vector("b_dec") if rules.output_bias == "b_dec" else 0)
    if rules.normalization.inverted_on_output:
        x_hat = x_hat * (1 if scale is None else scale) + (0 if mean is None else mean)
    if rules.skip != "none":
        x_hat = x_hat + raw.times_transposed(x, "W_skip")
    return Codes(f, x_hat, margin)


def _decide(raw: "Raw", rules: Semantics, product: "Tensor", norms: "Tensor | None", suffix: str = "") -> "Decided":
    """Return (f, margin) of products x·W_enc (n, F), or of (n, K, F) where sources decide apart."""
    from saereg.registry.readings import reference as do

    if rules.activation == "gated":
        r_mag = raw.vector("r_mag")
        return do.gated(product + raw.vector("b_gate"), product * r_mag.exp() + raw.vector("b_mag"))
    b_enc = raw.vector(f"b_enc{suffix}")
    pre = product + (b_enc.sum(dim=0) if rules.bias_reduction == "sum_over_sources" else b_enc)
    if rules.gate == "per_source" and norms is not None:
        pre = pre[:, None, :].expand(-1, len(norms), -1)
    gate = pre if norms is None else pre * norms
    value = gate if rules.latents_scaled_by_decoder_norm else pre
    if rules.activation == "relu":
        return do.relu(value)
    if rules.activation == "topk":
        return do.topk(value, int(rules.k or 0), gate, keep_negative=not rules.rectified)
    if rules.activation == "abstopk":
        return do.topk(value, int(rules.k or 0), gate.abs(), keep_negative=True)
    if rules.activation == "groupmax":
        return do.groupmax(value, int(rules.k or 0))
    key = "topk_threshold" if "topk_threshold" in raw.files[""].entries else f"threshold{suffix}"
    cut = raw.vector(key)
    cut = cut[:, None] if rules.threshold == "per_source" else cut
    return do.threshold(value, cut, gate, keep_negative=not rules.rectified)


def _crosscoder(raw: "Raw", cfg: CrosscoderConfig, rules: Semantics, x: "Tensor") -> "Codes":
    import torch

    from saereg.registry.readings.reference import Codes

    sources, mean, scale = range(cfg.n_sources), None, None
    if "center" in cfg.statistics.preprocess:
        mean = raw.vector("input_mean")
    if "scale" in cfg.statistics.preprocess:
        scale = raw.vector("input_scale")
        scale = scale[:, None] if scale.ndim == 1 else scale
    x_in = (x if mean is None else x - mean) * (1 if scale is None else scale)
    product = sum(raw.times(x_in[:, k], "W_enc", at={0: k}) for k in sources)
    f, margin = _decide(raw, rules, product, _code_norm(raw, cfg))  # type: ignore[arg-type]
    at_source = f if f.ndim == 3 else f[:, None, :].expand(-1, cfg.n_sources, -1)
    x_hat = torch.stack([raw.times(at_source[:, k], "W_dec", at={1: k}) for k in sources], dim=1) + raw.vector("b_dec")
    if cfg.statistics.inverted_on_output:
        x_hat = x_hat / (1 if scale is None else scale) + (0 if mean is None else mean)
    return Codes(f, x_hat, margin)


def _code_norm(raw: "Raw", cfg: CrosscoderConfig) -> "Tensor | None":
    import torch

    if cfg.code_norm == "none":
        return None
    norms = torch.stack([raw.row_norms("W_dec", at={1: k}) for k in range(cfg.n_sources)])
    joint, total = norms.square().sum(dim=0).sqrt(), norms.sum(dim=0)
    of_joint, of_total = cfg.code_norm_weights or (0.0, 0.0)
    choices = {"sum_of_norms": total, "joint_norm": joint, "mixed": of_joint * joint + of_total * total}
    return choices.get(cfg.code_norm, norms)


def _cross_layer(raw: "Raw", cfg: CrossLayerConfig, rules: Semantics, x: "Tensor") -> "Codes":
    import torch

    from saereg.registry.readings.reference import Codes

    decided = [_decide(raw, rules, raw.times(x[:, i], f"W_enc.{i}"), None, f".{i}") for i in range(cfg.n_layers)]
    outputs = [raw.vector(f"b_dec.{t}").expand(len(x), -1) for t in range(cfg.n_layers)]
    for i, (f, _) in enumerate(decided):
        for t in cfg.targets(i):
            outputs[t] = outputs[t] + raw.times(f, f"W_dec.{i}.{t}")
    if rules.skip != "none":
        outputs = [out + raw.times_transposed(x[:, t], f"W_skip.{t}") for t, out in enumerate(outputs)]
    margin = torch.stack([margin for _, margin in decided]).min(dim=0).values
    return Codes(torch.stack([f for f, _ in decided], dim=1), torch.stack(outputs, dim=1), margin)
