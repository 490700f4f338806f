"""latents.safetensors and features.json of an artifact: what all its latents do, and some of them looked at closely."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DataUnavailableError, DocumentError, WeightsError
from saereg.registry.features.choosing import Choice
from saereg.registry.features.counting import counted
from saereg.registry.features.latents import Latents, read_latents, write_latents
from saereg.registry.features.opening import Means, Opened, opened, weights_sha256
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.names import FEATURES_FILE, LATENTS_FILE
from saereg.schemas.features import FeatureView

if TYPE_CHECKING:
    from saereg.registry.release import Release, ReleaseArtifact

CONTEXTS = 8
"""Contexts of each latent in a view."""


@dataclass(frozen=True)
class Viewed:
    """What was seen of an artifact.

    Attributes:
        latents: statistics of all latents; None where there are none.
        view: some of them; None where there is none.
        reason: why there is none; None where there is.
        written: paths in the release of the files that stand now, those of an earlier build that still hold among them.
    """

    latents: Latents | None = None
    view: FeatureView | None = None
    reason: str | None = None
    written: tuple[str, ...] = field(default=())


def view_artifact(
    release: "Release",
    artifact_id: str,
    *,
    latents: int = 12,
    seed: int = 0,
    models: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> Viewed:
    """Count the latents of an artifact on the first evaluation whose rows are at hand, and look at some of them.

    Args:
        release: the release.
        artifact_id: id of the artifact.
        latents: how many are looked at, one of each stratum of frequency.
        seed: seed of the choice.
        models: key of a base model → folder or repository, for rows, texts and logits.
        device: torch device.

    Returns:
        What was seen, or why nothing was.

    Raises:
        UsageError: when the artifact is not on this machine, or the device cannot be used.
        OSError: when a file cannot be read.
        MissingExtraError: without the `torch` extra.
    """
    return _viewed(release[artifact_id], Choice(latents, seed), Means(models or {}, device))


def _viewed(artifact: "ReleaseArtifact", choice: Choice, means: Means) -> Viewed:
    try:
        return viewed(opened(artifact, None, means), choice, CONTEXTS, means)
    except DataUnavailableError as error:
        return Viewed(reason=error.why)
    except WeightsError as error:  # the evidence says so too, and the validator
        return Viewed(reason=str(error))


def viewed(subject: Opened, choice: Choice, contexts: int, means: Means) -> Viewed:
    """Count the latents of an artifact on rows that were opened, and look at some.

    Args:
        subject: the artifact and its rows.
        choice: which latents are looked at.
        contexts: contexts of each, and entries of a vocabulary.
        means: models and device.

    Raises:
        UsageError: for a latent that there is not.
        WeightsError: when the rows do not fit the dictionary, or a number is not finite.
        OSError: when a file cannot be read.
    """
    from saereg.registry.features.assembling import Subject, assembled

    encoded = subject.encoded(means)
    latents = counted(encoded, subject.occasion)
    return Viewed(latents, assembled(Subject(subject, encoded, latents, means), choice, contexts))


def write_views(
    artifact: "ReleaseArtifact",
    *,
    latents: int = 12,
    seed: int = 0,
    models: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> Viewed:
    """Count the latents of an artifact, look at some, and write both files into its folder.

    A view of latents that a user named stays one of these. Where the rows are not at hand nothing is written. Files of
    an earlier build stay as long as they are of the same weights and of an evaluation that the manifest has; others are
    removed.

    Args:
        artifact: the artifact, in a folder of this machine.
        latents: how many are looked at.
        seed: seed of the choice.
        models: key of a base model → folder or repository.
        device: torch device.

    Raises:
        UsageError: when the device cannot be used.
        OSError: when a file cannot be read or written.
        MissingExtraError: without the `torch` extra.
    """
    paths = {name: artifact.folder / name for name in (LATENTS_FILE, FEATURES_FILE)}
    choice = _choice_of(paths[FEATURES_FILE], artifact) or Choice(latents, seed)
    found = _viewed(artifact, choice, Means(models or {}, device))
    if found.latents is not None:
        write_latents(paths[LATENTS_FILE], found.latents)
    elif not _still_holds(paths[LATENTS_FILE], artifact, _of_latents):
        paths[LATENTS_FILE].unlink(missing_ok=True)
    if found.view is not None:
        write_text_atomically(paths[FEATURES_FILE], found.view.text())
    elif not _still_holds(paths[FEATURES_FILE], artifact, _of_view):
        paths[FEATURES_FILE].unlink(missing_ok=True)
    standing = [path.relative_to(artifact.release.path).as_posix() for path in paths.values() if path.is_file()]
    return Viewed(found.latents, found.view, found.reason, tuple(standing))


def _choice_of(path: Path, artifact: "ReleaseArtifact") -> Choice | None:
    """Return the latents that a user named for the view that stands, where it is of these weights; else None."""
    if not _still_holds(path, artifact, _of_view):
        return None
    view = FeatureView.read(path)
    return Choice(how="given", given=[latent.index for latent in view.latents]) if view.chosen == "given" else None


def _of_latents(path: Path) -> tuple[str, str]:
    found = read_latents(path)
    return found.weights_sha256, found.evaluation


def _of_view(path: Path) -> tuple[str, str]:
    found = FeatureView.read(path)
    return found.weights_sha256, found.evaluation


def _still_holds(path: Path, artifact: "ReleaseArtifact", said: Callable[[Path], tuple[str, str]]) -> bool:
    """Whether a file of an earlier build is of the weights that the artifact has now, and of an evaluation that is."""
    if not path.is_file():
        return False
    try:
        weights, evaluation = said(path)
        return weights == weights_sha256(artifact) and evaluation in artifact.release.manifest.evaluations
    except (DocumentError, WeightsError, OSError):
        return False
