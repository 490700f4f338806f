"""`saereg validate`."""

from pathlib import Path

import click

from saereg.cli.options import local_folder
from saereg.cli.progress import bar
from saereg.cli.render.report import RENDERERS
from saereg.cli.render.text import next_step
from saereg.errors import ExitCode
from saereg.schemas.report import LEVELS, SEVERITIES, Finding, Level, Report, Severity


@click.command()
@click.argument("target")
@click.option("--level", type=click.Choice(LEVELS), default="header", show_default=True, help="Depth of the checks.")
@click.option("--format", "form", type=click.Choice(list(RENDERERS)), default="text", show_default=True)
@click.option(
    "--fail-on", type=click.Choice(SEVERITIES), default="error", show_default=True, help="Least severity that fails."
)
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="Folder of source checkpoints, for the round trip."
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the report there instead of stdout."
)
def command(
    target: str, level: Level, form: str, fail_on: Severity, checkpoints: Path | None, output: Path | None
) -> int:
    """Check a release folder.

    Levels: layout (names, documents) < header (configurations, safetensors headers) < weights (values, golden vectors,
    round trip) < data (metrics recomputed). Exit code 0: clean; 1: findings; 5: nothing to validate.
    """
    from saereg.registry.validators.runner import validate

    root = local_folder(target)
    with bar(f"validate {root.name}") as progress:
        report = validate(root, level, checkpoints=checkpoints, progress=progress)
    text = RENDERERS[form](report, root)
    if output is None:
        click.echo(text, nl=False)
    else:
        from saereg.registry.files.atomic import write_text_atomically

        write_text_atomically(output, text if form != "text" else click.unstyle(text))
        click.echo(f"report: {output}", err=True)
    grave = _grave(report, fail_on)
    if grave:
        next_step("saereg rule", grave[0].code)
    elif report.level == "data":
        next_step("saereg publish", target, "dir:OUT", "--dry-run")
    else:
        deeper = LEVELS[LEVELS.index(report.level) + 1]
        next_step("saereg validate", target, "--level", deeper, *_given(checkpoints))
    return int(ExitCode.FINDINGS if grave else ExitCode.CLEAN)


def _grave(report: Report, fail_on: Severity) -> list[Finding]:
    """Return the findings that fail the run, the gravest first."""
    counted = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return sorted((f for f in report.findings if f.severity in counted), key=lambda f: counted.index(f.severity))


def _given(checkpoints: Path | None) -> tuple[object, ...]:
    return ("--checkpoints", checkpoints) if checkpoints else ()
