"""Sign a release: the digests of its files, as the index has them and as they are, into model.sig."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import DocumentError, InvalidReleaseError, SignatureError, UsageError
from saereg.publishers.signing.check import check_signature
from saereg.publishers.signing.keys import Key, private_key
from saereg.publishers.signing.library import KnownDigests, require_library, signed
from saereg.registry.files.atomic import write_bytes_atomically
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.digest_cache import Digests
from saereg.registry.files.folder import IGNORED_FILES, IGNORED_FOLDERS
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.signature import SITE_FOLDERS, is_signed
from saereg.schemas import jsontext
from saereg.schemas.index import Index, IndexFile
from saereg.schemas.manifest import Manifest


@dataclass(frozen=True)
class SignedRelease:
    """What was signed.

    Attributes:
        path: the signature.
        files: how many files it lists.
        bytes: how large they are together.
        key: sha256 of the public key as PEM, which names it.
        changed: whether it was written; a signature of this key over exactly these files is left as it is.
    """

    path: Path
    files: int
    bytes: int
    key: str
    changed: bool


def sign_release(root: Path, key_path: Path, password: bytes | None = None, jobs: int | None = None) -> SignedRelease:
    """Sign manifest, index, and every file of the index that `is_signed` names, and write model.sig.

    Files that have not changed since they were last hashed on this machine are not read again.

    Args:
        root: release folder that was built.
        key_path: PEM file of a private key of P-256, P-384 or P-521.
        password: what opens the key, when it is protected.
        jobs: threads that hash. Default: up to 8.

    Raises:
        UsageError: when there is no index, or the key cannot be used.
        DocumentError: when manifest or index do not fit.
        InvalidReleaseError: when a file is not the one that was indexed: the signature would be of something unknown.
        OSError: when a file cannot be read, or the signature not be written.
        MissingExtraError: without the extra `sign`.
    """
    require_library("signing")
    key = private_key(key_path, password)
    manifest, index, index_sha256 = _documents(root)
    files = {file.path: file for file in index.all_files() if is_signed(file.path)}
    digests = _digests(root, files, jobs or min(8, os.cpu_count() or 1)) | {INDEX_FILE: index_sha256}
    if digests[MANIFEST_FILE] != index.manifest_sha256:
        raise InvalidReleaseError(f"{root / INDEX_FILE} is of another {MANIFEST_FILE}. Run: saereg build {root}")
    path = root / SIGNATURE_FILE
    if changed := not _is_current(path, key, digests):
        known = KnownDigests(manifest.release.name, digests, _left_out(index))
        write_bytes_atomically(path, signed(known, key))
    total = sum(file.size for file in files.values())
    total += sum((root / name).stat().st_size for name in (MANIFEST_FILE, INDEX_FILE))
    return SignedRelease(path, len(digests), total, sha256_text(key.public.decode("ascii")), changed)


def _documents(root: Path) -> tuple[Manifest, Index, str]:
    """Return manifest, index, and the sha256 of the index: of the bytes that were read, and that name the files."""
    for name, made in ((MANIFEST_FILE, "no release"), (INDEX_FILE, f"not built yet. Run: saereg build {root}")):
        if not (root / name).is_file():
            raise UsageError(f"{root} holds no {name}: {made}")
    path = root / INDEX_FILE
    try:
        text = jsontext.decode(path.read_bytes())
    except jsontext.JsonError as problem:
        raise DocumentError(path, "", problem.problem) from None
    return Manifest.read(root / MANIFEST_FILE), Index.from_text(text, path), sha256_text(text)


def _digests(root: Path, files: Mapping[str, IndexFile], jobs: int) -> dict[str, str]:
    """Return path → sha256 of the files as they are, which must be as the index has them."""
    absent = [path for path in files if not (root / path).is_file()]
    if absent:
        raise InvalidReleaseError(f"{root / absent[0]} is in the index but not in the release; nothing was signed")
    with Digests(root) as known:
        known.ahead(files, jobs)
        found = {path: known.sha256(path) for path in files} | {MANIFEST_FILE: known.sha256(MANIFEST_FILE)}
    altered = [path for path, file in files.items() if found[path] != file.sha256]
    if altered:
        more = f" and {len(altered) - 1} more" if len(altered) > 1 else ""
        problem = f"{root / altered[0]}{more} changed since the index was built; nothing was signed"
        raise InvalidReleaseError(f"{problem}. Run: saereg build {root}")
    return found


def _left_out(index: Index) -> set[str]:
    """Return the paths that the signature says it leaves out, so that the library's own check passes them by."""
    cards = {file.path for file in index.all_files() if not is_signed(file.path)}
    return cards | {SIGNATURE_FILE} | IGNORED_FOLDERS | IGNORED_FILES | SITE_FOLDERS


def _is_current(path: Path, key: Key, digests: Mapping[str, str]) -> bool:
    """Whether there is a signature of this key over exactly these files."""
    if not path.is_file():
        return False
    with tempfile.TemporaryDirectory() as folder:
        public = Path(folder) / "public.pem"
        public.write_bytes(key.public)
        try:
            found = check_signature(path.read_bytes(), public, digests)
        except SignatureError:
            return False
    return found.complete
