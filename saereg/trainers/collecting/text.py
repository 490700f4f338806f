"""The text of collected rows, beside their shards: which tokens they are, and what these stand for.

`text/vocabulary.safetensors` holds the text of every entry of the vocabulary. `text/shard-00000.safetensors` holds the
contexts of which the rows of that shard are: `tokens`, `lengths` and `kept` as an evaluation of tokens has them, and
`first` (1,), the number of the row that the first kept token is. A context that a shard ends in stands in the next one
too, so no shard depends on what was in memory when it was written.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saereg.errors import DataUnavailableError, DocumentError
from saereg.registry.files.blocks import write_tensors
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.collected import FIRST
from saereg.registry.metrics.sources.contexts import KEPT, LENGTHS, TOKENS
from saereg.registry.metrics.sources.texts import write_vocabulary
from saereg.registry.metrics.sources.tokenizers import pieces_of_model
from saereg.registry.models.pieces import pieces_of
from saereg.schemas.collection import CollectedText, Shard
from saereg.schemas.parameters import StoredParameter

if TYPE_CHECKING:
    from torch import Tensor

TEXT = "text"
"""Folder in a collection."""

VOCABULARY = f"{TEXT}/vocabulary.safetensors"
SNAPSHOTS_VOCABULARY = "vocabulary.safetensors"
"""The same beside snapshots of a parameter, whose rows are the entries of the vocabulary."""


def write_pieces(folder: Path, tokenizer: Any) -> CollectedText | None:  # noqa: ANN401
    """Write the text of every entry of a tokenizer; None where it is of a kind that is not known.

    Raises:
        OSError: when it cannot be written.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    try:
        pieces = pieces_of(backend.to_str())
    except DocumentError:
        return None
    write_vocabulary(folder / VOCABULARY, pieces)
    return CollectedText(vocabulary=VOCABULARY, sha256=sha256_of(folder / VOCABULARY))


def write_snapshots_vocabulary(folder: Path, stored: StoredParameter, model: str) -> None:
    """Write what the rows of a parameter stand for, where the checkpoints have a tokenizer with no more entries.

    Args:
        folder: the snapshots.
        stored: their document.
        model: folder of checkpoints, or repository on the Hub.

    Raises:
        OSError: when it cannot be written.
    """
    if (folder / SNAPSHOTS_VOCABULARY).is_file():
        return
    try:
        pieces = pieces_of_model(model, None, stored.evaluation(stored.target_steps))
    except DataUnavailableError:
        return
    if len(pieces) <= stored.rows:
        write_vocabulary(folder / SNAPSHOTS_VOCABULARY, pieces)


def vocabulary_of(folder: Path) -> Path | None:
    """Return the file with the text of the vocabulary beside snapshots of a parameter; None where there is none."""
    path = folder / SNAPSHOTS_VOCABULARY
    return path if path.is_file() else None


class TextBuffer:
    """The contexts of one shard in the making.

    Args:
        folder: the collection.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contexts: list[tuple[Tensor, Tensor]] = []
        self._first: int | None = None

    def add(self, contexts: Sequence[Sequence[int]], special: Collection[int], first: int, taken: range) -> None:
        """Take the contexts of a batch of which some rows go into the shard.

        Args:
            contexts: token ids of each, special tokens included.
            special: ids that become no rows.
            first: number of the first row of the batch.
            taken: which rows of the batch.
        """
        import torch

        dropped, end = torch.tensor(sorted(special), dtype=torch.int64), 0
        for context in contexts:
            ids = torch.tensor(context)
            kept = ~torch.isin(ids, dropped)
            begin, end = end, end + int(kept.sum())
            if begin < taken.stop and taken.start < end:
                if self._first is None:
                    self._first = first + begin
                self._contexts.append((ids, kept))

    def flush(self, number: int, rows: int) -> Shard:
        """Write the contexts, and start the next shard."""
        import torch

        ids, kept = ([pair[i] for pair in self._contexts] for i in (0, 1))
        path = f"{TEXT}/shard-{number:05d}.safetensors"
        tensors = {
            TOKENS: torch.cat(ids).int(),
            LENGTHS: torch.tensor([len(one) for one in ids], dtype=torch.int64),
            KEPT: torch.cat(kept).bool(),
            FIRST: torch.tensor([self._first or 0], dtype=torch.int64),
        }
        write_tensors(self._folder / path, tensors)
        self._contexts, self._first = [], None
        return Shard(path=path, rows=rows, sha256=sha256_of(self._folder / path))
