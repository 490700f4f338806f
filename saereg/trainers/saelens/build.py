"""From the configuration of a run to SAELens' own objects: the dictionary with seeded weights, and its trainer."""

import warnings
from typing import Any

from saereg.errors import UsageError
from saereg.registry.models.model import require
from saereg.schemas.collection import Collection
from saereg.schemas.training import SPARSITY, WHOLE_K, TrainConfig
from saereg.trainers.saelens.constraints import keep_unit_rows
from saereg.trainers.saelens.steering import steer
from saereg.trainers.saelens.transcoder import module_of

DECODER_INIT_NORM = 0.1
"""Norm of decoder rows at the start. Source: Anthropic, Circuits Updates, April 2024."""

NORM_BATCHES = 1000
"""Most batches from which the input scale is estimated, as SAELens does; fewer when one pass has fewer."""

WARM_UP = {"l1_coefficient": "l1_warm_up_steps", "l0_coefficient": "l0_warm_up_steps"}
"""Sparsity setting → SAELens' name for the steps over which it rises; a k does not rise."""

NAMES = {
    "threshold": "jumprelu_init_threshold",
    "bandwidth": "jumprelu_bandwidth",
    "aux_loss_coefficient": "aux_loss_coefficient",
    "pre_act_loss_coefficient": "pre_act_loss_coefficient",
}
"""Our name of a setting → SAELens' name; left out where it is not given."""


def check_settings(config: TrainConfig) -> None:
    """Refuse what SAELens would only refuse in the middle of a run, or would do wrong.

    Raises:
        UsageError: with what to choose instead.
    """
    settings, step = config.sae, config.optimization.step
    ranked = SPARSITY[settings.architecture] == "k"
    ours = settings.architecture == "topk" and step == "auto"
    if ranked and not ours and settings.normalize_activations == "layer_norm":
        other = "" if settings.is_transcoder else "topk with step auto, or "
        raise UsageError(
            f"architecture {settings.architecture!r} cannot train with layer_norm: SAELens' auxiliary loss for dead "
            f"latents works in unnormalized space; choose {other}another normalization"
        )
    if (settings.architecture, settings.normalize_activations, step) == ("gated", "layer_norm", "saelens"):
        raise UsageError(
            "architecture 'gated' cannot train with layer_norm and step saelens: SAELens' losses of the gate read "
            "inputs that are not normalized; choose step auto, or another normalization"
        )
    for number in settings.resample_steps:
        if not settings.dead_after_steps < number < config.optimization.steps:
            raise UsageError(
                f"sae.resample_steps: no latent can be resampled after step {number}: it is dead after "
                f"dead_after_steps = {settings.dead_after_steps} steps at the earliest, and the run has "
                f"{config.optimization.steps}"
            )


def build(config: TrainConfig, collection: Collection) -> Any:  # noqa: ANN401
    """Return a training SAE of SAELens' registry with seeded initial weights, on the CPU.

    Raises:
        MissingExtraError: without the `train` extra.
    """
    torch = require("torch", "training")
    require("sae_lens", "training")
    from saereg.trainers.steps.choice import training_classes

    sae_class, config_class = training_classes(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # SAELens says that it adds the widest of the matryoshka widths
        sae_config = config_class(**_settings(config, collection))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            return sae_class(sae_config)


def _settings(config: TrainConfig, collection: Collection) -> dict[str, Any]:
    sae = config.sae
    sparsity = SPARSITY[sae.architecture]
    settings = {sparsity: getattr(sae, sparsity)}
    if sparsity in WARM_UP:
        settings[WARM_UP[sparsity]] = sae.sparsity_warm_up_steps
    if sae.architecture in WHOLE_K:
        settings["k"] = int(settings["k"])
    if sae.matryoshka_widths:
        settings["matryoshka_widths"] = [*sae.matryoshka_widths]
    if sae.is_transcoder:
        settings["d_out"] = collection.sites[str(config.site_out)].d_in
    settings |= {theirs: value for ours, theirs in NAMES.items() if (value := getattr(sae, ours)) is not None}
    return settings | {
        "d_in": collection.sites[config.site].d_in,
        "d_sae": sae.d_sae,
        "dtype": sae.dtype,
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input and not sae.is_transcoder,
        "normalize_activations": sae.normalize_activations,
        "decoder_init_norm": 1.0 if sae.decoder_norm == "unit" else DECODER_INIT_NORM,
        "metadata": _metadata(config, collection),
    }


def _metadata(config: TrainConfig, collection: Collection) -> Any:  # noqa: ANN401
    """Return what SAELens keeps on where a dictionary belongs; only what is known is said."""
    from sae_lens.saes.sae import SAEMetadata

    site, tokens = collection.sites[config.site].site, collection.tokens
    out = collection.sites[config.site_out].site if config.site_out else None
    facts = {
        "model_name": collection.model.id,
        "model_revision": collection.model.revision,
        "hook_name": site.hook_name,
        "hf_hook_name": module_of(site),
        "hook_name_out": out and out.hook_name,
        "hf_hook_name_out": out and module_of(out),
        "dataset_path": collection.dataset.id,
        "context_size": tokens.context_size,
        "prepend_bos": tokens.bos,
        "exclude_special_tokens": "special" in tokens.excluded,
        "sequence_separator_token": None if tokens.separator == "none" else tokens.separator,
        "disable_concat_sequences": tokens.packing == "none",
    }
    return SAEMetadata(**{name: value for name, value in facts.items() if value is not None})


def trainer_of(sae: Any, config: TrainConfig, rows: int, device: str) -> Any:  # noqa: ANN401
    """Return SAELens' trainer of a dictionary; batches are given to its `step`, it reads none itself.

    Args:
        sae: SAELens' training SAE.
        config: the run.
        rows: rows that batches are drawn from, for the estimate of the input scale.
        device: torch device.
    """
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    run = config.optimization
    settings = SAETrainerConfig(
        total_training_samples=run.steps * run.batch_size,
        train_batch_size_samples=run.batch_size,
        lr=run.lr,
        lr_end=run.lr,
        lr_warm_up_steps=run.lr_warm_up_steps,
        lr_decay_steps=run.lr_decay_steps,
        device=device,
        autocast=run.autocast,
        dead_feature_window=config.sae.dead_after_steps,
        logger=LoggingConfig(log_to_wandb=False),
        n_batches_for_norm_estimate=max(1, min(NORM_BATCHES, rows // run.batch_size)),
    )
    sae.to(device)
    trainer = SAETrainer(settings, sae, iter(()))
    if config.sae.is_transcoder:
        from saereg.trainers.steps.transcoder import PairScaler

        trainer.activation_scaler = PairScaler(sae.cfg.d_in)
    if config.sae.decoder_norm == "unit":
        keep_unit_rows(trainer.optimizer, sae.W_dec)
    if run.step == "auto":
        from saereg.trainers.steps.optimizer import use_fused

        use_fused(trainer)
    steer(trainer, config)
    return trainer
