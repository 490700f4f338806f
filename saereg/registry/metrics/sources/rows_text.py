"""The text of rows that are drawn from a larger source, where the source has any."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from saereg.errors import DataUnavailableError
from saereg.registry.metrics.sources.activations import StoredRows
from saereg.registry.metrics.sources.collected import text_of
from saereg.registry.metrics.sources.parameters import ParameterSource
from saereg.registry.metrics.sources.spec import COLLECTION
from saereg.registry.metrics.sources.texts import (
    TEXT_SUFFIX,
    ContextText,
    Part,
    TextFile,
    entries_of,
    text_tensors,
    windows,
)
from saereg.registry.metrics.sources.tokenizers import pieces_of_model
from saereg.registry.metrics.sources.tokens import ModelRows
from saereg.schemas.collection import Collection

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from saereg.registry.metrics.sources.rows import Rows
    from saereg.schemas.manifest import Manifest


def text_bytes(
    rows: "Rows", picked: "np.ndarray", data_sha256: str, manifest: "Manifest", models: Mapping[str, str]
) -> bytes | None:
    """Return what stands in the file of text beside some rows of a source; None where their text is not known.

    Args:
        rows: the source.
        picked: numbers of the rows that are drawn, rising.
        data_sha256: digest of the file that they are in.
        manifest: the release, whose base models tell tokenizers apart.
        models: key of a base model → folder or repository.

    Raises:
        UsageError: when a file of the text of a collection is missing.
        WeightsError: when one is damaged.
        OSError: when it cannot be read.
    """
    import torch
    from safetensors.torch import save

    numbers = torch.from_numpy(picked).long()
    if isinstance(rows, ParameterSource):
        tensors = _vocabulary(rows, numbers, manifest, models)
        return None if tensors is None else bytes(save(tensors))
    found = _source(rows, numbers, manifest, models)
    if found is None:
        return None
    parts, pieces = found
    tensors, facts = text_tensors(windows(parts, numbers), pieces, data_sha256)
    return bytes(save(tensors, metadata=facts))


def _source(
    rows: "Rows", numbers: "Tensor", manifest: "Manifest", models: Mapping[str, str]
) -> tuple[Iterable[Part], Sequence[bytes]] | None:
    """Return (contexts, text of the vocabulary) of a source."""
    if isinstance(rows, ModelRows):
        key = rows.places[0].model
        try:
            pieces = pieces_of_model(models[key], manifest.base_models[key]) if key in models else None
        except DataUnavailableError:
            return None
        return None if pieces is None else ([ContextText(rows.path).part()], pieces)
    if not isinstance(rows, StoredRows):
        return None
    if (rows.path / COLLECTION).is_file():
        text = text_of(rows.path, Collection.read(rows.path / COLLECTION))
        return None if text is None else (text.parts(int(numbers[0]), int(numbers[-1]) + 1), text.pieces)
    beside = rows.path.with_name(rows.path.name.removesuffix(".safetensors") + TEXT_SUFFIX)
    if not beside.is_file():
        return None
    file = TextFile(beside)
    if file.is_vocabulary or file.data_sha256 not in (None, rows.digest()):
        return None
    return file.parts(), file.pieces


def _vocabulary(
    rows: ParameterSource, numbers: "Tensor", manifest: "Manifest", models: Mapping[str, str]
) -> "dict[str, Tensor] | None":
    """Return the entries of the vocabulary that rows of a parameter are."""
    site = manifest.sites.get(rows.evaluation.site or "")
    key = site.model if site is not None else next(iter(models), "")
    try:
        pieces = pieces_of_model(models[key], None, rows.evaluation) if key in models else None
    except DataUnavailableError:
        return None
    if pieces is None:
        return None
    return entries_of(
        [pieces[number] if number < len(pieces) else f"⟨{number}⟩".encode() for number in numbers.tolist()]
    )
