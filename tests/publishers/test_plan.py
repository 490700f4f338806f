"""A plan is made from a report without errors, and of that report's bytes only."""

import json

import jsonschema
import pytest

from saereg.errors import InvalidReleaseError
from saereg.publishers.plan import Target, local_state, make_plan, state_digest
from saereg.registry.validators.runner import validate
from saereg.schemas.export import schema
from saereg.schemas.index import Index
from saereg.schemas.plan import Plan
from saereg.schemas.settings import Ignore, Settings
from tests.cases.tools import TOPK, config, edit, reindex


def test_a_report_with_errors_is_refused(release):
    """With the first of them, and what to run."""
    path = release / "layer_1/topk/cfg.json"
    path.write_text(path.read_text().replace('"k": 3', '"k": 4'))
    report = validate(release, "header")
    with pytest.raises(InvalidReleaseError) as refused:
        make_plan(release, report, Target("dir:out", None))
    first = report.errors[0]
    assert str(refused.value) == (
        f"tiny-saes 1.0.0 has {len(report.errors)} error{'s' * (len(report.errors) > 1)}, first {first.code}: "
        f"{first.message}; nothing was published. See: saereg validate {release} --level header"
    )
    assert refused.value.exit_code == 1


def test_a_report_that_left_weights_out_is_refused(release):
    """An error that fits no equation may be ignored; what was not looked at for it is not published as if it were."""
    config(TOPK, lambda c: c.update(k=400))(release)
    accepted = Ignore(rules=("SR212", "SR215", "SR4"), reason="to be mended one day")
    report = validate(release, "weights", settings=Settings(ignore=(accepted,)))
    assert report.errors == ()

    with pytest.raises(InvalidReleaseError, match="the weights of layer_1/topk were not looked at"):
        make_plan(release, report, Target("dir:out", None))


def test_a_warning_is_no_reason_to_refuse(release):
    """Only errors are."""
    (release / "notes.txt").write_text("not indexed\n")
    report = validate(release, "header")
    assert [finding.severity for finding in report.findings] == ["warning"]
    assert make_plan(release, report, Target("dir:out", None)).release == "tiny-saes 1.0.0"


def test_a_report_that_is_too_shallow_is_refused(release):
    """Header is the least; a caller may ask for more."""
    with pytest.raises(InvalidReleaseError) as refused:
        make_plan(release, validate(release, "layout"), Target("dir:out", None))
    expected = f"validated at level layout, but header is needed. Run: saereg validate {release} --level header"
    assert str(refused.value) == expected
    with pytest.raises(InvalidReleaseError, match="validated at level header, but weights is needed"):
        make_plan(release, validate(release, "header"), Target("dir:out", None), at_least="weights")


@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_a_report_on_other_bytes_is_refused(release, name, report_of):
    """One space more, and the report speaks of something else."""
    report = report_of(release)
    path = release / name
    path.write_text(path.read_text() + " ")
    with pytest.raises(InvalidReleaseError) as refused:
        make_plan(release, report, Target("dir:out", None))
    assert str(refused.value) == f"{release} has changed since it was validated; validate it again"


def test_the_report_of_another_release_is_refused(release, next_release, report_of):
    """A report cannot be used for what it did not see."""
    with pytest.raises(InvalidReleaseError, match="has changed since it was validated"):
        make_plan(next_release, report_of(release), Target("dir:out", None))


def test_only_what_manifest_and_index_name_is_planned(release, report_of):
    """Whatever else lies in the folder stays there."""
    for stray in ("notes.txt", "more.csv", ".git/config", "layer_1/topk/.DS_Store", "index.json.bak"):
        (release / stray).parent.mkdir(exist_ok=True)
        (release / stray).write_text("stray\n")
    plan = make_plan(release, report_of(release), Target("dir:out", None))
    named = {file.path for file in Index.read(release / "index.json").all_files()}
    assert {operation.path for operation in plan.operations} == named | {"manifest.json", "index.json"}
    assert {operation.action for operation in plan.operations} == {"add"}
    assert [operation.path for operation in plan.operations] == sorted(operation.path for operation in plan.operations)


def test_every_difference_has_its_operation(release, next_release, report_of):
    """Add, change, same, remove."""
    held = local_state(release)
    plan = make_plan(next_release, report_of(next_release), Target("dir:out", held))
    actions = {operation.path: operation.action for operation in plan.operations}
    assert actions["NOTICE.md"] == "add"
    assert actions["README.md"] == actions["manifest.json"] == actions["index.json"] == "change"
    assert actions["layer_1/topk/sae_weights.safetensors"] == "same"
    assert {path for path, action in actions.items() if action == "remove"} == {
        f"W_U/cross-snapshot-2/{name}" for name in ("cfg.json", "golden.safetensors", "weights.safetensors")
    }
    assert plan.base == state_digest(held)
    assert not plan.is_noop


def test_a_target_that_holds_the_release_makes_a_plan_without_work(release, report_of):
    """And one byte more makes it one with work."""
    held = local_state(release)
    assert make_plan(release, report_of(release), Target("dir:out", held)).is_noop
    assert not make_plan(release, report_of(release), Target("dir:out", held | {"x": (1, "0" * 64)})).is_noop
    assert make_plan(release, report_of(release), Target("dir:out", None)).base is None
    assert make_plan(release, report_of(release), Target("dir:out", {})).base == state_digest({})


def test_a_plan_is_a_document(release, report_of):
    """It fits its schema, and text → value → text is the identity."""
    plan = make_plan(release, report_of(release), Target("dir:out", None))
    jsonschema.validate(json.loads(plan.text()), json.loads(schema("plan")))
    assert Plan.from_text(plan.text()).text() == plan.text()
    assert plan.validated_at_level == "header"


def test_the_digest_of_a_state_does_not_depend_on_order_but_on_all_else():
    """Path, size and sha256."""
    one, two = ("a", (1, "0" * 64)), ("b", (2, "1" * 64))
    assert state_digest(dict([one, two])) == state_digest(dict([two, one]))
    others = [{}, dict([one]), {"a": two[1], "b": one[1]}, {"a": (1, "0" * 64), "b": (3, "1" * 64)}]
    assert len({state_digest(state) for state in [dict([one, two]), *others]}) == 5


def test_a_plan_says_what_was_ignored_and_graded_down(release):
    """Without errors is not the same as without findings that somebody decided to live with."""
    edit(release / "manifest.json", lambda m: m.pop("tokens"))
    edit(release / "manifest.json", lambda m: m["base_models"]["tiny"].pop("revision"))
    reindex(release)
    ignore = Ignore(rules=("SR301",), reason="the model has no revision")
    report = validate(release, settings=Settings(ignore=(ignore,), severity={"SR321": "note"}))

    plan = make_plan(release, report, Target("dir:out", None))

    assert (plan.ignored, plan.lowered) == (1, 1)
