"""Build index.json: look at every file of a release and write down what is found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from saereg import __version__
from saereg.errors import UsageError, WeightsError
from saereg.registry.cards.write import write_card
from saereg.registry.claims.diagnosis import Diagnosed, diagnose
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.folder import Entry, scan
from saereg.registry.files.header import Header, read_header
from saereg.registry.files.listing import index_file, listed
from saereg.registry.files.names import (
    CONFIG_FILE,
    GOLDEN_FILE,
    SIGNATURE_FILE,
    WEIGHTS_FILES,
)
from saereg.registry.presenting import Presentation, present
from saereg.registry.provenance import provenance_of
from saereg.registry.recompute.choosing import evaluations_of
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE, checkpoints_beside
from saereg.registry.semantics import row_shape, semantics_of
from saereg.registry.validators.checks.layout import is_refused
from saereg.registry.work.opening import open_executor
from saereg.registry.work.running import run_all
from saereg.schemas.artifact_config import ArtifactConfig, assumptions, read_config
from saereg.schemas.index import GoldenFacts, Index, IndexArtifact, IndexFile, TensorFacts
from saereg.schemas.manifest import Artifact, Manifest
from saereg.schemas.metrics import DType

if TYPE_CHECKING:
    from saereg.registry.evidence.round_trip import Looked

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""


def build(
    root: Path,
    *,
    checkpoints: Path | None = None,
    models: Mapping[str, str] | None = None,
    device: str = "cpu",
    executor: str | None = None,
    progress: Progress | None = None,
    presentation: Presentation | None = None,
) -> Index:
    """Build the index of a release and write it; of the other files only what it generates itself is written.

    A release without README.md gets a first one; of one that is there, the generated parts are brought up to date.

    Args:
        root: release folder with a manifest.json.
        checkpoints: folder of source checkpoints; default: `checkpoints` beside the release.
        models: key of a base model → folder or repository on the Hub, for evaluations that its weights are needed for.
        device: torch device on which metrics are computed.
        executor: who looks at the artifacts, as `open_executor` has it; None: this process. The index is the same.
        progress: called after each artifact.
        presentation: what else is made for readers: figures, feature views, cards of artifacts. None: nothing.

    Returns:
        The index that was written.

    Raises:
        UsageError: when there is no manifest, a file that it names is missing, a path is not portable, or a source
            checkpoint is another than the manifest says.
        DocumentError: when the manifest or a configuration does not fit.
        WeightsError: when weights or golden vectors are not what their documents say; or evaluations
            that no claim is about; of others the verdict of the claim says so.
        OSError: when a file cannot be read, or the index or the card not be written.
        MissingExtraError: without the `torch` extra.
    """
    require_torch("building an index")
    path = root / MANIFEST_FILE
    if not path.is_file():
        raise UsageError(f"{root} holds no {MANIFEST_FILE}; a trainer writes one, or write it by hand")
    manifest, found = Manifest.read(path), _files_by_folder(root)
    shared = _release_files(root, manifest, found)
    parts = _Parts(root, manifest, found, {file.path: file.sha256 for file in shared}, models or {}, device)
    sources = checkpoints or checkpoints_beside(root)
    entries = _entries(parts, sources, executor, progress)
    import torch

    software = {"saereg": __version__, "torch": str(torch.__version__)}
    index = Index(
        generated_by=software,
        manifest_sha256=sha256_of(path),
        files=shared,
        artifacts=entries,
        provenance=provenance_of(manifest, entries, software),
    )
    if presentation is not None:
        index = present(root, manifest, index, presentation, progress)
    written = write_card(root, manifest, index, presentation.templates if presentation else None)
    index = index.model_copy(update={"files": listed(root, index.files, written)})
    write_text_atomically(root / INDEX_FILE, index.text())
    return index


@dataclass(frozen=True)
class _Parts:
    """What every artifact of a release refers to, looked at once.

    Attributes:
        root: release folder.
        manifest: the claims.
        found: folder → its files, links and odd ones left out.
        digests: path → sha256 of the files that belong to no artifact, evaluations above all.
        models: key of a base model → folder or repository to take its weights from.
        device: torch device on which metrics are computed.
    """

    root: Path
    manifest: Manifest
    found: Mapping[str, Sequence[Entry]]
    digests: Mapping[str, str]
    models: Mapping[str, str]
    device: str = "cpu"


def _entries(
    parts: _Parts, checkpoints: Path | None, executor: str | None, progress: Progress | None
) -> tuple[IndexArtifact, ...]:
    """Return the evidence on every artifact, in the order of the manifest."""
    claims = parts.manifest.artifacts
    if executor is not None:  # whose workers stand in other folders
        parts = replace(parts, root=parts.root.absolute())
        checkpoints = checkpoints.absolute() if checkpoints is not None else None
    builds = (_ArtifactBuild(part, claim, checkpoints) for claim, part in _apart(parts))
    found: dict[int, IndexArtifact] = {}
    with open_executor(executor) as workers:
        for done in run_all(workers, _ArtifactBuild.entry, builds, name=lambda task: task.claim.id):
            found[done.index] = done.outcome.value()
            if progress:
                progress(done.task.claim.id, len(found), len(claims))
    return tuple(found[position] for position in range(len(claims)))


def _apart(parts: _Parts) -> Iterator[tuple[Artifact, _Parts]]:
    """Yield every artifact with what concerns it: without the files of the others, of which there may be thousands."""
    taken = {claim.path for claim in parts.manifest.artifacts}
    rest = {folder: files for folder, files in parts.found.items() if folder not in taken}
    for claim in parts.manifest.artifacts:
        yield claim, replace(parts, found=rest | {claim.path: parts.found.get(claim.path, ())})


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
        looked = self._looked()
        found = looked.inspection
        numbers = self._numbers()
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
            round_trip=looked.round_trip(source) if (source := self.claim.source_checkpoint) else None,
            golden=self._golden(),
            metrics=numbers.measurements,
            verdicts=numbers.verdicts,
        )

    def _files(self, weights_sha256: str) -> tuple[IndexFile, ...]:
        known = {self.weights.relative_to(self.root).as_posix(): weights_sha256}
        mine = self.parts.found.get(self.claim.path, ())
        return tuple(index_file(self.root, entry, known.get(entry.path)) for entry in mine)

    def _golden(self) -> GoldenFacts | None:
        from saereg.registry.evidence.golden import replay
        from saereg.registry.evidence.stream import streamed

        path = self.folder / GOLDEN_FILE
        if not path.is_file():
            return None
        replayed = replay(streamed(self.cfg, open_safetensors(self.weights)), path)
        where, golden = path.relative_to(self.root).as_posix(), replayed.golden
        return GoldenFacts(path=where, made_by=golden.made_by, rows=len(golden.x), replayed=(replayed.replay,))

    def _looked(self) -> "Looked":
        """Read the weights once, compared with their source where it is at hand, which a second thread hashes."""
        from saereg.registry.evidence.round_trip import look

        source = self.claim.source_checkpoint
        if source is None or self.checkpoints is None or not (self.checkpoints / source.path).is_file():
            return look(self.weights, self.header)
        checkpoint = self.checkpoints / source.path
        with ThreadPoolExecutor(1) as pool:
            digest = pool.submit(sha256_of, checkpoint)
            looked = look(self.weights, self.header, checkpoint, source)
        if digest.result() != source.sha256:
            raise UsageError(f"{checkpoint} is not the checkpoint that the manifest names")
        return looked

    def _numbers(self) -> Diagnosed:
        """Measure the artifact on its evaluations, and judge its claims; what cannot be had here says so."""
        from saereg.registry.claims.measuring import measured
        from saereg.registry.kernels.running import runner_of
        from saereg.registry.loading import load_path
        from saereg.registry.metrics.sources.opening import Surroundings

        shape, claims = row_shape(self.cfg), self.claim.claims
        evaluations = evaluations_of(self.claim, self.manifest, self.root, shape)
        if not evaluations:
            return diagnose((), (), claims)
        for name, evaluation in evaluations.items():
            path = getattr(evaluation, "path", None)
            if path is not None and not ((self.root / path).is_file() or self.parts.found.get(path)):
                raise UsageError(f"{self.root / path} is no file; the manifest's evaluation {name!r} names it")
        device = self.parts.device
        runner = runner_of(load_path(self.folder, device, layout=self.claim.format, as_library=True))
        around = Surroundings(self.root, self.manifest, shape, self.parts.digests, self.parts.models, device)
        predicts = self.claim.kind == "transcoder"
        found = measured(runner, evaluations, lambda evaluation: around, claims, predicts=predicts)
        told = {claim.evaluation for artifact in self.manifest.artifacts for claim in artifact.claims}
        for name, error in found.failed.items():
            if name not in told:  # else verdicts say it, and a finding of the validator
                raise WeightsError(f"{self.claim.id} on {name!r}", str(error))
        return found.diagnosed


def _files_by_folder(root: Path) -> dict[str, list[Entry]]:
    """Return folder → the files directly in it: folders of artifacts may be nested."""
    found: dict[str, list[Entry]] = {}
    for entry in scan(root):
        beside = entry.path in (MANIFEST_FILE, INDEX_FILE, SIGNATURE_FILE)
        if entry.kind == "file" and not beside and not is_refused(entry.path):
            found.setdefault(str(PurePosixPath(entry.path).parent), []).append(entry)
    return found


def _release_files(root: Path, manifest: Manifest, found: Mapping[str, Sequence[Entry]]) -> tuple[IndexFile, ...]:
    taken = {claim.path for claim in manifest.artifacts}
    rest = (entry for folder, entries in found.items() if folder not in taken for entry in entries)
    return tuple(index_file(root, entry, None) for entry in sorted(rest, key=lambda entry: entry.path))
