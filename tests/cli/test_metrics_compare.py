"""`saereg metrics compare`: which claims the weights bear out, and which definition the others follow."""

import csv
import io
import json

import pytest

from saereg.registry.build import build
from tests.cases.tools import JUMP, TOPK, artifact_of, edit

CLAIMS = [
    {"metric": "mse_per_row", "value": 20.96},
    {"metric": "mse_per_row", "value": 5.241},
    {"metric": "l0", "value": 9.5},
    {"metric": "nmse_uncentred_row", "value": 0.3265, "kind": "training_running_mean"},
]
"""One of each verdict, in their order."""


def claims(place, *wanted: dict, artifact: str = JUMP) -> None:
    values = [{"evaluation": "held-out"} | claim for claim in wanted]
    edit(place / "release/manifest.json", lambda m: artifact_of(m, artifact).update(claims=values))


def test_a_release_whose_claims_hold_is_clean(saereg):
    """The table has every claim; data goes to stdout, the next command to stderr."""
    answer = saereg("metrics", "compare", "release")

    assert answer.code == 0
    assert answer.out == (
        "artifact              metric              claimed  measured  verdict\n"
        "layer_1/topk          l0                        3   2.91667  verified\n"
        "W_U/cross-snapshot-2  explained_variance   -11.09  -11.0879  verified\n"
        "\n"
        "2 claims: 2 verified\n"
    )
    assert answer.next == "saereg validate release --level data --policy paper"


def test_each_claim_gets_its_verdict(saereg, place):
    """Verified, another definition, differing, not verifiable; and what would make a claim true, ready to be pasted."""
    claims(place, *CLAIMS)

    answer = saereg("metrics", "compare", f"release:{JUMP}")

    assert answer.code == 1
    assert [" ".join(line.split()) for line in answer.out.splitlines()[1:]] == [
        "layer_1/jumprelu mse_per_row 20.96 20.9637 verified",
        "layer_1/jumprelu mse_per_row 5.241 20.9637 matches mse_per_element, not mse_per_row",
        "layer_1/jumprelu l0 9.5 3.83333 differs by 5.7",
        "layer_1/jumprelu nmse_uncentred_row 0.3265 – not verifiable: a mean over training steps, while "
        "the weights still changed",
        "",
        "to state these numbers for what they are:",
        'layer_1/jumprelu claim 1: {"metric": "mse_per_element"}',
        "",
        "4 claims: 1 verified, 1 differs, 1 matches another, 1 not verifiable",
    ]
    assert answer.next == "saereg build release"


@pytest.mark.parametrize(
    ("claim", "policy", "code"),
    [(0, (), 0), (0, ("--policy", "paper"), 0), (1, (), 1), (2, (), 1), (3, (), 0), (3, ("--policy", "paper"), 1)],
)
def test_only_a_verified_claim_passes_the_policy_of_papers(saereg, place, claim, policy, code):
    """What cannot be verified is no failure elsewhere."""
    claims(place, CLAIMS[claim])

    assert saereg("metrics", "compare", f"release:{JUMP}", *policy).code == code


def test_json_and_csv_have_every_digit(saereg, place):
    """One record per claim, in both."""
    claims(place, *CLAIMS)

    records = json.loads(saereg("metrics", "compare", "release", "--format", "json").out)
    lines = list(csv.DictReader(io.StringIO(saereg("metrics", "compare", "release", "--format", "csv").out)))

    assert [r["verdict"]["verdict"] for r in records] == [line["verdict"] for line in lines]
    other, line = records[2], lines[2]
    assert (other["release"], other["artifact"], other["change"]) == ("release", JUMP, {"metric": "mse_per_element"})
    assert other["verdict"]["matches"] == line["matches"] == "mse_per_element"
    assert float(line["measured"]) == other["verdict"]["measured"] == pytest.approx(20.96366, abs=1e-4)
    assert (line["claim"], line["batch_rows"], line["evaluation"]) == ("1", "", "held-out")


def test_recorded_says_what_the_index_says(saereg, place):
    """The index of a build has what explains a claim, so the words are the same, and weights are not read."""
    claims(place, *CLAIMS, {"metric": "fve_centred_residual", "value": -4.0})
    build(place / "release")
    fresh = saereg("metrics", "compare", "release")
    for weights in (place / "release").glob("layer_1/*/sae_weights.safetensors"):
        weights.unlink()

    recorded = saereg("metrics", "compare", "release", "--recorded")

    assert (recorded.code, recorded.out) == (1, fresh.out)
    assert fresh.next == "saereg build release"
    assert recorded.next == "saereg validate release --unsafe-fixes --diff"
    shown = saereg("show", f"release:{JUMP}").out
    assert "matches mse_per_element, not mse_per_row" in shown
    assert "not verifiable a mean over training steps" in " ".join(shown.split())


def test_an_l1_is_verified_and_recorded_where_it_is_claimed(saereg, place):
    """It is no part of the canon: an index has it for a claim, and for none else; below 0 it is impossible."""
    claims(place, {"metric": "l1_norm", "value": 1.0})
    measured = json.loads(saereg("metrics", "compare", f"release:{JUMP}", "--format", "json").out)
    claims(place, {"metric": "l1_norm", "value": round(measured[0]["verdict"]["measured"], 3)})

    assert [record["verdict"]["verdict"] for record in measured] == ["differs"]
    assert saereg("metrics", "compare", f"release:{JUMP}").out.endswith("1 claim: 1 verified\n")
    build(place / "release")
    index = json.loads((place / "release/index.json").read_text())
    have = {entry["id"] for entry in index["artifacts"] for m in entry["metrics"] if m["metric"] == "l1_norm"}
    assert have == {JUMP}
    claims(place, {"metric": "l1_norm", "value": -1.0})
    assert "l1_norm = -1 is impossible: it cannot be negative" in saereg("validate", "release").out


def test_conditions_choose_artifacts(saereg):
    """As in `ls`."""
    answer = saereg("metrics", "compare", "release", "--where", "kind = crosscoder")

    assert "1 claim: 1 verified" in answer.out
    assert "layer_1" not in answer.out


def test_several_releases_are_told_apart(saereg, place):
    """The first column is a reference that other commands take."""
    answer = saereg("metrics", "compare", "release", place / "release/layer_1/topk")

    found = [line.split()[0] for line in answer.out.splitlines()[1:4]]
    assert found == ["release:layer_1/topk", "release:W_U/cross-snapshot-2", f"{place}/release:layer_1/topk"]
    assert "3 claims: 3 verified" in answer.out
    assert all(saereg("show", reference).code == 0 for reference in found)


def test_a_release_without_claims_is_nothing_to_compare(saereg, place):
    """Silence would look like success."""
    claims(place)

    answer = saereg("metrics", "compare", f"release:{JUMP}")

    assert (answer.code, answer.out) == (5, "")
    assert answer.err == f"error: release:{JUMP}: no artifact states a claim, so there is nothing to compare\n"


def test_a_release_without_evaluations_says_so_in_one_line(saereg, place):
    """Nothing is loaded; every claim is not verifiable."""
    edit(place / "release/manifest.json", lambda m: m.update(evaluations={}))
    for artifact, metric in ((TOPK, "l0"), ("W_U/cross-snapshot-2", "explained_variance")):
        stated = {"claims": [{"metric": metric, "value": 3.0}]}
        edit(place / "release/manifest.json", lambda m, a=artifact, s=stated: artifact_of(m, a).update(s))

    answer = saereg("metrics", "compare", "release")

    assert answer.code == 0
    assert "2 claims: 2 not verifiable" in answer.out
    assert answer.err.splitlines()[0] == "release names no evaluation, so no claim of it can be recomputed"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("nowhere",), 5, "error: nowhere is not a folder"),
        (("release:layer_9",), 2, "error: unknown artifact 'layer_9'"),
        (("release", "--where", "nonsense"), 2, "error: unknown field 'nonsense'"),
        (("release", "--where", "l0 > 1e9"), 5, "error: release: no artifact meets l0 > 1e9"),
        (("release/evaluation",), 5, "error: release/evaluation holds no manifest.json"),
        (("release", "--model", "tiny"), 2, "error: --model tiny: expected KEY=PATH"),
        (("release", "--device", "abacus"), 2, "error: "),
        ((), 2, "error: missing argument"),
    ],
)
def test_a_wrong_command_is_one_line(saereg, words, code, line):
    """And an exit code of the table."""
    answer = saereg("metrics", "compare", *words)

    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith(line)
    assert "Traceback" not in answer.err


def test_one_artifact_that_cannot_be_measured_does_not_hide_the_others(saereg, place):
    """Its problem is one line on stderr, and the run fails."""
    (place / "release" / TOPK / "sae_weights.safetensors").write_bytes(b"short")

    answer = saereg("metrics", "compare", "release")

    assert (answer.code, "1 claim: 1 verified" in answer.out) == (1, True)
    assert answer.err.splitlines()[0].startswith("error: ")
    assert "sae_weights.safetensors" in answer.err.splitlines()[0]


def test_a_claim_of_an_evaluation_that_cannot_be_had_here_is_not_verifiable(saereg, place):
    """It needs the checkpoints of a base model; the others are judged all the same."""
    values = {"source": "parameters", "tensor": "embed_out.weight", "steps": [0, 1000], "rows": 12, "site": "W_U"}
    edit(place / "release/manifest.json", lambda m: m["evaluations"].update(vocabulary=values))

    answer = saereg("metrics", "compare", "release")

    assert answer.code == 0
    assert "1 verified, 1 not verifiable" in answer.out
    assert "give --model tiny=FOLDER" in answer.out


def test_a_claim_on_data_that_do_not_fit_is_one_line_and_the_others_are_judged(saereg, place):
    """Of another shape, with targets, or gone: the line names artifact, evaluation and file, and the run fails."""
    gone = {"source": "activations", "path": "evaluation/gone.safetensors", "rows": 12, "site": "block-1"}
    edit(place / "release/manifest.json", lambda m: m["evaluations"].update(gone=gone))
    wrong = [{"metric": "l0", "value": 3.0, "evaluation": name} for name in ("vocabulary", "held-out-mlp", "gone")]
    claims(place, CLAIMS[0], *wrong)

    answer = saereg("metrics", "compare", f"release:{JUMP}")

    assert answer.code == 1
    assert "4 claims: 1 verified, 3 not verifiable" in answer.out
    assert "not verifiable: the data of 'vocabulary' do not fit: W_U.safetensors: " in answer.out
    assert answer.err.splitlines()[:-1] == [
        "error: layer_1/jumprelu on 'gone': evaluation/gone.safetensors: cannot be read: No such file or directory",
        "error: layer_1/jumprelu on 'held-out-mlp': layer-1.safetensors: has targets, but the dictionary reconstructs "
        "its input",
        "error: layer_1/jumprelu on 'vocabulary': W_U.safetensors: x has shape (12, 2, 4), the dictionary reads "
        "(rows, 4)",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("metrics", "compare", "release"),
        ("metrics", "recompute", "release"),
        ("metrics", "transfer", "release", "--site", "W_U"),
        ("build", "release"),
        ("validate", "release", "--level", "data"),
    ],
)
def test_a_model_that_no_release_names_is_refused(saereg, place, words):
    """It would be ignored."""
    answer = saereg(*words, "--model", "foo=bar")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: unknown base model of --model 'foo'; known: tiny")


def test_an_empty_word_is_not_the_current_folder(saereg, place, monkeypatch):
    """Such as that of a variable of the shell that is not set."""
    monkeypatch.chdir(place / "release")
    for words in (("metrics", "compare"), ("validate",), ("build",), ("metrics", "recompute"), ("ls",)):
        answer = saereg(*words, "")
        assert (answer.code, answer.err) == (2, "error: '' names no folder; the current one is '.'\n"), words
    for data in ("", "#x"):
        answer = saereg("metrics", "recompute", ".:layer_1/topk", "--data", data)
        assert (answer.code, answer.out) == (2, "")
        assert "names no file; the current folder is '.'" in answer.err
