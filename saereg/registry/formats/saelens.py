"""SAELens 6: cfg.json and sae_weights.safetensors, of an SAE for inference or of a training checkpoint.

Source: SAELens 6.54, `constants.py`, `SAE.save_model`, `SAE.load_from_disk`.
"""

from collections.abc import Mapping
from typing import Any

from saereg.errors import FormatError
from saereg.registry.files.names import CONFIG_FILE, WEIGHTS_FILES
from saereg.registry.files.tensors import TensorFile
from saereg.registry.formats.saelens_export import is_before_6, to_saelens
from saereg.registry.formats.saelens_flatten import README_FILE, readme
from saereg.registry.formats.saelens_scale import HALVES, Plan, Scale, folded, reference, scale_of, unsettled, widened
from saereg.registry.readings.format import About, Format, Layout
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import Source
from saereg.schemas.artifact_config import TOLD, ArtifactConfig, is_training, read_config
from saereg.schemas.cfg import MatchingPursuitConfig, SaelensConfig, SaelensMetadata, TemporalConfig
from saereg.schemas.recipe import SourceTensor

NAME = "saelens"
WEIGHTS_FILE = WEIGHTS_FILES[NAME]

LEGACY_KEYS = ("hook_name", "hook_point", "hook_layer", "hook_point_layer", "model_name", "activation_fn_str")
"""Top-level keys of cfg.json before version 6, which now stand in `metadata` or are gone."""


def is_legacy(cfg: Mapping[str, Any]) -> bool:
    """Whether a cfg.json is one of before version 6: it has keys of that time, and names no later version."""
    metadata = cfg.get("metadata")
    version = metadata.get("sae_lens_version") if isinstance(metadata, dict) else None
    version = cfg.get("sae_lens_version", version)
    later = isinstance(version, str) and not is_before_6(version)
    return not later and any(key in cfg for key in LEGACY_KEYS)


def detect(source: Source) -> str | None:
    """A cfg.json with SAELens' keys, none from before version 6, and the tensors that all architectures share."""
    cfg = source.document(CONFIG_FILE)
    if cfg is None or cfg.get("kind") is not None or not {"d_in", "d_sae"} <= cfg.keys():
        return None
    if is_legacy(cfg) or source.weights is None or not {"W_dec", "b_dec"} <= source.keys:
        return None
    return f"{CONFIG_FILE} has `d_in` and `d_sae`, none of the keys of before version 6, and the tensors SAELens' names"


def read(source: Source, given: Given) -> Reading:
    """Read an inference or training checkpoint of SAELens.

    Weights that hold for scaled inputs are folded where the factor is known. Where it is not, a training checkpoint is
    refused; an inference one is read as SAELens reads it, which scales nothing, and has no forward to prove.

    Raises:
        DocumentError: when cfg.json does not fit its schema.
        FormatError: when the inputs were scaled or whitened and nobody says how.
        WeightsError: when the weights are not what it says.
    """
    cfg, file = read_config(source.needed(CONFIG_FILE)), source.only()
    plan: Plan = {name: SourceTensor(key=name) for name in file.entries}
    if not isinstance(cfg, SaelensConfig):
        raise FormatError(source.folder, f"{CONFIG_FILE} says kind {cfg.kind!r}, so its layout is 'saereg'")
    scale = scale_of(cfg.normalize_activations, source, given, training=is_training(cfg))
    by, rescaled = float(scale.factor or 1.0), bool(getattr(cfg, "rescale_acts_by_decoder_norm", False))
    if isinstance(cfg, TemporalConfig) and by != 1.0:
        raise FormatError(source.path, "a temporal dictionary cannot be folded; SAELens cannot do it either")
    if by != 1.0 or (is_training(cfg) and rescaled):  # decoder norms, too, are to be put into other tensors
        cfg, plan = _in_float32(cfg, plan, file)
    plan = folded(plan, by, threshold_by_norm=rescaled)
    asked = unsettled(cfg.normalize_activations, scale)
    return Reading(_unscaled(cfg, scale), plan, {"": file}, unsettled=asked).checked()


def _in_float32(cfg: SaelensConfig, plan: Plan, file: TensorFile) -> tuple[SaelensConfig, Plan]:
    """Return both with half types as float32, where they stand for weights that something is computed from."""
    if cfg.torch_dtype in HALVES:
        cfg = cfg.model_copy(update={"dtype": "float32"})
    return cfg, widened(plan, file)


def _unscaled(cfg: SaelensConfig, scale: Scale) -> SaelensConfig:
    """Return the configuration of folded weights, with what was taken for granted in its metadata."""
    if not scale.settled or (scale.factor == 1.0 and not scale.notes):
        return cfg
    facts = cfg.metadata.model_dump(exclude_none=True) | {TOLD: [note.model_dump() for note in scale.notes]}
    changes: dict[str, Any] = {"normalize_activations": "none", "metadata": SaelensMetadata.of(facts)}
    if isinstance(cfg, MatchingPursuitConfig):
        changes["residual_threshold"] = cfg.residual_threshold / float(scale.factor or 1.0)
    return cfg.model_copy(update=changes)


def layout(cfg: ArtifactConfig) -> Layout:
    """Say what to write for `SAE.load_from_disk`: every key of cfg.json is spelt out, and training becomes inference.

    Raises:
        FormatError: with the reason, when SAELens has no words for it; or when `metadata.sae_lens_version` is not set.
    """
    theirs, plan = to_saelens(cfg)
    if not isinstance(theirs, SaelensConfig) or theirs.metadata.sae_lens_version is None:
        problem = "`metadata.sae_lens_version` is not set, so SAELens would drop all metadata on loading"
        raise FormatError(CONFIG_FILE, f"{problem}; set it to the version that made the weights")
    told = readme(theirs)
    documents = ({README_FILE: told} if told is not None else {}) | {CONFIG_FILE: theirs.text()}
    return Layout(theirs, {WEIGHTS_FILE: plan}, documents)


ABOUT = About(
    title="SAELens 6",
    used_by="`jbloom/*`, `chanind/*`, `decoderesearch/*`, most uploads since 2025",
    files="`cfg.json` with `architecture` and `metadata`, `sae_weights.safetensors`, sometimes `sparsity.safetensors`; "
    "the tensors by architecture are in the table above.",
    silent="which revision of the model was read, and of what the numbers in `metadata` were taken; the factor of "
    "`expected_average_only_in`, unless a checkpoint has `activation_scaler.json` beside it; and whether the version "
    "that exported a BatchTopK moved its threshold with that factor, which earlier ones of 6 did not.",
    assumed="a switch that `cfg.json` leaves out has SAELens' default, and that is recorded; `k` and `d_out` must be "
    "there. Training checkpoints are given their meaning at inference, and are written for it.",
    saelens="reads it with `SAE.load_from_disk` and, one folder deep, `SAE.from_pretrained`. Where "
    "`normalize_activations` says `expected_average_only_in` or `covariance_whitening` it scales nothing, and warns at "
    "most; here such weights are converted only with `scaling_factor` or `already_folded`.",
    source="SAELens 6.54, `saes/sae.py`.",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, layout=layout)
