"""A ReLU SAE that is two torch Linears and nothing else: f = relu(E(x)), x̂ = D(f). Two published layouts are that."""

from typing import TYPE_CHECKING

from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading, dictionary, with_left_out
from saereg.registry.readings.source import PICKLES, Source
from saereg.schemas.recipe import moved, transposed
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

BECAUSE = "the file does not say it; so it is in what is published in this layout"

ASSUMED = (
    Assumption(field="activation", value="relu", because=BECAUSE),
    Assumption(field="pre_encoder_subtraction", value="none", because=BECAUSE),
)
"""What two Linears leave open."""


def fits(source: Source, encoder: str, decoder: str) -> bool:
    """Whether a pickled file holds weight and bias of two Linears of these names, and nothing else."""
    names = {f"{part}.{kind}" for part in (encoder, decoder) for kind in ("weight", "bias")}
    if source.keys != names or source.weights is None or source.weights.path.suffix not in PICKLES:
        return False
    weight = source.shape(f"{encoder}.weight")
    return (
        len(weight) == 2
        and source.shape(f"{decoder}.weight") == weight[::-1]
        and source.shape(f"{encoder}.bias") == weight[:1]
        and source.shape(f"{decoder}.bias") == weight[1:]
    )


def read_linears(source: Source, given: Given, encoder: str, decoder: str) -> Reading:
    """Read a file that fits.

    Raises:
        WeightsError: when a tensor is missing or of another shape.
    """
    reading = dictionary(
        {"": source.only()},
        {
            "W_enc": transposed(f"{encoder}.weight"),
            "b_enc": moved(f"{encoder}.bias"),
            "W_dec": transposed(f"{decoder}.weight"),
            "b_dec": moved(f"{decoder}.bias"),
        },
        kind="sae",
        semantics=Semantics(pre_encoder_subtraction="none", activation="relu", gate_quantity="pre_activation"),
        assumptions=[*given.assumptions, *ASSUMED],
    )
    return with_left_out(reading, ())


def forward(raw: "Raw", x: "Tensor", encoder: str, decoder: str) -> "Codes":
    """Return relu(E(x)) and D of it."""
    from saereg.registry.readings import reference as do

    f, margin = do.relu(raw.times_transposed(x, f"{encoder}.weight") + raw.vector(f"{encoder}.bias"))
    x_hat = raw.times_transposed(f, f"{decoder}.weight") + raw.vector(f"{decoder}.bias")
    return do.Codes(f, x_hat, margin)
