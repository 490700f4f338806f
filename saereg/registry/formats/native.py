"""saereg's own layout: cfg.json, which says every switch, and weights.safetensors.

For what SAELens cannot say: crosscoders, codes across layers, TopK transcoders, groupmax, stored input statistics.
"""

from saereg.errors import FormatError
from saereg.registry.files.names import CONFIG_FILE, WEIGHTS_FILES
from saereg.registry.formats.own_reference import reference
from saereg.registry.readings.format import About, Format, Layout
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import Source
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import OWN, ArtifactConfig, assumptions, read_config
from saereg.schemas.cfg import SaelensConfig, TranscoderConfig
from saereg.schemas.cfg_native import ROW_WISE, DictionaryConfig
from saereg.schemas.recipe import SourceTensor

NAME = "saereg"
WEIGHTS_FILE = WEIGHTS_FILES[NAME]


def detect(source: Source) -> str | None:
    """A cfg.json with a `kind`, and decoder and encoder in one safetensors file."""
    cfg = source.document(CONFIG_FILE)
    if cfg is None or str(cfg.get("kind")) not in OWN or source.weights is None:
        return None
    if {"W_enc", "W_dec", "b_dec"} <= source.keys or {"W_enc.0", "W_dec.0.0", "b_dec.0"} <= source.keys:
        return f"{CONFIG_FILE} says kind {cfg['kind']!r}, and the tensors have canonical names"
    return None


def read(source: Source, given: Given) -> Reading:
    """Read what cfg.json says; nothing is assumed.

    Raises:
        FormatError: when a file is missing, or cfg.json is in SAELens' words.
        DocumentError: when cfg.json does not fit its schema.
        WeightsError: when the weights are not what it says.
    """
    del given  # there is nothing to ask for
    cfg = read_config(source.needed(CONFIG_FILE))
    if isinstance(cfg, SaelensConfig):
        raise FormatError(source.folder, f"{CONFIG_FILE} says no `kind`, so its layout is 'saelens'")
    file = source.only()
    return Reading(cfg, {name: SourceTensor(key=name) for name in file.entries}, {"": file}).checked()


def layout(cfg: ArtifactConfig) -> Layout:
    """Say what to write: every configuration but matching pursuit and temporal, which are SAELens' own.

    Raises:
        FormatError: for those.
    """
    own = to_native(cfg)
    plan = {name: SourceTensor(key=name) for name in own.tensors()}
    return Layout(own, {WEIGHTS_FILE: plan}, {CONFIG_FILE: own.text()}, {"format": NAME})


def to_native(cfg: ArtifactConfig) -> ArtifactConfig:
    """Return the configuration in saereg's own dialect.

    Raises:
        FormatError: when it says something that only SAELens' dialect has words for.
    """
    if not isinstance(cfg, SaelensConfig):
        return cfg
    rules = semantics_of(cfg)
    if rules.activation not in ROW_WISE or "topk_threshold" in cfg.tensors():
        raise FormatError(NAME, f"architecture {cfg.architecture!r} is said in SAELens' own words; use --to saelens")
    fixed = {name: spec.dtype for name, spec in cfg.tensors().items() if spec.dtype not in (None, cfg.torch_dtype)}
    return DictionaryConfig.made(
        CONFIG_FILE,
        kind="transcoder" if isinstance(cfg, TranscoderConfig) else "sae",
        d_in=cfg.d_in,
        d_out=cfg.d_out,
        d_sae=cfg.d_sae,
        dtype=cfg.torch_dtype,
        dtypes=fixed,
        semantics=rules,
        metadata=cfg.metadata,
        assumptions=assumptions(cfg),
    )


ABOUT = About(
    title="saereg's own layout",
    used_by="releases of crosscoders, cross-layer transcoders, and of what else SAELens has no words for",
    files="`cfg.json` and `weights.safetensors`, whose header says `format: saereg`. Canonical names and orientation: "
    "`W_enc` (D, F), `W_dec` (F, O), `b_enc` (F,), `b_dec` (O,), and where they apply `threshold`, `b_gate`, `b_mag`, "
    "`r_mag`, `W_skip` (O, D), `input_mean`, `input_scale`; crosscoders `W_enc` (K, D, F), `W_dec` (F, K, D), `b_dec` "
    "(K, D); across layers `W_enc.i` (D, F), `W_dec.i.t` (F, O), `b_enc.i`, `b_dec.t`, `threshold.i`, `W_skip.t`.",
    silent="nothing that decides the function: every switch is in `cfg.json`, with what a converter had to assume.",
    assumed="nothing.",
    saelens="does not read it. What SAELens can say is converted with `saereg convert --to saelens`.",
    source="this documentation.",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, layout=layout)
