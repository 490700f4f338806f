"""What readers see first of a release, made from its evidence: loss floors, feature views, figures, cards."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from saereg.errors import MissingExtraError
from saereg.registry.cards.write import unseen
from saereg.registry.files.listing import listed
from saereg.registry.release import Release, ReleaseArtifact
from saereg.schemas.floors import LossFloors
from saereg.schemas.index import Index, IndexArtifact, IndexFile
from saereg.schemas.manifest import Manifest

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""

Note = Callable[[str], None]
"""One line on what could not be made → None."""


GENERATED = ("figure", "features", "analysis")
"""Roles of files that a build may remove again: what they were made from has changed, or is not there any more."""

LINK = "the folder is behind a link that leads out of the release, and nothing is written there"

MOST_REASONS = 3
"""Reasons why there is no feature view that are told: the commonest."""


def unheard(line: str) -> None:
    """Drop a note."""
    del line


@dataclass(frozen=True)
class Presentation:
    """What is made beside the evidence.

    Attributes:
        figures: whether figures are drawn and loss floors fitted; without the `plots` extra a note says so.
        features: whether latents are counted and a feature view is written.
        cards: whether every artifact gets a card of its own.
        latents: latents in the feature view of an artifact.
        models: key of a base model → folder or repository, for logits and texts.
        device: torch device.
        templates: folder of the user's own templates of cards.
        note: told what could not be made, and why.
    """

    figures: bool = True
    features: bool = True
    cards: bool = True
    latents: int = 12
    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    templates: Path | None = None
    note: Note = unheard


def present(root: Path, manifest: Manifest, index: Index, wanted: Presentation, progress: Progress | None) -> Index:
    """Make what is wanted; return the index with figures and floors in it, and with every file that was written.

    Args:
        root: release folder.
        manifest: its claims.
        index: the evidence that was just found; not yet written.
        wanted: what is made.
        progress: called after each step.

    Raises:
        UsageError: for a template of the user that fails.
        OSError: when a file cannot be written.
    """
    release = Release(root, manifest, index)
    if wanted.features:
        release = _with_features(release, wanted, progress)
    release = _with_figures(release, wanted, progress) if wanted.figures else _without_figures(release)
    if wanted.cards:
        release = _with_cards(release, wanted, progress)
    assert release.index is not None  # noqa: S101 - it was given
    if line := unseen(root, release.index):
        wanted.note(line)
    return release.index


def _with_features(release: Release, wanted: Presentation, progress: Progress | None) -> Release:
    """Count the latents of every artifact, and show some; of what has no rows here, what stands is kept or removed."""
    from saereg.registry.features.views import write_views

    entries, reasons = [], Counter[str]()
    for position, (artifact, entry) in enumerate(_pairs(release), 1):
        if _leads_out(artifact):
            reasons[LINK] += 1
            entries.append(entry)
            continue
        done = write_views(artifact, latents=wanted.latents, models=wanted.models, device=wanted.device)
        if done.reason:
            reasons[done.reason] += 1
        entries.append(_relisted(release.path, entry, done.written))
        if progress:
            progress(f"{artifact.id}: latents", position, len(release))
    for reason, count in reasons.most_common(MOST_REASONS):
        wanted.note(f"no feature view, {count} of {len(release)} artifacts: {reason}")
    return _with(release, artifacts=tuple(entries))


def _with_figures(release: Release, wanted: Presentation, progress: Progress | None) -> Release:
    """Fit the loss floors, then draw: a figure of them is among the others."""
    from saereg.registry.figures.write import write_figures

    try:
        release = _with(release, floors=_floors(release, wanted.note))
        figures = write_figures(release, wanted.note)
    except MissingExtraError as error:
        wanted.note(f"no figures: {error}")
        return _without_figures(release)
    if progress:
        progress("figures", len(figures), len(figures))
    assert release.index is not None  # noqa: S101 - it was given
    written = [path for figure in figures for path in (figure.spec, figure.png, figure.svg)]
    return _with(release, figures=figures, files=_standing(release.path, release.index.files, written))


def _floors(release: Release, note: Note) -> LossFloors | None:
    """Return the loss floors; None where there are none, or the losses are odd in a way that nobody thought of."""
    from saereg.registry.floors.fit import floors_of

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of losses twelve orders of magnitude apart
            return floors_of(release)
    except (ArithmeticError, ValueError) as error:  # ValidationError and LinAlgError are ValueErrors
        words = " ".join(str(error).split())[:200]
        note(f"loss floors are left out, as they cannot be fitted here: {type(error).__name__}: {words}")
        return None


def _without_figures(release: Release) -> Release:
    """Remove the figures of an earlier build: what they show is not looked at any more."""
    from saereg.registry.figures.write import remove_figures

    remove_figures(release)
    assert release.index is not None  # noqa: S101 - it was given
    return _with(release, files=_standing(release.path, release.index.files, ()))


def _with_cards(release: Release, wanted: Presentation, progress: Progress | None) -> Release:
    from saereg.registry.cards.artifact_card import write_artifact_card

    entries = []
    for position, (artifact, entry) in enumerate(_pairs(release), 1):
        path = None
        if not _leads_out(artifact):
            path = write_artifact_card(release.path, artifact.claim, release.manifest, entry, wanted.templates)
        entries.append(_relisted(release.path, entry, [path] if path else []))
        if progress:
            progress(f"{artifact.id}: card", position, len(release))
    return _with(release, artifacts=tuple(entries))


def _pairs(release: Release) -> Iterator[tuple[ReleaseArtifact, IndexArtifact]]:
    for artifact in release:
        if artifact.evidence is not None:
            yield artifact, artifact.evidence


def _leads_out(artifact: ReleaseArtifact) -> bool:
    """Whether its folder is behind a link out of the release, through which nothing is written."""
    return not artifact.folder.resolve().is_relative_to(artifact.release.path.resolve())


def _with(release: Release, **found: object) -> Release:
    """Return the release with something more in its index."""
    assert release.index is not None  # noqa: S101 - it was given
    return Release(release.path, release.manifest, release.index.model_copy(update=found))


def _relisted(root: Path, entry: IndexArtifact, written: Iterable[str]) -> IndexArtifact:
    return entry.model_copy(update={"files": _standing(root, entry.files, written)})


def _standing(root: Path, files: tuple[IndexFile, ...], written: Iterable[str]) -> tuple[IndexFile, ...]:
    """Return a list of files with those that were written, and without generated ones that are gone."""
    gone = {file.path for file in files if file.role in GENERATED and not (root / file.path).is_file()}
    return listed(root, files, written, gone)
