"""Qwen Scope: one pickled file per layer, tensors by SAELens' names but transposed; TopK.

Source: the model cards of Qwen/SAE-Res-*; the loader `qwen_scope` of SAELens 6.54, `pretrained_sae_loaders.py`.
"""

import re
from typing import TYPE_CHECKING

from saereg.errors import UsageError
from saereg.registry.readings.format import About, Format
from saereg.registry.readings.given import Given, missing
from saereg.registry.readings.reading import Reading, dictionary, told, with_left_out
from saereg.registry.readings.source import PICKLES, Source
from saereg.schemas.recipe import moved, transposed
from saereg.schemas.semantics import Assumption, Semantics

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw

NAME = "qwen_scope"

TENSORS = frozenset({"W_enc", "W_dec", "b_enc", "b_dec"})

IN_A_PATH = re.compile(r"L0_([1-9]\d{0,4})\b")
"""How the publisher's repositories are named after k."""


def detect(source: Source) -> str | None:
    """A pickled file with four tensors of SAELens' names, each matrix transposed."""
    if source.keys != TENSORS or source.weights is None or source.weights.path.suffix not in PICKLES:
        return None
    latents, inputs = source.shape("b_enc"), source.shape("b_dec")
    matrix = latents + inputs
    if (
        latents == inputs
        or source.shape("W_enc") != matrix
        or source.shape("W_dec") != matrix[::-1]
        or len(matrix) != 2
    ):
        return None  # square matrices do not tell which way they lie
    return "a pickled file of `W_enc` (d_sae, d_in), `W_dec` (d_in, d_sae), `b_enc` and `b_dec` alone"


def read(source: Source, given: Given) -> Reading:
    """Read the file of one layer; k stands in no file and must be given.

    Raises:
        FormatError: when k is not given.
        UsageError: when it exceeds the number of latents.
        WeightsError: when a tensor is missing or of another shape.
    """
    k, d_sae = given.whole("k"), max(source.shape("b_enc"), default=0)
    if k is None:
        hint = IN_A_PATH.search(str(source.path.absolute()))
        named = f", which its path may name: L0_{hint[1]}" if hint else ", which the name of its repository says"
        why = f"a TopK dictionary, and the file does not hold k{named}"
        raise missing(source.path, "k", why, hint[1] if hint else "50")
    if k > d_sae:
        raise UsageError(f"k={k}: there are only d_sae = {d_sae} latents")
    rectified, notes = given.flag("rectified"), list(given.assumptions)
    if rectified is None:
        because = "as SAELens reads it; the k largest are hardly ever negative"
        notes.append(Assumption(field="rectified", value="True", because=because))
    because = "the file does not say it; so it is in what is published in this layout"
    notes.append(Assumption(field="pre_encoder_subtraction", value="none", because=because))
    reading = dictionary(
        {"": source.only()},
        {
            "W_enc": transposed("W_enc"),
            "b_enc": moved("b_enc"),
            "W_dec": transposed("W_dec"),
            "b_dec": moved("b_dec"),
        },
        kind="sae",
        semantics=Semantics(
            pre_encoder_subtraction="none",
            activation="topk",
            gate_quantity="pre_activation",
            rectified=rectified is not False,
            k=float(k),
        ),
        assumptions=notes,
    )
    return with_left_out(reading, ())


def reference(raw: "Raw", reading: Reading, x: "Tensor") -> "Codes":
    """x·W_encᵀ + b_enc, the k largest of each row, ReLU; f·W_decᵀ + b_dec."""
    from saereg.registry.readings import reference as do

    pre = raw.times_transposed(x, "W_enc") + raw.vector("b_enc")
    given = told(reading)
    f, margin = do.topk(pre, given.whole("k") or 0, keep_negative=given.flag("rectified") is False)
    return do.Codes(f, raw.times_transposed(f, "W_dec") + raw.vector("b_dec"), margin)


ABOUT = About(
    title="Qwen Scope",
    used_by="`Qwen/SAE-Res-<model>-W<N>K-L0_<k>`",
    files="`layer<n>.sae.pt`, a pickled dictionary of `W_enc` (F, D), `W_dec` (D, F), `b_enc` (F,), `b_dec` (D,).",
    silent="k, which the repository's name says; model and layer.",
    assumed="a latent that is kept with a negative value becomes 0, unless `rectified=false` is given; `k` is always "
    "given.",
    saelens="its loader `qwen_scope` takes k, width and model from the repository's name, so it reads its repositories "
    "alone; the same function.",
    source="the model cards, and SAELens 6.54, `qwen_scope_sae_huggingface_loader`",
)

FORMAT = Format(NAME, detect, read, ABOUT, reference=reference)
