"""The feature view that a release ships: shown only where it is of the weights that the index knows."""

from saereg.errors import DocumentError
from saereg.registry.files.names import FEATURES_FILE
from saereg.registry.flat_fields import weights_digest
from saereg.schemas.features import FeatureView
from saereg.schemas.index import IndexArtifact


def fits(view: FeatureView, identifier: str, evidence: IndexArtifact | None) -> bool:
    """Whether a view is of an artifact, with the weights that it has now.

    Args:
        view: the view.
        identifier: id of the artifact.
        evidence: its entry in the index, which has the digest of the weights; without one nothing fits.
    """
    digest = weights_digest(evidence) if evidence is not None else None
    return view.artifact == identifier and digest is not None and view.weights_sha256 == digest


def view_in(text: str | None, identifier: str, evidence: IndexArtifact | None) -> FeatureView | None:
    """Return the feature view that a text holds, if it fits; None for anything else.

    Args:
        text: text of features.json, or None where there is none.
        identifier: id of the artifact.
        evidence: its entry in the index.
    """
    if text is None:
        return None
    try:
        view = FeatureView.from_text(text, FEATURES_FILE)
    except DocumentError:
        return None
    return view if fits(view, identifier, evidence) else None
