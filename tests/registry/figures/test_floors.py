"""Figures of loss floors."""

import json

import pytest

from saereg.registry.figures import FIGURES
from saereg.registry.figures.floors import draw
from saereg.registry.figures.rendering import png
from saereg.registry.floors.fit import floors_of
from saereg.registry.floors.fitting import FitOptions
from saereg.registry.release import Release
from tests.registry.floors.planted import Cell, grid, planted


def built(cells) -> Release:
    """Return a release whose index has its floors, as after a build."""
    release = planted(cells)
    floors = floors_of(release, FitOptions(resamples=100))
    return Release(release.path, release.manifest, release.index.model_copy(update={"floors": floors}))


@pytest.fixture(scope="module")
def drawings():
    """The figures of 24 layers with six snapshots."""
    return {drawing.name: drawing for drawing in draw(built(grid(noise=0.003)))}


def test_a_grid_has_curves_predictions_and_floors(drawings):
    """Three figures, each with a caption that says law, loss and data, and words for who does not see it."""
    assert list(drawings) == ["loss-floor-curves", "loss-floor", "loss-floor-layers"]
    for drawing in drawings.values():
        assert drawing.kind == "loss-floor"
        assert "L∞ + a·n^−b" in drawing.caption
        assert "fvu, measured on held-out" in drawing.caption
        assert "24" in drawing.alt
        json.dumps(drawing.spec, allow_nan=False)
    assert len(drawings["loss-floor-curves"].spec["facet"]["sort"]) == 24
    assert FIGURES["loss-floor"].draw is draw


def test_they_can_be_drawn(drawings):
    """Vega takes the specification with the smallest data."""
    assert png(drawings["loss-floor-layers"].spec).startswith(b"\x89PNG")


def test_floors_that_are_not_identified_are_grey_and_named():
    """One early loss of a power law: no floors in a row, and the caption says why."""
    found = {drawing.name: drawing for drawing in draw(built(grid(range(3), noise=0.05)))}
    assert list(found) == ["loss-floor-curves", "loss-floor"]
    assert "No floor is identified, all are grey; layer 0: " in found["loss-floor"].caption
    assert "floor, not identified" in json.dumps(found["loss-floor"].spec)


def test_more_series_than_panels_are_thinned_and_counted(monkeypatch):
    """Of 7 layers 4 panels, the first and the last among them, and the caption says so."""
    monkeypatch.setattr("saereg.registry.figures.floors.MOST_PANELS", 4)
    curves = draw(built(grid(range(7), noise=0.001)))[0]
    assert curves.spec["facet"]["sort"] == ["layer 0", "layer 2", "layer 4", "layer 6"]
    assert curves.caption.endswith("Shown are 4 of 7 series, evenly spaced.")


def test_two_widths_of_each_layer_are_rows_by_name():
    """A row is not a layer where layers have several series."""
    wide = [Cell(c.layer, c.snapshot, c.tokens, c.losses, d_sae=8192) for c in grid([0, 1], 0.001)]
    found = {drawing.name: drawing for drawing in draw(built(grid([0, 1], 0.001) + wide))}
    assert found["loss-floor-layers"].title == "Loss floor of every series"
    assert "layer 1 · 8192 latents" in json.dumps(found["loss-floor-layers"].spec, ensure_ascii=False)


def test_losses_that_are_far_apart_have_axes_of_their_own():
    """The squared error of layers differs by orders of magnitude: shared axes would show one of them."""
    cells = [
        Cell(c.layer, c.snapshot, c.tokens, {"mse_per_row": c.losses["fvu"] * 10**c.layer}) for c in grid(range(4))
    ]
    found = {drawing.name: drawing for drawing in draw(built(cells))}
    assert found["loss-floor-curves"].spec["resolve"] == {"scale": {"y": "independent"}}


def test_a_release_without_series_has_none():
    """One snapshot a layer."""
    assert draw(planted([cell for cell in grid([0, 1]) if cell.snapshot == "final"])) == ()
