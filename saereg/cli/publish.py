"""`saereg publish`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.flags import Flags, settings_of
from saereg.cli.options import again, local_folder
from saereg.cli.progress import bar
from saereg.cli.publish_source import Source
from saereg.cli.render.publishing import plan_text, receipt_text
from saereg.cli.render.text import next_step
from saereg.errors import UsageError
from saereg.schemas.plan import Plan, Receipt
from saereg.schemas.report import LEVELS

if TYPE_CHECKING:
    from saereg.publishers.publisher import Publisher, Wishes

OPTIONS = (
    click.option("--dry-run", is_flag=True, help="Show the plan and stop; needs no right to write."),
    click.option("--plan", "plan_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the plan, stop."),
    click.option(
        "--apply",
        "apply_file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Do what a written plan says; refused when target or release changed.",
    ),
    click.option("--branch", metavar="NAME", help="Branch, made if it is not there. [default: main]"),
    click.option("--tag", metavar="vX.Y.Z", help="Tag of the commit. [default: v and the manifest's version]"),
    click.option("--no-tag", is_flag=True, help="Make no tag."),
    click.option("--pr", "pull_request", is_flag=True, help="End with a pull request for somebody else to merge."),
    click.option("--private", is_flag=True, help="A repository that is made is private."),
    click.option(
        "--existing",
        type=click.Choice(["refuse", "skip", "replace"]),
        default="refuse",
        show_default=True,
        help="When this version is there with other content; a tag is never moved.",
    ),
    click.option(
        "--delete-remote-only", is_flag=True, help="Remove files that the target has and the release has not."
    ),
    click.option("--jobs", type=click.IntRange(1, 32), default=5, show_default=True, help="Files sent at a time."),
    click.option("--no-xet", is_flag=True, help="Send by Git LFS instead of Xet."),
    click.option(
        "--require-signature",
        is_flag=True,
        help="Refuse a release whose model.sig does not fit its files; anybody's will do without --public-key.",
    ),
    click.option(
        "--public-key",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Require a signature by the owner of this key (PEM); only this proves whose it is.",
    ),
    click.option(
        "--level",
        type=click.Choice(LEVELS[1:]),
        help="Depth of the validation before. [default: weights, or what the policy needs]",
    ),
    click.option("--policy", metavar="NAME", help="What it is validated for, e.g. paper."),
    click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Configuration of the validation. [default: the nearest saereg.toml]",
    ),
    click.option("--isolated", is_flag=True, help="Read no configuration file."),
    click.option(
        "--report",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Report of `saereg validate --format json` instead of a validation now.",
    ),
    click.option("--fresh", is_flag=True, help="Validate anew, also if no file changed since the last validation."),
    click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True),
    click.option("--receipt", type=click.Path(path_type=Path, dir_okay=False), help="Also write the receipt there."),
)
"""Every option, in the order of the help."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; each field is the option of its name."""

    dry_run: bool
    plan_file: Path | None
    apply_file: Path | None
    branch: str | None
    tag: str | None
    no_tag: bool
    pull_request: bool
    private: bool
    existing: str
    delete_remote_only: bool
    jobs: int
    no_xet: bool
    require_signature: bool
    public_key: Path | None
    level: str | None
    policy: str | None
    config: Path | None
    isolated: bool
    report: Path | None
    fresh: bool
    form: str
    receipt: Path | None

    def again(self) -> tuple[str, ...]:
        """Return the options to say again when the plan was what the user wanted."""
        values = {
            f"--{name.replace('_', '-')}": str(value) if (value := getattr(self, name)) is not None else None
            for name in ("branch", "tag", "public_key", "level", "policy", "config", "report", "receipt")
        }
        values["--existing"] = self.existing if self.existing != "refuse" else None
        values["--jobs"] = str(self.jobs) if self.jobs != 5 else None
        switches = {
            "--pr": self.pull_request,
            **{f"--{f.name.replace('_', '-')}": getattr(self, f.name) for f in fields(self) if f.name in SWITCHES},
        }
        return again(values) + tuple(flag for flag, on in switches.items() if on)

    def of_a_plan(self) -> dict[str, object]:
        """Return the options that a written plan has answered."""
        return {
            "--branch": self.branch,
            "--tag": self.tag,
            "--no-tag": self.no_tag,
            "--pr": self.pull_request,
            "--private": self.private,
            "--existing": self.existing != "refuse",
            "--delete-remote-only": self.delete_remote_only,
        }

    def wishes(self) -> "Wishes":
        """Return what a publisher is told."""
        from saereg.publishers.publisher import Wishes

        return Wishes(
            delete_unknown=self.delete_remote_only,
            branch=self.branch,
            tag=self.tag,
            no_tag=self.no_tag,
            pull_request=self.pull_request,
            private=self.private,
            existing=self.existing,  # type: ignore[arg-type]
            jobs=self.jobs,
            xet=not self.no_xet,
            at_least=self.level or "weights",  # type: ignore[arg-type]
            tell=lambda line: click.echo(line, err=True),
        )


SWITCHES = ("no_tag", "private", "delete_remote_only", "no_xet", "require_signature", "isolated", "fresh")


def _options(command: Any) -> Any:  # noqa: ANN401 - a decorator of click
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("source")
@click.argument("target", required=False)
@_options
def command(source: str, target: str | None, **flags: Any) -> None:  # noqa: ANN401 - one value per option
    """Publish a release folder to TARGET: hf://org/repo[@branch], or dir:/srv/releases/name.

    The release is validated first; with errors nothing is published. Readers see the old release or the new one, and
    nothing between. A second run changes nothing; a run that was killed is gone on with by the same command.
    """
    from saereg.publishers import publisher_of

    wanted = Wanted(**flags)
    planned = _read_plan(wanted, target)
    target = planned.target if planned is not None else target
    if target is None:
        raise click.UsageError("missing argument 'TARGET'", click.get_current_context())
    root, publisher = local_folder(source), publisher_of(target, _wishes(wanted, planned))
    plan = _plan(root, publisher, wanted, planned)
    if wanted.plan_file is not None or wanted.dry_run:
        _show(plan, wanted, source, target)
        return
    click.echo(plan_text(plan), nl=False, err=wanted.form == "json")
    done = _apply(root, publisher, plan)
    click.echo(
        done.text() if wanted.form == "json" else receipt_text(done, plan.hub.skips if plan.hub else None), nl=False
    )
    if wanted.receipt is not None:  # after it was told: it is done, whether that can be written down or not
        _write(wanted.receipt, done.text())
    _name_next(target, done)


def _wishes(wanted: Wanted, planned: Plan | None) -> "Wishes":
    from dataclasses import replace

    wishes = wanted.wishes()
    if planned is None:
        return wishes
    if planned.hub is None:
        return replace(wishes, delete_unknown=any(one.action == "remove" for one in planned.operations))
    hub = planned.hub
    return replace(
        wishes,
        branch=hub.branch,
        tag=hub.tag,
        no_tag=hub.tag is None and not hub.pull_request,
        pull_request=hub.pull_request,
        private=hub.private,
        existing=hub.existing,
        delete_unknown=any(one.action == "remove" for one in planned.operations),
        at_least=wanted.level or planned.validated_at_level,  # type: ignore[arg-type]
    )


def _read_plan(wanted: Wanted, target: str | None) -> Plan | None:
    if wanted.apply_file is None:
        return None
    if wanted.plan_file is not None or wanted.dry_run:
        raise UsageError("--apply does what a plan says; it does not go with --plan or --dry-run")
    if told := [flag for flag, value in wanted.of_a_plan().items() if value]:
        raise UsageError(f"--apply does what the plan says; {', '.join(told)} belongs to --plan")
    plan = Plan.read(wanted.apply_file)
    if target is not None and target.rstrip("/") != plan.target:
        raise UsageError(f"{wanted.apply_file} is a plan for {plan.target}, not for {target}")
    return plan


def _plan(root: Path, publisher: "Publisher", wanted: Wanted, planned: Plan | None) -> Plan:
    """Validate, and plan; or look at a plan that was made before."""
    settings, called = settings_of(Flags(policy=wanted.policy, config=wanted.config, isolated=wanted.isolated), root)
    if called:
        click.echo(f"configuration: {called}", err=True)
    if wanted.report is not None and wanted.fresh:
        raise UsageError("--report is a validation made before, and --fresh asks for a new one; leave one of them out")
    source = Source(root, settings, wanted.report, fresh=wanted.fresh)
    report = source.report(wanted.level or (planned.validated_at_level if planned else None))
    if wanted.require_signature or wanted.public_key is not None:
        from saereg.publishers.plan import local_state
        from saereg.publishers.signing.check import require_signature

        digests = {path: str(sha256) for path, (_, sha256) in local_state(root).items()}
        click.echo(require_signature(root, digests, wanted.public_key), err=True)
    return publisher.plan(root, report) if planned is None else publisher.renew(root, report, planned)


def _apply(root: Path, publisher: "Publisher", plan: Plan) -> Receipt:
    if plan.hub is not None:  # the client of the Hub has bars of its own, of bytes
        return publisher.apply(root, plan)
    with bar("publish") as progress:
        return publisher.apply(root, plan, progress)


def _show(plan: Plan, wanted: Wanted, source: str, target: str) -> None:
    click.echo(plan.text() if wanted.form == "json" else plan_text(plan), nl=False)
    if wanted.plan_file is None:
        next_step("saereg publish", source, target, *wanted.again())
        return
    _write(wanted.plan_file, plan.text())
    click.echo(f"plan: {wanted.plan_file}", err=True)
    next_step("saereg publish", source, "--apply", wanted.plan_file)


def _write(path: Path, text: str) -> None:
    from saereg.registry.files.atomic import write_text_atomically

    write_text_atomically(path, text)


def _name_next(target: str, done: Receipt) -> None:
    if done.hub is None:
        next_step("saereg ls", target.partition(":")[2])
    elif done.hub.waits:
        click.echo(f"next: merge it on {done.hub.url}", err=True)
    else:
        next_step("saereg verify", f"hf://{done.hub.repo}@{done.hub.tag or done.hub.commit}")
