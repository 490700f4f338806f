"""Build index.json: look at every file of a release and write down what is found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from saereg import __version__
from saereg.errors import UsageError
from saereg.registry.cards.write import write_card
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.folder import Entry, scan
from saereg.registry.files.header import Header, read_header
from saereg.registry.files.names import (
    CONFIG_FILE,
    GOLDEN_FILE,
    WEIGHTS_FILES,
)
from saereg.registry.files.roles import role_of
from saereg.registry.metrics.claims import judge
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE, checkpoints_beside
from saereg.registry.semantics import semantics_of
from saereg.registry.validators.checks.layout import is_refused
from saereg.schemas.artifact_config import ArtifactConfig, assumptions, read_config
from saereg.schemas.index import GoldenFacts, Index, IndexArtifact, IndexFile, RoundTrip, TensorFacts
from saereg.schemas.manifest import Artifact, Evaluation, Manifest, TranscoderArtifact
from saereg.schemas.metrics import DType, Measurement
from saereg.schemas.names import path_problem

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""


def build(root: Path, *, checkpoints: Path | None = None, progress: Progress | None = None) -> Index:
    """Build the index of a release and write it; all other files but the card are only read.

    A release without README.md gets a first one; of one that is there, the generated parts are brought up to date.

    Args:
        root: release folder with a manifest.json.
        checkpoints: folder of source checkpoints; default: `checkpoints` beside the release.
        progress: called after each artifact.

    Returns:
        The index that was written.

    Raises:
        UsageError: when there is no manifest, a file that it names is missing, a path is not portable, or a source
            checkpoint is another than the manifest says.
        DocumentError: when the manifest or a configuration does not fit.
        WeightsError: when weights, golden vectors or evaluations are not what their documents say.
        OSError: when a file cannot be read, or the index or the card not be written.
        MissingExtraError: without the `torch` extra.
    """
    require_torch("building an index")
    path = root / MANIFEST_FILE
    if not path.is_file():
        raise UsageError(f"{root} holds no {MANIFEST_FILE}; a trainer writes one, or write it by hand")
    manifest, found = Manifest.read(path), _files_by_folder(root)
    shared = _release_files(root, manifest, found)
    parts = _Parts(root, manifest, found, {file.path: file.sha256 for file in shared})
    sources = checkpoints or checkpoints_beside(root)
    entries = []
    for position, claim in enumerate(manifest.artifacts):
        entries.append(_ArtifactBuild(parts, claim, sources).entry())
        if progress:
            progress(claim.id, position + 1, len(manifest.artifacts))
    import torch

    index = Index(
        generated_by={"saereg": __version__, "torch": str(torch.__version__)},
        manifest_sha256=sha256_of(path),
        files=shared,
        artifacts=tuple(entries),
    )
    written = write_card(root, manifest, index)
    index = index.model_copy(update={"files": _with_written(root, shared, written)})
    write_text_atomically(root / INDEX_FILE, index.text())
    return index


def _with_written(root: Path, files: tuple[IndexFile, ...], written: tuple[str, ...]) -> tuple[IndexFile, ...]:
    """Return the files of the release together with those that were written after it was listed."""
    fresh = {path: _index_file(root, Entry(path, (root / path).stat().st_size, "file"), None) for path in written}
    known = {file.path: file for file in files} | fresh
    return tuple(known[path] for path in sorted(known))


@dataclass(frozen=True)
class _Parts:
    """What every artifact of a release refers to, looked at once.

    Attributes:
        root: release folder.
        manifest: the claims.
        found: folder → its files, links and odd ones left out.
        digests: path → sha256 of the files that belong to no artifact, evaluations above all.
    """

    root: Path
    manifest: Manifest
    found: Mapping[str, Sequence[Entry]]
    digests: Mapping[str, str]


class _ArtifactBuild:
    """The evidence on one artifact."""

    def __init__(self, parts: _Parts, claim: Artifact, checkpoints: Path | None) -> None:
        self.parts, self.claim, self.checkpoints = parts, claim, checkpoints
        self.root, self.manifest = parts.root, parts.manifest
        self.folder = self.root / claim.path
        self.weights = self.folder / WEIGHTS_FILES[claim.format]
        for needed in (self.folder / CONFIG_FILE, self.weights):
            if not needed.is_file():
                raise UsageError(f"{needed} is missing; the manifest lists artifact {claim.id!r} there")
        self.cfg: ArtifactConfig = read_config(self.folder / CONFIG_FILE)
        self.header: Header = read_header(self.weights)

    def entry(self) -> IndexArtifact:
        """Inspect, replay, compare and measure; return the index entry."""
        from saereg.registry.evidence.inspection import inspect

        found = inspect(self.weights, self.header)
        metrics = self._metrics()
        return IndexArtifact(
            id=self.claim.id,
            files=self._files(found.sha256),
            tensors={
                name: TensorFacts(shape=entry.shape, dtype=entry.dtype, finite=name not in found.first_bad)
                for name, entry in self.header.tensors.items()
            },
            dtype=cast(DType, self.cfg.torch_dtype),
            semantics=semantics_of(self.cfg),
            decoder_norm=found.decoder_norm,
            assumptions=assumptions(self.cfg),
            round_trip=self._round_trip(),
            golden=self._golden(),
            metrics=metrics,
            verdicts=judge(self.claim.claims, metrics),
        )

    def _files(self, weights_sha256: str) -> tuple[IndexFile, ...]:
        known = {self.weights.relative_to(self.root).as_posix(): weights_sha256}
        mine = self.parts.found.get(self.claim.path, ())
        return tuple(_index_file(self.root, entry, known.get(entry.path)) for entry in mine)

    def _golden(self) -> GoldenFacts | None:
        from saereg.registry.evidence.golden import replay
        from saereg.registry.evidence.stream import streamed

        path = self.folder / GOLDEN_FILE
        if not path.is_file():
            return None
        replayed = replay(streamed(self.cfg, open_safetensors(self.weights)), path)
        where, golden = path.relative_to(self.root).as_posix(), replayed.golden
        return GoldenFacts(path=where, made_by=golden.made_by, rows=len(golden.x), replayed=(replayed.replay,))

    def _round_trip(self) -> RoundTrip | None:
        from saereg.registry.evidence.round_trip import compare_with_source

        source = self.claim.source_checkpoint
        if source is None or self.checkpoints is None or not (self.checkpoints / source.path).is_file():
            return None
        if sha256_of(self.checkpoints / source.path) != source.sha256:
            raise UsageError(f"{self.checkpoints / source.path} is not the checkpoint that the manifest names")
        return compare_with_source(open_safetensors(self.weights), self.checkpoints / source.path, source)

    def _metrics(self) -> tuple[Measurement, ...]:
        from saereg.registry.loading import load_path
        from saereg.registry.metrics.engine import measure

        evaluations = self._evaluations()
        if not evaluations:
            return ()
        dictionary = load_path(self.folder, layout=self.claim.format, as_library=True)
        found: list[Measurement] = []
        for name, evaluation in evaluations.items():
            path = self.root / evaluation.path
            if not path.is_file():
                raise UsageError(f"{path} is no file; the manifest's evaluation {name!r} names it")
            digest = self.parts.digests.get(self.manifest.evaluations[name].path)
            found += measure(dictionary, self.root, self.manifest, name, data_sha256=digest)
        return tuple(found)

    def _evaluations(self) -> dict[str, Evaluation]:
        """Return the evaluations at this artifact's site, and those that its claims name."""
        site, predicts = getattr(self.claim, "site", None), isinstance(self.claim, TranscoderArtifact)
        named = {claim.evaluation for claim in self.claim.claims}
        return {
            name: evaluation
            for name, evaluation in self.manifest.evaluations.items()
            if name in named
            or (site is not None and evaluation.site == site and (evaluation.target is not None) == predicts)
        }


def _files_by_folder(root: Path) -> dict[str, list[Entry]]:
    """Return folder → the files directly in it: folders of artifacts may be nested."""
    found: dict[str, list[Entry]] = {}
    for entry in scan(root):
        if entry.kind == "file" and entry.path not in (MANIFEST_FILE, INDEX_FILE) and not is_refused(entry.path):
            found.setdefault(str(PurePosixPath(entry.path).parent), []).append(entry)
    return found


def _release_files(root: Path, manifest: Manifest, found: Mapping[str, Sequence[Entry]]) -> tuple[IndexFile, ...]:
    taken = {claim.path for claim in manifest.artifacts}
    rest = (entry for folder, entries in found.items() if folder not in taken for entry in entries)
    return tuple(_index_file(root, entry, None) for entry in sorted(rest, key=lambda entry: entry.path))


def _index_file(root: Path, entry: Entry, digest: str | None) -> IndexFile:
    path = entry.path
    if problem := path_problem(path):
        raise UsageError(f"{root}: {path}: {problem}")
    return IndexFile(path=path, size=entry.size, sha256=digest or sha256_of(root / path), role=role_of(path))
