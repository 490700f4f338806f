"""Crosscoders on their way into the release: all processes compute, and one writes the files and the entry."""

from collections.abc import Sequence
from pathlib import Path

from saereg.registry.draft import add_to_manifest
from saereg.registry.evidence.golden_file import tensor_bytes, write_golden
from saereg.registry.files.atomic import write_bytes_atomically
from saereg.registry.files.names import ANALYSIS_FILE, GOLDEN_FILE, LOG_FILE
from saereg.registry.metrics.sources.texts import TextFile, text_path, write_vocabulary
from saereg.schemas.evaluation import ActivationRows
from saereg.schemas.manifest import CrosscoderArtifact, ReleaseInfo, SourceCheckpoint, Sparsity, TrainingFacts
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.crosscoder.analysis import analysis_of
from saereg.trainers.crosscoder.calibrating import calibrated
from saereg.trainers.crosscoder.evaluating import claims_of
from saereg.trainers.crosscoder.export import WEIGHTS_FILE, export, released_config, save_checkpoint, tools
from saereg.trainers.crosscoder.golden import make_golden
from saereg.trainers.crosscoder.member import CrosscoderMember
from saereg.trainers.crosscoder.sources import Stack
from saereg.trainers.runs.configs import FINAL, identifier
from saereg.trainers.runs.held_out import write_held_out, write_held_out_text


class Writer:
    """Writes crosscoders as they are now into the release.

    Args:
        stack: the sources.
        release: release folder.
        checkpoints: folder for training checkpoints.
        members: the crosscoders.
        info: the release as a whole, for a new manifest.
    """

    def __init__(
        self,
        stack: Stack,
        release: Path,
        checkpoints: Path,
        members: Sequence[CrosscoderMember],
        info: ReleaseInfo | None,
    ) -> None:
        self._stack, self._release, self._checkpoints = stack, release, checkpoints
        self._members, self._info = members, info

    def write_all(self, label: str | None) -> None:
        """Write every member, under its id or as the snapshot of a label."""
        for member in self._members:
            self._write(member, label)

    def _write(self, member: CrosscoderMember, label: str | None) -> None:
        config, model, name = member.config, member.model, identifier(member.config, label)
        running = model.threshold
        if config.crosscoder.architecture == "batchtopk":
            model.threshold = calibrated(model, self._stack)
        golden, claims = make_golden(model, self._stack, config.seed), claims_of(model, self._stack)
        checkpoint = save_checkpoint(model, self._checkpoints / name)
        model.threshold = running
        if model.group.rank:
            return
        target, exported = self._release / name, released_config(config.crosscoder, self._stack, _details(config))
        source = export(exported, checkpoint, checkpoints=self._checkpoints, folder=target)
        write_golden(target / GOLDEN_FILE, golden)
        write_bytes_atomically(target / ANALYSIS_FILE, tensor_bytes(analysis_of(target / WEIGHTS_FILE)))
        write_bytes_atomically(target / LOG_FILE, (self._checkpoints / config.artifact.id / LOG_FILE).read_bytes())
        artifact = self._artifact(member, source, label).model_copy(update={"claims": claims})
        add_to_manifest(self._release, artifact, self._stack.references(), info=self._info)

    def _artifact(self, member: CrosscoderMember, source: SourceCheckpoint, label: str | None) -> CrosscoderArtifact:
        config, stack, name = member.config, self._stack, identifier(member.config, label)
        settings, optimization = config.crosscoder, config.optimization
        # a coefficient that was steered is the one that it has now: the number that gives this L0
        coefficient = settings.l1_coefficient if settings.target_l0 is None else member.coefficient
        return CrosscoderArtifact(
            kind="crosscoder",
            id=name,
            path=name,
            architecture=settings.architecture,
            d_in=stack.width,
            d_sae=settings.d_sae,
            sources=stack.sources,
            sparsity=Sparsity(k=settings.k, l1_coefficient=coefficient, target_l0=settings.target_l0),
            seed=config.seed,
            snapshot=label,
            variant=config.artifact.variant,
            canonical=config.artifact.canonical and label in (None, FINAL),
            expected_failure=config.artifact.expected_failure,
            source_checkpoint=source,
            training=TrainingFacts(
                tokens=member.steps * optimization.batch_size,
                steps=member.steps,
                batch_size=optimization.batch_size,
                lr=optimization.lr,
                order_seed=None if config.order == config.seed else config.order,
                dataset=next(iter(stack.datasets), None),
                tool=tools(),
                log=f"{name}/{LOG_FILE}",
            ),
        )


def write_evaluation(stack: Stack, release: Path) -> None:
    """Write the held-out rows of activations; those of parameters are in the checkpoints of the model.

    Raises:
        UsageError: when other rows stand there already.
    """
    evaluation = stack.evaluation[1]
    if not isinstance(evaluation, ActivationRows):
        if stack.vocabulary is not None and (path := text_path(evaluation)) is not None:
            write_vocabulary(release / path, TextFile(stack.vocabulary).pieces)
        return
    rows = stack.held_out
    write_held_out(release / evaluation.path, {evaluation.tensor: stack.read(rows.start, rows.stop)})
    write_held_out_text(release / evaluation.path, stack.text, rows)


def _details(config: CrosscoderTrainConfig) -> dict[str, object]:
    """Return the training settings that the released function does not show."""
    settings = config.crosscoder
    names = ["decoder_init_norm", "clip_norm"]
    if settings.architecture == "jumprelu":
        names += ["penalty", "tanh_scale", "bandwidth", "pre_act_coefficient", "threshold", "threshold_lr_factor"]
        names += ["frequency_scale"] if settings.penalty == "tanh_quadratic" else []
    if settings.k is not None:
        names += ["aux_loss_coefficient", "dead_after_steps"]
    names += ["l1_coefficient"] if settings.l1_coefficient is not None else []
    found = {name: getattr(settings, name) for name in names}
    return found if settings.k is not None else found | {"sparsity_warm_up_steps": config.warm_up_steps}
