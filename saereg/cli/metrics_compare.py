"""`saereg metrics compare`."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from saereg.cli.options import device_option, model_option, models, require_known_models
from saereg.cli.progress import Report, bar
from saereg.cli.render.claims import Line, claims_csv, claims_json, claims_text
from saereg.cli.render.text import next_step, visible
from saereg.errors import (
    DocumentError,
    ExitCode,
    MissingExtraError,
    NothingToValidateError,
    SaeregError,
    UsageError,
)
from saereg.registry.claims.compare import Compared, Comparison, compared_with_index
from saereg.registry.hub import name_of
from saereg.registry.query import Selection, meeting
from saereg.registry.refs import parse_reference
from saereg.registry.release import MANIFEST_FILE, Release, ReleaseArtifact, open_artifact, open_release


@dataclass(frozen=True)
class Flags:
    """The options."""

    where: tuple[str, ...]
    recorded: bool
    models: tuple[str, ...]
    device: str
    policy: str | None
    form: str


def _flags(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options to a command, and hand them over as one value."""

    @functools.wraps(function)
    def called(targets: tuple[str, ...], **options: Any) -> int:  # noqa: ANN401 - one value per option
        return function(targets, Flags(**options))

    condition = "Condition such as 'l0 < 64' or 'kind = sae'; repeatable, all must hold."
    options = (
        click.option("--where", multiple=True, help=condition),
        click.option("--recorded", is_flag=True, help="Compare with index.json; nothing is recomputed."),
        model_option,
        device_option,
        click.option("--policy", type=click.Choice(["paper"]), help="Fail also what cannot be verified."),
        click.option("--format", "form", type=click.Choice(["text", "json", "csv"]), default="text", show_default=True),
    )
    for option in reversed(options):
        called = option(called)
    return called


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@_flags
def command(targets: tuple[str, ...], flags: Flags) -> int:
    """Say of every claim whether the weights bear it out, and under which definition.

    A claim is verified (within half a unit of its last printed digit, or its tolerance), differs, matches another
    definition than it names, or is not verifiable from what is released. TARGET is a release, or release:artifact_id.
    Exit code 1 where a claim differs or matches another, or an artifact cannot be measured; with --policy paper, where
    one is not verified.
    """
    chosen = {target: _artifacts(target, flags.where) for target in targets}
    if flags.where and not any(chosen.values()):
        raise NothingToValidateError(f"{', '.join(targets)}: no artifact meets {' and '.join(flags.where)}")
    lines, problems = _compared(chosen, flags)
    if problems and not lines:
        raise problems[0]
    for problem in problems:
        click.echo(f"error: {visible(str(problem))}", err=True)
    if not lines:
        raise NothingToValidateError(
            f"{', '.join(targets)}: no artifact states a claim, so there is nothing to compare"
        )
    if flags.form == "text":
        click.echo(claims_text(lines, several=len(targets) > 1))
    else:
        click.echo({"json": claims_json, "csv": claims_csv}[flags.form](lines).rstrip("\n"))
    for target in targets:
        if not (chosen[target] and chosen[target][0].release.manifest.evaluations):
            click.echo(f"{target} names no evaluation, so no claim of it can be recomputed", err=True)
    wrong = [line for line in lines if _fails(line, flags.policy)]
    _name_next(targets, wrong, flags)
    return int(ExitCode.FINDINGS if wrong or problems else ExitCode.CLEAN)


def _fails(line: Line, policy: str | None) -> bool:
    verdict = line.verdict.verdict
    return verdict != "verified" if policy == "paper" else verdict in ("differs", "matches_another")


def _artifacts(target: str, where: Sequence[str]) -> tuple[ReleaseArtifact, ...]:
    """Return the artifacts that a target names and that meet every condition."""
    return meeting(Selection(_named(target)), where).artifacts


def _named(target: str) -> tuple[ReleaseArtifact, ...]:
    reference = parse_reference(target)
    if reference.artifact is not None:
        return (open_artifact(target),)
    if reference.folder is not None and reference.folder.is_dir() and not (reference.folder / MANIFEST_FILE).is_file():
        try:
            return (open_artifact(target),)
        except DocumentError:
            raise  # the release around it cannot be read
        except UsageError:
            pass  # no artifact of a release: open_release says what it is not
    return open_release(target).artifacts


def _compared(chosen: dict[str, tuple[ReleaseArtifact, ...]], flags: Flags) -> tuple[list[Line], list[Exception]]:
    """Return the claims and what came of them, and why some artifacts could not be measured."""
    weights_of, comparisons = models(flags.models), dict[Release, Comparison]()
    pairs = [(target, artifact) for target, artifacts in chosen.items() for artifact in artifacts]
    if pairs:
        require_known_models(weights_of, [artifact.release.manifest for _, artifact in pairs])
    for _, artifact in pairs:
        comparisons.setdefault(artifact.release, Comparison(artifact.release, weights_of, flags.device))
    costs = [_cost(comparisons[artifact.release], artifact) for _, artifact in pairs]
    lines: list[Line] = []
    problems: list[Exception] = []
    with bar("compare") as progress:
        for position, (target, artifact) in enumerate(pairs):
            step = _Step(progress, artifact, sum(costs[:position]), costs[position], sum(costs))
            try:
                comparison = comparisons[artifact.release]
                compared = _of(artifact, step if not flags.recorded else None, comparison)
                lines += _lines(_release_of(target, artifact), artifact, compared)
                problems += compared.problems
            except MissingExtraError:
                raise
            except (SaeregError, OSError) as problem:
                problems.append(problem)
        progress("", 1, 1)
    return lines, problems


def _of(artifact: ReleaseArtifact, step: "_Step | None", comparison: Comparison) -> Compared:
    """Return the claims of one artifact and what came of them; without a step, as its index has it."""
    if step is None:
        return compared_with_index(artifact)
    step.heard(0)
    return comparison.of(artifact, step.heard)


def _lines(release: str, artifact: ReleaseArtifact, compared: Compared) -> Iterator[Line]:
    for verdict in compared.verdicts:
        yield Line(release, artifact.id, compared.claims[verdict.claim], verdict)


def _release_of(target: str, artifact: ReleaseArtifact) -> str:
    """Return the release of an artifact as the user would write it."""
    reference = parse_reference(target)
    if reference.repo is not None:
        return name_of(reference.repo, reference.revision)
    if reference.artifact is not None:
        return str(reference.folder)
    return target if (Path(target) / MANIFEST_FILE).is_file() else str(artifact.release.path)


def _cost(comparison: Comparison, artifact: ReleaseArtifact) -> int:
    """Return what measuring an artifact costs beside others: products per row, about, times rows."""
    rows = sum(evaluation.rows for evaluation in comparison.evaluations(artifact).values())
    return rows * _per_row(artifact) + 1


def _per_row(artifact: ReleaseArtifact) -> int:
    claim = artifact.claim
    return claim.d_in * claim.d_sae * (claim.sources.count if claim.kind == "crosscoder" else 1)


@dataclass
class _Step:
    """Tells how far one artifact has come, of all; a second pass over its rows is not told."""

    progress: Report
    artifact: ReleaseArtifact
    before: int
    cost: int
    total: int
    done: int = 0

    def heard(self, rows: int) -> None:
        """Rows were measured."""
        self.done += rows * _per_row(self.artifact)
        self.progress(self.artifact.id, self.before + min(self.done, self.cost), self.total)


def _name_next(targets: Sequence[str], wrong: Sequence[Line], flags: Flags) -> None:
    """Name the next command: what mends the claims, or a deeper look."""
    first = wrong[0].release if wrong else targets[0]
    whole = parse_reference(first)
    if whole.artifact is not None or whole.repo is not None:
        next_step("saereg show", wrong[0].where if wrong else first)
    elif wrong and flags.recorded:
        next_step("saereg validate", first, "--unsafe-fixes", "--diff")
    elif wrong:
        next_step("saereg build", first)
    elif flags.recorded:
        next_step("saereg metrics compare", *targets)
    else:
        next_step("saereg validate", first, "--level", "data", "--policy", "paper")
