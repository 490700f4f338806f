"""Settings that dictionary_learning and its fork are known to save: none of them changes what is not looked at.

Source: `config` of the trainers and buffers of dictionary_learning 0.1.0 and of science-of-finetuning 173f7fa;
arguments of the fork's `BatchTopKSAE`.
"""

from collections.abc import Mapping
from typing import Any

from saereg.registry.readings.given import unknown_keys
from saereg.schemas.semantics import Assumption

TOP = frozenset({"trainer", "buffer"})

TRAINER = frozenset(
    {"dict_class", "trainer_class", "activation_dim", "dict_size", "k", "layer", "lm_name", "wandb_name", "device"}
    | {"submodule_name", "lr", "steps", "seed", "l1_penalty", "warmup_steps", "resample_steps", "decay_start"}
    | {"sparsity_warmup_steps", "sparsity_function", "sparsity_penalty", "p_start", "p_end", "anneal_start"}
    | {"sparsity_queue_length", "n_sparsity_updates", "bandwidth", "target_l0", "auxk_alpha", "threshold_beta"}
    | {"threshold_start_step", "top_k_aux", "group_fractions", "group_weights", "group_sizes", "use_mse_loss"}
    | {"encoder_init_norm", "target_rms", "activation_mean", "activation_std"}
)

BUFFER = frozenset(
    {"d_submodule", "io", "n_ctxs", "ctx_len", "refresh_batch_size", "out_batch_size", "device", "layer"}
)


def unknown_settings(
    config: Mapping[str, Any], trainer: Mapping[str, Any], buffer: Mapping[str, Any]
) -> list[Assumption]:
    """Return a note for each setting that the library is not known to save.

    Args:
        config: config.json.
        trainer: settings of the training run, or arguments of the class, which the fork has at the top of config.json.
        buffer: settings of the activations.
    """
    top = {} if trainer and trainer.items() <= config.items() else config
    # a list in a backup has the number of each item behind its name
    own = {str(key).split("/")[0]: value for key, value in trainer.items() if key not in TOP}
    document = "config.json"
    return [
        *unknown_keys(top, TOP, document),
        *unknown_keys(own, TRAINER, f"`trainer` in {document}"),
        *unknown_keys(buffer, BUFFER, f"`buffer` in {document}"),
    ]
