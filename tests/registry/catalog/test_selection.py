"""Artifacts of a catalogue: order, groups, frontiers, tables; as those in memory, and without reading too much."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saereg
from saereg.errors import UnknownNameError, UsageError
from saereg.registry.catalog import frontier, selection
from saereg.registry.catalog.rows import Assumed, Entry, Metric, Snapshot, Source
from saereg.registry.catalog.selection import CatalogSelection
from saereg.registry.catalog.store import changing
from saereg.registry.catalog.writing import write
from saereg.registry.conditions.fields import FIELDS, KINDS
from tests.registry.catalog.books import put
from tests.registry.catalog.made import PIN, RELEASE, SOURCE, both, entries
from tests.releases import tiny_release

ONLY_A_CATALOGUE_KNOWS = {"reference", "standing", "loader", "source_kind", "source", "pin", "synced"}

sorted_by = st.lists(
    st.sampled_from(("l0", "-l0", "-ev", "kind", "-kind", "layer", "-canonical", "model", "fvu", "k", "-seed")),
    max_size=3,
)
grouped_by = st.lists(st.sampled_from(("kind", "layer", "canonical", "steps", "model", "k")), min_size=1, max_size=2)
aims = st.tuples(st.sampled_from(("l0", "+l0", "-layer")), st.sampled_from(("ev", "-ev", "fvu", "+k")))


def point(name: str, l0: float | None, ev: float | None, basis: str = "measured", **more) -> Entry:
    """Return an artifact with two numbers."""
    several = (("l0", l0), ("explained_variance", ev))
    metrics = tuple(Metric(basis, metric, metric, value) for metric, value in several if value is not None)
    return Entry(name, metrics=metrics, **more)


POINTS = [
    point("a", 10, 0.5, layer=1), point("b", 20, 0.7, layer=1, withdrawn="yanked"), point("b2", 20, 0.7, layer=2),
    point("worse", 20, 0.6, layer=2), point("wider", 25, 0.7, layer=None), point("c", 300, 0.9, "stated", layer=2),
    point("no ev", 1, None), point("no l0", None, 0.99), point("tens 10", 400, 0.1), point("tens 9", 400, 0.1),
]  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """The points in a catalogue."""
    path = tmp_path_factory.mktemp("points") / "catalog.sqlite"
    with changing(path) as connection:
        write(connection, Snapshot(SOURCE, PIN, "made", (replace(RELEASE, entries=tuple(POINTS)),)))
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny release, and a catalogue that holds it."""
    place = tmp_path_factory.mktemp("tiny")
    release = tiny_release(place)
    put(place / "catalog.sqlite", release)
    return release, place / "catalog.sqlite"


def ids(found) -> list[str]:
    """Return what was found, in order."""
    return [artifact.id for artifact in found]


@settings(max_examples=25, deadline=None)
@given(made=st.lists(entries, min_size=1, max_size=9), fields=sorted_by, groups=grouped_by, aims=aims,
       basis=st.sampled_from((None, "measured", "stated")))  # fmt: skip
def test_order_groups_and_frontier_are_those_of_memory(tmp_path_factory, made, fields, groups, aims, basis):
    """Whatever the rows and whatever is asked."""
    stored, held = (found.of(basis) for found in both(tmp_path_factory.mktemp("as") / "catalog.sqlite", made))

    assert ids(stored.sort(*fields)) == ids(held.sort(*fields))
    assert stored.group(*groups).count() == held.group(*groups).count()
    assert list(stored.group(*groups)) == list(held.group(*groups))
    for key, some in held.group(*groups).items():
        assert ids(stored.group(*groups)[key]) == ids(some)
    assert ids(stored.frontier(*aims)) == ids(held.frontier(*aims))
    keys = [key for key in FIELDS if key != "synced"]
    assert list(stored.rows(keys)) == list(held.rows(keys))


@settings(max_examples=15, deadline=None)
@given(
    points=st.lists(
        st.tuples(*[st.sampled_from((None, 1.0, 2.0, 3.0, 4.0))] * 2, st.sampled_from(("measured", "stated"))),
        max_size=25,
    )
)
def test_the_walk_along_the_index_finds_what_looking_at_all_finds(tmp_path_factory, points):
    """Also with conditions on other columns, of which the index knows nothing."""
    made = [point("?", *some, layer=n % 2) for n, some in enumerate(points)]
    stored, held = both(tmp_path_factory.mktemp("walk") / "catalog.sqlite", made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontier, "FEW", 0)
        for basis in (None, "measured"):
            for text in ("l0 < 4", "layer = 1", "not ev > 3"):
                expected = held.of(basis).where(text).frontier("l0", "ev")
                assert ids(stored.of(basis).where(text).frontier("l0", "ev")) == ids(expected)


def test_the_tiny_release_is_the_same_in_both(tiny):
    """Every field that an open release has; what only a catalogue knows is absent in it."""
    release, catalog = tiny
    opened, stored = saereg.find(release), saereg.find(catalog=catalog)
    order = sorted(range(len(opened)), key=lambda n: opened[n].id)

    shared = [name for name in FIELDS if name not in ONLY_A_CATALOGUE_KNOWS]
    rows = list(opened.rows(shared))
    assert list(stored.rows(shared)) == [rows[n] for n in order]
    for text in (
        "l0 > 3 and kind = sae",
        "ev < -4",
        "k is absent",
        "steps contains 1000",
        "model = MODEL",
        "not canonical",
    ):
        assert sorted(ids(stored.where(text))) == sorted(ids(opened.where(text)))
    assert stored.best("ev").id == opened.best("ev").id
    assert stored[0].reference == f"{release}:{stored[0].id}"


def test_the_default_order_is_natural(catalog):
    """By release, and in it as people count; sorting keeps it among equals."""
    found = CatalogSelection(catalog)

    assert ids(found) == ["a", "b", "b2", "c", "no ev", "no l0", "tens 9", "tens 10", "wider", "worse"]
    assert ids(found.sort("-l0"))[:3] == ["tens 9", "tens 10", "c"]
    assert ids(found.sort("l0"))[-1] == ids(found.sort("-l0"))[-1] == "no l0"


def test_a_frontier_has_equal_points_and_none_that_is_beaten(catalog):
    """The best of the first field first; those without a value are on no frontier."""
    found = CatalogSelection(catalog)

    assert ids(found.frontier("l0", "ev")) == ["a", "b", "b2", "c"]
    assert ids(found.frontier("ev", "l0")) == ["c", "b", "b2", "a"]
    assert ids(found.frontier()) == ids(found.frontier("l0", "explained_variance"))
    assert found.best().id == found.best("explained_variance").id
    assert ids(found.frontier("+l0", "ev")) == ["tens 9", "tens 10", "c"]
    assert ids(found.find(basis="measured").frontier("l0", "ev")) == ["a", "b", "b2"]
    with pytest.raises(UsageError, match=r"whether small values of layer are good ones: write -layer or \+layer"):
        found.frontier("layer", "ev")
    with pytest.raises(UsageError, match=r"kind is no number"):
        found.frontier("kind", "ev")


def test_withdrawn_ones_are_found_unless_they_are_left_out(catalog):
    """They are marked."""
    found = CatalogSelection(catalog)

    assert "b" in ids(found.find(layer=1))
    assert ids(found.find(layer=1, withdrawn=None)) == ["a"]
    assert found.find(id="b")[0].fields["withdrawn"] == "yanked"


def test_a_number_is_taken_by_its_basis(catalog):
    """Stated ones stand in, and are found under their own name."""
    found = CatalogSelection(catalog)

    assert found.find(id="c")[0].fields["l0_basis"] == "stated"
    assert ids(found.where("ev >= 0.9")) == ["c", "no l0"]
    assert ids(found.find(basis="measured").where("ev >= 0.9")) == ["no l0"]
    assert ids(found.find(basis="stated", ev__ge=0)) == ["c"]
    assert ids(found.where("ev >= 0.9").find(basis="measured", l0__ne=None)) == []
    with pytest.raises(UsageError, match=r"^basis 'guessed': expected measured or stated$"):
        found.find(basis="guessed")
    with pytest.raises(UsageError, match=r"^no artifact of the 10 selected has a stated fvu$"):
        found.find(basis="stated").best("fvu")


def test_groups_are_selections_with_their_counts(catalog):
    """One that has no value is a group of its own, the last one."""
    groups = CatalogSelection(catalog).group("layer")

    assert groups.count() == {1: 2, 2: 3, None: 5}
    assert groups[2].best("ev").id == "c"
    assert list(CatalogSelection(catalog).group("layer", "withdrawn")) == [
        (1, "yanked"),
        (1, None),
        (2, None),
        (None, None),
    ]
    with pytest.raises(KeyError):
        groups[7]


def test_a_row_says_where_it_comes_from(tmp_path):
    """Kind, place, commit and time of its source; its numbers and what was assumed."""
    entry = replace(point("x", 3, 0.5), assumptions=(Assumed("layer", "6", "id: layer_6"),))
    with changing(tmp_path / "catalog.sqlite") as connection:
        write(connection, Snapshot(SOURCE, PIN, "made", (replace(RELEASE, entries=(entry,)),)), "2026-11-22T01:02:03Z")
    one = saereg.find(catalog=tmp_path / "catalog.sqlite")[0]

    assert (one.reference, one.source) == (f"org/made@{PIN}:x", ("hub", "org/made", PIN, "2026-11-22T01:02:03Z"))
    assert [m.name for m in one.metrics] == ["l0", "explained_variance"]
    assert one.assumptions == entry.assumptions
    assert one.fields_by("stated")["l0"] is None


def test_a_row_that_was_replaced_says_so(tmp_path):
    """Its key may be that of another one by now."""
    path = tmp_path / "catalog.sqlite"
    _, _ = both(path, [Entry("?")])
    one = saereg.find(catalog=path)[0]
    with changing(path) as connection:
        write(connection, Snapshot(SOURCE, "b" * 40, "made", (RELEASE,)))

    with pytest.raises(UsageError, match="has another state of it by now; ask again"):
        _ = one.metrics


def test_a_change_while_rows_are_read_is_no_mixture(tmp_path, monkeypatch):
    """Half of one state and half of another would be rows of nothing."""
    monkeypatch.setattr(selection, "BATCH", 2)
    stored, _ = both(tmp_path / "catalog.sqlite", [Entry("?")] * 4)
    reading = iter(stored)
    next(reading)
    with changing(tmp_path / "catalog.sqlite") as connection:
        write(connection, Snapshot(Source("hub", "org/other"), PIN, "made", ()))

    with pytest.raises(UsageError, match="was changed while it was read; ask again"):
        list(reading)


def test_places_are_those_of_a_list(catalog):
    """Counted from the end too, and several at once."""
    found, listed = CatalogSelection(catalog), ids(CatalogSelection(catalog))

    assert (found[0].id, found[-1].id, found[9].id) == (listed[0], listed[-1], listed[9])
    for some in (slice(2), slice(3, 5), slice(-2, None), slice(None, None, 3), slice(None, None, -1), slice(5, 2)):
        assert ids(found[some]) == listed[some]
    for beyond in (10, -11):
        with pytest.raises(IndexError):
            found[beyond]


def test_counting_reads_no_rows(catalog, monkeypatch):
    """It is one question, and so is the first of many."""
    monkeypatch.setattr(selection, "_fetched", None)

    assert len(CatalogSelection(catalog).find(l0__lt=100)) == 6
    assert CatalogSelection(catalog).group("layer").count()[1] == 2


def test_values_of_users_are_never_part_of_a_statement(catalog):
    """Whatever stands in a condition is a parameter."""
    found = CatalogSelection(catalog)
    for text in ("'; DROP TABLE artifact; --", '" OR 1=1', "x' OR 'a'='a"):
        asked = found.find(id=text, kind__in=[text], variant__like=text, model=text, site__contains=text)
        assert text not in asked._where.text
        assert len(asked) == 0
    with pytest.raises(UnknownNameError):
        found.find(**{"id; DROP TABLE artifact": 1})
    assert len(found) == 10


def test_tables_have_the_same_columns_and_values_in_all_libraries(tiny):
    """Typed: a whole number that is absent does not turn its column into floats, and steps are lists."""
    found = saereg.find(catalog=tiny[1])
    arrow, polars, pandas = found.to_arrow(), found.to_polars(), found.to_pandas()

    assert arrow.column_names == polars.columns == list(pandas.columns) == list(FIELDS)
    rows = [{n: list(v) if isinstance(v, tuple) else v for n, v in row.items()} for row in found.to_dicts()]
    assert arrow.to_pylist() == polars.to_dicts() == rows
    for row, expected in zip(pandas.to_dict("records"), rows, strict=True):
        assert {n: None if expected[n] is None else v for n, v in row.items()} == expected
    assert {str(pandas[n].dtype) for n, kind in KINDS.items() if kind == "whole"} == {"Int64"}
    assert str(pandas["canonical"].dtype) == "boolean"
    assert pandas["layer"].isna().sum() == 1
    empty = saereg.find(catalog=tiny[1], kind="none")
    assert empty.to_arrow().schema == arrow.schema
    assert empty.to_polars().schema == polars.schema
    assert (empty.to_pandas().dtypes == pandas.dtypes).all()
    assert saereg.find(tiny[0]).to_arrow().schema == arrow.schema


def test_a_row_is_loaded_by_its_reference(tiny):
    """From the folder of its release, compared with its index."""
    assert saereg.find(catalog=tiny[1], id="layer_1/topk")[0].load().semantics is not None


def test_without_a_catalogue_it_is_said_how_to_make_one(tmp_path, monkeypatch):
    """And nothing is made by asking."""
    monkeypatch.setenv("SAEREG_CATALOG", str(tmp_path / "none.sqlite"))
    with pytest.raises(UsageError, match=r"none\.sqlite: there is no catalogue yet; saereg registry add makes one$"):
        len(saereg.find(kind="sae"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"^name releases or a catalogue, not both$"):
        saereg.find(tmp_path, catalog=tmp_path)
