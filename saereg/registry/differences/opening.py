"""What a user names: two releases, or an artifact of each."""

from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.differences.compare import artifact_difference, difference
from saereg.registry.differences.numbers import Tolerances
from saereg.registry.refs import parse_reference
from saereg.registry.release import MANIFEST_FILE, Release, ReleaseArtifact, open_artifact, open_release
from saereg.schemas.difference import Difference


def compared_targets(old: str, new: str, tolerances: Tolerances) -> Difference:
    """Return what changed between what two references name; only documents are read.

    Args:
        old: a folder, hf://org/repo[@revision] or org/repo@revision, with `:artifact` behind it for one artifact.
        new: the same; `@revision` alone is another revision of the old one.
        tolerances: how far a number may move and count as the same.

    Raises:
        UsageError: when one names a release and the other an artifact, or a reference cannot be read.
        UnknownNameError: when a release has no artifact of that id.
        NothingToValidateError: when there is no manifest.json.
        DocumentError: when a document does not parse or fit.
        PublishError: when the Hub does not answer.
    """
    names = old, _revision_of(old, new) if new.startswith("@") else new
    before, now = _opened(names[0]), _opened(names[1])
    if isinstance(before, Release) and isinstance(now, Release):
        return difference(before, now, tolerances, names)
    if isinstance(before, ReleaseArtifact) and isinstance(now, ReleaseArtifact):
        return artifact_difference(before, now, tolerances, names)
    whole, part = (names[0], now) if isinstance(before, Release) else (names[1], before)
    which = part.id if isinstance(part, ReleaseArtifact) else ""
    raise UsageError(f"{whole} is a release and {which} an artifact; name two of a kind, e.g. {whole}:{which}")


def _revision_of(first: str, revision: str) -> str:
    reference = parse_reference(first)
    if reference.repo is None:
        raise UsageError(f"{revision}: {first} is a folder and has no revisions; name a second folder")
    named = revision.partition(":")[0]
    artifact = revision.partition(":")[2] or reference.artifact
    return f"hf://{reference.repo}{named}" + (f":{artifact}" if artifact else "")


def _opened(name: str) -> Release | ReleaseArtifact:
    reference = parse_reference(name)
    inside = reference.folder is not None and not (reference.folder / MANIFEST_FILE).is_file()
    if reference.artifact is not None or (inside and _stands_in_a_release(reference.folder or Path())):
        return open_artifact(name)
    return open_release(name)


def _stands_in_a_release(folder: Path) -> bool:
    return folder.is_dir() and any((parent / MANIFEST_FILE).is_file() for parent in folder.absolute().parents)
