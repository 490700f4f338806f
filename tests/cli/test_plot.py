"""`saereg plot`: figures by name, to a file, a folder, or beside the release; what is lacking is said."""

import json
from pathlib import Path

import pytest

from saereg.registry.figures import FIGURES

FRONTIER = ("frontier", "--release", "release")


def test_the_list_names_every_figure_and_what_it_needs(saereg):
    """Without a release."""
    answer = saereg("plot", "--list")
    assert answer.code == 0
    for name, kind in FIGURES.items():
        assert f"\n{name} " in answer.out
        assert kind.needs in answer.out
        assert kind.name == name


def test_a_misspelt_name_is_answered_with_the_closest(saereg):
    """Before anything is read or written; and of a figure that this release has not."""
    answer = saereg("plot", "frontie", "--release", "nowhere")
    assert (answer.code, answer.err) == (2, "error: unknown figure 'frontie'; did you mean 'frontier'?\n")
    answer = saereg("plot", "frontier-xy", "--release", "release")
    assert answer.code == 2
    assert answer.err.startswith("error: unknown figure 'frontier-xy'")


def test_one_figure_goes_to_a_file_by_its_suffix(saereg, place):
    """Each form is what its suffix says."""
    for suffix, start in (("png", b"\x89PNG"), ("svg", b"<svg"), ("json", b"{")):
        answer = saereg("plot", *FRONTIER, "-o", f"out/f.{suffix}")
        assert (answer.code, answer.out) == (0, f"{Path('out') / f'f.{suffix}'}\n")
        assert (place / f"out/f.{suffix}").read_bytes().startswith(start)
        assert answer.next == "saereg site release"
    assert json.loads((place / "out/f.json").read_bytes())["usermeta"] == {"made_by": "saereg"}


@pytest.mark.slow
def test_a_page_is_one_file_with_its_caption(saereg, place):
    """What draws it is in it."""
    assert saereg("plot", *FRONTIER, "-o", "f.html").code == 0
    text = (place / "f.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "explained_variance and l0, measured on held-out" in text
    assert len(text) > 500_000


def test_several_go_to_a_folder_in_every_form(saereg, place):
    """Without -o to this one."""
    answer = saereg("plot", *FRONTIER, "--format", "svg", "--format", "json")
    assert answer.code == 0
    assert answer.out.split() == ["frontier.svg", "frontier.vl.json"]
    assert (place / "frontier.svg").is_file()


def test_from_inside_the_release_they_go_beside_it(saereg, place, monkeypatch):
    """Its index names every file that it holds."""
    monkeypatch.chdir(place / "release" / "evaluation")
    before = sorted((place / "release").rglob("*"))
    answer = saereg("plot", "frontier", "--release", "..", "--format", "json")
    assert answer.code == 0
    assert (place / "tiny-saes-figures" / "frontier.vl.json").is_file()
    assert sorted((place / "release").rglob("*")) == before


def test_what_cannot_be_drawn_says_what_it_needs(saereg, place):
    """One line each, exit code 2; what can be drawn is."""
    answer = saereg("plot", "curves", "frontier", "--release", "release", "--format", "json")
    assert answer.code == 2
    assert "nothing to draw: curves needs training logs" in answer.err
    assert (place / "frontier.vl.json").is_file()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("-o", "x.png", "--format", "svg"), "x.png ends in .png, and --format says svg; give one of both"),
        (("-o", "x.pdf"), "x.pdf: figures are not written as .pdf, but as .png, .svg, .json"),
        (("-o", "release/README.md"), "is a file; a figure is written to one that ends in .png, .svg"),
        (("--where", "layer > 99"), "none of the 4 artifacts meets layer > 99"),
        (("--where", "layr > 99"), "unknown field 'layr'; did you mean 'layer'?"),
    ],
)
def test_what_contradicts_itself_is_refused(saereg, place, words, problem):
    """In one line, and nothing is written."""
    before = sorted(place.rglob("*"))
    answer = saereg("plot", *FRONTIER, *words)
    assert answer.code == 2
    assert problem in answer.err
    assert sorted(place.rglob("*")) == before


def test_conditions_narrow_what_is_drawn(saereg, place):
    """The figure has the artifacts that meet them."""
    assert saereg("plot", *FRONTIER, "--where", "kind == 'sae'", "-o", "sae.json").code == 0
    (rows,) = json.loads((place / "sae.json").read_bytes())["datasets"].values()
    assert {row["who"] for row in rows if "who" in row} == {"layer_1/topk", "layer_1/jumprelu"}
