"""The text of the rows of a collection, as `saereg train collect` keeps it beside their shards."""

from collections.abc import Iterator
from pathlib import Path

from saereg.errors import UsageError, WeightsError
from saereg.registry.files.blocks import read_span
from saereg.registry.files.header import read_header
from saereg.registry.metrics.sources.texts import ContextText, Part, TextFile
from saereg.schemas.collection import CollectedText, Collection

FIRST = "first"
"""Tensor of a shard of text, (1,): the number of the row that its first kept token is."""


class RowText:
    """The text of the rows of a finished collection.

    Args:
        folder: the collection.
        text: what its document says of it.

    Raises:
        UsageError: when a file of it is missing.
    """

    def __init__(self, folder: Path, text: CollectedText) -> None:
        for path in (text.vocabulary, *(shard.path for shard in text.shards)):
            if not (folder / path).is_file():
                raise UsageError(f"{folder / path} is missing; run `saereg train collect` again in a new folder")
        self._folder, self._text = folder, text

    @property
    def pieces(self) -> list[bytes]:
        """Text of every entry of the vocabulary.

        Raises:
            WeightsError: when the file is damaged.
        """
        return TextFile(self._folder / self._text.vocabulary).pieces

    def parts(self, first: int, last: int) -> Iterator[Part]:
        """Yield the contexts of rows `first` to `last` (exclusive), shard by shard.

        Raises:
            WeightsError: when a file is damaged.
        """
        begin = 0
        for shard in self._text.shards:
            if begin < last and first < begin + shard.rows:
                yield _part(self._folder / shard.path)
            begin += shard.rows


def _part(path: Path) -> Part:
    entry = read_header(path).tensors.get(FIRST)
    if entry is None or entry.shape != (1,):
        raise WeightsError(path.name, "missing; collect again in a new folder", FIRST)
    return ContextText(path, int(read_span(path, entry, 0, 1)[0])).part()


def text_of(folder: Path, collection: Collection) -> RowText | None:
    """Return the text of a collection; None where it has none.

    Raises:
        UsageError: when a file of it is missing.
    """
    return RowText(folder, collection.texts) if collection.texts is not None else None
