"""Measure one artifact of a release on one of its evaluations."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from saereg.registry.metrics.engine import Occasion, Wanted, in_bounds, measurements, recorded, total_sums
from saereg.schemas.manifest import Manifest
from saereg.schemas.metrics import Claim, DType, Measurement

if TYPE_CHECKING:
    from saereg.registry.kernels.coded import Runner
    from saereg.registry.metrics.sources.rows import Rows
    from saereg.schemas.evaluation import Evaluation


@dataclass(frozen=True)
class Subject:
    """What is measured on what.

    Attributes:
        runner: the dictionary.
        rows: the rows.
        name: key of the evaluation in the manifest.
        evaluation: what the manifest says of it.
        manifest: the manifest.
        claims: what the author states of the dictionary.
    """

    runner: "Runner"
    rows: "Rows"
    name: str
    evaluation: "Evaluation"
    manifest: Manifest
    claims: Sequence[Claim] = ()

    @property
    def occasion(self) -> Occasion:
        """What all its measurements have in common."""
        site = self.manifest.sites.get(self.evaluation.site or "")
        return Occasion(
            evaluation=self.name,
            data_sha256=self.rows.digest(),
            are_tokens=self.evaluation.source == "tokens" or (site is not None and site.stream != "parameter"),
            excluded=self.rows.excluded,
            dtype=cast(DType, self.runner.dtype),
        )


def measure(subject: Subject, heard: Callable[[int], None] | None = None) -> tuple[Measurement, ...]:
    """Return every number that an index records: the canon, what the claims name, and, of tokens, the losses.

    Args:
        subject: what is measured on what.
        heard: called with the number of rows after each block of them.

    Raises:
        DataUnavailableError: when the model that computes the rows is not on this machine.
        WeightsError: when the data do not fit the dictionary or are not finite.
        OSError: when they cannot be read.
    """
    rest = summed_claims((claim for claim in subject.claims if claim.evaluation == subject.name), subject.rows)
    sums = total_sums(subject.runner, subject.rows, Wanted.of(rest), heard)
    return recorded(measurements(sums, subject.occasion, foreign=True), rest) + losses(subject)


def summed_claims(claims: Iterable[Claim], rows: "Rows") -> list[Claim]:
    """Return the claims that sums over rows can speak of: losses are no such sums, and targets have no other units.

    Of claims that name more batch sizes than `MOST_BATCH_SIZES` the first ones.
    """
    return in_bounds(
        claim
        for claim in claims
        if claim.metric != "ce_recovered_batch_mean" and (claim.units == "raw" or not rows.has_target)
    )


def losses(subject: Subject) -> tuple[Measurement, ...]:
    """Return what a dictionary costs the language model, where its rows are computed from tokens; else nothing.

    Raises:
        DataUnavailableError: when the model is not on this machine.
        WeightsError: when the dictionary does not fit the site, or a loss is not finite.
    """
    from saereg.registry.metrics.losses import BATCH_MEAN, measure_losses
    from saereg.registry.metrics.sources.tokens import ModelRows

    if not isinstance(subject.rows, ModelRows):
        return ()
    named = [claim for claim in subject.claims if claim.metric == BATCH_MEAN and claim.evaluation == subject.name]
    sizes = {claim.batch_rows for claim in in_bounds(named) if claim.batch_rows is not None}
    return measure_losses(subject.runner, subject.rows, subject.occasion, batch_contexts=sizes)
