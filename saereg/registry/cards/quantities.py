"""Numbers in a table of a card: which quantity a header names, and whether a cell agrees with a value."""

import re
from dataclasses import dataclass
from typing import get_args

from saereg.schemas.metrics import MetricId

EV = (
    "explained_variance",
    "explained_variance_legacy_rowmean",
    "fve_centred_residual",
    "fve_scalar_var",
    "ev_saelens_uncentred",
)
L0 = ("l0", "l0_per_source_mean", "l0_any_source")

QUANTITIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ev", "explained variance", "variance explained", "explained var", "var explained", "fve"), EV),
    **dict.fromkeys(("l0", "mean l0", "avg l0", "average l0", "l0 norm", "active latents"), L0),
    "l0 per source": ("l0_per_source_mean",),
    **dict.fromkeys(("fvu", "fraction of variance unexplained"), ("fvu",)),
    **dict.fromkeys(("nmse", "normalized mse", "normalised mse"), ("nmse_uncentred_row", "fvu")),
    **dict.fromkeys(("dead", "dead fraction", "dead latents", "dead features", "fraction dead"), ("dead_fraction",)),
    **dict.fromkeys(("ce recovered", "loss recovered", "ce loss recovered"), ("ce_recovered",)),
    **dict.fromkeys(
        ("d_sae", "d sae", "dsae", "width", "latents", "n latents", "features", "n features", "dict size",
         "dictionary size", "sae width", "number of latents"), ("d_sae",)),
    **dict.fromkeys(("d_in", "d in", "d_model", "input width", "activation width"), ("d_in",)),
    **dict.fromkeys(("k", "top k", "topk", "top-k"), ("k",)),
    **dict.fromkeys(("layer",), ("layer",)),
    **dict.fromkeys(("seed",), ("seed",)),
    **dict.fromkeys(("l1", "l1 coefficient", "l1 coeff", "l1 penalty"), ("l1_coefficient",)),
    **dict.fromkeys(("λ", "lambda", "sparsity coefficient"), ("l1_coefficient", "l0_coefficient")),
    "target l0": ("target_l0",),
}  # fmt: skip
"""Header in small letters → fields that it can mean; a cell is right when it agrees with one of them."""

METRICS = frozenset(get_args(MetricId))

_MEASURED = re.compile(r"(?<!target )\b(EV|L0|FVU|NMSE)\s*[:=≈~]?\s*(-?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?%?)", re.I)
_NUMBER = re.compile(
    r"(?P<about>[~≈]\s*)?(?P<number>[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*(?P<unit>[kKMm]|%)?"
    r"(?:\s*(?:±|\+/-)\s*\S+)?"
)
_UNITS = {"k": (1000.0, 1024.0), "m": (1e6, 1024.0 * 1024.0)}


@dataclass(frozen=True)
class Printed:
    """A number as it is printed.

    Attributes:
        text: as it stands there.
        value: the number.
        step: one unit of its last digit.
        unit: `k`, `m`, `%` or nothing.
        about: whether it is marked as approximate.
    """

    text: str
    value: float
    step: float
    unit: str
    about: bool

    def agrees(self, value: float, tolerance: float = 0.0) -> bool:
        """Whether it is a value rounded or cut at this digit; `163k` is 163,840 too."""
        if self.unit in _UNITS:
            return any(abs(value / unit - self.value) < self.step for unit in _UNITS[self.unit])
        if self.unit == "%":
            return self._near(100.0 * value, 100.0 * tolerance) or self._near(value, tolerance)
        return self._near(value, tolerance)

    def _near(self, value: float, tolerance: float) -> bool:
        room = (max(0.05 * abs(value), self.step) if self.about else 0.5 * self.step) + tolerance
        cut = abs(value) - abs(self.value)
        towards_zero = value * self.value >= 0 and -tolerance <= cut < self.step
        return abs(value - self.value) <= room * (1 + 1e-9) or towards_zero


def quantity_of(header: str) -> tuple[str, ...]:
    """Return the fields that the header of a column names, or nothing where it is not known."""
    named = tuple(word for word in re.findall(r"[a-z0-9_]+", header.lower()) if word in METRICS and "_" in word)
    if named:
        return named
    bare = re.sub(r"\([^()]*\)|\[[^\[\]]*\]|[↑↓%*$]", " ", header.lower())
    return QUANTITIES.get(" ".join(bare.split()), ())


def printed(cell: str) -> Printed | None:
    """Return the number of a cell that holds nothing else, or None."""
    found = _NUMBER.fullmatch(cell.strip())
    if found is None or not found["number"] or not any(c.isdigit() for c in found["number"]):
        return None
    text = found["number"].replace(",", "").replace("−", "-")
    mantissa, _, exponent = text.lower().partition("e")
    try:
        value, step = float(text), 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    except (ValueError, OverflowError):
        return None
    return Printed(cell.strip(), value, step, (found["unit"] or "").lower(), bool(found["about"]))


def labelled(cell: str) -> list[tuple[str, Printed]]:
    """Return (label, number) of every labelled number in a cell, as in `EV 0.748 / L0 160`."""
    pairs = ((label, printed(number)) for label, number in _MEASURED.findall(cell))
    return [(label, number) for label, number in pairs if number]
