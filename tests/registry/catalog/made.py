"""Rows of releases that do not exist, in a catalogue and in memory, for what both must answer alike."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from saereg.registry.catalog.rows import Entry, Metric, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.selection import CatalogSelection
from saereg.registry.catalog.store import changing
from saereg.registry.catalog.writing import write
from saereg.registry.conditions.fields import FIELDS, Basis, model_name
from saereg.registry.files.natural import natural_key
from saereg.registry.flat_fields import number_fields
from saereg.registry.query import Selection

SOURCE, PIN = Source("hub", "org/made"), "a" * 40
RELEASE = ReleaseRows(
    name="made", version="1.0.0", repo="org/made", revision=PIN, standing="verified", withdrawn=None, license="mit"
)

WORDS = ("sae", "SAE", "topk", "a*b", "a[b]c", "50", "50%", "ü", "", "it's", 'say "x"', "x\ny", "pythia")
MODELS = ("EleutherAI/pythia-160m", "pythia-160m", "Pythia-160M", "google/gemma-2-2b", "gemma-2-2b", "x/", "")
NUMBERS = (0.0, 1.0, -0.5, 0.9, 300.0, 299.99, 1e300, 2.5)

words = st.sampled_from(WORDS)
numbers = st.sampled_from(NUMBERS)
wholes = st.sampled_from((0, 1, 2, 10, -1, 2**53 + 1, 2**62))


def perhaps(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return values of which some are absent."""
    return st.none() | values


metrics = st.builds(
    Metric,
    basis=st.sampled_from(("measured", "stated")),
    metric=st.sampled_from(("l0", "l0_per_source_mean", "explained_variance", "fvu", None)),
    name=st.sampled_from(("mean_l0", "variance_explained", "other")),
    value=numbers,
    kind=st.sampled_from((None, "recomputed", "training_window")),
    units=st.sampled_from(("raw", "normalized")),
)

entries = st.builds(
    Entry,
    id=st.just("?"),
    kind=perhaps(words),
    variant=perhaps(words),
    model=perhaps(st.sampled_from(MODELS)),
    layer=perhaps(wholes),
    k=perhaps(numbers),
    seed=perhaps(wholes),
    canonical=perhaps(st.booleans()),
    withdrawn=perhaps(st.sampled_from(("yanked", "deprecated"))),
    steps=st.sampled_from(((), (0,), (0, 1000), (10,), (9, 1))),
    metrics=st.lists(metrics, max_size=4).map(tuple),
)


@dataclass(frozen=True)
class Made:
    """One artifact in memory."""

    entry: Entry

    @property
    def id(self) -> str:
        """Its id."""
        return self.entry.id

    @property
    def fields(self) -> dict[str, Any]:
        """Its fields, as a release of ours would have them."""
        return self.fields_by(None)

    def fields_by(self, basis: Basis | None) -> dict[str, Any]:
        """The same with numbers of one basis."""
        entry = self.entry
        values = {name: getattr(entry, name, None) for name in FIELDS} | number_fields(entry.metrics, basis)
        return values | {
            "reference": f"org/made@{PIN}:{entry.id}", "release": "made 1.0.0", "release_name": "made",
            "version": "1.0.0",
            "standing": "verified", "license": "mit", "repo": "org/made", "path": entry.path or entry.id,
            "steps": entry.steps or None, "model_name": model_name(entry.model), "revision": entry.model_revision,
            "source_kind": "hub", "source": "org/made", "pin": PIN, "synced": "2026-11-22T00:00:00Z",
        }  # fmt: skip


def numbered(made: list[Entry]) -> list[Entry]:
    """Return entries with ids whose natural order is not that of letters."""
    return [replace(entry, id=f"layer_{9 * n % 23}/x") for n, entry in enumerate(made)]


def both(path: Path, made: list[Entry]) -> tuple[CatalogSelection, Selection[Made]]:
    """Return the same rows in a catalogue and in memory."""
    found = numbered(made)
    with changing(path) as connection:
        rows = replace(RELEASE, entries=tuple(found))
        write(connection, Snapshot(SOURCE, PIN, "made", (rows,)), "2026-11-22T00:00:00Z")
    return CatalogSelection(path), Selection(tuple(Made(e) for e in sorted(found, key=lambda e: natural_key(e.id))))
