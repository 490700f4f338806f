"""The mistakes that converters make in the field: each computes something else, loads without a word, and is caught.

Each row is a source by its publisher's own class where there is one, the right reading, and what a wrong switch gives
on the golden inputs of the right one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dictionary_learning.dictionary as theirs
import pytest
import torch
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from safetensors.torch import save_file
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor

from saereg.registry.checkpoint import Checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import read_checkpoint
from saereg.schemas.semantics import Normalization
from tests.upstream import D, F, K, assert_golden_catches, random


def filled(made: torch.nn.Module) -> torch.nn.Module:
    """Fill every parameter with numbers that hide no mistake."""
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
    return made


def marks(name: str) -> Callable[[Path], None]:
    """Return a writer of one of dictionary_learning's classes."""

    def write(folder: Path) -> None:
        made = AutoEncoderTopK(D, F, K) if name == "AutoEncoderTopK" else getattr(theirs, name)(D, F)
        torch.save(filled(made).state_dict(), folder / "ae.pt")
        settings = {"dict_class": name, "activation_dim": D, "dict_size": F, "k": K}
        (folder / "config.json").write_text(json.dumps({"trainer": settings}))

    return write


def sparse(**config: object) -> Callable[[Path], None]:
    """Return a writer of sparsify's class."""
    return lambda folder: filled(SparseCoder(D, SparseCoderConfig(num_latents=F, k=6, **config))).save_to_disk(folder)


def mlsae(folder: Path) -> None:
    """Write a multi-layer SAE."""
    tensors = {"encoder.weight": random(F, D), "decoder.weight": random(D, F, seed=1), "pre_encoder_bias": random(D)}
    save_file(tensors, folder / "model.safetensors")
    config = {"n_inputs": D, "n_latents": F, "k": K, "auxk": None, "standardize": True}
    config |= {"dead_steps_threshold": 10, "dead_threshold": 1e-3}
    (folder / "config.json").write_text(json.dumps(config))


def openai(folder: Path) -> None:
    """Write OpenAI's TopK for GPT-2."""
    tensors = {"pre_bias": random(D), "latent_bias": random(F), "encoder.weight": random(F, D, seed=1)}
    tensors |= {"decoder.weight": random(D, F, seed=2), "stats_last_nonzero": torch.zeros(F, dtype=torch.int64)}
    words = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}
    torch.save(tensors | words, folder / "5.pt")


def openmoss(folder: Path) -> None:
    """Write a JumpReLU whose gate is pre·‖W_dec‖."""
    tensors = {"W_E": random(D, F), "b_E": random(F, seed=1), "W_D": random(F, D, seed=2), "b_D": random(D, seed=3)}
    tensors["activation_function.log_jumprelu_threshold"] = random(F, seed=4) - 0.5
    save_file(tensors, folder / "sae_weights.safetensors")
    config = {"sae_type": "sae", "d_model": D, "expansion_factor": F / D, "act_fn": "jumprelu", "top_k": K}
    config |= {"norm_activation": "inference", "sparsity_include_decoder_norm": True, "use_decoder_bias": True}
    config |= {"hook_point_in": "blocks.0.hook_resid_post", "hook_point_out": "blocks.0.hook_resid_post"}
    (folder / "config.json").write_text(json.dumps(config))


def saelens_in_training(folder: Path) -> None:
    """Write a checkpoint of SAELens' trainer whose weights hold for inputs times 3."""
    tensors = {"W_enc": random(D, F), "b_enc": random(F, seed=1), "W_dec": random(F, D, seed=2), "b_dec": random(D)}
    save_file(tensors, folder / "sae_weights.safetensors")
    config = {"architecture": "standard", "d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu"}
    config |= {"apply_b_dec_to_input": True, "normalize_activations": "expected_average_only_in"}
    config |= {"reshape_activations": "none", "metadata": {"sae_lens_version": "6.54.12"}, "decoder_init_norm": 0.1}
    (folder / "cfg.json").write_text(json.dumps(config | {"l1_coefficient": 1.0, "lp_norm": 1.0}))
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 3.0, "has_whitening": false}')


def switched(**changes: object) -> Callable[[Dictionary], Dictionary]:
    """Return what a reader makes of the same tensors that has other switches."""

    def wrong(right: Dictionary) -> Dictionary:
        cfg, weights = right.cfg, dict(right.weights)
        if not hasattr(cfg, "semantics"):
            return Dictionary(Checkpoint(cfg.model_copy(update=changes), weights))
        rules = cfg.semantics.model_copy(update=changes)
        if rules.threshold == "none":
            weights.pop("threshold", None)
        if rules.skip == "none":
            weights.pop("W_skip", None)
        return Dictionary(Checkpoint(cfg.model_copy(update={"semantics": rules}), weights))

    return wrong


def with_weights(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Callable[[Dictionary], Dictionary]:
    """Return what a reader makes that has other tensors."""
    return lambda right: Dictionary(Checkpoint(right.cfg, {**right.weights, **change(dict(right.weights))}))


def unscaled_by(factor: float) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Return the weights as they were before a scale was folded into them."""
    return lambda w: {"W_enc": w["W_enc"] / factor, "W_dec": w["W_dec"] * factor, "b_dec": w["b_dec"] * factor}


@dataclass(frozen=True)
class Mistake:
    """One row: a source, what goes wrong, and the smallest error that it makes."""

    write: Callable[[Path], None]
    wrong: Callable[[Dictionary], Dictionary]
    at_least: float = 0.01


NOT_SUBTRACTED, SUBTRACTED = (switched(pre_encoder_subtraction=value) for value in ("none", "b_dec"))
BY_NORM = switched(gate_quantity="pre_times_decoder_norm")
DENSE = switched(activation="relu", k=None)
NO_LAYER_NORM = switched(normalization=Normalization())

MISTAKES = {
    "AutoEncoder without subtraction": Mistake(marks("AutoEncoder"), NOT_SUBTRACTED),
    "AutoEncoderNew with subtraction": Mistake(marks("AutoEncoderNew"), SUBTRACTED),
    "Gated without subtraction": Mistake(marks("GatedAutoEncoder"), NOT_SUBTRACTED),
    "JumpReLU with subtraction": Mistake(marks("JumpReluAutoEncoder"), SUBTRACTED),
    "TopK of decoders that are not unit, ranked by their norms": Mistake(marks("AutoEncoderTopK"), BY_NORM),
    "sparsify without subtraction, as SAELens' loader has it": Mistake(sparse(), NOT_SUBTRACTED),
    "sparsify's TopK ranked by decoder norms": Mistake(sparse(), BY_NORM),
    "groupmax as TopK": Mistake(sparse(activation="groupmax"), switched(activation="topk")),
    "a TopK skip transcoder as a ReLU one": Mistake(sparse(transcode=True, skip_connection=True), DENSE),
    "a skip transcoder without its skip": Mistake(sparse(transcode=True, skip_connection=True), switched(skip="none")),
    "W_skip transposed, which no shape tells": Mistake(
        sparse(transcode=True, skip_connection=True), with_weights(lambda w: {"W_skip": w["W_skip"].T})
    ),
    "mlsae without layer norm": Mistake(mlsae, NO_LAYER_NORM),
    "OpenAI's TopK without layer norm": Mistake(openai, NO_LAYER_NORM),
    "OpenAI's TopK as ReLU": Mistake(openai, DENSE),
    "k one too large": Mistake(openai, switched(k=float(K + 1))),
    "a threshold that is compared with pre alone": Mistake(openmoss, switched(gate_quantity="pre_activation"), 0.002),
    "a log threshold taken as it is": Mistake(openmoss, with_weights(lambda w: {"threshold": w["threshold"].log()})),
    "a scale of the inputs that was never folded": Mistake(saelens_in_training, with_weights(unscaled_by(3.0))),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_caught_by_the_golden_vectors_of_the_right_reading(tmp_path, mistake):
    """The right one replays to rounding; the wrong one is off by far more than that."""
    mistake.write(tmp_path)
    error = assert_golden_catches(tmp_path, lambda right: mistake.wrong(right)(right.golden_x))
    assert error >= mistake.at_least


def test_weights_in_bfloat16_flip_gates(tmp_path):
    """Storing everything in half the bits is no rounding of the result: other latents fire."""
    openmoss(tmp_path)
    right = Dictionary(read_checkpoint(tmp_path))
    x = torch.randn(2000, D, generator=torch.Generator().manual_seed(1))
    rounded = {name: tensor.bfloat16().float() for name, tensor in right.weights.items()}
    halved = Dictionary(Checkpoint(right.cfg, rounded))
    flips = ((right.encode(x) != 0) != (halved.encode(x) != 0)).double().mean()
    assert 1e-5 < float(flips) < 1e-2
    error = (halved(x) - right(x)).norm() / right(x).norm()
    assert 1e-4 < float(error) < 1e-2
