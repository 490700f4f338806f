"""llamascopium's own forward, in its names and orientation: scale, encode, act on pre·‖W_D‖, divide, decode, map back.

Source: llamascopium 2.0.0b34, `models/sparse_dictionary.py`, `sae.py`, `crosscoder.py`, `clt.py`.
"""

from typing import TYPE_CHECKING, Any

from saereg.registry.readings.reading import Reading, told

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

CONFIG_FILE = "config.json"

DEFAULTS: dict[str, bool | str | int] = {
    "act_fn": "relu",
    "norm_activation": "dataset-wise",
    "sparsity_include_decoder_norm": True,
    "use_decoder_bias": True,
    "use_glu_encoder": False,
    "top_k": 50,
}
"""What the class takes where config.json has no such key."""

KNOWN = (
    *DEFAULTS,
    "sae_type",
    "d_model",
    "expansion_factor",
    "hook_point_in",
    "hook_point_out",
    "hook_points",
    "hook_points_in",
    "hook_points_out",
    "apply_decoder_bias_to_pre_encoder",
    "force_unit_decoder_norm",
    "jumprelu_threshold_window",
    "use_triton_kernel",
    "sparsity_threshold_for_triton_spmm_kernel",
    "init_cross_layer_decoder_all_zero",
    "decode_with_csr",
    "sparsity_threshold_for_csr",
    "sae_pretrained_name_or_path",
    "strict_loading",
    "device",
    "dtype",
)
"""Keys of its configurations, now and in versions before; those that are not read are of training, or of speed."""

PICKLED = "sae/"
"""Before every name in a `.pt`."""

THRESHOLD, NORMS = "activation_function.log_jumprelu_threshold", "dataset_average_activation_norm."


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The publisher's own forward on scaled inputs, and its reconstruction in the units of the model."""
    forward = _Forward(raw, reading)
    return {"sae": forward.sae, "crosscoder": forward.crosscoder, "clt": forward.clt}[forward.settings["sae_type"]](x)


class _Forward:
    """The tensors of a source, with what config.json says of them."""

    def __init__(self, raw: "Raw", reading: Reading) -> None:
        self.raw, self.given = raw, told(reading)
        self.prefix = PICKLED if f"{PICKLED}W_E" in raw.files[""].entries else ""
        self.settings: dict[str, Any] = {**DEFAULTS, **raw.document(CONFIG_FILE)}
        self.act_fn, self.by_norm = self.settings["act_fn"].lower(), self.settings["sparsity_include_decoder_norm"]

    def sae(self, x: "Tensor") -> "Codes":
        from saereg.registry.readings.reference import Codes

        raw, width = self.raw, x.shape[-1]
        hook_in, hook_out = self.settings.get("hook_point_in"), self.settings.get("hook_point_out")
        into = out = width**0.5 / x.norm(dim=-1, keepdim=True)
        unit = x.new_ones(())
        if self.settings["norm_activation"] != "token-wise":
            into = x.new_tensor(self._factor(hook_in, width, "input_norm"))
            out = x.new_tensor(self._factor(hook_out, width, "output_norm" if hook_out != hook_in else "input_norm"))
            unit = out
        pre = raw.times(x * into, f"{self.prefix}W_E") + raw.vector(f"{self.prefix}b_E")
        norms = raw.row_norms(f"{self.prefix}W_D")
        f, margin = self._act(pre, norms if self.by_norm else None)
        x_hat = raw.times(f, f"{self.prefix}W_D")
        if self.settings["use_decoder_bias"]:
            x_hat = x_hat + raw.vector(f"{self.prefix}b_D")
        stored = self.given.flag("latents_times_decoder_norm")
        # latents that the caller wants times the norm have that of the decoder in units of the output
        return Codes(f * norms / unit if stored else f, x_hat / out, margin)

    def crosscoder(self, x: "Tensor") -> "Codes":
        import torch

        from saereg.registry.readings.reference import Codes

        raw, heads, width = self.raw, range(x.shape[1]), x.shape[-1]
        scale = x.new_tensor([self._factor(hook, width) for hook in self.settings["hook_points"]])[:, None]
        pre = sum(raw.times((x * scale)[:, k], f"{self.prefix}W_E", at={0: k}) for k in heads)
        pre = pre + raw.vector(f"{self.prefix}b_E").sum(dim=0)
        norms = torch.stack([raw.row_norms(f"{self.prefix}W_D", at={0: k}) for k in heads])
        f, margin = self._act(pre[:, None].expand(-1, len(heads), -1), norms)
        x_hat = torch.stack([raw.times(f[:, k], f"{self.prefix}W_D", at={0: k}) for k in heads], dim=1)
        x_hat = (x_hat + raw.vector(f"{self.prefix}b_D")) / scale
        # after a ReLU all heads have the same latents
        return Codes(f[:, 0] if self.act_fn == "relu" else f, x_hat, margin)

    def clt(self, x: "Tensor") -> "Codes":
        import torch

        from saereg.registry.readings.reference import Codes

        raw, layers, width = self.raw, range(x.shape[1]), x.shape[-1]
        bias, codes, margins, outputs = raw.vector(f"{self.prefix}b_E"), [], [], []
        for i in layers:
            into = self._factor(self.settings["hook_points_in"][i], width)
            pre = raw.times(x[:, i] * into, f"{self.prefix}W_E", at={0: i}) + bias[i]
            squares = [raw.row_norms(f"{self.prefix}W_D.{t}", at={0: i}).square() for t in layers if t >= i]
            norms = torch.stack(squares).sum(dim=0).sqrt()
            f, margin = self._act(pre, norms if self.by_norm else None, i)
            codes.append(f)
            margins.append(margin)
        for t in layers:
            parts = [raw.times(codes[i], f"{self.prefix}W_D.{t}", at={0: i}) for i in range(t + 1)]
            total = torch.stack(parts).sum(dim=0) + raw.vector(f"{self.prefix}b_D.{t}")
            outputs.append(total / self._factor(self.settings["hook_points_out"][t], width))
        return Codes(torch.stack(codes, dim=1), torch.stack(outputs, dim=1), torch.stack(margins).min(dim=0).values)

    def _factor(self, hook: object, width: int, said: str = "") -> float:
        """Return √D over the mean norm of the activations at a hook, as saved or as the caller says."""
        if self.settings["norm_activation"] == "inference":
            return 1.0
        norm = self.given.number(said) or float(self.raw.vector(f"{self.prefix}{NORMS}{hook}"))
        return float(width**0.5 / norm)

    def _act(self, pre: "Tensor", norms: "Tensor | None", layer: int | None = None) -> "tuple[Tensor, Tensor]":
        """Return (act(pre·n)/n, margin), with pre in the place of (pre·n)/n."""
        from saereg.registry.readings import reference as do

        gate = pre if norms is None else pre * norms
        if self.act_fn == "relu":
            return do.relu(pre)
        if self.act_fn == "jumprelu":
            cut = self.raw.vector(self.prefix + THRESHOLD).exp()
            return do.threshold(pre, cut if layer is None else cut[layer], gate)
        return do.topk(pre.clamp_min(0), int(self.settings["top_k"]), gate.clamp_min(0))
