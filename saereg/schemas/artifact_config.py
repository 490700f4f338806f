"""The union of every cfg.json that saereg reads: SAELens inference, SAELens training, saereg's own."""

from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import Discriminator, Tag, TypeAdapter

from saereg.errors import DocumentError
from saereg.schemas import jsontext
from saereg.schemas.cfg import INFERENCE, SaelensConfig
from saereg.schemas.cfg_crosscoder import CrosscoderConfig
from saereg.schemas.cfg_native import CrossLayerConfig, DictionaryConfig
from saereg.schemas.cfg_training import TRAINING
from saereg.schemas.document import Problem, check_text
from saereg.schemas.semantics import Assumption

ArtifactConfig = SaelensConfig | DictionaryConfig | CrosscoderConfig | CrossLayerConfig
"""Any configuration: a SaelensConfig of some architecture, or one of saereg's own."""

TOLD = "saereg_assumptions"
"""Key of SAELens' `metadata` under which a converter keeps assumptions."""

OWN = {"sae": "native", "transcoder": "native", "crosscoder": "crosscoder", "cross_layer": "cross_layer"}
"""`kind` in a cfg.json of our own → member of the union."""


def _tag(value: Any) -> str | None:  # noqa: ANN401
    """Return which member a raw cfg.json is; a training checkpoint always has `decoder_init_norm`."""
    if not isinstance(value, dict):
        return None
    kind = value.get("kind")
    if kind is not None:
        return OWN.get(kind) if isinstance(kind, str) else None
    architecture = value.get("architecture")
    if not isinstance(architecture, str):
        return "standard" if architecture is None else str(architecture)
    training = "decoder_init_norm" in value or architecture not in INFERENCE
    return f"training:{architecture}" if training and architecture in TRAINING else architecture


_MEMBERS = (
    [Annotated[cls, Tag(name)] for name, cls in INFERENCE.items()]
    + [Annotated[cls, Tag(f"training:{name}")] for name, cls in TRAINING.items()]
    + [Annotated[DictionaryConfig, Tag("native")]]
    + [Annotated[CrosscoderConfig, Tag("crosscoder")]]
    + [Annotated[CrossLayerConfig, Tag("cross_layer")]]
)

_CONFIG: Any = Annotated[
    Union[tuple(_MEMBERS)],  # noqa: UP007
    Discriminator(
        _tag,
        custom_error_type="unknown_architecture",
        custom_error_message="`architecture` is missing or is none that saereg knows",
        custom_error_context={"expected_tags": ", ".join(sorted({*INFERENCE, *TRAINING}))},
    ),
]

CONFIG: TypeAdapter[ArtifactConfig] = TypeAdapter(_CONFIG)
"""Checks any cfg.json."""


def check_config(text: str) -> tuple[ArtifactConfig | None, list[Problem]]:
    """Check the text of a cfg.json; return the typed configuration, or every problem."""
    return check_text(CONFIG, text)


def parse_config(text: str, source: object = "cfg.json") -> ArtifactConfig:
    """Parse the text of a cfg.json.

    Raises:
        DocumentError: with the first problem.
    """
    config, problems = check_config(text)
    if config is None:
        raise DocumentError(source, problems[0].pointer, problems[0].sentence)
    return config


def read_config(path: Path) -> ArtifactConfig:
    """Read a cfg.json.

    Raises:
        DocumentError: when it cannot be read, does not parse, or does not fit its architecture.
    """
    try:
        text = jsontext.decode(path.read_bytes())
    except jsontext.JsonError as problem:
        raise DocumentError(path, "", problem.problem) from None
    except OSError as error:
        raise DocumentError(path, "", f"cannot be read: {error.strerror}") from None
    return parse_config(text, path)


def is_training(config: ArtifactConfig) -> bool:
    """Whether a configuration is that of a training checkpoint, whose weights may still be unfolded."""
    return type(config) in TRAINING.values()


def assumptions(config: ArtifactConfig) -> tuple[Assumption, ...]:
    """Return the switches that the file left out, with the default that every reader then takes."""
    if not isinstance(config, SaelensConfig):
        switches = ("bias_reduction", "gate", "code_norm") if isinstance(config, CrosscoderConfig) else ()
        left_out = [name for name in switches if name not in config.model_fields_set]
        return (*config.assumptions, *_defaults(config, left_out))
    left_out = [name for name in config.SWITCHES if name not in config.model_fields_set]
    return (*_told(config), *_defaults(config, left_out))


def _told(config: SaelensConfig) -> tuple[Assumption, ...]:
    """Return what a converter kept in the metadata: SAELens' dialect has no other place for it."""
    notes = (config.metadata.model_extra or {}).get(TOLD)
    known = [note for note in notes if isinstance(note, dict)] if isinstance(notes, list) else []
    fields = set(Assumption.model_fields)
    fitting = [note for note in known if set(note) == fields and all(isinstance(v, str) for v in note.values())]
    return tuple(Assumption(**note) for note in fitting)


def _defaults(config: ArtifactConfig, names: list[str]) -> tuple[Assumption, ...]:
    because = "absent from cfg.json; the layout's default"
    return tuple(Assumption(field=name, value=str(getattr(config, name)), because=because) for name in names)
