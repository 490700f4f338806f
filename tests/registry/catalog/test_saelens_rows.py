"""SAELens' registry in a catalogue: what it states, what its names say, and nothing more."""

import pytest

from saereg.registry.catalog import store, writing
from saereg.registry.catalog.readers import saelens
from saereg.registry.catalog.rows import Assumed, Metric, Source
from saereg.registry.federation.places import FILE
from tests.cases.planted.federation import HEAD, SCOPE, WHOLE, row


@pytest.fixture
def rows(tmp_path):
    """Read a text as a registry, and return its snapshot."""

    def read(text: str):
        path = tmp_path / FILE
        path.write_text(text)
        return saelens.snapshot(Source("saelens", str(path)))

    return read


def test_what_is_stated_has_no_definition(rows):
    """A number is stated under the name of the registry; the model is what it says."""
    (release,) = rows(HEAD + WHOLE).releases
    (entry,) = release.entries

    assert (release.name, release.repo, release.standing, release.loader) == (
        "gpt2-res", "someone/gpt2-res", "foreign", "sae_lens",
    )  # fmt: skip
    assert (entry.id, entry.path, entry.model, entry.neuronpedia_id) == (
        "blocks.8.hook_resid_pre", None, "gpt2-small", "gpt2-small/8-res-xy",
    )  # fmt: skip
    assert entry.metrics == (
        Metric("stated", None, "l0", 65.0),
        Metric("stated", None, "variance_explained", 0.976),
    )


def test_what_is_read_from_a_name_is_assumed(rows):
    """With the name that it was read from; a width of 16k is the power of two that it rounds."""
    path = "layer_3/width_16k/average_l0_59"
    (release,) = rows(SCOPE + row("layer_3/width_16k/canonical", path)).releases
    (entry,) = release.entries
    name = "layer_3/width_16k/canonical"

    assert (entry.layer, entry.d_sae, entry.canonical, entry.kind, entry.path) == (3, 16_384, True, "sae", path)
    assert entry.assumptions == (
        Assumed("layer", "3", f"id: {name}"),
        Assumed("d_sae", "16384", f"id: {name}"),
        Assumed("canonical", "True", f"id: {name}"),
        Assumed("kind", "sae", "conversion_func: gemma_2"),
    )


def test_absent_stays_absent(rows):
    """No number, no kind, no layer where nothing says them."""
    (release,) = rows(HEAD + "  - {id: a, path: b.pt}\n").releases
    (entry,) = release.entries

    assert entry.metrics == ()
    assert entry.assumptions == ()
    assert (entry.kind, entry.layer, entry.d_sae, entry.hook_name, entry.neuronpedia_id) == (None,) * 5


def test_where_id_and_path_contradict_each_other_nothing_is_assumed(rows):
    """Neither of two layers; what only one of them says still stands."""
    (release,) = rows(SCOPE + row("layer_3", "layer_4/width_16k")).releases
    (entry,) = release.entries

    assert (entry.layer, entry.d_sae) == (None, 16_384)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("transcoder_all/layer_0_width_16k_l0_big", "transcoder"),
        ("resid_post/layer_0_width_16k_l0_big", "sae"),
        ("crosscoder/layers", "crosscoder"),
        ("clt/width_262k/layer_1", "transcoder"),
        ("layer_0_width_16k_l0_big", None),
    ],
)
def test_a_loader_of_several_kinds_leaves_it_to_the_names(rows, path, kind):
    """Gemma Scope 2 has all of them; without a word of one it stays open."""
    (release,) = rows(SCOPE.replace("gemma_2", "gemma_3") + row("a", path)).releases

    assert release.entries[0].kind == kind


def test_a_second_name_of_a_file_is_an_alias(rows):
    """In one release; in another release it is a row of its own."""
    text = HEAD + row("first", "same") + row("second", "same") + SCOPE + row("first", "same")
    one, two = rows(text).releases

    assert [entry.id for entry in one.entries] == ["first"]
    assert one.aliases == (("second", "first"),)
    assert [entry.id for entry in two.entries] == ["first"]


def test_of_two_rows_of_one_id_the_last_counts(rows):
    """As SAELens takes it."""
    (release,) = rows(HEAD + row("a", "one") + row("a", "two")).releases

    assert [(entry.id, entry.path) for entry in release.entries] == [("a", "two")]


def test_a_nested_release_is_found_and_says_what_it_is(rows):
    """Its SAEs are visible, under the name of the row that hid them."""
    nested = "    model: gpt2-small\n    repo_id: someone/gpt2-res\n    saes:\n    - {id: x, path: y}\n"
    _, inner = rows(HEAD + WHOLE + nested).releases

    assert inner.name == "gpt2-res/blocks.8.hook_resid_pre"
    assert [entry.id for entry in inner.entries] == ["x"]
    assert [(f.code, f.line) for f in inner.findings] == [("SR704", 6)]


@pytest.mark.slow
def test_the_installed_registry_enters_a_catalogue_whole(tmp_path):
    """Every row, alias and number; its pin is that of its digest."""
    snapshot = saelens.snapshot()
    catalog = tmp_path / "catalog.sqlite"
    with store.changing(catalog) as connection:
        writing.write(connection, snapshot)
    entries = [entry for release in snapshot.releases for entry in release.entries]

    assert snapshot.pin == saelens.pin()
    assert snapshot.tool.startswith("sae-lens ")
    assert len({release.name for release in snapshot.releases}) == len(snapshot.releases)
    assert all(metric.metric is None and metric.basis == "stated" for entry in entries for metric in entry.metrics)
    with store.reading(catalog) as connection:
        count = lambda query: connection.execute(query).fetchone()[0]  # noqa: E731
        assert count("SELECT count(*) FROM artifacts") == len(entries)
        assert count("SELECT count(*) FROM artifacts WHERE ev IS NOT NULL") == sum(
            metric.name == "variance_explained" for entry in entries for metric in entry.metrics
        )
        assert count("SELECT count(*) FROM artifacts WHERE ev = 1.0") == 0
        assert count("SELECT count(*) FROM artifacts WHERE l0 = 0.0") == 0
        assert count("SELECT count(*) FROM finding WHERE code = 'SR704'") == 1


def test_a_number_that_no_dictionary_has_is_no_width(rows):
    """A name is text of others: its digits may be without end."""
    for digits in ("9" * 12, "9" * 40, "9" * 400):
        (release,) = rows(SCOPE + row(f"layer_3/width_{digits}", "p")).releases
        assert (release.entries[0].layer, release.entries[0].d_sae) == (3, None)
