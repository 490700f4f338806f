"""The text of a model's vocabulary, from the tokenizer.json of its checkpoint."""

from functools import lru_cache
from pathlib import Path

from saereg.errors import DataUnavailableError, SaeregError
from saereg.registry.metrics.sources.checkpoints import locate, place_of
from saereg.registry.model_checkpoint import TOKENIZER
from saereg.registry.models.pieces import pieces_of
from saereg.registry.remote import open_repository
from saereg.schemas import jsontext
from saereg.schemas.evaluation import ParameterRows
from saereg.schemas.site import BaseModelRef


def pieces_of_model(model: str, ref: BaseModelRef | None, evaluation: ParameterRows | None = None) -> list[bytes]:
    """Return the text of every entry of a model's vocabulary.

    Args:
        model: folder of a checkpoint, of checkpoints by their steps, or a repository on the Hub.
        ref: what a manifest says of the model.
        evaluation: whose checkpoints they are.

    Raises:
        DataUnavailableError: when there is no tokenizer.json that can be read; with the reason.
    """
    try:
        folder, repo = place_of(model, "--model KEY=FOLDER")
        if folder is None:
            place = open_repository(repo, (ref.revision if ref else None) or _revision(evaluation))
            held = {entry.path for entry in place.entries()}
            text = jsontext.decode(place.read(TOKENIZER)) if TOKENIZER in held else None
            return _read(text, repo)
        for one in _folders(folder, model, evaluation):
            path = one / TOKENIZER
            if path.is_file():
                status = path.stat()
                return _of_file(path, (status.st_ino, status.st_size, status.st_mtime_ns))
        return _read(None, folder.name)
    except (SaeregError, OSError, jsontext.JsonError) as error:
        if isinstance(error, DataUnavailableError):
            raise
        raise DataUnavailableError(f"its tokenizer cannot be read: {str(error).splitlines()[0]}") from None


def _revision(evaluation: ParameterRows | None) -> str | None:
    if evaluation is None or "*" in evaluation.revision:
        return None
    return evaluation.revision.replace("{step}", str(evaluation.steps[-1]))


def _folders(folder: Path, model: str, evaluation: ParameterRows | None) -> list[Path]:
    """Return where a tokenizer may be: with the last of the steps, else with the first, else above them."""
    if evaluation is None:
        return [folder]
    located = locate(evaluation, model, "--model KEY=FOLDER")
    return [*(one.folder for one in (located[-1], located[0]) if one.folder is not None), folder]


@lru_cache(maxsize=8)
def _of_file(path: Path, identity: tuple[int, ...]) -> list[bytes]:
    """Read a file once, as long as it does not change: many dictionaries are of one model."""
    del identity
    return _read(jsontext.decode(path.read_bytes()), path.parent.name)


def _read(text: str | None, where: str) -> list[bytes]:
    if text is None:
        raise DataUnavailableError(f"{where} holds no {TOKENIZER}")
    return pieces_of(text, TOKENIZER)
