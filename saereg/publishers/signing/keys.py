"""Key files, looked at before the library opens them: what it says of a wrong one helps nobody."""

import stat
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from saereg.errors import MissingExtraError, UsageError

CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
"""Curves that the library signs with → their usual names."""

MOST_BYTES = 64 * 1024
"""Largest key file that is read; a real one has less than a thousand bytes."""

MAKE = "openssl ecparam -genkey -name prime256v1 -noout -out priv.pem"
TAKE_PUBLIC = "openssl ec -in priv.pem -pubout -out pub.pem"


@dataclass(frozen=True)
class Key:
    """A private key that can be used.

    Attributes:
        path: its file.
        public: the public key that belongs to it, as PEM.
        password: what opens it, if anything must.
    """

    path: Path
    public: bytes
    password: bytes | None = field(default=None, repr=False)


def private_key(path: Path, password: bytes | None = None) -> Key:
    """Look at the file of a private key.

    Args:
        path: PEM file.
        password: what opens it; None when it is not protected.

    Raises:
        UsageError: when it is no private key of a kind that can sign, or the password is missing or wrong.
        MissingExtraError: without the extra `sign`.
    """
    raw = _read(path)
    if b"PRIVATE KEY-----" not in raw:
        found = "a public key" if b"PUBLIC KEY-----" in raw else _what(raw)
        raise UsageError(f"{path} is {found}; sign with the private one. To make one: {MAKE}")
    serialization = _serialization("signing")
    try:
        key = serialization.load_pem_private_key(raw, password)
    except TypeError:
        if password is None:
            problem = "is protected by a password; give --password-env NAME, a variable that holds it"
        else:
            problem = "is not protected by a password; leave out --password-env"
        raise UsageError(f"{path} {problem}") from None
    except ValueError:
        opened = password is None or b"ENCRYPTED" not in raw
        problem = "cannot be read as a private key" if opened else "is not opened by this password"
        raise UsageError(f"{path} {problem}") from None
    except _unsupported() as error:
        raise UsageError(f"{path} cannot be used: {error}") from None
    _require_curve(path, key)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Key(path, public, password)


def require_public_key(path: Path) -> None:
    """Look at the file of a public key.

    Raises:
        UsageError: when it is no public key of a kind that can verify.
        MissingExtraError: without the extra `sign`.
    """
    raw = _read(path)
    if b"PRIVATE KEY-----" in raw:
        raise UsageError(f"{path} is a private key; give the public one: {TAKE_PUBLIC}")
    if b"PUBLIC KEY-----" not in raw:
        raise UsageError(f"{path} is {_what(raw)}; give the public key as a PEM file: {TAKE_PUBLIC}")
    try:
        key = _serialization("checking a signature").load_pem_public_key(raw)
    except (ValueError, TypeError, _unsupported()):
        raise UsageError(
            f"{path} cannot be read as a public key: it is damaged, or of a kind that is unknown"
        ) from None
    _require_curve(path, key)


def _read(path: Path) -> bytes:
    """Return the bytes of a key file; it is read again by the library, so a pipe would not do."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} is no regular file; save the key as a PEM file")
        if status.st_size > MOST_BYTES:
            raise UsageError(f"{path} has {status.st_size} bytes, too many for a key in PEM")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected a key as a PEM file") from None


def _what(raw: bytes) -> str:
    for words, found in (
        (b"CERTIFICATE-----", "a certificate"),
        (b"ssh-", "a key of OpenSSH"),
        (b"ecdsa-sha2-", "a key of OpenSSH"),
    ):
        if words in raw[:4096]:
            return found
    return "no key in PEM"


def _serialization(what: str) -> ModuleType:
    """Return the module that opens keys; nothing else of it is used here."""
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        raise MissingExtraError(what, "sign", "cryptography") from None
    return serialization


def _unsupported() -> type[Exception]:
    """Return the class of what is said of keys and ciphers that cannot be read."""
    from cryptography.exceptions import UnsupportedAlgorithm

    return UnsupportedAlgorithm


def _require_curve(path: Path, key: object) -> None:
    """Refuse a key that is not of an elliptic curve which the library knows."""
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve in CURVES:
        return
    kind = f"of the curve {curve}" if curve else f"an {_kind(key)} key"
    known = ", ".join(CURVES.values())
    raise UsageError(f"{path} is {kind}; signatures are made with keys of {known}. To make one: {MAKE}")


def _kind(key: object) -> str:
    """Return the algorithm of a key by the name of its class, such as RSAPublicKey."""
    return type(key).__name__.lstrip("_").removesuffix("PublicKey").removesuffix("PrivateKey")
