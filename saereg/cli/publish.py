"""`saereg publish`."""

import importlib.util
from pathlib import Path

import click

from saereg.cli.options import local_folder
from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural, size
from saereg.schemas.plan import Plan, Receipt
from saereg.schemas.report import LEVELS, Level

MARKS = {"add": "+", "change": "~", "remove": "-"}


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option(
    "--level",
    type=click.Choice(LEVELS[1:]),
    help="Depth of the validation before. [default: weights; header without torch]",
)
@click.option("--delete-remote-only", is_flag=True, help="Remove files that the target has and the release has not.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--receipt", type=click.Path(path_type=Path, dir_okay=False), help="Also write the receipt there.")
def command(
    source: str,
    target: str,
    dry_run: bool,
    level: Level | None,
    delete_remote_only: bool,
    form: str,
    receipt: Path | None,
) -> None:
    """Publish a release folder to TARGET, e.g. dir:/srv/releases/name.

    The release is validated first; with errors nothing is published. A second run changes nothing.
    """
    from saereg.publishers import publisher_of
    from saereg.registry.validators.runner import validate

    root, publisher = local_folder(source), publisher_of(target, delete_unknown=delete_remote_only)
    with bar("validate") as progress:
        report = validate(root, level or _deepest_available(), progress=progress)
    plan = publisher.plan(root, report)
    if dry_run:
        click.echo(plan.text() if form == "json" else _plan_text(plan), nl=False)
        flags = ("--delete-remote-only",) if delete_remote_only else ()
        next_step("saereg publish", source, target, *(("--level", level) if level else ()), *flags)
        return
    with bar("publish") as progress:
        done = publisher.apply(root, plan, progress)
    if receipt is not None:
        from saereg.registry.files.atomic import write_text_atomically

        write_text_atomically(receipt, done.text())
    click.echo(done.text() if form == "json" else _plan_text(plan) + _receipt_text(done), nl=False)
    next_step("saereg ls", target.partition(":")[2])


def _deepest_available() -> Level:
    if importlib.util.find_spec("torch") is None:
        click.echo("note: validating at level header; level weights needs pip install 'saereg[torch]'", err=True)
        return "header"
    return "weights"


def _plan_text(plan: Plan) -> str:
    kept = [operation for operation in plan.operations if operation.action != "remove"]
    moved = sum(operation.size for operation in kept if operation.action != "same")
    total = sum(operation.size for operation in kept)
    lines = [
        f"{plan.release}, validated at level {plan.validated_at_level}: 0 errors",
        f"to {plan.target}: {plural(len(kept), 'file')}, {size(total)} ({size(total - moved)} already there)",
    ]
    shown = [operation for operation in plan.operations if operation.action != "same"]
    lines += [f"  {MARKS[o.action]} {o.path}  {size(o.size)}" for o in shown[:40]]
    lines += [f"  … {plural(len(shown) - 40, 'more file')}"] if len(shown) > 40 else []
    same = len(plan.operations) - len(shown)
    return "\n".join(lines + ([f"  = {plural(same, 'file')} unchanged"] if same else [])) + "\n"


def _receipt_text(receipt: Receipt) -> str:
    if not receipt.changed:
        return "nothing to do: the target holds exactly this release\n"
    return (
        f"published in {receipt.seconds:.1f} s, {size(receipt.bytes_written)} written, every file read back and equal\n"
    )
