"""From a reference to a dictionary in memory: releases of saereg by their index, others by what the Hub lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import NothingToValidateError, UnknownNameError, UsageError, WeightsError
from saereg.registry import hub
from saereg.registry.catalog.references import Located
from saereg.registry.files.digest import sha256_of
from saereg.registry.release import open_artifact

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary
    from saereg.registry.readings.given import Value
    from saereg.registry.remote import HubPlace

INDEX, LISTED, NOTHING = "index.json of its release", "what the Hub lists at its commit", "nothing: it has no index"


@dataclass(frozen=True)
class Loaded:
    """A dictionary, and what is known of where it comes from.

    Attributes:
        dictionary: it as something one can call.
        reference: its reference, by a commit where it is on the Hub.
        path: its folder or file on this machine.
        compared: what its bytes were compared with: one of `INDEX`, `LISTED`, `NOTHING`.
    """

    dictionary: "Dictionary"
    reference: str
    path: Path
    compared: str


def load_artifact(target: str, device: str) -> Loaded:
    """Load an artifact of a release of saereg. Raises what `open_artifact` and `ReleaseArtifact.load` raise."""
    artifact = open_artifact(target).local()
    release = artifact.release
    dictionary = artifact.load(device)
    commit = release.path.name if release.repo else None
    reference = f"{release.repo}@{commit}:{artifact.id}" if release.repo else f"{release.path}:{artifact.id}"
    return Loaded(dictionary, reference, artifact.folder, INDEX if artifact.evidence else NOTHING)


def load_located(located: Located, device: str, given: Mapping[str, "Value"] | None = None) -> Loaded:
    """Load what a catalogue located: a release of saereg by its index, anything else by its path.

    Raises:
        SaeregError: whatever `load_artifact` and `load_from_repository` raise.
    """
    if located.standing != "foreign":
        return load_artifact(located.reference, device)
    if located.repo is not None:
        return load_from_repository(located.repo, located.revision, located.path, device, given)
    if located.folder is None:
        raise UsageError(f"{located.release}:{located.id}: the catalogue does not know where its weights are")
    return load_path(Path(located.folder) / located.path, located.reference, NOTHING, device, given)


def load_from_repository(
    repo: str, revision: str | None, path: str, device: str, given: Mapping[str, "Value"] | None = None
) -> Loaded:
    """Load a file or folder of any repository on the Hub, in any layout; its files are compared with what is listed.

    Args:
        repo: the repository.
        revision: branch, tag or commit; it is resolved once, and everything is read at that commit.
        path: weight file, or folder of one dictionary, in the repository.
        device: torch device.
        given: what the files do not say.

    Raises:
        UnknownNameError: when the repository holds nothing there.
        WeightsError: when a file is not what the Hub lists.
        PublishError: when the repository, revision or network is not there.
        SaeregError: whatever `load_path` raises.
    """
    if hub.is_offline():
        snapshot = hub.fetch_path(repo, revision or "main", path)
        commit, compared = snapshot.name, NOTHING
    else:
        from saereg.registry.remote import open_repository

        place = open_repository(repo, revision)
        _require(place, path)
        snapshot, commit, compared = hub.fetch_path(repo, place.revision, path), place.revision, LISTED
        _compare(place, snapshot, path)
    return load_path(snapshot / path, f"{repo}@{commit}:{path}", compared, device, given)


def load_path(
    path: Path, reference: str, compared: str, device: str, given: Mapping[str, "Value"] | None = None
) -> Loaded:
    """Load a file or folder of this machine. Raises what `saereg.registry.loading.load_path` raises."""
    from saereg.registry.loading import load_path as load

    return Loaded(load(path, device=device, given=given), reference, path, compared)


def _require(place: "HubPlace", path: str) -> None:
    """Refuse a path that the repository does not hold, and name one that may have been meant."""
    paths = {entry.path for entry in place.entries() if entry.kind == "file"}
    if path in paths or any(name.startswith(f"{path}/") for name in paths):
        return
    if not paths:
        raise NothingToValidateError(f"{hub.name_of(place.name, place.revision)} holds no file")
    raise UnknownNameError(
        f"path in {hub.name_of(place.name, place.revision[:8])}",
        path,
        {name.rpartition("/")[0] for name in paths if "/" in name} | paths,
    )


def _compare(place: "HubPlace", snapshot: Path, path: str) -> None:
    for entry in place.entries():
        if entry.kind == "file" and (entry.path == path or entry.path.startswith(f"{path}/")):
            listed, file = place.listed_sha256(entry.path), snapshot / entry.path
            if listed is not None and sha256_of(file) != listed:
                raise WeightsError(file, "its sha256 is not the one that the Hub lists: the download was damaged")
