"""Mend what can be mended: edit a draft, validate it beside the release, and write only what that proves right."""

import contextlib
import difflib
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path

from saereg.registry.files.atomic import exclusive, is_running, write_text_atomically
from saereg.registry.files.folder import scan
from saereg.registry.fixing import FIXERS
from saereg.registry.fixing.cards import refreshed_artifact_cards, refreshed_blocks
from saereg.registry.fixing.draft import Draft, Edit
from saereg.registry.fixing.index import Wanted, refreshed, wanted
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.schemas.report import CUT_SHORT, Finding, FixKind, Report

Validate = Callable[[Path], Report]
"""Validates a release folder, with the level and settings of the run."""

MOST_ROUNDS = 3
"""Times that what a fix brought to light is mended too."""

UNREADABLE = ("SR100", "SR101", "SR102", "SR103", "SR104")
"""Rules of documents that could not be read: mending one shows what it hid."""


@dataclass(frozen=True)
class Fixes:
    """What would be written, proved.

    Attributes:
        changed: path → new text; empty when there is nothing to mend.
        original: path → text that is there now; "" for a new file.
        fixed: findings that are gone.
        report: validation of the release with the changes.
        problem: why nothing may be written, or None.
    """

    changed: dict[str, str]
    original: dict[str, str]
    fixed: tuple[Finding, ...]
    report: Report
    problem: str | None = None

    def diff(self, without: frozenset[str] = frozenset()) -> str:
        """Return the changes as a unified diff, some files left out."""
        parts = []
        for path in sorted(self.changed.keys() - without):
            old, new = self.original[path], self.changed[path]
            name = f"a/{path}" if old else "/dev/null"
            lines = difflib.unified_diff(_lines(old), _lines(new), name, f"b/{path}")
            parts += [line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines]
        return "".join(parts)


def plan_fixes(
    root: Path, report: Report, validate: Validate, *, unsafe: bool = False, select: tuple[str, ...] = ()
) -> Fixes:
    """Return what can be mended in a release; nothing is written to it.

    The changed release is validated beside the release itself, where unchanged files are hard links. Unless it has lost
    each finding that was mended and gained none, the result has a `problem`, and must not be written.

    Args:
        root: release folder.
        report: its validation, of every rule: a fix of one may break another.
        validate: validates a folder in the same way.
        unsafe: whether to mend what changes the author's statements too.
        select: rules to mend, or the beginnings of their codes; none means all.

    Raises:
        OSError: when no folder can be made beside the release.
    """
    kinds: tuple[FixKind, ...] = ("safe", "unsafe") if unsafe else ("safe",)
    fixable = _fixable(report, kinds, select)
    if fixable and (odd := _not_copied(root)):
        reason = f"{odd} cannot be copied, so no change can be proved; rename or remove it first"
        return Fixes({}, {}, (), report, reason)
    draft, after, seen = Draft(root), report, list(fixable)
    for _ in range(MOST_ROUNDS):
        before = dict(draft.changed)
        _edit(draft, fixable, wanted(seen))
        if draft.changed == before:
            break
        with _staged(draft) as staging:
            after = validate(staging)
        known = set(map(_key, seen))
        fixable = _fixable(after, kinds, select)  # a document that can be read again shows what it hid
        seen += [finding for finding in fixable if _key(finding) not in known]
    if not draft.changed:
        return Fixes({}, {}, (), report, _unread(draft) if fixable else None)
    original = {path: draft.original(path) or "" for path in draft.changed}
    left = Counter(map(_key, after.findings))
    fixed = tuple(finding for finding in seen if not left[_key(finding)])
    problem = _problem(report, after, fixed)
    problem = _linked(draft) or (problem and (_unread(draft) or problem))
    return Fixes(draft.changed, original, fixed, after, problem)


def _fixable(report: Report, kinds: tuple[FixKind, ...], select: tuple[str, ...]) -> list[Finding]:
    found = [finding for finding in report.findings if finding.fixable in kinds and not finding.ignored]
    return [finding for finding in found if not select or finding.code.startswith(select)]


def _unread(draft: Draft) -> str | None:
    """Return why nothing could be mended although something could be: a document that all else follows, or None."""
    for name, document in ((MANIFEST_FILE, draft.manifest()), (INDEX_FILE, draft.index())):
        if document is None:
            return f"what can be mended follows {name}, which is missing or wrong; correct that first"
    return None


def _linked(draft: Draft) -> str | None:
    """Return why a link may not be written to, or None: it would become a file, and what it led to would stay."""
    for path in sorted(draft.changed):
        if (draft.root / path).is_symlink():
            return f"{path} is a link, and a fix would put a file in its place; do so first, or mend what it leads to"
    return None


def _edit(draft: Draft, findings: Iterable[Finding], wanted: Wanted) -> None:
    """Take the fixes of some findings into a draft, and bring what is generated up to date with them."""
    found = list(findings)
    for fixer in FIXERS:
        for finding in found:
            if finding.code in fixer.codes:
                _try(draft, fixer.run, finding)
    if draft.changed:
        for refresh in (partial(refreshed, wanted=wanted), refreshed_artifact_cards, refreshed_blocks):
            for edit in refresh(draft):  # cards show digests and verdicts of the index, which follows them once more
                draft.put(edit)
    for edit in refreshed(draft, wanted):
        draft.put(edit)


def write_fixes(root: Path, fixes: Fixes) -> None:
    """Write proved fixes: each file in one step, the index last. After a kill in between the index says so.

    Raises:
        OSError: when a file cannot be written.
        ValueError: when the fixes have a problem, or a file has changed since they were planned.
    """
    if fixes.problem:
        raise ValueError(fixes.problem)
    with exclusive(root):
        now = Draft(root)
        for path, text in fixes.original.items():
            if (now.original(path) or "") != text:
                raise ValueError(f"{path} has changed meanwhile; nothing was written")
        for path in sorted(fixes.changed, key=lambda path: (path == INDEX_FILE, path)):
            write_text_atomically(root / path, fixes.changed[path])


def _try(draft: Draft, run: Callable[[Draft, Finding], Iterator[Edit]], finding: Finding) -> None:
    """Take the edits of one fix in; a finding whose place is gone by now is left to the next run."""
    with contextlib.suppress(KeyError, ValueError):
        for edit in list(run(draft, finding)):
            draft.put(edit)


def _problem(before: Report, after: Report, fixed: Iterable[Finding]) -> str | None:
    """Return why the changes may not be written, or None."""
    mended = list(fixed)
    if not mended:
        return "no finding would be mended"
    if any(f.code in UNREADABLE and f.severity == "error" for f in mended):
        return None
    cut_short = {skipped.artifact for skipped in before.summary.skipped if skipped.reason == CUT_SHORT}
    more = Counter(map(_key, after.findings)) - Counter(map(_key, before.findings))
    for finding in after.findings:
        hidden = finding.artifact in cut_short and finding.severity != "error"  # its weights were not looked at before
        if more[_key(finding)] and not hidden:
            return f"the mended release would have a new finding: {finding.code} in {finding.path}: {finding.message}"
    return None


def _key(finding: Finding) -> tuple[object, ...]:
    """Return what makes two findings the same although lines and places in lists moved."""
    return (finding.code, finding.artifact, finding.path, finding.message, finding.ignored)


def _not_copied(root: Path) -> str | None:
    """Return the first entry that a copy of a release would lack: a pipe, a closed folder, a name that is not UTF-8."""
    for entry in scan(root):
        if entry.kind in ("special", "closed") or not os.path.lexists(root / entry.path):
            return entry.path
    return None


@contextlib.contextmanager
def _staged(draft: Draft) -> Iterator[Path]:
    """Give a copy of the release with the changes in it; unchanged files are hard links where the system has them."""
    real = draft.root.resolve()
    staging = real.with_name(f".{real.name}.fixing.{os.getpid()}")
    for left in (staging, *_left_behind(real)):
        shutil.rmtree(left, ignore_errors=True)
    try:
        staging.mkdir()
        for entry in scan(real):
            if entry.path not in draft.changed and entry.kind in ("file", "escape"):
                _link(real / entry.path, staging / entry.path)
        for path, text in draft.changed.items():
            write_text_atomically(staging / path, text)
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _left_behind(real: Path) -> Iterator[Path]:
    """Yield the copies of runs that were killed."""
    for path in real.parent.glob(f".{escape(real.name)}.fixing.*"):
        owner = path.suffix[1:]
        if owner.isdecimal() and len(owner) < 10 and not is_running(int(owner)):
            yield path


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _lines(text: str) -> list[str]:
    """Return lines as patch tools count them: only LF ends one."""
    return io.StringIO(text, newline="\n").readlines()
