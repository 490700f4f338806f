"""What is validated: a release folder and its artifacts, read once, tolerant of everything that can be wrong."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError, WeightsError
from saereg.registry.cards.card import CARD_FILE, MAX_CARD_BYTES, Card
from saereg.registry.files.digest import release_digest, sha256_of
from saereg.registry.files.folder import Entry
from saereg.registry.files.header import Header, TensorEntry
from saereg.registry.files.names import CONFIG_FILE, GOLDEN_FILE, WEIGHTS_FILES
from saereg.registry.files.place import Place
from saereg.registry.files.pulled import read_pulled
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.semantics import semantics_of
from saereg.registry.validators.findings import Code, finding, placed
from saereg.registry.validators.options import Options
from saereg.schemas import jsontext
from saereg.schemas.artifact_config import ArtifactConfig, check_config
from saereg.schemas.document import Problem, check_text
from saereg.schemas.index import Index, IndexArtifact
from saereg.schemas.manifest import CrosscoderArtifact, Manifest, SaeArtifact, SourceCheckpoint, TranscoderArtifact
from saereg.schemas.report import Finding, Skipped
from saereg.schemas.semantics import Semantics

if TYPE_CHECKING:
    from concurrent.futures import Future

    from saereg.registry.evidence.inspection import Inspection
    from saereg.registry.evidence.round_trip import Looked

MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Largest cfg.json that is parsed; a real one has a few kilobytes."""


@dataclass(eq=False)
class ReleaseSubject:
    """A release under validation.

    Attributes:
        place: where it stands.
        options: what a run was asked for, beyond its level.
        skipped: what a check could not look at and why; checks that cannot run add to it.
    """

    place: Place
    options: Options = field(default_factory=Options)
    skipped: list[Skipped] = field(default_factory=list)
    _digests: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _headers: dict[str, Header] = field(default_factory=dict, init=False, repr=False)
    _ahead: dict[str, "Future[str]"] = field(default_factory=dict, init=False, repr=False)
    _pool: ThreadPoolExecutor | None = field(default=None, init=False, repr=False)

    @property
    def root(self) -> Path:
        """Its folder: at levels weights and data, and for the checks that say so, it is on this machine.

        Raises:
            UsageError: when it is not.
        """
        if self.place.folder is None:
            raise UsageError(f"{self.place.name} is not on this machine; download the release first")
        return self.place.folder

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every entry of the release."""
        return self.place.entries()

    @cached_property
    def files(self) -> dict[str, Entry]:
        """Path → entry, of the regular files alone: nothing else is ever opened."""
        return {entry.path: entry for entry in self.entries if entry.kind == "file"}

    def sha256(self, path: str) -> str:
        """Return the digest of a file of the release, read once: evaluations are those of many artifacts.

        Raises:
            OSError: when it cannot be read.
        """
        if path not in self._digests:
            self._digests[path] = self.place.sha256(path)
        return self._digests[path]

    def hash_ahead(self, sizes: Mapping[str, int]) -> None:
        """Compute the digests of files with as many threads as were asked for, so that `sha256` has them at hand.

        Args:
            sizes: path → bytes; the largest files come first, so that no thread is left with one at the end.
        """
        if self.options.jobs < 2:
            return
        paths = sorted(set(sizes) - set(self._digests), key=lambda path: (-sizes[path], path))
        with ThreadPoolExecutor(self.options.jobs) as pool:
            digests = list(pool.map(self._digest_or_none, paths))
        self._digests.update((path, digest) for path, digest in zip(paths, digests, strict=True) if digest)

    def _digest_or_none(self, path: str) -> str | None:
        try:
            return self.place.sha256(path)
        except OSError:
            return None  # the check that asks for it says so

    def sha256_of_checkpoint(self, path: str) -> str:
        """Return the digest of a source checkpoint, read once.

        Raises:
            OSError: when it cannot be read.
        """
        key = f"checkpoints:{path}"
        if key not in self._digests:
            ahead = self._ahead.get(key)
            self._digests[key] = ahead.result() if ahead is not None else self._hashed_checkpoint(path)
        return self._digests[key]

    def _hashed_checkpoint(self, path: str) -> str:
        return sha256_of((self.options.checkpoints or Path()) / path)

    def look_ahead(self, skipped: Collection[str]) -> None:
        """Begin to read weights and source checkpoints with as many threads as were asked for.

        Checks wait for what they ask of an artifact; until `close` the threads go on with the next ones.

        Args:
            skipped: ids of the artifacts whose weights are not looked at.
        """
        if self.options.jobs < 2 or self._pool is not None:
            return
        self._pool = ThreadPoolExecutor(self.options.jobs)
        for artifact in self.artifacts:
            if artifact.claim.id in skipped or artifact.header is None:
                continue
            artifact.ahead = self._pool.submit(artifact.look)
            source = artifact.checkpoint
            key = f"checkpoints:{source[1].path}" if source is not None else ""
            if source is not None and key not in self._ahead and key not in self._digests:
                self._ahead[key] = self._pool.submit(self._hashed_checkpoint, source[1].path)

    def close(self) -> None:
        """Let threads that read ahead end; what none of them has begun is read by nobody."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def evaluation_tensors(self, path: str) -> dict[str, TensorEntry]:
        """Return the header of an evaluation file, read once for all the artifacts that are measured on it.

        Raises:
            WeightsError: when its header is not sound.
            OSError: when it cannot be read.
        """
        if path not in self._headers:
            self._headers[path] = self.place.header(path)
        return self._headers[path].tensors

    def read_text(self, path: str, limit: int = jsontext.MAX_BYTES) -> tuple[str | None, list[Problem]]:
        """Return the text of a file of the release, or the problem with it; None and no problem when it is absent."""
        entry = self.files.get(path)
        if entry is None:
            return None, []
        if entry.size > limit:
            return None, [Problem("syntax", "", f"the file has {entry.size} bytes; at most {limit} are read")]
        try:
            return jsontext.decode(self.place.read(path)), []
        except jsontext.JsonError as problem:
            return None, [Problem("syntax", "", problem.problem, problem.line)]
        except OSError as error:
            return None, [Problem("syntax", "", f"the file cannot be read: {error.strerror}", hint="Make it readable.")]

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
    def index_text(self) -> str:
        """The text of the index, empty when there is none."""
        return self._index[0] or ""

    @property
    def index(self) -> Index | None:
        """The evidence, if it can be read."""
        return self._index[1]

    @cached_property
    def indexed(self) -> frozenset[str]:
        """Paths that the index names, gathered once."""
        return frozenset(file.path for file in self.index.all_files()) if self.index else frozenset()

    @cached_property
    def absent(self) -> frozenset[str]:
        """Files of the index that `saereg pull` was asked to leave out, and that are still not here."""
        pulled = read_pulled(self.place.folder) if self.place.folder else None
        return frozenset(pulled.absent if pulled else ()) - self.files.keys()

    @property
    def document_problems(self) -> dict[str, list[Problem]]:
        """Problems of the two documents of the release."""
        return {MANIFEST_FILE: self._manifest[2], INDEX_FILE: self._index[2]}

    @cached_property
    def card(self) -> Card | None:
        """The card at its root, if it can be read."""
        text = self.read_text(CARD_FILE, MAX_CARD_BYTES)[0]
        return None if text is None else Card(text)

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
        return f"{release.name} {release.version}" if release else self.place.name

    @cached_property
    def artifacts(self) -> "tuple[ArtifactSubject, ...]":
        """Its artifacts, in the manifest's order, without those that `saereg pull` left out."""
        evidence = {entry.id: entry for entry in self.index.artifacts} if self.index else {}
        claims = self.manifest.artifacts if self.manifest else ()
        every = (ArtifactSubject(self, i, claim, evidence.get(claim.id)) for i, claim in enumerate(claims))
        return tuple(artifact for artifact in every if not artifact.is_left_out)

    def line(self, pointer: str) -> int | None:
        """Return the line of a pointer in the manifest."""
        return jsontext.line_of(self.manifest_text, pointer)

    def manifest_finding(self, code: Code, message: str, pointer: str, **where: object) -> Finding:
        """Return a finding in the manifest."""
        at = placed(self.manifest_text, pointer)
        return finding(code, message, **({"path": MANIFEST_FILE, "pointer": pointer} | at | where))


@dataclass(eq=False)
class ArtifactSubject:
    """An artifact under validation.

    Attributes:
        release: the release it belongs to.
        position: its place in the manifest.
        claim: the author's words.
        evidence: the index entry, if any.
        ahead: what a thread finds in its weights that was sent ahead, if one was.
    """

    release: ReleaseSubject = field(repr=False)
    position: int
    claim: SaeArtifact | TranscoderArtifact | CrosscoderArtifact
    evidence: IndexArtifact | None
    ahead: "Future[Looked | None] | None" = field(default=None, init=False, repr=False)

    @property
    def is_left_out(self) -> bool:
        """Whether `saereg pull` brought none of its files."""
        files = self.evidence.files if self.evidence else ()
        return bool(files) and all(file.path in self.release.absent for file in files)

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
    def semantics(self) -> Semantics | None:
        """The function that its configuration means, if it fits."""
        return semantics_of(self.config) if self.config is not None else None

    @cached_property
    def checked_header(self) -> tuple[Header | None, str | None]:
        """Header of its weight file, or what is wrong with it; (None, None) when the file is absent."""
        if self.weights_path not in self.release.files:
            return None, None
        try:
            return self.release.place.header(self.weights_path), None
        except WeightsError as error:
            return None, str(error)
        except OSError as error:
            return None, f"{self.weights_path}: cannot be read: {error.strerror}"

    @property
    def header(self) -> Header | None:
        """Header of its weight file, if it is sound."""
        return self.checked_header[0]

    @property
    def checkpoint(self) -> tuple[Path, SourceCheckpoint] | None:
        """The source checkpoint and what the manifest says of it, where it is at hand."""
        source, folder = self.claim.source_checkpoint, self.release.options.checkpoints
        if source is None or folder is None or not (folder / source.path).is_file():
            return None
        return folder / source.path, source

    def look(self) -> "Looked | None":
        """Read the weights once, and compare them with the source checkpoint where it is at hand.

        Raises:
            OSError: when the file cannot be read.
        """
        from saereg.registry.evidence.round_trip import look

        if self.header is None:
            return None
        checkpoint, source = self.checkpoint or (None, None)
        return look(self.release.root / self.weights_path, self.header, checkpoint, source)

    @cached_property
    def looked(self) -> "Looked | None":
        """What one pass over its weights found; None without a sound header. Needs torch.

        Raises:
            OSError: when the file cannot be read.
        """
        return self.look() if self.ahead is None else self.ahead.result()

    @property
    def inspection(self) -> "Inspection | None":
        """What is in its weights, found in that pass; None without a sound header. Needs torch.

        Raises:
            OSError: when the file cannot be read.
        """
        return None if self.looked is None else self.looked.inspection

    def finding(self, code: Code, message: str, **where: object) -> Finding:
        """Return a finding on this artifact."""
        return finding(code, message, artifact=self.claim.id, **where)

    def claim_finding(self, code: Code, message: str, pointer: str = "", **where: object) -> Finding:
        """Return a finding on what the manifest says of this artifact."""
        full = self.pointer + pointer
        return self.release.manifest_finding(code, message, full, artifact=self.claim.id, **where)

    def config_finding(self, code: Code, message: str, pointer: str, **where: object) -> Finding:
        """Return a finding in its cfg.json."""
        at = placed(self.config_text[0] or "", pointer)
        return self.finding(code, message, **({"path": self.config_path, "pointer": pointer} | at | where))
