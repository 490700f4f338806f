"""Is the decoder the encoder transposed? Both matrices are read in blocks, and neither is ever in memory whole."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from saereg.registry.readings.recipes import Recipes
from saereg.schemas.recipe import TRANSPOSE, Step, moved, transposed

if TYPE_CHECKING:
    from saereg.registry.files.tensors import TensorFile

ONE_SOURCE = {"W_enc": transposed("W_enc"), "W_dec": moved("W_dec")}
"""Of an SAE or transcoder: both (F, D)."""

MANY_SOURCES = {
    "W_enc": moved("W_enc", Step(do="merge_first_axes"), TRANSPOSE),
    "W_dec": moved("W_dec", Step(do="merge_last_axes")),
}
"""Of a crosscoder, (K, D, F) and (F, K, D): both (F, K·D)."""


@dataclass(frozen=True)
class Tie:
    """A decoder against the encoder transposed.

    Attributes:
        shapes: shapes and types of encoder and decoder, both as (F, D).
        comparable: whether those are the same.
        bitwise: whether the bytes are, too.
        max_abs_diff: largest absolute difference; 0 where they cannot be compared.
    """

    shapes: tuple[str, str]
    comparable: bool
    bitwise: bool
    max_abs_diff: float


def compare_tied(file: "TensorFile") -> Tie:
    """Compare `W_dec` with `W_enc` transposed, both of which the file has.

    Raises:
        WeightsError: when one of them is no matrix, nor a stack of matrices.
        OSError: when the file cannot be read.
    """
    from saereg.registry.evidence.comparing import max_abs_diff, same_bytes

    plan = MANY_SOURCES if len(file.entries["W_enc"].shape) > 2 else ONE_SOURCE
    made = Recipes({"": file}, plan)
    encoder, decoder = made.entry("W_enc"), made.entry("W_dec")
    shapes = f"{encoder.dtype} {encoder.shape}", f"{decoder.dtype} {decoder.shape}"
    if (encoder.dtype, encoder.shape) != (decoder.dtype, decoder.shape):
        return Tie(shapes, comparable=False, bitwise=False, max_abs_diff=0.0)
    bitwise, largest, rest = True, 0.0, tuple((0, size) for size in decoder.shape[1:])
    for first, block in made.blocks("W_enc"):
        other = made.box("W_dec", ((first, first + len(block)), *rest))
        if not same_bytes(block, other):
            bitwise, largest = False, max(largest, max_abs_diff(block, other))
        del block, other  # before the next pair is made
    return Tie(shapes, comparable=True, bitwise=bitwise, max_abs_diff=largest)
