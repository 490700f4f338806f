"""Cases of the rules in `rules/evidence.py`."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from saereg.registry.build import build
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.evidence.golden_file import GoldenVectors, read_golden, write_golden
from saereg.registry.files.digest import sha256_of
from tests.cases.tools import JUMP, TOPK, Case, artifact_of, config, edit, index, manifest, metric_of, reindex, tensors


def _rescale(weights: dict) -> None:
    """Double every latent and halve its decoder direction: x_hat stays what it was, to the last bit."""
    for name in ("W_enc", "b_enc", "threshold"):
        weights[name] *= 2
    weights["W_dec"] /= 2


def _altered_source(root: Path) -> None:
    """The checkpoint is the one that the manifest names, but one value of it was not exported."""
    path = root.parent / "checkpoints" / TOPK / "source.safetensors"
    weights = load_file(path)
    weights["W_dec"][0, 0] += 1e-3
    save_file(weights, path)
    edit(root / "manifest.json", lambda m: artifact_of(m, TOPK)["source_checkpoint"].update(sha256=sha256_of(path)))
    reindex(root)


def _other_source(root: Path) -> None:
    path = root.parent / "checkpoints" / TOPK / "source.safetensors"
    save_file(load_file(path) | {"extra": torch.zeros(1)}, path)


def _other_conversion(root: Path) -> None:
    """A record of a conversion that is right but for the digest of what was written."""
    with tempfile.TemporaryDirectory() as place:
        record = convert(Order(root / JUMP, Path(place) / "converted", "saelens"))
    other = record.written[0].model_copy(update={"sha256": "0" * 64})
    (root / JUMP / "conversion.json").write_text(record.model_copy(update={"written": (other,)}).text())
    build(root)


def _plain_golden(root: Path, artifact: str) -> None:
    path = root / artifact / "golden.safetensors"
    save_file(load_file(path), path)
    reindex(root)


def _golden(root: Path, artifact: str, change: Callable[[GoldenVectors], GoldenVectors]) -> None:
    path = root / artifact / "golden.safetensors"
    write_golden(path, change(read_golden(path)))
    build(root)


def _one_row(golden: GoldenVectors) -> GoldenVectors:
    rows = {name: getattr(golden, name)[:1] for name in ("x", "active", "activations", "x_hat")}
    return replace(golden, **rows)


def _nearly_off(golden: GoldenVectors) -> GoldenVectors:
    """Off by nine tenths of what is allowed."""
    return replace(golden, x_hat=golden.x_hat * (1 + 9e-6), activations=golden.activations * (1 + 9e-6))


def _more_in_source(root: Path) -> None:
    """The checkpoint holds a tensor that was not exported, and the manifest names this very file."""
    _other_source(root)
    digest = sha256_of(root.parent / "checkpoints" / TOPK / "source.safetensors")
    edit(root / "manifest.json", lambda m: artifact_of(m, TOPK)["source_checkpoint"].update(sha256=digest))
    build(root)


def _more_in_evaluation(root: Path) -> None:
    path = root / "evaluation/layer-1.safetensors"
    save_file(load_file(path) | {"positions": torch.zeros(99)}, path)
    build(root)


def _right_conversion(root: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        record = convert(Order(root / JUMP, Path(place) / "converted", "saelens"))
    (root / JUMP / "conversion.json").write_text(record.text())
    build(root)


CASES: dict[str, Case] = {
    "measurement_not_reproduced": Case("SR416", index(lambda i: metric_of(i, JUMP, "fvu").update(value=0.5)), "data"),
    "golden_unreadable": Case("SR420", lambda root: _plain_golden(root, TOPK), "weights"),
    "latents_rescaled": Case("SR421", tensors(JUMP, _rescale), "weights"),
    "wrong_subtraction_switch": Case("SR421", config(TOPK, lambda c: c.update(apply_b_dec_to_input=False)), "weights"),
    "weights_not_of_checkpoint": Case("SR422", _altered_source, "weights", checkpoints=True),
    "golden_missing": Case("SR423", lambda root: ((root / JUMP / "golden.safetensors").unlink(), build(root))),
    "other_checkpoint": Case("SR424", _other_source, "weights", checkpoints=True),
    "conversion_of_other_weights": Case("SR426", _other_conversion, "weights"),
    "rows_centred_twice": Case(
        "SR425", manifest(lambda m: m["evaluations"]["vocabulary"].update(preprocess="center_scale"))
    ),
    "rows_centred_once": Case(
        "SR425", manifest(lambda m: m["evaluations"]["held-out"].update(preprocess="center")), passes=True
    ),
    "evaluation_of_other_size": Case("SR425", manifest(lambda m: m["evaluations"]["held-out-mlp"].update(rows=13))),
    "measured_on_another_machine": Case(
        "SR416", index(lambda i: metric_of(i, JUMP, "fvu").update(value=5.75341 + 5e-5)), "data", passes=True
    ),
    "golden_of_one_row": Case("SR420", lambda root: _golden(root, TOPK, _one_row), "weights", passes=True),
    "golden_at_the_edge": Case("SR421", lambda root: _golden(root, JUMP, _nearly_off), "weights", passes=True),
    "more_in_the_checkpoint": Case("SR422", _more_in_source, "weights", checkpoints=True, passes=True),
    "golden_of_other_code": Case(
        "SR423", lambda root: _golden(root, JUMP, lambda g: replace(g, made_by="trainer.SAE.forward 0.3")), passes=True
    ),
    "checkpoint_not_at_hand": Case(
        "SR424", lambda root: shutil.rmtree(root.parent / "checkpoints"), "weights", checkpoints=True, passes=True
    ),
    "more_in_the_evaluation": Case("SR425", _more_in_evaluation, passes=True),
    "right_conversion": Case("SR426", _right_conversion, "weights", passes=True),
}
"""Name of the folder → what is planted, and the one code that must be found."""
