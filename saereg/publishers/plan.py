"""What a publish will do: made only from a report without errors, and only for the bytes that the report speaks of."""

import shlex
from pathlib import Path
from typing import Literal

from saereg.errors import InvalidReleaseError
from saereg.registry.files.digest import release_digest, sha256_of, tree_digest
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.profiles import level_needed
from saereg.schemas.index import Index
from saereg.schemas.plan import Operation, Plan
from saereg.schemas.report import CUT_SHORT, LEVELS, Level, Report

State = dict[str, tuple[int, str]]
"""What a target holds: path → (bytes, sha256)."""


def make_plan(root: Path, report: Report, target: str, state: State | None, *, at_least: Level = "header") -> Plan:
    """Compare a validated release with what a target holds.

    Only the manifest, the index and the files that the index names are planned. Files that the target holds and the
    release does not are planned as `remove`; whether a publisher may do that is its own decision.

    Args:
        root: release folder.
        report: validation of exactly this manifest and index.
        target: where it goes, for the record.
        state: what the target holds; None when it does not exist.
        at_least: lowest level of validation that is enough.

    Raises:
        InvalidReleaseError: when the report has errors, is too shallow, or speaks of another manifest or index.
    """
    _require_valid(root, report, at_least)
    wanted = local_state(root)
    held = state or {}
    operations = [
        Operation(action=_action(path, entry, held), path=path, size=entry[0], sha256=entry[1])
        for path, entry in wanted.items()
    ]
    operations += [
        Operation(action="remove", path=path, size=size, sha256=sha256)
        for path, (size, sha256) in held.items()
        if path not in wanted
    ]
    return Plan(
        release=report.release,
        target=target,
        release_digest=str(report.release_digest),
        validated_at_level=report.level,
        ignored=report.summary.ignored,
        lowered=report.summary.lowered,
        base=state_digest(held) if state is not None else None,
        operations=tuple(sorted(operations, key=lambda operation: operation.path)),
    )


def _require_valid(root: Path, report: Report, at_least: Level) -> None:
    again = f"saereg validate {shlex.quote(str(root))}"
    if report.errors:
        first = report.errors[0]
        count = f"{len(report.errors)} error{'s' if len(report.errors) > 1 else ''}"
        problem = f"{report.release} has {count}, first {first.code}: {first.message}"
        raise InvalidReleaseError(f"{problem}; nothing was published. See: {again} --level {report.level}")
    if report.selected:
        problem = f"only {', '.join(report.selected)} was looked at"
        raise InvalidReleaseError(f"{problem}. Run without `select`: {again}")
    if LEVELS.index(report.level) < LEVELS.index(needed := level_needed(report.policy, at_least)):
        problem = f"validated at level {report.level}, but {needed} is needed"
        problem += f" by the policy {report.policy}" if needed != at_least else ""
        raise InvalidReleaseError(f"{problem}. Run: {again} --level {needed}")
    if missed := [skipped for skipped in report.summary.skipped if skipped.reason == CUT_SHORT]:
        problem = f"the weights of {missed[0].artifact} were not looked at, for an error before that is only ignored"
        raise InvalidReleaseError(f"{problem}; mend it. See: {again} --level {report.level} --verbose")
    manifest, index = ((root / name).read_bytes().decode("utf-8") for name in (MANIFEST_FILE, INDEX_FILE))
    if release_digest(manifest, index) != report.release_digest:
        raise InvalidReleaseError(f"{root} has changed since it was validated; validate it again")


def local_state(root: Path) -> State:
    """Return path → (bytes, sha256) of everything that is published: the index vouches for all but itself."""
    index = Index.read(root / INDEX_FILE)
    state = {file.path: (file.size, file.sha256) for file in index.all_files()}
    for name in (MANIFEST_FILE, INDEX_FILE):
        state[name] = ((root / name).stat().st_size, sha256_of(root / name))
    return dict(sorted(state.items()))


def state_digest(state: State) -> str:
    """Return one digest of what a target holds."""
    return tree_digest((path, size, sha256) for path, (size, sha256) in state.items())


def _action(path: str, entry: tuple[int, str], held: State) -> Literal["add", "same", "change"]:
    if path not in held:
        return "add"
    return "same" if held[path] == entry else "change"
