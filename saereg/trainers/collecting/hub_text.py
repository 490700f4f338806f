"""Text of a data set on the Hub, streamed by the `datasets` library at one commit; nothing is kept on disk."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from saereg.errors import UsageError
from saereg.registry import hub
from saereg.registry.models.model import require
from saereg.registry.remote import commit_of
from saereg.trainers.collecting.documents import Fields

PREFIX = "hf:"
FORM = "hf:org/name[@revision][:config][:split]"

_NAME = re.compile(
    r"hf:(?P<repo>[\w.\-]+(?:/[\w.\-]+)?)(?:@(?P<revision>[^:]+))?(?::(?P<config>[^:]*))?(?::(?P<split>.+))?"
)


@dataclass(frozen=True)
class HubText:
    """One split of a data set.

    Attributes:
        repo: repository on the Hub.
        config: its configuration; None: the default one.
        split: its split.
        revision: commit, once it is pinned.
    """

    repo: str
    config: str | None
    split: str
    revision: str | None

    @classmethod
    def parse(cls, name: str) -> "HubText":
        """Read `hf:org/name[@revision][:config][:split]`; an empty configuration is the default one.

        Raises:
            UsageError: when it is not of that form.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise UsageError(f"corpus {name!r}: write {FORM}")
        return cls(match["repo"], match["config"] or None, match["split"] or "train", match["revision"])

    def pinned(self) -> "HubText":
        """Return the same at the commit that its revision is now.

        Raises:
            PublishError: when the Hub cannot be asked, or has no such data set or revision.
            UsageError: when the data set has no commit.
        """
        if hub.is_commit(self.revision):
            return self
        commit = commit_of(self.repo, self.revision, kind="dataset")
        if commit is None:
            raise UsageError(f"corpus {PREFIX}{self.repo} has no commit")
        return replace(self, revision=commit)

    @property
    def name(self) -> str:
        """All of it in one word, for a corpus of several parts."""
        return f"{self.repo}@{self.revision}:{self.config or ''}:{self.split}"

    def read(self, fields: Fields) -> Iterator[str]:
        """Yield the documents.

        Raises:
            MissingExtraError: without the `train` extra.
            UsageError: when the data set cannot be read, or has no such column.
            DocumentError: when a row has no text.
        """
        datasets, where = require("datasets", "reading a data set of the Hub"), f"{PREFIX}{self.name}"
        number, column = -1, None
        try:
            with _quiet(datasets):
                rows = datasets.load_dataset(
                    self.repo, self.config, split=self.split, revision=self.revision, streaming=True
                )
                if rows.column_names:
                    column = fields.pick(rows.column_names, where)
                    rows = rows.select_columns([column])
            number = 0
            for number, row in enumerate(rows, start=1):
                yield fields.text(row[column or fields.pick(row, where)], f"{where}: row {number}")
        except (OSError, ValueError, datasets.exceptions.DatasetsError, hub.client_error()) as problem:
            place = f": row {number + 1}" if number >= 0 else ""
            raise UsageError(f"corpus {where}{place}: {hub.first_line(problem)}") from problem


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:  # noqa: ANN401 - the library itself
    """Turn off the progress bars of the library: ours prints nothing."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
