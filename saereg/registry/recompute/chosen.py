"""Which dictionaries a user names, and on which rows each is to be measured."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DocumentError, UsageError, WeightsError
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.names import WEIGHTS_FILES
from saereg.registry.metrics.sources.opening import Surroundings, open_rows
from saereg.registry.metrics.sources.spec import absolute, rows_of_spec
from saereg.registry.query import Selection, meeting
from saereg.registry.readings.given import Value
from saereg.registry.readings.source import open_source
from saereg.registry.recompute.choosing import evaluations_of
from saereg.registry.recompute.tasks import Place
from saereg.registry.refs import parse_reference
from saereg.registry.release import MANIFEST_FILE, ReleaseArtifact, open_artifact, open_release
from saereg.registry.semantics import row_shape
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.manifest import TranscoderArtifact
from saereg.schemas.metrics import Claim

if TYPE_CHECKING:
    from saereg.registry.metrics.sources.rows import Rows

LEAST_STREAM_BYTES = 100_000_000
"""Memory below which nothing can be streamed at any speed."""

DATA = "data"
"""Name of rows that are in no manifest."""


@dataclass(frozen=True)
class Setting:
    """How dictionaries are to be measured.

    Attributes:
        data: rows, as `rows_of_spec` reads them; None: the evaluations of each release.
        models: key of a base model → folder or repository.
        layout: layout of what is in no release, where several fit.
        given: what its files do not say.
        device: torch device.
        exact: whether to keep the order of operations of the dictionary itself.
        memory_bytes: what one worker may use; larger weights are streamed. None: none are.
    """

    data: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)
    layout: str | None = None
    given: Mapping[str, Value] = field(default_factory=dict)
    device: str = "cpu"
    exact: bool = False
    memory_bytes: int | None = None

    def stream_bytes(self, cfg: ArtifactConfig) -> int | None:
        """Return the memory in which the weights of a dictionary are streamed; None where they are loaded.

        Only dictionaries whose latents follow from one product are streamed; others are loaded, whatever their size.
        One of few sizes, as the size of blocks, and so the last digits, follow from it: a run that goes on where
        another was ended finds another amount of memory free.
        """
        from saereg.registry.kernels.running import has_fast_path
        from saereg.registry.kernels.streaming import STREAM_BYTES, WEIGHTS_SHARE, weights_bytes

        most = self.memory_bytes
        if most is None or self.exact or not has_fast_path(cfg) or weights_bytes(cfg) <= WEIGHTS_SHARE * most:
            return None
        found = STREAM_BYTES
        while found > max(most, LEAST_STREAM_BYTES):
            found //= 2
        return found


@dataclass(frozen=True)
class Chosen:
    """One dictionary that is to be measured; nothing of it has been read yet but documents.

    Attributes:
        target: as the user named it.
        artifact: what its release says of it, if it is in one.
        is_one_of_many: whether the target is a whole release.
    """

    target: str
    artifact: ReleaseArtifact | None = None
    is_one_of_many: bool = False

    @property
    def name(self) -> str:
        """How to name it alone."""
        return f"{self.target}:{self.artifact.id}" if self.artifact and self.is_one_of_many else self.target

    def place(self, how: Setting) -> Place:
        """Return where it is; an artifact on the Hub is fetched.

        Raises:
            PublishError: when the Hub does not answer.
        """
        if self.artifact is None:
            given = tuple(sorted(how.given.items()))
            return Place(Path(self.target).absolute(), how.layout, given, device=how.device, exact=how.exact)
        here = self.artifact.local()
        path, layout = here.folder.absolute(), here.claim.format
        return Place(path, layout, released=True, device=how.device, exact=how.exact)

    def weights_sha256(self, place: Place) -> str:
        """Return the digest of its weights.

        Raises:
            WeightsError: when they are not those of the index.
            OSError: when they cannot be read.
        """
        source = open_source(place.path)
        names = source.names if self.artifact is None else (WEIGHTS_FILES[self.artifact.claim.format],)
        digests = {name: sha256_of(source.folder / name) for name in names}
        for file in self.artifact.evidence.files if self.artifact and self.artifact.evidence else ():
            name = Path(file.path).name
            if file.role == "weights" and digests.get(name, file.sha256) != file.sha256:
                raise WeightsError(file.path, "its sha256 is not the one in index.json: altered, or not built again")
        if len(digests) == 1:
            return next(iter(digests.values()))
        return hashlib.sha256("".join(f"{d}  {n}\n" for n, d in digests.items()).encode()).hexdigest()


def chosen_of(target: str, conditions: Sequence[str] = ()) -> tuple[Chosen, ...]:
    """Return the dictionaries that one word of the user names.

    Args:
        target: a release (folder or hf://), `release:artifact`, or a file or folder in any layout.
        conditions: of a release only the artifacts that meet all of them, e.g. `l0 < 64`.

    Raises:
        UsageError: when there is no such file or folder.
        SaeregError: when a release cannot be opened.
    """
    reference = parse_reference(target)
    folder = reference.folder
    if reference.artifact is not None:
        return (Chosen(target, open_artifact(target)),)
    if folder is None or (folder / MANIFEST_FILE).is_file():
        found = meeting(Selection(open_release(target).artifacts), conditions)
        return tuple(Chosen(target, artifact, is_one_of_many=True) for artifact in found)
    if not folder.exists():
        raise UsageError(f"{target}: no such file or folder")
    return (Chosen(target, _inside_release(folder)),)


def _inside_release(folder: Path) -> ReleaseArtifact | None:
    """Return the artifact of a release that a folder holds, or None: any folder may hold a dictionary."""
    try:
        return open_artifact(folder) if folder.is_dir() else None
    except DocumentError:
        raise  # the release around it cannot be read
    except UsageError:
        return None


@dataclass(frozen=True)
class Measuring:
    """One dictionary and one evaluation.

    Attributes:
        chosen: the dictionary.
        cfg: its configuration.
        place: where it is.
        evaluation: name of the rows.
        rows: the rows.
        are_tokens: whether each row is a token.
        claims: what the author states of the dictionary on these rows.
    """

    chosen: Chosen
    cfg: ArtifactConfig
    place: Place
    evaluation: str
    rows: "Rows"
    are_tokens: bool = False
    claims: tuple[Claim, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.chosen.name} on {self.evaluation}"

    @property
    def source(self) -> tuple[object, ...]:
        """What the digest of the rows follows from: many dictionaries are measured on the same.

        Raises:
            DataUnavailableError: when a model that computes them is not on this machine.
            WeightsError: when it is another than the manifest names.
        """
        from saereg.registry.metrics.sources.tokens import ModelRows

        artifact = self.chosen.artifact
        models = self.rows.identities if isinstance(self.rows, ModelRows) else ()
        return str(artifact.release.path) if artifact else None, self.evaluation, row_shape(self.cfg), models

    @property
    def cost(self) -> int:
        """Products of encode and decode, about: by it progress is told."""
        return self.rows.rows * self.cfg.d_in * self.cfg.d_sae * max(1, getattr(self.cfg, "n_sources", 1))


def has_losses(rows: "Rows") -> bool:
    """Whether a model computes the rows from tokens, so that it also has a loss."""
    from saereg.registry.metrics.sources.tokens import ModelRows

    return isinstance(rows, ModelRows)


def measurings_of(chosen: Chosen, how: Setting) -> Iterator[Measuring]:
    """Yield every pair of a dictionary and rows for it.

    Raises:
        UsageError: when there are no rows for it.
        SaeregError: when it or the rows cannot be opened.
        OSError: when a file cannot be read.
    """
    place = chosen.place(how)
    cfg = place.read().cfg
    place = replace(place, stream_bytes=how.stream_bytes(cfg))
    if how.data is not None:
        rows = rows_of_spec(absolute(how.data), row_shape(cfg), models=how.models)
        _check_targets(chosen, place, rows)
        yield Measuring(chosen, cfg, place, DATA, rows, are_tokens=has_losses(rows))
        return
    if chosen.artifact is None:
        raise UsageError(f"{chosen.name}: no release says on which rows; name them with --data FILE")
    yield from _of_release(chosen, cfg, place, how)


def _check_targets(chosen: Chosen, place: Place, rows: "Rows") -> None:
    """Refuse targets for what reconstructs its input: of a foreign file its configuration says which it is."""
    artifact = chosen.artifact
    if artifact is not None and rows.has_target != isinstance(artifact.claim, TranscoderArtifact):
        said = "has targets, but" if rows.has_target else "has no targets, but"
        does = "reconstructs its input" if rows.has_target else "predicts another site: PATH#inputs,targets"
        raise UsageError(f"{rows.name} {said} {chosen.name} {does}")


def _of_release(chosen: Chosen, cfg: ArtifactConfig, place: Place, how: Setting) -> Iterator[Measuring]:
    artifact = chosen.artifact
    assert artifact is not None  # noqa: S101  # the caller looked
    release, claim = artifact.release, artifact.claim
    manifest = release.manifest
    evaluations = evaluations_of(claim, manifest, release.path, row_shape(cfg))
    if not evaluations:
        raise UsageError(f"{chosen.name}: the manifest has no evaluation for it; name rows with --data FILE")
    for name, evaluation in evaluations.items():
        root = release.fetched(evaluation).absolute()
        around = Surroundings(root, manifest, row_shape(cfg), models=how.models, device=how.device)
        site = manifest.sites.get(evaluation.site or "")
        yield Measuring(
            chosen,
            cfg,
            place,
            name,
            open_rows(evaluation, around),
            are_tokens=evaluation.source == "tokens" or (site is not None and site.stream != "parameter"),
            claims=tuple(c for c in claim.claims if c.evaluation == name),
        )
