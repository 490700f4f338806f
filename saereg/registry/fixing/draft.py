"""The texts of a release as they will be, before anything is written."""

from dataclasses import dataclass, field
from pathlib import Path

from saereg.errors import DocumentError
from saereg.registry.files.folder import Entry, scan
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.schemas import jsontext
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest

LARGEST = 64 * 1024 * 1024
"""Largest text that is mended, in bytes."""


@dataclass(frozen=True)
class Edit:
    """The new text of one file."""

    path: str
    text: str


@dataclass
class Draft:
    """A release folder and the texts that are to change in it.

    Attributes:
        root: release folder; only read.
        changed: path → new text.
    """

    root: Path
    changed: dict[str, str] = field(default_factory=dict)
    _entries: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._entries = {entry.path: entry for entry in scan(self.root) if entry.kind == "file"}

    def has(self, path: str) -> bool:
        """Whether the file is there, or will be."""
        return path in self.changed or path in self._entries

    def text(self, path: str) -> str | None:
        """Return the text of a file as it will be, or None when it is absent, too large or not UTF-8."""
        if path in self.changed:
            return self.changed[path]
        return self.original(path)

    def original(self, path: str) -> str | None:
        """Return the text of a file as it is, or None when it is absent, too large or not UTF-8."""
        entry = self._entries.get(path)
        if entry is None or entry.size > LARGEST:
            return None
        try:
            return (self.root / path).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def put(self, edit: Edit) -> None:
        """Take a change in; one back to the original is none."""
        if edit.text == self.original(edit.path):
            self.changed.pop(edit.path, None)
        else:
            self.changed[edit.path] = edit.text

    def value(self, path: str) -> jsontext.JsonValue:
        """Return the parsed JSON of a file, or None when there is none that can be parsed."""
        text = self.text(path)
        try:
            return None if text is None else jsontext.parse(text)
        except jsontext.JsonError:
            return None

    def manifest(self) -> Manifest | None:
        """Return the manifest as it will be, if it fits."""
        text = self.text(MANIFEST_FILE)
        try:
            return None if text is None else Manifest.from_text(text)
        except DocumentError:
            return None

    def index(self) -> Index | None:
        """Return the index as it will be, if it fits."""
        text = self.text(INDEX_FILE)
        try:
            return None if text is None else Index.from_text(text)
        except DocumentError:
            return None
