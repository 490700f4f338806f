"""`saereg coverage`: the table in four forms, one row explained, and what it says where there is no catalogue."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from saereg.registry.catalog.rows import Entry, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.store import changing
from saereg.registry.catalog.writing import write
from saereg.registry.coverage.facts import load_facts
from saereg.schemas.coverage import Coverage

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A user without a catalogue."""
    monkeypatch.setenv("SAEREG_CATALOG", str(tmp_path / "user" / "catalog.sqlite"))
    return tmp_path / "user" / "catalog.sqlite"


@pytest.fixture
def filled(empty):
    """A catalogue with rows of SAELens' registry and a release over OLMo, one name of which would move the cursor."""
    models = ["gpt2-small", "mistral-7b", "evil\x1b[2J", None]
    saelens = ReleaseRows("gpt2", repo="a/b", entries=tuple(Entry(f"a{n}", model=m) for n, m in enumerate(models)))
    olmo = ReleaseRows(
        "olmo|*x*", repo="c/d", standing="verified", entries=(Entry("a", model="allenai/OLMo-2-1124-7B"),)
    )
    empty.parent.mkdir()
    with changing(empty) as connection:
        write(connection, Snapshot(Source("saelens", "sae_lens"), "a" * 64, "sae-lens 6.54.12", (saelens,)))
        write(connection, Snapshot(Source("hub", "c/d"), "b" * 40, "saereg 0.1.0", (olmo,)))
    return empty


def test_without_a_catalogue_the_table_is_made_of_facts_and_says_so(saereg, empty):
    """Nothing is made on disk; the next command explains the first row."""
    answer = saereg("coverage")
    assert answer.code == 0
    assert answer.err.splitlines()[0] == "no catalogue yet: facts only; saereg registry add makes one"
    assert answer.next == "saereg coverage --explain pythia"
    head, *rows = answer.out.splitlines()
    assert head.split() == ["family", "checkpoints", "SAEs", "MBPP", "all"]
    assert re.match(r"Pythia +yes \(154 steps\) +yes \(2 releases\) +partial \(17.8, unconfirmed\)", rows[0])
    assert len(rows) == len(load_facts().families)
    assert not empty.parent.exists()


def test_a_catalogue_fills_the_cells(saereg, filled):
    """And what it holds of no family, or of no model, is told; a name cannot move the cursor."""
    answer = saereg("coverage", "--columns", "saes")
    lines = answer.err.splitlines()
    assert lines[0] == (
        "2 models of the catalogue are in no family of the facts: evil\\x1b[2J, mistral-7b; --by model shows them"
    )
    assert lines[1] == "1 row of the catalogue without a model: in no cell"
    assert re.search(r"(?m)^OLMo +yes \(1 row\) +yes$", answer.out)
    assert re.search(r"(?m)^BLOOM +no \(not listed\) +no$", answer.out)
    shown = saereg("coverage", "--by", "model", "--columns", "saes")
    assert re.search(r"(?m)^evil\\x1b\[2J +– +yes \(1 row\) +yes$", shown.out)
    assert "\x1b[2J" not in shown.out + answer.err


def test_json_is_the_document_of_its_schema(saereg, filled):
    """Everything, with evidence and rules."""
    answer = saereg("coverage", "--format", "json")
    found = Coverage.from_text(answer.out)
    assert found.catalogue == str(filled)
    assert found.text() == answer.out
    (row,) = Coverage.from_text(saereg("coverage", "--format", "json", "--explain", "OLMo").out).rows
    assert row.cells["saes"].evidence[0].source == "hub c/d"


def test_csv_has_one_line_for_each_cell(saereg, empty):
    """With the sources that decide."""
    rows = list(csv.DictReader(saereg("coverage", "--format", "csv").out.splitlines()))
    assert len(rows) == 4 * len(load_facts().families)
    assert rows[0]["sources"].startswith("https://github.com/EleutherAI/pythia/")
    assert {row["mark"] for row in rows} == {"yes", "partial", "no", "unknown"}


def test_markdown_has_a_footnote_for_everything_that_decides(saereg, filled):
    """Every mark has its note and every note its mark; text of others is no markup."""
    text = saereg("coverage", "--format", "md").out
    table, _, feet = text.partition("\n\n")
    marks = [int(number) for number in re.findall(r"\[\^(\d+)\]", table)]
    notes = re.findall(r"(?m)^\[\^(\d+)\]: (.+)$", feet)
    assert list(dict.fromkeys(marks)) == [int(number) for number, _ in notes] == list(range(1, len(notes) + 1))
    assert all(re.search(r"(looked up|synced) \d{4}-\d\d-\d\d", note) for _, note in notes)
    cells = [line.count("|") for line in table.splitlines()]
    assert set(cells) == {6}
    assert "<table>" in MarkdownIt("commonmark").enable("table").render(text)


def test_explain_names_rule_evidence_source_and_day(saereg, filled):
    """By id or name, in any case."""
    answer = saereg("coverage", "--explain", "olmo", "--columns", "saes,MBPP")
    lines = answer.out.splitlines()
    assert lines[:4] == ["OLMo (olmo)", "  models in the catalogue: allenai/OLMo-2-1124-7B", "", "SAEs: yes (1 row)"]
    assert lines[4].startswith("  rule saes-catalogued: The catalogue holds ")
    assert lines[5:7] == ["  from:", "  - 1 verified row in 1 release"]
    assert re.fullmatch(r"    hub c/d, synced \d{4}-\d\d-\d\d, pin b{12}", lines[7])
    assert lines[8:10] == ["    olmo|*x*", "  beside it:"]
    assert "MBPP: yes (60.2)" in lines
    assert saereg("coverage", "--explain", "OLMO", "--columns", "saes,MBPP").out == answer.out
    for spelling in ("olmo-2-1124-7b", "olmo-2-7b", "https://huggingface.co/allenai/OLMo-2-1124-7B"):
        told = saereg("coverage", "--by", "model", "--explain", spelling).out
        assert told.startswith("allenai/OLMo-2-1124-7B\n")
    assert "unknown model" in saereg("coverage", "--by", "model", "--explain", "nobody/olmo-2-7b").err


WRONG = {
    "--explain pithia": "unknown family 'pithia'; did you mean 'pythia'?",
    "--columns mbp": "unknown column 'mbp'; known: HumanEval, MBPP",
    "--columns ,": "name at least one column",
    "--facts none.yaml": "none.yaml: no such file",
    "--catalog none.sqlite": "none.sqlite: there is no catalogue yet",
    "--catalog release/manifest.json": "it is left as it is",
    "--rules --format csv": "--rules are written as table, md or json",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_word_is_one_line(saereg, empty, words):
    """Exit 2, nothing on stdout."""
    answer = saereg("coverage", *words.split())
    assert (answer.code, answer.out) == (2, "")
    assert WRONG[words] in answer.err.splitlines()[-1]


def test_the_rules_are_listed(saereg, empty):
    """In words, as Markdown and as data."""
    words, data = saereg("coverage", "--rules"), json.loads(saereg("coverage", "--rules", "--format", "json").out)
    assert [line.split()[0] for line in words.out.splitlines()] == [rule["id"] for rule in data]
    assert saereg("coverage", "--rules", "--format", "md").out.count("\n") == len(data) + 2


def test_the_example_of_the_page_is_a_file_of_facts(saereg, empty, place):
    """Every kind of fact; the row is as it says."""
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "coverage.md").read_text(encoding="utf-8"), re.DOTALL)
    (place / "own.yaml").write_text(example)
    answer = saereg("coverage", "--facts", "own.yaml", "--columns", "checkpoints,saes,MBPP,HumanEval")
    row = re.split(r" {2,}", answer.out.splitlines()[-1])
    assert row == ["Mamba", "yes (21 steps)", "yes (1 release)", "yes (12.5)", "no (unconfirmed)", "no (unconfirmed)"]


def test_nothing_heavy_is_imported(empty):
    """The table is quick: no torch, no Hub client, no validator of schemas."""
    code = (
        "import sys; from saereg.cli import run; run(['coverage']);"
        "print(sorted(set(sys.modules) & {'torch', 'numpy', 'huggingface_hub', 'jsonschema', 'jinja2', 'sae_lens'}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
