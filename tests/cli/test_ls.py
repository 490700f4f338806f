"""`saereg ls`: of releases and of the catalogue, in every format."""

import csv
import io
import json
import os
import pty
import sys

import pytest

from saereg.cli import run
from saereg.registry.conditions.fields import FIELDS
from tests.registry.catalog.books import put

ALL = ["W_U/cross-snapshot-2", "layer_1/jumprelu", "layer_1/topk", "layer_1/transcoder"]


@pytest.fixture
def book(place, monkeypatch):
    """A catalogue with the release, as the user's."""
    monkeypatch.setenv("SAEREG_CATALOG", str(place / "catalog.sqlite"))
    put(place / "catalog.sqlite", (place / "release").absolute())
    return place / "catalog.sqlite"


def test_without_a_target_the_catalogue_is_listed(saereg, book, place):
    """By references that can be loaded, in natural order."""
    answer = saereg("ls", "--format", "ids")

    assert answer.out.splitlines() == [f"{place}/release:{name}" for name in ALL]
    assert answer.next == f"saereg show {place}/release:W_U/cross-snapshot-2"
    table = saereg("ls", "--kind", "sae", "--layer", "1", "--model", "Model", "--sort", "-ev").out.splitlines()
    assert [line.split()[2] for line in table[1:]] == ["layer_1/topk", "layer_1/jumprelu"]


def test_the_same_conditions_hold_for_releases_and_the_catalogue(saereg, book):
    """One language."""
    for words in (
        ["--where", "l0 < 3.7 or ev < -4.5"],
        ["--where", "kind = sae", "--where", "not k is present"],
        ["--frontier", "l0,ev"],
    ):
        stored = [line.rpartition(":")[2] for line in saereg("ls", *words, "--format", "ids").out.splitlines()]
        assert sorted(stored) == sorted(saereg("ls", "release", *words, "--format", "ids").out.splitlines()) != []


def test_every_format_says_the_same(saereg, book):
    """JSON with every field, CSV with an empty cell where a value is absent."""
    records = json.loads(saereg("ls", "--format", "json").out)
    assert [list(record) for record in records] == [list(FIELDS)] * 4
    rows = list(csv.DictReader(io.StringIO(saereg("ls", "--format", "csv").out)))
    assert [row["id"] for row in rows] == [record["id"] for record in records] == ALL
    assert rows[0]["layer"] == ""
    assert [float(row["l0"]) for row in rows] == [record["l0"] for record in records]
    assert {row["l0_basis"] for row in rows} == {"measured"}
    lines = saereg("ls", "--format", "md", "--columns", "id,l0").out.splitlines()
    assert lines[:2] == ["| id | l0 |", "|---|---|"]
    assert len(lines) == 6


def test_a_stated_number_is_marked_and_explained(saereg, place):
    """It is none that was measured."""
    (place / "release" / "index.json").unlink()
    answer = saereg("ls", "release")

    assert [line.split()[-1] for line in answer.out.splitlines()] == ["l0", "3*", "–", "–", "–"]
    assert "* 2 of 2 numbers stated, not measured: --basis measured leaves them out\n" in answer.err
    assert "*" not in saereg("ls", "release", "--basis", "measured").out


def test_groups_are_counted_with_their_best(saereg, book):
    """By one field or several."""
    lines = saereg("ls", "--group-by", "kind,layer", "--format", "csv").out.splitlines()

    assert lines[0] == "kind,layer,artifacts,best_ev"
    assert [line.rpartition(",")[0] for line in lines[1:]] == ["crosscoder,,1", "sae,1,2", "transcoder,1,1"]


def test_a_limit_says_what_it_leaves_out(saereg, book):
    """And a whole answer says nothing."""
    assert "the first 2 of 4 artifacts: --limit shows more\n" in saereg("ls", "--limit", 2).err
    assert "--limit" not in saereg("ls", "--limit", 4).err


@pytest.mark.skipif(sys.platform == "win32", reason="no terminals of this kind")
def test_a_terminal_gets_the_first_rows_and_a_pipe_all(saereg, book, monkeypatch):
    """Nobody reads a million rows."""
    assert len(saereg("ls").out.splitlines()) == 5
    monkeypatch.setattr("saereg.cli.ls.SHOWN", 3)
    master, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as screen, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", screen)
        err = saereg("ls").err
    os.close(master)
    assert "the first 3 of 4 artifacts: --limit shows more\n" in err


def test_a_catalogue_that_is_not_there_or_empty_says_how_it_is_filled(saereg, place, monkeypatch):
    """In one line."""
    path = place / "none.sqlite"
    answer = saereg("ls", "--catalog", path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"error: {path}: there is no catalogue yet; saereg registry add makes one\n"
    from saereg.registry.catalog.store import changing

    with changing(path):
        pass
    answer = saereg("ls", "--catalog", path)
    assert answer.code == 0
    assert answer.err.startswith(f"the catalogue {path} is empty\nnext: saereg registry add ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "release", "--catalog", "x"], "name releases or a catalogue, not both"),
        (["ls", "release", "--frontier", "l0"], "--frontier l0: expected two fields, such as l0,ev"),
        (["ls", "release", "--frontier", "l0,layer"], "write -layer or +layer"),
        (["ls", "release", "--sort", "steps"], "steps is a list of steps, which has no order"),
        (["ls", "release", "--group-by", "kind", "--format", "ids"], "--group-by has its own columns"),
        (["ls", "release", "--where", "ev >"], "'ev >' column 5: expected a value, found the end"),
    ],
)
def test_what_cannot_be_asked_is_one_line(saereg, words, message):
    """With what to do."""
    answer = saereg(*words)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_listing_a_catalogue_imports_nothing_heavy(book, process):
    """No schemas, no numbers, no Hub: it is to be quick."""
    words = ("--where", "l0 < 300 and ev < 0", "--sort", "-ev", "--format", "json", "--catalog", book)
    answer = process("ls", *words, PYTHONPROFILEIMPORTTIME="1")

    loaded = {line.rpartition("|")[2].strip() for line in answer.err.splitlines() if line.startswith("import time:")}
    assert len(json.loads(answer.out)) == 4
    assert "saereg.registry.catalog.selection" in loaded
    assert not loaded & {
        "pydantic",
        "torch",
        "numpy",
        "pandas",
        "pyarrow",
        "huggingface_hub",
        "yaml",
        "jsonschema",
        "asyncio",
    }


def test_an_empty_field_is_refused_like_any_that_does_not_exist(saereg, book):
    """An unset variable of a shell is not taken for a question that nobody asked."""
    for option in ("--sort", "--group-by", "--columns"):
        answer = saereg("ls", option, "")
        assert (answer.code, answer.out) == (2, "")
        assert "unknown field ''" in answer.err
    assert saereg("ls", "--frontier", "").code == 2


def test_without_a_stdout_there_is_no_traceback(book, monkeypatch):
    """As under `>&-`: Python has no stdout then, and both `ls` and the command line asked it something."""
    monkeypatch.setattr(sys, "stdout", None)

    assert run(["ls"]) == 0


def test_the_short_name_of_a_number_has_a_basis_too(saereg, book):
    """`ev_basis` is `explained_variance_basis`, in columns and conditions."""
    answer = saereg("ls", "--where", "ev_basis = measured", "--columns", "ev,ev_basis", "--format", "csv")

    assert answer.out.splitlines()[0] == "explained_variance,explained_variance_basis"
    assert {line.rpartition(",")[2] for line in answer.out.splitlines()[1:]} == {"measured"}
