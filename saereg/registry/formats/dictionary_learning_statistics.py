"""Input statistics that the fork of science-of-finetuning stores: (x − mean)·scale in, x_hat / (scale + ε) + mean out.

Source: science-of-finetuning/dictionary_learning 173f7fa, `dictionary.py`, `NormalizableMixin`.
"""

from saereg.errors import FormatError, WeightsError
from saereg.registry.files.tensors import TensorFile, whole
from saereg.schemas.recipe import SourceTensor, Step, cast_to, moved, plus, scalar, scaled, times_by
from saereg.schemas.semantics import Normalization

STATISTICS = frozenset({"target_rms", "activation_mean", "activation_std", "activation_global_scale"})
"""Buffers of the fork: NaN where it does not normalize."""

EPSILON = 1e-8
"""What the way back adds to the scale before it divides by it."""

ROUNDING = 1e-7
"""A relative difference that is lost in float32."""

HALF = ("bfloat16", "float16")


def with_statistics(
    file: TensorFile, prefix: str, plan: dict[str, SourceTensor], *, centred: bool
) -> tuple[Normalization, dict[str, SourceTensor]]:
    """Return how rows are normalized, and the plan with the stored numbers, where there are some and they are no NaN.

    Args:
        file: the tensors.
        prefix: of their names.
        plan: canonical tensor → recipe.
        centred: whether the output bias is subtracted before the encoder.

    Raises:
        FormatError: when the scale is no positive number.
        WeightsError: when some of the statistics are missing.
    """
    found = frozenset(name for name in STATISTICS if prefix + name in file.entries)
    if not found:
        return Normalization(), plan
    if found != STATISTICS:
        absent = ", ".join(sorted(STATISTICS - found))
        raise WeightsError(file.path, f"is there without {absent}; the fork saves all four", sorted(found)[0])
    if any(whole(file, prefix + name).double().isnan().any() for name in ("activation_mean", "activation_std")):
        return Normalization(), plan
    key = f"{prefix}activation_global_scale"
    stored = {"input_mean": moved(f"{prefix}activation_mean"), "input_scale": moved(key)}
    normalization = Normalization(kind="center_scale", statistics="stored", inverted_on_output=True)
    if file.entries[key].shape != ():
        return normalization, plan | stored  # an error elsewhere
    scale = float(whole(file, key).double())
    if not 0 < scale < float("inf"):
        raise FormatError(file.path, f"{key} is {scale:g}; expected a positive number")
    ratio = scale / (scale + EPSILON)
    if abs(ratio - 1) > ROUNDING:
        plan = _with_ratio(file, plan, ratio, centred=centred)
        stored["input_scale"] = scalar(scale + EPSILON, "float32")
    return normalization, plan | stored


def _with_ratio(
    file: TensorFile, plan: dict[str, SourceTensor], ratio: float, *, centred: bool
) -> dict[str, SourceTensor]:
    """Return the plan for inputs that are multiplied by scale + ε, so that dividing by it is right on the way back.

    The encoder takes the ratio r = scale / (scale + ε) back. With b subtracted before it,
    (z / r − b)·r·W = z·W − r·b·W, so (r − 1)·b·W is added to its bias.
    """
    if "b_enc" not in plan:
        raise FormatError(file.path, "has stored statistics of a small scale, and no bias of the encoder; not read")
    is_half = file.entries[str(plan["W_enc"].key)].dtype in HALF
    wide = (cast_to("float32"),) if is_half else ()
    made = {name: _then(recipe, *wide) for name, recipe in plan.items()}
    if centred:
        times_bias = times_by(made["b_dec"], axis=0)
        shift = _then(made["W_enc"], times_bias, Step(do="sum_first_axis"), scaled(ratio - 1))
        made["b_enc"] = _then(made["b_enc"], plus(shift))
    made["W_enc"] = _then(made["W_enc"], scaled(ratio))
    return made


def _then(recipe: SourceTensor, *steps: Step) -> SourceTensor:
    return recipe.model_copy(update={"steps": (*recipe.steps, *steps)})
