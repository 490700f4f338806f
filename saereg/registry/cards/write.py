"""Write the card of a release: a first one where there is none, the generated parts of one that is there."""

from collections.abc import Mapping
from pathlib import Path

from saereg.registry.cards.blocks import parts_of, replaced
from saereg.registry.cards.card import CARD_FILE, Card
from saereg.registry.cards.skeleton import MARKER_FILE, QUERY_FILES, first_card, marker
from saereg.registry.cards.withdrawn import PART as WITHDRAWN
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.roles import role_of
from saereg.schemas.index import Index, IndexFile
from saereg.schemas.manifest import Manifest


def write_card(root: Path, manifest: Manifest, index: Index, templates: Path | None = None) -> tuple[str, ...]:
    """Bring the card up to date with what was just measured.

    A release without one gets its first, and with it the small file at the root by whose downloads the Hub counts. Of
    a card that is there only the generated parts change; one that is no regular file or not UTF-8 is left alone.

    Args:
        root: release folder.
        manifest: the claims.
        index: the evidence; the card itself need not be in it.
        templates: folder of the user's own templates.

    Returns:
        The files that were written, relative to the folder.

    Raises:
        UsageError: when a template of the user fails; the card is then as it was.
        OSError: when a file cannot be read or written.
    """
    names = {entry.name for entry in root.iterdir()}
    written: dict[str, str] = {}
    if CARD_FILE.casefold() not in {name.casefold() for name in names}:
        written = {} if names & QUERY_FILES else {MARKER_FILE: marker(manifest)}
        written[CARD_FILE] = first_card(manifest, _with_texts(index, written), templates)
    elif (text := _text(root / CARD_FILE)) is not None and (
        fresh := replaced(text, manifest, index, templates=templates)
    ) != text:
        written = {CARD_FILE: fresh}
    for name, content in written.items():
        write_text_atomically(root / name, content)
    return tuple(written)


def unseen(root: Path, index: Index) -> str | None:
    """Return in a sentence that the author's own card has no place for the figures, and how it gets one; else None.

    A card with any of the parts that a first card has is one whose author knows of them, and chose.
    """
    text = _text(root / CARD_FILE)
    if text is None or not index.figures:
        return None
    if {part.name for part in parts_of(Card(text))[0]} - {"inventory", "files", WITHDRAWN}:
        return None
    return (
        f"{CARD_FILE} shows no figures: put <!-- saereg:begin figures --> and <!-- saereg:end figures --> on lines of "
        "their own where they should stand; docs/cards.md lists the other parts"
    )


def _with_texts(index: Index, texts: Mapping[str, str]) -> Index:
    """Return an index that has some files as they will be written, so that the card can list them."""
    fresh = {
        path: IndexFile(path=path, size=len(text.encode()), sha256=sha256_text(text), role=role_of(path))
        for path, text in texts.items()
    }
    kept = tuple(file for file in index.files if file.path not in fresh)
    return index.model_copy(update={"files": (*kept, *fresh.values())})


def _text(path: Path) -> str | None:
    """Return the text of a card with its own line ends, or None where it is left alone."""
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
