"""Run the checks over a release and collect what they find."""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from saereg.errors import NothingToValidateError, SaeregError, UsageError
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.place import FolderPlace, Place
from saereg.registry.refs import require_folder
from saereg.registry.release import MANIFEST_FILE, checkpoints_beside
from saereg.registry.validators import CHECKS
from saereg.registry.validators.check import ArtifactCheck, Check, ReleaseCheck
from saereg.registry.validators.findings import finding
from saereg.registry.validators.grading import Grading, grading_of
from saereg.registry.validators.options import Options
from saereg.registry.validators.plugins import book_of
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.garbage import collected_later
from saereg.schemas.report import CUT_SHORT, LEVELS, NOT_PULLED, Finding, Level, Report, Skipped, Summary
from saereg.schemas.settings import Settings

DEAR: tuple[Level, ...] = ("weights", "data")
"""Levels that read weights."""

MISFITS = frozenset({"SR200", "SR201", "SR202", "SR203", "SR211", "SR212"})
"""Rules of weights that fit no equation: to accept such a finding does not make them ones that can be computed with."""

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""


def validate(
    target: Path | Place,
    level: Level | None = None,
    *,
    options: Options | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Report:
    """Validate a release at a level; each level includes those before it.

    Nothing is changed, in the release or outside, and no pickle is loaded.

    Args:
        target: release folder, or where else it stands.
        level: `layout` (names and documents), `header` (configurations and safetensors headers), `weights` (values,
            golden vectors, round trip) or `data` (metrics recomputed). Default: that of the policy, or `header`.
        options: what else is wanted. Default: source checkpoints from the folder `checkpoints` beside the release.
        settings: profile, policy, ignores and so on. Default: every rule with its own severity.
        progress: called after each check.

    Raises:
        NothingToValidateError: when there is no folder, or no manifest in it.
        UsageError: when the settings name what does not exist, or the level needs files that are not at hand.
        MissingExtraError: for level weights or data without the `torch` extra.
    """
    settings = settings or Settings()
    book = book_of(settings.plugins)
    grading = grading_of(settings, book.rules)
    level = level or grading.level or "header"
    if isinstance(target, Path):
        require_folder(target)
    place = FolderPlace(target) if isinstance(target, Path) else target
    subject = ReleaseSubject(place, _completed(options, place, grading))
    if not _has_manifest(subject):
        raise NothingToValidateError(f"{place.folder or place.name} holds no {MANIFEST_FILE}: nothing to validate")
    if level in DEAR:
        require_torch(f"validating at level {level}")
        _ = subject.root
    if level == "data":
        from saereg.registry.loading import require_device

        require_device(subject.options.device)
    return _Run(subject, level, grading, book.checks, progress).report()


def _has_manifest(subject: ReleaseSubject) -> bool:
    """Whether there is a manifest; one that is a link out of a folder is there too, and a finding."""
    folder = subject.place.folder
    return (folder / MANIFEST_FILE).is_file() if folder else MANIFEST_FILE in subject.files


def _completed(options: Options | None, place: Place, grading: Grading) -> Options:
    """Return the options together with what the settings and the place of the release say."""
    options = options or Options()
    beside = checkpoints_beside(place.folder) if place.folder else None
    return replace(
        options,
        checkpoints=options.checkpoints or beside,
        tolerances={str(metric): value for metric, value in grading.settings.tolerances.items()},
        layouts=grading.layouts,
    )


class _Run:
    """One validation: the state is the list of findings and which artifacts already failed."""

    def __init__(
        self,
        subject: ReleaseSubject,
        level: Level,
        grading: Grading,
        checks: tuple[Check, ...],
        progress: Progress | None,
    ) -> None:
        self.subject, self.level, self.progress = subject, level, progress
        self.grading, self.checks = grading, checks
        self.findings: list[Finding] = []
        self.skipped: list[Skipped] = []
        self.failed: set[str] = set()
        self.ran = self.steps = 0
        self.waves = LEVELS[: LEVELS.index(level) + 1]

    def report(self) -> Report:
        """Run every check up to the level and return what was found."""
        try:
            for wave in self.waves:
                self._wave(wave)
        finally:
            self.subject.close()
        self._note_missing_sources()
        self._note_snippets()
        self._note_pulled()
        return self._summarize()

    def _wave(self, level: Level) -> None:
        """Run the checks of one level."""
        if level == "weights":
            self.subject.look_ahead(self.failed)
        with nullcontext() if level in DEAR else collected_later():
            for check in self.checks:
                if check.level == level:
                    self._run(check)
        self._update_failed()

    def _run(self, check: Check) -> None:
        if isinstance(check, ArtifactCheck):
            self._each_artifact(check)
            if check.blocking:
                self._update_failed()
        else:
            self._collect(check, self.subject, None)
            self.ran += 1
            self._advance(check)

    def _advance(self, check: Check) -> None:
        """Report one step; a check counts once, or once per artifact where it reads weights and takes its time."""
        self.steps += 1
        if self.progress:
            weigh = {ArtifactCheck: len(self.subject.artifacts), ReleaseCheck: 1}
            total = sum(weigh[type(c)] if c.level in DEAR else 1 for c in self.checks if c.level in self.waves)
            self.progress(f"{check.level}: {check.name}", self.steps, total)

    def _update_failed(self) -> None:
        errors = [found for found in self.findings if found.artifact and found.severity == "error"]
        wrong = [found for found in errors if found.code in MISFITS or not self.grading.accepts(found)]
        self.failed |= {found.artifact for found in wrong if found.artifact}

    def _each_artifact(self, check: ArtifactCheck) -> None:
        for artifact in self.subject.artifacts:
            if check.level in DEAR and artifact.claim.id in self.failed:
                self.skipped.append(Skipped(check=check.name, artifact=artifact.claim.id, reason=CUT_SHORT))
            else:
                self._collect(check, artifact, artifact)
                self.ran += 1
            if check.level in DEAR:
                self._advance(check)
        if check.level not in DEAR:
            self._advance(check)

    def _collect(self, check: Check, subject: Any, artifact: ArtifactSubject | None) -> None:  # noqa: ANN401
        try:
            for found in check.run(subject):
                if not isinstance(found, Finding):
                    raise TypeError(f"it yielded {found!r}, which is no finding")
                self.findings.append(found)
        except OSError as error:
            # A file that vanished or cannot be read between two checks is a finding, not a crash.
            name = str(error.filename or (artifact.claim.path if artifact else self.subject.name))
            where = Path(name).name
            message = f"{where} cannot be read: {error.strerror or error}"
            owner, path = artifact.claim.id if artifact else None, self._path_of(error)
            hint = "Make it readable." if isinstance(error, PermissionError) else None
            self.findings.append(finding("SR002", message, artifact=owner, path=path, hint=hint))
        except SaeregError:
            raise
        except Exception as error:  # of third-party code; our own mistakes stay what they are
            if check in CHECKS:
                raise
            raise UsageError(f"the third-party check {check.name!r} failed: {type(error).__name__}: {error}") from error

    def _path_of(self, error: OSError) -> str | None:
        """Return the path in the release of the file that an error is about."""
        folder = self.subject.place.folder
        if folder is None or not isinstance(error.filename, str | Path):
            return None
        path = Path(error.filename)
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else None

    def _note_snippets(self) -> None:
        """Whoever asks for the card's blocks to be run must not take silence for success."""
        if self.subject.options.run_snippets and self.level not in DEAR:
            reason = "the Python blocks of the card run at level weights; add --level weights"
            self.skipped.append(Skipped(check="snippets_run", reason=reason))

    def _note_pulled(self) -> None:
        """Of a release that was pulled in part, say what this report is not about; no publisher takes such a report."""
        if absent := self.subject.absent:
            claims = self.subject.manifest.artifacts if self.subject.manifest else ()
            left_out = len(claims) - len(self.subject.artifacts)
            artifacts = f"{left_out} of {len(claims)} artifacts, " if left_out else ""
            self.skipped.append(Skipped(check=f"{artifacts}{len(absent)} files", reason=NOT_PULLED))

    def _note_missing_sources(self) -> None:
        if self.level not in DEAR:
            return
        folder = self.subject.options.checkpoints
        for artifact in self.subject.artifacts:
            source = artifact.claim.source_checkpoint
            if source is None:
                continue
            if folder is None or not (folder / source.path).is_file():
                # Without a folder one sentence for all: a grid has hundreds of them.
                what = "its source checkpoint is not at hand" if folder is None else f"there is no {source.path}"
                reason = f"{what}; name {'the' if folder is None else 'its'} folder with --checkpoints"
                self.skipped.append(Skipped(check="source_agrees", artifact=artifact.claim.id, reason=reason))
            elif untraced := sorted(set(artifact.header.tensors if artifact.header else ()) - set(source.tensors)):
                reason = f"source_checkpoint.tensors does not say where {', '.join(untraced)} comes from; add it"
                self.skipped.append(Skipped(check="source_agrees", artifact=artifact.claim.id, reason=reason))

    def _summarize(self) -> Report:
        unique = {f.model_dump_json(): f for f in self.grading.grade(self.findings)}.values()
        ordered = sorted(unique, key=lambda f: (f.path or "", f.line or 0, f.code, f.artifact or "", f.message))
        counts = Counter(f.severity for f in ordered if not f.ignored)
        settings = self.grading.settings
        return Report(
            release=self.subject.name,
            level=self.level,
            revision=self.subject.place.revision,
            profile=settings.profile,
            policy=settings.policy,
            selected=settings.select,
            release_digest=self.subject.release_digest,
            findings=tuple(ordered),
            summary=Summary(
                artifacts=len(self.subject.artifacts),
                errors=counts["error"],
                warnings=counts["warning"],
                notes=counts["note"],
                ignored=sum(f.ignored is not None for f in ordered),
                lowered=self.grading.lowered(self.findings),
                unused_ignores=self.grading.unused(ordered, self.level),
                checks=self.ran,
                skipped=(*self.skipped, *self.subject.skipped),
            ),
        )
