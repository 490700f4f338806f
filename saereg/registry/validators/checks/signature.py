"""SR017: a signature lists the files of the release; whose it is, needs a key and is said by `saereg verify`."""

from collections.abc import Iterator

from saereg.errors import SignatureError
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.signature import coverage, read_signature
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.report import Finding


def signature_current(release: ReleaseSubject) -> Iterator[Finding]:
    """SR017: model.sig, where there is one, lists the manifest, the index and its files as they are."""
    bundle, problems = release.read_text(SIGNATURE_FILE)
    if problems:
        yield finding("SR017", f"{SIGNATURE_FILE} is no signature: {problems[0].sentence}", path=SIGNATURE_FILE)
    if bundle is None or release.index is None:
        return
    try:
        signed = read_signature(bundle.encode("utf-8")).digests
    except SignatureError as error:
        yield finding("SR017", str(error), path=SIGNATURE_FILE)
        return
    texts = {MANIFEST_FILE: release.manifest_text, INDEX_FILE: release.index_text}
    digests = {file.path: file.sha256 for file in release.index.all_files()}
    found = coverage(signed, digests | {name: sha256_text(text) for name, text in texts.items()})
    if not found.complete:
        yield finding("SR017", f"the signature is stale: {found.sentence}", path=SIGNATURE_FILE)
