"""What the colour of a line or point says: the layer, where layers differ, else the series it belongs to."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from saereg.registry.figures.series import MOST_SERIES, Entry, series
from saereg.registry.figures.theme import CATEGORIES, SEQUENTIAL, SHAPES
from saereg.registry.files.natural import natural_key

if TYPE_CHECKING:
    import altair

DARKEST, LIGHTEST = 0.05, 0.85
"""Part of the sequential scale that lines have: its yellow end is not seen on white paper."""


@dataclass(frozen=True)
class Colouring:
    """How artifacts are coloured.

    Attributes:
        by_layer: whether the colour is the layer.
        groups: id → series, in words.
        order: the series, in the order of the legend.
        title: what the legend is called.
    """

    by_layer: bool
    groups: Mapping[str, str]
    order: tuple[str, ...]
    layers: tuple[int, ...] = ()

    def channel(self, legend: bool = True) -> "altair.Color":
        """Return the colour channel; data have the columns of `hue`."""
        import altair as alt

        if self.by_layer:
            scheme = alt.SchemeParams(name=SEQUENTIAL, extent=[DARKEST, LIGHTEST])
            scale = alt.Scale(scheme=scheme, domain=[self.layers[0], self.layers[-1]])
            values = list(self.layers) if len(self.layers) <= MOST_SERIES else alt.Undefined
            words = alt.Legend(title="layer", values=values, format="d", tickCount=6, gradientLength=150)
            return alt.Color("layer:Q", scale=scale, legend=words if legend else None)
        scale = alt.Scale(domain=list(self.order), range=self.ranked(CATEGORIES))
        return alt.Color("series:N", scale=scale, legend=self._legend() if legend else None)

    def shape(self) -> "dict[str, altair.Shape]":
        """Return the shape channel of points: it says what colour says, or where that is the layer, all else."""
        import altair as alt

        if len(self.order) < 2:
            return {}
        scale = alt.Scale(domain=list(self.order), range=self.ranked(SHAPES))
        return {"shape": alt.Shape("series:N", scale=scale, legend=self._legend())}

    def _legend(self) -> "altair.Legend | None":
        """Return the legend of the series, below the plot: their names are long; none where there is one series."""
        import altair as alt

        if len(self.order) < 2:
            return None
        longest = max(map(len, self.order))
        columns = 1 if longest > 36 else 2 if longest > 22 else 3
        return alt.Legend(title=None, orient="bottom", columns=columns, labelLimit=600 // columns)

    def hue(self, entry: Entry) -> dict[str, Any]:
        """Return the columns of data that these channels read."""
        found = {"layer": entry.fields["layer"]} if self.by_layer else {}
        return found | ({"series": self.groups[entry.id]} if len(self.order) > 1 or not self.by_layer else {})

    def ranked(self, values: Sequence[str]) -> list[str]:
        """Return a colour or shape for each series, in their order: the first one for that with most artifacts."""
        counts = Counter(self.groups.values())
        ranks = sorted(self.order, key=lambda name: (-counts[name], self.order.index(name)))
        return [values[ranks.index(name)] for name in self.order]

    def marked(self, identifiers: Collection[str], word: str) -> "Colouring":
        """Return it with a word behind the series of some artifacts, which are told apart by it."""
        groups = {name: f"{group}, {word}" if name in identifiers else group for name, group in self.groups.items()}
        order = tuple(sorted(set(groups.values()), key=natural_key))
        return replace(self, groups=groups, order=order) if len(order) <= MOST_SERIES else self

    def words(self, *, points: bool = False) -> str:
        """Return the sentence of a caption; of points shapes say something too."""
        shapes = points and len(self.order) > 1
        if self.by_layer:
            return "The colour is the layer." + (" The shape is what else tells them apart." if shapes else "")
        return ""  # the legend says it


def colouring(found: Sequence[Entry], without: Sequence[str] = ()) -> Colouring:
    """Return how artifacts are coloured: by layer where there are three layers or more, else by series.

    Args:
        found: the artifacts.
        without: traits that the figure shows in another way.
    """
    layers = sorted({entry.fields["layer"] for entry in found if entry.fields["layer"] is not None})
    by_layer = len(layers) > 2 and all(entry.fields["layer"] is not None for entry in found)
    groups = series(found, without=(*without, *(("place",) if by_layer else ())))
    return Colouring(by_layer, groups, tuple(sorted(set(groups.values()), key=natural_key)), tuple(layers))
