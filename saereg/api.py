"""The public functions: open, find, sql, load, validate, publish, verify. Importing this needs no torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, overload

from saereg.errors import DocumentError, NothingToValidateError, UsageError
from saereg.publishers import publisher_of
from saereg.publishers.publisher import Wishes
from saereg.registry.catalog.sql import run
from saereg.registry.conditions.fields import Basis
from saereg.registry.fetching.opening import hub_reference, open_remote
from saereg.registry.fetching.verifying import Sampling
from saereg.registry.fetching.verifying import verify as verify_remote
from saereg.registry.files.blocks import require_torch
from saereg.registry.foreign.files import is_of_ours
from saereg.registry.loading import load_path
from saereg.registry.query import Selection
from saereg.registry.readings.given import Value
from saereg.registry.refs import Reference, is_there, parse_reference
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE, Release, ReleaseArtifact, open_release
from saereg.registry.remote import open_place
from saereg.registry.validators import runner
from saereg.registry.validators.options import Options
from saereg.registry.validators.profiles import level_needed
from saereg.schemas.plan import Receipt
from saereg.schemas.report import Level, Report
from saereg.schemas.settings import Settings

if TYPE_CHECKING:
    from saereg.registry.catalog.loading import Loaded
    from saereg.registry.catalog.references import Located
    from saereg.registry.catalog.selection import CatalogSelection
    from saereg.registry.dictionary import Dictionary


sql = run


def open(target: str | Path) -> Release:
    """Open a release folder or `hf://org/repo[@revision]`; see `saereg.registry.release.open_release`."""
    return open_release(target)


@overload
def find(
    targets: str | Path | Iterable[str | Path],
    *,
    basis: Basis | None = None,
    catalog: None = None,
    **conditions: object,
) -> Selection[ReleaseArtifact]: ...
@overload
def find(
    targets: None = None, *, basis: Basis | None = None, catalog: str | Path | None = None, **conditions: object
) -> "CatalogSelection": ...
def find(
    targets: str | Path | Iterable[str | Path] | None = None,
    *,
    basis: Basis | None = None,
    catalog: str | Path | None = None,
    **conditions: object,
) -> "Selection[ReleaseArtifact] | CatalogSelection":
    """Return the artifacts of the catalogue, or of some releases, that meet every condition.

        saereg.find(model="pythia-160m", kind="crosscoder", l0__lt=300, ev__gt=0.9).best("ev")

    Args:
        targets: folders or `hf://` repositories that are opened. Default: the catalogue.
        basis: `measured` or `stated`: numbers of this basis only. Default: measured ones, and where there is none
            stated ones.
        catalog: file of the catalogue. Default: the user's.
        conditions: as for `saereg.registry.query.Found.find`.

    Raises:
        UnknownNameError: for a field or operator that does not exist.
        UsageError: when a field cannot be compared so.
    """
    if targets is not None:
        several = [targets] if isinstance(targets, str | Path) else targets
        if catalog is not None:
            raise UsageError("name releases or a catalogue, not both")
        return Selection(tuple(a for target in several for a in open_release(target))).find(basis=basis, **conditions)
    from saereg.registry.catalog.selection import CatalogSelection
    from saereg.registry.catalog.store import catalog_path

    return CatalogSelection(Path(catalog) if catalog else catalog_path()).find(basis=basis, **conditions)


def load(
    target: str | Path,
    device: str = "cpu",
    *,
    given: Mapping[str, Value] | None = None,
    layout: str | None = None,
) -> "Dictionary":
    """Load a dictionary; calling it on x gives x_hat, with normalization and skip connection included.

    Args:
        target: a weight file or the folder of one dictionary in any layout of `docs/formats.md`, an artifact of a
            release (`release:artifact_id`, or its folder), `org/repo@revision:artifact_id` on the Hub, or
            `name[@version]:artifact_id` of a release in the catalogue. An artifact of a release is first compared with
            the release's index.json, that of another repository with what the Hub lists.
        device: torch device.
        given: what the files of other layouts do not say, by the names that errors ask for, e.g. `{"k": 64}`.
        layout: name of the layout, where several fit.

    Raises:
        FormatError: when a path is in no known layout, or in several, or something is not said and must not be guessed.
        WeightsError: when tensors or digests disagree.
        UsageError: when the reference names no single artifact, or a given value is not asked for.
        MissingExtraError: without the `torch` extra.
    """
    return fetch(target, device, given=given, layout=layout).dictionary


def fetch(
    target: str | Path,
    device: str = "cpu",
    *,
    given: Mapping[str, Value] | None = None,
    layout: str | None = None,
    catalog: Path | None = None,
) -> "Loaded":
    """Load a dictionary, and say where it comes from and what it was compared with; see `load`.

    Args:
        target: as for `load`.
        device: torch device.
        given: what the files of other layouts do not say.
        layout: name of the layout, where several fit.
        catalog: file of the catalogue. Default: the user's.

    Raises:
        SaeregError: whatever `load` raises.
    """
    from saereg.registry.catalog import loading

    require_torch("loading a dictionary")
    reference = parse_reference(target)
    path = reference.folder if reference.artifact is None else None
    if path is not None and (layout or (is_there(path) and (path.is_file() or (given and path.is_dir())))):
        return loading.Loaded(load_path(path, device, layout, given), str(path), path, loading.NOTHING)
    if layout and path is None:
        raise UsageError(f"{target}: a layout can be named for a path on this machine only")
    if (found := _located(str(target), reference, catalog)) is not None:
        return loading.load_located(found, device, given)
    if given and reference.repo is None:
        raise UsageError(
            f"{target}: an artifact of a release says everything itself; `given` and `layout` are for paths"
        )
    _require_there(str(target), reference, catalog)
    try:
        return loading.load_artifact(str(target), device)
    except (NothingToValidateError, UsageError) as error:
        if reference.repo is not None and reference.artifact is not None and _is_of_no_release(error):
            wanted = reference.artifact
            return loading.load_from_repository(reference.repo, reference.revision, wanted, device, given)
        if isinstance(error, NothingToValidateError) or path is None:
            raise
        if _is_of_release(error) or (path / MANIFEST_FILE).is_file():
            raise
        # a dictionary that is in no release
        return loading.Loaded(load_path(path, device), str(path), path, loading.NOTHING)


def _is_of_no_release(error: Exception) -> bool:
    """Whether there is no manifest, or one of another make."""
    if not isinstance(error, DocumentError):
        return isinstance(error, NothingToValidateError)
    try:
        return Path(error.path).name == MANIFEST_FILE and not is_of_ours(Path(error.path).read_bytes())
    except OSError:
        return False


def _located(target: str, reference: Reference, catalog: Path | None) -> "Located | None":
    """Return what a catalogue says a target is, where the target itself does not say it."""
    from saereg.registry.catalog.references import LATEST, locate
    from saereg.registry.catalog.store import catalog_path

    if reference.folder is not None and _says_it(reference.folder, reference.artifact):
        return None
    file = catalog or catalog_path()
    found = locate(file, target, reference)
    if found is None and reference.revision == LATEST:
        raise UsageError(
            f"{target}: no release of {reference.repo} is in {file}; saereg registry add it, or name a tag"
        )
    return found


def _require_there(target: str, reference: Reference, catalog: Path | None) -> None:
    """Refuse a folder that is not there, and say what may have been meant: the catalogue did not know the name."""
    from saereg.registry.catalog.showing import unknown
    from saereg.registry.catalog.store import catalog_path

    folder = reference.folder
    if folder is None or (is_there(folder) and (reference.artifact is not None or folder.is_dir())):
        return
    if reference.artifact is None:
        raise UsageError(f"{folder} is not a folder or file")
    raise NothingToValidateError(unknown(target, reference, catalog or catalog_path()))


def _says_it(folder: Path, artifact: str | None) -> bool:
    """Whether there is a folder that no catalogue needs to be asked for: its own, or one with a release of saereg."""
    if artifact is None or not is_there(folder):
        return is_there(folder)
    try:
        return is_of_ours((folder / MANIFEST_FILE).read_bytes())
    except OSError:
        return False


def _is_of_release(error: Exception) -> bool:
    """Whether a document that cannot be read is that of a release: any program may have a manifest.json."""
    return isinstance(error, DocumentError) and (Path(error.path).parent / INDEX_FILE).is_file()


def validate(
    target: str | Path,
    level: Level | None = None,
    *,
    checkpoints: Path | None = None,
    models: Mapping[str, str] = MappingProxyType({}),
    settings: Settings | None = None,
) -> Report:
    """Validate a release folder, or `hf://org/repo[@revision]`; see `saereg.registry.validators.runner.validate`.

    On the Hub, documents are fetched and of weight files the headers; levels `weights` and `data` need a folder.
    Configuration files are the command line's: `read_settings` of `saereg.registry.validators.configuration` reads one.
    """
    place = open_place(target) if isinstance(target, str) and target.startswith("hf://") else Path(target)
    return runner.validate(place, level, options=Options(checkpoints=checkpoints, models=models), settings=settings)


def publish(
    source: str | Path,
    target: str,
    *,
    level: Level | None = None,
    wishes: Wishes = Wishes(),  # noqa: B008 - a frozen value
    settings: Settings | None = None,
) -> Receipt:
    """Validate a release folder, plan, publish and verify.

    Args:
        source: release folder.
        target: where to: `dir:/srv/releases/x`, or `hf://org/repo[@branch]`.
        level: depth of the validation before. Default: weights, or what the policy needs.
        wishes: tag, pull request, what may be removed, and so on.
        settings: profile, policy, ignores and so on of the validation.

    Raises:
        InvalidReleaseError: when the validation finds errors, or the policy needs a deeper one.
        UsageError: when the target is no place for this release.
        PublishError: when the target does not hold afterwards what was sent.
    """
    publisher = publisher_of(target, wishes)
    level = level or level_needed(settings.policy if settings else None, "weights")
    plan = publisher.plan(Path(source), validate(source, level, settings=settings))
    return publisher.apply(Path(source), plan)


def verify(target: str, *, sample: int = 0, seed: int = 0) -> Report:
    """Compare `hf://org/repo[@revision]` with its own index at one commit; no weights are downloaded.

    Args:
        target: release on the Hub.
        sample: artifacts that are downloaded too, and whose golden vectors are replayed.
        seed: which ones.

    Raises:
        UsageError: when the target names no whole release on the Hub.
        PublishError: when the Hub cannot be asked.
        NothingToValidateError: when it holds no release, or one without an index.
        MissingExtraError: to sample, without the `torch` extra.
    """
    reference = hub_reference(target)
    if reference.repo is None or reference.artifact is not None:
        raise UsageError(f"{target}: a release is verified as a whole")
    return verify_remote(open_remote(reference.repo, reference.revision), Sampling(sample, seed)).report
