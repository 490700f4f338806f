"""What readers see first: made in one build, from the evidence, to the same bytes each time."""

import json
import shutil
import sys

import pytest

from saereg.registry.build import build
from saereg.registry.files.digest import sha256_of
from saereg.registry.presenting import Presentation
from saereg.registry.validators.runner import validate
from saereg.schemas.index import Index
from tests.releases import tiny_release


def files_of(root):
    """Return path → bytes of everything in a folder."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def presented(tmp_path_factory):
    """A tiny release with everything that readers see, and what the build said it could not make."""
    root, notes = tiny_release(tmp_path_factory.mktemp("presented")), []
    (root / "README.md").unlink()  # so that it gets the card of a new release
    build(root, presentation=Presentation(note=notes.append))
    return root, notes


@pytest.fixture
def release(presented, tmp_path):
    return shutil.copytree(presented[0].parent, tmp_path / "copy") / "release"


def test_every_artifact_gets_a_card_and_every_figure_three_files(presented):
    """And nothing had to be left out."""
    root, notes = presented
    index = Index.read(root / "index.json")
    assert notes == []
    assert index.figures
    for figure in index.figures:
        assert all((root / path).is_file() for path in (figure.spec, figure.png, figure.svg))
        assert f"({figure.png})" in (root / "README.md").read_text()
    for entry in index.artifacts:
        names = {file.path.rpartition("/")[2] for file in entry.files}
        assert {"README.md", "latents.safetensors", "features.json"} <= names


def test_the_index_has_every_file_with_its_digest(presented):
    """Also those that were written after it was first made up."""
    root, _ = presented
    said = {file.path: file.sha256 for file in Index.read(root / "index.json").all_files()}
    there = {path: sha256_of(root / path) for path in files_of(root) if path not in ("manifest.json", "index.json")}
    assert said == there


def test_a_presented_release_is_valid(presented):
    """At every level but the last, which looks at numbers alone."""
    assert validate(presented[0], "weights").findings == ()


@pytest.mark.slow
def test_a_second_build_changes_no_byte(release):
    """Neither a figure, nor a card, nor the index."""
    before = files_of(release)
    build(release, presentation=Presentation())
    assert files_of(release) == before


def test_words_of_the_author_stay(release):
    """In the card of the release and in that of an artifact, around the generated parts."""
    cards = [release / "README.md", next(release.glob("*/*/README.md"))]
    for card in cards:
        card.write_text(card.read_text() + "\nWritten by hand.\n")
    build(release, presentation=Presentation(figures=False, features=False))
    assert all(card.read_text().endswith("\nWritten by hand.\n") for card in cards)
    assert validate(release, "header").findings == ()


def test_what_is_not_wanted_is_not_made(tmp_path):
    """Each part can be left out by itself."""
    root = tiny_release(tmp_path)
    build(root, presentation=Presentation(figures=False, features=False, cards=False))
    names = {path.rpartition("/")[2] for path in files_of(root)}
    assert not names & {"latents.safetensors", "features.json"}
    assert not (root / "figures").exists()
    assert Index.read(root / "index.json").figures == ()


def test_figures_that_are_not_wanted_any_more_leave_no_file(release):
    """A picture that no index names would go stale unseen."""
    index = build(release, presentation=Presentation(figures=False))
    assert not list(release.glob("figures/*"))
    assert not [file for file in index.all_files() if file.role == "figure"]
    assert "figures/" not in (release / "README.md").read_text()


def test_without_the_plots_extra_the_rest_is_made(tmp_path, monkeypatch):
    """One line says what is missing and which extra has it."""
    for module in ("altair", "vl_convert", "scipy"):
        monkeypatch.setitem(sys.modules, module, None)
    root, notes = tiny_release(tmp_path), []
    index = build(root, presentation=Presentation(note=notes.append))
    assert [note for note in notes if "pip install 'saereg[plots]'" in note] == notes[-1:]
    assert index.figures == ()
    assert all((root / entry.id / "README.md").is_file() for entry in index.artifacts)


def test_a_view_of_other_weights_does_not_stay(release):
    """When the rows are gone and the weights have changed, latents of the old ones are nobody's."""
    entry = next(e for e in Index.read(release / "index.json").artifacts if e.id.endswith("topk"))
    path = release / entry.id / "features.json"
    view = json.loads(path.read_text())
    path.write_text(json.dumps(view | {"weights_sha256": "0" * 64}))
    manifest = json.loads((release / "manifest.json").read_text())
    artifact = next(a for a in manifest["artifacts"] if a["id"] == entry.id)
    manifest["evaluations"] = {}
    for one in manifest["artifacts"]:
        one["claims"] = []
    (release / "manifest.json").write_text(json.dumps(manifest))
    index = build(release, presentation=Presentation(figures=False))
    assert artifact["id"] == entry.id
    assert not path.exists()
    assert f"{entry.id}/features.json" not in {file.path for file in index.all_files()}


@pytest.mark.parametrize("wanted", [True, False])
def test_nothing_is_written_or_removed_through_a_link(release, tmp_path, wanted):
    """Neither in a folder of figures that is somewhere else, nor in that of an artifact."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("figures", "layer_1/topk"):
        shutil.move(release / name, outside / name)
        (release / name).symlink_to(outside / name)
    card = outside / "layer_1/topk/README.md"
    card.write_text(card.read_text().replace("saereg:begin artifact -->", "saereg:begin artifact -->\nold"))
    (outside / "layer_1/topk/features.json").write_text("{}")
    before = files_of(outside)
    notes = []
    build(release, presentation=Presentation(figures=wanted, latents=3, note=notes.append))
    assert files_of(outside) == before
    assert any("link" in note for note in notes)


def test_a_file_in_the_place_of_the_figures_stays(release):
    """One line says so, and the rest is made."""
    shutil.rmtree(release / "figures")
    (release / "figures").write_text("mine")
    notes = []
    index = build(release, presentation=Presentation(features=False, cards=False, note=notes.append))
    assert notes == ["no figures: figures is a file; rename it"]
    assert index.figures == ()
    build(release, presentation=Presentation(figures=False, features=False, cards=False))
    assert (release / "figures").read_text() == "mine"


def test_stale_figures_do_not_stay_where_none_can_be_drawn(release, monkeypatch):
    """Without the `plots` extra those of an earlier build would be of other evidence."""
    monkeypatch.setitem(sys.modules, "altair", None)
    index = build(release, presentation=Presentation(features=False, cards=False))
    assert not [file for file in index.all_files() if file.role == "figure"]
    assert not (release / "figures").exists()


@pytest.mark.slow
def test_losses_that_no_law_can_be_fitted_to_are_one_line(release, monkeypatch):
    """The other parts are made."""
    from saereg.registry.floors import fit

    def fails(release):
        raise OverflowError("too large")

    monkeypatch.setattr(fit, "floors_of", fails)
    notes = []
    index = build(release, presentation=Presentation(features=False, cards=False, note=notes.append))
    assert notes == ["loss floors are left out, as they cannot be fitted here: OverflowError: too large"]
    assert index.figures


@pytest.mark.slow
def test_a_card_without_a_place_for_figures_is_told_how_to_get_one(release):
    """An author's own card; one that has a part of the new ones is left to its author."""
    notes = []
    (release / "README.md").write_text("# Mine\n")
    build(release, presentation=Presentation(features=False, cards=False, note=notes.append))
    assert [note for note in notes if "README.md shows no figures" in note]

    notes.clear()
    (release / "README.md").write_text("# Mine\n\n<!-- saereg:begin figures -->\n<!-- saereg:end figures -->\n")
    build(release, presentation=Presentation(features=False, cards=False, note=notes.append))
    assert not [note for note in notes if "README.md shows no figures" in note]
    assert "figures/" in (release / "README.md").read_text()
