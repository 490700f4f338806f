"""Goodfire: one pickled file, `encoder_linear` and `decoder_linear`; ReLU, nothing subtracted.

Source: the loader `goodfire` of SAELens 6.54, `loading/pretrained_sae_loaders.py`.
"""

from typing import TYPE_CHECKING

from saereg.registry.formats.two_linears import fits, forward, read_linears
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import Source

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME = "goodfire"
NAMES = ("encoder_linear", "decoder_linear")


def detect(source: Source) -> str | None:
    """A pickled file with two torch Linears of Goodfire's names, and nothing else."""
    return "a pickled file of `encoder_linear` and `decoder_linear` alone" if fits(source, *NAMES) else None


def read(source: Source, given: Given) -> Reading:
    """Read the file. Model and layer stand in its name alone, so they are not said.

    Raises:
        WeightsError: when a tensor is missing or of another shape.
    """
    return read_linears(source, given, *NAMES)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """relu(encoder_linear(x)), and decoder_linear of it."""
    del reading  # there is nothing to choose
    return forward(raw, x, *NAMES)


ABOUT = About(
    title="Goodfire",
    used_by="`Goodfire/Llama-3.1-8B-Instruct-SAE-l19`, `Goodfire/Llama-3.3-70B-Instruct-SAE-l50`",
    files="one `.pt` or `.pth` with `encoder_linear.weight` (F, D), `encoder_linear.bias` (F,), "
    "`decoder_linear.weight` (D, F), `decoder_linear.bias` (D,).",
    silent="model and layer, which its name says.",
    assumed="nothing is subtracted before the encoder and the activation is ReLU, as in the two published.",
    saelens="its loader `goodfire` knows these two repositories by name, and no other; the same function.",
    source="SAELens 6.54, `get_goodfire_huggingface_loader`",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
