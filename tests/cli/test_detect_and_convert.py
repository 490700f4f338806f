"""`saereg detect` and `saereg convert`: what they say, what they write, and what they leave behind when they refuse."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import saereg as package
from saereg.errors import WeightsError
from saereg.schemas.conversion import Conversion
from tests.upstream import D, F, K, random

TENSORS = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}


def sparsify(folder: Path, **changes) -> Path:
    """Write a folder of sparsify's, and return it."""
    folder.mkdir(parents=True)
    save_file({name: random(*shape, seed=len(name)) for name, shape in TENSORS.items()}, folder / "sae.safetensors")
    cfg = {"num_latents": F, "expansion_factor": 32, "k": K, "d_in": D, "activation": "topk"}
    cfg |= {"transcode": False, "skip_connection": False} | changes
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return folder


def test_detect_says_which_layout_and_why_and_every_switch(saereg, place):
    """And what it can be written as."""
    sparsify(place / "layers.3")
    answer = saereg("detect", "layers.3")
    lines = answer.out.splitlines()
    assert answer.code == 0
    assert lines[0].startswith("sparsify: `encoder.weight` and `W_dec` are both (d_sae, d_in)")
    assert lines[1] == f"sae topk, d_in {D}, d_sae {F}, float32"
    assert "pre_encoder_subtraction           b_dec" in lines
    assert answer.next == "saereg convert layers.3 OUT --to saelens"


def test_detect_tells_what_is_assumed_and_what_saelens_cannot_say(saereg, place):
    """An old file without the key, and groupmax."""
    folder = sparsify(place / "old", activation="groupmax", k=6)
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({key: cfg[key] for key in cfg if key != "transcode"}))
    answer = saereg("detect", "old")
    assert (
        "assumed: transcode = False, because absent from cfg.json, as in files from before sparsify had it"
        in answer.out
    )
    assert "not as saelens: SAELens: cannot say this dictionary: an SAE with activation 'groupmax'" in answer.out
    assert answer.next == "saereg convert old OUT --to saereg"


def test_detect_gives_the_same_as_json(saereg, place):
    """For programs: switches, recipes, what can be written."""
    sparsify(place / "layers.3")
    value = json.loads(saereg("detect", "layers.3", "--format", "json").out)
    assert (value["layout"], value["architecture"], value["d_sae"]) == ("sparsify", "topk", F)
    assert value["semantics"]["pre_encoder_subtraction"] == "b_dec"
    assert value["tensors"]["W_enc"] == {"key": "encoder.weight", "steps": [{"do": "transpose"}]}
    assert value["writable"]["saelens"] is None


def test_names_that_anybody_may_choose_decide_nothing(saereg, place):
    """Two Linears without a document: neither alone nor in a list are they somebody's layout."""
    (place / "zoo/own").mkdir(parents=True)
    shapes = {"encoder.weight": (F, D), "encoder.bias": (F,), "decoder.weight": (D, F), "decoder.bias": (D,)}
    torch.save({name: random(*shape) for name, shape in shapes.items()}, place / "zoo/own/sae.pt")
    sparsify(place / "zoo/layers.3")
    alone = saereg("detect", "zoo/own")
    assert (alone.code, alone.out) == (2, "")
    assert "names that anybody may have given them" in alone.err
    assert "(candidates: deepseek_r1, state_dict)" in alone.err
    listed = saereg("detect", "zoo")
    assert listed.out.splitlines()[2].split()[:2] == ["zoo/own", "deepseek_r1?"]
    assert listed.next == "saereg detect zoo/layers.3"


def test_weights_that_are_not_finite_are_not_loaded(place):
    """The same sentence as in a conversion."""
    folder = sparsify(place / "layers.3")
    weights = load_file(folder / "sae.safetensors")
    weights["W_dec"][3, 2] = float("nan")
    save_file(weights, folder / "sae.safetensors")
    with pytest.raises(WeightsError, match=r"a value at \(3, 2\) of W_dec is not finite"):
        package.load(folder)


def test_what_a_killed_run_left_is_removed_by_the_next_and_never_indexed(saereg, place):
    """The folder of a process that is gone; one of a process that runs is left alone."""
    sparsify(place / "layers.3")
    gone, running = place / ".out.999999999-ab.tmp", place / f".out.{os.getpid()}-ab.tmp"
    for folder in (gone, running):
        folder.mkdir()
        (folder / "cfg.json").write_text("{}")
    assert saereg("convert", "layers.3", "out", "--to", "saelens").code == 0
    assert (gone.exists(), running.exists()) == (False, True)
    (place / "release/.left.1-ab.tmp").mkdir()
    (place / "release/.left.1-ab.tmp/cfg.json").write_text("{}")
    saereg("build", "release", "--no-figures", "--no-features")
    assert ".left" not in (place / "release/index.json").read_text()


def test_detect_lists_the_dictionaries_below_a_folder(saereg, place):
    """One line each; what is in no layout, or damaged, is a line too."""
    sparsify(place / "run/layers.3")
    sparsify(place / "run/layers.10")
    (place / "run/odd").mkdir()
    save_file({"mystery": torch.zeros(3)}, place / "run/odd/a.safetensors")
    (place / "run/odd/b.safetensors").write_bytes(b"no")
    answer = saereg("detect", "run")
    rows = {line.split()[0]: line.split()[1] for line in answer.out.splitlines()[1:]}
    assert rows == {
        "run/layers.10": "sparsify",
        "run/layers.3": "sparsify",
        "run/odd/a.safetensors": "–",
        "run/odd/b.safetensors": "–",
    }
    assert "2 bytes are too few for a safetensors file" in answer.out
    assert answer.next == "saereg detect run/layers.10"


def test_a_converted_dictionary_computes_the_same(saereg, place):
    """Loaded through the public function, from the folder and from the file."""
    sparsify(place / "layers.3")
    answer = saereg("convert", "layers.3", "out", "--to", "saelens")
    assert answer.code == 0
    assert answer.out.splitlines()[1] == "tensors: 4 of 4 moved, bytes equal when read back"
    x = torch.randn(7, D)
    theirs, ours = package.load(place / "layers.3"), package.load(place / "out")
    assert torch.equal(theirs(x), ours(x))
    assert torch.equal(package.load(str(place / "out/sae_weights.safetensors"))(x), ours(x))
    record = Conversion.read(place / "out/conversion.json")
    assert (record.source_format, record.format, record.read_back) == ("sparsify", "saelens", "equal")
    assert answer.next == "python -c 'import saereg; print(saereg.load('\"'\"'out'\"'\"'))'"


def test_rows_of_the_model_join_the_golden_vectors(saereg, place):
    """Beside the random ones."""
    sparsify(place / "layers.3")
    save_file({"x": torch.randn(40, D, dtype=torch.bfloat16)}, place / "rows.safetensors")
    saereg("convert", "layers.3", "out", "--to", "saereg", "--activations", "rows.safetensors")
    assert load_file(place / "out/golden.safetensors")["x"].shape == (12, D)


REFUSALS = [
    (["convert", "layers.3", "out", "--to", "nonsense"], "unknown layout 'nonsense'"),
    (["convert", "layers.3", "out", "--to", "saelens", "--set", "k"], "--set k: expected name=value"),
    (["convert", "layers.3", "out", "--to", "saelens", "--set", "k=3"], "does not ask for 'k'"),
    (["convert", "layers.3", "out", "--to", "saelens", "--set", "a=1", "--set", "a=2"], "--set a is given twice"),
    (["convert", "layers.3", "release", "--to", "saelens"], "release exists; name a folder that does not"),
    (["convert", "missing", "out", "--to", "saelens"], "missing: there is no such file or folder"),
    (["convert", "groupmax", "out", "--to", "saelens"], "has no class there; use --to saereg"),
    (["convert", "layers.3", "out", "--to", "saelens", "--activations", "rows.safetensors"], "rows of shape (3,)"),
    (["convert", "layers.3", "out", "--to", "saelens", "--activations", "nan.safetensors"], "holds NaN or infinity"),
    (["convert", "layers.3", "out", "--to", "saelens", "--from", "saereg"], "cfg.json"),
    (["convert", "infinite", "out", "--to", "saelens"], "a value at (3, 2) of W_dec is not finite"),
    (["detect", "missing"], "missing: there is no such file or folder"),
    (["detect", "empty"], "holds no weight file"),
    (["detect", "odd.safetensors"], "in no layout that saereg knows; its tensors are mystery"),
]


@pytest.mark.parametrize(("words", "sentence"), REFUSALS, ids=[" ".join(words) for words, _ in REFUSALS])
def test_a_refusal_is_one_line_and_leaves_nothing_behind(saereg, place, words, sentence):
    """Exit code 2, nothing on stdout, no folder, no temporary file."""
    sparsify(place / "layers.3")
    sparsify(place / "groupmax", activation="groupmax", k=6)
    infinite = load_file(sparsify(place / "infinite") / "sae.safetensors")
    infinite["W_dec"][3, 2] = float("inf")
    save_file(infinite, place / "infinite/sae.safetensors")
    (place / "empty").mkdir()
    save_file({"mystery": torch.zeros(3)}, place / "odd.safetensors")
    save_file({"x": torch.zeros(5, 3)}, place / "rows.safetensors")
    save_file({"x": torch.full((5, D), float("nan"))}, place / "nan.safetensors")
    before = sorted(os.listdir(place))
    answer = saereg(*words)
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1
    assert sorted(os.listdir(place)) == before
