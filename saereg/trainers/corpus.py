"""Text to run a model on: files, folders, JSON lines, and two corpora that every Python installation carries."""

import ast
import hashlib
import json
import sysconfig
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from saereg.errors import DocumentError, UnknownNameError, UsageError
from saereg.schemas.site import DatasetRef

TEXT_SUFFIXES = (".jsonl", ".md", ".py", ".rst", ".txt")
"""Files of a folder that are read."""

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
        names: `builtin:…`, text files, folders of text files, `.jsonl` files (key `text`).

    Raises:
        UsageError: when a path does not exist or holds no text.
        UnknownNameError: when there is no such built-in corpus.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if not names:
            raise UsageError("no corpus: give a file, a folder, or one of " + ", ".join(BUILTIN))
        self.names = tuple(names)
        self.documents = 0
        self._digest = hashlib.sha256()
        self._sources = [source for name in names for source in _sources(name)]

    def ref(self) -> DatasetRef:
        """Return the data set as read so far; its digest is over each document in UTF-8 followed by a zero byte."""
        name = "+".join(name if name in BUILTIN else Path(name).name for name in self.names)
        return DatasetRef(id=name, sha256=self._digest.hexdigest(), documents=self.documents)

    def read(self, expected: DatasetRef | None = None) -> Iterator[str]:
        """Yield the documents.

        Args:
            expected: what the corpus was when an earlier run read it so far.

        Raises:
            UsageError: when the documents that the earlier run read have changed.
            DocumentError: when a line of a JSONL file has no text.
        """
        for source in self._sources:
            for text in source():
                self._digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
                self.documents += 1
                if expected and self.documents == expected.documents and self.ref().sha256 != expected.sha256:
                    raise UsageError("the corpus has changed since collection began; collect into a new folder")
                yield text
        if expected and self.documents < (expected.documents or 0):
            raise UsageError("the corpus has become shorter since collection began; collect into a new folder")


def _sources(name: str) -> list[Callable[[], Iterator[str]]]:
    if name.startswith("builtin:"):
        if name not in BUILTIN:
            raise UnknownNameError("corpus", name, BUILTIN)
        return [BUILTIN[name]]
    path = Path(name)
    if not path.exists():
        raise UsageError(f"corpus {name}: no such file or folder (built in: {', '.join(BUILTIN)})")
    files = [path] if path.is_file() else _text_files(path)
    if not files:
        raise UsageError(f"corpus {name}: no files ending in {', '.join(TEXT_SUFFIXES)}")
    return [_reader(file) for file in files]


def _text_files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix in TEXT_SUFFIXES)
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _reader(path: Path) -> Callable[[], Iterator[str]]:
    return lambda: _json_lines(path) if path.suffix == ".jsonl" else iter([_text(path)])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise UsageError(f"corpus {path}: not UTF-8 text ({problem.reason} at byte {problem.start})") from None


def _json_lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError):
                raise DocumentError(f"{path}:{number}", "", "not a JSON object with a key `text`") from None
            yield str(text)
