"""What other inventories call our fields: one literal table; a key that is not in it is placed nowhere. Pure."""

import re
from collections.abc import Mapping
from functools import lru_cache

FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "sae_id", "artifact_id", "artifact", "name"),
    "path": ("path", "file", "filename", "file_name", "file_path", "weights", "weights_path", "weight_file", "folder"),
    "model": ("model", "base_model", "model_name", "model_id", "base_model_id", "hf_model", "base_model_name"),
    "model_revision": ("model_revision", "base_model_revision", "model_commit"),
    "model_step": ("model_step", "pretraining_step", "base_model_step", "checkpoint_step"),
    "parameter": ("matrix", "parameter", "param", "parameter_name", "trajectory_parameter"),
    "kind": ("kind", "artifact_kind", "dictionary_kind", "type"),
    "architecture": ("architecture", "arch", "sae_type", "activation_fn", "act_fn", "sae_architecture"),
    "layer": ("layer", "layer_index", "layer_idx", "hook_layer"),
    "hook": ("hook_name", "hook", "hook_point", "module", "module_path", "hf_hook_name", "site"),
    "hook_text": ("hook_convention", "hook_text", "hook_description"),
    "d_in": ("d_in", "d_model", "activation_width", "input_width", "input_dim", "activation_dim", "hidden_size"),
    "d_out": ("d_out", "output_width", "output_dim"),
    "d_sae": ("d_sae", "width", "sae_width", "n_latents", "latents", "num_latents", "dict_size", "n_features"),
    "k": ("k", "topk", "top_k", "batchtopk_k", "sparsity_k"),
    "l1_coefficient": ("l1_coefficient", "l1_coeff", "lambda", "lam", "l1_lambda", "sparsity_l1_coefficient"),
    "l0_coefficient": ("l0_coefficient", "l0_coeff", "l0_lambda"),
    "target_l0": ("target_l0", "l0_target"),
    "seed": ("seed", "random_seed"),
    "steps": ("steps", "snapshot_steps", "checkpoint_steps", "snapshots"),
    "n_sources": ("n_snapshots", "n_sources", "num_snapshots", "num_sources"),
    "snapshot": ("snapshot", "training_snapshot"),
    "variant": ("variant",),
    "canonical": ("canonical", "is_canonical", "recommended"),
    "source_checkpoint": ("source_checkpoint", "checkpoint", "source_checkpoint_path", "source_path"),
    "source_sha256": ("source_checkpoint_sha256", "checkpoint_sha256"),
    "expected_failure": ("expected_failure",),
    "tied": ("tied", "tied_weights"),
    "tokens": ("training_tokens", "tokens", "n_tokens", "tokens_seen"),
    "training_steps": ("training_steps", "n_training_steps", "optimizer_steps"),
    "batch_size": ("batch_size", "training_batch_size"),
    "lr": ("lr", "learning_rate", "training_lr"),
    "dtype": ("dtype",),
    "weights_sha256": ("weights_sha256", "sha256"),
    "size": ("size", "size_bytes", "bytes"),
    "neuronpedia_id": ("neuronpedia_id", "neuronpedia"),
    "rows": ("n_rows", "eval_rows", "n_eval_rows"),
    "quality": ("quality", "metrics", "quality_text"),
    "status": ("status",),
}
"""Our field → what a row may call it, in small letters with `_` between words; keys of nested objects are joined."""

RELEASE: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "release", "release_name"),
    "title": ("title",),
    "license": ("license", "licence"),
    "version": ("version", "release_version"),
    "description": ("description", "summary"),
    "citation": ("citation", "bibtex"),
    "authors": ("authors", "author"),
    "repo": ("repo", "repo_id", "repository", "hf_repo", "hub_repo"),
    "code": ("code", "code_repository", "code_url", "training_code"),
    "sister_releases": ("sister_releases",),
}
"""Field of the whole release → what a document may call it beside its rows."""

OF_ALL_ROWS = (
    "model", "model_revision", "parameter", "kind", "architecture", "hook", "hook_text", "d_in", "d_out", "d_sae",
    "k", "l1_coefficient", "l0_coefficient", "target_l0", "steps", "n_sources", "dtype", "tied", "tokens", "batch_size",
    "lr", "training_steps",
)  # fmt: skip
"""Fields of rows that a document may state once for all of them."""

TRANSPARENT = frozenset(
    {"quality", "metrics", "training", "config", "sparsity", "metadata", "settings", "hyperparameters", "evaluation"}
)
"""Nested objects whose keys mean what they mean outside."""

NUMBERS = frozenset({"quality", "metrics", "evaluation", "eval", "results", "scores"})
"""Nested objects all of whose numbers are metrics."""

_METRIC = re.compile(
    r"(?:^|_)(?:[nr]?mse|fvu|fve|ev|loss|l0|l1_norm|dead(?:_\w+)?|recovered|r2|ce|cosine|nmse|explained_variance"
    r"|variance_explained|squared_error|density(?:_\w+)?)(?:_|$)"
)
"""A key at the top of a row that is a number by its name."""

_DURING_TRAINING = re.compile(r"(?:^|_)(?:train|training|running)(?:_|$)")

_OF_ROW = {word: field for field, words in FIELDS.items() for word in words}
_OF_RELEASE = {word: field for field, words in RELEASE.items() for word in words}


@lru_cache(maxsize=4096)
def plain(key: str) -> str:
    """Return a key in small letters with `_` between its words: `finalMSE`, `Final MSE` and `final-mse` are one."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_")


@lru_cache(maxsize=4096)
def field_of_row(keys: tuple[str, ...]) -> str | None:
    """Return the field that the keys of a row's value name, or None."""
    words = [plain(key) for key in keys]
    joined = "_".join(words)
    if joined in _OF_ROW:
        return _OF_ROW[joined]
    inside = len(words) > 1 and all(word in TRANSPARENT for word in words[:-1])
    return _OF_ROW.get(words[-1]) if inside and words[-1] not in ("id", "name", "path", "type") else None


def field_of_release(keys: tuple[str, ...]) -> str | None:
    """Return the field of the whole release that the keys of a document's value name, or None."""
    words = [plain(key) for key in keys if plain(key) != "release" or len(keys) == 1]
    return _OF_RELEASE.get("_".join(words))


@lru_cache(maxsize=4096)
def is_metric(keys: tuple[str, ...]) -> bool:
    """Whether a number under these keys is one that was measured of a dictionary."""
    words = [plain(key) for key in keys]
    if not all(word in NUMBERS | TRANSPARENT for word in words[:-1]):
        return False
    return any(word in NUMBERS for word in words[:-1]) or _METRIC.search(words[-1]) is not None


@lru_cache(maxsize=4096)
def is_of_training(keys: tuple[str, ...]) -> bool:
    """Whether a number is a mean over a training run by its own name, not a property of the released weights."""
    words = [plain(key) for key in keys]
    return any(_DURING_TRAINING.search(word) for word in words) and any("mean" in word for word in words)
