"""Check a signature against digests that are known: those of a folder, of a target, or of a repository on the Hub."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from saereg.errors import InvalidReleaseError, SignatureError, UsageError
from saereg.publishers.signing.keys import require_public_key
from saereg.publishers.signing.library import KnownDigests, require_library, verified
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.signature import AGAIN, Coverage, Signed, coverage, read_signature


@dataclass(frozen=True)
class SignatureCheck(Coverage):
    """A signature that holds, and the digests it lists against those that are there.

    Attributes:
        key: sha256 of the public key as PEM, which names it.
    """

    key: str = ""


def check_signature(bundle: bytes, public_key: Path, digests: Mapping[str, str]) -> SignatureCheck:
    """Verify a signature, and compare what it lists with known digests; no signed file is needed.

    Args:
        bundle: the bytes of model.sig.
        public_key: PEM file of the signer's public key.
        digests: path → sha256 of the files that are there, for example the LFS object ids of a repository and the
            digests of the small files. Those that are never signed may be among them.

    Returns:
        What the signature covers; only `complete` says that nothing differs.

    Raises:
        SignatureError: when the bundle is none, or was not made with the private key of this public key.
        UsageError: when an argument is of another type, or the file of the public key is not that.
        MissingExtraError: without the extra `sign`.
    """
    given: tuple[object, ...] = (bundle, public_key, digests)
    if not all(map(isinstance, given, (bytes, Path, Mapping))):
        wanted = "the bytes of model.sig, the Path of a public key and a mapping of paths to digests"
        raise UsageError(f"check_signature takes {wanted}, not ({', '.join(type(one).__name__ for one in given)})")
    require_library("checking a signature")
    require_public_key(public_key)
    listed = read_signature(bundle)
    if not listed.by_key:
        how = "`model_signing verify sigstore` checks that"
        raise SignatureError(f"{SIGNATURE_FILE} was made with a certificate, not with a key; {how}")
    known = KnownDigests("release", digests)
    equal = verified(bundle, public_key, known)
    found = coverage(listed.digests, digests)
    if sorted(known.asked or ()) != sorted(listed.digests) or equal == bool(found.different or found.missing):
        raise SignatureError(f"{SIGNATURE_FILE} can be read in two ways; {AGAIN}")
    return SignatureCheck(**asdict(found), key=_fingerprint(public_key))


def require_signature(root: Path, digests: Mapping[str, str], public_key: Path | None = None) -> str:
    """Refuse a release that is not signed, or whose signature is of other files; else return a line about whose it is.

    Args:
        root: release folder.
        digests: path → sha256 of every file that is published.
        public_key: PEM file of the signer's public key. Without it nothing is proven about who signed, nor that
            anybody did: only that the signature lists exactly these files. A bundle names its key by a digest, from
            which the key is not to be had.

    Raises:
        InvalidReleaseError: when there is no signature, it is not of this key, or it is of other files.
        UsageError: when the file of the public key is not that.
        MissingExtraError: with a public key, without the extra `sign`.
    """
    path = root / SIGNATURE_FILE
    if not path.is_file():
        raise InvalidReleaseError(f"{path} is missing, and a signature is required. Run: saereg sign {root} --key FILE")
    try:
        bundle = path.read_bytes()
        if public_key is None:
            listed = read_signature(bundle, path)
            found, whose = coverage(listed.digests, digests), _claimed(listed)
        else:
            found = proven = check_signature(bundle, public_key, digests)
            whose = f"by the key {proven.key}"
    except SignatureError as error:
        raise InvalidReleaseError(f"{root}: {error}; nothing was published") from None
    if not found.complete:
        raise InvalidReleaseError(f"{path} is stale: {found.sentence}. Run: saereg sign {root} --key FILE")
    return f"signed: {len(found.covered)} files, {whose}"


def _claimed(listed: Signed) -> str:
    """Return whose a signature says that it is."""
    if not listed.by_key:
        return "by a certificate, which `model_signing verify sigstore` checks"
    name = f"the key {listed.key}" if listed.key else "a key that it does not name"
    return f"by {name}, as it says itself; only --public-key proves it"


def _fingerprint(public_key: Path) -> str:
    """Return the name that the bundle gives to a key: the digest of its PEM text."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_public_key(public_key.read_bytes())
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256_text(pem.decode("ascii"))
