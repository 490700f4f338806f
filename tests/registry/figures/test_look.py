"""How figures look and last: colours in numbers, letters, schema, the same bytes, pages that fetch nothing."""

import json
import re
import struct

import pytest

from saereg.registry.figures import FIGURES, rendering, theme
from saereg.registry.figures.frontier import draw
from saereg.registry.figures.rendering import page, png, svg
from tests.registry.figures.colours import SEEN_BY, closest, contrast
from tests.registry.figures.evidence import crosscoder, grid, release, rows_of, sae, schema_problems

APART, APART_IN_THE_DARK = 15, 14
"""Smallest ΔE*ab between two categories; 2.3 is a difference that one can just see side by side."""

PAGE_IN_THE_DARK = "#0D1117"
"""GitHub's dark page."""


@pytest.fixture(scope="module")
def spec():
    """A figure with points, lines, a legend, and words of a stranger."""
    evil = "</script><script>alert(1)</script>"
    pairs = [(10.0, 0.5, "topk"), (20.0, 0.7, "topk"), (15.0, 0.55, "jumprelu"), (30.0, 0.72, "jumprelu")]
    found = [
        (sae(f"a{n}", 0, architecture=kind, variant=evil), {"l0": l0, "explained_variance": ev})
        for n, (l0, ev, kind) in enumerate(pairs)
    ]
    return draw(release(found))[0].spec


@pytest.mark.parametrize("reader", SEEN_BY)
def test_colour_blind_readers_tell_all_categories_apart(reader):
    """On white paper and in the dark, as simulated."""
    assert closest(theme.CATEGORIES, reader)[0] > APART
    dark = [theme.DARK_COLOURS.get(colour, colour) for colour in theme.CATEGORIES]
    assert closest(dark, reader)[0] > APART_IN_THE_DARK


def test_what_colour_says_shape_says_too():
    """As many shapes as colours, no two alike."""
    assert len(set(theme.SHAPES)) == len(theme.SHAPES) == len(theme.CATEGORIES)


def test_letters_and_marks_stand_out():
    """Letters by WCAG's enhanced contrast; marks, whose shapes tell them apart too, by less."""
    for inks, ground in ((theme.LIGHT, "#FFFFFF"), (theme.DARK, PAGE_IN_THE_DARK)):
        assert contrast(inks["axis"]["labelColor"], ground) > 7
        assert contrast(inks["title"]["color"], ground) > 7
        assert contrast(theme.NEUTRAL, ground) > 3
    assert min(contrast(colour, "#FFFFFF") for colour in theme.CATEGORIES) > 2.2
    assert min(contrast(theme.DARK_COLOURS.get(c, c), PAGE_IN_THE_DARK) for c in theme.CATEGORIES) > 3


def test_letters_are_legible_at_the_width_of_a_card(spec):
    """12 pixels at least, in pictures that are no wider than a card's column."""
    sizes = [int(size) for size in re.findall(r'[fF]ontSize": (\d+)', json.dumps(spec))]
    assert min(sizes) >= 12
    width, _ = struct.unpack(">II", png(spec)[16:24])
    assert width / 2 <= 800


def test_a_specification_is_vega_lite_with_its_data_and_without_a_ground(spec):
    """By altair's own schema; a page lets its own ground shine through."""
    assert schema_problems(spec) == []
    assert spec["config"]["background"] == "transparent"
    assert schema_problems(spec | {"mark": 5}) != []
    assert all(isinstance(row, dict) for row in rows_of(spec))


def test_a_dark_page_has_light_letters_and_no_black_marks(spec):
    """The data stay as they are, also where they look like a colour."""
    named = spec | {"datasets": {"a": [{"x": "#000000"}]}}
    dark = theme.darkened(named)
    assert dark["datasets"] == named["datasets"]
    assert dark["config"]["axis"]["labelColor"] == theme.DARK["axis"]["labelColor"]
    assert "#000000" not in dark["config"]["range"]["category"]
    assert schema_problems(theme.darkened(spec)) == []


def test_numbers_that_json_has_not_become_null():
    """NaN and infinity would make the file no JSON."""
    import altair as alt

    rows = [{"x": float("nan")}, {"x": float("inf")}, {"x": 1.5}]
    made = theme.finished(alt.Chart(alt.InlineData(rows)).mark_point().encode(x="x:Q"), "Title")
    assert [row["x"] for row in rows_of(made)] == [None, None, 1.5]


def test_the_same_figure_is_the_same_bytes(spec):
    """Whatever was drawn before it: Vega counts clip paths and gradients through all pictures of a process."""
    clipped = {**spec, "layer": [{**one, "mark": {**one["mark"], "clip": True}} for one in spec["layer"]]}
    first = svg(clipped)
    assert "clip-path" in first
    assert svg(clipped) == first
    assert png(spec) == png(spec)
    again = json.loads(json.dumps(spec, sort_keys=True))
    assert png(again) == png(spec)


def test_pictures_are_warning_free_and_on_white(spec, capfd):
    """Vega-Lite has nothing to say about them; the corner is white, not transparent."""
    import vl_convert

    vl_convert.vegalite_to_vega(spec, show_warnings=True)
    assert capfd.readouterr() == ("", "")
    assert 'fill="white"' in svg(spec)[:400]
    assert "Liberation Sans" in svg(spec)


def test_narrow_figures_get_paper_so_that_a_card_does_not_enlarge_them(spec):
    """A picture is as wide as the column of a card; its letters are those of its neighbours."""
    narrow = {**spec, "width": 100}
    drawn = svg(narrow)
    width, height = re.search(r'width="([0-9]+)" height="([0-9]+)" viewBox="0 0 \1 \2"', drawn).groups()
    assert int(width) == rendering.LEAST_WIDTH
    assert f'<rect width="{width}" height="{height}" fill="white"/>' in drawn
    assert struct.unpack(">II", png(narrow)[16:24]) == (2 * int(width), 2 * int(height))


@pytest.mark.slow
def test_a_page_fetches_nothing_and_runs_no_words_of_strangers(spec):
    """One file: no address in a tag, no end of a script in the data, title and caption escaped."""
    html = page({**spec, "title": {"text": "<b>&"}}, "a <i> caption")
    assert not re.findall(r'(?:src|href)="?(?:https?:)?//', html)
    assert html.count("</script>") == 2
    assert "&lt;b&gt;&amp;" in html
    assert "a &lt;i&gt; caption" in html
    assert "vegaEmbed(" in html


def test_the_same_release_is_the_same_specification():
    """Nothing in it counts through a process: names of data and parameters come from their content."""
    first, second = (draw(grid())[0].spec for _ in range(2))
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def several():
    """Return a release of which all figures from numbers can be drawn."""
    saes = [
        (
            sae(f"{n}/{kind}/{label}", n, architecture=kind, snapshot=label, training={"tokens": tokens}),
            {"l0": 10.0 + n + tokens / 10, "explained_variance": 0.5 + n / 10 - 1 / tokens, "dead_fraction": n / 50},
        )
        for n in range(3)
        for kind in ("topk", "gated")
        for label, tokens in (("2K", 2000), ("9K", 9000))
    ]
    per_source = {"explained_variance": (0.5, (0.4, 0.6)), "l0_per_source_mean": (9.0, (10.0, 8.0))}
    return release([*saes, *((crosscoder(f"c{n}", [0, n + 1], seed=n), per_source) for n in range(3))])


@pytest.mark.parametrize("name", ["heatmap", "reconstruction", "frontier", "trajectories"])
def test_every_kind_is_valid_and_compiles_without_a_warning(name, capfd):
    """By the schema of altair, and by Vega-Lite itself; light and dark."""
    import vl_convert

    drawings = FIGURES[name].draw(several())
    assert drawings
    for drawing in drawings:
        assert schema_problems(drawing.spec) == []
        assert vl_convert.vegalite_to_vega(drawing.spec, show_warnings=True)["marks"]
        assert vl_convert.vegalite_to_vega(theme.darkened(drawing.spec), show_warnings=True)["marks"]
    assert capfd.readouterr() == ("", "")
