"""The rule by which canonical artifacts are chosen: what it may say, and whom it chooses."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.canonical import Candidate, Number, Rule, choices, parse_rule
from saereg.registry.files.place import FolderPlace
from saereg.registry.query import FIELDS
from saereg.registry.validators.checks.canonical import canonical_rule
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.document import canonical
from saereg.schemas.manifest import Manifest

S4 = (
    ("layer_07/width_131k/topk_64_raw", 7, 131072, 64, 0.274970, True),
    ("layer_07/width_163k/topk_64_layernorm", 7, 163840, 64, 0.277127, False),
    ("layer_15/width_163k/topk_64_raw", 15, 163840, 64, 0.303301, True),
    ("layer_15/width_163k/topk_64_layernorm", 15, 163840, 64, 0.304524, False),
    ("layer_23/width_163k/topk_64_raw", 23, 163840, 64, 0.343949, False),
    ("layer_23/width_163k/topk_128_raw", 23, 163840, 128, 0.329776, True),
    ("layer_31/width_163k/topk_128_raw", 31, 163840, 128, 0.326502, True),
)
"""A public release: id, layer, latents, k, mean normalized error over training, and what its card calls canonical."""

RULE = "lowest nmse_uncentred_row per layer"


def release(root: Path, rule: str | None, **changes: dict) -> ReleaseSubject:
    """Return the public release, with a rule, and with changes to some artifacts."""
    artifacts = []
    for name, layer, d_sae, k, error, flagged in S4:
        claim = {"metric": "nmse_uncentred_row", "value": error, "kind": "training_running_mean"}
        entry = {"id": name, "path": name, "kind": "sae", "architecture": "topk", "site": f"L{layer}", "d_in": 4096}
        entry |= {"d_sae": d_sae, "sparsity": {"k": float(k)}, "variant": name[-3:], "claims": [claim]}
        artifacts.append(entry | {"canonical": flagged} | changes.get(name.replace("/", "__"), {}))
    document = {
        "release": {"name": "olmo", "version": "1.0.0", "title": "TopK SAEs of four layers", "license": "apache-2.0"},
        "base_models": {"m": {"id": "allenai/Olmo-3-7B-Think"}},
        "sites": {f"L{n}": {"model": "m", "layer": n, "module": f"model.layers.{n}"} for n in (7, 15, 23, 31)},
        "artifacts": artifacts,
    }
    if rule is not None:
        document["canonical"] = {"rule": rule}
    (root / "manifest.json").write_text(Manifest.from_text(canonical(document)).text())
    return ReleaseSubject(FolderPlace(root))


def candidate(name: str, *, flagged: bool = False, **fields: object) -> Candidate:
    """Return an artifact with a measured L0 of `l0`, a claimed one of `claim`, and fields."""
    values = dict.fromkeys(FIELDS) | {k: v for k, v in fields.items() if k in FIELDS}
    measured = {"l0": Number(fields["l0"])} if "l0" in fields else {}
    return Candidate(name, flagged, values, measured, {"l0": Number(fields["claim"])} if "claim" in fields else {})


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("lowest nmse_uncentred_row per layer", Rule("nmse_uncentred_row", "lowest", per=("layer",))),
        ("highest ev", Rule("explained_variance", "highest")),
        ("best fvu per site, width", Rule("fvu", "lowest", per=("site", "d_sae"))),
        ("best ev per layer and k", Rule("explained_variance", "highest", per=("layer", "k"))),
        ("l0 closest to 100 per layer, d_sae", Rule("l0", "closest", 100.0, ("layer", "d_sae"))),
        ("  L0 closest to 1,000 per Layer. ", Rule("l0", "closest", 1000.0, ("layer",))),
        ("dead_fraction closest to 1e-2", Rule("dead_fraction", "closest", 0.01)),
    ],
)
def test_a_rule_is_read(text, rule):
    """Metrics and fields by their ids or short names; letters may be large, and a full stop may follow."""
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("the most interpretable one", "it is of no known form"),
        ("lowest final normalized MSE per layer", "it is of no known form"),
        ("lowest loss per layer", "unknown metric 'loss'"),
        ("lowest nmse_uncentered_row", "did you mean 'nmse_uncentred_row'?"),
        ("lowest fvu per layr", "did you mean 'layer'?"),
        ("l0 closest to many", "it is of no known form"),
        ("l0 closest to 1e999", "'1e999' is no number"),
        ("l0 closest to -", "'-' is no number"),
        ("lowest fvu per", "it is of no known form"),
    ],
)
def test_what_is_no_rule_says_why(text, problem):
    """In one line, with a guess where there is one."""
    with pytest.raises((UsageError, UnknownNameError)) as caught:
        parse_rule(text)

    assert problem in str(caught.value)


@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(["lowest", "l0", "closest", "to", "1", "per", ","]))))
def test_any_text_is_read_or_refused(words):
    """Nothing but a usage error."""
    try:
        parse_rule(words if isinstance(words, str) else " ".join(words))
    except UsageError:
        return


def test_ties_are_all_right():
    """At one distance from the target, or equal."""
    pool = [candidate("a", l0=90.0), candidate("b", l0=110.0), candidate("c", l0=111.0)]

    (choice,) = choices(parse_rule("l0 closest to 100"), pool)

    assert choice.best == ("a", "b")
    assert choice.basis == "measured"


def test_what_a_repetition_may_change_decides_nothing():
    """Two measurements within their tolerance tie, so that the choice is the same on every machine."""
    pool = [
        Candidate(name, False, dict.fromkeys(FIELDS), {"fvu": Number(value, 1e-6)}, {})
        for name, value in {"a": 0.25, "b": 0.2500005, "c": 0.26}.items()
    ]

    (choice,) = choices(parse_rule("lowest fvu"), pool)

    assert choice.best == ("a", "b")


@pytest.mark.parametrize(
    ("numbers", "basis", "best"),
    [
        ([{"l0": 3.0, "claim": 1.0}, {"l0": 2.0, "claim": 9.0}], "measured", ("1",)),
        ([{"l0": 3.0, "claim": 1.0}, {"claim": 9.0}], "claimed", ("0",)),  # one is not measured: claims for both
        ([{"l0": 3.0}, {}], "measured", ("0",)),
        ([{}, {}], None, ()),
    ],
)
def test_one_kind_of_number_is_compared_in_a_group(numbers, basis, best):
    """Never a measured one with a claimed one."""
    (choice,) = choices(parse_rule("lowest l0"), [candidate(str(i), **values) for i, values in enumerate(numbers)])

    assert (choice.basis, choice.best) == (basis, best)


def test_artifacts_without_the_field_are_in_no_group():
    """A rule per layer says nothing of a parameter dictionary; where no artifact has a layer, they are one group."""
    rule = parse_rule("lowest l0 per layer")
    layers = [candidate("a", l0=1.0, layer=0), candidate("b", l0=2.0, layer=1)]

    assert [choice.best for choice in choices(rule, [*layers, candidate("W_U", l0=0.5)])] == [("a",), ("b",)]
    assert [choice.best for choice in choices(rule, [candidate("x", l0=2.0), candidate("y", l0=1.0)])] == [("y",)]


def test_a_real_release_follows_its_rule(tmp_path):
    """Four layers, each with the lowest error of training that its card states."""
    assert list(canonical_rule(release(tmp_path, RULE))) == []


@pytest.mark.parametrize("rule", ["l0 closest to 64", "highest ev per layer", "best fvu"])
def test_a_metric_that_is_nowhere_known_is_a_note(tmp_path, rule):
    """The release states neither L0 nor explained variance."""
    (finding,) = canonical_rule(release(tmp_path, rule))

    assert (finding.code, finding.severity) == ("SR433", "note")
    assert "is neither measured nor claimed of any artifact" in finding.message


def test_no_rule_is_a_note(tmp_path):
    """As the release was published: flags, and the reason in prose."""
    (finding,) = canonical_rule(release(tmp_path, None))

    assert finding.code == "SR433"
    assert finding.message.endswith("are flagged canonical, but the manifest has no rule")


def test_a_moved_flag_is_an_error(tmp_path):
    """One finding, which names both, both numbers, and what they rest on."""
    moved = {
        "layer_23__width_163k__topk_64_raw": {"canonical": True},
        "layer_23__width_163k__topk_128_raw": {"canonical": False},
    }

    (finding,) = canonical_rule(release(tmp_path, RULE, **moved))

    assert (finding.code, finding.severity) == ("SR431", "error")
    assert finding.message == (
        "layer 23: 'layer_23/width_163k/topk_64_raw' is flagged canonical with 0.343949, but "
        "'layer_23/width_163k/topk_128_raw' has the lowest nmse_uncentred_row: 0.329776 (claimed)"
    )
    assert finding.pointer == "/artifacts/4/canonical"


def test_a_second_flag_is_an_error(tmp_path):
    """The right one is flagged too; the other one is still wrong."""
    both = {"layer_23__width_163k__topk_64_raw": {"canonical": True}}

    (finding,) = canonical_rule(release(tmp_path, RULE, **both))

    assert finding.artifact == "layer_23/width_163k/topk_64_raw"


def test_a_group_without_a_flag_is_an_error(tmp_path):
    """Whoever asks for the canonical one of layer 31 would get none."""
    (finding,) = canonical_rule(release(tmp_path, RULE, **{"layer_31__width_163k__topk_128_raw": {"canonical": False}}))

    assert finding.message.startswith("layer 31: no artifact is flagged canonical; 'layer_31/width_163k/topk_128_raw'")


def test_no_flag_at_all_is_one_error(tmp_path):
    """Not one for each layer."""
    none = {name.replace("/", "__"): {"canonical": False} for name, *_ in S4}

    (finding,) = canonical_rule(release(tmp_path, RULE, **none))

    assert finding.message.startswith("no artifact is flagged canonical; the rule chooses 'layer_07/width_131k")


def test_a_declared_failure_is_not_chosen_and_not_flagged(tmp_path):
    """The best of layer 23 is declared a failure: the other one is right, and the flag on the failure is wrong."""
    failed = {"layer_23__width_163k__topk_128_raw": {"expected_failure": "trained on the wrong text"}}
    first = list(canonical_rule(release(tmp_path, RULE, **failed)))
    failed["layer_23__width_163k__topk_128_raw"]["canonical"] = False
    failed["layer_23__width_163k__topk_64_raw"] = {"canonical": True}

    assert {finding.artifact for finding in first} == {name for name, layer, *_ in S4 if layer == 23}
    assert list(canonical_rule(release(tmp_path, RULE, **failed))) == []


def test_a_flag_whose_metric_is_unknown_is_a_note(tmp_path):
    """It may be right; nobody can tell."""
    silent = {"layer_23__width_163k__topk_128_raw": {"claims": []}}

    (finding,) = canonical_rule(release(tmp_path, RULE, **silent))

    assert finding.code == "SR433"
    assert "which is not known of it" in finding.message
