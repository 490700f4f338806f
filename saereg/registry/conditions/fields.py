"""The fields that a condition, an order, a group or a column can name. Imports nothing heavy: `saereg ls` is quick."""

from typing import Literal

from saereg.errors import UnknownNameError

Kind = Literal["text", "whole", "number", "truth", "steps"]
"""Type of a field: text, a whole number, a number, yes or no, a list of steps."""

Basis = Literal["measured", "stated"]
"""Who says a number: `measured` by saereg from the weights, or `stated` by somebody."""

BASES: tuple[Basis, ...] = ("measured", "stated")
"""The same, the one that goes before first."""

HEADLINES = ("l0", "explained_variance")
"""Numbers of which each artifact has one that stands for it, with `_basis` and `_definition`."""

DESCRIBING: dict[str, Kind] = {
    "reference": "text", "release": "text", "release_name": "text", "version": "text", "standing": "text",
    "license": "text", "id": "text", "path": "text", "kind": "text", "architecture": "text", "format": "text",
    "model": "text", "model_name": "text", "model_step": "whole", "revision": "text", "layer": "whole",
    "stream": "text", "module": "text", "hook_name": "text", "parameter": "text", "site": "text", "site_out": "text",
    "axis": "text", "steps": "steps", "n_sources": "whole", "d_in": "whole", "d_out": "whole", "d_sae": "whole",
    "k": "number", "l1_coefficient": "number", "l0_coefficient": "number", "target_l0": "number", "seed": "whole",
    "snapshot": "text", "variant": "text", "canonical": "truth", "withdrawn": "text", "tokens": "whole",
    "dtype": "text", "weights_sha256": "text", "size": "whole", "neuronpedia_id": "text", "loader": "text",
    "repo": "text", "folder": "text", "source_kind": "text", "source": "text", "pin": "text", "synced": "text",
}  # fmt: skip
"""Field → type, for what is no metric. `model_name` is the last part of `model`, lower case; `standing`, `loader` and
those of the source are what a catalogue knows: in a release that was opened by itself they are absent."""

METRICS = (
    "explained_variance", "fvu", "mse_per_row", "mse_per_element", "l0", "l0_per_source_mean", "l0_any_source",
    "dead_fraction", "density_below_1e_5", "density_below_1e_6", "ce_recovered", "ce_clean", "ce_spliced",
    "ce_ablated", "nmse_uncentred_row", "ev_uncentred", "ev_scalar_mean", "ev_saelens_uncentred",
    "r2_uniform_average", "l0_positive", "dead_rate_1e_6", "l1_norm", "l1_norm_per_source_mean",
    "explained_variance_legacy_rowmean", "explained_variance_batch_mean", "fvu_batch_mean",
    "ev_saelens_uncentred_batch_mean", "fve_centred_residual", "fve_scalar_var", "mse_row_over_batch",
    "l0_batch_mean", "ce_recovered_batch_mean",
)  # fmt: skip
"""Every metric definition; those of `saereg.schemas.metrics.MetricId`, which takes a while to import."""

KINDS: dict[str, Kind] = {
    **DESCRIBING,
    **dict.fromkeys(METRICS, "number"),
    **{f"{name}_{end}": "text" for name in HEADLINES for end in ("basis", "definition")},
}
"""Field → type."""

FIELDS = tuple(KINDS)
"""Every field, in the order in which tables have them."""

ALIASES = {
    "ev": "explained_variance", "ev_basis": "explained_variance_basis",
    "ev_definition": "explained_variance_definition", "step": "model_step", "width": "d_sae",
    "model_revision": "revision",
}  # fmt: skip
"""Other names of fields."""

SMALLER_IS_BETTER = frozenset(
    {
        "fvu",
        "mse_per_row",
        "mse_per_element",
        "mse_row_over_batch",
        "fvu_batch_mean",
        "nmse_uncentred_row",
        "dead_fraction",
        "l0",
        "l0_per_source_mean",
        "l0_any_source",
        "l0_positive",
        "l0_batch_mean",
        "dead_rate_1e_6",
        "l1_norm",
        "l1_norm_per_source_mean",
        "ce_spliced",
    }
)
"""Metrics of which the smallest value is the best."""


def resolve_field(name: str) -> str:
    """Return the full name of a field.

    Raises:
        UnknownNameError: when there is no such field.
    """
    full = ALIASES.get(name, name)
    if full not in KINDS:
        raise UnknownNameError("field", name, [*FIELDS, *ALIASES])
    return full


def model_name(model: str | None) -> str | None:
    """Return the short name of a base model: the last part of its id, lower case."""
    return model.rpartition("/")[2].lower() if model else None
