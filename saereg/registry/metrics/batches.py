"""Sums over batches of a given size, for the definitions of others that average over batches.

A batch is `batch_rows` consecutive rows; the last may be shorter and counts in full, as in the code that these
definitions come from. Sums of whole batches merge.

Within a batch b of B rows: x̄_b its mean, SSE_b = Σ_n ‖x_n − x̂_n‖², SST_b = Σ_n ‖x_n − x̄_b‖², r_n = x_n − x̂_n.
"""

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from saereg.registry.metrics.spread import ROUNDING, Spread, float64, piece_values, pieces


def _zero() -> Tensor:
    return torch.zeros(1, dtype=torch.float64)


@dataclass(frozen=True)
class BatchSums:
    """Sums over some batches. Tensors are float64: the total (1,), or the total and K sources (1 + K,).

    A ratio whose denominator is nothing but rounding is NaN, and so is the sum that it is in.

    Attributes:
        batch_rows: rows of a batch.
        batches: how many batches, the short one included.
        rows: rows in them.
        mean_rows: rows n that are x̄_b, all sources together.
        constant: batches in which SST_b = 0, all sources together.
        active: Σ_b mean over its rows of the latents with f ≠ 0 at any source.
        width: d, sources side by side.
        errors: Σ_b SSE_b / B.
        variances: Σ_b SST_b / B.
        norms: Σ_b Σ_n ‖x_n‖² / B.
        row_ratios: Σ_b Σ_n ‖x_n − x̂_n‖² / ‖x_n − x̄_b‖².
        ratios: Σ_b SSE_b / SST_b.
        centred: Σ_b Σ_n ‖r_n − r̄_b‖² / SST_b.
        element_errors: Σ_b SSE_b / (B·d).
        element_variances: Σ_b variance of the B·d values of x about their one mean, divided by B·d − 1.
    """

    batch_rows: int
    batches: int = 0
    rows: int = 0
    mean_rows: int = 0
    constant: int = 0
    active: float = 0.0
    width: int = 0
    errors: Tensor = field(default_factory=_zero)
    variances: Tensor = field(default_factory=_zero)
    norms: Tensor = field(default_factory=_zero)
    row_ratios: Tensor = field(default_factory=_zero)
    ratios: Tensor = field(default_factory=_zero)
    centred: Tensor = field(default_factory=_zero)
    element_errors: Tensor = field(default_factory=_zero)
    element_variances: Tensor = field(default_factory=_zero)

    def merge(self, other: "BatchSums") -> "BatchSums":
        """Return the sums over the batches of both."""
        names = [f.name for f in fields(self) if f.name not in ("batch_rows", "width")]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return replace(self, width=max(self.width, other.width), **sums)


@dataclass
class Batcher:
    """Cuts blocks of rows, as they come, into batches.

    Of a batch that is not complete its rows are kept (a copy: whoever made a block may use its memory again), and sums.

    Attributes:
        batch_rows: rows of a batch.
        sums: over the batches that are complete.
    """

    batch_rows: int
    sums: BatchSums = field(init=False)
    _open: "_Open | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.sums = BatchSums(self.batch_rows)

    def add(self, x: Tensor, x_hat: Tensor, counts: Tensor) -> None:
        """Take a block of rows.

        Args:
            x: targets, shape (n, d) or (n, K, D).
            x_hat: reconstructions, same shape.
            counts: active latents of each row, shape (n,).
        """
        x, x_hat = (t if t.dim() == 3 else t.unsqueeze(1) for t in (x, x_hat))
        at = 0
        while at < len(x):
            size, sets = self._next(x, at)
            end = at + size * sets
            batch = (t[at:end].reshape(sets, size, *t.shape[1:]) for t in (x, x_hat, counts))
            self._open = self._open or _Open()
            self._open.add(*batch)
            if self._open.rows == self.batch_rows:
                self._close()
            at = end
        if self._open:
            self._open.keep()

    def _next(self, x: Tensor, at: int) -> tuple[int, int]:
        """Return how many rows of how many batches are taken together: whole small batches, or the rest of one."""
        if self._open is None and len(x) - at >= self.batch_rows:
            at_once = max(1, piece_values(x) // (self.batch_rows * x[:1].numel()))
            return self.batch_rows, min(at_once, (len(x) - at) // self.batch_rows)
        return min(len(x) - at, self.batch_rows - (self._open.rows if self._open else 0)), 1

    def finish(self) -> BatchSums:
        """Close the last batch, which may be short, and return the sums."""
        if self._open:
            self._close()
        return self.sums

    def _close(self) -> None:
        if self._open:
            self.sums = self.sums.merge(self._open.sums(self.batch_rows))
        self._open = None


class _Open:
    """Some batches of equal size that are summed together: s of them, (s, n, K, D) their rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.active = 0.0
        self.kept: list[Tensor] = []
        self.fresh = 0
        self.errors: list[Tensor] = []
        self.x: Spread | None = None
        self.residual: Spread | None = None

    def add(self, x: Tensor, x_hat: Tensor, counts: Tensor) -> None:
        """Take more rows of each, (s, n, K, D), and how many latents were active in them, (s, n)."""
        self.rows += x.shape[1]
        self.active += float(counts.sum())
        for part in pieces(x.transpose(0, 1)):
            self._add(x[:, part], x_hat[:, part])

    def _add(self, x: Tensor, x_hat: Tensor) -> None:
        self.kept.append(x)
        self.fresh += 1
        x64 = float64(x)
        residual = x64 - x_hat.to(x64.device)
        self.errors.append(residual.square().sum(3))
        spread, of_residual = Spread.of(x64, 1), Spread.of(residual, 1)
        self.x = self.x.merge(spread) if self.x else spread
        self.residual = self.residual.merge(of_residual) if self.residual else of_residual

    def keep(self) -> None:
        """Copy what came last, before its memory is used for the next block."""
        self.kept[len(self.kept) - self.fresh :] = [x.clone() for x in self.kept[len(self.kept) - self.fresh :]]
        self.fresh = 0

    def sums(self, batch_rows: int) -> BatchSums:
        """Return the sums over these batches."""
        x, residual = _given(self.x), _given(self.residual)
        floor = (x.mean * ROUNDING).square().sum(2)
        centre = x.mean.unsqueeze(1)
        row_errors = _with_total(torch.cat(self.errors, 1))
        row_variances = _with_total(torch.cat([float64(part).sub_(centre).square_().sum(3) for part in self.kept], 1))
        mean_rows = _nothing(row_variances, _with_total(floor).unsqueeze(1))
        errors, variances = row_errors.sum(1), _with_total(x.squares.sum(2))
        constant = _nothing(variances, _with_total(floor * self.rows))
        divisors = variances.masked_fill(constant, float("nan"))
        norms = variances + _with_total(x.mean.square().sum(2)) * self.rows
        elements = torch.tensor([x.mean[0].numel(), *[x.mean.shape[2]] * (errors.shape[1] - 1)]) * self.rows
        return BatchSums(
            batch_rows,
            batches=len(errors),
            rows=self.rows * len(errors),
            mean_rows=int(mean_rows[..., 0].sum()),
            constant=int(constant[:, 0].sum()),
            active=self.active / self.rows,
            width=x.mean[0].numel(),
            errors=_added(errors / self.rows),
            variances=_added(variances / self.rows),
            norms=_added(norms / self.rows),
            row_ratios=_added((row_errors / row_variances.masked_fill(mean_rows, float("nan"))).sum(1)),
            ratios=_added(errors / divisors),
            centred=_added(_with_total(residual.squares.sum(2)) / divisors),
            element_errors=_added(errors / elements.to(errors.device)),
            element_variances=_added(_element_variances(x)),
        )


def _element_variances(x: Spread) -> Tensor:
    """Return the variance of all values about their one mean, (s, 1 + K): in all, and at each source."""
    sources = _variance_of_elements(x.mean, x.squares, x.rows)
    if sources.shape[1] == 1:
        return sources
    total = _variance_of_elements(x.mean.flatten(1).unsqueeze(1), x.squares.flatten(1).unsqueeze(1), x.rows)
    return torch.cat([total, sources], 1)


def _variance_of_elements(mean: Tensor, squares: Tensor, rows: int) -> Tensor:
    between = (mean - mean.mean(2, keepdim=True)).square().sum(2) * rows
    total = squares.sum(2) + between
    total = total.masked_fill(_nothing(total, (mean * ROUNDING).square().sum(2) * rows), 0.0)
    return total / (rows * mean.shape[2] - 1)


def _with_total(values: Tensor) -> Tensor:
    """Put the sum over the sources (…, K) before them, (…, 1 + K); one source is the total."""
    return values if values.shape[-1] == 1 else torch.cat([values.sum(-1, keepdim=True), values], -1)


def _nothing(values: Tensor, floor: Tensor) -> Tensor:
    """Return which sums of squares are nothing but rounding; what overflowed is not."""
    return (values <= floor) & floor.isfinite()


def _added(values: Tensor) -> Tensor:
    return values.sum(0).cpu()


def _given(spread: Spread | None) -> Spread:
    if spread is None:
        raise ValueError("no rows")
    return spread
