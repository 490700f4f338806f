"""Small files of a release that a page shows in part: feature views, specifications of figures, training logs."""

from typing import Any

from saereg.registry.features.shipped import view_in
from saereg.registry.figures.series import evenly
from saereg.registry.files.names import FEATURES_FILE
from saereg.registry.release import Release, ReleaseArtifact
from saereg.registry.trainings import first_key, log_lines, log_path
from saereg.schemas import jsontext

MOST_BYTES = 32 * 1024**2
"""Largest file that is read for a page."""

SERIES = ("loss", "mse_loss", "explained_variance", "l0", "dead_fraction")
"""Entries of a training log that are drawn, where it has them."""

POINTS = 160
"""Points of a curve on the page: the log itself has them all."""

CONTEXTS = 8
"""Contexts of a latent that are shown."""


def read_inside(release: Release, path: str) -> bytes | None:
    """Return a file of the release; None where there is none, it is too large, or a link leads out of a local folder.

    The files of a release that was fetched from the Hub are links by themselves, into the cache.
    """
    file = release.path / path
    try:
        if not file.is_file() or file.stat().st_size > MOST_BYTES:
            return None
        if release.repo is None and not file.resolve().is_relative_to(release.path.resolve()):
            return None
        return file.read_bytes()
    except OSError:
        return None


def figure_spec(release: Release, path: str) -> dict[str, Any] | None:
    """Return the Vega-Lite specification of a figure without what is meant for its embedder; None without one."""
    content = read_inside(release, path)
    try:
        spec = jsontext.parse(content.decode("utf-8")) if content is not None else None
    except (jsontext.JsonError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(spec, dict):
        return None
    spec.pop("usermeta", None)
    return spec


def feature_view(artifact: ReleaseArtifact) -> dict[str, Any] | None:
    """Return the feature view of an artifact, CONTEXTS contexts a latent at most; None without one of its weights."""
    listed = [file.path for file in artifact.evidence.files if file.role == "features"] if artifact.evidence else []
    path = f"{artifact.claim.path}/{FEATURES_FILE}"
    content = read_inside(artifact.release, listed[0] if listed else path)
    if content is None:
        return None
    view = view_in(content.decode("utf-8", "replace"), artifact.id, artifact.evidence)
    if view is None:
        return None
    shown: dict[str, Any] = without_empty(view.model_dump(mode="json"))
    for latent in shown.get("latents", []):
        latent["contexts"] = [_thin(context) for context in latent.get("contexts", [])[:CONTEXTS]]
    return shown


def _thin(context: dict[str, Any]) -> dict[str, Any]:
    """Return a context whose activations have four digits: they are colours on the page."""
    return context | {"activations": [float(f"{value:.4g}") for value in context.get("activations", [])]}


def without_empty(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON without what is null or empty in its objects; false and 0 stay."""
    if isinstance(value, dict):
        kept = {key: without_empty(entry) for key, entry in value.items()}
        return {key: entry for key, entry in kept.items() if entry is not None and entry not in ([], {}, "")}
    return [without_empty(entry) for entry in value] if isinstance(value, list) else value


def training_curve(artifact: ReleaseArtifact) -> dict[str, Any] | None:
    """Return the training log as columns of at most POINTS points: {"x": "tokens", "values": {name: [...]}}."""
    path = log_path(artifact)
    if path is None:
        return None
    lines = list(log_lines(path))
    axis = first_key(lines, ("tokens", "step"), least=2)
    if axis is None:
        return None
    records = [_rounded(line) for line in evenly([line for line in lines if axis in line], POINTS)]
    names = [name for name in SERIES if any(name in record for record in records)]
    if not names:
        return None
    if "loss" in names and all(record.get("loss") == record.get("mse_loss") for record in records):
        names.remove("mse_loss")
    values = {name: [record.get(name) for record in records] for name in (axis, *names)}
    return {"x": axis, "series": names, "values": values}


def _rounded(line: dict[str, float]) -> dict[str, float]:
    """Return the numbers of a line with six digits: more cannot be seen."""
    return {name: float(f"{value:.6g}") for name, value in line.items()}
