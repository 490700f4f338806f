"""`saereg metrics transfer`: a published study's figures, whole releases, and what it refuses before it computes."""

import csv
import io
import json

import pytest
import torch
from safetensors.torch import save_file

from saereg.registry.build import build
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint
from saereg.schemas.document import check_text
from saereg.schemas.manifest import Manifest
from saereg.schemas.transfer import TransferMatrix
from tests.registry.factories import checkpoint, config

STUDY = {
    ("A", "A"): (0.001241, 0.9911),
    ("A", "B"): (0.005195, 0.9681),
    ("B", "A"): (0.024533, 0.8244),
    ("B", "B"): (0.010940, 0.9329),
}
"""(trained on, evaluated on) → mean squared error and R², as a study of Pythia-70M printed them, for prose (A) and code
(B); it also printed that A→B / A→A is 4.19x and B→A / B→B 2.24x in mean squared error."""

VARIANCE = {"A": 0.1397, "B": 0.1630}
"""Variance per element of each corpus: the only ones with which all eight figures agree, to their printed digits."""


def study(folder) -> None:
    """Write two dictionaries and two corpora whose errors are those of the study.

    Each corpus varies along a direction of its own, and each dictionary shrinks each direction by a factor of its own:
    ReLU(x) and ReLU(−x) give back s·x, whose error is (1 − s)² of the variance.
    """
    for at, name in enumerate("AB"):
        x = torch.zeros(4, 2)
        x[:, at] = torch.tensor([1.0, -1.0, 1.0, -1.0]) * (2 * VARIANCE[name]) ** 0.5
        save_file({"x": x}, folder / f"{name}.safetensors")
    for name in "AB":
        scale = torch.tensor([1 - (STUDY[name, other][0] / VARIANCE[other]) ** 0.5 for other in "AB"])
        weights = {
            "W_enc": torch.cat([torch.eye(2), -torch.eye(2)], 1),
            "W_dec": torch.cat([torch.diag(scale), -torch.diag(scale)]),
            "b_enc": torch.zeros(4),
            "b_dec": torch.zeros(2),
        }
        write_checkpoint(Checkpoint(config("standard", d_in=2, d_sae=4), weights), folder / f"sae_{name}", "saelens")


COMMAND = ("metrics", "transfer", "A=sae_A", "B=sae_B", "--data", "A=A.safetensors", "--data", "B=B.safetensors")


def test_the_figures_of_a_study_come_out_to_their_printed_digits(saereg, place):
    """All eight, and both ratios; and what it did not print: the share of the variance falls by less than the error."""
    study(place)
    answer = saereg(*COMMAND, "--format", "json")
    matrix, problems = check_text(TransferMatrix, answer.out)
    assert (answer.code, problems) == (0, [])
    for (trained, on), (error, r2) in STUDY.items():
        cell = matrix.cell(trained, on)
        assert round(cell.value("mse_per_element"), 6) == error
        assert round(cell.value("explained_variance"), 4) == r2
        assert cell.at_home == (trained == on)
    lost = {
        (cell.dictionary, d.metric): round(d.value, 2)
        for cell in matrix.cells
        for d in cell.degradation
        if d.kind == "ratio"
    }
    assert (lost["A", "mse_per_element"], lost["B", "mse_per_element"]) == (4.19, 2.24)
    assert (lost["A", "fvu"], lost["B", "fvu"]) == (3.59, 2.62)
    assert {cell.value("l0") for cell in matrix.cells} == {1.0}


def test_the_text_has_a_matrix_per_metric_and_the_ratios(saereg, place):
    """Home is marked."""
    study(place)
    lines = saereg(*COMMAND).out.splitlines()
    assert lines[0].split() == ["explained_variance", "A", "B"]
    assert lines[1].split() == ["A", "0.99112*", "0.96813"]
    assert lines[2].split() == ["B", "0.82439", "0.93288*"]
    away = next(line for line in lines if line.startswith("A→B / A→A"))
    assert away.split()[3:] == ["-0.02299", "4.19x", "3.59x", "+0", "1.08x"]
    l1 = lines[lines.index(next(line for line in lines if line.startswith("l1_norm "))) :]
    # each row has one latent, of the size of its one value
    assert [line.split() for line in l1[1:3]] == [["A", "0.52858*", "0.57096"], ["B", "0.52858", "0.57096*"]]
    assert saereg(*COMMAND).next.endswith("--data B=B.safetensors --format markdown")


def test_csv_has_a_line_per_cell_and_markdown_tables(saereg, place):
    """For a spreadsheet, and for a card."""
    study(place)
    lines = list(csv.DictReader(io.StringIO(saereg(*COMMAND, "--format", "csv").out)))
    assert [(line["dictionary"], line["corpus"], line["at_home"]) for line in lines] == [
        ("A", "A", "True"), ("A", "B", "False"), ("B", "A", "False"), ("B", "B", "True"),
    ]  # fmt: skip
    assert float(lines[1]["mse_per_element_ratio"]) == pytest.approx(0.005195 / 0.001241)
    assert lines[0]["mse_per_element_ratio"] == ""
    assert float(lines[2]["l1_norm"]) == pytest.approx((2 * VARIANCE["A"]) ** 0.5)
    assert float(lines[2]["l1_norm_ratio"]) == pytest.approx((VARIANCE["A"] / VARIANCE["B"]) ** 0.5)
    assert "l0_positive" not in lines[0]
    text = saereg(*COMMAND, "--format", "markdown", "--metric", "fvu").out
    assert "| `fvu` | A | B |\n| --- | ---: | ---: |\n| A | **0.0088833** | 0.031871 |" in text
    assert "| A→B / A→A | 3.59x |" in text


def test_another_metric_is_shown_and_what_is_none_is_refused(saereg, place):
    """By its id."""
    study(place)
    assert saereg(*COMMAND, "--metric", "dead_fraction").out.startswith("dead_fraction")
    assert saereg(*COMMAND, "--metric", "r2").err.startswith("error: unknown metric 'r2'")
    answer = saereg(*COMMAND, "--metric", "fve_centred_residual")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: --metric fve_centred_residual: not of a matrix")


def two_corpora(release) -> None:
    """Give a release a second corpus at its site, and say what its dictionaries were trained on."""
    save_file(
        {"x": torch.randn(15, 4, generator=torch.Generator().manual_seed(5)) * 3},
        release / "evaluation/code.safetensors",
    )
    value = json.loads((release / "manifest.json").read_text())
    value["datasets"]["code"] = {"id": "tiny/code"}
    value["evaluations"]["held-out"]["dataset"] = "text"
    value["evaluations"]["code"] = {
        "source": "activations",
        "path": "evaluation/code.safetensors",
        "rows": 15,
        "site": "block-1",
        "dataset": "code",
    }
    for artifact, dataset in zip(value["artifacts"], ("text", "code"), strict=False):
        artifact["training"] = {"dataset": dataset}
    (release / "manifest.json").write_text(Manifest.from_text(json.dumps(value)).text())
    build(release)


def test_a_release_with_two_corpora_needs_no_other_word(saereg, place):
    """Its evaluations are the corpora, its data sets the homes; the numbers are those that its index records."""
    two_corpora(place / "release")
    answer = saereg("metrics", "transfer", "release:layer_1/topk", "release/layer_1/jumprelu", "--format", "json")
    matrix, _ = check_text(TransferMatrix, answer.out)
    assert [(d.name, d.home) for d in matrix.dictionaries] == [
        ("layer_1/topk", "held-out"),
        ("layer_1/jumprelu", "code"),
    ]
    assert [c.name for c in matrix.corpora] == ["code", "held-out"]
    index = {entry["id"]: entry for entry in json.loads((place / "release/index.json").read_text())["artifacts"]}
    for cell in matrix.cells:
        recorded = [m for m in index[cell.dictionary]["metrics"] if m["evaluation"] == cell.corpus]
        assert len(recorded) >= 6
        for one in recorded:
            assert cell.measurement(one["metric"]).value == one.get("value")
            assert cell.measurement(one["metric"]).tokens == one.get("tokens")


def test_many_artifacts_of_one_release_at_one_site(saereg, place):
    """A release with several sites is asked which; a transcoder beside them reads the same and predicts another."""
    answer = saereg("metrics", "transfer", "release")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(
        "error: release holds artifacts at 3 sites (block-1, block-1:block-1-mlp, W_U); choose"
    )
    assert saereg("metrics", "transfer", "release", "--site", "W_U").code == 0
    answer = saereg("metrics", "transfer", "release", "--site", "W_E")
    assert answer.err.startswith(
        "error: release has no artifact at site 'W_E'; its sites are block-1, block-1:block-1-mlp, W_U"
    )


@pytest.mark.parametrize("site", ["block-1:block-1-mlp", "block-1 → block-1-mlp"])
def test_what_reads_a_site_and_predicts_another_is_chosen_by_both(saereg, place, site):
    """And the next command says again which was chosen."""
    answer = saereg("metrics", "transfer", "release", "--site", site, "--metric", "fvu")
    assert "transcoder" in answer.out
    assert "topk" not in answer.out
    assert answer.next.split("release ")[1].startswith("--metric fvu --site ")


REFUSED = {
    "another width": (
        ("A=wide", "--data", "A=A.safetensors"),
        "A.safetensors: x: has width 2, the dictionary reads d_in = 6",
    ),
    "another width than the first": (
        ("B=sae_B", "A=wide", "--data", "A=A.safetensors"),
        "corpus A: has rows of width 2, but dictionary A reads width 6",
    ),
    "no targets": (
        ("T=release:layer_1/transcoder", "--data", "A=release/evaluation/layer-1.safetensors"),
        "corpus A: has no targets, but dictionary T predicts another site than it reads",
    ),
    "targets": (
        ("T=release:layer_1/topk", "--data", "A=release/evaluation/layer-1.safetensors#x,y"),
        "corpus A: has targets, but dictionary T reconstructs what it reads",
    ),
    "a dictionary twice": (
        ("A=sae_A", "A=sae_B", "--data", "A=A.safetensors"),
        "dictionary 'A' is there twice; give each a name of its own with NAME=PATH",
    ),
    "a corpus twice": (
        ("A=sae_A", "--data", "A=A.safetensors", "--data", "A=B.safetensors"),
        "corpus 'A' is there twice; give each a name of its own with --data NAME=FILE",
    ),
    "no corpus": (
        ("A=sae_A",),
        "no corpus: no release has an evaluation for the dictionaries; say --data NAME=FILE",
    ),
    "a corpus without a name": (("A=sae_A", "--data", "A.safetensors"), "--data A.safetensors: expected NAME=FILE"),
    "a name that is none": (
        ("A=sae_A", "--data", "my rows=A.safetensors"),
        "corpus 'my rows': a name is letters, digits, `_`, `-` and `.`",
    ),
    "an empty name": (("A=", "--data", "A=A.safetensors"), "A=: expected NAME=PATH"),
    "no such file": (("A=nowhere", "--data", "A=A.safetensors"), "nowhere: no such file or folder"),
    "no such corpus": (("A=sae_A", "--data", "A=A.npy"), "--data /"),
    "a home that is none": (
        ("A=sae_A", "--data", "A=A.safetensors", "--home", "A=C"),
        "unknown corpus 'C'; known: A",
    ),
    "a home without a corpus": (("A=sae_A", "--data", "A=A.safetensors", "--home", "A"), "--home A: expected"),
    "two homes": (
        ("A=sae_A", "--data", "A=A.safetensors", "--home", "A=A", "--home", "A=B"),
        "--home A is given twice: 'A' and 'B'",
    ),
    "a whole release under one name": (
        ("A=release", "--site", "block-1"),
        "A=release: release holds 2 artifacts; name one: A=release:",
    ),
    "workers that are none": (
        ("A=sae_A", "--data", "A=A.safetensors", "--executor", "slurm:3"),
        "--executor slurm:3: expected local:N",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line_before_anything_is_computed(saereg, place, name):
    """Exit code 2, no output."""
    study(place)
    write_checkpoint(checkpoint(config("standard")), place / "wide", "saelens")
    words, message = REFUSED[name]
    answer = saereg("metrics", "transfer", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {message}")
    assert answer.err.count("\n") == 1


def test_a_row_that_is_not_finite_is_named(saereg, place):
    """And nothing is printed of the cells before."""
    study(place)
    save_file({"x": torch.tensor([[1.0, 2.0], [float("nan"), 1.0]])}, place / "B.safetensors")
    answer = saereg(*COMMAND)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: A on B: B.safetensors: the input of row 1 is not finite\n"
