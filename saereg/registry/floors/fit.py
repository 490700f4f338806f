"""The loss floors of a release: which losses there are decides what is fitted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from saereg.errors import MissingExtraError
from saereg.registry.floors.logged import logged_series
from saereg.registry.floors.series import Point, Series, measured_points, series_of
from saereg.registry.release import Release
from saereg.schemas.floors import JointFloor, LossFloors
from saereg.schemas.metrics import MetricId

if TYPE_CHECKING:
    from saereg.registry.floors.fitting import FitOptions

MOST_SERIES = 500
"""Most series of measured losses that are fitted."""

MOST_LOGS = 100
"""Most training logs that are read."""

MOST_CURVES = 200
"""Up to so many series the drawn law is kept with each fit."""


def floors_of(release: Release, options: "FitOptions | None" = None) -> LossFloors | None:
    """Fit the loss floors of a release; the same release gives the same bytes.

    Losses that were measured on snapshots are fitted where there are any; else those that trainings wrote down.

    Args:
        release: an open release; nothing of it is fetched.
        options: how laws are fitted; None: the first two thirds of the snapshots, intervals of 90 %.

    Returns:
        The fits, also of series that have too few snapshots, each with its reason; None where a release has no series
        of losses, and no widths or sparsities to fit a law to.

    Raises:
        MissingExtraError: without scipy, where there is something to fit.
    """
    measured = measured_points(release)
    metric, points = measured if measured else (None, [])
    if metric and (series := series_of(points)):
        left_out = max(len(series) - MOST_SERIES, 0)
        return _fitted(metric, "measured", series[:MOST_SERIES], left_out, _joint(metric, points, options), options)
    logged = logged_series(release, MOST_LOGS)
    joint = _joint(metric, points, options) if metric else ()
    if logged is not None:
        return _fitted(logged[0], "logged", logged[1], logged[2], joint, options)
    return _fitted(metric, "measured", [], 0, joint, options) if metric and joint else None


def _fitted(
    metric: MetricId,
    basis: Literal["measured", "logged"],
    series: Sequence[Series],
    left_out: int,
    joint: tuple[JointFloor, ...],
    options: "FitOptions | None",
) -> LossFloors:
    require_scipy()
    from saereg.registry.floors.fitting import FitOptions, fit_all

    chosen = options or FitOptions()
    evaluations = {s.evaluation for s in series} or {law.evaluation for law in joint}
    fits = fit_all(series, chosen)
    if len(fits) > MOST_CURVES:
        fits = tuple(fit.model_copy(update={"curve": ()}) for fit in fits)
    return LossFloors(
        metric=metric,
        evaluation=evaluations.pop() if len(evaluations) == 1 else None,
        basis=basis,
        level=chosen.level,
        resamples=chosen.resamples,
        seed=chosen.seed,
        fits=fits,
        joint=joint,
        left_out=left_out,
    )


def _joint(metric: MetricId, points: Sequence[Point], options: "FitOptions | None") -> tuple[JointFloor, ...]:
    if len({point.d_sae for point in points}) == len({point.sparsity for point in points}) == 1:
        return ()  # neither widths nor sparsities differ: scipy is not needed to know that there is no such law
    require_scipy()
    from saereg.registry.floors.fitting import FitOptions
    from saereg.registry.floors.joint import joint_laws

    return joint_laws(metric, points, options or FitOptions())


def require_scipy() -> None:
    """Raise MissingExtraError unless laws can be fitted here."""
    try:
        import numpy  # noqa: F401
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("fitting loss floors", "plots", error.name or "scipy") from None
