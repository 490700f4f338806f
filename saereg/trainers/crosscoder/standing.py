"""What a run of crosscoders depends on, and what it leaves behind."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from saereg.registry.files.names import ANALYSIS_FILE, CONFIG_FILE, GOLDEN_FILE, LOG_FILE, WEIGHTS_FILES
from saereg.registry.metrics.sources.texts import text_path
from saereg.schemas.evaluation import ActivationRows
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.crosscoder.sources import Stack
from saereg.trainers.runs.configs import identifiers, numbers_of
from saereg.trainers.runs.finished import Ending

FILES = (WEIGHTS_FILES["saereg"], CONFIG_FILE, GOLDEN_FILE, ANALYSIS_FILE, LOG_FILE)
"""Files of an artifact."""


def identity_of(configs: Sequence[CrosscoderTrainConfig], stack: Stack) -> dict[str, object]:
    """Return what a checkpoint must agree with for runs to go on from it: all that changes a number."""
    runs = {config.artifact.id: numbers_of(config, "sources") for config in configs}
    return {"the digest of the sources": stack.digest[:16], **runs}


def ending_of(configs: Sequence[CrosscoderTrainConfig], stack: Stack, release: Path) -> Ending:
    """Return what runs end with."""
    return Ending(configs, identity_of(configs, stack), release, tuple(_paths(configs, stack)))


def _paths(configs: Sequence[CrosscoderTrainConfig], stack: Stack) -> Iterator[str]:
    evaluation = stack.evaluation[1]
    has_text = stack.text is not None or stack.vocabulary is not None
    if isinstance(evaluation, ActivationRows):
        yield evaluation.path
    if has_text and (path := text_path(evaluation)) is not None:
        yield path
    for one in identifiers(configs):
        yield from (f"{one}/{file}" for file in FILES)
