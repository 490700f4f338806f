"""Run the checks over a release and collect what they find."""

from collections.abc import Callable, Iterator
from pathlib import Path

from saereg.errors import NothingToValidateError
from saereg.registry.files.blocks import require_torch
from saereg.registry.refs import require_folder
from saereg.registry.release import MANIFEST_FILE, checkpoints_beside
from saereg.registry.validators import CHECKS
from saereg.registry.validators.check import ArtifactCheck, Check, ReleaseCheck
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject, finding
from saereg.schemas.report import LEVELS, Finding, Level, Report, Skipped, Summary

DEAR: tuple[Level, ...] = ("weights", "data")
"""Levels that read weights."""

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""


def validate(
    root: Path, level: Level = "header", *, checkpoints: Path | None = None, progress: Progress | None = None
) -> Report:
    """Validate a release folder at a level; each level includes those before it.

    Nothing is changed, in the folder or outside, and no pickle is loaded.

    Args:
        root: release folder.
        level: `layout` (names and documents), `header` (configurations and safetensors headers), `weights` (values,
            golden vectors, round trip) or `data` (metrics recomputed).
        checkpoints: folder of source checkpoints for the round trip; default: `checkpoints` beside the release.
        progress: called after each check.

    Raises:
        NothingToValidateError: when there is no folder, or no manifest in it.
        MissingExtraError: for level weights or data without the `torch` extra.
    """
    require_folder(root)
    if not (root / MANIFEST_FILE).is_file():
        raise NothingToValidateError(f"{root} holds no {MANIFEST_FILE}: nothing to validate")
    if level in DEAR:
        require_torch(f"validating at level {level}")
    return _Run(ReleaseSubject(root, checkpoints or checkpoints_beside(root)), level, progress).report()


class _Run:
    """One validation: the state is the list of findings and which artifacts already failed."""

    def __init__(self, subject: ReleaseSubject, level: Level, progress: Progress | None) -> None:
        self.subject, self.level, self.progress = subject, level, progress
        self.findings: list[Finding] = []
        self.skipped: list[Skipped] = []
        self.failed: set[str] = set()
        self.ran = self.steps = 0
        self.waves = LEVELS[: LEVELS.index(level) + 1]

    def report(self) -> Report:
        """Run every check up to the level and return what was found."""
        for wave in self.waves:
            for check in CHECKS:
                if check.level == wave:
                    self._run(check)
            self._update_failed()
        self._note_missing_sources()
        return self._summarize()

    def _run(self, check: Check) -> None:
        if isinstance(check, ArtifactCheck):
            self._each_artifact(check)
            if check.blocking:
                self._update_failed()
        else:
            self._collect(check.run(self.subject), None)
            self.ran += 1
            self._advance(check)

    def _advance(self, check: Check) -> None:
        """Report one step; a check counts once, or once per artifact where it reads weights and takes its time."""
        self.steps += 1
        if self.progress:
            weigh = {ArtifactCheck: len(self.subject.artifacts), ReleaseCheck: 1}
            total = sum(weigh[type(c)] if c.level in DEAR else 1 for c in CHECKS if c.level in self.waves)
            self.progress(f"{check.level}: {check.name}", self.steps, total)

    def _update_failed(self) -> None:
        self.failed |= {f.artifact for f in self.findings if f.artifact and f.severity == "error"}

    def _each_artifact(self, check: ArtifactCheck) -> None:
        for artifact in self.subject.artifacts:
            if check.level in DEAR and artifact.claim.id in self.failed:
                reason = "cheaper checks found errors in this artifact"
                self.skipped.append(Skipped(check=check.name, artifact=artifact.claim.id, reason=reason))
            else:
                self._collect(check.run(artifact), artifact)
                self.ran += 1
            if check.level in DEAR:
                self._advance(check)
        if check.level not in DEAR:
            self._advance(check)

    def _collect(self, found: Iterator[Finding], artifact: ArtifactSubject | None) -> None:
        try:
            self.findings.extend(found)
        except OSError as error:
            # A file that vanished or cannot be read between two checks is a finding, not a crash.
            name = str(error.filename or (artifact.claim.path if artifact else self.subject.name))
            where = Path(name).name
            message = f"{where} cannot be read: {error.strerror or error}"
            self.findings.append(finding("SR002", message, artifact=artifact.claim.id if artifact else None))

    def _note_missing_sources(self) -> None:
        if self.level not in DEAR:
            return
        folder = self.subject.checkpoints
        for artifact in self.subject.artifacts:
            source = artifact.claim.source_checkpoint
            if source is None:
                continue
            if folder is None or not (folder / source.path).is_file():
                reason = f"the source checkpoint {source.path} is not at hand; name its folder with --checkpoints"
                self.skipped.append(Skipped(check="source_agrees", artifact=artifact.claim.id, reason=reason))
            elif untraced := sorted(set(artifact.header.tensors if artifact.header else ()) - set(source.tensors)):
                reason = f"source_checkpoint.tensors does not say where {', '.join(untraced)} comes from; add it"
                self.skipped.append(Skipped(check="source_agrees", artifact=artifact.claim.id, reason=reason))

    def _summarize(self) -> Report:
        unique = {f.model_dump_json(): f for f in self.findings}.values()
        ordered = sorted(unique, key=lambda f: (f.path or "", f.line or 0, f.code, f.artifact or "", f.message))
        counts = {severity: sum(f.severity == severity for f in ordered) for severity in ("error", "warning", "note")}
        return Report(
            release=self.subject.name,
            level=self.level,
            release_digest=self.subject.release_digest,
            findings=tuple(ordered),
            summary=Summary(
                artifacts=len(self.subject.artifacts),
                errors=counts["error"],
                warnings=counts["warning"],
                notes=counts["note"],
                checks=self.ran,
                skipped=tuple(self.skipped),
            ),
        )
