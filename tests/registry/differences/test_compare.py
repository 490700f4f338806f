"""What changed between two releases: every kind once, what is paired with what, and laws over random changes."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.registry.differences.compare import compared
from saereg.registry.differences.numbers import Tolerances
from saereg.registry.differences.rules import LEVELS, RULES, highest, license_change
from saereg.schemas.difference import Difference
from tests.registry.differences import documents as d

CASES = {
    "weights_changed": (d.bytes_of(0, 0, "1"), "sae_weights.safetensors", "major"),
    "config_changed": (d.bytes_of(0, 1, "1"), "cfg.json", "minor"),
    "document_changed": (d.bytes_of(0, 2, "1"), "golden.safetensors", "patch"),
    "semantics_changed": (
        lambda m, i: i["artifacts"][0]["semantics"].update(normalization={"kind": "layer_norm"}),
        "normalization.kind",
        "major",
    ),
    "tensor_changed": (
        d.evidence(0, tensors={"W_enc": {"shape": [4, 8], "dtype": "BF16", "finite": True}}),
        "W_enc",
        "major",
    ),
    "identity_changed": (d.claim(0, d_sae=16), "d_sae", "major"),
    "site_changed": (d.claim(0, site="two"), "site.layer", "major"),
    "label_changed": (d.claim(0, seed=9), "seed", "minor"),
    "facts_changed": (d.claim(0, training={"tokens": 5}), "training.tokens", "patch"),
    "canonical_unset": (d.claim(0, canonical=False), "canonical", "minor"),
    "assumption_added": (
        d.evidence(0, assumptions=[{"field": "k", "value": "2", "because": "name"}]),
        "k",
        "patch",
    ),
    "claim_changed": (
        d.claim(0, claims=[{"metric": "l0", "value": 2.1, "evaluation": "held-out"}]),
        "l0 on held-out: value",
        "patch",
    ),
    "verdict_worse": (
        d.evidence(0, verdicts=[{"claim": 0, "verdict": "differs", "measured": 2.0}]),
        "l0 on held-out",
        "patch",
    ),
    "metric_drift": (d.measured(0, 0, value=2.5), "l0 on held-out", "minor"),
    "metric_repeated": (d.measured(0, 0, value=2.0000001), "l0 on held-out", "patch"),
    "metric_other_rows": (d.measured(0, 0, data_sha256="d" * 64, value=7.0), "l0 on held-out", "minor"),
    "metric_removed": (lambda m, i: i["artifacts"][0]["metrics"].pop(0), "l0 on held-out", "minor"),
    "artifact_moved": (d.claim(0, path="elsewhere"), "path", "major"),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_change_of_one_artifact_is_told_with_its_place_and_what_it_demands(kind):
    """One change is made, and exactly this one is found."""
    mutation, where, level = CASES[kind]
    found = d.after(mutation)
    (entry,) = found.changed
    told = [(change.kind, change.where, change.level) for change in entry.changes if change.kind == kind]
    assert told == [(kind, where, level)]
    assert found.unchanged == 2
    assert found.advice is not None
    assert LEVELS.index(found.advice.level) >= LEVELS.index(level)


RELEASE = {
    "license_narrowed": lambda m, i: m["release"].update(license="cc-by-nc-4.0"),
    "license_eased": lambda m, i: m["release"].update(license="cc0-1.0"),
    "license_replaced": lambda m, i: m["release"].update(license="apache-2.0"),
    "license_changed": lambda m, i: m["release"].update(license="llama3"),
    "release_renamed": lambda m, i: m["release"].update(name="other"),
    "release_changed": lambda m, i: m["release"].update(title="Other"),
    "definition_changed": lambda m, i: m["evaluations"]["held-out"].update(rows=13),
    "definition_added": lambda m, i: m["sites"].update(three=m["sites"]["two"]),
    "definition_removed": lambda m, i: m["sites"].pop("two"),
    "withdrawal_added": lambda m, i: m.update(
        withdrawn=[{"version": "0.9.0", "kind": "yanked", "reason": "wrong", "date": "2026-01-31"}]
    ),
    "document_changed": lambda m, i: i["files"][0].update(sha256="d" * 64),
    "file_added": lambda m, i: i["files"].append({"path": "x", "size": 1, "sha256": "e" * 64, "role": "other"}),
    "document_moved": lambda m, i: i["files"][0].update(path="CARD.md"),
    "evidence_rebuilt": lambda m, i: i["generated_by"].update(saereg="2.0"),
}


@pytest.mark.parametrize("kind", RELEASE)
def test_a_change_of_the_release_as_a_whole_is_told_once(kind):
    """And no artifact is touched by it."""
    found = d.after(RELEASE[kind])
    assert d.kinds(found) == {kind}
    assert found.unchanged == 3


def test_a_site_under_another_key_is_another_name_and_no_other_place():
    """While the same key for another place moves every artifact on it."""
    both = d.after(lambda m, i: m["sites"].update(uno=m["sites"]["one"]), d.claim(0, site="uno"))
    assert d.kinds(both) == {"definition_added", "label_changed"}
    moved = d.after(lambda m, i: m["sites"]["one"].update(layer=3))
    assert moved.counts == {"definition_changed": 1, "site_changed": 3}


def test_another_base_model_is_another_place():
    """A revision of the model changes what every dictionary on it reads."""
    found = d.after(lambda m, i: m["base_models"]["tiny"].update(revision="1" * 40))
    assert found.counts["site_changed"] == 3


def test_numbers_on_other_rows_are_not_compared():
    """However far apart they are; and those on the same rows of an evaluation with another name are."""
    other = d.after(d.measured(0, 0, data_sha256="d" * 64, value=99.0))
    assert "metric_drift" not in other.counts
    (change,) = other.changed[0].changes
    assert change.note == "12 rows of sha256 aaaaaaaaaaaa, now 12 of dddddddddddd"
    renamed = d.after(
        lambda m, i: m["evaluations"].update(fresh=m["evaluations"]["held-out"]),
        d.measured(0, 0, evaluation="fresh", value=3.0),
    )
    assert renamed.counts["metric_drift"] == 1


def test_a_number_that_became_undefined_drifted_either_way():
    """Null is no zero: it is told with its reason."""
    undefined = d.documents(d.measured(0, 0, value=None, reason="no rows"))
    for pair in ((d.documents(), undefined), (undefined, d.documents())):
        (change,) = compared(*pair).changed[0].changes
        assert change.kind == "metric_drift"
        assert change.note == "defined on one side only: no rows"


def test_the_tolerance_is_that_of_the_measurements_unless_one_is_given():
    """The larger of both sides; a given one may be larger or smaller."""
    moved = d.measured(0, 0, value=2.4)
    assert "metric_drift" not in d.after(moved, d.measured(0, 0, tolerance=0.5)).counts
    exactly = d.after(d.measured(0, 0, value=2.5), tolerances=Tolerances({"l0": 0.5}))
    assert exactly.counts == {"metric_repeated": 1}
    assert "metric_drift" in d.after(moved).counts
    assert "metric_drift" not in d.after(moved, tolerances=Tolerances({"l0": 0.5})).counts
    assert "metric_drift" in d.after(d.measured(0, 0, value=2.0 + 1e-7), tolerances=Tolerances({"l0": 0.0})).counts


def test_a_source_of_a_crosscoder_can_drift_alone():
    """Its mean may stay where it was."""
    old = d.documents(d.measured(0, 0, per_source=[1.0, 3.0]))
    assert compared(old, d.documents(d.measured(0, 0, per_source=[3.0, 1.0]))).counts == {"metric_drift": 1}


def test_an_artifact_with_the_same_weights_is_renamed_and_not_removed():
    """With its folder or without: its files are compared from there."""
    found = d.after(d.renamed(1, "other/name", moved=True))
    (entry,) = found.changed
    assert (entry.old_id, entry.id, entry.paired_by) == ("layer_1/b", "other/name", "weights and identity")
    assert d.kinds(found) == {"artifact_renamed", "artifact_moved"}
    by_weights = d.after(d.renamed(1, "other/name"), d.claim(1, seed=50))
    assert by_weights.changed[0].paired_by == "weights"
    by_identity = d.after(d.renamed(1, "other/name"), d.bytes_of(1, 0, "9"))
    assert by_identity.changed[0].paired_by == "identity"
    assert "weights_changed" in by_identity.counts


def test_artifacts_with_equal_weights_are_not_paired_arbitrarily():
    """Two of each that nothing tells apart are removed and added, and a note says why; identities tell them apart."""
    twins = (d.bytes_of(0, 0, "7"), d.bytes_of(1, 0, "7"))
    away = (d.renamed(0, "x"), d.renamed(1, "y"))
    told_apart = compared(d.documents(*twins), d.documents(*twins, *away))
    assert [(e.old_id, e.id) for e in told_apart.changed] == [("layer_1/a", "x"), ("layer_1/b", "y")]
    others = (d.claim(0, seed=50), d.claim(1, seed=60))
    unclear = compared(d.documents(*twins), d.documents(*twins, *away, *others))
    assert unclear.counts == {"artifact_added": 2, "artifact_removed": 2}
    assert any("layer_1/a, layer_1/b and x, y have equal weights" in note for note in unclear.notes)


def test_swapped_ids_are_two_changed_artifacts():
    """An id is what readers hold on to: what it gives is another dictionary now."""
    found = d.after(d.renamed(0, "tmp"), d.renamed(1, "layer_1/a"), d.renamed(0, "layer_1/b"))
    assert [entry.paired_by for entry in found.changed] == ["id", "id"]
    assert found.counts["weights_changed"] == 2


def test_another_kind_under_the_same_id_is_a_changed_identity():
    """A transcoder where an SAE was: nothing of it is hidden."""
    found = d.after(d.claim(0, kind="transcoder", architecture="transcoder", site_out="two", d_out=5))
    where = {change.where: change.kind for change in found.changed[0].changes}
    assert where["kind"] == where["architecture"] == where["d_out"] == "identity_changed"
    assert where["site_out"] == "site_changed"


def test_without_an_index_only_claims_are_compared_and_that_is_said():
    """And the advice says that it may be too low."""
    manifest, index = d.documents()
    found = compared((manifest, None), (manifest, index))
    assert d.kinds(found) == {"evidence_added"}
    assert found.notes == ("old has no index.json: files, weights, semantics and measured numbers were not compared",)
    assert found.advice is not None
    assert not found.advice.is_complete
    assert compared((manifest, None), (manifest, None)).counts == {}


def test_an_index_of_an_earlier_version_lacks_verdicts_without_harm():
    """What was not said before did not become better."""
    old = d.documents(d.evidence(0, verdicts=[]))
    assert compared(old, d.documents()).counts == {"verdict_changed": 1}
    assert compared(old, d.documents(d.evidence(0, verdicts=[{"claim": 0, "verdict": "differs"}]))).counts == {
        "verdict_worse": 1
    }


def test_a_role_that_another_version_names_otherwise_changes_no_file():
    """The bytes are the same."""
    assert d.after(lambda m, i: i["files"][0].update(role="other")).counts == {"role_changed": 1}


def test_a_file_whose_role_is_disputed_counts_as_the_graver_one():
    """Other bytes of what one side calls weights are other weights."""
    old = d.documents(lambda m, i: i["artifacts"][0]["files"][0].update(role="other"))
    assert compared(old, d.documents(d.bytes_of(0, 0, "1"))).counts == {"weights_changed": 1, "role_changed": 1}


def test_words_on_a_site_move_nothing():
    """A reason that is given for a record is no place."""
    found = d.after(lambda m, i: m["sites"]["one"].update(reason="because"))
    assert found.counts == {"release_changed": 1}


LICENCES = [
    # before, now, kind, level
    ("mit", "cc-by-nc-4.0", "license_narrowed", "major"),
    ("cc-by-nc-4.0", "cc-by-sa-4.0", "license_narrowed", "major"),  # sells, and forbids closed derivatives
    ("gpl-3.0", "mit", "license_eased", "minor"),
    ("cc-by-nc-nd-4.0", "cc-by-sa-4.0", "license_eased", "minor"),
    ("mit", "apache-2.0", "license_replaced", "minor"),
    ("cc-by-nc-3.0", "cc-by-nc-4.0", "license_replaced", "minor"),
    ("gpl-3.0-only", "cc-by-sa-4.0", "license_changed", "major"),
    ("mit", "gemma", "license_changed", "major"),
    ("MIT", "mit", "release_changed", "patch"),
]


@pytest.mark.parametrize(("before", "now", "kind", "level"), LICENCES)
def test_licences_are_compared_by_what_they_forbid(before, now, kind, level):
    """What nobody can judge counts as narrower."""
    assert license_change(before, now) == kind
    assert RULES[kind].level == level


MIRRORED = {
    "artifact_added": "artifact_removed", "file_added": "file_removed", "document_added": "document_removed",
    "canonical_set": "canonical_unset", "assumption_added": "assumption_removed", "claim_added": "claim_removed",
    "verdict_worse": "verdict_better", "metric_added": "metric_removed", "proof_added": "proof_removed",
    "proof_worse": "proof_better", "evidence_added": "evidence_removed", "license_narrowed": "license_eased",
    "definition_added": "definition_removed", "withdrawal_added": "withdrawal_removed",
}  # fmt: skip
BACK = MIRRORED | {there: here for here, there in MIRRORED.items()}

MUTATIONS = [
    *(mutation for mutation, *_ in CASES.values()),
    *RELEASE.values(),
    d.renamed(0, "layer_9/z", moved=True),
    d.renamed(1, "layer_9/y"),
    d.bytes_of(0, 0, "7"),
    d.bytes_of(1, 0, "7"),
    d.bytes_of(2, 0, "7"),
    d.measured(0, 1, value=None, reason="none"),
    d.measured(1, 1, per_source=[0.5, None]),
    d.claim(2, seed=0),
    d.claim(1, kind="transcoder", architecture="transcoder", site_out="two", d_out=5),
    lambda m, i: i["artifacts"].pop(1) if len(i["artifacts"]) == 3 else None,
    lambda m, i: m["artifacts"].pop(2) if len(m["artifacts"]) == 3 else None,
]
SOME = st.lists(st.sampled_from(range(len(MUTATIONS))), max_size=5, unique=True)


def _made(chosen: list[int]) -> tuple:
    manifest, index = d.base()
    for number in chosen:
        with contextlib.suppress(LookupError):  # it changes what another one took away
            MUTATIONS[number](manifest, index)
    return d.documents(lambda m, i: (m.update(manifest), i.update(index)))


def _told(difference: Difference, *, back: bool) -> list:
    def one(change, scope) -> str:
        kind, values = (BACK.get(change.kind, change.kind), (change.new, change.old)) if back else (
            change.kind, (change.old, change.new))  # fmt: skip
        return repr((scope, kind, values))

    pairs = [((e.id, e.old_id) if back else (e.old_id, e.id), e) for e in difference.changed]
    told = [one(c, ids) for ids, e in pairs for c in e.changes] + [one(c, "") for c in difference.release]
    return sorted(told)


@settings(max_examples=50, deadline=None)
@given(first=SOME, second=SOME)
def test_a_difference_read_backwards_is_the_difference_of_the_swapped(first, second):
    """Added and removed, better and worse, old and new change places; nothing else."""
    a, b = _made(first), _made(second)
    there, back = compared(a, b), compared(b, a)
    assert there.added == back.removed
    assert there.removed == back.added
    assert there.unchanged == back.unchanged
    assert _told(there, back=True) == _told(back, back=False)


@settings(max_examples=30, deadline=None)
@given(chosen=SOME)
def test_a_release_does_not_differ_from_itself_and_a_difference_is_its_text(chosen):
    """Whatever is in it; and what is written is what is read."""
    made = _made(chosen)
    same = compared(made, made)
    assert (same.counts, same.changed, same.release, same.added, same.removed) == ({}, (), (), (), ())
    assert same.advice is not None
    assert (same.advice.level, same.advice.fits) == ("none", True)
    other = compared(d.documents(), made)
    assert Difference.from_text(other.text()) == other
    if made != d.documents():
        assert other.counts


@given(some=st.sets(st.sampled_from(sorted(RULES))), more=st.sets(st.sampled_from(sorted(RULES))))
def test_more_changes_never_demand_less(some, more):
    """The level of a set of changes is that of its highest."""
    assert LEVELS.index(highest(some | more)) >= LEVELS.index(highest(some))
