"""The text of the rows of an evaluation, where there is any, and why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saereg.errors import DataUnavailableError, PublishError, WeightsError
from saereg.registry import hub
from saereg.registry.metrics.sources.texts import ContextText, TextFile, Window, text_path
from saereg.registry.metrics.sources.tokenizers import pieces_of_model
from saereg.registry.models.pieces import numbered, shown_all
from saereg.schemas.evaluation import ParameterRows, TokenRows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saereg.registry.features.opening import Opened


@dataclass(frozen=True)
class Text:
    """The text of rows.

    Attributes:
        pieces: text of every entry of a vocabulary; none where it is not known.
        windows: where the tokens around a row are; None where rows are entries of the vocabulary, or have no text.
        is_vocabulary: whether rows are entries of the vocabulary themselves.
        note: what is missing; None where nothing is.
    """

    pieces: Sequence[bytes] = ()
    windows: TextFile | ContextText | None = None
    is_vocabulary: bool = False
    note: str | None = None

    def labels(self, numbers: Sequence[int]) -> tuple[str, ...]:
        """Return entries of the vocabulary as readers see them."""
        return shown_all(self.pieces, numbers)

    def label(self, row: int) -> str:
        """Return the entry of the vocabulary that a row is."""
        return self.labels([row])[0] if self.pieces else numbered(row)

    def window(self, row: int) -> Window | None:
        """Return the text around a row; None where there is none."""
        return self.windows.window(row) if self.windows is not None else None


def text_of(opened: "Opened", models: "Mapping[str, str]") -> Text:
    """Return the text of the rows of an artifact's evaluation.

    Raises:
        WeightsError: when the file of the text is damaged.
        OSError: when it cannot be read.
    """
    evaluation = opened.evaluation
    shipped = _shipped(opened)
    if isinstance(shipped, TextFile):
        said = shipped.data_sha256
        if said is not None and said != opened.occasion.data_sha256:
            return Text(note=f"{shipped.path.name} is the text of other rows")
        if shipped.is_vocabulary:
            return Text(shipped.pieces, is_vocabulary=True)
        return Text(shipped.pieces, shipped)
    if isinstance(evaluation, TokenRows):
        pieces, note = _of_model(opened, models, None)
        windows = ContextText(opened.root / evaluation.path)
        return Text(pieces, windows, note=note and f"tokens are shown by their ids: {note}")
    if isinstance(evaluation, ParameterRows):
        pieces, note = _of_model(opened, models, evaluation)
        return Text(pieces, is_vocabulary=True, note=note and f"entries are shown by their ids: {note}")
    site = opened.artifact.release.manifest.sites.get(evaluation.site or "")
    of_vocabulary = site is not None and site.stream == "parameter"
    return Text(is_vocabulary=of_vocabulary, note=shipped or "the evaluation holds rows without the text they are of")


def _shipped(opened: "Opened") -> TextFile | str | None:
    """Return the file of text beside the rows, None where there is none, or why it cannot be had."""
    path, release = text_path(opened.evaluation), opened.artifact.release
    if path is None:
        return None
    root = opened.root
    if release.repo is not None:
        listed = {file.path for file in release.index.files} if release.index is not None else set()
        if path not in listed:
            return None
        try:
            root = hub.fetch_path(release.repo, root.name, path)
        except PublishError as error:
            return f"its text cannot be fetched: {str(error).splitlines()[0]}"
    if not (root / path).is_file():
        return None
    file = TextFile(root / path)
    if not file.is_vocabulary and file.window(0) is None and not _has_rows(file):
        raise WeightsError(path, "is the text of no row; leave the file away, or make it again")
    return file


def _has_rows(file: TextFile) -> bool:
    return any(bool((part.rows >= 0).any()) for part in file.parts())


def _of_model(
    opened: "Opened", models: "Mapping[str, str]", evaluation: ParameterRows | None
) -> tuple[Sequence[bytes], str | None]:
    """Return (text of the vocabulary of the model, why there is none)."""
    manifest, names = opened.artifact.release.manifest, opened.evaluation
    keys = (names.site, *getattr(names, "sites", ()))
    found = [manifest.sites[key].model for key in keys if key in manifest.sites]
    if not found or found[0] not in models:
        return (), f"the tokenizer is not at hand; give --model {found[0] if found else 'KEY'}=FOLDER"
    try:
        return pieces_of_model(models[found[0]], manifest.base_models.get(found[0]), evaluation), None
    except DataUnavailableError as error:
        return (), error.why
