"""Measure a dictionary on several evaluations and judge what is claimed of it, whoever asks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DataUnavailableError, PublishError, WeightsError
from saereg.registry.claims.diagnosis import Diagnosed, diagnose
from saereg.registry.claims.judge import NOTHING
from saereg.registry.metrics.sources.opening import Surroundings, open_rows
from saereg.schemas.evaluation import Evaluation
from saereg.schemas.metrics import Claim, Measurement

if TYPE_CHECKING:
    from saereg.registry.kernels.coded import Runner
    from saereg.registry.metrics.sources.rows import Rows


@dataclass(frozen=True)
class Measured:
    """What came of measuring.

    Attributes:
        measurements: the canon, and what claims name.
        diagnosed: the verdicts, and with them the measurements that explain claims that differ.
        unavailable: evaluation → why its data cannot be had here.
        failed: evaluation → what is wrong with its data; of claims on them the verdict says that they do not fit.
    """

    measurements: tuple[Measurement, ...]
    diagnosed: Diagnosed
    unavailable: Mapping[str, str]
    failed: Mapping[str, WeightsError]


def measured(
    runner: "Runner",
    evaluations: Mapping[str, Evaluation],
    around: Callable[[Evaluation], Surroundings],
    claims: Sequence[Claim],
    usual: Mapping[str, float] = NOTHING,
    heard: Callable[[int], None] | None = None,
    *,
    predicts: bool = False,
) -> Measured:
    """Measure a dictionary on each evaluation that can be had, and judge its claims.

    Args:
        runner: the dictionary.
        evaluations: name → what the manifest says of it.
        around: where the parts of an evaluation are.
        claims: what the author states.
        usual: metric → tolerance, for claims that declare none.
        heard: called with the number of rows after each block of them.
        predicts: whether the dictionary predicts another site, so that its rows have targets.
    """
    from saereg.registry.metrics.evaluate import Subject, measure

    found: list[Measurement] = []
    subjects: list[Subject] = []
    unavailable: dict[str, str] = {}
    failed: dict[str, WeightsError] = {}
    for name, evaluation in evaluations.items():
        where = around(evaluation)
        try:
            rows = open_rows(evaluation, where)
            _check_targets(rows, predicts=predicts)
            subject = Subject(runner, rows, name, evaluation, where.manifest, claims)
            found += measure(subject, heard)
            subjects.append(subject)
        except DataUnavailableError as error:
            unavailable[name] = error.why
        except PublishError as error:  # a model on the Hub that cannot be had, as a folder that is not there
            unavailable[name] = str(error)
        except WeightsError as error:
            failed[name] = error
        except OSError as error:  # no path of this machine: an index has the line
            file = getattr(evaluation, "path", None) or Path(error.filename or "a file").name
            failed[name] = WeightsError(file, f"cannot be read: {error.strerror or type(error).__name__}")
    without = unavailable | {name: f"the data of {name!r} do not fit: {error}" for name, error in failed.items()}
    return Measured(tuple(found), diagnose(subjects, found, claims, usual, without), unavailable, failed)


def _check_targets(rows: "Rows", *, predicts: bool) -> None:
    """Refuse targets for what reconstructs its input, and rows without them for a transcoder.

    Where both sites have one width the numbers would be those of something else, and nothing would tell.
    """
    if rows.has_target and not predicts:
        raise WeightsError(rows.name, "has targets, but the dictionary reconstructs its input")
    if predicts and not rows.has_target:
        raise WeightsError(rows.name, "has no targets, but the dictionary predicts another site: state its `target`")
