"""Figures in a release folder: written where they changed, removed where they are no longer drawn, never another's."""

import json
from dataclasses import replace

import pytest

from saereg.errors import FigureWarning
from saereg.registry.figures import FIGURES, write
from saereg.registry.figures.figure import FigureKind
from saereg.registry.figures.write import write_figures
from saereg.schemas.document import canonical
from tests.registry.figures.evidence import release, sae


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A release in a folder, of which the frontier is drawn."""
    monkeypatch.setattr(write, "FIGURES", {"frontier": FIGURES["frontier"]})
    found = [
        (sae(f"{n}/{k}", n, sparsity={"k": k}), {"explained_variance": (n + k) / 9, "l0": k})
        for n in range(2)
        for k in (1.0, 2.0)
    ]
    return release(found, tmp_path)


def files(made):
    """Return name → bytes and time of what is in figures/."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (made.path / "figures").iterdir()}


def test_three_files_a_figure_and_a_record_of_it(made, monkeypatch):
    """Specification, picture for cards, picture for papers; in the order of the table."""
    monkeypatch.setattr(write, "FIGURES", {name: FIGURES[name] for name in ("heatmap", "frontier")})
    figures = write_figures(made)
    assert [figure.name for figure in figures] == ["heatmap-explained-variance", "heatmap-l0", "frontier"]
    for figure in figures:
        spec = (made.path / figure.spec).read_text()
        assert spec == canonical(json.loads(spec))
        assert (made.path / figure.png).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert (made.path / figure.svg).read_text().startswith("<svg")
        assert figure.caption
        assert figure.alt
    assert len(files(made)) == 9


def test_a_second_time_nothing_is_touched(made):
    """Neither bytes nor times."""
    write_figures(made)
    before = files(made)
    write_figures(made)
    assert files(made) == before


def test_what_is_no_longer_drawn_is_removed_and_what_is_foreign_stays(made, monkeypatch):
    """The index on disk says which figures were its own; a path in it that leads elsewhere is no name."""
    figures = write_figures(made)
    (made.path / "figures/mine.png").write_bytes(b"mine")
    (made.path / "outside.png").write_bytes(b"outside")
    listed = [{"name": figure.name} for figure in figures] + [{"name": "../outside"}, {"name": 7}]
    (made.path / "index.json").write_text(json.dumps({"figures": listed}))
    monkeypatch.setattr(write, "FIGURES", {})
    write_figures(made)
    assert set(files(made)) == {"mine.png"}
    assert (made.path / "outside.png").read_bytes() == b"outside"


@pytest.mark.parametrize("index", ["", "[]", "{", '{"figures": 3}', "[" * 100_000])
def test_an_index_that_cannot_be_read_is_no_hindrance(made, index, monkeypatch):
    """It is about to be replaced."""
    monkeypatch.setattr(write, "FIGURES", {})
    (made.path / "index.json").write_text(index)
    assert write_figures(made) == ()


def test_a_picture_of_the_author_is_not_overwritten(made):
    """Of the same name, in the same place: that figure is left out, and a line says which file to rename."""
    (made.path / "figures").mkdir()
    (made.path / "figures/frontier.png").write_bytes(b"by hand")
    told = []
    assert write_figures(made, told.append) == ()
    assert told == ["figure frontier is left out: figures/frontier.png is there and was not drawn by saereg; rename it"]
    assert files(made).keys() == {"frontier.png"}


def test_a_run_that_died_half_way_is_taken_up(made):
    """Its specification bears the mark of this software, though no index names it."""
    (figure,) = write_figures(made)
    (made.path / figure.png).write_bytes(b"half")
    assert len(write_figures(made, lambda line: pytest.fail(line))) == 1
    assert (made.path / figure.png).read_bytes() != b"half"


def test_a_figure_that_fails_is_left_out_in_one_line_and_the_others_are_drawn(made, monkeypatch):
    """Evidence may be odd in ways that nobody thought of; a build goes on."""

    def broken(release):
        return 1 / len(release.path.name[:0])

    def no_vega(release):
        (drawing,) = FIGURES["frontier"].draw(release)
        return (replace(drawing, name="no-vega", spec={"mark": 3}), replace(drawing, name="../odd"))

    kinds = {"broken": FigureKind("broken", "a", "b", broken), "odd": FigureKind("odd", "a", "b", no_vega)}
    monkeypatch.setattr(write, "FIGURES", {**kinds, "frontier": FIGURES["frontier"]})
    told = []
    assert [figure.name for figure in write_figures(made, told.append)] == ["frontier"]
    assert len(told) == 3
    assert told[0] == (
        "figure broken is left out, as it cannot be drawn of this release: ZeroDivisionError: division by zero"
    )
    assert all("\n" not in line and len(line) < 320 for line in told)
    monkeypatch.setattr(write, "FIGURES", {"broken": kinds["broken"]})
    with pytest.warns(FigureWarning, match="figure broken is left out"):
        write_figures(made)
