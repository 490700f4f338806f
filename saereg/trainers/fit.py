"""One training run on SAELens' SAETrainer, step by step, so that every step can be logged and nothing is printed."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saereg.errors import UsageError
from saereg.registry.models.model import require
from saereg.schemas.collection import Collection
from saereg.schemas.training import SPARSITY, SaeSettings, TrainConfig

if TYPE_CHECKING:
    from torch import Tensor

DECODER_INIT_NORM = 0.1
"""Norm of decoder rows at the start. Source: Anthropic, Circuits Updates, April 2024."""

NORM_BATCHES = 1000
"""Most batches from which the input scale is estimated, as SAELens does; fewer when one pass has fewer."""

WARM_UP = {"l1_coefficient": "l1_warm_up_steps", "l0_coefficient": "l0_warm_up_steps"}
"""Sparsity setting → SAELens' name for the steps over which it rises; a k does not rise."""


@dataclass(frozen=True)
class Fitted:
    """A trained dictionary, still of SAELens' training class, with the input scale folded in, on the CPU.

    Attributes:
        sae: SAELens' TrainingSAE.
        steps: optimizer steps.
        tokens: rows seen, counting repetitions.
        input_scale: factor that inputs were multiplied by during training; None for none.
    """

    sae: Any
    steps: int
    tokens: int
    input_scale: float | None


def check_settings(settings: SaeSettings) -> None:
    """Refuse what SAELens would only refuse in the middle of a run.

    Raises:
        UsageError: for TopK architectures with layer_norm.
    """
    if settings.architecture in ("topk", "batchtopk") and settings.normalize_activations == "layer_norm":
        raise UsageError(
            f"architecture {settings.architecture!r} cannot train with layer_norm: SAELens' auxiliary loss for dead "
            "latents works in unnormalized space; choose none or expected_average_only_in"
        )


def build(config: TrainConfig, collection: Collection) -> Any:  # noqa: ANN401
    """Return SAELens' training SAE with seeded initial weights, on the CPU.

    Raises:
        MissingExtraError: without the `train` extra.
    """
    torch = require("torch", "training")
    registry = require("sae_lens.registry", "training")
    sae_class, config_class = registry.get_sae_training_class(config.sae.architecture)
    sparsity = SPARSITY[config.sae.architecture]
    settings = {sparsity: getattr(config.sae, sparsity)}
    if sparsity in WARM_UP:
        settings[WARM_UP[sparsity]] = config.sae.sparsity_warm_up_steps
    if config.sae.architecture == "topk":
        settings["k"] = int(settings["k"])
    sae_config = config_class(
        d_in=collection.sites[config.site].d_in,
        d_sae=config.sae.d_sae,
        dtype=config.sae.dtype,
        device="cpu",
        apply_b_dec_to_input=config.sae.apply_b_dec_to_input,
        normalize_activations=config.sae.normalize_activations,
        decoder_init_norm=DECODER_INIT_NORM,
        metadata=_metadata(config, collection),
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return sae_class(sae_config)


def _metadata(config: TrainConfig, collection: Collection) -> Any:  # noqa: ANN401
    """Return what SAELens keeps on where a dictionary belongs; only what is known is said."""
    from sae_lens.saes.sae import SAEMetadata

    site, tokens = collection.sites[config.site].site, collection.tokens
    facts = {
        "model_name": collection.model.id,
        "model_revision": collection.model.revision,
        "hook_name": site.hook_name,
        "hf_hook_name": site.module,
        "dataset_path": collection.dataset.id,
        "context_size": tokens.context_size,
        "prepend_bos": tokens.bos,
        "exclude_special_tokens": "special" in tokens.excluded,
        "sequence_separator_token": None if tokens.separator == "none" else tokens.separator,
        "disable_concat_sequences": tokens.packing == "none",
    }
    return SAEMetadata(**{name: value for name, value in facts.items() if value is not None})


def fit(
    sae: Any,  # noqa: ANN401
    batches: "Iterator[Tensor]",
    config: TrainConfig,
    *,
    rows: int,
    log: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Train, write the training log, fold the input scale into the weights.

    The loop does what `SAETrainer.fit` does, through the same public steps; a test compares the two bitwise.

    Args:
        sae: SAELens' training SAE; changed in place.
        batches: rows (batch, d_in), unscaled, without end.
        config: the run.
        rows: rows that batches are drawn from, for the estimate of the input scale.
        log: file for one JSON object per logged step.
        progress: called after every step with (rows seen, rows in all).
    """
    trainer = _trainer(sae, batches, config, rows)
    sae.to(config.device)
    _estimate_scale(trainer, sae)
    scale = trainer.activation_scaler.scaling_factor
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8", newline="\n") as file:
        for line in _steps(trainer, config, progress):
            file.write(json.dumps(line) + "\n")
    if scale is not None:
        sae.fold_activation_norm_scaling_factor(scale)
        trainer.activation_scaler.scaling_factor = None
    trainer.set_final_sae_metadata()
    sae.to("cpu")
    return Fitted(sae, trainer.n_training_steps, trainer.n_training_samples, scale)


def _trainer(sae: Any, batches: "Iterator[Tensor]", config: TrainConfig, rows: int) -> Any:  # noqa: ANN401
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    run = config.optimization
    steps = -(-run.tokens // run.batch_size)
    settings = SAETrainerConfig(
        total_training_samples=steps * run.batch_size,
        train_batch_size_samples=run.batch_size,
        lr=run.lr,
        lr_end=run.lr,
        lr_warm_up_steps=run.lr_warm_up_steps,
        lr_decay_steps=run.lr_decay_steps,
        device=config.device,
        logger=LoggingConfig(log_to_wandb=False),
        n_batches_for_norm_estimate=max(1, min(NORM_BATCHES, rows // run.batch_size)),
    )
    return SAETrainer(settings, sae, batches)


def _estimate_scale(trainer: Any, sae: Any) -> None:  # noqa: ANN401
    if sae.cfg.normalize_activations != "expected_average_only_in":
        return
    with contextlib.redirect_stderr(io.StringIO()):  # it draws a progress bar
        trainer.activation_scaler.estimate_scaling_factor(
            d_in=sae.cfg.d_in,
            data_provider=trainer.data_provider,
            n_batches_for_norm_estimate=trainer.cfg.n_batches_for_norm_estimate,
        )


def _steps(
    trainer: Any,  # noqa: ANN401
    config: TrainConfig,
    progress: Callable[[int, int], None] | None,
) -> Iterator[dict[str, object]]:
    """Take every step; yield a line of the log for the first, every `log_every`-th and the last one."""
    total = trainer.cfg.total_training_samples
    while trainer.n_training_samples < total:
        trainer.maybe_reset_sparsity()
        lr = trainer.optimizer.param_groups[0]["lr"]
        output = trainer.step(next(trainer.data_provider))
        trainer.n_training_steps += 1
        step = trainer.n_training_steps
        if step % config.optimization.log_every == 0 or step == 1 or trainer.n_training_samples >= total:
            yield {"step": step, "tokens": trainer.n_training_samples, "lr": lr, **_facts(output)}
        if progress:
            progress(trainer.n_training_samples, total)


def _facts(output: Any) -> dict[str, float]:  # noqa: ANN401
    """Return the losses of a step, and L0 and explained variance of its batch."""
    x, x_hat = output.sae_in.detach().double(), output.sae_out.detach().double()
    residual = (x - x_hat).square().sum()
    variance = (x - x.mean(dim=0)).square().sum()
    return {
        "loss": float(output.loss.detach()),
        **{name: float(value.detach()) for name, value in output.losses.items()},
        "l0": float((output.feature_acts != 0).sum(dim=-1).double().mean()),
        "explained_variance": float(1 - residual / variance),
    }


def tools() -> dict[str, str]:
    """Return name → version of the software that trains."""
    return {name: metadata.version(name) for name in ("saereg", "sae-lens", "torch")}
