"""What a publish will do: made only from a report without errors, and only for the bytes that the report speaks of."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saereg.errors import InvalidReleaseError
from saereg.registry.files.digest import release_digest, sha256_of, tree_digest
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.profiles import level_needed
from saereg.schemas.index import Index
from saereg.schemas.plan import HubPlan, Operation, Plan
from saereg.schemas.report import CUT_SHORT, LEVELS, NOT_PULLED, Level, Report

State = dict[str, tuple[int, str | None]]
"""What a target holds: path → (bytes, sha256); None is a digest that it does not say, and that is not the release's."""


@dataclass(frozen=True)
class Target:
    """What a plan says of the place it is for.

    Attributes:
        name: how the target is written.
        state: what it holds; None when it does not exist.
        base: its state in one word; None: the digest over all files.
        keeps: whether files stay there that the release does not have.
        hub: of a repository, how files get there.
    """

    name: str
    state: State | None
    base: str | None = None
    keeps: bool = False
    hub: HubPlan | None = None


def make_plan(root: Path, report: Report, target: Target, *, at_least: Level = "header") -> Plan:
    """Compare a validated release with what a target holds.

    Only the manifest, the index, the signature and the files that the index names are planned. Files that the target
    holds and the release does not are planned as `remove`, or as `keep` where they stay.

    Args:
        root: release folder.
        report: validation of exactly this manifest and index.
        target: where it goes, and what is there.
        at_least: lowest level of validation that is enough.

    Raises:
        InvalidReleaseError: when the report has errors, is too shallow, or speaks of another manifest or index.
    """
    require_valid(root, report, at_least)
    wanted = local_state(root)
    held = target.state or {}
    operations = [
        Operation(action=_action(path, entry, held), path=path, size=entry[0], sha256=entry[1])
        for path, entry in wanted.items()
    ]
    operations += [
        Operation(action="keep" if target.keeps else "remove", path=path, size=size, sha256=sha256)
        for path, (size, sha256) in held.items()
        if path not in wanted
    ]
    return Plan(
        release=report.release,
        target=target.name,
        release_digest=str(report.release_digest),
        validated_at_level=report.level,
        ignored=report.summary.ignored,
        lowered=report.summary.lowered,
        base=target.base or (state_digest(held) if target.state is not None else None),
        operations=tuple(sorted(operations, key=lambda operation: operation.path)),
        hub=target.hub,
    )


def require_valid(root: Path, report: Report, at_least: Level) -> None:
    """Refuse a report that does not allow publishing.

    Raises:
        InvalidReleaseError: when it has errors, is too shallow, or speaks of another manifest or index.
    """
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
    if any(skipped.reason == NOT_PULLED for skipped in report.summary.skipped):
        problem = f"{root} was pulled in part: files of the index are not in it"
        raise InvalidReleaseError(f"{problem}; pull the others with saereg pull --all --with-evaluations")
    if missed := [skipped for skipped in report.summary.skipped if skipped.reason == CUT_SHORT]:
        problem = f"the weights of {missed[0].artifact} were not looked at, for an error before that is only ignored"
        raise InvalidReleaseError(f"{problem}; mend it. See: {again} --level {report.level} --verbose")
    manifest, index = ((root / name).read_bytes().decode("utf-8") for name in (MANIFEST_FILE, INDEX_FILE))
    if release_digest(manifest, index) != report.release_digest:
        raise InvalidReleaseError(f"{root} has changed since it was validated; validate it again")


def local_state(root: Path, digest: Callable[[str], str] | None = None) -> State:
    """Return path → (bytes, sha256) of everything that is published: the index vouches for all but itself.

    Args:
        root: release folder.
        digest: returns the sha256 of a path in it; default: by reading the file.
    """
    digest = digest or (lambda name: sha256_of(root / name))
    index = Index.read(root / INDEX_FILE)
    state: State = {file.path: (file.size, file.sha256) for file in index.all_files()}
    signature = (SIGNATURE_FILE,) if (root / SIGNATURE_FILE).is_file() else ()
    for name in (MANIFEST_FILE, INDEX_FILE, *signature):
        state[name] = ((root / name).stat().st_size, digest(name))
    return dict(sorted(state.items()))


def state_digest(state: State) -> str:
    """Return one digest of what a target holds."""
    return tree_digest((path, size, sha256 or "") for path, (size, sha256) in state.items())


def _action(path: str, entry: tuple[int, str | None], held: State) -> Literal["add", "same", "change"]:
    if path not in held:
        return "add"
    return "same" if held[path] == entry else "change"
