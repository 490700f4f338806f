"""Text to run a model on: files, folders, data sets of the Hub, and two corpora that every installation carries."""

import ast
import hashlib
import sysconfig
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path

from saereg.errors import UnknownNameError, UsageError
from saereg.schemas.site import DatasetRef
from saereg.trainers.collecting.documents import Fields, Text, ends_of, read_file
from saereg.trainers.collecting.hub_text import FORM, PREFIX, HubText

PLAIN = (".jsonl", ".md", ".py", ".rst", ".txt")
TEXT_SUFFIXES = (*PLAIN, ".parquet", ".json.gz", *(f"{end}.gz" for end in PLAIN))
"""Files of a folder that are read. `.json` is not among them: most are no text; name such a file itself."""

SKIPPED_FOLDERS = frozenset({"__pycache__", "dist-packages", "site-packages", "test", "tests"})
"""Folders of the standard library that are left out: tests hold broken files on purpose."""


def prose() -> Iterator[str]:
    """Yield English prose: the topics of `help()`, docstrings of the standard library, descriptions of distributions.

    Nothing is imported but the topics; docstrings are read from source. The last part depends on what is installed,
    so it comes last; the digest of the text that was used tells two machines apart.
    """
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]
    for path in _library_files():
        if text := _docstrings(path):
            yield text
    for distribution in _distributions():
        if text := str(distribution.metadata.json.get("description", "")):
            yield text


def code() -> Iterator[str]:
    """Yield the sources of the standard library, in order of their paths."""
    for path in _library_files():
        if text := _source(path):
            yield text


BUILTIN: dict[str, Callable[[], Iterator[str]]] = {"builtin:prose": prose, "builtin:code": code}
"""Corpora that need no network."""


def _library_files() -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = (path for path in root.rglob("*.py") if not SKIPPED_FOLDERS & set(path.relative_to(root).parts))
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _distributions() -> list[metadata.Distribution]:
    named = {str(found.metadata["Name"]).lower(): found for found in metadata.distributions()}
    return [named[name] for name in sorted(named)]


def _source(path: Path) -> str | None:
    """Return the text of a Python file in its declared encoding; None when it has none that can be read."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def _docstrings(path: Path) -> str | None:
    source = _source(path)
    if not source:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old sources are none of our business
        try:
            tree = ast.parse(source)
        except SyntaxError:
            return None
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n\n".join(text for text in found if text)


class Corpus:
    """Documents in a fixed order, counted and digested as they are read.

    Args:
        names: `builtin:…`, data sets of the Hub (`hf:org/name[@revision][:config][:split]`), text files, files of JSON
            lines, Parquet files, text and JSON lines packed with gzip, or folders of all these.
        fields: where in rows of JSON, Parquet and data sets the text stands.

    Raises:
        UsageError: when a path does not exist or holds no text.
        UnknownNameError: when there is no such built-in corpus.
        PublishError: when the Hub cannot be asked for the commit of a data set.
    """

    def __init__(self, names: Sequence[str], fields: Fields | None = None) -> None:
        if not names:
            raise UsageError("no corpus: give a file, a folder, or one of " + ", ".join(BUILTIN))
        self.fields = fields or Fields()
        self.documents = 0
        self._digest = hashlib.sha256()
        self._sha256 = self._digest.hexdigest()
        self._parts = [HubText.parse(name).pinned() if name.startswith(PREFIX) else name for name in names]
        self._sources = [source for part in self._parts for source in _sources(part, self.fields)]

    def ref(self) -> DatasetRef:
        """Return the data set as read so far; its digest is over each whole document in UTF-8 and a zero byte."""
        columns = None if self.fields.columns == ("text",) else self.fields.columns
        first = self._parts[0]
        if isinstance(first, HubText) and len(self._parts) == 1:
            whole = DatasetRef(id=first.repo, config=first.config, split=first.split, revision=first.revision)
        else:
            whole = DatasetRef(id="+".join(map(_label, self._parts)))
        read = {"sha256": self._sha256, "documents": self.documents}
        return whole.model_copy(update={"columns": columns, "rendering": self.fields.rendering} | read)

    def read(self, expected: DatasetRef | None = None) -> Iterator[Text]:
        """Yield the documents; what of a long one was not taken when the next is asked for is read and digested too.

        Args:
            expected: what the corpus was when an earlier run read it so far.

        Raises:
            UsageError: when the documents that the earlier run read have changed, or a file is damaged.
            DocumentError: when a row has no text.
        """
        for source in self._sources:
            for text in source():
                if isinstance(text, str):
                    self._digest.update(text.encode("utf-8", "surrogatepass"))
                    self._ended(expected)
                    yield text
                else:
                    slices = self._digested(text, expected)
                    yield slices
                    for _ in slices:
                        pass
        if expected and self.documents < (expected.documents or 0):
            raise UsageError("the corpus has become shorter since collection began; collect into a new folder")

    def _digested(self, slices: Iterator[str], expected: DatasetRef | None) -> Iterator[str]:
        for piece in slices:
            self._digest.update(piece.encode("utf-8", "surrogatepass"))
            yield piece
        self._ended(expected)

    def _ended(self, expected: DatasetRef | None) -> None:
        """Count a document that was digested, and compare the corpus with what it was at the same place."""
        self._digest.update(b"\0")
        self.documents += 1
        self._sha256 = self._digest.hexdigest()
        if expected and self.documents == expected.documents and self._sha256 != expected.sha256:
            raise UsageError("the corpus has changed since collection began; collect into a new folder")


def _label(part: str | HubText) -> str:
    if isinstance(part, HubText):
        return part.name
    return part if part in BUILTIN else Path(part).name


def _sources(part: str | HubText, fields: Fields) -> list[Callable[[], Iterator[Text]]]:
    if isinstance(part, HubText):
        return [partial(part.read, fields)]
    if part.startswith("builtin:"):
        if part not in BUILTIN:
            raise UnknownNameError("corpus", part, BUILTIN)
        return [BUILTIN[part]]
    path = Path(part)
    if not path.exists():
        more = f"; for a data set of the Hub write {FORM}" if part.count("/") == 1 else ""
        raise UsageError(f"corpus {part}: no such file or folder (built in: {', '.join(BUILTIN)}){more}")
    files = [path] if path.is_file() else _text_files(path)
    if not files:
        raise UsageError(f"corpus {part}: no files ending in {', '.join(TEXT_SUFFIXES)}")
    return [partial(read_file, file, fields) for file in files]


def _text_files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and ends_of(path) in TEXT_SUFFIXES)
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())
