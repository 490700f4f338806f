"""Documents: strict, frozen, with one canonical text, and problems told in the reader's words."""

import json
import time
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from saereg.errors import DocumentError
from saereg.registry.validators.runner import validate
from saereg.schemas.artifact_config import CONFIG, check_config
from saereg.schemas.document import MAX_PROBLEMS, Problem, canonical, check_text
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.metrics import MetricId
from saereg.schemas.report import Finding, Report, Summary
from saereg.schemas.semantics import Semantics
from tests.releases import CROSSCODER, config_text, tiny_release


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="module")
def texts(release):
    (release / "notes.txt").write_text("later\n")
    report = validate(release).text()
    (release / "notes.txt").unlink()
    return {
        Manifest: (release / "manifest.json").read_text(),
        Index: (release / "index.json").read_text(),
        Report: report,
    }


def problems(shape, value: object) -> list[Problem]:
    found, listed = check_text(shape, json.dumps(value, indent=2))
    assert (found is None) == bool(listed)
    return listed


def changed(text: str, pointer: str, value: object) -> dict:
    document = json.loads(text)
    *parents, last = pointer.strip("/").split("/")
    place = document
    for step in parents:
        place = place[int(step) if isinstance(place, list) else step]
    place[int(last) if isinstance(place, list) else last] = value
    return document


@pytest.mark.parametrize("shape", [Manifest, Index, Report])
def test_a_text_survives_reading_and_writing(texts, shape):
    """Text → value → text → value: the same bytes and the same value."""
    value = shape.from_text(texts[shape])

    assert value.text() == texts[shape]
    assert shape.from_text(value.text()) == value


@pytest.mark.parametrize("shape", [Manifest, Index, Report])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_canonical_text_depends_on_the_value_alone(texts, shape, data):
    """Not on the order of keys, nor on how the text was set."""

    def shuffled(value):
        if isinstance(value, dict):
            keys = data.draw(st.permutations(sorted(value)))
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    text = json.dumps(shuffled(json.loads(texts[shape])), indent=data.draw(st.sampled_from([None, 1, 7])))

    assert shape.from_text(text).text() == texts[shape]


FINDINGS = st.builds(
    Finding,
    code=st.from_regex(r"SR[0-9]{3}", fullmatch=True),
    severity=st.sampled_from(["error", "warning", "note"]),
    message=st.text(st.characters(codec="utf-8"), max_size=20),
    path=st.none() | st.text(st.characters(codec="utf-8"), max_size=20),
    line=st.none() | st.integers(1, 10**9),
    found=st.none() | st.text(st.characters(codec="utf-8"), max_size=5),
    origin=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.just("x"), max_size=2),
)

REPORTS = st.builds(
    Report,
    release=st.text(st.characters(codec="utf-8"), max_size=10),
    level=st.sampled_from(["layout", "header", "weights", "data"]),
    findings=st.lists(FINDINGS, max_size=4).map(tuple),
    summary=st.builds(
        Summary, **{name: st.integers(0, 99) for name in ("artifacts", "errors", "warnings", "notes", "checks")}
    ),
)


@given(REPORTS)
def test_any_report_survives_writing_and_reading(report):
    """Value → text → value, for any words in it."""
    again = Report.from_text(report.text())

    assert again == report
    assert again.text() == report.text()


def test_canonical_text_is_sorted_and_ends_in_one_line_break():
    """Equal values, equal bytes; nulls of the models are left out, letters stand as they are."""
    assert canonical({"b": 1, "a": ["é"]}) == '{\n  "a": [\n    "é"\n  ],\n  "b": 1\n}\n'
    assert "null" not in Summary.model_validate(
        {"artifacts": 1, "errors": 0, "warnings": 0, "notes": 0, "checks": 1}
    ).model_dump_json(exclude_none=True)


def test_a_value_cannot_be_changed(texts):
    """Frozen: a digest taken of it stays true."""
    manifest = Manifest.from_text(texts[Manifest])

    with pytest.raises(ValidationError):
        manifest.release = manifest.release


METRICS = ", ".join(f"'{name}'" for name in get_args(MetricId)[:-1]) + f" or '{get_args(MetricId)[-1]}'"
"""Every metric, as a message lists them."""

UNFIT = {
    "misspelt": (
        ("/release/licence", "mit"),
        Problem("unknown_key", "/release/licence", "unknown key 'licence', did you mean 'license'?", None, "license",
                "licence", "did you mean 'license'?"),
    ),
    "unknown": (
        ("/release/zzz", 1),
        Problem("unknown_key", "/release/zzz", "unknown key 'zzz'", None, None, "zzz",
                "remove it; the known keys are in `saereg schema`"),
    ),
    "below a union": (
        ("/artifacts/0/d_sae", "10"),
        Problem("value", "/artifacts/0/d_sae", "input should be a valid integer", None, None, '"10"'),
    ),
    "in a list below a union": (
        ("/artifacts/0/claims/0/metric", "explained_varianc"),
        Problem("value", "/artifacts/0/claims/0/metric", f"input should be {METRICS}", None, METRICS,
                '"explained_varianc"'),
    ),
    "unknown kind": (
        ("/artifacts/0/kind", "saes"),
        Problem("value", "/artifacts/0/kind", "unknown kind 'saes', did you mean 'sae'?", None,
                "sae, transcoder, crosscoder", "saes"),
    ),
    "wrong architecture for its kind": (
        ("/artifacts/0/architecture", "transcoder"),
        Problem("value", "/artifacts/0/architecture",
                "'transcoder' is the architecture of a transcoder; set kind to 'transcoder'", None, None,
                '"transcoder"'),
    ),
    "unsafe path": (
        ("/artifacts/0/path", "../x"),
        Problem("unsafe_path", "/artifacts/0/path", "'..' in a path; it would leave the release folder", None, None,
                '"../x"'),
    ),
    "a key that does not fit": (
        ("/sites/a b", {}),
        Problem("value", "/sites/a b", "string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.\\-]*$'", None,
                "^[A-Za-z0-9][A-Za-z0-9_.\\-]*$", '"a b"'),
    ),
    "true for a number": (
        ("/artifacts/0/seed", True),
        Problem("value", "/artifacts/0/seed", "input should be a valid integer", None, None, "true"),
    ),
    "2.0 for a whole number": (
        ("/artifacts/0/d_in", 2.0),
        Problem("value", "/artifacts/0/d_in", "input should be a valid integer", None, None, "2.0"),
    ),
    "a whole object": (
        ("/base_models", {str(i): {} for i in range(30)}),
        Problem("missing", "/base_models/0/id", "the required key 'id' is missing", None,
                "Repository id on the Hub (or package that carries the weights).", "nothing", "add it"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_a_value_that_does_not_fit_is_told_with_pointer_line_and_remedy(texts, name):
    """The pointer holds keys of the document alone, no tags of the union behind it."""
    (pointer, value), expected = UNFIT[name]

    first = problems(Manifest, changed(texts[Manifest], pointer, value))[0]

    assert first.line is not None
    assert replace(first, line=None, column=None) == expected


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"metadata": {"exclude_special_tokens": "yes"}}, {"/metadata/exclude_special_tokens"}),
        ({"metadata": {"exclude_special_tokens": ["yes"]}},
         {"/metadata/exclude_special_tokens", "/metadata/exclude_special_tokens/0"}),
        ({"metadata": {"seqpos_slice": ["x"]}}, {"/metadata/seqpos_slice/0"}),
        ({"metadata": {"sequence_separator_token": []}}, {"/metadata/sequence_separator_token"}),
        ({"metadata": {"num_dead_features": "many"}}, {"/metadata/num_dead_features"}),
        ({"metadata": 3}, {"/metadata"}),
        ({"k": "3"}, {"/k"}),
        ({"architecture": "topc"}, {"/architecture"}),
    ],
)  # fmt: skip
def test_a_pointer_into_a_configuration_names_its_keys(change, pointers):
    """However many arms a union has."""
    value = json.loads(config_text("layer_1/topk")) | change

    assert {problem.pointer for problem in problems(CONFIG, value)} == pointers


def test_a_pointer_into_a_crosscoder_names_its_keys():
    """Below two unions, one of them with tags."""
    found = problems(CONFIG, CROSSCODER | {"input": {"kind": "parameters"}, "statistics": {"preprocess": "whiten"}})

    assert [problem.pointer for problem in found] == ["/input/parameter", "/statistics/preprocess"]
    (missing,) = problems(CONFIG, CROSSCODER | {"input": {"kind": "tokens"}})
    assert replace(missing, column=None) == Problem(
        "value", "/input/kind", "unknown kind 'tokens'", missing.line, "activations, parameters", "tokens"
    )


def test_an_unknown_architecture_is_told_with_the_closest():
    """`topc` is probably `topk`; nothing at all is missing."""
    (wrong,) = problems(CONFIG, {"architecture": "topc"})
    missing, *_ = problems(CONFIG, {})

    assert wrong.sentence == "unknown architecture 'topc', did you mean 'topk'?"
    assert missing.sentence == "the required key 'architecture' is missing"
    assert "gated, jumprelu, " in wrong.expected


def test_every_problem_is_listed_up_to_a_hundred(texts):
    """A broken generator repeats itself."""
    manifest = json.loads(texts[Manifest])
    manifest["artifacts"] = [artifact | {"extra": 1} for artifact in manifest["artifacts"]]
    assert len(problems(Manifest, manifest)) == 4

    manifest["artifacts"] = manifest["artifacts"] * 100
    assert len(problems(Manifest, manifest)) == MAX_PROBLEMS


def test_a_long_list_of_problems_is_told_with_the_lines_of_the_text_itself(texts):
    """Only the beginning is checked then; the lines are still those of the document as it stands."""
    manifest = json.loads(texts[Manifest])
    broken = json.dumps({"artifacts": [{"id": i} for i in range(3000)], "zz": 1} | {"release": manifest["release"]})

    found = check_text(Manifest, broken.replace('{"id": 1}', '\n\n{"id": 1}'))[1]

    assert len(found) == MAX_PROBLEMS
    assert {problem.line for problem in found if problem.pointer.startswith("/artifacts/0")} == {1}
    assert {problem.line for problem in found if problem.pointer.startswith("/artifacts/5")} == {3}


@pytest.mark.parametrize(
    "entries", ['{"artifacts": [%s]}', '{"sites": {%s}}', '{"artifacts": [{"claims": [%s]}]}', "[%s]"]
)
def test_a_million_entries_are_one_problem(entries):
    """Told in seconds; each of them checked would take minutes and gigabytes."""
    many = ",".join(f'"s{i}": 1' if "sites" in entries else "{}" for i in range(10**6))
    start = time.process_time()

    (problem,) = check_text(Manifest, entries % many)[1]

    assert problem.sentence.startswith("1000000 entries in ")
    assert problem.sentence.endswith("; 20000 is the most in one release, split it")
    assert time.process_time() - start < 20


def test_a_deep_value_beside_a_long_list_is_a_problem():
    """The two limits together leave nothing to recurse into."""
    text = '{"artifacts": [' + ",".join(["0"] * 2000) + '], "x": ' + "[" * 900 + "]" * 900 + "}"

    assert [problem.sentence for problem in check_text(Manifest, text)[1]] == ["nested too deeply to be read"]


def test_reading_a_document_raises_with_file_and_pointer(tmp_path):
    """The first problem is the message."""
    path = tmp_path / "manifest.json"
    for text, message in {
        "{": f"{path}: not JSON: Expecting property name enclosed in double quotes (column 2)",
        "{}": f"{path}#/release: the required key 'release' is missing",
        "\ufeff{}": f"{path}: the document starts with a UTF-8 byte order mark; save it without one",
    }.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DocumentError) as caught:
            Manifest.read(path)
        assert str(caught.value) == message


def test_a_newer_minor_is_read_and_another_major_is_not(texts):
    """1.7 may say more; 2.0 may mean something else."""
    assert Manifest.from_text(canonical(changed(texts[Manifest], "/schema_version", "1.7"))).schema_version == "1.7"
    for version in ("2.0", "1", "1.x", "1.٣", 1.0, "1.00000"):
        assert problems(Manifest, changed(texts[Manifest], "/schema_version", version))


def test_nan_is_refused_in_python_too():
    """What cannot be written is not taken."""
    rules = {"pre_encoder_subtraction": "none", "activation": "relu", "gate_quantity": "pre_activation"}

    with pytest.raises(ValidationError):
        Semantics.model_validate(rules | {"k": float("nan")})


def test_a_configuration_is_returned_with_no_problems():
    """And the other way round."""
    config, found = check_config(config_text("layer_1/topk"))

    assert config is not None
    assert found == []
