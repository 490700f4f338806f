"""SAELens dictionaries whose weights live in scaled input space: trained on x·s, to be used on x.

While SAELens trains with `expected_average_only_in`, inputs are multiplied by s = √D / mean ‖x‖; only its last save
puts s into the weights. Source: SAELens 6.54, `fold_activation_norm_scaling_factor`, `ActivationScaler`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from saereg.errors import FormatError, UsageError
from saereg.registry.files.tensors import TensorFile
from saereg.registry.formats.own_reference import reference as forward
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import SourceTensor, Step, cast_to, scaled
from saereg.schemas.semantics import Assumption

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

SCALER_FILE = "activation_scaler.json"
SCALED, WHITENED = "expected_average_only_in", "covariance_whitening"
HALVES = ("bfloat16", "float16")

Plan = Mapping[str, SourceTensor]
"""Canonical tensor → recipe."""

ASKED = (
    "its weights hold for inputs times a factor that no file here says; say it: --set scaling_factor=1.05, or "
    "--set already_folded=true if it is in them already"
)


@dataclass(frozen=True)
class Scale:
    """What is known of the scale of the inputs.

    Attributes:
        factor: s, which the weights have still to be multiplied with; None where nobody said.
        settled: whether the question is answered, so that nothing is left to be normalized.
        notes: where the answer is from.
    """

    factor: float | None = None
    settled: bool = True
    notes: tuple[Assumption, ...] = ()


def scale_of(kind: str, source: Source, given: Given, *, training: bool) -> Scale:
    """Return the scale of the inputs that a dictionary was trained on.

    Args:
        kind: `normalize_activations` of its configuration.
        source: its folder.
        given: what the caller says.
        training: whether the folder is a checkpoint of training.

    Raises:
        FormatError: when the inputs were whitened, or it is not said what cannot be guessed.
        UsageError: when what is given contradicts itself.
    """
    stated, whitened = _stated(source)
    if kind not in (SCALED, WHITENED) and stated is None and not whitened:
        return Scale(factor=1.0)
    factor, folded = given.number("scaling_factor"), given.flag("already_folded")
    if folded and factor not in (None, 1.0):
        raise UsageError(f"already_folded=true and scaling_factor={factor:g} contradict each other; say one of them")
    if folded:
        return Scale(factor=1.0, notes=tuple(given.assumptions))
    if whitened or kind == WHITENED:
        return _whitened(source, training)
    if kind not in (SCALED, "none"):
        problem = f"normalizes by {kind}, and {SCALER_FILE} beside it says that inputs are scaled first"
        raise FormatError(source.path, f"{problem}; remove {SCALER_FILE} if it is of another dictionary")
    if factor is not None:
        return Scale(factor=factor, notes=tuple(given.assumptions))
    if stated is not None and (training or kind == SCALED):
        because = f"{SCALER_FILE} beside the weights, which hold for inputs times this"
        return Scale(factor=stated, notes=(Assumption(field="scaling_factor", value=str(stated), because=because),))
    if training or stated is not None:
        raise FormatError(source.path, _asked(stated))
    return Scale(settled=False)


def unsettled(kind: str, scale: Scale) -> str | None:
    """Return what is still to be said, or None."""
    if scale.settled:
        return None
    if kind == SCALED:
        return ASKED
    problem = "its inputs were whitened, which saereg does not fold"
    return f"{problem}; if the weights hold for raw inputs, say --set already_folded=true"


def _asked(stated: float | None) -> str:
    if stated is None:
        return ASKED
    problem = f"{SCALER_FILE} says scaling_factor {stated:g}, and cfg.json that inputs are not normalized"
    return f"{problem}; say which: --set scaling_factor={stated:g} or --set already_folded=true"


def _whitened(source: Source, training: bool) -> Scale:
    if training:
        problem = "its weights hold for whitened inputs, and saereg does not fold a whitening"
        instead = "take the final save of SAELens, which is folded, or say --set already_folded=true"
        raise FormatError(source.path, f"{problem}; {instead}")
    return Scale(settled=False)


def _stated(source: Source) -> tuple[float | None, bool]:
    """Return (scaling factor, whether there is a whitening) as said beside the weights."""
    said = source.document(SCALER_FILE)
    if said is None:
        return None, False
    factor = said.get("scaling_factor")
    if factor is None:
        return None, said.get("has_whitening") is True
    if type(factor) not in (int, float) or not 0 < factor < float("inf"):
        problem = f"says scaling_factor {factor!r}; expected a positive number or null"
        raise FormatError(source.folder / SCALER_FILE, f"{problem}; correct it")
    return float(factor), said.get("has_whitening") is True


def folded(plan: Plan, by: float, *, threshold_by_norm: bool = False) -> Plan:
    """Return the plan with W_enc·s, W_dec/s and b_dec/s.

    Args:
        plan: canonical tensor → recipe, none of which gives half a type.
        by: s.
        threshold_by_norm: whether `topk_threshold` is in units of pre·‖W_dec‖, which is divided by s with W_dec.
    """
    if by == 1.0:
        return plan
    factors = {"W_enc": by, "W_dec": 1 / by, "b_dec": 1 / by}
    if threshold_by_norm:
        factors["topk_threshold"] = 1 / by
    if "W_enc" not in plan:  # tied: what W_decᵀ reads and writes scales alike
        factors = {"b_dec": 1 / by}
    return {
        name: _with_step(recipe, scaled(factors[name])) if name in factors else recipe for name, recipe in plan.items()
    }


def widened(plan: Plan, file: TensorFile) -> Plan:
    """Return the plan with half types as float32: rounding to them again would flip gates."""
    return {
        name: _with_step(recipe, cast_to("float32")) if _is_half(recipe, file) else recipe
        for name, recipe in plan.items()
    }


def _is_half(recipe: SourceTensor, file: TensorFile) -> bool:
    entry = file.entries.get(recipe.key or "")
    return entry is not None and entry.dtype in HALVES


def _with_step(recipe: SourceTensor, step: Step) -> SourceTensor:
    return recipe.model_copy(update={"steps": (*recipe.steps, step)})


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes | None":
    """Return SAELens' forward on x·s with the weights as they are, mapped back as its fold maps them.

    Raises:
        FormatError: when the configuration says that inputs are scaled or whitened, and nobody said how.
    """
    from saereg.registry.semantics import FOLDED, semantics_of

    rules = semantics_of(reading.cfg)
    if rules.normalization.kind in FOLDED:
        raise FormatError(reading.source, reading.unsettled or ASKED)
    factor = _factor(reading)
    codes = forward(raw, reading, x.double() * factor)
    if codes is None:
        return None
    f = codes.f / factor if rules.latents_scaled_by_decoder_norm else codes.f
    return replace(codes, f=f, x_hat=codes.x_hat / factor)


def _factor(reading: Reading) -> float:
    """Return the s that was folded into the encoder; 1 where nothing was, or where the encoder is tied."""
    recipe = reading.plan.get("W_enc")
    for step in recipe.steps if recipe is not None else ():
        if step.do == "scale":
            return float(step.by or 1.0)
    return 1.0
