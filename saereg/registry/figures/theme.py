"""How figures look: colours that colour-blind readers tell apart, letters that are legible at the width of a card."""

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saereg.registry.figures.figure import Spec

if TYPE_CHECKING:
    import altair

CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555", "#000000")
"""Okabe and Ito's colours ("Color Universal Design", 2008), without the yellow that white paper hides."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
"""Shapes that go with them: what colour says is said a second time."""

SEQUENTIAL = "viridis"
"""Scale of one rising quantity; its lightness rises with it, so that it survives grey printing."""

DIVERGING = "blueorange"
"""Scale with a middle, for differences."""

NEUTRAL = "#888888"
"""Rules, references and what is missing: to be seen on white paper and on a dark page."""

WIDTH, HEIGHT = 620, 320
"""Pixels of the plot itself: the column of a card is about 780 wide."""

LONGEST_TITLE = 740
"""Pixels after which a title, which may be a stranger's, is cut."""

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The first is part of vl-convert, so that pictures are the same on every machine; the others are as wide."""

DARK_COLOURS = {"#555555": "#BBBBBB", "#000000": "#F2F2F2"}
"""Colour of `CATEGORIES` → what takes its place on a dark page, where it could not be seen."""

LETTERS: Spec = {
    "font": FONT,
    "title": {"fontSize": 16, "fontWeight": "bold", "anchor": "start", "frame": "bounds", "offset": 14}
    | {"subtitleFontSize": 13, "subtitlePadding": 5},
    "axis": {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "titlePadding": 8},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 190}
    | {"symbolBaseFillColor": NEUTRAL, "symbolBaseStrokeColor": NEUTRAL},
    "header": {"labelFontSize": 13, "titleFontSize": 13, "labelFontWeight": "normal", "titleFontWeight": "normal"},
    "text": {"fontSize": 12},
    "range": {"category": list(CATEGORIES), "symbol": list(SHAPES), "ramp": {"scheme": SEQUENTIAL}},
    "view": {"stroke": None, "continuousWidth": WIDTH, "continuousHeight": HEIGHT},
    "background": "transparent",
}
"""What is the same on white paper and on a dark page."""


def _inks(strong: str, weak: str, line: str) -> Spec:
    """Return the colours of letters and lines: those of titles, those of labels, those of the grid."""
    title: Spec = {"color": strong, "subtitleColor": weak}
    axis = {"labelColor": weak, "titleColor": strong, "gridColor": line, "domainColor": NEUTRAL, "tickColor": NEUTRAL}
    words = {"labelColor": weak, "titleColor": strong}
    return {"title": title, "axis": axis, "legend": words, "header": words, "text": {"color": strong}}


LIGHT = _inks("#1F2328", "#3D444D", "#E4E7EB")
"""Colours of letters and lines on white paper: those that a specification carries."""

DARK = _inks("#E6EDF3", "#B9C1CB", "#343B44")
"""Those on a dark page, to be put over `config` of a specification; see `darkened`."""


def finished(chart: "altair.TopLevelMixin", title: str, below: str = "") -> Spec:
    """Return the specification of a chart in the look of all figures; the same chart gives the same text.

    It fixes no background, so that a page can be light or dark; `rendering` puts white paper under pictures. Numbers
    that JSON has not (NaN, infinity) become null, which Vega leaves out.

    Args:
        chart: a chart of altair; its own `config` wins over that of all figures.
        title: one line; the words of a stranger are shown as they are.
        below: a line under the title, as for what lines and points are.
    """
    made: Spec = chart.to_dict(validate=False)
    look = merged(merged(LETTERS, LIGHT), made.get("config", {}))
    look["view"] = {**LETTERS["view"], **_own_view(made)}
    spec = {**made, "config": look, "description": title, "usermeta": {"made_by": "saereg"}}
    spec["title"] = {"text": title, "limit": LONGEST_TITLE} | ({"subtitle": below} if below else {})
    finite: Spec = _finite(spec)
    return finite


def _own_view(made: Spec) -> Spec:
    """Return what a chart says of its view, without the sizes that altair writes into every chart."""
    view = made.get("config", {}).get("view", {})
    return {name: value for name, value in view.items() if not name.startswith("continuous")}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Spec:
    """Return one configuration put over another, part by part."""
    found: Spec = copy.deepcopy(dict(below))
    for name, value in above.items():
        under = found.get(name)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        found[name] = merged(under, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return found


def darkened(spec: Spec) -> Spec:
    """Return a specification as a dark page shows it: light letters, and no colour that is as dark as the page."""
    dark: Spec = _recoloured(spec)
    return {**dark, "config": merged(dark.get("config", {}), DARK)}


def _recoloured(value: Any) -> Any:  # noqa: ANN401  # any part of a JSON document
    if isinstance(value, Mapping):
        return {name: part if name in ("data", "datasets") else _recoloured(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_recoloured(part) for part in value]
    return DARK_COLOURS.get(value.upper(), value) if isinstance(value, str) and value.startswith("#") else value


def _finite(value: Any) -> Any:  # noqa: ANN401  # any part of a JSON document
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
