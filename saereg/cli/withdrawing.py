"""What `saereg yank` and `saereg deprecate` have in common."""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import click

from saereg.cli.options import local_folder
from saereg.cli.render.text import next_step, plural, visible
from saereg.errors import UsageError
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.refs import parse_reference
from saereg.registry.withdrawal import is_later, is_version, mark_of, restore, told, withdraw, without_v
from saereg.registry.withdrawn_documents import DOCUMENTS, Marked, mark_folder, today
from saereg.schemas.document import canonical
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal

Kind = Literal["yanked", "deprecated"]

VERBS: dict[Kind, str] = {"yanked": "yank", "deprecated": "deprecate"}


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; each field but the first is the argument or flag of its name."""

    kind: Kind
    version: str | None
    reason: str | None
    successor: str | None
    artifacts: tuple[str, ...]
    undo: bool
    dry_run: bool
    form: str
    leave_stale: bool = False
    replace: bool = False

    @property
    def ids(self) -> tuple[str | None, ...]:
        """What is marked: artifacts, or the version as a whole."""
        return tuple(dict.fromkeys(self.artifacts)) or (None,)

    def title(self, version: str) -> str:
        """Return what a commit is called that does it."""
        names = ", ".join(self.artifacts[:3]) + (", …" if len(self.artifacts) > 3 else "")
        what = f"{names} of {version}" if names else version
        return f"Take back that {what} is {self.kind}" if self.undo else f"{VERBS[self.kind].capitalize()} {what}"


Check = Callable[[Manifest, str, str | None], None]
"""Refuses a version that was never published, or an artifact that it did not have."""

Successor = Callable[[Manifest, str | None], str | None]
"""Returns a successor as the manifest has it."""


def arguments(function: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments and flags of both verbs."""
    for add in reversed(
        (
            click.argument("target"),
            click.argument("version", required=False),
            click.option("--reason", metavar="TEXT", help="Why, for readers."),
            click.option(
                "--successor",
                metavar="REF",
                help="What to use instead: a version, an artifact's id, or hf://org/repo[@v1.1.0].",
            ),
            click.option("--artifact", "artifacts", multiple=True, metavar="ID", help="Only this one; repeatable."),
            click.option("--undo", is_flag=True, help="Take the mark back."),
            click.option(
                "--leave-stale", is_flag=True, help="Also where that leaves a signature on the Hub that no longer fits."
            ),
            click.option("--dry-run", is_flag=True, help="Say what would change, and stop."),
            click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True),
        )
    ):
        function = add(function)
    return function


def run(kind: Kind, target: str, **flags: Any) -> None:  # noqa: ANN401 - one value per flag
    """Mark a release folder or a branch on the Hub, and say what was done."""
    wanted = Wanted(kind, **flags)
    _require_sense(wanted, target)
    date = today(os.environ.get("SOURCE_DATE_EPOCH"))
    done = (_on_the_hub if target.startswith("hf://") else _in_a_folder)(target, wanted, date)
    version = _version(wanted, done.before)
    click.echo(_json(wanted, target, done) if wanted.form == "json" else _text(wanted, version, done), nl=False)
    on_the_hub = target.startswith("hf://")
    if done.is_signed:
        until = ": saereg verify --public-key fails until it is signed again and published" if on_the_hub else ""
        click.echo(f"{SIGNATURE_FILE} no longer fits what was signed{until}", err=True)
    if wanted.dry_run and done.documents:
        next_step(f"saereg {VERBS[kind]}", target, *_again(wanted))
    elif done.commit is not None:
        next_step("saereg show", target)
    elif done.is_signed and not on_the_hub:
        next_step("saereg sign", target, "--key", "FILE")
    else:
        next_step("saereg validate", target)


def _in_a_folder(target: str, wanted: Wanted, date: str) -> Marked:
    root = local_folder(target)

    def check(manifest: Manifest, version: str, artifact: str | None) -> None:
        own = manifest.release.version
        if version != own and is_later(version, own):
            raise UsageError(f"version {version} was never published: {root} is {own}")

    def change(manifest: Manifest) -> Manifest:
        return _changed(manifest, wanted, date, check, lambda _, successor: successor)

    return mark_folder(root, change, dry_run=wanted.dry_run)


def _on_the_hub(target: str, wanted: Wanted, date: str) -> Marked:
    from saereg.publishers.hub.marking import HubBranch
    from saereg.publishers.hub.target import parse_target

    branch = HubBranch(parse_target(target), lambda line: click.echo(line, err=True))

    def change(manifest: Manifest) -> Manifest:
        return _changed(manifest, wanted, date, branch.require_published, branch.successor)

    def instead(manifest: Manifest) -> str:
        return _by_a_folder(wanted, target, _version(wanted, manifest))

    return branch.mark(
        change,
        lambda manifest: wanted.title(_version(wanted, manifest)),
        refuse_signed=None if wanted.leave_stale else instead,
        dry_run=wanted.dry_run,
    )


def _by_a_folder(wanted: Wanted, target: str, version: str) -> str:
    """Return the commands by which a signed release is marked, so that readers find a signature that fits."""
    verb, words = f"saereg {VERBS[wanted.kind]}", _again(replace(wanted, version=version))
    steps = (
        # a mark that the Hub has and the folder has not is refused by publish, so that it goes there first
        *([shlex.join([*verb.split(), target, *words, "--leave-stale"])] if wanted.undo else []),
        shlex.join([*verb.split(), "FOLDER", *words]),
        "saereg sign FOLDER --key FILE",
        shlex.join(["saereg", "publish", "FOLDER", target]),
    )
    return (
        ", and its signature would no longer fit, so nothing was changed; with the release in FOLDER: "
        f"{' && '.join(steps)}; or --leave-stale, and readers who check the signature find that it does not fit"
    )


def _changed(manifest: Manifest, wanted: Wanted, date: str, check: Check, successor: Successor) -> Manifest:
    """Return the manifest with the marks that are wanted."""
    version = _version(wanted, manifest)
    for artifact in wanted.ids:
        if wanted.undo:
            manifest = restore(manifest, version, artifact, kind=wanted.kind)
            continue
        check(manifest, version, artifact)
        facts = {"kind": wanted.kind, "reason": (wanted.reason or "").strip(), "date": date}
        instead = successor(manifest, wanted.successor)
        mark = Withdrawal.made(version=version, artifact=artifact, successor=instead, **facts)
        manifest = withdraw(manifest, mark, replace=wanted.replace)
    return manifest


def _version(wanted: Wanted, manifest: Manifest) -> str:
    return without_v(wanted.version) if wanted.version else manifest.release.version


def _require_sense(wanted: Wanted, target: str) -> None:
    """Refuse what cannot be meant, before anything is read."""
    verb = f"saereg {VERBS[wanted.kind]}"
    artifact = parse_reference(target).artifact
    if artifact is not None:
        raise UsageError(f"{target}: name the release, and the artifact behind it: --artifact {artifact}")
    if wanted.version is not None and not without_v(wanted.version)[:1].isdigit():
        raise UsageError(f"{wanted.version!r} is no version; an artifact is named by --artifact {wanted.version}")
    if wanted.version is not None and not is_version(wanted.version):
        raise UsageError(f"{wanted.version!r} is no version; write all three numbers, such as 1.0.0")
    if wanted.leave_stale and not target.startswith("hf://"):
        raise UsageError(f"{verb} --leave-stale is for a release on the Hub; sign {target} again")
    if wanted.undo and (wanted.reason or wanted.successor):
        raise UsageError(f"{verb} --undo takes a mark back; it needs neither --reason nor --successor")
    if not wanted.undo and not (wanted.reason or "").strip():
        raise UsageError(f"{verb} needs --reason TEXT: readers must know why")


def _again(wanted: Wanted) -> list[str]:
    """Return the arguments to say again when what a dry run shows is wanted."""
    words = [wanted.version] if wanted.version else []
    named = [("--reason", wanted.reason), ("--successor", wanted.successor)]
    named += [("--artifact", artifact) for artifact in wanted.artifacts]
    words += [word for flag, value in named if value for word in (flag, value)]
    switches = (("--undo", wanted.undo), ("--leave-stale", wanted.leave_stale), ("--replace", wanted.replace))
    return words + [flag for flag, on in switches if on]


def _text(wanted: Wanted, version: str, done: Marked) -> str:
    lines = [_said(wanted, version, artifact, done) for artifact in wanted.ids]
    others = len(done.documents.keys() - set(DOCUMENTS))
    more = [f"{plural(others, 'card')} of artifacts"] if others else []
    names = ", ".join([*(name for name in reversed(DOCUMENTS) if name in done.documents), *more])
    if not names:
        lines.append("nothing to do: every document says so already")
    elif wanted.dry_run:
        lines.append(f"would change: {names}")
    else:
        lines.append(f"changed: {names}" + (f", in commit {done.commit}" if done.commit else ""))
    return "".join(f"{visible(line)}\n" for line in lines)


def _said(wanted: Wanted, version: str, artifact: str | None, done: Marked) -> str:
    old, new = mark_of(done.before, version, artifact), mark_of(done.after, version, artifact)
    if new is None:
        return f"{version if artifact is None else f'{artifact} of {version}'} is no longer {wanted.kind}"
    before = "" if old in (None, new) else f" (before: {told(old)})" if old else ""
    return f"{told(new)}{before}"


def _paths(done: Marked) -> list[str]:
    """Return what changes: the documents, then the cards of artifacts."""
    others = sorted(done.documents.keys() - set(DOCUMENTS))
    return [name for name in reversed(DOCUMENTS) if name in done.documents] + others


def _json(wanted: Wanted, target: str, done: Marked) -> str:
    marks = [mark.model_dump(mode="json", exclude_none=True) for mark in done.after.withdrawn]
    return canonical(
        {
            "target": target,
            "version": _version(wanted, done.before),
            "changed": _paths(done),
            "dry_run": wanted.dry_run,
            "commit": done.commit,
            "signature_fits": not done.is_signed,
            "withdrawn": marks,
        }
    )
