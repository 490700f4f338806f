"""Cells: of each column the first rule that holds; silence is no `no`; the catalogue outdoes what facts leave open."""

import json

import pytest
from jsonschema import Draft202012Validator

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.catalog.rows import Entry, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.store import changing
from saereg.registry.catalog.writing import add_source, write
from saereg.registry.coverage.facts import load_facts
from saereg.registry.coverage.holdings import read_held
from saereg.registry.coverage.rules import ENOUGH, LEAST, ORDER, RULES, Seen, decide, listed
from saereg.registry.coverage.table import DEFAULT, benchmarks, coverage
from saereg.schemas import export
from saereg.schemas.facts import AbsenceFact, BenchmarkFact, CheckpointFact, DictionaryFact, Facts

FACTS = load_facts()

NO_SAES = Facts(
    sources=FACTS.sources,
    families=FACTS.families,
    facts=tuple(fact for fact in FACTS.facts if not isinstance(fact, DictionaryFact)),
)
"""The facts without any on dictionaries: only the catalogue tells."""

SAELENS = Source("saelens", "sae_lens")
HUB = Source("hub", "matteohe/parameter-trajectory-crosscoders")
HERE = Source("folder", "/data/release")


def catalogue(path, *snapshots):
    """Write snapshots as every reader does; return what the catalogue holds."""
    with changing(path) as connection:
        for source, standing, models in snapshots:
            entries = tuple(Entry(id=f"a{n}", model=model) for n, model in enumerate(models))
            release = ReleaseRows("r", version="1.0.0", standing=standing, entries=entries)
            write(connection, Snapshot(source, "a" * 40, "sae-lens 6.54.12", (release,)))
    return read_held(path)


def cells(found, row):
    """Return column → (mark, rule) of a row."""
    (chosen,) = [one for one in found.rows if row in (one.id, one.name)]
    return {name: (cell.mark, cell.rule) for name, cell in chosen.cells.items()}


def test_the_survey_today():
    """Facts only. Pythia's 154 steps, dictionaries over OLMo, and what nobody confirmed or says."""
    found = coverage(FACTS, None)
    marks = {row.id: tuple(cell.mark for cell in row.cells.values()) for row in found.rows}
    assert marks == {
        "pythia": ("yes", "yes", "partial", "partial"),
        "olmo": ("yes", "yes", "yes", "yes"),
        "gemma-2": ("no", "yes", "yes", "no"),
        "gemma-3": ("no", "yes", "yes", "no"),
        "llama-3": ("no", "yes", "yes", "no"),
        "tinyllama": ("partial", "unknown", "unknown", "unknown"),
        "amber": ("yes", "unknown", "no", "no"),
        "gpt2": ("partial", "yes", "unknown", "unknown"),
        "bloom": ("partial", "unknown", "unknown", "unknown"),
    }
    pythia = found.rows[0].cells
    assert (pythia["checkpoints"].summary, pythia["MBPP"].confirmed) == ("154 steps", False)


def test_every_cell_names_its_rule_and_what_decides_it():
    """A source with its day for each; only silence has none."""
    found = coverage(FACTS, None, [*benchmarks(FACTS), "checkpoints", "saes"])
    rules = {rule.id: rule for rule in found.rules}
    for row in found.rows:
        for name, cell in row.cells.items():
            rule = rules[cell.rule]
            assert rule.mark in (cell.mark, None)
            assert rule.column in (name, "benchmark", "all")
            deciding = [one for one in cell.evidence if one.decides]
            assert bool(deciding) is (not cell.rule.endswith(("-silent", "-least")))
            assert all(one.retrieved and one.source and one.url for one in deciding)
            assert list(cell.evidence) == sorted(cell.evidence, key=lambda one: not one.decides)


def test_the_json_fits_its_committed_schema(tmp_path):
    """With and without a catalogue, by family and by model."""
    validator = Draft202012Validator(json.loads(export.schema("coverage")))
    held = catalogue(tmp_path / "c.sqlite", (SAELENS, "foreign", ["gpt2-small", "mistral-7b", None]))
    for by in ("family", "model"):
        for one in (None, held):
            assert [e.message for e in validator.iter_errors(json.loads(coverage(FACTS, one, by=by).text()))] == []


def test_a_release_in_the_catalogue_turns_a_cell_to_yes(tmp_path):
    """OLMo, without any fact on dictionaries: from no word, over none listed, to yes."""
    path = tmp_path / "c.sqlite"
    assert cells(coverage(NO_SAES, None), "olmo")["saes"] == ("unknown", "saes-silent")
    held = catalogue(tmp_path / "own.sqlite", (Source("saelens", "/own/entry.yaml"), "foreign", ["gpt2-small"]))
    assert cells(coverage(NO_SAES, held), "olmo")["saes"] == ("unknown", "saes-silent")  # lists what somebody has
    held = catalogue(path, (SAELENS, "foreign", ["gpt2-small"]))
    assert cells(coverage(NO_SAES, held), "olmo")["saes"] == ("no", "saes-not-listed")
    held = catalogue(path, (HUB, "foreign", ["allenai/OLMo-2-1124-7B", "EleutherAI/pythia-1b"]))
    found = coverage(NO_SAES, held)
    assert cells(found, "olmo")["saes"] == ("yes", "saes-catalogued")
    (row,) = [row for row in found.rows if row.id == "olmo"]
    (one,) = row.cells["saes"].evidence
    assert (one.rows, one.releases, one.pin, one.decides) == (1, ("r 1.0.0",), "a" * 40, True)
    assert one.source == "hub matteohe/parameter-trajectory-crosscoders (sae-lens 6.54.12)"
    assert row.models == ("allenai/OLMo-2-1124-7B",)
    assert cells(coverage(FACTS, held), "olmo")["saes"] == ("yes", "saes-catalogued")


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        ("verified", ("yes", "saes-catalogued")),
        ("foreign", ("yes", "saes-catalogued")),
        ("unverified", ("partial", "saes-some")),
    ],
)
def test_what_a_row_is_worth_depends_on_its_standing(tmp_path, standing, expected):
    """An unverified release is only partly there."""
    held = catalogue(tmp_path / "c.sqlite", (HERE, standing, ["LLM360/Amber"]))
    assert cells(coverage(FACTS, held), "amber")["saes"] == expected


def test_withdrawn_rows_do_not_count_and_are_shown(tmp_path):
    """Of an artifact, and of a whole release."""
    path = tmp_path / "c.sqlite"
    releases = (
        ReleaseRows("r", standing="verified", entries=(Entry(id="a", model="LLM360/Amber", withdrawn="wrong"),)),
        ReleaseRows("s", standing="verified", withdrawn="wrong", entries=(Entry(id="a", model="LLM360/Amber"),)),
    )
    with changing(path) as connection:
        write(connection, Snapshot(HERE, "a" * 40, "saereg 0.1.0", releases))
    found = coverage(FACTS, read_held(path))
    assert cells(found, "amber")["saes"] == ("unknown", "saes-silent")
    (row,) = [row for row in found.rows if row.id == "amber"]
    (one,) = row.cells["saes"].evidence
    assert (one.text, one.decides) == ("0 verified rows in 2 releases, and 2 withdrawn ones", False)


def test_only_the_registry_of_the_field_makes_silence_a_no(tmp_path):
    """A folder that holds no BLOOM says nothing of BLOOM; nor does a source that was never synced."""
    path = tmp_path / "c.sqlite"
    held = catalogue(path, (HERE, "verified", ["EleutherAI/pythia-70m"]))
    with changing(path) as connection:
        add_source(connection, SAELENS)
    assert cells(coverage(FACTS, read_held(path)), "bloom")["saes"] == ("unknown", "saes-silent")
    assert len(held.sources) == len(read_held(path).sources) == 1
    held = catalogue(path, (SAELENS, "foreign", ["gpt2-small"]))
    found = coverage(FACTS, held)
    assert cells(found, "bloom")["saes"] == ("no", "saes-not-listed")
    (row,) = [row for row in found.rows if row.id == "bloom"]
    (one,) = row.cells["saes"].evidence
    assert (one.text, one.source, one.rows) == ("holds none", "SAELens (sae-lens 6.54.12)", 0)


def test_models_in_no_family_and_rows_without_a_model_are_told(tmp_path):
    """Each once, sorted; a row without a model is in no cell."""
    held = catalogue(tmp_path / "c.sqlite", (SAELENS, "foreign", ["qwen3-4b", None, "mistral-7b", "qwen3-4b", "gpt2"]))
    found = coverage(FACTS, held)
    assert (found.unplaced, found.nameless) == (("mistral-7b", "qwen3-4b"), 1)


def test_by_model_all_spellings_of_a_model_are_one_row(tmp_path):
    """TransformerLens, the Hub and a URL; a model of no family is a row too, and has no facts."""
    models = ["gpt2-small", "openai-community/gpt2", "https://huggingface.co/gpt2", "qwen3-4b"]
    held = catalogue(tmp_path / "c.sqlite", (SAELENS, "foreign", models))
    found = coverage(FACTS, held, by="model")
    (gpt2,) = [row for row in found.rows if row.id == "openai-community/gpt2"]
    assert (gpt2.models, gpt2.cells["saes"].summary) == (tuple(sorted(models[:3])), "3 rows")
    assert cells(found, "qwen3-4b") == {
        "checkpoints": ("unknown", "checkpoints-silent"),
        "saes": ("yes", "saes-catalogued"),
        "MBPP": ("unknown", "benchmark-silent"),
        "all": ("unknown", LEAST.id),
    }
    assert found.rows[-1].id == "qwen3-4b"
    families = [row.family for row in found.rows if row.family]
    assert list(dict.fromkeys(families)) == [family.id for family in FACTS.families]
    assert len({row.id for row in found.rows}) == len(found.rows)


def test_by_model_a_fact_counts_for_its_models_only():
    """MBPP of Gemma 2 9B is no result of Gemma 2 2B; what a source denies of a family, it denies of each model."""
    found = coverage(FACTS, None, by="model")
    values = {row.id: row.cells["MBPP"].summary for row in found.rows if row.family == "gemma-2"}
    assert (values["google/gemma-2-2b"], values["google/gemma-2-9b"]) == ("29.6", "52.4")
    assert cells(found, "google/gemma-2-2b")["checkpoints"] == ("no", "checkpoints-absent")
    assert cells(found, "allenai/Olmo-3-7B-Think")["checkpoints"] == ("unknown", "checkpoints-silent")


def fact(kind, **changes):
    """Make a fact."""
    base = {"id": "x", "family": "pythia", "source": "pythia-readme"}
    shapes = {
        CheckpointFact: {"kind": "checkpoints", "models": ("a/b",), "count": ENOUGH, "access": "x"},
        DictionaryFact: {"kind": "dictionaries", "models": ("a/b",), "weights": "public", "repo": "a/b", "what": "x"},
        BenchmarkFact: {"kind": "benchmark", "benchmark": "MBPP", "model": "a/b", "metric": "pass@1", "value": 1.0},
        AbsenceFact: {"kind": "absence", "about": "saes", "text": "none"},
    }
    return kind(**(base | shapes[kind] | changes))


DECIDED = {
    "enough-steps": ("checkpoints", [fact(CheckpointFact)], "checkpoints-schedule"),
    "too-few-steps": ("checkpoints", [fact(CheckpointFact, count=ENOUGH - 1)], "checkpoints-some"),
    "trained-by-others": ("checkpoints", [fact(CheckpointFact, retrained=True)], "checkpoints-some"),
    "steps-by-hearsay": ("checkpoints", [fact(CheckpointFact, confirmed=False)], "checkpoints-some"),
    "denied-and-shown": ("checkpoints", [fact(AbsenceFact), fact(CheckpointFact)], "checkpoints-schedule"),
    "denied": ("checkpoints", [fact(AbsenceFact)], "checkpoints-absent"),
    "no-word": ("checkpoints", [], "checkpoints-silent"),
    "released": ("saes", [fact(DictionaryFact)], "saes-released"),
    "not-released": ("saes", [fact(DictionaryFact, weights="unreleased", repo=None)], "saes-some"),
    "released-by-hearsay": ("saes", [fact(DictionaryFact, confirmed=False)], "saes-some"),
    "no-dictionaries": ("saes", [fact(AbsenceFact)], "saes-absent"),
    "a-number": ("benchmark", [fact(BenchmarkFact)], "benchmark-result"),
    "zero-is-a-number": ("benchmark", [fact(BenchmarkFact, value=0.0)], "benchmark-result"),
    "no-number": ("benchmark", [fact(BenchmarkFact, value=None)], "benchmark-some"),
    "a-number-by-hearsay": ("benchmark", [fact(BenchmarkFact, confirmed=False)], "benchmark-some"),
    "never-evaluated": ("benchmark", [fact(AbsenceFact)], "benchmark-absent"),
}


@pytest.mark.parametrize("name", DECIDED)
def test_the_first_rule_that_holds_decides(name):
    """One case for each edge of each rule."""
    column, facts, expected = DECIDED[name]
    assert decide(column, Seen(facts=tuple(facts)))[0].id == expected


def test_the_rules_are_a_table_without_gaps():
    """Unique ids that begin with their column; of each column the last holds always, and is unknown."""
    assert len({rule.id for rule in RULES}) == len(RULES)
    for column in ("checkpoints", "saes", "benchmark"):
        chosen = [rule for rule in RULES if rule.column == column]
        assert all(rule.id.startswith(f"{column}-") and rule.sentence.endswith(".") for rule in chosen)
        assert [rule.mark for rule in chosen if rule.reasons(Seen()) is None] == ["unknown"]
        assert chosen[-1].mark == "unknown"
        assert {rule.mark for rule in chosen} == set(ORDER)
    assert [rule.id for rule in listed()] == [*(rule.id for rule in RULES), LEAST.id]


def test_columns_are_found_in_any_case_and_wrong_ones_are_named():
    """`all` is added once; a benchmark of which nothing is known is no column."""
    assert coverage(FACTS, None, ["mbpp", "SAEs", "all"]).columns == ("MBPP", "saes", "all")
    assert coverage(FACTS, None).columns == (*DEFAULT, "all")
    with pytest.raises(UnknownNameError, match="did you mean 'HumanEval'"):
        coverage(FACTS, None, ["humaneva"])
    for columns in ([], ["all"]):
        with pytest.raises(UsageError, match="at least one column: HumanEval, MBPP, checkpoints, saes, all"):
            coverage(FACTS, None, columns)
    with pytest.raises(UsageError, match="'MBPP' is named twice"):
        coverage(FACTS, None, ["MBPP", "mbpp"])
