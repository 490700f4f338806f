"""How one tensor is made from a tensor of another file: which one, and what is done to it, step by step."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from saereg.schemas.document import Record
from saereg.schemas.metrics import DType

Finite = Annotated[float, Field(allow_inf_nan=False)]

Operation = Literal[
    "transpose",
    "swap_axes",
    "take",
    "squeeze",
    "merge_first_axes",
    "merge_last_axes",
    "exp",
    "scale",
    "cast",
    "broadcast",
    "times",
    "divide",
    "sum_first_axis",
    "plus",
    "reciprocal",
    "log",
    "sqrt",
    "norm_last_axis",
    "sum_last_axis",
]
"""What a step does; the formulas stand in `saereg/registry/readings/recipes.py`."""

MOVEMENTS = frozenset({"transpose", "swap_axes", "take", "squeeze", "merge_first_axes", "merge_last_axes"})
"""Operations that move bytes and compute nothing: "bitwise" is said of recipes of these alone."""

ARGUMENTS: dict[Operation, tuple[str, ...]] = {
    "take": ("axis", "index"),
    "squeeze": ("axis",),
    "scale": ("by",),
    "cast": ("to",),
    "broadcast": ("shape",),
    "times": ("vector", "axis"),
    "divide": ("vector", "axis"),
    "plus": ("vector", "axis"),
    "reciprocal": ("by",),
}
"""Operation → the arguments that it needs; it takes no others. In the place of `vector` may stand `other`."""


class Step(Record):
    """One operation."""

    do: Operation
    """What is done."""
    by: float | None = Field(default=None, allow_inf_nan=False)
    """Factor of `scale`; what `reciprocal` adds to the denominator."""
    to: DType | Literal["int32", "int64"] | None = None
    """Type that `cast` gives; a whole number only where a layout wants one, such as k."""
    axis: int | None = Field(default=None, ge=0)
    """Axis of `take` and `squeeze`; axis that the vector of `times`, `divide` and `plus` runs along."""
    index: int | None = Field(default=None, ge=0)
    """Position that `take` takes."""
    shape: tuple[int, ...] | None = None
    """Shape that `broadcast` fills."""
    vector: Literal["decoder_norm"] | None = None
    """Numbers of `times`, `divide` and `plus`: the norms of the decoder as it is before such a step."""
    other: "SourceTensor | None" = None
    """Numbers of `times`, `divide` and `plus` instead: a vector that is made by a recipe of its own."""

    @model_validator(mode="after")
    def _arguments(self) -> Self:
        needed = set(ARGUMENTS.get(self.do, ()))
        names = ("by", "to", "axis", "index", "shape", "vector", "other")
        given = {name for name in names if getattr(self, name) is not None}
        if "vector" in needed and "other" in given:
            needed = needed - {"vector"} | {"other"}
        if needed != given:
            takes = ", ".join(sorted(needed)) or "no argument"
            raise ValueError(f"step {self.do!r} takes {takes}; found {', '.join(sorted(given)) or 'none'}")
        return self

    @property
    def is_movement(self) -> bool:
        """Whether it only moves bytes."""
        return self.do in MOVEMENTS

    def __str__(self) -> str:
        """Return the step in a few words, e.g. `scale by 0.5`."""
        words = {"by": self.by, "to": self.to, "axis": self.axis, "index": self.index, "shape": self.shape}
        vector = f" {self.vector}" if self.vector else ""
        if self.other is not None:
            vector = f" [{self.other.key}: {self.other.operation}]"
        return self.do + vector + "".join(f" {name} {value}" for name, value in words.items() if value is not None)


class SourceTensor(Record):
    """Where one tensor comes from."""

    key: str | None = None
    """Tensor in the source; null: one number everywhere, because the source has no such tensor. In a nested checkpoint
    the keys on the way are joined by `/`."""
    fill: Finite | tuple[Finite, ...] | None = None
    """That number, or one for each element of a vector, which a document of the source or the caller gives; null: 0.
    Steps that change only its shape are left out."""
    file: str | None = None
    """File of the source that holds it, where there are several."""
    steps: tuple[Step, ...] = ()
    """What is done to it, in order; empty: nothing."""

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.key is not None and self.fill is not None:
            raise ValueError("`key` and `fill` exclude each other")
        return self

    @property
    def is_movement(self) -> bool:
        """Whether its bytes are only moved."""
        return self.key is not None and all(step.is_movement for step in self.steps)

    @property
    def keys(self) -> frozenset[str]:
        """Every tensor of the source that it is made from."""
        others = [step.other.keys for step in self.steps if step.other is not None]
        return frozenset({self.key} if self.key is not None else ()).union(*others)

    @property
    def operation(self) -> str:
        """What is done to it, in words."""
        steps = ", ".join(str(step) for step in self.steps)
        if self.key is None:
            number = f"{self.fill} everywhere" if self.fill else "zeros"
            number = f"numbers {list(self.fill)}" if isinstance(self.fill, tuple) else number
            return f"{number}, {steps}" if steps else number
        return steps or "identity"


Step.model_rebuild()

TRANSPOSE = Step(do="transpose")
SWAP_AXES = Step(do="swap_axes")
EXP = Step(do="exp")
LOG = Step(do="log")


def moved(key: str, *steps: Step, file: str | None = None) -> SourceTensor:
    """Return the recipe that takes a tensor and does these steps to it."""
    return SourceTensor(key=key, file=file, steps=steps)


def transposed(key: str, *steps: Step, file: str | None = None) -> SourceTensor:
    """Return the recipe that transposes a matrix and then does these steps."""
    return SourceTensor(key=key, file=file, steps=(TRANSPOSE, *steps))


ZEROS = SourceTensor(key=None)
"""A tensor that the source does not have and that means nothing there."""


def constant(number: float | tuple[float, ...], *steps: Step) -> SourceTensor:
    """Return the recipe of a tensor that is one number, or of a vector, which is not in a tensor of the source."""
    return SourceTensor(fill=number, steps=steps)


def scalar(number: float, to: DType | Literal["int32", "int64"]) -> SourceTensor:
    """Return the recipe of a tensor of shape () that is in no tensor of the source."""
    return constant(number, Step(do="broadcast", shape=()), Step(do="cast", to=to))


def scaled(by: float) -> Step:
    """Return the step that multiplies by a number."""
    return Step(do="scale", by=by)


def cast_to(dtype: DType) -> Step:
    """Return the step that changes the type."""
    return Step(do="cast", to=dtype)


def times_decoder_norm(axis: int) -> Step:
    """Return the step that multiplies by the decoder norms, which run along `axis`."""
    return Step(do="times", vector="decoder_norm", axis=axis)


def divided_by_decoder_norm(axis: int) -> Step:
    """Return the step that divides by the decoder norms, which run along `axis`."""
    return Step(do="divide", vector="decoder_norm", axis=axis)


def times_by(other: SourceTensor, axis: int) -> Step:
    """Return the step that multiplies by a vector with a recipe of its own, which runs along `axis`."""
    return Step(do="times", other=other, axis=axis)


def divided_by(other: SourceTensor, axis: int) -> Step:
    """Return the step that divides by a vector with a recipe of its own, which runs along `axis`."""
    return Step(do="divide", other=other, axis=axis)


def plus(other: SourceTensor, axis: int = 0) -> Step:
    """Return the step that adds a vector with a recipe of its own, which runs along `axis`."""
    return Step(do="plus", other=other, axis=axis)
