"""manifest.json, index.json and the cards of a release after a mark was set or taken back: they fit again."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from saereg.errors import DocumentError, UsageError
from saereg.registry import signature
from saereg.registry.cards.artifact_card import refreshed
from saereg.registry.cards.blocks import lacks_warning, replaced
from saereg.registry.cards.card import CARD_FILE, MAX_CARD_BYTES, Card
from saereg.registry.cards.skeleton import first_card
from saereg.registry.files.atomic import exclusive, replacing
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.names import ARTIFACT_CARD_FILE, SIGNATURE_FILE
from saereg.registry.files.roles import role_of
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.schemas import jsontext
from saereg.schemas.document import canonical
from saereg.schemas.index import Index, IndexFile
from saereg.schemas.manifest import Manifest

DOCUMENTS = (CARD_FILE, INDEX_FILE, MANIFEST_FILE)
"""What changes, in the order in which it is written.

The manifest is the last: before it nothing is withdrawn. A process that ends between them leaves a card, or a card and
an index, ahead of it; the same command again finishes, and `saereg build` goes back to what the manifest says.
Before them come the cards of artifacts, of which each says for itself that it was taken back.
"""


def documents_with(
    manifest: bytes,
    index: bytes,
    readme: bytes | None,
    new: Manifest,
    where: str = "the release",
    cards: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """Return path → bytes of the documents with other marks: cards of artifacts, then the three. Reads no weights.

    Args:
        manifest: bytes of manifest.json.
        index: bytes of index.json.
        readme: bytes of the card, or None where there is none: a first one is made.
        new: the manifest with the marks that are wanted; it differs in nothing else.
        where: the release, for errors.
        cards: path → bytes of cards of artifacts; one that saereg has no part in is returned as it is.

    Raises:
        DocumentError: when the manifest or the index does not parse or fit.
        UsageError: when the index was built of another manifest, or the card cannot be written into.
    """
    old_text, index_text = _decoded(manifest, MANIFEST_FILE), _decoded(index, INDEX_FILE)
    old, evidence = Manifest.from_text(old_text, MANIFEST_FILE), Index.from_text(index_text, INDEX_FILE)
    text = marked_text(old_text, new)
    digest = sha256_text(text)
    if evidence.manifest_sha256 not in (sha256_text(old_text), digest):
        built = "index.json was built of another manifest.json"
        raise UsageError(f"{where}: {built}; run saereg build first, then this again")
    told = _told(cards or {}, new)
    evidence = _with_cards(evidence, told).model_copy(update={"manifest_sha256": digest})  # which the card says
    card = _card(readme, new, evidence, old, where)
    files = {file.path: file for file in evidence.files} | {CARD_FILE: _entry(CARD_FILE, card.encode())}
    update = {"files": tuple(files[path] for path in sorted(files))}
    return {
        **told,
        CARD_FILE: card.encode(),
        INDEX_FILE: evidence.model_copy(update=update).text().encode(),
        MANIFEST_FILE: text.encode(),
    }


def artifact_cards(index: Index) -> tuple[str, ...]:
    """Return the paths of the cards of artifacts that an index lists."""
    files = (file for artifact in index.artifacts for file in artifact.files)
    return tuple(file.path for file in files if file.path.rpartition("/")[2] == ARTIFACT_CARD_FILE)


def _told(cards: Mapping[str, bytes], new: Manifest) -> dict[str, bytes]:
    """Return cards of artifacts with the warning that each should have; one that is not UTF-8 is left alone."""
    claims = {f"{claim.path}/{ARTIFACT_CARD_FILE}": claim for claim in new.artifacts}
    found = dict(cards)
    for path, content in cards.items():
        if path in claims:
            with suppress(UnicodeDecodeError):
                found[path] = refreshed(content.decode("utf-8"), claims[path], new, None).encode()
    return found


def _with_cards(index: Index, cards: Mapping[str, bytes]) -> Index:
    """Return an index with the sizes and digests of cards of artifacts."""
    if not cards:
        return index
    entries = []
    for entry in index.artifacts:
        files = tuple(_entry(file.path, cards[file.path]) if file.path in cards else file for file in entry.files)
        entries.append(entry.model_copy(update={"files": files}) if files != entry.files else entry)
    return index.model_copy(update={"artifacts": tuple(entries)})


def _entry(path: str, content: bytes) -> IndexFile:
    return IndexFile(path=path, size=len(content), sha256=sha256(content).hexdigest(), role=role_of(path))


def marked_text(text: str, new: Manifest) -> str:
    """Return the text of a manifest with the marks of another one; what has the same marks stays byte for byte."""
    if Manifest.from_text(text, MANIFEST_FILE) == new:
        return text
    raw = jsontext.parse(text)
    marks = [mark.model_dump(mode="json", exclude_none=True) for mark in new.withdrawn]
    changed = canonical({**raw, "withdrawn": marks}) if isinstance(raw, dict) else ""
    return changed if Manifest.from_text(changed, MANIFEST_FILE) == new else new.text()


@dataclass(frozen=True)
class Marked:
    """What marking a release changes.

    Attributes:
        before: the manifest as it was.
        after: the manifest with the marks that are wanted.
        documents: path → bytes of the documents that change; none where everything is so already.
        is_signed: whether there is a signature, and it does not fit the documents as they are afterwards.
        commit: commit that holds them, on the Hub.
    """

    before: Manifest
    after: Manifest
    documents: Mapping[str, bytes]
    is_signed: bool = False
    commit: str | None = None


Change = Callable[[Manifest], Manifest]
"""Sets marks, or takes them back."""


def marked(there: Mapping[str, bytes], change: Change, where: str, *, is_signed: bool = False) -> Marked:
    """Return what a change of the marks makes of the documents of a release.

    Args:
        there: path → bytes of the manifest, the index, the card if there is one, and cards of artifacts.
        change: sets marks, or takes them back.
        where: the release, for errors.
        is_signed: whether there is a signature.

    Raises:
        DocumentError: when the manifest or the index does not parse or fit.
        UsageError: when the change is refused, or the documents do not belong together.
    """
    before = Manifest.from_text(_decoded(there[MANIFEST_FILE], MANIFEST_FILE), MANIFEST_FILE)
    after = change(before)
    cards = {path: content for path, content in there.items() if path not in DOCUMENTS}
    documents = documents_with(there[MANIFEST_FILE], there[INDEX_FILE], there.get(CARD_FILE), after, where, cards)
    changed = {path: content for path, content in documents.items() if there.get(path) != content}
    return Marked(before, after, changed, is_signed and any(map(signature.is_signed, changed)))


def mark_folder(root: Path, change: Change, *, dry_run: bool = False) -> Marked:
    """Set marks in a release folder, or take them back: all documents change, or none.

    Args:
        root: release folder.
        change: sets marks, or takes them back.
        dry_run: whether nothing is written.

    Raises:
        DocumentError: when the manifest or the index does not parse or fit.
        UsageError: when the change is refused, or the documents do not belong together.
        OSError: when the folder cannot be read or written.
    """
    with exclusive(root):  # of two that come at once the second sees what the first did
        there = read_documents(root)
        there |= _read_cards(root, there[INDEX_FILE])
        done = marked(there, change, str(root), is_signed=(root / SIGNATURE_FILE).is_file())
        if not done.documents and signature.staleness(root, Index.read(root / INDEX_FILE)):  # since it was marked
            done = replace(done, is_signed=True)
        if not dry_run:
            write_documents(root, done.documents)
    return done


def read_documents(root: Path) -> dict[str, bytes]:
    """Return path → bytes of the documents that a release folder has.

    Raises:
        UsageError: when one is a link, or the manifest or the index is missing.
        OSError: when one cannot be read.
    """
    found: dict[str, bytes] = {}
    others = {name.casefold(): name for name in (entry.name for entry in root.iterdir())}
    for name in DOCUMENTS:
        path = root / name
        if path.is_symlink():
            raise UsageError(f"{path} is a link; a mark is written into a file of the release itself")
        if path.is_file():
            found[name] = path.read_bytes()
        elif name.casefold() in others:
            raise UsageError(
                f"{root / others[name.casefold()]} should be the file {name}; rename it, then saereg build"
            )
    if MANIFEST_FILE not in found or INDEX_FILE not in found:
        lacking = MANIFEST_FILE if MANIFEST_FILE not in found else INDEX_FILE
        raise UsageError(f"{root} holds no {lacking}: only a release that was built can have been published")
    return found


def _read_cards(root: Path, index: bytes) -> dict[str, bytes]:
    """Return path → bytes of the cards of artifacts that are there; a link, or one too large, is left alone."""
    found = {}
    for path in artifact_cards(Index.from_text(_decoded(index, INDEX_FILE), INDEX_FILE)):
        file = root / path
        if file.is_file() and not file.is_symlink() and file.stat().st_size <= MAX_CARD_BYTES:
            found[path] = file.read_bytes()
    return found


def write_documents(root: Path, documents: Mapping[str, bytes]) -> None:
    """Write documents: first all of them under temporary names, then renamed one after the other, the manifest last.

    Raises:
        OSError: when the folder cannot be written; before the first rename nothing has changed.
    """
    with ExitStack() as stack:  # which ends what was begun last first
        for name in (*reversed(DOCUMENTS), *(path for path in documents if path not in DOCUMENTS)):
            if name in documents:
                stack.enter_context(replacing(root / name)).write_bytes(documents[name])


def today(epoch: str | None) -> str:
    """Return the day in UTC: of now, or of SOURCE_DATE_EPOCH where that is given, in seconds since 1970.

    Raises:
        UsageError: when it is no number of seconds.
    """
    try:
        seconds = int(epoch) if epoch else time.time()
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"SOURCE_DATE_EPOCH={epoch}: expected seconds since 1970") from None


def _decoded(raw: bytes, name: str) -> str:
    try:
        return jsontext.decode(raw)
    except jsontext.JsonError as problem:
        raise DocumentError(name, "", problem.problem) from None


def _card(readme: bytes | None, new: Manifest, index: Index, old: Manifest, where: str) -> str:
    if readme is None:
        return first_card(new, index)
    if len(readme) > MAX_CARD_BYTES:
        raise UsageError(f"{where}: {CARD_FILE} has {len(readme)} bytes; at most {MAX_CARD_BYTES} are read")
    try:
        text = readme.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: {CARD_FILE}: byte {error.start} is not UTF-8; save it as UTF-8 first") from None
    fresh = replaced(text, new, index, old)
    if lacks_warning(Card(fresh), new):
        raise UsageError(f"{where}: {CARD_FILE}: its front matter is not closed by a line `---`; close it first")
    return fresh
