"""Which evaluations of a release a dictionary is measured on."""

from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import WeightsError
from saereg.registry.metrics.sources.activations import StoredRows
from saereg.schemas.evaluation import ActivationRows, Evaluation, ParameterRows, TokenRows
from saereg.schemas.manifest import CrosscoderArtifact, Manifest, TranscoderArtifact

if TYPE_CHECKING:
    from saereg.schemas.manifest import Artifact


def evaluations_of(claim: "Artifact", manifest: Manifest, root: Path, shape: tuple[int, ...]) -> dict[str, Evaluation]:
    """Return the evaluations that a dictionary's claims name, and those at the site that it reads.

    A site of parameters may be that of crosscoders over snapshots and of autoencoders of one of them: of the
    evaluations there each is measured on those with as many axes, and snapshots, as it has. Those on the data set that
    it was trained on come first: where one number stands for a dictionary, it is the one at home.

    Args:
        claim: what the manifest says of the dictionary.
        manifest: the manifest.
        root: release folder.
        shape: shape of one row that it reads.
    """
    named = {stated.evaluation for stated in claim.claims}
    found = {
        name: evaluation
        for name, evaluation in manifest.evaluations.items()
        if name in named or (_is_at_its_site(evaluation, claim) and _is_of_its_kind(evaluation, manifest, root, shape))
    }
    home = claim.training.dataset
    return dict(sorted(found.items(), key=lambda pair: home is None or pair[1].dataset != home))


def _is_at_its_site(evaluation: Evaluation, claim: "Artifact") -> bool:
    if isinstance(claim, CrosscoderArtifact):
        if isinstance(evaluation, TokenRows):
            return bool(claim.sources.sites) and evaluation.sites == claim.sources.sites
        steps = evaluation.steps if isinstance(evaluation, ParameterRows) else claim.sources.steps
        return evaluation.site is not None and (evaluation.site, steps) == (claim.sources.site, claim.sources.steps)
    return evaluation.site == claim.site and predicts(evaluation) == isinstance(claim, TranscoderArtifact)


def _is_of_its_kind(evaluation: Evaluation, manifest: Manifest, root: Path, shape: tuple[int, ...]) -> bool:
    """Whether rows have as many axes as a dictionary reads, where one site may have rows of several kinds."""
    if isinstance(evaluation, ParameterRows):
        return (len(evaluation.steps) > 1) == (len(shape) > 1)
    site = manifest.sites.get(evaluation.site or "")
    if not isinstance(evaluation, ActivationRows) or (len(shape) == 1 and (site is None or site.stream != "parameter")):
        return True
    try:
        return len(StoredRows(root / evaluation.path, evaluation).row_shape) == len(shape)
    except (WeightsError, OSError):
        return True  # it is damaged, or not there: whoever opens it says so


def predicts(evaluation: Evaluation) -> bool:
    """Whether an evaluation has targets of its own, as for a transcoder."""
    return (getattr(evaluation, "target", None) or getattr(evaluation, "site_out", None)) is not None
