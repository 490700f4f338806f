"""`saereg metrics transfer`."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import click

from saereg.cli.options import (
    again,
    device_option,
    executor_option,
    model_option,
    models,
    require_known_models,
    settings,
)
from saereg.cli.progress import bar
from saereg.cli.render.text import next_step
from saereg.cli.render.transfer import transfer_csv, transfer_markdown, transfer_text
from saereg.errors import UnknownNameError, UsageError
from saereg.registry.files.blocks import require_torch
from saereg.schemas.metrics import MetricId
from saereg.schemas.transfer import TransferMatrix

SITE_HELP = "Of a whole release, only the artifacts that read this site; with :KEY_OUT, those that predict another."


@dataclass(frozen=True)
class Flags:
    """The options."""

    data: tuple[str, ...]
    home: tuple[str, ...]
    metrics: tuple[str, ...]
    site: str | None
    layout: str | None
    values: tuple[str, ...]
    models: tuple[str, ...]
    device: str
    executor: str | None
    form: str


def _flags(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, and hand them over as one value."""

    @functools.wraps(function)
    def called(dictionaries: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
        function(dictionaries, Flags(**options))

    form = click.Choice(["text", "json", "csv", "markdown"])
    options = (
        click.option("--data", "-d", multiple=True, metavar="NAME=SPEC", help="Rows of a corpus; repeat it."),
        click.option("--home", multiple=True, metavar="DICTIONARY=CORPUS", help="What one was trained on; repeat it."),
        click.option("--metric", "metrics", multiple=True, metavar="ID", help="Metric to show; repeat it."),
        click.option("--site", metavar="KEY[:KEY_OUT]", help=SITE_HELP),
        click.option("--from", "layout", metavar="LAYOUT", help="Layout of what is in no release, if several fit."),
        click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="What its files do not say."),
        model_option,
        device_option,
        executor_option,
        click.option("--format", "form", type=form, default="text", show_default=True),
    )
    for option in reversed(options):
        called = option(called)
    return called


@click.command()
@click.argument("dictionaries", nargs=-1, required=True, metavar="[NAME=]DICTIONARY...")
@_flags
def command(dictionaries: tuple[str, ...], flags: Flags) -> None:
    """Measure every dictionary on every corpus: what is lost away from the one it was trained on.

    DICTIONARY is a file or folder in any layout, release:artifact_id, or a release with all its artifacts. Without
    --data the corpora are the evaluations of the releases. A dictionary is at home on the corpus that --home says, on
    the one of its own name, or on the one of the data set that its release says it was trained on.
    """
    require_torch("measuring transfer")
    if flags.executor is None:
        from saereg.registry.loading import require_device

        require_device(flags.device)
    asked = _asked(flags.metrics)
    matrix = _matrix(dictionaries, flags, asked)
    if flags.form == "csv":
        click.echo(transfer_csv(matrix), nl=False)
    elif flags.form == "json":
        click.echo(json.dumps(matrix.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        click.echo({"text": transfer_text, "markdown": transfer_markdown}[flags.form](matrix, asked))
    if flags.form == "text":
        next_step("saereg metrics transfer", *dictionaries, *_again(flags), "--format", "markdown")


def _again(flags: Flags) -> tuple[str, ...]:
    """Return the options that were given, but the format."""
    return again(
        {
            "--data": flags.data,
            "--home": flags.home,
            "--metric": flags.metrics,
            "--site": flags.site,
            "--from": flags.layout,
            "--set": flags.values,
            "--model": flags.models,
            "--device": flags.device if flags.device != "cpu" else None,
            "--executor": flags.executor,
        }
    )


def _asked(names: Sequence[str]) -> tuple[MetricId, ...]:
    """Return the metrics that are asked for.

    Raises:
        UnknownNameError: when one is none.
        UsageError: when one is not computed here.
    """
    from saereg.registry.metrics.definitions import DEFINITIONS, FOREIGN, FOREIGN_PER_SOURCE, PER_SOURCE

    for name in names:
        if name not in get_args(MetricId):
            raise UnknownNameError("metric", name, get_args(MetricId))
        if name not in (DEFINITIONS | PER_SOURCE | FOREIGN | FOREIGN_PER_SOURCE):
            raise UsageError(f"--metric {name}: not of a matrix; it needs a batch size, or a model's loss")
    return cast(tuple[MetricId, ...], tuple(names))


def _matrix(words: Sequence[str], flags: Flags, asked: Sequence[MetricId]) -> TransferMatrix:
    from saereg.registry.metrics.definitions import FOREIGN
    from saereg.registry.recompute.chosen import Setting
    from saereg.registry.semantics import row_shape
    from saereg.registry.transfer.corpora import corpora_of_releases, corpus_of
    from saereg.registry.transfer.entrants import entrants_of, require_once
    from saereg.registry.transfer.matrix import BESIDE, at_home, require_homes, transfer_matrix
    from saereg.registry.transfer.run import measured
    from saereg.registry.work.opening import open_executor

    how = Setting(None, models(flags.models), flags.layout, settings(flags.values), flags.device)
    entrants = tuple(entrant for word in words for entrant in entrants_of(word, how, flags.site))
    releases = [entrant.artifact.release.manifest for entrant in entrants if entrant.artifact is not None]
    if not flags.data:
        require_known_models(how.models, releases)
    require_once("dictionary", [entrant.name for entrant in entrants], "NAME=PATH")
    shape = row_shape(entrants[0].cfg)
    corpora = tuple(corpus_of(word, shape, how) for word in flags.data) or corpora_of_releases(entrants, how)
    require_once("corpus", [corpus.name for corpus in corpora], "--data NAME=FILE")
    dictionaries, columns = [e.facts() for e in entrants], [c.facts() for c in corpora]
    said = _homes(flags.home)
    require_homes(dictionaries, columns, said)
    rows = [at_home(dictionary, columns, said) for dictionary in dictionaries]
    foreign = bool(set(asked) & set(FOREIGN) - set(BESIDE))
    with bar("measuring") as report, open_executor(flags.executor) as workers:
        found = measured(entrants, corpora, workers, foreign=foreign, progress=report)
    return transfer_matrix(rows, columns, found)


def _homes(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, mark, corpus = word.rpartition("=")
        if not mark or not name or not corpus:
            raise UsageError(f"--home {word}: expected DICTIONARY=CORPUS")
        if found.setdefault(name, corpus) != corpus:
            raise UsageError(f"--home {name} is given twice: {found[name]!r} and {corpus!r}")
    return found
