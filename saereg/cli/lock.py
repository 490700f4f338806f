"""`saereg lock`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.options import where_option
from saereg.cli.render.text import next_step, plural, size
from saereg.errors import ExitCode, UsageError
from saereg.registry.refs import Reference
from saereg.schemas.lock import LOCK_FILE

if TYPE_CHECKING:
    from saereg.schemas.lock import Lock, LockedRelease


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; each field is the flag of its name."""

    where: tuple[str, ...]
    lock: Path
    check: bool
    update: bool
    dry_run: bool
    form: str

    @property
    def lock_words(self) -> tuple[object, ...]:
        """What names the lock file in another command; nothing where it has its usual name."""
        return () if self.lock == Path(LOCK_FILE) else ("--lock", self.lock)


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET]... [ID]...")
@where_option
@click.option(
    "--lock",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(LOCK_FILE),
    show_default=True,
    metavar="FILE",
    help="The lock file.",
)
@click.option("--check", is_flag=True, help="Say which revisions are no longer what was locked; change nothing.")
@click.option("--update", is_flag=True, help="Move the lock to what the revisions are now.")
@click.option("--dry-run", is_flag=True, help="Show what would be locked, and write nothing.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(words: tuple[str, ...], **flags: Any) -> int:  # noqa: ANN401 - one value per flag
    """Pin releases on the Hub to commits and digests, for `saereg pull`. Nothing is downloaded but documents.

    TARGET is hf://org/repo[@revision]; all artifacts are locked, or those that are named or meet every --where. What
    is locked already stays where it is: --update moves it. Without TARGET, --check and --update are of everything.
    """
    from saereg.registry.fetching.locking import read_lock, write_lock

    wanted = Wanted(**flags)
    if wanted.check and wanted.update:
        raise UsageError("--check and --update exclude each other")
    references, ids = _parsed(words)
    lock = read_lock(wanted.lock)
    if wanted.check:
        return _checked(references, ids, lock, wanted)
    if not references and not (wanted.update and lock is not None and lock.releases):
        raise click.UsageError("missing argument 'TARGET'", click.get_current_context())
    found = _found(references, ids, wanted.where, lock, update=wanted.update)
    if not wanted.dry_run and (lock is None or found.text() != lock.text()):
        write_lock(wanted.lock, found)
    before = {entry.repo: entry for entry in lock.releases} if lock else {}
    lines = "".join(f"{_line(entry, before.get(entry.repo))}\n" for entry in found.releases)
    click.echo(found.text() if wanted.form == "json" else lines, nl=False)
    if wanted.dry_run:
        again = [word for condition in wanted.where for word in ("--where", condition)]
        next_step("saereg lock", *words, *again, *wanted.lock_words, *(["--update"] if wanted.update else []))
    else:
        next_step("saereg pull", *wanted.lock_words)
    return int(ExitCode.CLEAN)


def _parsed(words: tuple[str, ...]) -> tuple[list[Reference], tuple[str, ...]]:
    """Return the releases that are named, and the ids of artifacts, which are those of one release."""
    from saereg.registry.fetching.opening import hub_reference

    references = [hub_reference(word) for word in words if "://" in word]
    ids = tuple(word for word in words if "://" not in word)
    repos = [reference.repo for reference in references]
    if ids and len(references) != 1:
        raise UsageError("ids are those of one release; name that first, as hf://org/repo")
    if twice := next((repo for repo in repos if repos.count(repo) > 1), None):
        raise UsageError(f"{twice} is named twice; a lock has each repository once")
    return references, ids


def _found(
    references: list[Reference], ids: tuple[str, ...], where: tuple[str, ...], lock: "Lock | None", *, update: bool
) -> "Lock":
    from saereg.registry.fetching.choosing import Choice
    from saereg.registry.fetching.locking import entry_of, merged, relocked
    from saereg.registry.fetching.opening import open_remote

    every = references or [Reference(repo=e.repo, revision=e.requested) for e in (lock.releases if lock else ())]
    entries = []
    for reference in every:
        repo, before = str(reference.repo), entry_of(lock, str(reference.repo))
        revision = reference.revision or (before.requested if before else None)
        own = (reference.artifact, *ids) if reference.artifact else ids
        remote = open_remote(repo, revision)
        entries.append(relocked(remote, Choice(own, where), before, update=update))
    return merged(lock, entries)


def _checked(references: list[Reference], ids: tuple[str, ...], lock: "Lock | None", wanted: Wanted) -> int:
    from saereg.registry.fetching.locking import entry_of, lock_command, moved

    if ids or wanted.where:
        raise UsageError("--check looks at revisions; leave out ids and --where")
    if lock is None:
        writes = f"{lock_command(wanted.lock)} hf://org/repo writes one"
        raise UsageError(f"{wanted.lock}: there is no such file; {writes}")
    named = {str(reference.repo): entry_of(lock, str(reference.repo)) for reference in references}
    if unknown := [repo for repo, entry in named.items() if entry is None]:
        raise UsageError(f"{wanted.lock} does not lock {unknown[0]}")
    entries = [entry for entry in named.values() if entry is not None] or list(lock.releases)
    changed = [found for entry in entries if (found := moved(entry)) is not None]
    if wanted.form == "json":
        facts = [{"repo": m.locked.repo, "requested": m.locked.requested, "locked": m.locked.commit} for m in changed]
        said = [fact | {"now": found.now} for fact, found in zip(facts, changed, strict=True)]
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
    else:
        click.echo("".join(f"{found.line}\n" for found in changed), nl=False)
    click.echo(f"{plural(len(entries) - len(changed), 'release')} of {len(entries)} as locked", err=True)
    if changed:
        next_step("saereg lock --update", *wanted.lock_words, *(f"hf://{found.locked.repo}" for found in changed))
        return int(ExitCode.FINDINGS)
    next_step("saereg pull", *wanted.lock_words)
    return int(ExitCode.CLEAN)


def _line(entry: "LockedRelease", before: "LockedRelease | None") -> str:
    files, total = len(entry.files), sum(file.size for file in entry.files)
    count, old = len(entry.artifacts), len(before.artifacts) if before else len(entry.artifacts)
    artifacts = plural(count, "artifact") + (f" ({old} before)" if old != count else "")
    what = f"{artifacts}, {plural(files, 'file')}, {size(total)}"
    change = "" if before == entry else " (new)" if before is None else " (changed)"
    return f"{entry.repo} at {entry.commit}: {entry.release}, {what}{change}"
