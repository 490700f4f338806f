"""`saereg validate`."""

from pathlib import Path

import click

from saereg.cli.options import local_folder
from saereg.cli.progress import bar
from saereg.cli.render.report import RENDERERS
from saereg.cli.render.text import next_step
from saereg.errors import ExitCode
from saereg.schemas.report import LEVELS, SEVERITIES, Level, Report, Severity


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
        from saereg.registry.atomic import write_text_atomically

        write_text_atomically(output, text if form != "text" else click.unstyle(text))
    next_step(_next(report, target))
    return int(ExitCode.FINDINGS if _fails(report, fail_on) else ExitCode.CLEAN)


def _fails(report: Report, fail_on: Severity) -> bool:
    grave = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return any(finding.severity in grave for finding in report.findings)


def _next(report: Report, target: str) -> str:
    if report.errors:
        return f"saereg rule {report.errors[0].code}"
    if report.level == "data":
        return f"saereg publish {target} dir:OUT --dry-run"
    return f"saereg validate {target} --level {LEVELS[LEVELS.index(report.level) + 1]}"
