"""What is validated: a release folder and its artifacts, read once, tolerant of everything that can be wrong."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from saereg import __version__
from saereg.errors import WeightsError
from saereg.registry.files.digest import release_digest, sha256_of
from saereg.registry.files.folder import Entry, scan
from saereg.registry.files.header import Header, TensorEntry, read_header
from saereg.registry.files.names import CONFIG_FILE, GOLDEN_FILE, WEIGHTS_FILES
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.rules import RULES
from saereg.schemas import jsontext
from saereg.schemas.artifact_config import ArtifactConfig, check_config
from saereg.schemas.document import SCHEMA_VERSION, Problem, check_text
from saereg.schemas.index import Index, IndexArtifact
from saereg.schemas.manifest import CrosscoderArtifact, Manifest, SaeArtifact, TranscoderArtifact
from saereg.schemas.report import Finding

if TYPE_CHECKING:
    from saereg.registry.evidence.inspection import Inspection

MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Largest cfg.json that is parsed; a real one has a few kilobytes."""

ORIGIN = {"tool": "saereg", "version": __version__, "schema": SCHEMA_VERSION}

CODES = {
    "syntax": "SR100",
    "missing": "SR101",
    "value": "SR102",
    "unknown_key": "SR103",
    "unsafe_path": "SR004",
}
"""Kind of document problem → rule."""


def finding(code: str, message: str, **where: object) -> Finding:
    """Return a finding of a rule, with the rule's severity, and its fix as the hint unless one is given."""
    rule = RULES[code]
    values = {"hint": rule.fix, **{name: value for name, value in where.items() if value is not None}}
    raw = Finding.model_validate(
        {"code": code, "severity": rule.severity, "message": message, "origin": ORIGIN, **values}
    )
    return raw.with_fingerprint()


def document_findings(path: str, problems: list[Problem], artifact: str | None = None) -> Iterator[Finding]:
    """Yield one finding per problem of a document."""
    for problem in problems:
        version = problem.pointer == "/schema_version" and problem.kind == "value"
        sentence = (
            f"schema version {problem.found} is not one that this saereg reads (1.x)" if version else problem.sentence
        )
        yield finding(
            "SR104" if version else CODES[problem.kind],
            sentence,
            path=path,
            artifact=artifact,
            line=problem.line,
            pointer=problem.pointer or None,
            expected=problem.expected,
            found=problem.found,
            hint=problem.hint,
        )


@dataclass(eq=False)
class ReleaseSubject:
    """A release under validation.

    Attributes:
        root: its folder.
        checkpoints: folder of source checkpoints, or None when they are not at hand.
    """

    root: Path
    checkpoints: Path | None = None
    _digests: dict[Path, str] = field(default_factory=dict, init=False, repr=False)
    _headers: dict[str, Header] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry of the folder."""
        return scan(self.root)

    @cached_property
    def files(self) -> dict[str, Entry]:
        """Path → entry, of the regular files alone: nothing else is ever opened."""
        return {entry.path: entry for entry in self.entries if entry.kind == "file"}

    def sha256(self, path: Path) -> str:
        """Return the digest of a file, read once: evaluations and checkpoints are those of many artifacts.

        Raises:
            OSError: when it cannot be read.
        """
        if path not in self._digests:
            self._digests[path] = sha256_of(path)
        return self._digests[path]

    def evaluation_tensors(self, path: str) -> dict[str, TensorEntry]:
        """Return the header of an evaluation file, read once for all the artifacts that are measured on it.

        Raises:
            WeightsError: when its header is not sound.
            OSError: when it cannot be read.
        """
        if path not in self._headers:
            self._headers[path] = read_header(self.root / path)
        return self._headers[path].tensors

    def read_text(self, path: str, limit: int = jsontext.MAX_BYTES) -> tuple[str | None, list[Problem]]:
        """Return the text of a file of the release, or the problem with it; None and no problem when it is absent."""
        entry = self.files.get(path)
        if entry is None:
            return None, []
        if entry.size > limit:
            return None, [Problem("syntax", "", f"the file has {entry.size} bytes; at most {limit} are read")]
        try:
            return jsontext.decode((self.root / path).read_bytes()), []
        except jsontext.JsonError as problem:
            return None, [Problem("syntax", "", problem.problem, problem.line)]
        except OSError as error:
            return None, [Problem("syntax", "", f"the file cannot be read: {error.strerror}")]

    @cached_property
    def _manifest(self) -> tuple[str | None, Manifest | None, list[Problem]]:
        text, problems = self.read_text(MANIFEST_FILE)
        if text is None:
            return None, None, problems
        manifest, problems = check_text(Manifest, text)
        return text, manifest, problems

    @cached_property
    def _index(self) -> tuple[str | None, Index | None, list[Problem]]:
        text, problems = self.read_text(INDEX_FILE)
        if text is None:
            return None, None, problems
        index, problems = check_text(Index, text)
        return text, index, problems

    @property
    def manifest(self) -> Manifest | None:
        """The claims, if they can be read."""
        return self._manifest[1]

    @property
    def manifest_text(self) -> str:
        """The text of the manifest, empty when there is none."""
        return self._manifest[0] or ""

    @property
    def index(self) -> Index | None:
        """The evidence, if it can be read."""
        return self._index[1]

    @cached_property
    def indexed(self) -> frozenset[str]:
        """Paths that the index names, gathered once."""
        return frozenset(file.path for file in self.index.all_files()) if self.index else frozenset()

    @property
    def document_problems(self) -> dict[str, list[Problem]]:
        """Problems of the two documents of the release."""
        return {MANIFEST_FILE: self._manifest[2], INDEX_FILE: self._index[2]}

    @property
    def release_digest(self) -> str | None:
        """Digest over manifest and index, or None unless both are there."""
        if self._manifest[0] is None or self._index[0] is None:
            return None
        return release_digest(self._manifest[0], self._index[0])

    @property
    def name(self) -> str:
        """Name and version of the release, or of its folder."""
        release = self.manifest.release if self.manifest else None
        return f"{release.name} {release.version}" if release else self.root.resolve().name

    @cached_property
    def artifacts(self) -> "tuple[ArtifactSubject, ...]":
        """Its artifacts, in the manifest's order."""
        evidence = {entry.id: entry for entry in self.index.artifacts} if self.index else {}
        claims = self.manifest.artifacts if self.manifest else ()
        return tuple(ArtifactSubject(self, i, claim, evidence.get(claim.id)) for i, claim in enumerate(claims))

    def line(self, pointer: str) -> int | None:
        """Return the line of a pointer in the manifest."""
        return jsontext.line_of(self.manifest_text, pointer)

    def manifest_finding(self, code: str, message: str, pointer: str, **where: object) -> Finding:
        """Return a finding in the manifest."""
        return finding(code, message, path=MANIFEST_FILE, pointer=pointer, line=self.line(pointer), **where)


@dataclass(eq=False)
class ArtifactSubject:
    """An artifact under validation.

    Attributes:
        release: the release it belongs to.
        position: its place in the manifest.
        claim: the author's words.
        evidence: the index entry, if any.
    """

    release: ReleaseSubject = field(repr=False)
    position: int
    claim: SaeArtifact | TranscoderArtifact | CrosscoderArtifact
    evidence: IndexArtifact | None

    @property
    def pointer(self) -> str:
        """Where it stands in the manifest."""
        return f"/artifacts/{self.position}"

    @property
    def config_path(self) -> str:
        """Its configuration, relative to the release."""
        return f"{self.claim.path}/{CONFIG_FILE}"

    @property
    def weights_path(self) -> str:
        """Its weights, relative to the release."""
        return f"{self.claim.path}/{WEIGHTS_FILES[self.claim.format]}"

    @property
    def golden_path(self) -> str:
        """Its golden vectors, relative to the release."""
        return f"{self.claim.path}/{GOLDEN_FILE}"

    @cached_property
    def config_text(self) -> tuple[str | None, list[Problem]]:
        """Text of its configuration."""
        return self.release.read_text(self.config_path, MAX_CONFIG_BYTES)

    @cached_property
    def checked_config(self) -> tuple[ArtifactConfig | None, list[Problem]]:
        """Its typed configuration, or the problems with it."""
        text, problems = self.config_text
        return check_config(text) if text is not None else (None, problems)

    @property
    def config(self) -> ArtifactConfig | None:
        """Its typed configuration, if it fits."""
        return self.checked_config[0]

    @cached_property
    def checked_header(self) -> tuple[Header | None, str | None]:
        """Header of its weight file, or what is wrong with it; (None, None) when the file is absent."""
        if self.weights_path not in self.release.files:
            return None, None
        try:
            return read_header(self.release.root / self.weights_path), None
        except WeightsError as error:
            return None, str(error)
        except OSError as error:
            return None, f"{self.weights_path}: cannot be read: {error.strerror}"

    @property
    def header(self) -> Header | None:
        """Header of its weight file, if it is sound."""
        return self.checked_header[0]

    @cached_property
    def inspection(self) -> "Inspection | None":
        """What one pass over its weights found; None without a sound header. Needs torch.

        Raises:
            OSError: when the file cannot be read.
        """
        from saereg.registry.evidence.inspection import inspect

        return None if self.header is None else inspect(self.release.root / self.weights_path, self.header)

    def finding(self, code: str, message: str, **where: object) -> Finding:
        """Return a finding on this artifact."""
        return finding(code, message, artifact=self.claim.id, **where)

    def claim_finding(self, code: str, message: str, pointer: str = "", **where: object) -> Finding:
        """Return a finding on what the manifest says of this artifact."""
        full = self.pointer + pointer
        return self.release.manifest_finding(code, message, full, artifact=self.claim.id, **where)

    def config_finding(self, code: str, message: str, pointer: str, **where: object) -> Finding:
        """Return a finding in its cfg.json."""
        text = self.config_text[0] or ""
        line = jsontext.line_of(text, pointer)
        return self.finding(code, message, path=self.config_path, pointer=pointer, line=line, **where)
