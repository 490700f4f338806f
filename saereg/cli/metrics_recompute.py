"""`saereg metrics recompute`."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.options import device_option, executor_option, model_option, models, require_known_models, settings
from saereg.cli.progress import bar
from saereg.cli.render.recomputed import recomputed_csv, recomputed_json, recomputed_text
from saereg.cli.render.text import next_step, plural, visible
from saereg.errors import ExitCode, UsageError
from saereg.registry.files.blocks import require_torch
from saereg.registry.refs import parse_reference

if TYPE_CHECKING:
    from saereg.registry.recompute.run import Order, Recomputation

MOST_ROWS, MOST_GIGABYTES = 10**9, 10**6
"""Largest batch size, and most memory, that can be meant."""


@dataclass(frozen=True)
class Flags:
    """The options."""

    where: tuple[str, ...]
    data: str | None
    models: tuple[str, ...]
    layout: str | None
    values: tuple[str, ...]
    device: str
    exact: bool
    batch_rows: tuple[int, ...]
    everything: bool
    executor: str | None
    out: Path | None
    memory: float | None
    densities: Path | None
    form: str


def _flags(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options to a command, and hand them over as one value."""

    @functools.wraps(function)
    def called(targets: tuple[str, ...], **options: Any) -> int:  # noqa: ANN401 - one value per option
        return function(targets, Flags(**options))

    file = click.Path(path_type=Path, dir_okay=False)
    forms, sizes = click.Choice(["text", "json", "csv"]), click.IntRange(min=1, max=MOST_ROWS)
    data_help = "Rows: FILE, FOLDER of shards, either with #tensor (or #tensor,target), or synthetic:seed=0,rows=4096."
    where_help = "Of a release, only artifacts that meet a condition such as 'l0 < 64'; repeat it."
    memory_help = (
        "What one worker may use; weights of more than half of it are streamed.  [default: half of what is free]"
    )
    out_help = "Keep one line of JSON per dictionary and evaluation; the same command again goes on where it was."
    options = (
        click.option("--where", multiple=True, metavar="CONDITION", help=where_help),
        click.option("--data", metavar="SPEC", help=f"{data_help}  [default: the evaluations of the release]"),
        model_option,
        click.option("--from", "layout", metavar="LAYOUT", help="Layout of what is in no release, if several fit."),
        click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="What its files do not say."),
        device_option,
        click.option("--exact", is_flag=True, help="Keep the dictionary's own order of operations; slower."),
        click.option("--batch-rows", type=sizes, multiple=True, help="Batch size of definitions that have one."),
        click.option("--all", "everything", is_flag=True, help="The definitions of others too."),
        executor_option,
        click.option("--memory", type=click.FloatRange(min=0.1), metavar="GB", help=memory_help),
        click.option("--out", type=file, help=out_help),
        click.option("--densities", type=file, help="Safetensors file for the rows in which each latent was active."),
        click.option("--format", "form", type=forms, default="text", show_default=True),
    )
    for option in reversed(options):
        called = option(called)
    return called


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@_flags
def command(targets: tuple[str, ...], flags: Flags) -> int:
    """Compute every metric of one or many dictionaries from their weights.

    TARGET is a release (folder or hf://org/repo[@revision]), release:artifact_id, or a file or folder in any layout
    that `saereg detect` knows. What cannot be measured is one line on stderr; the others are measured all the same.
    """
    require_torch("recomputing metrics")
    from saereg.registry.recompute.chosen import Setting
    from saereg.registry.recompute.run import Order

    _require_apart(flags)
    for option, path in (("--out", flags.out), ("--densities", flags.densities)):
        if path is not None:
            _require_free(option, path, targets)
    how = Setting(
        flags.data,
        models(flags.models),
        flags.layout,
        settings(flags.values),
        flags.device,
        flags.exact,
        _memory_bytes(flags),
    )
    order = Order(how, tuple(sorted(set(flags.batch_rows))), flags.everything, flags.densities is not None)
    run = _run(targets, flags, order)
    found = [run.found[position] for position in sorted(run.found)]
    for position in sorted(run.failures):
        click.echo(f"error: {visible(run.failures[position].why)}", err=True)
    if flags.form == "csv":
        click.echo(recomputed_csv(found), nl=False)
    elif found or flags.form == "json":
        click.echo({"text": recomputed_text, "json": recomputed_json}[flags.form](found))
    if run.failures:
        missing = plural(len(run.failures), "measurement")
        click.echo(f"{missing} of {len(found) + len(run.failures)} failed", err=True)
    elif flags.form == "text" and found[0].artifact is not None and flags.data is None:
        next_step("saereg metrics compare", targets[0])
    return ExitCode.FINDINGS if run.failures else ExitCode.CLEAN


def _require_apart(flags: Flags) -> None:
    """Refuse files that would overwrite each other, and a device that is not there, before anything is read."""
    if flags.out is not None and flags.densities is not None and flags.out.absolute() == flags.densities.absolute():
        raise UsageError(f"--out and --densities both name {flags.out}")
    if flags.executor is None:
        from saereg.registry.loading import require_device

        require_device(flags.device)


def _require_free(option: str, path: Path, targets: Sequence[str]) -> None:
    """Refuse a place that is no file, or in what is measured: nothing of it may be written over."""
    if not path.name or (path.exists() and not path.is_file()):
        raise UsageError(f"{option} {str(path) if path.name else repr('')}: name a file")
    for target in targets:
        folder = parse_reference(target).folder
        if folder is not None and folder.exists() and path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{option} {path} lies in {folder}, which is only read; name a file outside of it")


def _memory_bytes(flags: Flags) -> int | None:
    """Return what one worker may use; None on machines of which this one knows nothing."""
    from saereg.registry.kernels.streaming import MEMORY_SHARE, available_bytes

    if flags.memory is not None:
        if not 0 < flags.memory < MOST_GIGABYTES:  # so neither infinite nor no number
            raise UsageError(f"--memory {flags.memory}: expected gigabytes, such as 2.5")
        return int(flags.memory * 1e9)
    word, _, count = (flags.executor or "local:1").partition(":")
    if word != "local":
        return None
    return int(MEMORY_SHARE * available_bytes(flags.device)) // max(1, int(count) if count.isdecimal() else 1)


def _run(targets: Sequence[str], flags: Flags, order: "Order") -> "Recomputation":
    from saereg.registry.recompute.chosen import chosen_of
    from saereg.registry.recompute.densities import counted, write_densities
    from saereg.registry.recompute.journal import open_journal
    from saereg.registry.recompute.run import Failure, Recomputation
    from saereg.registry.work.opening import open_executor

    chosen = [one for target in targets for one in chosen_of(target, flags.where)]
    if not chosen:
        raise UsageError("no artifact meets every condition" if flags.where else "no artifacts")
    if (flags.values or flags.layout) and all(one.artifact is not None for one in chosen):
        raise UsageError(
            "--set and --from are for what is in no release: an artifact of a release says everything itself"
        )
    releases = [one.artifact.release.manifest for one in chosen if one.artifact is not None]
    if flags.data is None and len(releases) == len(chosen):
        require_known_models(models(flags.models), releases)
    known = counted(flags.densities) if flags.densities is not None else {}
    known = known if flags.out is not None else {}
    with open_journal(flags.out) as journal:
        run = Recomputation(order, journal, known.__contains__)
        planned = run.plan(chosen)
        failures = [one for one in planned if isinstance(one, Failure)]
        if len(failures) == len(planned):
            # rows that none of many dictionaries can read have one reason, which is said once
            reasons = {one.why.removeprefix(f"{one.name}: ") for one in failures}
            raise UsageError(reasons.pop() if len(reasons) == 1 < len(failures) else "; ".join(o.why for o in failures))
        with open_executor(flags.executor) as workers, bar("recompute") as progress:
            for _ in run.run(planned, workers, progress):
                pass
        if flags.densities is not None:
            write_densities(flags.densities, run, known)
        journal.close((run.found[at] for at in sorted(run.found)), complete=not run.failures)
    return run
