"""Dictionaries on their way into the release: all files of an artifact and its entry, and whether they stand there."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from saereg.registry.draft import add_to_manifest
from saereg.registry.evidence.golden_file import write_golden
from saereg.registry.files.atomic import write_bytes_atomically
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.names import CONFIG_FILE, GOLDEN_FILE, LOG_FILE
from saereg.registry.models.model import slug
from saereg.schemas.manifest import (
    ReleaseInfo,
    SaeArtifact,
    SourceCheckpoint,
    Sparsity,
    TrainingFacts,
    TranscoderArtifact,
)
from saereg.schemas.training import SPARSITY, TrainConfig
from saereg.trainers.runs.configs import FINAL, identifier, labels_of
from saereg.trainers.runs.finished import Ending, entries
from saereg.trainers.runs.held_out import text_beside
from saereg.trainers.saelens.claims import claims_of
from saereg.trainers.saelens.export import export, has_unit_decoder, inference_config, save_checkpoint
from saereg.trainers.saelens.golden import make_golden
from saereg.trainers.saelens.member import Fitted, SaeMember, tools
from saereg.trainers.saelens.prepare import Prepared, evaluation_key, evaluation_path
from saereg.trainers.saelens.transcoder import layout_for, weights_file

FILES = (CONFIG_FILE, GOLDEN_FILE, LOG_FILE)
"""Files of an artifact, beside that of its weights."""


@dataclass(frozen=True)
class TrainedArtifact:
    """A dictionary that was trained and written.

    Attributes:
        artifact: its entry in the manifest.
        folder: its files in the release.
        checkpoint: file of the training checkpoint that it was exported from.
        weights_sha256: digest of the released weights.
        l0: mean L0 over the last window of training.
    """

    artifact: SaeArtifact | TranscoderArtifact
    folder: Path
    checkpoint: Path
    weights_sha256: str
    l0: float | None


class Writer:
    """Writes dictionaries as they are now into the release.

    Args:
        prepared: the runs.
        checkpoints: folder for training checkpoints.
        members: the dictionaries.
        info: the release as a whole, for a new manifest.
    """

    def __init__(
        self, prepared: Prepared, checkpoints: Path, members: Sequence[SaeMember], info: ReleaseInfo | None
    ) -> None:
        self._prepared, self._checkpoints, self._members, self._info = prepared, checkpoints, members, info

    def write_all(self, label: str | None) -> None:
        """Write every member, under its id or as the snapshot of a label."""
        for member in self._members:
            self._write(member, label)

    def _write(self, member: SaeMember, label: str | None) -> None:
        config, fitted, name = member.config, member.fitted(), identifier(member.config, label)
        release, held_out = self._prepared.release, self._prepared.held_out(config)
        checkpoint = save_checkpoint(fitted, self._checkpoints / name)
        target = release / name
        source = export(fitted, checkpoint, checkpoints=self._checkpoints, folder=target)
        write_golden(target / GOLDEN_FILE, make_golden(fitted.sae, held_out, config.seed))
        write_bytes_atomically(target / LOG_FILE, (self._checkpoints / config.artifact.id / LOG_FILE).read_bytes())
        claims = claims_of(fitted.sae, held_out, evaluation_key(config), self._prepared.target(config))
        artifact = self._artifact(member, fitted, source, label).model_copy(update={"claims": claims})
        add_to_manifest(release, artifact, self._prepared.references(config), info=self._info)

    def _artifact(
        self, member: SaeMember, fitted: Fitted, source: SourceCheckpoint, label: str | None
    ) -> SaeArtifact | TranscoderArtifact:
        config, optimization, name = member.config, member.config.optimization, identifier(member.config, label)
        exported = inference_config(fitted)
        if config.site_out is None:
            made: Callable[..., SaeArtifact | TranscoderArtifact] = partial(SaeArtifact, kind="sae")
        else:
            made = partial(TranscoderArtifact, kind="transcoder", site_out=config.site_out, d_out=exported.d_out)
        return made(
            id=name,
            path=name,
            format=layout_for(config.sae.architecture),
            architecture=exported.architecture,
            d_in=exported.d_in,
            d_sae=exported.d_sae,
            site=config.site,
            sparsity=sparsity_of(member),
            seed=config.seed,
            snapshot=label,
            variant=variant_of(config),
            canonical=config.artifact.canonical and label in (None, FINAL),
            expected_failure=config.artifact.expected_failure,
            tied=config.sae.tied or None,
            decoder_norm="unit" if has_unit_decoder(fitted) else None,
            source_checkpoint=source,
            training=TrainingFacts(
                tokens=fitted.tokens,
                steps=fitted.steps,
                batch_size=optimization.batch_size,
                lr=optimization.lr,
                order_seed=None if config.order == config.seed else config.order,
                dataset=slug(self._prepared.collection.dataset.id),
                tool=tools(),
                log=f"{name}/{LOG_FILE}",
            ),
        )


def variant_of(config: TrainConfig) -> str | None:
    """Return what sets an artifact apart: what the user says, else what no other field of its entry tells."""
    if config.artifact.variant is not None:
        return config.artifact.variant
    scaled = config.sae.normalize_activations
    said = ("matryoshka" if config.sae.matryoshka_widths else None, scaled if scaled != "none" else None)
    return ", ".join(filter(None, said)) or None


def sparsity_of(member: SaeMember) -> Sparsity:
    """Return the sparsity setting; a coefficient that was steered is the one that it has now.

    That is the number which gives this L0, so the one to begin another run with; where it began is in the log.
    """
    settings = member.config.sae
    name = SPARSITY[settings.architecture]
    value = getattr(settings, name) if member.steered is None else member.steered
    return Sparsity.model_validate({name: value, "target_l0": settings.target_l0})


def standing(configs: Sequence[TrainConfig], release: Path, checkpoints: Path) -> "list[TrainedArtifact]":
    """Return every artifact of runs as it stands in the release, those of each run in the order of its steps.

    Raises:
        KeyError: when the manifest lacks one.
        DocumentError: when the manifest or a configuration cannot be read.
        OSError: when a file is missing.
    """
    known = entries(release)
    found = []
    for config in configs:
        for label in labels_of(config):
            artifact = known[identifier(config, label)]
            assert isinstance(artifact, SaeArtifact | TranscoderArtifact)  # noqa: S101  # the Writer wrote it
            assert artifact.source_checkpoint is not None  # noqa: S101
            folder = release / artifact.path
            metadata = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["metadata"]
            checkpoint = checkpoints / artifact.source_checkpoint.path
            digest = sha256_of(folder / weights_file(config.sae.architecture))
            found.append(TrainedArtifact(artifact, folder, checkpoint, digest, metadata.get("l0")))
    return found


def ending_of(prepared: Prepared) -> Ending:
    """Return what runs end with."""
    paths = [evaluation_path(config) for config in prepared.configs]
    if prepared.collection.texts is not None:
        paths += [text_beside(path) for path in paths]
    for config in prepared.configs:
        files = (weights_file(config.sae.architecture), *FILES)
        paths += [f"{identifier(config, label)}/{file}" for label in labels_of(config) for file in files]
    return Ending(prepared.configs, prepared.identity(), prepared.release, paths)
