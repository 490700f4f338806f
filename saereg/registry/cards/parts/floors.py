"""`floors`: where losses are heading, with what is not known said."""

from saereg.registry.cards.marking import ABSENT, code, codes, short, text
from saereg.registry.cards.parts.metrics import defined
from saereg.registry.cards.view import DOCS, Values, View, filled
from saereg.schemas.floors import Estimate, FloorFit, FloorPrediction, Interval, JointFloor, LossFloors

MOST_ROWS = 100
"""Rows of a table."""

MOST_FLAT = 12
"""Series whose tables stand in the open; of more they are folded."""

FITS = ("series", "points fitted", "L∞", "floors that fit as well", "L∞ of all points", "a", "b", "identified")
PREDICTIONS = ("series", "held-out tokens", "predicted", "measured", "inside the interval", "mean relative error")
JOINT = ("series", "law in", "L∞", "exponents", "artifacts", "identified", "mean relative error")
EXPONENTS = {"b": "tokens", "d": "d_sae", "h": "l0"}
"""Exponent of a joint law → its variable."""


def values(view: View) -> Values | None:
    """Return the fits as tables; None where none was made."""
    floors = view.index.floors
    if floors is None or not (floors.fits or floors.joint):
        return None
    held = [fit for fit in floors.fits if any(p.measured is not None for p in fit.predictions)]
    return {
        "metric": defined(floors.metric),
        "evaluation": code(floors.evaluation) if floors.evaluation else None,
        "basis": floors.basis,
        "level": f"{floors.level * 100:g} %",
        "resamples": floors.resamples,
        "seed": floors.seed,
        "count": len(floors.fits),
        "identified": sum(fit.identified for fit in floors.fits),
        "fits": filled(FITS, [_fit(fit) for fit in floors.fits[:MOST_ROWS]]),
        "more": max(len(floors.fits) - MOST_ROWS, 0) + floors.left_out,
        "reasons": _reasons(floors),
        "predictions": filled(PREDICTIONS, [_last(fit) for fit in held[:MOST_ROWS]]),
        "joint": filled(JOINT, [_joint(joint) for joint in floors.joint[:MOST_ROWS]]),
        "folded": len(floors.fits) > MOST_FLAT,
        "page": f"{DOCS}/floors.md",
    }


def estimate(value: Estimate | FloorPrediction | None) -> str:
    """Return a number with its interval, for a cell."""
    if value is None:
        return ABSENT
    number = value.value if isinstance(value, Estimate) else value.predicted
    return f"{short(number)} {_bounds(value.interval)}" if value.interval else short(number)


def _bounds(interval: Interval | None) -> str:
    return f"\\[{short(interval.low)}, {short(interval.high)}\\]" if interval else ABSENT


def _fit(fit: FloorFit) -> list[str]:
    fitted = f"{fit.fitted} of {len(fit.tokens)}"
    found = [estimate(fit.floor), _bounds(fit.plausible), estimate(fit.floor_of_all)]
    return [
        text(fit.series),
        fitted,
        *found,
        short(fit.scale.value if fit.scale else None),
        estimate(fit.exponent),
        _yes(fit.identified),
    ]


def _yes(identified: bool) -> str:
    return "yes" if identified else "**no**"


def _percent(share: float | None) -> str:
    return ABSENT if share is None else f"{share * 100:.2g} %"


def _last(fit: FloorFit) -> list[str]:
    """Return what was predicted of the last held-out snapshot, and what was measured there."""
    last = [p for p in fit.predictions if p.measured is not None][-1]
    inside = ABSENT
    if last.interval is not None and last.measured is not None:
        inside = "yes" if last.interval.low <= last.measured <= last.interval.high else "no"
    return [
        text(fit.series),
        short(last.tokens),
        estimate(last),
        short(last.measured),
        inside,
        _percent(fit.relative_error),
    ]


def _reasons(floors: LossFloors) -> list[Values]:
    """Return why floors are not identified, each reason once."""
    found: dict[str, list[str]] = {}
    several: list[FloorFit | JointFloor] = [*floors.fits, *floors.joint]
    for fit in several:
        if not fit.identified:
            found.setdefault(fit.reason or "the points do not determine it", []).append(fit.series)
    reasons = list(found.items())[:MOST_ROWS]
    return [{"reason": text(why).rstrip("."), "series": codes(dict.fromkeys(names), 6)} for why, names in reasons]


def _joint(joint: JointFloor) -> list[str]:
    found = {str(name): value for name, value in joint.parameters.items()}
    exponents = [f"{code(name)} {estimate(found[key])}" for key, name in EXPONENTS.items() if key in found]
    terms = ", ".join(map(code, joint.terms))
    row = [text(joint.series), terms, estimate(found.get("floor")), ", ".join(exponents) or ABSENT]
    return [*row, f"{joint.points:,}", _yes(joint.identified), _percent(joint.relative_error)]
