"""Trajectories: numbers of sources at their steps, of artifacts at theirs, step 0 among them."""

from saereg.registry.figures import trajectories
from tests.registry.figures.evidence import SNAPSHOTS, crosscoder, grid, release, rows_of, sae

STEPS = (0, 1, 512, 143_000)


def lines(spec, metric):
    """Return name of a line → [(place, number)]."""
    found = {}
    for row in rows_of(spec):
        if row.get(metric) is not None:
            found.setdefault(row["run"], []).append((row["at"], row[metric]))
    return found


def test_a_crosscoder_is_a_line_of_its_sources():
    """Explained variance and active latents at each step, as the index has them per source."""
    ev, active = (0.1, 0.2, 0.5, 0.9), (40.0, 39.0, 20.0, 10.0)
    numbers = {"explained_variance": (0.4, ev), "l0_per_source_mean": (27.0, active), "l0_any_source": 70.0}
    (drawing,) = trajectories.draw(release([(crosscoder("c", STEPS), numbers)]))
    assert drawing.name == "trajectories-steps"
    assert lines(drawing.spec, "explained_variance") == {"c": list(zip(STEPS, ev, strict=True))}
    assert lines(drawing.spec, "l0") == {"c": list(zip(STEPS, active, strict=True))}
    scale = drawing.spec["vconcat"][0]["encoding"]["x"]["scale"]
    assert (scale["type"], scale["domain"]) == ("symlog", [0, 143_000])
    assert "l0_per_source_mean" in drawing.caption


def test_dictionaries_of_single_steps_are_joined_in_the_order_of_steps():
    """Two seeds are two lines; the manifest has the steps in no order."""
    found = [
        (crosscoder(f"s{seed}/step{step}", [step], seed=seed), {"explained_variance": 0.5 + seed / 10 + step / 10**6})
        for step in reversed(STEPS)
        for seed in (0, 1)
    ]
    (drawing,) = trajectories.draw(release(found))
    first, second = lines(drawing.spec, "explained_variance").values()
    assert [place for place, _ in first] == [place for place, _ in second] == list(STEPS)
    assert {first[0][1], second[0][1]} == {0.5, 0.6}
    assert len(drawing.spec["vconcat"]) == 1, "there is no l0"


def test_snapshots_of_a_training_are_a_figure_of_their_own():
    """Over tokens, one line a layer; what is missing is not invented."""
    (drawing,) = trajectories.draw(grid())
    assert drawing.name == "trajectories-snapshots"
    found = sorted(lines(drawing.spec, "l0").values(), key=lambda line: line[0][1])
    assert [place for place, _ in found[0]] == sorted(SNAPSHOTS.values())
    assert [place for place, _ in found[2]] == [25e6, 100e6, 500e6], "layer 2 has no 50M"


def test_a_failed_source_is_left_out_in_words():
    """One that explains −11 at its first step would hide all else."""
    ev = (-11.0, *(0.5 + n / 100 for n in range(9)))
    numbers = {"explained_variance": (0.4, ev)}
    (drawing,) = trajectories.draw(release([(crosscoder("c", range(10)), numbers)]))
    assert len(lines(drawing.spec, "explained_variance")["c"]) == 9
    assert "Left out: 1 points with less than 0, the lowest -11." in drawing.caption


def test_where_nothing_moves_nothing_is_drawn():
    """One step, one snapshot, no numbers, no artifacts."""
    assert trajectories.draw(release([])) == ()
    assert trajectories.draw(release([(sae("a", 0, snapshot="1M"), {"l0": 3.0})])) == ()
    assert trajectories.draw(release([(crosscoder("c", STEPS), {})])) == ()
