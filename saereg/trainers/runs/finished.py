"""What runs leave behind in the release: whether it all stands there, and whether a run can go on beside it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DocumentError, UsageError
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.digest import sha256_of
from saereg.registry.release import MANIFEST_FILE
from saereg.schemas.manifest import Artifact, Manifest
from saereg.trainers.runs import checkpoints
from saereg.trainers.runs.configs import Config, check_apart, identifier, identifiers, snapshot_labels
from saereg.trainers.runs.disk import check_writable, remove_leftovers

if TYPE_CHECKING:
    from saereg.trainers.runs.state import Tree

STATES = "state"
"""Folder of the checkpoints that a run goes on from, beside the one that it ends with."""

FINISHED = "finished.json"
"""File in the folder of a run's checkpoints that says what it ended with."""


@dataclass(frozen=True)
class Ending:
    """What runs that are trained together end with.

    Attributes:
        configs: the runs.
        identity: what a checkpoint must agree with for them to go on from it.
        release: release folder.
        files: paths of all their files in it.
    """

    configs: Sequence[Config]
    identity: "Tree"
    release: Path
    files: Sequence[str]

    def write(self, folder: Path) -> None:
        """Note their configuration, and the digest of every file of theirs, in the folder of their checkpoints."""
        write_text_atomically(folder / FINISHED, json.dumps(self._content(), indent=1) + "\n")

    def stands(self, folder: Path) -> bool:
        """Whether these very runs ended before, and every file and entry of theirs stands in the release as it was."""
        try:
            noted = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
            wanted = set(identifiers(self.configs))
            return wanted <= entries(self.release).keys() and noted == self._content()
        except (OSError, ValueError, RecursionError, DocumentError):
            return False

    def check(self, folder: Path) -> None:
        """Refuse to train one of these runs over what it became with other settings, as long as that stands.

        Of runs that were trained together only those are compared that are trained now; others may have joined them.

        Raises:
            UsageError: with the first setting that differs.
        """
        try:
            noted = json.loads((folder / FINISHED).read_text(encoding="utf-8"))
            before, files = dict(noted["runs"]["identity"]), dict(noted["files"])
            wanted = json.loads(json.dumps(self.identity))  # as it comes back from a file
            own = [config.artifact.id for config in self.configs if config.artifact.id in before]
            shared = wanted.keys() - {config.artifact.id for config in self.configs}
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return
        for one in own:
            if not any(str(path).startswith(f"{one}/") and (self.release / path).is_file() for path in files):
                continue
            there, here = ({key: found[key] for key in (one, *shared) if key in found} for found in (before, wanted))
            if differing := checkpoints.difference(there, here):
                place = self.release / one
                raise UsageError(
                    f"{place} is of another run: {differing}; give another id, or remove {place} to train it anew"
                )

    def _content(self) -> object:
        named = {config.artifact.id: config.artifact.model_dump(mode="json") for config in self.configs}
        digests = {path: sha256_of(self.release / path) for path in sorted(set(self.files))}
        content = {"runs": {"identity": self.identity, "artifacts": named}, "files": digests}
        return json.loads(json.dumps(content))  # as it comes back from a file


def entries(release: Path) -> Mapping[str, Artifact]:
    """Return id → entry of every artifact in the manifest; none where there is no manifest yet.

    Raises:
        DocumentError: when it cannot be read.
    """
    path = release / MANIFEST_FILE
    return {artifact.id: artifact for artifact in Manifest.read(path).artifacts} if path.exists() else {}


def check_free(configs: Sequence[Config], release: Path) -> None:
    """Refuse ids whose folders would be those of runs that stand in the release, or lie in or around one.

    Raises:
        UsageError: with the first one, and what is in its way.
        DocumentError: when the manifest cannot be read.
    """
    standing = {name for artifact in entries(release).values() for name in _names(artifact)}
    check_apart([config.artifact.id for config in configs], standing)


def _names(artifact: Artifact) -> Iterator[str]:
    """Yield what the run of an artifact is called, and its folder; both are one where a trainer wrote it."""
    for name in dict.fromkeys((artifact.id, artifact.path)):
        yield name.removesuffix(f"/{artifact.snapshot}") if artifact.snapshot else name


def check_resumable(configs: Sequence[Config], release: Path, states: Path) -> None:
    """Refuse to go on behind snapshots that the release does not hold: they would be missing at the end.

    Args:
        configs: the runs.
        release: release folder.
        states: folder of their checkpoints.

    Raises:
        UsageError: when one is missing.
    """
    found = checkpoints.steps(states)
    if not found:
        return
    last, path = found[-1]
    known = entries(release)
    for config in configs:
        for step, label in snapshot_labels(config).items():
            if step <= last and identifier(config, label) not in known:
                raise UsageError(
                    f"{path} is behind the snapshot {identifier(config, label)}, which {release} does not hold; "
                    f"give the release that it went to, or remove {states} to begin anew"
                )


def check_places(configs: Sequence[Config], release: Path) -> None:
    """Find out now that the release cannot be written, and take away what a killed run was writing there.

    Raises:
        OSError: when it cannot be.
    """
    folders = [release / one for one in identifiers(configs)]
    for folder in folders:
        check_writable(folder)
    for folder in (release, release / "evaluation", *folders):
        remove_leftovers(folder)
