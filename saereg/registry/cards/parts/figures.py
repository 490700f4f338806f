"""`figures`: every figure of the index, with its caption and the words for who does not see it."""

from saereg.registry.cards.marking import alt, link, text
from saereg.registry.cards.view import Values, View
from saereg.schemas.index import Figure

MOST_OPEN = 8
"""Figures that stand in the open; what follows is folded."""

MOST = 100
"""Figures that are shown at all."""


def values(view: View) -> Values | None:
    """Return the figures; None where none was drawn."""
    figures = [_figure(figure) for figure in view.index.figures[:MOST]]
    if not figures:
        return None
    return {
        "open": figures[:MOST_OPEN],
        "folded": figures[MOST_OPEN:],
        "more": len(view.index.figures) - len(figures),
    }


def _figure(figure: Figure) -> Values:
    return {
        "name": figure.name,
        "kind": figure.kind,
        "title": text(figure.title),
        "image": f"!{link(alt(figure.alt), figure.png)}",
        "caption": text(figure.caption),
        "svg": link("SVG", figure.svg),
        "spec": link("Vega-Lite", figure.spec),
    }
