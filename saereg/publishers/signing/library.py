"""The only contact with `model-signing`: it signs and verifies, and is told the digests instead of hashing files.

Its `hashing.Config` may be replaced (`set_hashing_config`); ours answers with digests that were computed before, so a
release of hundreds of gigabytes is not read again, and one on the Hub is not even downloaded. What is used of
`model_signing.manifest`, and the class of a digest, is not of its stable interface; tests hold them.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from saereg.errors import MissingExtraError, SignatureError
from saereg.publishers.signing.keys import Key

if TYPE_CHECKING:
    from model_signing.manifest import Manifest


def require_library(what: str) -> None:
    """Import the library, which takes most of a second.

    Raises:
        MissingExtraError: when it, or something that it needs, is not installed.
    """
    try:
        import model_signing  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(what, "sign", (error.name or "model_signing").partition(".")[0]) from None


@dataclass
class KnownDigests:
    """Stands where the library expects its `hashing.Config`, and hashes nothing.

    Attributes:
        name: name of the release, for the record; nothing is compared with it.
        digests: path → sha256.
        ignored: paths that the signature says it leaves out.
        asked: paths that the library asked for, once it had verified a signature; else None.
    """

    name: str
    digests: Mapping[str, str]
    ignored: Iterable[str] = ()
    asked: tuple[str, ...] | None = field(default=None, init=False)

    def hash(self, model_path: Path, *, files_to_hash: Iterable[Path] | None = None) -> "Manifest":
        """Return the digests of the files that the library asks for, or of all."""
        from model_signing import manifest
        from model_signing._hashing.hashing import Digest

        if files_to_hash is not None:
            self.asked = tuple(PurePosixPath(path.relative_to(model_path)).as_posix() for path in files_to_hash)
        wanted = self.digests if self.asked is None else [path for path in self.asked if path in self.digests]
        items = [
            manifest.FileManifestItem(
                path=PurePosixPath(path), digest=Digest("sha256", bytes.fromhex(self.digests[path]))
            )
            for path in wanted
        ]
        how = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": sorted(self.ignored)}
        return manifest.Manifest(self.name, items, manifest.SerializationType.from_args(how))

    def add_ignored_paths(self, *, model_path: Path, paths: Iterable[str]) -> None:
        """Do nothing: the library asks for the files that it wants."""


def signed(known: KnownDigests, key: Key) -> bytes:
    """Return a Sigstore bundle over known digests.

    Raises:
        MissingExtraError: without the extra `sign`.
    """
    require_library("signing")
    from model_signing.signing import Config

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        # The library hands the password on as it comes; what opens the key takes bytes, whatever its annotation says.
        config = Config().use_elliptic_key_signer(private_key=key.path, password=key.password)
        config.set_hashing_config(known).sign(Path(folder), path)
        return path.read_bytes()


def verified(bundle: bytes, public_key: Path, known: KnownDigests) -> bool:
    """Verify a signature with a public key, and say whether every signed file has its signed digest.

    Args:
        bundle: the Sigstore bundle.
        public_key: PEM file.
        known: the digests of what is there; afterwards `asked` has the signed paths.

    Raises:
        SignatureError: when the signature does not hold.
        MissingExtraError: without the extra `sign`.
    """
    require_library("checking a signature")
    from cryptography.exceptions import InvalidSignature
    from model_signing.verifying import Config

    config = Config().use_elliptic_key_verifier(public_key=public_key)
    config.set_hashing_config(known).set_ignore_unsigned_files(True)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it prints its warnings
        path = Path(folder) / "bundle"
        path.write_bytes(bundle)
        try:
            config.verify(Path(folder), path)
        except InvalidSignature:
            raise SignatureError("the signature does not belong to what it lists: it was altered") from None
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            if known.asked is not None:  # the signature holds; it is the digests that differ
                return False
            raise SignatureError(_reason(error, public_key)) from None
    return True


def _reason(error: Exception, public_key: Path) -> str:
    """Return a sentence for what the library met before it had verified anything."""
    if str(error).startswith("Key mismatch"):
        return f"the signature was made with another key than that of {public_key}"
    first = next(iter(str(error).strip().splitlines()), "")
    return f"the signature cannot be verified: {first or type(error).__name__}"
