"""What a figure is: a kind that looks at a release and draws nothing, one or several of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saereg.registry.release import Release

Spec = dict[str, Any]
"""A Vega-Lite specification with its data in it."""


@dataclass(frozen=True)
class Drawing:
    """One figure, before it is a picture.

    Attributes:
        name: name of its files, unique in the release: small letters, digits, single hyphens.
        kind: which of the kinds drew it.
        title: one line.
        caption: what is shown: the definitions of its numbers by id, the data that they were measured on, rows, and
            what is left out. It depends on the release alone, never on the day or the machine.
        alt: what a reader who does not see it should know: extremes and trend, in a sentence or two.
        spec: the specification.
    """

    name: str
    kind: str
    title: str
    caption: str
    alt: str
    spec: Spec


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure.

    Attributes:
        name: what `saereg plot` calls it.
        about: one line.
        needs: what a release must have for it, in words that end "NAME needs …".
        draw: returns the drawings of a release; none where it has not what is needed.
    """

    name: str
    about: str
    needs: str
    draw: Callable[[Release], tuple[Drawing, ...]]
