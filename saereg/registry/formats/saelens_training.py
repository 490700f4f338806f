"""From a training checkpoint of SAELens to what SAELens itself saves for inference.

TopK and BatchTopK rank pre-activations times ‖W_dec‖; putting the norms into the encoder makes that explicit. The
running threshold of BatchTopK becomes the threshold of every latent of a JumpReLU. Source: SAELens 6.54,
`TrainingSAE.save_inference_model`, `process_state_dict_for_saving_inference`, `get_inference_sae_cfg_dict`.
"""

from typing import Any

from saereg.errors import FormatError
from saereg.registry.files.names import CONFIG_FILE
from saereg.registry.semantics import FOLDED
from saereg.schemas.cfg import INFERENCE, SaelensConfig, SaelensMetadata
from saereg.schemas.recipe import SourceTensor, Step, cast_to, divided_by_decoder_norm, times_decoder_norm

BECOMES = {"batchtopk": "jumprelu", "matryoshka_batchtopk": "jumprelu"}
"""Training architecture → inference architecture, where the two have other names."""

HALVES = ("bfloat16", "float16")

RESCALES = "rescale_acts_by_decoder_norm"


def of_training(cfg: SaelensConfig) -> tuple[SaelensConfig, dict[str, SourceTensor]]:
    """Return (inference configuration, tensor → recipe from the tensors of the checkpoint).

    Two things are other than SAELens saves them: where norms were folded, `rescale_acts_by_decoder_norm` is off, as
    they are 1 then; and half types become float32 where something is computed or a threshold is kept in a wider type.

    Raises:
        FormatError: when the weights hold for scaled or whitened inputs.
    """
    if cfg.normalize_activations in FOLDED:
        problem = f"its inputs are normalized by {cfg.normalize_activations}, which no reader applies"
        raise FormatError("SAELens", f"cannot say this dictionary: {problem}; fold it first")
    target = INFERENCE[BECOMES.get(cfg.architecture, cfg.architecture)]
    folds, specs = bool(getattr(cfg, RESCALES, False)), cfg.tensors()
    computed = folds or {"threshold", "topk_threshold"} & specs.keys()
    dtype: Any = "float32" if computed and cfg.torch_dtype in HALVES else cfg.torch_dtype
    fields: dict[str, Any] = {name: getattr(cfg, name) for name in target.model_fields if hasattr(cfg, name)}
    fields |= {
        "architecture": BECOMES.get(cfg.architecture, cfg.architecture),
        "dtype": dtype,
        "device": "cpu",
        "metadata": _metadata(cfg, target),
    }
    if RESCALES in target.model_fields:
        fields[RESCALES] = False
    plan = {name: _recipe(name, cfg, dtype, folds) for name in specs if name != "topk_threshold"}
    if "topk_threshold" in specs:
        spread = Step(do="broadcast", shape=(cfg.d_sae,))
        plan["threshold"] = SourceTensor(key="topk_threshold", steps=(spread, cast_to(dtype)))
    return target.made(CONFIG_FILE, **fields), plan


def _recipe(name: str, cfg: SaelensConfig, dtype: Any, folds: bool) -> SourceTensor:  # noqa: ANN401
    steps: list[Step] = [] if (cfg.tensors()[name].dtype or cfg.torch_dtype) == dtype else [cast_to(dtype)]
    if folds and name == "W_dec":
        steps.append(divided_by_decoder_norm(axis=0))
    elif folds and name in ("W_enc", "b_enc"):
        steps.append(times_decoder_norm(axis=1 if name == "W_enc" else 0))
    return SourceTensor(key=name, steps=tuple(steps))


def _metadata(cfg: SaelensConfig, target: type[SaelensConfig]) -> SaelensMetadata:
    """Return the metadata with what training was like, under the keys that SAELens uses for it."""
    ours = type(cfg).model_fields.keys() - target.model_fields.keys()
    facts = cfg.metadata.model_dump(exclude_none=True)
    facts["training_architecture"] = cfg.architecture
    facts["training_architecture_details"] = {name: getattr(cfg, name) for name in sorted(ours)}
    return SaelensMetadata.of(facts)
