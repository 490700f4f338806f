"""A folder of files as a grid."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.errors import FormatError
from saereg.registry.importing.grid import look, order
from saereg.registry.importing.template import parse_template

NAME = "sae_layer{layer:d}_{snapshot}.pt"


def files(folder, *names):
    """Make empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_cells_stand_in_the_order_of_their_numbers(tmp_path):
    """Layers and snapshots as quantities; what is final comes last."""
    names = [f"sae_layer{layer:02d}_{s}.pt" for layer in (10, 2) for s in ("final", "100M", "50M", "1B", "init")]
    grid = look(files(tmp_path, *names), parse_template(NAME))
    assert [str(cell) for cell in grid.cells[:5]] == [
        f"layer 2, snapshot {s}" for s in ("50M", "100M", "1B", "init", "final")
    ]
    assert grid.values("layer") == (2, 10)
    assert (grid.gaps, grid.doubles, grid.others) == ((), (), ())


def test_gaps_doubles_and_other_files_are_named(tmp_path):
    """Other files only where they may be weights."""
    names = ("sae_layer0_a.pt", "sae_layer00_a.pt", "sae_layer0_b.pt", "sae_layer1_a.pt", "x/notes.pt", "README.md")
    grid = look(files(tmp_path, *names), parse_template(NAME))
    assert grid.gaps == ({"layer": 1, "snapshot": "b"},)
    assert grid.doubles == (({"layer": 0, "snapshot": "a"}, ("sae_layer00_a.pt", "sae_layer0_a.pt")),)
    assert grid.others == ("x/notes.pt",)
    assert len(grid.cells) == 3
    assert grid.files({"layer": 0, "snapshot": "a"}) == ("sae_layer00_a.pt", "sae_layer0_a.pt")
    assert grid.files({"layer": 1, "snapshot": "b"}) == ()


def test_the_release_of_144_files_is_whole(tmp_path):
    """24 layers and 6 snapshots."""
    snapshots = ("50M", "100M", "150M", "200M", "250M", "final")
    names = [f"sae_layer{layer:02d}_{snapshot}.pt" for layer in range(24) for snapshot in snapshots]
    grid = look(files(tmp_path, *names), parse_template("sae_layer{layer:02d}_{snapshot}.pt"))
    assert [cell.path for cell in grid.cells] == names
    assert grid.values("snapshot") == snapshots


def test_folders_are_walked_and_hidden_ones_are_not(tmp_path):
    """Links to files count, as in the cache of the Hub."""
    files(tmp_path, "a/step1/ae.pt", ".cache/step2/ae.pt", "b/.step3/ae.pt", "blob")
    (tmp_path / "a/step4").mkdir()
    os.symlink(tmp_path / "blob", tmp_path / "a/step4/ae.pt")
    os.symlink(tmp_path / "a", tmp_path / "c")
    grid = look(tmp_path, parse_template("{run}/step{step:d}/ae.pt"))
    assert [cell.captures for cell in grid.cells] == [{"run": "a", "step": 1}, {"run": "a", "step": 4}]


def test_a_folder_without_any_match_names_what_is_there(tmp_path):
    """One line."""
    with pytest.raises(FormatError) as caught:
        look(files(tmp_path, "a.pt", "b.safetensors"), parse_template(NAME))
    expected = f"{tmp_path}: no file matches sae_layer{{layer:d}}_{{snapshot}}.pt (candidates: a.pt, b.safetensors)"
    assert str(caught.value) == expected


def test_quantities_sort_as_quantities():
    """And moments as they come."""
    values = ["final", "step10", "step9", "1B", "100M", "50M", "1.5k", "900", "last"]
    assert sorted(values, key=order) == ["900", "1.5k", "50M", "100M", "1B", "step9", "step10", "final", "last"]


@given(st.lists(st.one_of(st.text(max_size=6), st.integers(0, 999)), max_size=8))
def test_every_mixture_of_values_has_an_order(values):
    """No two cannot be compared, and it does not matter how they stood."""
    keys = [order(value) for value in values]
    backwards = list(reversed(keys))
    assert sorted(keys) == sorted(backwards)
