"""`saereg pull`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.options import where_option
from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural, size
from saereg.errors import UsageError

if TYPE_CHECKING:
    from saereg.registry.fetching.pulling import Asked, Pull
    from saereg.schemas.lock import Lock, LockedRelease

SHOWN = 40
"""Files that a dry run lists."""

MARKS = {"fetch": "+", "replace": "~", "remove": "-"}


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; each field is the flag of its name."""

    where: tuple[str, ...]
    out: Path | None
    jobs: int
    lock: Path | None
    no_lock: bool
    whole: bool
    with_evaluations: bool
    allow_yanked: bool
    force: bool
    dry_run: bool
    form: str


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET] [ID]...")
@where_option
@click.option("--all", "whole", is_flag=True, help="Every artifact.")
@click.option("--with-evaluations", is_flag=True, help="Also the rows on which the artifacts were measured.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder.  [default: the repository's name]"
)
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Connections.")
@click.option("--lock", type=click.Path(path_type=Path, dir_okay=False), help="Lock file.  [default: ./saereg.lock]")
@click.option("--no-lock", is_flag=True, help="Ignore ./saereg.lock.")
@click.option("--allow-yanked", is_flag=True, help="Also what its author calls wrong.")
@click.option("--force", is_flag=True, help="Overwrite files that no earlier pull brought.")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched and stop.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(words: tuple[str, ...], **flags: Any) -> None:  # noqa: ANN401 - one value per flag
    """Fetch artifacts of a release on the Hub into a folder, each file compared with the index.

    TARGET is hf://org/repo[@revision]. Fetched are manifest, index, card and signature, and the files of the artifacts
    that are named or that meet every --where; without either, those of an earlier pull or of the lock, so that a fresh
    folder without a lock needs a choice, or --all. Without TARGET, everything in the lock. The folder changes only once
    everything is there; a pull that was interrupted goes on.
    """
    wanted = Wanted(**flags)
    if wanted.no_lock and wanted.lock is not None:
        raise UsageError("--lock and --no-lock exclude each other")
    lock, source = _lock(wanted)
    if not words:
        if lock is None or not lock.releases:
            raise click.UsageError("missing argument 'TARGET'", click.get_current_context())
        if wanted.out is not None and len(lock.releases) > 1:
            raise UsageError(f"{source} has {len(lock.releases)} releases; --out is for one of them, name it")
        done = [_pulled(f"hf://{entry.repo}", (), wanted, lock, source) for entry in lock.releases]
    else:
        done = [_pulled(words[0], words[1:], wanted, lock, source)]
    if wanted.form == "json":
        shown = [_json(pull) for pull in done]
        click.echo(json.dumps(shown if not words else shown[0], indent=2, ensure_ascii=False))
    if wanted.dry_run:
        next_step("saereg pull", *words, *_again(wanted))
    else:
        next_step("saereg ls", *(pull.out for pull in done))


def _lock(wanted: Wanted) -> "tuple[Lock | None, Path]":
    from saereg.registry.fetching.locking import read_lock
    from saereg.schemas.lock import LOCK_FILE

    source = wanted.lock or Path(LOCK_FILE)
    lock = None if wanted.no_lock else read_lock(source)
    if lock is None and wanted.lock is not None:
        raise UsageError(f"--lock {source}: there is no such file")
    return lock, source


def _pulled(target: str, ids: tuple[str, ...], wanted: Wanted, lock: "Lock | None", source: Path) -> "Pull":
    from saereg.registry.fetching.locking import entry_of, lock_command, revision_of
    from saereg.registry.fetching.opening import hub_reference, open_remote
    from saereg.registry.fetching.pulling import carry_out, plan_pull

    reference = hub_reference(target)
    repo, ids = str(reference.repo), (*([reference.artifact] if reference.artifact else []), *ids)
    entry = entry_of(lock, repo)
    if lock is not None and entry is None:
        if wanted.lock is not None:
            adds = f"{lock_command(source)} {target} adds it"
            raise UsageError(f"{source} does not lock {repo}; {adds}, --no-lock ignores the lock")
        click.echo(f"note: {source} does not lock {repo}", err=True)
    remote = open_remote(repo, revision_of(reference.revision, entry, source))
    pull = plan_pull(remote, wanted.out or Path(repo.split("/")[-1]), _asked(ids, wanted, source), entry)
    _say_withdrawn(pull, wanted, exact=entry is not None or remote.is_exact)
    for note in pull.notes:
        click.echo(f"note: {note}", err=True)
    if not wanted.dry_run:
        with bar("pull") as progress:
            pull = carry_out(pull, wanted.jobs, progress, lambda line: click.echo(f"note: {line}", err=True))
    if wanted.form == "text":
        click.echo(_text(pull, wanted, entry), nl=False)
    return pull


def _asked(ids: tuple[str, ...], wanted: Wanted, source: Path) -> "Asked":
    from saereg.registry.fetching.choosing import Choice
    from saereg.registry.fetching.pulling import Asked

    if wanted.whole and (ids or wanted.where):
        raise UsageError("--all takes every artifact; leave it out, or the ids and --where")
    return Asked(Choice(ids, wanted.where), wanted.whole, wanted.with_evaluations, wanted.force, wanted.jobs, source)


def _say_withdrawn(pull: "Pull", wanted: Wanted, *, exact: bool) -> None:
    """Say what the author takes back; what is wrong is only fetched when exactly it, or all the same, is asked for."""
    from saereg.registry.withdrawal import told

    marks = {told(m): m for m in (pull.remote.mark(artifact) for artifact in pull.artifacts) if m is not None}
    yanked = [line for line, mark in marks.items() if mark.kind == "yanked"]
    if yanked and not exact and not wanted.allow_yanked:
        more = f" (and {len(yanked) - 1} more)" if len(yanked) > 1 else ""
        without = ", --where 'withdrawn = none' leaves it out" if all(m.artifact for m in marks.values()) else ""
        raise UsageError(f"{yanked[0]}{more}; --allow-yanked fetches it all the same{without}")
    for line in marks:
        click.echo(f"warning: {line}", err=True)


def _text(pull: "Pull", wanted: Wanted, entry: "LockedRelease | None") -> str:
    moved = [file for file in pull.files if file.action != "same"]
    same = len(pull.files) - len(moved)
    locked = ", as locked" if entry is not None else ""
    earlier = f", {pull.kept} of them from an earlier pull" if pull.kept else ""
    lines = [
        f"{pull.remote.title} at {pull.remote.commit}{locked}",
        f"to {pull.out}: {plural(len(pull.artifacts), 'artifact')} of {len(pull.remote.manifest.artifacts)}{earlier}",
    ]
    lines += [f"  {MARKS[file.action]} {file.path}  {size(file.size)}" for file in moved[:SHOWN]]
    lines += [f"  … {plural(len(moved) - SHOWN, 'more file')}"] if len(moved) > SHOWN else []
    lines += [f"  = {plural(same, 'file')} already there"] if same else []
    verb = "would fetch" if wanted.dry_run else "fetched"
    but = "" if pull.is_as_indexed else " but the card"
    compared = "" if wanted.dry_run else f"; every file{but} is as the index says"
    lines.append(f"{verb} {size(pull.bytes_fetched)} beside the documents{compared}")
    return "\n".join(lines) + "\n"


def _json(pull: "Pull") -> dict[str, object]:
    from saereg.registry.fetching.pulling import described

    return {
        "repo": pull.remote.repo,
        "commit": pull.remote.commit,
        "release": pull.remote.title,
        "out": str(pull.out),
        "artifacts": list(pull.artifacts),
        "bytes_fetched": pull.bytes_fetched,
        "files": described(pull.files),
    }


def _again(wanted: Wanted) -> list[object]:
    """Return the flags to say again when the dry run showed what the user wanted."""
    words: list[object] = [word for condition in wanted.where for word in ("--where", condition)]
    named = (("--out", wanted.out), ("--lock", wanted.lock))
    words += [word for flag, value in named if value is not None for word in (flag, value)]
    switches = (
        ("--all", wanted.whole),
        ("--with-evaluations", wanted.with_evaluations),
        ("--no-lock", wanted.no_lock),
        ("--allow-yanked", wanted.allow_yanked),
        ("--force", wanted.force),
    )
    return words + [flag for flag, on in switches if on]
