"""The frontier: what is comparable is compared, seeds are a spread, definitions are never mixed silently."""

import itertools

from saereg.registry.figures import frontier
from saereg.schemas.document import canonical
from tests.registry.figures.evidence import crosscoder, grid, release, rows_of, sae


def sweep(layer, pairs, **more):
    """Return SAEs of one layer with (l0, explained variance)."""
    return [
        (sae(f"{layer}/{n}", layer, sparsity={"l1_coefficient": n + 1.0}, **more), {"l0": l0, "explained_variance": ev})
        for n, (l0, ev) in enumerate(pairs)
    ]


PAIRS = [(10.0, 0.5), (20.0, 0.7), (25.0, 0.6), (40.0, 0.8), (40.0, 0.75), (15.0, 0.45), (80.0, 0.8)]


def test_points_are_the_numbers_of_the_index_and_the_line_is_undominated():
    """Checked against the definition: nobody is better in one without being worse in the other."""
    (drawing,) = frontier.draw(release(sweep(0, PAIRS)))
    rows = rows_of(drawing.spec)
    assert {(row["l0"], row["ev"]) for row in rows if row["what"] == "one"} == set(PAIRS)
    beaten = {p for p, q in itertools.permutations(PAIRS, 2) if q != p and q[0] <= p[0] and q[1] >= p[1]}
    line = [(row["l0"], row["ev"]) for row in rows if row["what"] == "line"]
    assert line == sorted(set(PAIRS) - beaten) == [(10.0, 0.5), (20.0, 0.7), (40.0, 0.8)]
    assert drawing.spec["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"


def test_two_layers_have_two_frontiers():
    """Explained variances at two sites are of two things: no artifact of one beats one of the other."""
    found = [*sweep(0, PAIRS), *sweep(1, [(l0, ev - 0.3) for l0, ev in PAIRS])]
    (drawing,) = frontier.draw(release(found))
    lines = {row["line"]: [] for row in rows_of(drawing.spec) if row["what"] == "line"}
    for row in rows_of(drawing.spec):
        if row["what"] == "line":
            lines[row["line"]].append(row["ev"])
    assert lines == {0: [0.5, 0.7, 0.8], 1: [0.2, 0.4, 0.5]}
    assert "here are 2 such groups" in drawing.caption


def test_seeds_are_one_point_and_their_spread():
    """The mean of both numbers, with the least and the most; each seed is a dot."""
    found = [
        (sae(f"s{n}", 0, seed=n, sparsity={"k": 8.0}), {"l0": 8.0 + n, "explained_variance": 0.5 + n / 10})
        for n in range(3)
    ]
    (drawing,) = frontier.draw(release([*found, *sweep(0, PAIRS[:2])]))
    (point,) = [row for row in rows_of(drawing.spec) if row["what"] == "mean"]
    assert (point["l0"], point["ev"]) == (9.0, 0.6)
    assert (point["l0_low"], point["l0_high"], point["ev_low"], point["ev_high"]) == (8, 10, 0.5, 0.7)
    assert sum(row["what"] == "seed" for row in rows_of(drawing.spec)) == 3


def test_crosscoders_have_a_figure_of_their_own():
    """Their count is per source; where all sources share one active set, its l0 is that count, and both are said."""
    per_source = [
        (crosscoder(f"c{n}", [0, 1]), {"l0_per_source_mean": 5.0 + n, "l0_any_source": 40.0, "explained_variance": 0.6})
        for n in range(2)
    ]
    shared = (crosscoder("b", [0, 1], architecture="batchtopk"), {"l0": 6.0, "explained_variance": 0.7})
    saes, sources = frontier.draw(release([*sweep(0, PAIRS), *per_source, shared]))
    assert (saes.name, sources.name) == ("frontier", "frontier-sources")
    assert all(row["l0"] >= 10 for row in rows_of(saes.spec))
    assert {row["l0"] for row in rows_of(sources.spec)} == {5.0, 6.0}
    assert "l0_per_source_mean" in sources.caption
    assert "Those with one active set for all sources are placed by l0" in sources.caption
    assert "l0_per_source_mean" not in saes.caption


def test_stated_numbers_are_hollow():
    """What the author says and nobody measured is told apart."""
    claims = [{"metric": "l0", "value": 30.0}, {"metric": "explained_variance", "value": 0.9}]
    found = [*sweep(0, PAIRS), (sae("told", 0, claims=claims), {})]
    (drawing,) = frontier.draw(release(found))
    basis = {row["who"]: row["basis"] for row in rows_of(drawing.spec) if row["what"] == "one"}
    assert basis == {f"0/{n}": "measured" for n in range(len(PAIRS))} | {"told": "stated"}
    assert "Hollow points are stated, not measured." in drawing.caption
    hollow = [one for one in drawing.spec["layer"] if one["mark"].get("filled") is False]
    assert len(hollow) == 1


def test_failures_are_left_out_in_words():
    """An artifact that explains −11 would make a line of all others; one without active latents has no place."""
    bad = [*sweep(0, PAIRS), *sweep(1, [(30.0, -11.09), (0.0, 0.1)])]
    (drawing,) = frontier.draw(release(bad))
    assert min(row["ev"] for row in rows_of(drawing.spec)) == 0.45
    assert "Left out: 2 that explain too little to share an axis, or have no active latent" in drawing.caption
    assert "the lowest 1/0 with -11.1" in drawing.caption


def test_one_point_is_no_frontier():
    """Nor is none."""
    assert frontier.draw(release(sweep(0, PAIRS[:1]))) == ()
    assert frontier.draw(release([])) == ()


def test_a_thousand_artifacts_keep_their_frontier():
    """The others are some of them; the figure stays below 300 kB."""
    pairs = [(5.0 + n, 0.5 + n / 9000 - (n % 3) / 10) for n in range(1200)]
    (drawing,) = frontier.draw(release(sweep(0, pairs)))
    assert len(canonical(drawing.spec)) < 300_000
    assert "Shown are 700 of 1,200 settings" in drawing.caption
    assert any(row["what"] == "line" for row in rows_of(drawing.spec))


def test_layers_are_colours_of_one_scale():
    """From three layers on; the legend does not list them all."""
    (drawing,) = frontier.draw(grid(24))
    colour = drawing.spec["layer"][-1]["encoding"]["color"]
    assert colour["type"] == "quantitative"
    assert colour["scale"]["domain"] == [0, 23]
