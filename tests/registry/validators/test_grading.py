"""What becomes of findings: selected, ignored with a reason, graded; never lost."""

import shutil
import tomllib

import pytest

from saereg.cli.render.rule import configuration
from saereg.errors import UnknownNameError, UsageError
from saereg.registry.build import build
from saereg.registry.validators.findings import finding
from saereg.registry.validators.grading import grading_of
from saereg.registry.validators.profiles import POLICIES, PROFILES, changes_of
from saereg.registry.validators.rules import RULES, rule
from saereg.registry.validators.runner import validate
from saereg.schemas.document import canonical
from saereg.schemas.report import CUT_SHORT, LEVELS
from saereg.schemas.settings import Ignore, Settings
from tests.cases.plant import CASES, folder_of
from tests.cases.tools import JUMP, TOPK, artifact_of, claim, config, edit, manifest
from tests.releases import tiny_release

WHY = "known since the first version"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def release(pristine, tmp_path):
    shutil.copytree(pristine.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "release"


def graded(*findings, level="header", **settings):
    """Return the graded findings and the unused ignores."""
    grading = grading_of(Settings(**settings), RULES)
    found = list(grading.grade(findings))
    return found, grading.unused(found, level)


def ignore(*rules, **where):
    return Ignore(rules=rules, reason=WHY, **where)


def test_without_settings_every_finding_is_as_its_rule_says():
    """Nothing is changed, nothing ignored."""
    before = [finding("SR003", "a"), finding("SR421", "b"), finding("SR415", "c")]

    found, unused = graded(*before)

    assert found == before
    assert unused == ()


def test_only_selected_rules_are_looked_at():
    """By code or by its beginning; errors that may not be silenced are no exception: the report names the selection."""
    before = [finding(code, "x") for code in ("SR003", "SR005", "SR301", "SR321")]

    found, _ = graded(*before, select=("SR3", "SR003"))

    assert [f.code for f in found] == ["SR003", "SR301", "SR321"]


def test_an_ignored_finding_stays_and_counts_for_nothing(release):
    """It carries its reason; the summary counts it apart."""
    (release / "notes.txt").write_text("later\n")

    report = validate(release, settings=Settings(ignore=(ignore("SR003"),)))

    (kept,) = report.findings
    assert (kept.code, kept.severity, kept.ignored) == ("SR003", "warning", WHY)
    assert (report.summary.warnings, report.summary.errors, report.summary.notes) == (0, 0, 0)
    assert report.summary.ignored == 1
    assert report.summary.unused_ignores == ()
    assert report.errors == ()


def test_weights_behind_an_ignored_error_are_looked_at(release):
    """What is accepted at one level hides nothing at the next."""
    manifest(claim("l0", 9.0))(release)

    before, after = (validate(release, "weights", settings=Settings(ignore=i)) for i in ((), (ignore("SR412"),)))

    skipped = {s.check for s in before.summary.skipped}
    assert skipped
    assert not skipped & {s.check for s in after.summary.skipped} - {"source_agrees"}
    assert "golden_replays" in skipped


def test_weights_behind_an_error_that_is_not_selected_are_not_looked_at(release):
    """Not to look at a rule is not to accept what it would find: the configuration here cannot be read."""
    edit(release / TOPK / "cfg.json", lambda c: c.pop("k"))

    report = validate(release, "data", settings=Settings(select=("SR4",)))

    assert {s.artifact for s in report.summary.skipped if s.reason == CUT_SHORT} == {TOPK}


def test_weights_that_fit_no_equation_stay_out_however_they_are_graded(release):
    """Nothing is computed with a tensor of another shape, and the report says so."""
    config(TOPK, lambda c: c.update(k=400))(release)
    settings = Settings(ignore=(ignore("SR212", "SR215", "SR4"),))

    report = validate(release, "weights", settings=settings)

    assert report.errors == ()
    assert {s.check for s in report.summary.skipped if s.reason == CUT_SHORT} >= {"golden_replays", "weights_sound"}


def test_an_ignored_error_lets_the_report_pass(release):
    """Where its rule may be silenced."""
    manifest(claim("l0", 9.0))(release)
    before, after = (validate(release, settings=Settings(ignore=i)) for i in ((), (ignore("SR412"),)))

    assert [f.code for f in before.errors] == ["SR412"]
    assert after.errors == ()
    assert [f.code for f in after.findings] == ["SR412"]


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("logs/**", "logs/a/b.txt", True),
        ("logs/*", "logs/a.txt", True),
        ("logs/*", "logs/a/b.txt", False),
        ("layer_*/cfg.json", "layer_1/cfg.json", True),
        ("layer_*/cfg.json", "layer_1/topk/cfg.json", False),
        ("**/cfg.json", "layer_1/topk/cfg.json", True),
        ("**/cfg.json", "cfg.json", True),
        ("**/cfg.json", "my_cfg.json", False),
        ("layer_?/x", "layer_1/x", True),
        ("layer_?/x", "layer_12/x", False),
        ("a.c", "abc", False),
        ("[a]", "a", False),
        ("README.md", "layer_1/README.md", False),
        ("**", "anything/at/all", True),
        ("**", None, False),
    ],
)
def test_a_pattern_of_files_stays_in_its_folder_unless_it_says_otherwise(pattern, path, fits):
    """`*` and `?` do not cross folders, `**` does; all other characters mean themselves."""
    (found,), _ = graded(finding("SR003", "x", path=path), ignore=(ignore("SR003", paths=(pattern,)),))

    assert found.ignored == (WHY if fits else None)


def test_an_ignore_with_artifacts_concerns_those_alone():
    """Also when it names files: then both must fit."""
    before = [
        finding("SR423", "a", artifact="layer_1/topk", path="manifest.json"),
        finding("SR423", "b", artifact="layer_2/topk", path="manifest.json"),
        finding("SR423", "c", path="manifest.json"),
    ]

    by_artifact, _ = graded(*before, ignore=(ignore("SR423", artifacts=("layer_1/*",)),))
    by_both, _ = graded(*before, ignore=(ignore("SR423", artifacts=("layer_1/*",), paths=("other",)),))

    assert [f.ignored for f in by_artifact] == [WHY, None, None]
    assert [f.ignored for f in by_both] == [None, None, None]


def test_the_first_fitting_ignore_gives_the_reason():
    """In the order of the configuration."""
    first = Ignore(rules=("SR0",), reason="the first reason")
    (found,), unused = graded(finding("SR003", "x", path="a"), ignore=(first, ignore("SR003")))

    assert found.ignored == "the first reason"
    assert unused == ()


def test_the_longest_prefix_gives_the_severity():
    """In whatever order they stand."""
    before = [finding("SR321", "a"), finding("SR301", "b"), finding("SR415", "c")]

    found, _ = graded(*before, severity={"SR321": "note", "SR3": "error", "SR": "warning"})

    assert [f.severity for f in found] == ["note", "error", "warning"]


def test_a_lighter_finding_of_a_rule_is_raised_by_the_configuration_alone():
    """A profile speaks of the usual findings of a rule."""
    light = finding("SR501", "x") if "SR501" in RULES else finding("SR313", "x")
    light = light.model_copy(update={"severity": "note"})

    (by_profile,), _ = graded(light, profile="saelens")
    (by_settings,), _ = graded(light, profile="saelens", severity={light.code: "warning"})

    assert by_profile.severity == ("note" if RULES[light.code].severity != "note" else "error")
    assert by_settings.severity == "warning"


def test_a_policy_adds_to_the_one_that_it_extends():
    """`paper` is `hub-public` and more."""
    before = [finding("SR423", "a"), finding("SR415", "b")]

    public, paper = (graded(*before, policy=policy)[0] for policy in ("hub-public", "paper"))

    assert [f.severity for f in public] == ["error", "note"]
    assert [f.severity for f in paper] == ["error", "error"]


def test_the_configuration_wins_over_profile_and_policy():
    """What is nearest to the release decides."""
    (found,), _ = graded(finding("SR423", "a"), policy="paper", severity={"SR4": "note"})

    assert found.severity == "note"


def test_what_a_profile_switches_off_says_which_profile_and_why():
    """It is ignored like anything else: visibly."""
    (found,), _ = graded(finding("SR321", "a"), profile="crosscoder-params")

    assert found.ignored == "rows of parameter tensors are no tokens (profile crosscoder-params)"


def test_the_level_is_that_of_the_last_that_speaks():
    """Of profile and policy; without any it is the caller's."""
    levels = {name: grading_of(Settings(policy=name), RULES).level for name in (None, *POLICIES)}

    assert levels == {None: None, "ci-fast": "header", "hub-public": "weights", "paper": "data"}


def test_a_policy_sets_the_level_of_a_run_unless_the_caller_does(release):
    """`paper` recomputes; a level that is named wins."""
    assert validate(release, settings=Settings(policy="ci-fast")).level == "header"
    assert validate(release, settings=Settings(policy="hub-public")).level == "weights"
    assert validate(release, "layout", settings=Settings(policy="hub-public")).level == "layout"


def test_the_report_says_how_it_was_graded(release):
    """Profile, policy and selection; a report on some rules is none on all."""
    report = validate(release, settings=Settings(profile="saelens", policy="ci-fast", select=("SR2",)))

    assert (report.profile, report.policy, report.selected) == ("saelens", "ci-fast", ("SR2",))


UNSILENCED = [code for code, text in RULES.items() if not text.silenceable and text.severity == "error"]


@pytest.mark.parametrize("code", UNSILENCED)
def test_errors_that_may_not_be_silenced_stay(code):
    """No prefix and no family changes them."""
    (found,), unused = graded(finding(code, "x", path="a"), ignore=(ignore("SR"),), severity={"SR": "note"})

    assert (found.severity, found.ignored) == ("error", None)
    assert unused == (), "other rules of the prefix need a deeper level"


def test_an_ignore_that_only_meets_such_an_error_is_unused():
    """It silenced nothing, and says so."""
    (found,), unused = graded(finding("SR005", "x", path="a.pt"), level="data", ignore=(ignore("SR00"),))

    assert found.ignored is None
    assert unused == ("SR00",)


def test_to_name_a_rule_that_may_not_be_silenced_is_refused():
    """In `ignore`, and in `severity` with less than error."""
    sentence = "SR005 may not be ignored or graded down; `saereg rule SR005` says why"
    for place, settings in (
        ("ignore", Settings(ignore=(ignore("SR003", "SR005"),))),
        ("severity", Settings(severity={"SR005": "warning"})),
    ):
        with pytest.raises(UsageError) as caught:
            grading_of(settings, RULES)
        assert str(caught.value) == f"{place}: {sentence}"
    grading_of(Settings(severity={"SR005": "error"}, select=("SR005",)), RULES)


def test_lighter_findings_of_such_a_rule_may_be_ignored():
    """A misspelt key of the metadata is a warning; the same rule's errors stay."""
    light = finding("SR103", "x", path="cfg.json").model_copy(update={"severity": "warning"})
    found, _ = graded(light, finding("SR103", "y", path="cfg.json"), ignore=(ignore("SR103"),))

    assert [f.ignored for f in found] == [WHY, None]


def test_an_ignore_that_silenced_nothing_is_reported():
    """With its files and artifacts, once the level looks at its rules."""
    entries = (ignore("SR003", paths=("logs/**",)), ignore("SR423", "SR425", artifacts=("layer_1/*",)))

    _, unused = graded(finding("SR003", "x", path="notes.txt"), ignore=entries)

    assert unused == ("SR003 in logs/**", "SR423, SR425 in layer_1/*")


@pytest.mark.parametrize(
    ("rules", "levels"),
    [(("SR003",), LEVELS), (("SR423",), LEVELS[1:]), (("SR421",), LEVELS[2:]), (("SR003", "SR416"), LEVELS[3:])],
)
def test_an_unused_ignore_is_reported_only_where_all_its_rules_are_looked_at(rules, levels):
    """At a cheaper level it may be needed still."""
    assert tuple(level for level in LEVELS if graded(level=level, ignore=(ignore(*rules),))[1]) == levels


def test_an_ignore_of_a_rule_that_is_not_selected_is_not_unused():
    """It was not looked at."""
    assert graded(level="data", select=("SR2",), ignore=(ignore("SR003"),))[1] == ()


@pytest.mark.parametrize("place", ["select", "severity", "ignore"])
def test_a_rule_that_does_not_exist_is_refused(place):
    """By the place that names it."""
    values = {"select": ("SR9",), "severity": {"SR9": "note"}, "ignore": (ignore("SR9"),)}

    with pytest.raises(UsageError) as caught:
        grading_of(Settings(**{place: values[place]}), RULES)

    assert str(caught.value) == f"{place}: no rule begins with 'SR9'; `saereg rule` lists them all"


@pytest.mark.parametrize(("kind", "name", "guess"), [("profile", "sealens", "saelens"), ("policy", "papers", "paper")])
def test_a_profile_or_policy_that_does_not_exist_is_refused(kind, name, guess):
    """With the close one."""
    with pytest.raises(UnknownNameError) as caught:
        grading_of(Settings(**{kind: name}), RULES)

    assert str(caught.value) == f"unknown {kind} {name!r}; did you mean {guess!r}?"


def test_profiles_and_policies_speak_of_rules_that_exist():
    """And extend what exists, and never grade down what may not be silenced."""
    for entry in (*PROFILES.values(), *POLICIES.values()):
        for code in (*entry.severity, *entry.off):
            assert code in RULES, f"{entry.name}: {code}"
            assert RULES[code].silenceable or entry.severity.get(code) == "error"
        assert entry.extends is None or entry.extends in PROFILES | POLICIES


def test_what_profiles_do_with_a_rule_is_told_with_what_they_inherit():
    """As on the page of the rule."""
    told = {change.name: (change.kind, change.severity, change.reason) for change in changes_of("SR423")}

    assert told == {"hub-public": ("policy", "error", None), "paper": ("policy", "error", None)}
    assert changes_of("SR003") == ()


def test_tolerances_reach_the_judgement_of_claims(release):
    """A declared tolerance of the claim itself wins."""
    manifest(claim("explained_variance", -4.7))(release)
    assert [f.code for f in validate(release).findings] == ["SR411"]
    loose = Settings(tolerances={"explained_variance": 0.1})
    assert validate(release, settings=loose).findings == ()

    manifest(lambda m: artifact_of(m, JUMP)["claims"][0].update(tolerance=0.01))(release)
    assert [f.code for f in validate(release, settings=loose).findings] == ["SR411"]


def test_the_same_settings_give_the_same_report(release):
    """To the last byte."""
    edit(release / TOPK / "cfg.json", lambda c: c["metadata"].update(hook_nam="x"))
    build(release)
    settings = Settings(policy="ci-fast", ignore=(ignore("SR103"),), severity={"SR": "note"})

    assert validate(release, settings=settings).text() == validate(release, settings=settings).text()


SILENCEABLE = {
    case.code: name for name, case in CASES.items() if not case.passes and not case.settings and not case.options
}


@pytest.mark.parametrize("code", [code for code in SILENCEABLE if RULES[code].silenceable])
def test_what_the_page_of_a_rule_says_silences_it(code):
    """The part of a saereg.toml on the page, taken by itself, ignores every finding of the case that fails."""
    snippet = tomllib.loads(configuration(rule(code)))
    name = SILENCEABLE[code]
    (entry,) = snippet["ignore"]
    settings = Settings.from_text(canonical(snippet))

    report = validate(folder_of(name) / "release", CASES[name].level, settings=settings)

    ignored = [f.ignored for f in report.findings if f.code == code]
    assert ignored
    assert set(ignored) == {entry["reason"]}
