"""A dictionary that can be called: `x_hat = dictionary(x)`, in the units of the model's own activations."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from saereg.errors import UsageError
from saereg.registry.architectures import architecture_of
from saereg.registry.architectures.cross_layer import skip
from saereg.registry.architectures.linear import decoder_norm, needs_decoder_norm
from saereg.registry.architectures.normalization import Undo, normalize, stored_undo
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig

if TYPE_CHECKING:
    from sae_lens import SAE


class Dictionary:
    """x ↦ f ↦ x_hat, with normalization, reshaping and skip connection. Weights never require gradients.

    Shapes, after any leading dimensions: x (D,), f (F,), x_hat (O,). With `hook_z` reshaping x and x_hat are
    (heads, D / heads). For a crosscoder x and x_hat are (K, D), and f is (F,), or (K, F) for a gate per
    source. A temporal dictionary reads (position, D) behind at least one batch dimension.

    Attributes:
        cfg: configuration, as it was read.
        semantics: every switch of the function.
        weights: name → tensor, in `dtype`, except tensors whose type the architecture fixes.
        device: where the weights are.
        dtype: type that the weights are used in: `cfg.dtype` unless `to` changed it, as in SAELens; where the tensors
            of a file have several types, the one that holds them all.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Take the tensors of a checkpoint, without copying those already of the configuration's type.

        Raises:
            WeightsError: when they do not fit the configuration.
        """
        checkpoint.check()
        self._source = checkpoint.source
        self._set(checkpoint, _widest(checkpoint.cfg), _device(checkpoint))

    def _set(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        self.cfg = checkpoint.cfg
        self.dtype, self.device = dtype, device
        self.semantics = semantics_of(self.cfg)
        self._architecture = architecture_of(self.cfg)
        odd = getattr(self.cfg, "dtypes", {})
        fixed = {name for name, spec in self.cfg.tensors().items() if spec.dtype is not None and name not in odd}
        self.weights: Mapping[str, Tensor] = MappingProxyType(
            {
                name: tensor.detach().to(device=device, dtype=tensor.dtype if name in fixed else dtype)
                for name, tensor in checkpoint.weights.items()
            }
        )
        self._tensors = dict(self.weights)
        if needs_decoder_norm(self.cfg):
            self._tensors["decoder_norm"] = decoder_norm(self.weights["W_dec"], self.cfg)

    def to(self, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Self:
        """Return the same dictionary elsewhere or in another type; this one is unchanged."""
        moved = object.__new__(type(self))
        moved._source = self._source
        place = torch.device(device) if device is not None else self.device
        moved._set(Checkpoint(self.cfg, self.weights, self._source), dtype or self.dtype, place)
        return moved

    def to_saelens(self) -> "SAE":
        """Return it as an object of SAELens, of the same function, type and device.

        Raises:
            FormatError: with the reason, when SAELens has no words for it, as for crosscoders.
            MissingExtraError: without SAELens.
        """
        from saereg.registry.saelens_object import to_saelens

        dtype = str(self.dtype).removeprefix("torch.")
        cfg = self.cfg if self.dtype == _widest(self.cfg) else self.cfg.model_copy(update={"dtype": dtype})
        return to_saelens(Checkpoint(cfg, self.weights, self._source), str(self.device))

    def __call__(self, x: Tensor) -> Tensor:
        """Return x_hat in the units of the output site.

        Raises:
            UsageError: when x has another width than the dictionary reads.
        """
        return self.decode(self.encode(x), x)

    def encode(self, x: Tensor) -> Tensor:
        """Return the latents f (..., F).

        Raises:
            UsageError: when x has another width than the dictionary reads.
        """
        x_in, _ = normalize(self._rows(x), self._tensors, self.cfg)
        return self._architecture.encode(self._tensors, self.cfg, x_in)

    def decode(self, f: Tensor, x: Tensor | None = None) -> Tensor:
        """Return x_hat of latents f.

        Args:
            f: (..., F), or (..., K, F) of a crosscoder with a gate per source.
            x: the rows that f encodes. Without them a skip connection, and what a temporal dictionary
                predicts from earlier positions, are left out.

        Raises:
            UsageError: when f has the wrong width, or x is needed to map x_hat back and is not given.
        """
        if x is not None:
            return self.decode_in_both_units(f, x)[0]
        self._check_latents(f)
        return self._undo_without_rows()(self._architecture.decode(self._tensors, self.cfg, f.to(self.dtype)))

    def decode_in_both_units(self, f: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return x_hat, and the rows and their reconstruction in the units that the encoder reads.

        Args:
            f: as for `decode`.
            x: the rows that f encodes.

        Returns:
            (x_hat, x_in, x_hat_in), heads flattened in the last two. Without a normalization that is inverted on
            output, x_hat_in is x_hat; a skip connection is in it, too.

        Raises:
            UsageError: when f or x has the wrong width.
        """
        self._check_latents(f)
        f, rows = f.to(self.dtype), self._rows(x)
        x_in, undo = normalize(rows, self._tensors, self.cfg)
        if self._architecture.context is not None:
            f = f + self._architecture.context(self._tensors, self.cfg, x_in)
        x_hat_in = self._architecture.decode(self._tensors, self.cfg, f)
        x_hat = undo(x_hat_in)
        if self.semantics.skip != "none":
            skipped = self._skip(rows.to(self.dtype))
            x_hat, x_hat_in = x_hat + skipped, x_hat_in + (skipped if undo.scale is None else skipped / undo.scale)
        shaped = x_hat.reshape(x.shape) if self.semantics.reshape == "hook_z" else x_hat
        return shaped, x_in, x_hat if undo.is_identity else x_hat_in

    def _skip(self, x: Tensor) -> Tensor:
        if isinstance(self.cfg, CrossLayerConfig):
            return skip(self.weights, self.cfg, x)
        return x @ self.weights["W_skip"].T

    def _undo_without_rows(self) -> Undo:
        rules = self.semantics
        if rules.normalization.statistics == "per_row" and rules.normalization.inverted_on_output:
            raise UsageError(
                f"normalization {rules.normalization.kind!r} takes its scale from each row: "
                "pass the rows too, `decode(f, x)`"
            )
        if rules.reshape == "hook_z":
            raise UsageError("the number of heads is known only from the rows: pass them too, `decode(f, x)`")
        return stored_undo(self._tensors, self.cfg)

    def _rows(self, x: Tensor) -> Tensor:
        """Return x checked, with heads flattened."""
        cfg, x = self.cfg, checked_rows(x, self.cfg)
        if self._architecture.context is not None and x.ndim < 3:
            expected = f"a {cfg.architecture} dictionary reads (batch, position, d_in)"
            raise UsageError(f"x has shape {tuple(x.shape)}, {expected}, positions in the order of the text")
        return x

    def _check_latents(self, f: Tensor) -> None:
        cfg = self.cfg
        if f.ndim == 0 or f.shape[-1] != cfg.d_sae:
            raise UsageError(f"f has {_width(f)}, the dictionary has d_sae = {cfg.d_sae}")
        several = _codes(cfg)
        if several is not None and (f.ndim < 2 or f.shape[-2] != several[1]):
            name, count = several
            expected = f"(..., {name} = {count}, d_sae = {cfg.d_sae})"
            what = "one code per layer" if name == "n_layers" else "one gate per source"
            raise UsageError(f"f has shape {tuple(f.shape)}, {what} means {expected}")

    def __repr__(self) -> str:
        """Return architecture, widths, type and device in one line."""
        cfg = self.cfg
        if isinstance(cfg, CrosscoderConfig):
            what = f"{cfg.architecture} crosscoder, n_sources={cfg.n_sources}, d_in={cfg.d_in}"
        elif isinstance(cfg, CrossLayerConfig):
            what = f"{cfg.architecture} across layers, n_layers={cfg.n_layers}, d_in={cfg.d_in}"
        else:
            d_out = "" if cfg.d_out == cfg.d_in else f", d_out={cfg.d_out}"
            what = f"{cfg.architecture}, d_in={cfg.d_in}{d_out}"
        dtype = str(self.dtype).removeprefix("torch.")
        return f"Dictionary({what}, d_sae={cfg.d_sae}, {dtype}, {self.device})"


def checked_rows(x: Tensor, cfg: ArtifactConfig) -> Tensor:
    """Return rows that a dictionary reads, with heads flattened.

    Raises:
        UsageError: when they have another shape.
    """
    if isinstance(cfg, CrosscoderConfig | CrossLayerConfig):
        _check_rows_of_several(x, cfg)
    elif semantics_of(cfg).reshape == "hook_z":
        if x.ndim < 2 or x.shape[-2] * x.shape[-1] != cfg.d_in:
            expected = f"(..., heads, width) with heads × width = d_in = {cfg.d_in}"
            raise UsageError(f"x has shape {tuple(x.shape)}, the dictionary reads {expected}")
        x = x.flatten(-2)
    elif x.ndim == 0 or x.shape[-1] != cfg.d_in:
        raise UsageError(f"x has {_width(x)}, the dictionary reads d_in = {cfg.d_in}")
    return x


def _widest(cfg: ArtifactConfig) -> torch.dtype:
    """Return the type to run in: that of the weights, or one that holds all types of a file with several."""
    dtype: torch.dtype = getattr(torch, cfg.torch_dtype)
    for other in getattr(cfg, "dtypes", {}).values():
        dtype = torch.promote_types(dtype, getattr(torch, other))
    return dtype


def _device(checkpoint: Checkpoint) -> torch.device:
    """Return where the weights are."""
    return next(iter(checkpoint.weights.values())).device


def _codes(cfg: ArtifactConfig) -> tuple[str, int] | None:
    """Return (name, length) of the axis that f has beside its latents, if there is one."""
    if isinstance(cfg, CrossLayerConfig):
        return "n_layers", cfg.n_layers
    if isinstance(cfg, CrosscoderConfig) and cfg.gate == "per_source":
        return "n_sources", cfg.n_sources
    return None


def _check_rows_of_several(x: Tensor, cfg: CrosscoderConfig | CrossLayerConfig) -> None:
    name, count = ("n_sources", cfg.n_sources) if isinstance(cfg, CrosscoderConfig) else ("n_layers", cfg.n_layers)
    if x.ndim < 2 or tuple(x.shape[-2:]) != (count, cfg.d_in):
        expected = f"(..., {name} = {count}, d_in = {cfg.d_in})"
        kind = "crosscoder" if isinstance(cfg, CrosscoderConfig) else "cross-layer dictionary"
        raise UsageError(f"x has shape {tuple(x.shape)}, the {kind} reads {expected}")


def _width(x: Tensor) -> str:
    return f"width {x.shape[-1]}" if x.ndim else "no axes"
