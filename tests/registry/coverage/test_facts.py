"""Sourced facts: every one has a source and a day, fits the committed schema, and no model is in two families."""

import contextlib
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from saereg.errors import DocumentError, SaeregError, UsageError
from saereg.registry.coverage.evidence import sentence
from saereg.registry.coverage.facts import DEEPEST, OWN, load_facts, read_facts
from saereg.registry.coverage.families import placed, plain, same_model
from saereg.schemas import export
from saereg.schemas.facts import FIXED, AbsenceFact, CheckpointFact, DictionaryFact
from saereg.schemas.schedule import PYTHIA

FACTS = load_facts()

FAMILIES = {family.id: family for family in FACTS.families}


def test_the_file_fits_the_committed_schema():
    """By a validator that knows nothing of the models; a day in YAML is text here."""
    plain_text = yaml.load(OWN.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    assert set(plain_text) == {"schema_version", "sources", "families", "facts"}
    validator = Draft202012Validator(json.loads(export.schema("facts")))
    assert [error.message for error in validator.iter_errors(json.loads(FACTS.text()))] == []


@pytest.mark.parametrize("fact", FACTS.facts, ids=lambda fact: fact.id)
def test_every_fact_has_a_source_with_a_day_and_says_something(fact):
    """Citation, URL and the day of looking it up; a doubtful fact says why, or its source does."""
    source = FACTS.sources[fact.source]
    url = urlsplit(source.url)
    assert (url.scheme, "." in url.netloc, url.username) == ("https", True, None)
    assert source.title
    assert source.retrieved >= "2026-11-22"
    assert source.date is None or source.date <= source.retrieved
    assert fact.confirmed or fact.note or source.note
    assert sentence(fact)


def test_ids_are_unique_and_every_source_and_family_is_used():
    """Nothing is left over."""
    assert max(Counter(fact.id for fact in FACTS.facts).values()) == 1
    assert {fact.source for fact in FACTS.facts} == set(FACTS.sources)
    assert {fact.family for fact in FACTS.facts} == set(FAMILIES)
    assert all(f.about in FIXED or f.about in ("MBPP", "HumanEval") for f in FACTS.facts if isinstance(f, AbsenceFact))


def test_the_schedule_of_pythia_is_the_one_of_the_code():
    """154 is counted, not typed."""
    (fact,) = [fact for fact in FACTS.facts if fact.id == "pythia-checkpoints"]
    assert (fact.schedule, fact.count, fact.steps) == ("pythia-154", None, len(PYTHIA))
    assert "154" not in OWN.read_text(encoding="utf-8").replace("pythia-154", "")


def test_the_two_public_releases_over_olmo_are_facts():
    """A survey made by hand said that there are none."""
    found = {
        f.repo for f in FACTS.facts if isinstance(f, DictionaryFact) and f.family == "olmo" and f.weights == "public"
    }
    assert found == {"matteohe/parameter-trajectory-crosscoders", "dams2005/olmo-3-7b-think-saes"}


@pytest.mark.parametrize("family", FACTS.families, ids=lambda family: family.id)
def test_every_model_of_a_family_is_of_it_alone(family):
    """In its own spelling, as a URL, with a revision, and in capitals."""
    for model in family.models:
        for spelling in (model, f"https://huggingface.co/{model}", f"hf://{model}@main", model.upper()):
            assert placed(spelling, FACTS.families) == [family]
            assert same_model(spelling, family) == model.lower().rpartition("/")[2]


SPELT = {
    "gpt2-small": "gpt2",
    "https://huggingface.co/gpt2": "gpt2",
    "gemma-2-2b": "gemma-2",
    "gemma-2b": None,
    "gemma-3n-e2b": None,
    "google/gemma-3-1b-pt": "gemma-3",
    "meta-llama/Meta-Llama-3-8B-Instruct": "llama-3",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": None,
    "somebody/pythia-160m": None,
    "pythia-70m-deduped": "pythia",
    "EleutherAI/pythia-160m@step3000": "pythia",
    "olmo-2-7b": "olmo",
    "/data/models/pythia-70m": None,
    "bloomz-7b1": None,
    "": None,
}


@pytest.mark.parametrize(("model", "family"), SPELT.items())
def test_a_model_is_placed_by_owner_and_name(model, family):
    """A model of another owner is not of the family, whatever it is called."""
    assert [found.id for found in placed(model, FACTS.families)] == ([family] if family else [])


def test_a_name_of_transformer_lens_and_the_id_on_the_hub_are_one_model():
    """Their rows are counted together."""
    assert same_model("gpt2-small", FAMILIES["gpt2"]) == same_model("openai-community/gpt2", FAMILIES["gpt2"]) == "gpt2"
    assert plain("https://huggingface.co/EleutherAI/pythia-70m/tree/main") == "eleutherai/pythia-70m"


def test_every_model_of_the_installed_registry_is_in_one_family_or_none():
    """The names that SAELens uses; the families of the survey are all found."""
    folder = importlib.util.find_spec("sae_lens").submodule_search_locations[0]
    text = (Path(folder) / "pretrained_saes.yaml").read_text(encoding="utf-8")
    models = set(re.findall(r"(?m)^  model: (\S+)$", text))
    found = {model: [family.id for family in placed(model, FACTS.families)] for model in models}
    assert len(models) > 30
    assert max(len(families) for families in found.values()) == 1
    assert {family for families in found.values() for family in families} == {
        *("pythia", "gemma-2", "gemma-3", "llama-3", "gpt2")
    }


FACT = "facts:\n- id: a\n  family: pythia\n  source: pythia-readme\n  models: [EleutherAI/pythia-70m]\n"

BAD = {
    "a-key-twice": ("a: 1\nb: 2\na: 3\n", ": line 3: the key 'a' stands twice"),
    "an-unknown-key": (
        f"{FACT}  kind: checkpoints\n  counts: 3\n  access: x\n",
        "/counts: line 7: unknown key 'counts'",
    ),
    "an-unknown-kind": (
        "facts:\n- id: a\n  kind: rumour\n",
        "/kind: line 3: unknown kind 'rumour'; known: checkpoints",
    ),
    "no-source": (
        "facts:\n- id: a\n\n  kind: absence\n  family: pythia\n",
        "line 2: the required key 'source' is missing",
    ),
    "another-source": (
        "facts:\n- {id: a, kind: absence, family: pythia, source: hearsay, about: saes, text: none}\n",
        "the source 'hearsay' is not in `sources`",
    ),
    "another-family": (
        "facts:\n- {id: a, kind: absence, family: mamba, source: pythia-readme, about: saes, text: none}\n",
        "the family 'mamba' is not in `families`",
    ),
    "no-steps": (f"{FACT}  kind: checkpoints\n  access: x\n", "/facts/0: line 2: write either `schedule` or `count`"),
    "an-endless-schedule": (f"{FACT}  kind: checkpoints\n  access: x\n  schedule: every:9\n", "every:N:LAST"),
    "no-schedule": (f"{FACT}  kind: checkpoints\n  access: x\n  schedule: often\n", "'often' is no schedule"),
    "public-nowhere": (f"{FACT}  kind: dictionaries\n  weights: public\n  what: x\n", "public weights have a `repo`"),
    "a-family-twice": (
        "families:\n- {id: b, name: B, organisation: O, models: [pythia-1b], patterns: ['pythia-1*']}\n",
        "the model 'EleutherAI/pythia-14m' fits pythia and b",
    ),
    "a-model-outside": (
        "families:\n- {id: b, name: B, organisation: O, models: [mamba-1b], patterns: ['mambo*']}\n",
        "b: the model 'mamba-1b' fits no pattern",
    ),
    "a-day-that-is-none": (
        "sources:\n  s:\n    title: t\n    url: https://a.b\n    retrieved: 2026-13-01\n",
        "line 5: ",
    ),
    "a-url-that-is-none": ("sources:\n  s:\n    title: t\n    url: a.b\n    retrieved: 2026-11-22\n", "line 4: "),
    "no-finite-number": ("a: .inf\n", "line 1: neither words nor a finite number"),
    "a-tag-of-python": ("a: !!python/object/apply:os.getcwd []\n", "line 1: "),
    "a-text-not-of-its-tag": ("a: !!int ''\n", "a value is not of the tag"),
    "no-yaml": ("a: [1\nb: 2\n", "line 2: "),
    "too-deep": ("[" * 50_000 + "]" * 50_000, "line 1: nested too deeply"),
    "itself": ("&a [*a]\n", "nested too deeply"),
    "nothing": ("", "line 1: input should be an object"),
    "no-text": ("\x00", "control characters are not allowed"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence_with_its_line(tmp_path, name):
    """Where, what, and no traceback; 50,000 brackets would end the process inside libyaml."""
    text, expected = BAD[name]
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        load_facts(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_aliases_that_stand_for_millions_of_values_are_refused(tmp_path):
    """In a moment, without writing them out."""
    lines = ["x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 9)]
    (tmp_path / "own.yaml").write_text("\n".join(lines))
    with pytest.raises(DocumentError, match="too many values"):
        read_facts(tmp_path / "own.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    """And a folder is no file."""
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(UsageError, match="no such file"):
            load_facts(path)


def test_own_facts_are_added_and_replace_those_of_the_same_id(tmp_path):
    """At the place of the old one; their sources and families too."""
    (tmp_path / "own.yaml").write_text(
        "sources:\n  me: {title: Mine, url: 'https://example.org/x', retrieved: 2026-11-22}\n"
        "families:\n- {id: mamba, name: Mamba, organisation: O, models: [mamba-1b], patterns: ['mamba-*']}\n"
        f"{FACT.replace('id: a', 'id: pythia-checkpoints').replace('pythia-readme', 'me')}"
        "  kind: checkpoints\n  schedule: every:1000:9000\n  access: x\n"
    )
    facts = load_facts(tmp_path / "own.yaml")
    assert [fact.id for fact in facts.facts] == [fact.id for fact in FACTS.facts]
    assert [family.id for family in facts.families] == [*FAMILIES, "mamba"]
    first = facts.facts[0]
    assert isinstance(first, CheckpointFact)
    assert (first.source, first.steps) == ("me", 10)
    assert set(facts.sources) == {*FACTS.sources, "me"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["pythia", "MBPP"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*"abc", "facts", "id"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=30, deadline=None)
@given(value=VALUES)
def test_whatever_is_written_is_read_or_refused_on_purpose(tmp_path_factory, value):
    """Never another error."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump({"facts": value}, allow_unicode=True), encoding="utf-8")
    with contextlib.suppress(SaeregError):
        read_facts(path)


def test_the_depth_that_is_allowed_is_more_than_the_schema_needs():
    """Facts are four levels deep."""
    assert DEEPEST > 8
