"""What a plan says of the release on this machine, looked at once more before anything is sent."""

from pathlib import Path

from saereg.errors import PublishError
from saereg.publishers.plan import local_state
from saereg.registry.files.digest import release_digest
from saereg.registry.files.digest_cache import Digests
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.schemas.plan import Plan


def require_planned(root: Path, plan: Plan, digests: Digests) -> None:
    """Refuse a release of which the documents are no longer those that were planned, and so validated.

    Raises:
        PublishError: naming the document. Other files are looked at when they are sent.
    """
    planned = {one.path: (one.size, one.sha256) for one in plan.release_files}
    for name in (MANIFEST_FILE, INDEX_FILE):
        try:
            found = digests.sha256(name)
        except FileNotFoundError:
            raise PublishError(f"{root} holds no {name}: the plan is for another release") from None
        if name not in planned or found != planned[name][1]:
            raise PublishError(f"{root / name} is not the one that was planned; plan again")
    manifest, index = ((root / name).read_bytes().decode("utf-8") for name in (MANIFEST_FILE, INDEX_FILE))
    if release_digest(manifest, index) != plan.release_digest or planned != local_state(root, digests.sha256):
        raise PublishError(f"the plan does not fit {root}: it was altered; plan again")
