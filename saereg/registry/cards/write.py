"""Write the card of a release: a first one where there is none, the generated parts of one that is there."""

from pathlib import Path

from saereg.registry.cards.blocks import replaced
from saereg.registry.cards.card import CARD_FILE
from saereg.registry.cards.skeleton import MARKER_FILE, QUERY_FILES, first_card, marker
from saereg.registry.files.atomic import write_text_atomically
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest


def write_card(root: Path, manifest: Manifest, index: Index) -> tuple[str, ...]:
    """Bring the card up to date with what was just measured.

    A release without one gets its first, and with it the small file at the root by whose downloads the Hub counts. Of
    a card that is there only the generated parts change; one that is no regular file or not UTF-8 is left alone.

    Args:
        root: release folder.
        manifest: the claims.
        index: the evidence; the card itself need not be in it.

    Returns:
        The files that were written, relative to the folder.

    Raises:
        OSError: when a file cannot be read or written.
    """
    names = {entry.name for entry in root.iterdir()}
    written: dict[str, str] = {}
    if CARD_FILE.casefold() not in {name.casefold() for name in names}:
        written = {} if names & QUERY_FILES else {MARKER_FILE: marker(manifest)}
        written[CARD_FILE] = first_card(manifest, index)
    elif (text := _text(root / CARD_FILE)) is not None and (fresh := replaced(text, manifest, index)) != text:
        written = {CARD_FILE: fresh}
    for name, content in written.items():
        write_text_atomically(root / name, content)
    return tuple(written)


def _text(path: Path) -> str | None:
    """Return the text of a card with its own line ends, or None where it is left alone."""
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
