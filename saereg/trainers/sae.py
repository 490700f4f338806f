"""`saereg train sae`: from a collection to a dictionary in a release folder, ready to be validated."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.draft import References, add_to_manifest, check_references
from saereg.registry.evidence.golden_file import write_golden
from saereg.registry.files.atomic import write_bytes_atomically
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.names import GOLDEN_FILE, LOG_FILE
from saereg.registry.models.model import require, slug
from saereg.schemas.collection import Collection
from saereg.schemas.evaluation import ActivationRows
from saereg.schemas.manifest import ReleaseInfo, SaeArtifact, SourceCheckpoint, Sparsity, TrainingFacts
from saereg.schemas.training import TrainConfig
from saereg.trainers.activations import Activations, read_collection
from saereg.trainers.claims import claims_of
from saereg.trainers.export import WEIGHTS_FILE, export, inference_config, save_checkpoint, write_evaluation
from saereg.trainers.fit import Fitted, build, check_settings, fit, tools
from saereg.trainers.golden import make_golden


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

    artifact: SaeArtifact
    folder: Path
    checkpoint: Path
    weights_sha256: str
    l0: float | None


def train(
    config: TrainConfig,
    release: Path,
    checkpoints: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    info: ReleaseInfo | None = None,
) -> TrainedArtifact:
    """Train one sparse autoencoder and add it to a release folder.

    Writes `RELEASE/<id>/` (weights, cfg.json, golden vectors, training log), `RELEASE/evaluation/…`, the entry in
    `RELEASE/manifest.json`, and `CHECKPOINTS/<id>/` with SAELens' own training checkpoint. The same configuration
    gives the same bytes on one machine.

    Args:
        config: the run.
        release: release folder; created when it is missing.
        checkpoints: folder for training checkpoints; no part of the release.
        progress: called after every step with (rows seen, rows in all).
        info: the release as a whole, for a new manifest.

    Raises:
        MissingExtraError: without the `train` extra.
        UsageError: when the collection is missing or unfinished, has no such site or too few rows, the settings
            cannot be trained, or the release holds something else under one of the names.
    """
    require("torch", "training")
    folder = Path(config.collection)
    collection = read_collection(folder)
    activations = Activations(folder, collection, config.site)
    check_settings(config.sae)
    rows = _training_rows(config, activations)
    references = _references(config, collection)
    check_references(release, references, info)
    require("sae_lens", "training")  # takes seconds to import, so mistakes are found before
    held_out = activations.read(rows, activations.rows)
    write_evaluation(release / _evaluation_path(config), held_out)

    fitted = _fit(config, collection, activations, checkpoints / config.artifact.id, rows, progress)
    checkpoint = save_checkpoint(fitted, checkpoints / config.artifact.id)
    target = release / config.artifact.id
    source = export(fitted, checkpoint, checkpoints=checkpoints, folder=target)
    write_golden(target / GOLDEN_FILE, make_golden(fitted.sae, held_out, config.seed))
    write_bytes_atomically(target / LOG_FILE, (checkpoint.parent / LOG_FILE).read_bytes())
    claims = claims_of(fitted.sae, held_out, _evaluation_key(config))
    artifact = _artifact(config, collection, fitted, source).model_copy(update={"claims": claims})
    add_to_manifest(release, artifact, references, info=info)
    digest = sha256_of(target / WEIGHTS_FILE)
    return TrainedArtifact(artifact, target, checkpoint, digest, fitted.sae.cfg.metadata.l0)


def _training_rows(config: TrainConfig, activations: Activations) -> int:
    """Return how many rows may be trained on: all but the last ones, which are held out."""
    held_out = config.evaluation.rows
    if held_out >= activations.rows:
        raise UsageError(
            f"evaluation.rows is {held_out}, but {config.collection} has {activations.rows} rows; "
            "collect more, or hold out fewer"
        )
    return activations.rows - held_out


def _evaluation_key(config: TrainConfig) -> str:
    return f"{config.evaluation.name}-{config.site}"


def _evaluation_path(config: TrainConfig) -> str:
    return f"evaluation/{_evaluation_key(config)}.safetensors"


def _fit(
    config: TrainConfig,
    collection: Collection,
    activations: Activations,
    folder: Path,
    rows: int,
    progress: Callable[[int, int], None] | None,
) -> Fitted:
    import torch

    order = torch.Generator().manual_seed(config.seed)
    batches = activations.batches(rows, config.optimization.batch_size, order)
    sae = build(config, collection)
    return fit(sae, batches, config, rows=rows, log=folder / LOG_FILE, progress=progress)


def _artifact(config: TrainConfig, collection: Collection, fitted: Fitted, source: SourceCheckpoint) -> SaeArtifact:
    settings, run = config.sae, config.optimization
    exported = inference_config(fitted)
    return SaeArtifact(
        kind="sae",
        id=config.artifact.id,
        path=config.artifact.id,
        architecture=exported.architecture,  # type: ignore[arg-type]
        d_in=exported.d_in,
        d_sae=exported.d_sae,
        site=config.site,
        sparsity=Sparsity(k=settings.k, l1_coefficient=settings.l1_coefficient, l0_coefficient=settings.l0_coefficient),
        seed=config.seed,
        variant=config.artifact.variant,
        canonical=config.artifact.canonical,
        source_checkpoint=source,
        training=TrainingFacts(
            tokens=fitted.tokens,
            steps=fitted.steps,
            batch_size=run.batch_size,
            lr=run.lr,
            dataset=slug(collection.dataset.id),
            tool=tools(),
            log=f"{config.artifact.id}/{LOG_FILE}",
        ),
    )


def _references(config: TrainConfig, collection: Collection) -> References:
    site, dataset = collection.sites[config.site].site, slug(collection.dataset.id)
    held_out = ActivationRows(
        source="activations",
        path=_evaluation_path(config),
        rows=config.evaluation.rows,
        site=config.site,
        dataset=dataset,
    )
    return References(
        base_models={site.model: collection.model},
        sites={config.site: site},
        datasets={dataset: collection.dataset},
        evaluations={_evaluation_key(config): held_out},
        tokens=collection.tokens,
    )
