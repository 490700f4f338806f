"""Cases of the rules in `rules/tensors.py`."""

import struct
from collections.abc import Callable
from pathlib import Path

import torch

from saereg.schemas.settings import Settings
from tests.cases.tools import (
    JUMP,
    TOPK,
    TRANS,
    Case,
    artifact_of,
    config,
    header,
    manifest,
    only,
    raw_weights,
    renamed,
    tensors,
)

SAE = "layer_1/sae"
"""An id that says nothing of an architecture."""

CROSS = "W_U/cross-snapshot-2"


def _transpose(weights: dict) -> None:
    weights["W_enc"] = weights["W_enc"].T.contiguous()


def _cut_to_a_square(weights: dict) -> None:
    for name in ("W_enc", "W_dec", "b_enc", "threshold"):
        cut = weights[name][:, :4] if name == "W_enc" else weights[name][:4]
        weights[name] = cut.clone()


def _tie(weights: dict) -> None:
    weights["W_dec"] = weights["W_enc"].movedim(-1, 0).contiguous()


def _make_unit(weights: dict) -> None:
    weights["W_dec"] /= weights["W_dec"].norm(dim=1, keepdim=True)


def both(artifact: str, **values: object) -> Callable[[Path], None]:
    """Return a change of the same keys in the manifest and in cfg.json."""
    return all_of(
        config(artifact, lambda c: c.update(values)), manifest(lambda m: artifact_of(m, artifact).update(values))
    )


def claims(artifact: str, **values: object) -> Callable[[Path], None]:
    """Return a claim of the manifest about an artifact."""
    return manifest(lambda m: artifact_of(m, artifact).update(values))


def all_of(*plants: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a plant that does one thing after the other."""

    def plant(root: Path) -> None:
        for each in plants:
            each(root)

    return plant


def _as_is(weights: dict) -> None:
    """Leave the weights; with `golden`, vectors and index are made anew for another configuration."""


CASES: dict[str, Case] = {
    "truncated_weights": Case("SR200", raw_weights(TOPK, lambda raw: raw[:-16])),
    "oversized_weights": Case("SR200", raw_weights(TOPK, lambda raw: raw + b"\0" * 64)),
    "header_larger_than_file": Case("SR200", raw_weights(TOPK, lambda raw: struct.pack("<Q", 2**62) + raw[8:])),
    "offsets_past_end": Case(
        "SR200",
        raw_weights(TOPK, header(lambda h: h["b_enc"].update(shape=[1000], data_offsets=[10**6, 10**6 + 4000]))),
    ),
    "overlapping_tensors": Case("SR200", raw_weights(TOPK, header(lambda h: h["W_enc"].update(data_offsets=[0, 160])))),
    "weights_are_no_safetensors": Case("SR200", raw_weights(TOPK, lambda raw: b"PK")),
    "header_with_room_and_a_note": Case(
        "SR200",
        raw_weights(TOPK, header(lambda h: h.update(__metadata__={"note": "written by hand" + " " * 500}))),
        passes=True,
    ),
    "transposed_encoder": Case("SR201", tensors(TOPK, _transpose)),
    "square_encoder": Case(
        "SR201",
        all_of(
            both(JUMP, d_sae=4),
            tensors(JUMP, _cut_to_a_square, golden=True),
        ),
        "weights",
        passes=True,
    ),
    "missing_tensor": Case("SR202", tensors(TOPK, lambda w: w.pop("b_enc"))),
    "optimizer_tensor": Case("SR202", tensors(TOPK, lambda w: w.update({"exp_avg.W_enc": torch.zeros(2)}))),
    "encoder_that_is_the_decoder": Case(
        "SR202",
        all_of(
            renamed(JUMP, SAE),
            both(SAE, architecture="matching_pursuit"),
            tensors(SAE, lambda w: [w.pop(name) for name in ("W_enc", "b_enc", "threshold")], golden=True),
        ),
        "weights",
        passes=True,
    ),
    "nan_weight": Case("SR203", tensors(TOPK, lambda w: w["W_dec"][9, 1].fill_(torch.inf)), "weights"),
    "huge_and_finite": Case(
        "SR203", tensors(JUMP, lambda w: w["W_dec"][9, 1].fill_(1e30), golden=True), "weights", passes=True
    ),
    "declared_bfloat16": Case("SR204", config(JUMP, lambda c: c.update(dtype="bfloat16"))),
    "declared_with_torch_in_front": Case("SR204", config(JUMP, lambda c: c.update(dtype="torch.float32")), passes=True),
    "tied_claimed": Case("SR205", claims(TOPK, tied=True), "weights"),
    "tied_crosscoder_claimed": Case("SR205", claims(CROSS, tied=True), "weights"),
    "tied_denied": Case("SR205", all_of(tensors(JUMP, _tie, golden=True), claims(JUMP, tied=False)), "weights"),
    "tied_indeed": Case(
        "SR205", all_of(claims(JUMP, tied=True), tensors(JUMP, _tie, golden=True)), "weights", passes=True
    ),
    "separate_of_one_shape": Case("SR205", claims(TOPK, tied=False), "weights", passes=True),
    "jumprelu_called_standard": Case(
        "SR211",
        all_of(renamed(JUMP, SAE), both(SAE, architecture="standard")),
    ),
    "abstopk_has_the_tensors_of_topk": Case(
        "SR211", all_of(both(TOPK, architecture="abstopk"), tensors(TOPK, _as_is, golden=True)), "weights", passes=True
    ),
    "k_beyond_dictionary": Case(
        "SR212",
        lambda root: (
            config(TOPK, lambda c: c.update(k=400))(root),
            manifest(lambda m: artifact_of(m, TOPK)["sparsity"].update(k=400.0))(root),
        ),
    ),
    "k_is_the_dictionary": Case(
        "SR212",
        all_of(
            config(TOPK, lambda c: c.update(k=10)),
            manifest(lambda m: artifact_of(m, TOPK).update(sparsity={"k": 10.0}, claims=[])),
            tensors(TOPK, _as_is, golden=True),
        ),
        "weights",
        passes=True,
    ),
    "threshold_never_set": Case("SR213", tensors(JUMP, lambda w: w["threshold"].fill_(-1.0), golden=True), "weights"),
    "thresholds_of_zero": Case(
        "SR213", tensors(JUMP, lambda w: w["threshold"].zero_(), golden=True), "weights", passes=True
    ),
    "dead_decoder_rows": Case("SR214", tensors(JUMP, lambda w: w["W_dec"][2].zero_(), golden=True), "weights"),
    "faint_decoder_rows": Case(
        "SR214", tensors(JUMP, lambda w: w["W_dec"][2].fill_(1e-12), golden=True), "weights", passes=True
    ),
    "width_disagrees": Case("SR215", manifest(lambda m: artifact_of(m, JUMP).update(d_sae=12))),
    "k_of_training_alone": Case(
        "SR215", manifest(lambda m: artifact_of(m, JUMP).update(sparsity={"k": 3.5})), passes=True
    ),
    "crosscoder_with_gates_for_saelens": Case("SR216", lambda root: None, settings=Settings(profile="saelens")),
    "transcoder_for_dictionary_learning": Case(
        "SR216", only(TRANS, JUMP), settings=Settings(profile="dictionary-learning")
    ),
    "topk_for_sparsify": Case("SR216", only(TOPK), settings=Settings(profile="sparsify"), passes=True),
    "unit_norms_claimed": Case("SR217", claims(JUMP, decoder_norm="unit")),
    "unit_norms": Case(
        "SR217",
        all_of(claims(JUMP, decoder_norm="unit"), tensors(JUMP, _make_unit, golden=True)),
        "weights",
        passes=True,
    ),
    "unit_norms_by_chance": Case(
        "SR217",
        all_of(claims(JUMP, decoder_norm="free"), tensors(JUMP, _make_unit, golden=True)),
        "weights",
        passes=True,
    ),
}
"""Name of the folder → what is planted, and the one code that must be found."""
