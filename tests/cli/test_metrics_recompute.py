"""`saereg metrics recompute`: what it computes, says, keeps, and goes on with."""

import csv
import io
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import saereg as package
from saereg.schemas.index import Index
from tests.upstream import D, F, K, random

HELD_OUT = "release/evaluation/layer-1.safetensors"


def test_a_release_is_measured_artifact_by_artifact(saereg, place):
    """A table of the canon; the same numbers as in the index, in every format."""
    answer = saereg("metrics", "recompute", "release")
    lines = answer.out.splitlines()
    assert (answer.code, answer.next) == (0, "saereg metrics compare release")
    assert lines[0].split()[:5] == ["dictionary", "evaluation", "rows", "data", "ev"]
    index = Index.read(place / "release/index.json")
    assert [line.split()[0] for line in lines[1:5]] == [artifact.id for artifact in index.artifacts]
    digest = index.artifacts[0].metrics[0].data_sha256
    assert lines[1].split()[1:4] == ["held-out", "12", digest[:12]]
    expected = {(a.id, m.metric, m.units): m.value for a in index.artifacts for m in a.metrics}
    found = json.loads(saereg("metrics", "recompute", "release", "--format", "json").out)
    measured = {(r["artifact"], m["metric"], m["units"]): m["value"] for r in found for m in r["measurements"]}
    assert measured == expected
    rows = csv.DictReader(io.StringIO(saereg("metrics", "recompute", "release", "--format", "csv").out))
    numbers = {(row["artifact"], row["metric"], row["units"]): row["value"] for row in rows}
    assert numbers == {key: "" if value is None else str(value) for key, value in expected.items()}


def test_one_artifact_other_rows_and_the_definitions_of_others(saereg, place):
    """--all with a batch size lists every definition, one below the other; --where chooses artifacts."""
    answer = saereg("metrics", "recompute", "release:layer_1/topk", "--all", "--batch-rows", 4, "--data", HELD_OUT)
    assert answer.code == 0
    lines = [line.split() for line in answer.out.splitlines()]
    assert "fve_centred_residual" in {line[4] for line in lines}
    assert {line[5] for line in lines if line[4].endswith("_batch_mean")} == {"4"}
    only = saereg("metrics", "recompute", "release", "--where", "kind = transcoder")
    assert [line.split()[0] for line in only.out.splitlines()[1:]] == ["layer_1/transcoder"]
    none = saereg("metrics", "recompute", "release", "--where", "layer = 9")
    assert (none.code, none.err) == (2, "error: no artifact meets every condition\n")


def test_what_is_in_no_release_is_measured_on_rows_that_are_named(saereg, place):
    """A folder of sparsify's, on the rows of a file: what its encode and decode give."""
    folder = place / "theirs"
    folder.mkdir()
    shapes = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
    save_file({name: random(*shape, seed=len(name)) for name, shape in shapes.items()}, folder / "sae.safetensors")
    cfg = {"num_latents": F, "expansion_factor": 32, "k": K, "d_in": D, "activation": "topk", "transcode": False}
    (folder / "cfg.json").write_text(json.dumps(cfg | {"skip_connection": False}))
    save_file({"x": random(40, D, seed=5)}, place / "rows.safetensors")
    words = ("metrics", "recompute", "theirs", "--data", "rows.safetensors", "--format", "json")
    (record,) = json.loads(saereg(*words).out)
    assert (record["target"], record["artifact"], record["rows"]) == ("theirs", None, 40)
    x = random(40, D, seed=5)
    error = (package.load(folder)(x) - x).double().square().sum()
    spread = (x.double() - x.double().mean(0)).square().sum()
    values = {m["metric"]: m["value"] for m in record["measurements"]}
    assert values["fvu"] == pytest.approx(float(error / spread), rel=1e-5)
    without = saereg("metrics", "recompute", "theirs")
    assert (without.code, without.out) == (2, "")
    assert "no release says on which rows; name them with --data FILE" in without.err


def test_one_damaged_artifact_does_not_lose_the_others(saereg, place):
    """One line, exit code 1; once it is mended, only it is computed."""
    weights = place / "release/layer_1/jumprelu/sae_weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4] + b"\x00\x00\x80\x7f")
    answer = saereg("metrics", "recompute", "release", "--out", "out.jsonl")
    assert answer.code == 1
    assert len([line for line in answer.out.splitlines() if line.startswith(("layer_1", "W_U"))]) == 3
    assert "error: release:layer_1/jumprelu on held-out: layer_1/jumprelu/sae_weights.safetensors: its" in answer.err
    assert answer.err.endswith("1 measurement of 4 failed\n")
    assert len((place / "out.jsonl").read_text().splitlines()) == 3
    weights.write_bytes(whole)
    assert saereg("metrics", "recompute", "release", "--out", "out.jsonl").code == 0
    ids = [json.loads(line)["artifact"] for line in (place / "out.jsonl").read_text().splitlines()]
    assert ids == ["layer_1/topk", "layer_1/jumprelu", "layer_1/transcoder", "W_U/cross-snapshot-2"]


def test_the_same_command_again_goes_on_and_gives_the_same_bytes(saereg, place, monkeypatch):
    """A line that was torn by a kill is computed again, the others are not."""
    words = ("metrics", "recompute", "release", "--out", "out.jsonl", "--densities", "fired.safetensors")
    first = saereg(*words)
    lines, fired = (place / "out.jsonl").read_bytes(), (place / "fired.safetensors").read_bytes()
    (place / "out.jsonl").write_bytes(lines[:-100])
    (place / "fired.safetensors").unlink()
    second = saereg(*words)
    assert (second.code, second.out) == (first.code, first.out)
    assert (place / "out.jsonl").read_bytes() == lines
    assert (place / "fired.safetensors").read_bytes() == fired
    monkeypatch.setattr("saereg.registry.recompute.tasks.Place.runner", None)  # a call of it would be an error
    third = saereg(*words)
    assert (third.code, third.out) == (first.code, first.out)
    assert (place / "fired.safetensors").read_bytes() == fired
    assert sorted(path.name for path in place.iterdir()) == ["fired.safetensors", "out.jsonl", "release"]


def test_densities_are_exact_counts(saereg, place):
    """In how many of the rows each latent was active, and that as a share."""
    saereg("metrics", "recompute", "release", "--densities", "fired.safetensors")
    tensors = load_file(place / "fired.safetensors")
    x = load_file(place / HELD_OUT)["x"]
    expected = (package.load("release:layer_1/topk").encode(x) != 0).sum(0)
    assert tensors["layer_1/topk/held-out/fired"].equal(expected)
    assert tensors["layer_1/topk/held-out/rows"].item() == 12
    assert tensors["layer_1/topk/held-out/density"].equal(expected.double() / 12)
    assert len(tensors) == 4 * 3


REFUSED = [
    (("nowhere",), 2, "nowhere: no such file or folder"),
    (("release", "--executor", "many"), 2, "--executor many: expected local:N"),
    (("release", "--device", "tpu"), 2, "device 'tpu' cannot be used on this machine"),
    (("release", "--data", "nothing.npy"), 2, "there is no"),
    (("release", "--out", "x", "--densities", "x"), 2, "both name x"),
    (("release", "--out", "release/manifest.json"), 2, "which is only read"),
    (("release:layer_1/topk", "--densities", "release/README.md", "--out", "x"), 2, "which is only read"),
    (("release", "--device", "meta"), 2, "device 'meta' holds no numbers"),
    (("release", "--set", "k=3"), 2, "an artifact of a release says everything itself"),
]


@pytest.mark.parametrize(("words", "code", "said"), REFUSED)
def test_what_cannot_be_done_is_one_line(saereg, place, words, code, said):
    """And nothing is left behind, or written over."""
    before = {path.name: path.stat().st_size for path in place.rglob("*") if path.is_file()}
    answer = saereg("metrics", "recompute", *words)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith("error: ")
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1
    assert {path.name: path.stat().st_size for path in place.rglob("*") if path.is_file()} == before


KEPT = {
    "weights of the release": ("--densities", "release/layer_1/topk/sae_weights.safetensors", "which is only read"),
    "a file beside them": ("--out", "release/new.jsonl", "which is only read"),
    "another safetensors file": ("--densities", "mine.safetensors", "is no file of saereg metrics recompute"),
    "another text": ("--densities", "mine.csv", "is no file of saereg metrics recompute"),
    "a folder": ("--out", "release/layer_1", "is a directory"),
    "nothing": ("--out", "", "name a file"),
    "no number": ("--memory", "nan", "expected gigabytes"),
    "infinity": ("--memory", "inf", "expected gigabytes"),
    "no rows": ("--batch-rows", "99999999999999999999", "range"),
}


@pytest.mark.parametrize("name", KEPT)
def test_nothing_is_written_over_and_no_odd_value_taken(name, place, saereg, monkeypatch):
    """One line, before anything is measured; what is there stays."""
    option, word, message = KEPT[name]
    monkeypatch.chdir(place)
    save_file({"x": torch.ones(2)}, "mine.safetensors")
    (place / "mine.csv").write_text("a,b\n")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    answer = saereg("metrics", "recompute", "release", option, word)

    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_one_reason_for_many_dictionaries_is_said_once(saereg, place):
    """Rows that nothing can read are no fault of each of them."""
    (place / "bad.npy").write_bytes(b"x")

    answer = saereg("metrics", "recompute", "release", "--data", "bad.npy")

    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("bad.npy") == answer.err.count("\n") == 1
