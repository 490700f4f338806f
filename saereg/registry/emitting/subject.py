"""The release that something is emitted from: open, built, without errors, and with the repository it is in."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from saereg.errors import DocumentError, InvalidReleaseError, NothingToValidateError, UsageError
from saereg.registry.emitting.emitted import LeftOut
from saereg.registry.files.natural import natural_key
from saereg.registry.files.place import FolderPlace, Place
from saereg.registry.hub import name_of
from saereg.registry.query import Selection, meeting
from saereg.registry.refs import parse_reference
from saereg.registry.release import Release, ReleaseArtifact, open_release
from saereg.registry.withdrawal import one_line, told
from saereg.schemas.report import Report
from saereg.schemas.settings import Settings

_REPO = re.compile(r"(?:hf://)?(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[^\s:@]+))?")


@dataclass(frozen=True)
class Subject:
    """A release that may be registered elsewhere.

    Attributes:
        release: the release.
        repo: repository on the Hub that has its files, `org/name`.
        revision: commit, branch or tag there; None where nobody said.
        target: the user's words for it.
    """

    release: Release
    repo: str
    revision: str | None
    target: str

    @property
    def url(self) -> str:
        """Page of the repository."""
        return f"https://huggingface.co/{self.repo}"


def open_subject(target: str, repo: str | None) -> Subject:
    """Open a release that was built and has no errors at level header, as publishing asks for.

    Args:
        target: release folder, or `hf://org/name[@revision]`.
        repo: `org/name[@revision]` where its files are, or will be; needed for a folder that was not pulled.

    Raises:
        UsageError: when no repository is known, or the target names one artifact.
        InvalidReleaseError: when it was never built, or validation finds errors.
        NothingToValidateError: when there is no manifest.json.
        PublishError: when the Hub does not answer.
    """
    reference = parse_reference(target)
    if reference.artifact is not None:
        raise UsageError(f"{target}: a registry takes a release as a whole; --where 'id = …' chooses artifacts of it")
    release = _with_todays_marks(open_release(target), reference.revision)
    where, revision = _repository(release, repo, target)
    if release.index is None:
        raise InvalidReleaseError(
            f"{target} was never built, so nothing of it is measured; saereg build {target} first"
        )
    if errors := _report(release).errors:
        many = f"{len(errors)} error{'s' if len(errors) > 1 else ''}"
        raise InvalidReleaseError(
            f"{target} has {many} at level header, the first {errors[0].code}; saereg validate {target} shows them"
        )
    return Subject(release, where, revision, target)


def _with_todays_marks(release: Release, revision: str | None) -> Release:
    """Return a release of an earlier commit with what was withdrawn since: marks are made at the head of a branch."""
    if release.repo is None or revision is None:
        return release
    try:
        head = open_release(f"hf://{release.repo}")
    except NothingToValidateError:  # a release that stands on a branch only
        return release
    manifest = release.manifest.model_copy(update={"withdrawn": head.manifest.withdrawn})
    return replace(release, manifest=manifest)


def _repository(release: Release, repo: str | None, target: str) -> tuple[str, str | None]:
    if repo is not None:
        match = _REPO.fullmatch(repo)
        if match is None:
            raise UsageError(f"--repo {repo!r} is no repository; write org/name or org/name@commit")
        return match["repo"], match["revision"]
    if release.repo is not None:
        return release.repo, release.path.name  # the folder of a snapshot is called by its commit
    if release.pulled is not None:
        return release.pulled.repo, release.pulled.commit
    raise UsageError(
        f"{target}: say which repository on the Hub has, or will have, its files: --repo org/name[@commit]"
    )


def _report(release: Release) -> Report:
    from saereg.registry.validators.configuration import find_settings, read_settings
    from saereg.registry.validators.runner import validate

    if release.repo is None:
        file = find_settings(release.path)
        return validate(FolderPlace(release.path), "header", settings=read_settings(file) if file else Settings())
    return validate(_on_the_hub(release.repo, release.path.name), "header")


def _on_the_hub(repo: str, commit: str) -> Place:
    from saereg.registry.remote import open_place

    return open_place(name_of(repo, commit))


Reason = Callable[[ReleaseArtifact], str | None]
"""Why an artifact cannot be registered, as half a sentence; None where nothing speaks against it."""


def taken_back(artifact: ReleaseArtifact) -> str | None:
    """Return why its own author does not recommend an artifact."""
    if artifact.withdrawn is not None:
        return told(artifact.withdrawn)
    failure = artifact.claim.expected_failure
    return f"its author calls it a failure: {one_line(failure).rstrip('.')}" if failure else None


def not_here(artifact: ReleaseArtifact) -> str | None:
    """Return why the configuration of an artifact cannot be read on this machine."""
    if artifact.pull_command is not None:
        return f"it was not pulled: {artifact.pull_command}"
    try:
        _ = artifact.cfg
    except DocumentError as error:
        return str(error)
    return None


def sorted_out(
    subject: Subject, where: Iterable[str], reasons: Iterable[Reason]
) -> tuple[tuple[ReleaseArtifact, ...], tuple[LeftOut, ...]]:
    """Return the artifacts that nothing speaks against, in natural order, and the others with the first reason.

    Raises:
        UsageError: when no artifact meets the conditions, or one is no condition.
    """
    chosen = meeting(Selection(subject.release.artifacts), where)
    if not len(chosen):
        raise UsageError(f"{subject.target}: no artifact meets every condition; saereg ls {subject.target} lists them")
    taken: list[ReleaseArtifact] = []
    left: list[LeftOut] = []
    for artifact in sorted(chosen, key=lambda one: natural_key(one.id)):
        why = next(_against(artifact, reasons), None)
        if why is None:
            taken.append(artifact)
        else:
            left.append(LeftOut(artifact.id, why))
    return tuple(taken), tuple(left)


def _against(artifact: ReleaseArtifact, reasons: Iterable[Reason]) -> Iterator[str]:
    for reason in reasons:
        if (why := reason(artifact)) is not None:
            yield why


def require_some(taken: Iterable[ReleaseArtifact], left: tuple[LeftOut, ...], subject: Subject, what: str) -> None:
    """Refuse to write a document without a single artifact.

    Raises:
        UsageError: with the first reason.
    """
    if not any(True for _ in taken):
        raise UsageError(f"{subject.target}: {what} can have none of its artifacts; {left[0].id}: {left[0].why}")
