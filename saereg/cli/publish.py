"""`saereg publish`."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from saereg.cli.flags import Flags, settings_of
from saereg.cli.options import local_folder
from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural, size
from saereg.schemas.plan import Plan, Receipt
from saereg.schemas.report import LEVELS, Level
from saereg.schemas.settings import Settings

MARKS = {"add": "+", "change": "~", "remove": "-"}


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; each field is the flag of its name."""

    dry_run: bool
    level: Level | None
    delete_remote_only: bool
    policy: str | None
    config: Path | None
    isolated: bool
    form: str
    receipt: Path | None

    def again(self) -> list[object]:
        """Return the flags to say again when the plan was what the user wanted."""
        named = (("--level", self.level), ("--policy", self.policy), ("--config", self.config))
        words: list[object] = [word for flag, value in named if value is not None for word in (flag, value)]
        switches = (("--isolated", self.isolated), ("--delete-remote-only", self.delete_remote_only))
        return words + [flag for flag, on in switches if on]


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
@click.option(
    "--level",
    type=click.Choice(LEVELS[1:]),
    help="Depth of the validation before. [default: weights, or what the policy needs; header without torch]",
)
@click.option("--delete-remote-only", is_flag=True, help="Remove files that the target has and the release has not.")
@click.option("--policy", metavar="NAME", help="What it is validated for, e.g. paper.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration of the validation. [default: the nearest saereg.toml]",
)
@click.option("--isolated", is_flag=True, help="Read no configuration file.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--receipt", type=click.Path(path_type=Path, dir_okay=False), help="Also write the receipt there.")
def command(source: str, target: str, **flags: Any) -> None:  # noqa: ANN401 - one value per flag
    """Publish a release folder to TARGET, e.g. dir:/srv/releases/name.

    The release is validated first; with errors nothing is published. A second run changes nothing.
    """
    from saereg.publishers import publisher_of
    from saereg.registry.validators.runner import validate

    wanted = Wanted(**flags)
    root, publisher = local_folder(source), publisher_of(target, delete_unknown=wanted.delete_remote_only)
    chosen = Flags(policy=wanted.policy, config=wanted.config, isolated=wanted.isolated)
    settings, called = settings_of(chosen, root)
    if called:
        click.echo(f"configuration: {called}", err=True)
    with bar("validate") as progress:
        report = validate(root, wanted.level or _default_level(settings), settings=settings, progress=progress)
    plan = publisher.plan(root, report)
    if wanted.dry_run:
        click.echo(plan.text() if wanted.form == "json" else _plan_text(plan), nl=False)
        next_step("saereg publish", source, target, *wanted.again())
        return
    with bar("publish") as progress:
        done = publisher.apply(root, plan, progress)
    if wanted.receipt is not None:
        from saereg.registry.files.atomic import write_text_atomically

        write_text_atomically(wanted.receipt, done.text())
    click.echo(done.text() if wanted.form == "json" else _plan_text(plan) + _receipt_text(done), nl=False)
    next_step("saereg ls", target.partition(":")[2])


def _default_level(settings: Settings) -> Level:
    """Return the deepest level that this machine can validate at, or a deeper one that the policy needs."""
    from saereg.registry.validators.profiles import level_needed

    needed = level_needed(settings.policy, "header")
    if importlib.util.find_spec("torch") is not None:
        return max(needed, "weights", key=LEVELS.index)
    if needed == "header":
        click.echo("note: validating at level header; level weights needs pip install 'saereg[torch]'", err=True)
    return needed


def _plan_text(plan: Plan) -> str:
    kept = [operation for operation in plan.operations if operation.action != "remove"]
    moved = sum(operation.size for operation in kept if operation.action != "same")
    total = sum(operation.size for operation in kept)
    counted = ((plan.ignored, "ignored"), (plan.lowered, "graded down from error"))
    told = ", ".join(f"{count} {word}" for count, word in counted if count)
    ignored = f", {told} (saereg validate --verbose says which)" if told else ""
    lines = [
        f"{plan.release}, validated at level {plan.validated_at_level}: 0 errors{ignored}",
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
