"""What a signature lists: the digest of each signed file. Reading it proves nothing, but shows whether it is stale.

The file is a Sigstore bundle as `model-signing` writes it: a DSSE envelope around an in-toto statement, all of it JSON.
Whether the signature itself holds is for `saereg.publishers.signing` to say, with that library and a public key.

Source: https://docs.sigstore.dev/about/bundle/, https://github.com/secure-systems-lab/dsse (protocol.md), and
`model_signing/_signing/signing.py` (`Payload`) for the predicate.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from saereg.errors import SignatureError
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.folder import is_ignored
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.files.roles import role_of
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.schemas import jsontext
from saereg.schemas.index import Index
from saereg.schemas.names import path_problem

PREDICATE = "https://model_signing/signature/v1.0"
"""Type of the statement that is read."""

SITE_FOLDERS = frozenset({".eval_results"})
"""Folders that people edit on the Hub's site, after the release."""

AGAIN = "sign again with `saereg sign`"

_SHA256_DIGITS = 64
_NAMED = 3


@dataclass(frozen=True)
class Signed:
    """What a signature lists.

    Attributes:
        digests: path → sha256 of every signed file.
        by_key: whether it was made with a plain key; else with a certificate, as keyless signing does.
        key: sha256 of the public key as PEM, as the bundle itself says; empty where it does not say.
    """

    digests: Mapping[str, str]
    by_key: bool
    key: str = ""


@dataclass(frozen=True)
class Coverage:
    """Signed digests against those of the files that are there; every list is sorted.

    Attributes:
        covered: signed, and with the signed digest.
        different: signed, and with another digest.
        missing: signed, and not there.
        unsigned: there, to be signed as `is_signed` has it, and not signed.
    """

    covered: tuple[str, ...]
    different: tuple[str, ...]
    missing: tuple[str, ...]
    unsigned: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that is to be signed is, with the digest that it has."""
        return not (self.different or self.missing or self.unsigned)

    @property
    def sentence(self) -> str:
        """What is wrong, with the first files of each kind; or that nothing is."""
        parts = [
            f"{len(paths)} {words}: {', '.join(paths[:_NAMED])}{', …' if len(paths) > _NAMED else ''}"
            for words, paths in (
                ("changed", self.different),
                ("missing", self.missing),
                ("not signed", self.unsigned),
            )
            if paths
        ]
        return "; ".join(parts) or f"all {len(self.covered)} files are as they were signed"


def is_signed(path: str) -> bool:
    """Whether a file of a release belongs into its signature.

    Left out is what people edit on the Hub's site (cards, `.eval_results/`), what belongs to git, and the signature
    itself.
    """
    if path == SIGNATURE_FILE or is_ignored(path):
        return False
    return role_of(path) != "card" and SITE_FOLDERS.isdisjoint(path.split("/")[:-1])


def coverage(signed: Mapping[str, str], digests: Mapping[str, str]) -> Coverage:
    """Compare signed digests with those of the files that are there.

    Args:
        signed: path → sha256 in the signature.
        digests: path → sha256 of the files; those that need not be signed may be among them.
    """
    here = signed.keys() & digests.keys()
    same = {path for path in here if signed[path] == digests[path]}
    return Coverage(
        covered=tuple(sorted(same)),
        different=tuple(sorted(here - same)),
        missing=tuple(sorted(signed.keys() - here)),
        unsigned=tuple(sorted(path for path in digests.keys() - here if is_signed(path))),
    )


def read_signature(raw: bytes, source: object = SIGNATURE_FILE) -> Signed:
    """Read which files a signature lists, without proving anything.

    Args:
        raw: the Sigstore bundle.
        source: its name, for errors.

    Raises:
        SignatureError: when it is no such bundle, or lists something else than the sha256 of whole files.
    """
    try:
        bundle = _Fields(jsontext.parse(jsontext.decode(raw)))
        material, envelope = bundle.fields("verificationMaterial"), bundle.fields("dsseEnvelope")
        statement = _Fields(jsontext.parse(jsontext.decode(_decoded(envelope.text("payload")))))
        kind = statement.text("predicateType")
        if kind != PREDICATE:
            raise _OtherError(f"its statement is of type {kind!r}, not {PREDICATE!r}")
        _require_sealed(envelope)
        by_key = "publicKey" in material.value
        key = material.fields("publicKey").value.get("hint") if by_key else None
        named = key if isinstance(key, str) and _is_sha256(key) else ""
        return Signed(_digests(statement.fields("predicate")), by_key, named)
    except jsontext.JsonError as error:
        raise SignatureError(f"{source}: no Sigstore bundle: {error.problem}; {AGAIN}") from None
    except _OtherError as error:
        raise SignatureError(f"{source}: no signature of a release: {error}; {AGAIN}") from None


def staleness(root: Path, index: Index) -> str:
    """Return why model.sig of a release folder does not fit it, as the index has it; empty when it does, or is absent.

    Raises:
        OSError: when the signature or one of the documents cannot be read.
    """
    path = root / SIGNATURE_FILE
    if not path.is_file():
        return ""
    try:
        listed = read_signature(path.read_bytes()).digests
    except SignatureError as error:
        return str(error)
    digests = {file.path: file.sha256 for file in index.all_files()}
    found = coverage(listed, digests | {name: sha256_of(root / name) for name in (MANIFEST_FILE, INDEX_FILE)})
    return "" if found.complete else f"{SIGNATURE_FILE} is stale: {found.sentence}; {AGAIN}"


class _OtherError(Exception):
    """The JSON is not that of a signature; the sentence says why."""


class _Fields:
    """A JSON object whose fields must be of the asked type."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise _OtherError("a JSON object is expected where something else stands")
        self.value = value

    def fields(self, name: str) -> "_Fields":
        if not isinstance(found := self.value.get(name), dict):
            raise _OtherError(f"it has no `{name}`")
        return _Fields(found)

    def text(self, name: str) -> str:
        if not isinstance(found := self.value.get(name), str):
            raise _OtherError(f"it has no `{name}`")
        return found

    def entries(self, name: str) -> list[object]:
        if not isinstance(found := self.value.get(name), list):
            raise _OtherError(f"it has no `{name}`")
        return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _OtherError("what it holds is not base64") from None


def _require_sealed(envelope: _Fields) -> None:
    """Refuse an envelope that nobody signed; whether what stands there is a signature, only the key tells."""
    seals = [_Fields(entry).text("sig") for entry in envelope.entries("signatures")]
    if len(seals) != 1 or not _decoded(seals[0]):
        raise _OtherError(f"it has {len(seals)} signatures where one is expected" if seals[1:] else "nobody signed it")


def _is_sha256(text: str) -> bool:
    return len(text) == _SHA256_DIGITS and set(text) <= set("0123456789abcdef")


def _shown(text: str) -> str:
    """Return a word of the file as it can stand in one line."""
    return text[:80] if text[:80].isprintable() else repr(text[:80])


def _digests(predicate: _Fields) -> dict[str, str]:
    method = predicate.fields("serialization").text("method")
    if method != "files":
        raise _OtherError(f"it lists {_shown(method)}, not whole files")
    found: dict[str, str] = {}
    for entry in map(_Fields, predicate.entries("resources")):
        name, algorithm, digest = (entry.text(key) for key in ("name", "algorithm", "digest"))
        if algorithm != "sha256":
            what = f"digests of {_shown(algorithm)}"
            raise _OtherError(f"it lists {what}, which cannot be compared with the sha256 of the index")
        if not _is_sha256(digest):
            raise _OtherError(f"the digest of {name!r} is no sha256")
        if problem := path_problem(name):
            raise _OtherError(f"the path {name!r} cannot be in a release: {problem}")
        if name in found:
            raise _OtherError(f"it lists {name!r} twice")
        found[name] = digest
    return found
