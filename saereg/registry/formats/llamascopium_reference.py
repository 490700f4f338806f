"""llamascopium's own forward, in its names and orientation: scale, encode, act on pre·‖W_D‖, divide, decode, map back.

Source: llamascopium 2.0.0b34, `models/sparse_dictionary.py`, `sae.py`, `crosscoder.py`, `clt.py`.
"""

from typing import TYPE_CHECKING, Any

from saereg.registry.readings.reading import Reading
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

PICKLED = "sae/"
"""Before every name in a `.pt`."""

THRESHOLD, NORMS = "activation_function.log_jumprelu_threshold", "dataset_average_activation_norm."

SETTINGS = "llamascopium"
"""Key of the metadata that keeps what config.json says of the function."""


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """The publisher's own forward on scaled inputs, and its reconstruction in the units of the model."""
    forward = _Forward(raw, reading)
    if isinstance(reading.cfg, CrossLayerConfig):
        return forward.clt(x)
    return forward.crosscoder(x) if isinstance(reading.cfg, CrosscoderConfig) else forward.sae(x)


class _Forward:
    """The tensors of a source, with what config.json says of them."""

    def __init__(self, raw: "Raw", reading: Reading) -> None:
        self.raw, self.cfg = raw, reading.cfg
        self.prefix = PICKLED if f"{PICKLED}W_E" in raw.files[""].entries else ""
        self.extra: dict[str, Any] = self.cfg.metadata.model_extra or {}
        self.settings: dict[str, Any] = self.extra[SETTINGS]

    def sae(self, x: "Tensor") -> "Codes":
        from saereg.registry.readings.reference import Codes

        raw, metadata, width = self.raw, self.cfg.metadata, x.shape[-1]
        into = out = width**0.5 / x.norm(dim=-1, keepdim=True)
        unit = x.new_ones(())
        if self.settings["norm_activation"] != "token-wise":
            hook_out = metadata.hook_name_out or metadata.hook_name
            into = x.new_tensor(self._factor(metadata.hook_name, "input_norm", width))
            out = x.new_tensor(self._factor(hook_out, "output_norm" if metadata.hook_name_out else "input_norm", width))
            unit = out
        pre = raw.times(x * into, f"{self.prefix}W_E") + raw.vector(f"{self.prefix}b_E")
        norms = raw.row_norms(f"{self.prefix}W_D")
        f, margin = self._act(pre, norms if self.settings["sparsity_include_decoder_norm"] else None)
        x_hat = raw.times(f, f"{self.prefix}W_D")
        if self.settings["use_decoder_bias"]:
            x_hat = x_hat + raw.vector(f"{self.prefix}b_D")
        stored = isinstance(self.cfg, DictionaryConfig) and self.cfg.semantics.latents_scaled_by_decoder_norm
        # latents that the caller wants times the norm have that of the decoder in units of the output
        return Codes(f * norms / unit if stored else f, x_hat / out, margin)

    def crosscoder(self, x: "Tensor") -> "Codes":
        import torch

        from saereg.registry.readings.reference import Codes

        raw, heads, width = self.raw, range(x.shape[1]), x.shape[-1]
        scale = x.new_tensor([self._factor(hook, "", width) for hook in self.extra["hook_points"]])[:, None]
        pre = sum(raw.times((x * scale)[:, k], f"{self.prefix}W_E", at={0: k}) for k in heads)
        pre = pre + raw.vector(f"{self.prefix}b_E").sum(dim=0)
        norms = torch.stack([raw.row_norms(f"{self.prefix}W_D", at={0: k}) for k in heads])
        f, margin = self._act(pre[:, None].expand(-1, len(heads), -1), norms)
        x_hat = torch.stack([raw.times(f[:, k], f"{self.prefix}W_D", at={0: k}) for k in heads], dim=1)
        x_hat = (x_hat + raw.vector(f"{self.prefix}b_D")) / scale
        # after a ReLU all heads have the same latents
        return Codes(f[:, 0] if self.settings["act_fn"].lower() == "relu" else f, x_hat, margin)

    def clt(self, x: "Tensor") -> "Codes":
        import torch

        from saereg.registry.readings.reference import Codes

        raw, layers, width = self.raw, range(x.shape[1]), x.shape[-1]
        bias, codes, margins, outputs = raw.vector(f"{self.prefix}b_E"), [], [], []
        for i in layers:
            into = self._factor(self.extra["hook_points_in"][i], "", width)
            pre = raw.times(x[:, i] * into, f"{self.prefix}W_E", at={0: i}) + bias[i]
            squares = [raw.row_norms(f"{self.prefix}W_D.{t}", at={0: i}).square() for t in layers if t >= i]
            norms = torch.stack(squares).sum(dim=0).sqrt()
            f, margin = self._act(pre, norms if self.settings["sparsity_include_decoder_norm"] else None, i)
            codes.append(f)
            margins.append(margin)
        for t in layers:
            parts = [raw.times(codes[i], f"{self.prefix}W_D.{t}", at={0: i}) for i in range(t + 1)]
            total = torch.stack(parts).sum(dim=0) + raw.vector(f"{self.prefix}b_D.{t}")
            outputs.append(total / self._factor(self.extra["hook_points_out"][t], "", width))
        return Codes(torch.stack(codes, dim=1), torch.stack(outputs, dim=1), torch.stack(margins).min(dim=0).values)

    def _factor(self, hook: object, said: str, width: int) -> float:
        """Return √D over the mean norm of the activations at a hook, as saved or as the caller says."""
        if self.settings["norm_activation"] == "inference":
            return 1.0
        notes: Any = getattr(self.cfg, "assumptions", ())
        given = [float(note.value) for note in notes if note.field == said]
        norm = given[0] if given else float(self.raw.vector(f"{self.prefix}{NORMS}{hook}"))
        return float(width**0.5 / norm)

    def _act(self, pre: "Tensor", norms: "Tensor | None", layer: int | None = None) -> "tuple[Tensor, Tensor]":
        """Return (act(pre·n)/n, margin), with pre in the place of (pre·n)/n."""
        from saereg.registry.readings import reference as do

        gate, name = pre if norms is None else pre * norms, self.settings["act_fn"].lower()
        if name == "relu":
            return do.relu(pre)
        if name == "jumprelu":
            cut = self.raw.vector(self.prefix + THRESHOLD).exp()
            return do.threshold(pre, cut if layer is None else cut[layer], gate)
        return do.topk(pre.clamp_min(0), int(self.settings["top_k"]), gate.clamp_min(0))
