"""Whatever is wrong with a reader, a writer or a disk, one part of the proof says so."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.errors import SaeregError
from saereg.registry.conversion import convert as module
from saereg.registry.conversion import proof
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.formats import FORMATS
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.reference import Codes, Raw
from saereg.registry.readings.source import Source
from saereg.schemas.recipe import SourceTensor, moved, scaled, transposed
from tests.upstream import D, F, K, random

SWITCHES = {"d_in": D, "num_latents": D, "expansion_factor": 1, "k": K, "activation": "topk", "signed": False,
            "skip_connection": False, "transcode": False}  # fmt: skip


@pytest.fixture
def square(tmp_path) -> Path:
    """A dictionary with as many latents as inputs: no shape tells that a matrix lies the wrong way round."""
    (tmp_path / "a").mkdir()
    tensors = {
        "encoder.weight": random(D, D),
        "encoder.bias": random(D, seed=1),
        "W_dec": random(D, D, seed=2) * torch.linspace(0.2, 2, D)[:, None],
        "b_dec": random(D, seed=3),
    }
    save_file(tensors, tmp_path / "a/sae.safetensors")
    (tmp_path / "a/cfg.json").write_text(json.dumps(SWITCHES))
    return tmp_path


def with_reader(change: Callable[[Reading], Reading], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sparsify's reader make a mistake that the publisher's forward does not make."""
    right, kept = FORMATS["sparsify"], []

    def read(source: Source, given: Given) -> Reading:
        kept.append(right.read(source, given))
        return change(kept[0])

    def reference(raw: Raw, _: Reading, x: torch.Tensor) -> Codes:
        return right.reference(raw, kept[0], x)

    monkeypatch.setitem(FORMATS, "sparsify", replace(right, read=read, reference=reference))


def with_plan(**plan: SourceTensor) -> Callable[[Reading], Reading]:
    return lambda reading: replace(reading, plan={**reading.plan, **plan})


def with_rules(**rules: object) -> Callable[[Reading], Reading]:
    def change(reading: Reading) -> Reading:
        semantics = reading.cfg.semantics.model_copy(update=rules)
        return replace(reading, cfg=reading.cfg.model_copy(update={"semantics": semantics}))

    return change


MISTAKES = {
    "encoder not transposed": with_plan(W_enc=moved("encoder.weight")),
    "decoder transposed": with_plan(W_dec=transposed("W_dec")),
    "biases swapped": with_plan(b_enc=moved("b_dec"), b_dec=moved("encoder.bias")),
    "matrices swapped": with_plan(W_enc=transposed("W_dec"), W_dec=moved("encoder.weight")),
    "decoder scaled": with_plan(W_dec=moved("W_dec", scaled(1.01))),
    "encoder scaled against decoder": with_plan(
        W_enc=transposed("encoder.weight", scaled(2.0)), W_dec=moved("W_dec", scaled(0.5))
    ),
    "bias forgotten": with_plan(b_enc=SourceTensor(key=None)),
    "b_dec not subtracted": with_rules(pre_encoder_subtraction="none"),
    "k off by one": with_rules(k=float(K + 1)),
    "relu in the place of topk": with_rules(activation="relu", k=None),
    "ranked by magnitude": with_rules(activation="abstopk", rectified=False),
    "groupmax in the place of topk": with_rules(activation="groupmax", k=4.0),
    "normalized": with_rules(gate_quantity="pre_times_decoder_norm"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_reader_that_is_wrong_fails_the_golden_vectors(square, monkeypatch, name):
    """The bytes are moved faithfully, and what is written reads back; only the function tells."""
    with_reader(MISTAKES[name], monkeypatch)
    with pytest.raises(SaeregError) as caught:
        convert(Order(square / "a", square / "b", "saereg"))
    start = f"{square}/a/sae.safetensors: the result does not compute what sparsify does: "
    assert str(caught.value).startswith(start)
    assert "relative error" in str(caught.value)
    assert [path.name for path in square.iterdir()] == ["a"]


def test_the_reader_that_is_right_passes(square):
    """So that it is the mistakes that fail."""
    record = convert(Order(square / "a", square / "b", "saereg"))
    assert record.golden is not None
    assert record.golden.rows == proof.ROWS


def after_writing(change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Change a file between writing and proving."""
    real = module.write_layout

    def write(reading: Reading, layout: object, folder: Path) -> object:
        written = real(reading, layout, folder)
        change(folder)
        return written

    monkeypatch.setattr(module, "write_layout", write)


def test_a_bit_that_flips_on_the_disk_is_found(square, monkeypatch):
    """In any tensor."""
    for position in (-1, -200, -D * D * 4 - 3):

        def flip(folder: Path, position: int = position) -> None:
            raw = bytearray((folder / "weights.safetensors").read_bytes())
            raw[position] ^= 1
            (folder / "weights.safetensors").write_bytes(raw)

        with monkeypatch.context() as patch:
            after_writing(flip, patch)
            with pytest.raises(SaeregError) as caught:
                convert(Order(square / "a", square / "b", "saereg"))
        assert "what was written is not what was read: max_abs_diff " in str(caught.value)
        assert "expected the same bytes" in str(caught.value)
        assert not (square / "b").exists()


def test_a_tensor_that_is_missing_in_the_result_is_found(square, monkeypatch):
    """By what is there."""

    def drop(folder: Path) -> None:
        tensors = load_file(folder / "weights.safetensors")
        del tensors["b_enc"]
        save_file(tensors, folder / "weights.safetensors")

    after_writing(drop, monkeypatch)
    expected = "weights.safetensors: holds W_dec, W_enc, b_dec, not the tensors that were to be written"
    with pytest.raises(SaeregError, match=expected):
        convert(Order(square / "a", square / "b", "saereg"))
    assert not (square / "b").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"k": 5.0', '"k": 4.0'), ('"pre_encoder_subtraction": "b_dec"', '"pre_encoder_subtraction": "none"')],
    ids=["k", "subtraction"],
)
def test_a_document_that_says_another_function_is_found(square, monkeypatch, old, new):
    """When the result is read back."""

    def rewrite(folder: Path) -> None:
        text = (folder / "cfg.json").read_text()
        assert old in text
        (folder / "cfg.json").write_text(text.replace(old, new))

    after_writing(rewrite, monkeypatch)
    with pytest.raises(SaeregError, match="read back, it is another function than was to be written"):
        convert(Order(square / "a", square / "b", "saereg"))


def test_a_writer_that_swaps_tensors_is_found(square, monkeypatch):
    """It writes W_dec as encoder.weight and reads it back; the values are not those that were to be written."""
    right = FORMATS["sparsify"]

    def layout(cfg: object) -> object:
        made = right.layout(cfg)
        (name,) = made.files
        wrong = {**made.files[name], "encoder.weight": moved("W_dec"), "W_dec": transposed("W_enc")}
        return replace(made, files={name: wrong})

    monkeypatch.setitem(FORMATS, "sparsify", replace(right, layout=layout))
    with pytest.raises(SaeregError, match="read back, it has other values"):
        convert(Order(square / "a", square / "b", "sparsify"))


def test_activations_of_another_width_are_refused(square):
    """With both shapes."""
    with pytest.raises(SaeregError) as caught:
        convert(Order(square / "a", square / "b", "saereg", activations=torch.ones(3, F)))
    assert str(caught.value) == f"activations: rows of shape ({F},), the dictionary reads ({D},)"


def test_activations_of_the_model_are_among_the_golden_vectors(square):
    """Four of them, those that are decided most clearly."""
    record = convert(Order(square / "a", square / "b", "saereg", activations=random(20, D, seed=7)))
    assert record.golden is not None
    assert record.golden.rows == proof.ROWS + proof.REAL_ROWS
