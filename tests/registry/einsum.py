"""The function of a configuration in saereg's own dialect, from `docs/semantics.md`, in float64 and with einsum."""

from collections.abc import Mapping

import torch
from torch import Tensor, einsum

from saereg.registry.semantics import semantics_of
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig
from saereg.schemas.semantics import Semantics

Weights = Mapping[str, Tensor]


def forward(cfg: DictionaryConfig | CrosscoderConfig | CrossLayerConfig, weights: Weights, x: Tensor):
    """Return (f, x_hat) of rows x (n, …)."""
    w = {name: tensor.double() for name, tensor in weights.items()}
    of = {"crosscoder": crosscoder, "cross_layer": cross_layer}.get(cfg.kind, dictionary)
    return of(cfg, w, x.double())


def dictionary(cfg: DictionaryConfig, w: Weights, x: Tensor):
    """Return (f (n, F), x_hat (n, O)) of an SAE or a transcoder."""
    rules = cfg.semantics
    x_in, scale, shift = normalized(rules.normalization.kind, w, x)
    x_c = x_in - w["b_dec"] if rules.pre_encoder_subtraction == "b_dec" else x_in
    norm = einsum("fo,fo->f", w["W_dec"], w["W_dec"]).sqrt()
    times = norm if rules.gate_quantity == "pre_times_decoder_norm" else torch.ones_like(norm)
    f = latents(rules, einsum("nd,df->nf", x_c, w["W_enc"]), w, times)
    codes = f / norm if rules.latents_scaled_by_decoder_norm else f
    x_hat = einsum("nf,fo->no", codes, w["W_dec"])
    if rules.output_bias == "b_dec":
        x_hat = x_hat + w["b_dec"]
    if rules.normalization.inverted_on_output:
        x_hat = x_hat * scale + shift
    if rules.skip != "none":
        x_hat = x_hat + einsum("nd,od->no", x, w["W_skip"])
    return f, x_hat


def normalized(kind: str, w: Weights, x: Tensor):
    """Return (x_in, scale, shift) with x̂ = scale · x̂_in + shift the way back."""
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    if kind == "none":
        return x, one, zero
    if kind == "layer_norm":
        shift = x.mean(dim=-1, keepdim=True)
        scale = (((x - shift) ** 2).sum(dim=-1, keepdim=True) / (x.shape[-1] - 1)).sqrt()
        return (x - shift) / (scale + 1e-5), scale, shift
    if kind == "constant_norm_rescale":
        scale = (x**2).sum(dim=-1, keepdim=True).sqrt() / x.shape[-1] ** 0.5
        return x / scale, scale, zero
    factor = w.get("input_scale", one)
    if factor.ndim == 1:
        factor = factor[:, None]
    shift = w.get("input_mean", zero)
    return (x - shift) * factor, 1 / factor, shift


def latents(rules: Semantics, product: Tensor, w: Weights, times: Tensor) -> Tensor:
    """Return f of products (n, F) or (n, K, F); `times` is what makes the gate quantity of pre-activations."""
    if rules.activation == "gated":
        return (product + w["b_gate"] > 0) * (product * w["r_mag"].exp() + w["b_mag"]).clamp(min=0)
    pre = product + (w["b_enc"].sum(dim=0) if rules.bias_reduction == "sum_over_sources" else w["b_enc"])
    if times.ndim == 2:
        pre = pre[:, None, :].expand(-1, len(times), -1)
    gate = pre * times
    value = gate if rules.latents_scaled_by_decoder_norm else pre
    f = value * kept(rules, gate, w)
    return f.clamp(min=0) if rules.rectified else f


def kept(rules: Semantics, gate: Tensor, w: Weights) -> Tensor:
    """Return which latents are kept."""
    if rules.activation == "relu":
        return torch.ones_like(gate)
    if rules.activation in ("topk", "abstopk"):
        ranked = gate.abs() if rules.activation == "abstopk" else gate
        larger = (ranked[..., None, :] > ranked[..., :, None]).sum(dim=-1)
        return larger < rules.k
    if rules.activation == "groupmax":
        groups = gate.reshape(len(gate), int(rules.k), -1)
        return (groups == groups.max(dim=-1, keepdim=True).values).reshape(gate.shape)
    cut = w["threshold"]
    return gate > (cut[:, None] if rules.threshold == "per_source" else cut)


def crosscoder(cfg: CrosscoderConfig, w: Weights, x: Tensor):
    """Return (f (n, F) or (n, K, F), x_hat (n, K, D)) of a crosscoder."""
    x_in, scale, shift = normalized(cfg.statistics.preprocess, w, x)
    of_source = einsum("fkd,fkd->kf", w["W_dec"], w["W_dec"]).sqrt()
    joint = einsum("fkd,fkd->f", w["W_dec"], w["W_dec"]).sqrt()
    first, second = cfg.code_norm_weights or (0.0, 0.0)
    times = {
        "none": torch.ones_like(joint),
        "sum_of_norms": of_source.sum(dim=0),
        "joint_norm": joint,
        "mixed": first * joint + second * of_source.sum(dim=0),
        "per_source_norm": of_source,
    }[cfg.code_norm]
    f = latents(semantics_of(cfg), einsum("nkd,kdf->nf", x_in, w["W_enc"]), w, times)
    x_hat = einsum("nkf,fkd->nkd" if f.ndim == 3 else "nf,fkd->nkd", f, w["W_dec"]) + w["b_dec"]
    return f, x_hat * scale + shift if cfg.statistics.inverted_on_output else x_hat


def cross_layer(cfg: CrossLayerConfig, w: Weights, x: Tensor):
    """Return (f (n, L, F), x_hat (n, L, O)) of codes that several layers decode."""
    rules, count = cfg.semantics, cfg.n_layers
    codes, outputs = [], []
    for i in range(count):
        mine = {name: w[f"{name}.{i}"] for name in ("b_enc", "threshold") if f"{name}.{i}" in w}
        product = einsum("nd,df->nf", x[:, i], w[f"W_enc.{i}"])
        codes.append(latents(rules, product, mine, torch.ones_like(mine["b_enc"])))
    for t in range(count):
        readers = range(t + 1) if cfg.writes == "same_and_later" else range(count)
        out = sum(einsum("nf,fo->no", codes[i], w[f"W_dec.{i}.{t}"]) for i in readers) + w[f"b_dec.{t}"]
        if rules.skip != "none":
            out = out + einsum("nd,od->no", x[:, t], w[f"W_skip.{t}"])
        outputs.append(out)
    return torch.stack(codes, dim=1), torch.stack(outputs, dim=1)
