"""Heat maps: every cell is a number of the index, in the order in which people count, and what is missing is seen."""

from dataclasses import replace

from saereg.registry.figures import heatmap
from saereg.registry.figures.heatmap import label_of
from saereg.schemas.document import canonical
from tests.registry.figures.evidence import ABSENT, SNAPSHOTS, crosscoder, grid, release, rows_of, sae


def by_name(drawings):
    """Return name → drawing."""
    return {drawing.name: drawing for drawing in drawings}


def order(spec, channel):
    """Return the order of a channel of the first layer."""
    return spec["layer"][0]["encoding"][channel]["sort"]


def test_cells_are_the_numbers_of_the_index_in_the_order_of_layers_and_tokens():
    """`25M` before `100M`, `final` last, whatever the manifest's order; both gaps are cells without a number."""
    made = grid()
    drawing = by_name(heatmap.draw(made))["heatmap-explained-variance"]
    assert order(drawing.spec, "y") == [f"layer {n}" for n in range(6)]
    assert order(drawing.spec, "x") == list(SNAPSHOTS) == ["25M", "50M", "100M", "final"]
    cells = {(row["row"].removeprefix("layer "), row["column"]): row for row in rows_of(drawing.spec)}
    assert len(cells) == 24
    for artifact in made:
        layer, label = artifact.id.split("/")
        assert cells[layer, label]["value"] == round(artifact.fields["explained_variance"], 6)
        assert cells[layer, label]["who"] == artifact.id
    for name in ABSENT:
        assert cells[tuple(name.split("/"))]["value"] is None
    assert "none (2 of 24)" in drawing.caption
    assert "explained_variance, measured on held-out-residual-0 (100 rows)" in drawing.caption
    assert "the lowest at layer 5, 25M, the highest at layer 0, final" in drawing.alt


def test_only_what_differs_is_drawn():
    """Every artifact has no dead latent, so there is no map of them; an empty release has none at all."""
    assert set(by_name(heatmap.draw(grid()))) == {"heatmap-explained-variance", "heatmap-l0"}
    assert heatmap.draw(release([])) == ()
    assert heatmap.draw(replace(grid(), index=None)) == ()


def test_several_artifacts_in_a_cell_are_their_median_and_the_caption_says_so():
    """Three seeds at each layer: the middle one is shown."""
    found = [
        (sae(f"{n}/{k}/{seed}", n, seed=seed, sparsity={"k": k}), {"explained_variance": 0.1 * n + k / 100 + seed**2})
        for n in range(2)
        for k in (1.0, 2.0)
        for seed in range(3)
    ]
    (drawing,) = heatmap.draw(release(found))
    cells = {(row["row"], row["column"]): row for row in rows_of(drawing.spec)}
    assert cells["layer 1", "k 2"]["value"] == 1.12
    assert cells["layer 1", "k 2"]["who"] == "median of 3 artifacts"
    assert "In 4 of 4 cells stands the median of 3 artifacts." in drawing.caption


def test_settings_stand_across_where_there_are_no_snapshots_and_layers_alone_lie_down():
    """A row of one setting is turned, so that layers go from left to right."""
    found = [(sae(f"{n}", n), {"explained_variance": n / 10}) for n in (10, 9, 2)]
    (drawing,) = heatmap.draw(release(found))
    assert order(drawing.spec, "x") == ["layer 2", "layer 9", "layer 10"]
    assert drawing.title == "Explained variance by layer"


def test_one_far_off_number_does_not_squeeze_the_others():
    """The colours end where the others do, and the caption says it; the cell keeps its number."""
    found = [
        (sae(f"{n}/{k}", n, sparsity={"k": k}), {"explained_variance": -11.0 if n == k else 0.5 + n / 100})
        for n in range(5)
        for k in (1.0, 2.0, 9.0)
        if n != 1
    ]
    (drawing,) = heatmap.draw(release(found))
    assert min(row["value"] for row in rows_of(drawing.spec) if row["value"] is not None) == -11
    assert "The colours end at 0.5 and 0.54; what lies beyond has the colour of the end." in drawing.caption


def test_crosscoders_of_several_sources_are_in_no_heat_map_of_layers():
    """Their numbers are of all sources together."""
    found = [(crosscoder(f"c{n}", [0, 1]), {"explained_variance": n / 10}) for n in range(3)]
    assert heatmap.draw(release(found)) == ()


def test_words_of_strangers_are_data():
    """A label that is a script, or an expression of Vega, is a value; no column is called by it."""
    evil = "</script><img src=x onerror=alert(1)> datum['x'] {{7*7}}\n"
    found = [
        (sae(f"{n}/{k}", n, variant=f"{evil}{k}"), {"explained_variance": (n + k) / 9}) for n in (0, 1) for k in (0, 1)
    ]
    (drawing,) = heatmap.draw(release(found))
    assert {name for row in rows_of(drawing.spec) for name in row} <= {"row", "column", "value", "label", "ink", "who"}
    assert all("\n" not in row["column"] and len(row["column"]) <= 60 for row in rows_of(drawing.spec))
    expressions = [step["filter"] for layer in drawing.spec["layer"] for step in layer.get("transform", ())]
    assert expressions
    assert not any("script" in expression for expression in expressions)


def test_a_large_grid_is_some_evenly_spaced_cells_of_it():
    """A map stays below 300 kB, and its caption says what it leaves out."""
    found = [
        (sae(f"{n}/{k}", n, snapshot=f"{k + 1}M"), {"explained_variance": 1 - 1 / (n + k + 2)})
        for n in range(66)
        for k in range(34)
    ]
    (drawing,) = heatmap.draw(release(found))
    assert len(canonical(drawing.spec)) < 300_000
    assert "Shown are 64 of 66 rows and 32 of 34 columns, evenly spaced." in drawing.caption
    assert order(drawing.spec, "x")[0] == "1M"
    assert order(drawing.spec, "x")[-1] == "34M"


def test_labels_fit_their_cells():
    """Shares in percent, large numbers without digits that nobody reads."""
    assert [label_of(0.123, "dead_fraction"), label_of(0.123, "explained_variance")] == ["12%", "0.12"]
    assert [label_of(n, "l0") for n in (3.14159, 64.4, 149.7, 1540.2)] == ["3.1", "64", "150", "1540"]
