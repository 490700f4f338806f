"""The note that `saereg pull` leaves in a folder."""

from pathlib import Path

from saereg.errors import DocumentError
from saereg.registry.files.atomic import write_text_atomically
from saereg.schemas.pulled import PULLED_FILE, Pulled


def read_pulled(root: Path) -> Pulled | None:
    """Return what was pulled into a folder; None where nothing was, or the note is damaged."""
    try:
        return Pulled.read(root / PULLED_FILE)
    except (DocumentError, OSError):
        return None


def write_pulled(root: Path, pulled: Pulled) -> None:
    """Write the note of a folder.

    Raises:
        OSError: when the folder cannot be written.
    """
    write_text_atomically(root / PULLED_FILE, pulled.text())
