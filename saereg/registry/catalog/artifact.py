"""One artifact of a catalogue: its fields, and where each of them comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from saereg.errors import UsageError
from saereg.registry.catalog.store import reading
from saereg.registry.conditions.fields import Basis

if TYPE_CHECKING:
    from saereg.registry.catalog.rows import Assumed, Metric
    from saereg.registry.dictionary import Dictionary


class Origin(NamedTuple):
    """Where an artifact's row comes from: what kind of source, which one, at which commit or digest, and when (UTC)."""

    kind: str
    locator: str
    pin: str | None
    synced: str | None


@dataclass(frozen=True)
class CatalogArtifact:
    """One artifact of a catalogue.

    Attributes:
        key: its row.
        fields: field → value, those of `saereg.registry.query.FIELDS`; absent ones are None.
        catalog: file of the catalogue.
        basis: whose numbers the fields have; None: measured ones before stated ones.
    """

    key: int = field(repr=False)
    fields: dict[str, Any] = field(repr=False)
    catalog: Path = field(repr=False)
    basis: Basis | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"CatalogArtifact({self.reference})"

    @property
    def id(self) -> str:
        """Its id in the release."""
        return str(self.fields["id"])

    @property
    def reference(self) -> str:
        """How it is named anywhere: `org/repo@commit:id`, or `folder:id`."""
        return str(self.fields["reference"])

    @property
    def source(self) -> Origin:
        """Where this row comes from."""
        return Origin(*(self.fields[name] for name in ("source_kind", "source", "pin", "synced")))

    @cached_property
    def metrics(self) -> "tuple[Metric, ...]":
        """All of its numbers, measured and stated ones, as the source has them."""
        from saereg.registry.catalog.rows import Metric

        names = ("basis", "metric", "name", "value", "evaluation", "kind", "units", "batch_rows", "rows", "verdict")
        return tuple(Metric(*row) for row in self._rows("metric", names, "position"))

    @cached_property
    def assumptions(self) -> "tuple[Assumed, ...]":
        """The fields that the source does not say in so many words, and what they were read from."""
        from saereg.registry.catalog.rows import Assumed

        return tuple(Assumed(*row) for row in self._rows("assumption", ("field", "value", "because"), "field"))

    def fields_by(self, basis: Basis | None) -> dict[str, Any]:
        """Return its fields with the numbers of one basis only."""
        if basis == self.basis:
            return self.fields
        from saereg.registry.flat_fields import number_fields

        return self.fields | number_fields(self.metrics, basis)

    def load(self, device: str = "cpu") -> "Dictionary":
        """Load it as something one can call, at the commit or from the folder of its row.

        Raises:
            SaeregError: whatever `saereg.load` raises for its reference.
        """
        from saereg.registry.catalog.loading import load_located
        from saereg.registry.catalog.references import Located

        names = ("repo", "folder", "release_name", "standing", "loader")
        repo, folder, release, standing, loader = (self.fields[name] for name in names)
        pinned = repo is not None and self.reference.startswith(f"{repo}@")
        revision = self.reference.removeprefix(f"{repo}@").partition(":")[0] if pinned else None
        located = Located(self.id, self.fields["path"], repo, revision, folder, release, standing, loader)
        return load_located(located, device).dictionary

    def _rows(self, table: str, names: Sequence[str], order: str) -> list[tuple[Any, ...]]:
        """Return rows of another table that belong to it; they may not be of a row that took its key meanwhile."""
        mine = (self.key, self.id, self.fields["source"], self.fields["pin"])
        text = (
            "SELECT 1 FROM artifact a JOIN release r ON r.id = a.release JOIN source s ON s.id = r.source"
            " WHERE a.key = ? AND a.id = ? AND s.locator = ? AND s.pin IS ?"
        )
        with reading(self.catalog) as connection:
            if connection.execute(text, mine).fetchone() is None:
                raise UsageError(f"{self.reference}: the catalogue has another state of it by now; ask again")
            columns = ", ".join("coalesce(t.name, t.metric)" if name == "name" else f"t.{name}" for name in names)
            return connection.execute(
                f"SELECT {columns} FROM {table} t WHERE t.artifact = ? ORDER BY t.{order}", (self.key,)
            ).fetchall()
