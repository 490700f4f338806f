"""`saereg registry check`."""

from pathlib import Path

import click

from saereg.cli.flags import Flags, Output, outputs, settings_of
from saereg.cli.progress import bar
from saereg.cli.render.context import Context, prefix_of
from saereg.cli.render.report import RENDERERS
from saereg.cli.render.text import next_step
from saereg.cli.validate import write_reports
from saereg.errors import ExitCode, UsageError
from saereg.registry.federation.places import PACKAGE
from saereg.schemas.report import SEVERITIES, Finding, Report, Severity

INSTALLED = ("sae_lens", "sae-lens", "saelens")
"""What the registry of the installed SAELens may be called."""


CONFIG = "Configuration to read. [default: of a file, the nearest saereg.toml; of the installed SAELens, none]"


@click.command()
@click.argument("target", default=PACKAGE, metavar="[sae_lens|FILE.yaml]")
@click.option(
    "--format",
    "--output",
    "formats",
    multiple=True,
    metavar="FMT[:PATH]",
    help="text, json, jsonl, sarif, junit, github, markdown or html, to a file or to stdout; repeat it. "
    "[default: text]",
)
@click.option("--fail-on", type=click.Choice(SEVERITIES), default="error", show_default=True, help="Least that fails.")
@click.option("--select", multiple=True, metavar="CODE", help="Look at this rule or family only; repeat it.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Count a rule or family for nothing; repeat it.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help=CONFIG)
@click.option("--isolated", is_flag=True, help="Read no configuration file.")
@click.option("--max-per-code", type=click.IntRange(min=1), default=3, show_default=True, help="Shown of one rule.")
@click.option("--all", "--verbose", "-v", "everything", is_flag=True, help="Show all findings.")
@click.option("--quiet", "-q", is_flag=True, help="Show the counts alone.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 also where something fails.")
@click.option("--remote", is_flag=True, help="Ask the Hub whether every file is there: one listing per repository.")
def command(target: str, *, max_per_code: int, everything: bool, remote: bool, **values: object) -> int:
    """Lint a registry of releases: that of the installed SAELens, or a pretrained_saes.yaml.

    The file is read as SAELens reads it, and with its lines: SR7 rules. Nothing is downloaded without --remote, and
    then no weights. Exit code 0: clean; 1: findings; 2: it cannot be read.
    """
    flags = Flags(**values)  # type: ignore[arg-type]
    wanted = outputs(flags.formats, tuple(RENDERERS))
    path = None if target in INSTALLED else Path(target)
    _spare(path, wanted)
    report, place = _linted(path, flags, remote=remote)
    context = Context(
        command="saereg registry check",
        root=place.parent,
        prefix=f"{PACKAGE}/" if path is None else prefix_of(place.parent),
        fail_on=flags.fail_on,
        verbose=everything,
        quiet=flags.quiet,
        per_code=max_per_code,
    )
    write_reports(report, context, wanted)
    grave = [finding for finding in report.findings if context.fails(finding)]
    _name_next(target, grave, remote=remote)
    return int(ExitCode.FINDINGS if grave and not flags.exit_zero else ExitCode.CLEAN)


def _spare(path: Path | None, wanted: tuple[Output, ...]) -> None:
    """Refuse to write a report over the registry that it is about."""
    for output in wanted:
        if path is not None and output.path is not None and output.path.resolve() == path.resolve():
            raise UsageError(f"{path} is the registry itself; give the report another name")


def _linted(path: Path | None, flags: Flags, *, remote: bool) -> tuple[Report, Path]:
    """Return the report, and the file that it is about."""
    from saereg.registry.federation.directory import read_directory
    from saereg.registry.federation.report import lint
    from saereg.schemas.garbage import collected_later

    settings, _ = settings_of(flags, path.parent if path is not None else None)
    with collected_later():
        directory = read_directory(path)
        asked: list[Finding] | None = None
        if remote:
            from saereg.registry.federation.remote import vanished

            with bar(f"ask for {directory.called}") as progress:
                asked = list(vanished(directory, progress))
        return lint(directory, settings, asked), directory.path


def _name_next(target: str, grave: list[Finding], *, remote: bool) -> None:
    def rank(finding: Finding) -> tuple[int, int]:
        order: tuple[Severity, ...] = SEVERITIES
        return order.index(finding.severity), finding.line or 0

    if grave:
        next_step("saereg rule", min(grave, key=rank).code)
    elif not remote:
        next_step("saereg registry check", target, "--remote")
    else:
        next_step("saereg registry add", target)
