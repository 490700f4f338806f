"""The SAE of DeepSeek R1 by qresearch: one pickled file, `encoder` and `decoder`; ReLU, nothing subtracted.

A file of `AutoEncoderNew` of dictionary_learning without its config.json has the same names, and is the same function.
Source: the loader `deepseek_r1` of SAELens 6.54, `loading/pretrained_sae_loaders.py`.
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

NAME = "deepseek_r1"
NAMES = ("encoder", "decoder")

OF_OTHERS = ("config.json", "cfg.json", "hyperparams.json")
"""Documents that say more of such tensors, and so of another layout; beside them, or above `checkpoints`."""


def detect(source: Source) -> str | None:
    """A pickled file with two torch Linears, `encoder` and `decoder`, nothing else in it, and no document beside it."""
    if not fits(source, *NAMES) or any(source.document(name) is not None for name in OF_OTHERS):
        return None
    return "a pickled file of `encoder` and `decoder`, both with a bias, and no document beside it"


def read(source: Source, given: Given) -> Reading:
    """Read the file. Model and layer stand in its name alone, so they are not said.

    Raises:
        WeightsError: when a tensor is missing or of another shape.
    """
    return read_linears(source, given, *NAMES)


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """relu(encoder(x)), and decoder of it."""
    del reading  # there is nothing to choose
    return forward(raw, x, *NAMES)


ABOUT = About(
    title="DeepSeek R1 by qresearch",
    used_by="`qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19`",
    files="one `.pt` with `encoder.weight` (F, D), `encoder.bias` (F,), `decoder.weight` (D, F), `decoder.bias` (D,).",
    silent="model and layer, which its name says; and that it is not of another project with the same names.",
    assumed="nothing is subtracted before the encoder and the activation is ReLU, as in the only one published.",
    saelens="its loader `deepseek_r1` takes widths and model as those of this one repository; the same function.",
    source="SAELens 6.54, `deepseek_r1_sae_huggingface_loader`",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference, anybodys=True)
