"""SR411 to SR418 where a release is validated: recorded at level header, recomputed at level data."""

import json

import pytest

from saereg.registry.build import build
from saereg.registry.validators.runner import validate
from saereg.schemas.settings import Settings
from tests.cases.tools import JUMP, artifact_of, claim, edit, manifest, metric_of
from tests.releases import tiny_release

PARAMETERS = {"source": "parameters", "tensor": "embed_out.weight", "steps": [0, 1000], "rows": 12, "site": "W_U"}
CROSSCODER = "W_U/cross-snapshot-2"


@pytest.fixture
def release(tmp_path):
    return tiny_release(tmp_path, checkpoints=False)


def measured(release, metric: str) -> float:
    index = json.loads((release / "index.json").read_text())
    return metric_of(index, JUMP, metric)["value"]


def test_a_build_records_what_explains_a_claim(release):
    """The definition that a number follows is in the index, though no claim names it; and the verdict."""
    edit(release / "manifest.json", claim("explained_variance", 0.5))
    build(release)
    plain = json.loads((release / "index.json").read_text())
    edit(release / "manifest.json", claim("mse_per_row", round(measured(release, "mse_per_element"), 3)))

    index = build(release)

    (entry,) = [entry for entry in index.artifacts if entry.id == JUMP]
    assert [(v.verdict, v.matches) for v in entry.verdicts] == [("matches_another", "mse_per_element")]
    assert {m.metric for m in entry.metrics} == {m["metric"] for m in artifact_of(plain, JUMP)["metrics"]}


def test_a_foreign_definition_is_recorded_once_it_explains_a_claim(release):
    """So that level header says the same as the build, without weights."""
    names = {"metric": "r2_uniform_average", "value": 0.0, "evaluation": "held-out"}
    edit(release / "manifest.json", lambda m: artifact_of(m, JUMP).update(claims=[names]))
    build(release)
    stated = round(measured(release, "r2_uniform_average"), 4)
    edit(release / "manifest.json", claim("explained_variance", stated))
    build(release)

    (finding,) = validate(release).findings

    assert (finding.code, finding.expected) == ("SR418", '{"metric": "r2_uniform_average"}')
    assert finding.found == '{"metric": "explained_variance"}'
    assert measured(release, "r2_uniform_average") == pytest.approx(stated, abs=5e-5)


def test_a_definition_that_only_the_weights_show_is_found_at_level_data(release):
    """An index without numbers: the claim cannot be verified from it, and is traced when they are recomputed."""
    manifest(claim("mse_per_row", round(measured(release, "mse_per_element"), 3)))(release)
    edit(release / "index.json", lambda i: artifact_of(i, JUMP).update(metrics=[], verdicts=[]))

    report = validate(release, "data")

    assert [(f.code, f.severity) for f in report.findings if f.artifact == JUMP] == [
        ("SR415", "note"),
        ("SR418", "error"),
    ]


def test_a_definition_that_fits_at_several_batch_sizes_is_left_to_the_author(release):
    """Nothing is written into the claim, as nobody knows at which of them it was computed."""
    edit(release / "manifest.json", claim("l0", 9.5))

    def recorded(index):
        one = metric_of(index, JUMP, "l0") | {"metric": "l0_batch_mean", "value": 9.5}
        artifact_of(index, JUMP)["metrics"] += [one | {"batch_rows": size} for size in (2, 4)]

    edit(release / "index.json", recorded)

    (finding,) = [f for f in validate(release).findings if f.code == "SR418"]

    assert "l0_batch_mean at several batch_rows from 2 to 4 (9.5)" in finding.message
    assert (finding.fixable, finding.expected) == (None, None)
    assert "batch_rows" in finding.hint


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        (claim("explained_variance", 0.5), "SR411"),
        (claim("l0", 9.5), "SR412"),
        (claim("dead_fraction", 0.77), "SR414"),
        (claim("mse_per_row", 5.241), "SR418"),
        (claim("mse_per_row", 5.241, kind="last_batch"), "SR415"),
        (claim("mse_per_row", 20.96, rows=13), "SR415"),
        (claim("explained_variance_batch_mean", 0.5), "SR415"),
    ],
)
def test_under_the_policy_of_papers_only_what_is_verified_passes(release, stated, code):
    """Every other verdict is an error."""
    edit(release / "manifest.json", stated)
    build(release)

    report = validate(release, "header", settings=Settings(policy="paper"))

    assert [f.severity for f in report.findings if f.code == code] == ["error"]


def test_data_that_are_not_at_hand_are_said_to_be_skipped(release):
    """A build on another machine had the checkpoints: its claim stands at level header; here it cannot be repeated."""
    edit(release / "manifest.json", lambda m: m["evaluations"].update(vocabulary=PARAMETERS))
    elsewhere = json.loads((release / "index.json").read_text())
    build(release)
    unknown = [f for f in validate(release).findings if f.code == "SR415"]
    recorded = artifact_of(elsewhere, CROSSCODER)["metrics"]
    edit(release / "index.json", lambda i: artifact_of(i, CROSSCODER).update(metrics=recorded))
    known = [f for f in validate(release).findings if f.code == "SR415"]

    report = validate(release, "data")

    assert (len(unknown), known) == (1, [])
    (skipped,) = [s for s in report.summary.skipped if s.check == "recomputed"]
    assert (skipped.artifact, skipped.reason[:24]) == (CROSSCODER, "evaluation 'vocabulary':")
    assert "--model tiny=FOLDER" in skipped.reason
    (finding,) = [f for f in report.findings if f.code == "SR415"]
    assert "cannot be verified: the rows of embed_out.weight come from checkpoints" in finding.message


@pytest.mark.parametrize(
    ("metric", "value", "tolerance", "most"),
    [
        ("explained_variance", 0.99, 1e300, "0.05"),
        ("explained_variance", 0.78, 0.039, None),
        ("fvu", 0.04, 0.02, None),
        ("fvu", 0.04, 0.03, "0.02"),
        ("mse_per_row", 21.0, 2.0, "1.1"),
        ("mse_per_row", 21.0, 1.05, None),
        ("l0", 3, 0.5, None),
    ],
)
def test_a_tolerance_with_which_a_claim_says_nothing_is_a_warning(release, metric, value, tolerance, most):
    """From level layout on, as the index may well say that it is verified."""
    edit(release / "manifest.json", claim(metric, value, tolerance=tolerance))

    found = [f for f in validate(release, "layout").findings if f.code == "SR402"]

    assert [(f.severity, f.pointer.rpartition("/")[2]) for f in found] == [("warning", "tolerance")] * bool(most)
    assert [f.expected for f in found] == ([f"at most {most}"] if most else [])
