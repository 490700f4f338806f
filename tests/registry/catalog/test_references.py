"""Names that only a catalogue knows, and what they load."""

import json
import shutil
import socket

import pytest
import torch

import saereg
from saereg import api
from saereg.errors import NothingToValidateError, UnknownNameError, UsageError
from saereg.registry.catalog import store, writing
from saereg.registry.catalog.loading import INDEX, NOTHING
from saereg.registry.catalog.readers.inventory import snapshot as inventory
from saereg.registry.catalog.references import locate
from saereg.registry.catalog.rows import Entry, ReleaseRows, Snapshot, Source
from saereg.registry.refs import parse_reference
from tests.registry.catalog.books import put, variant
from tests.releases import tiny_release


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A release, its later version with one canonical artifact, and a yanked one, all in one catalogue."""
    root = tmp_path_factory.mktemp("catalogue")
    first = tiny_release(root, checkpoints=False)
    later = variant(first, root / "later", {"canonical": True}, version="1.10.0")
    mark = {"version": "2.0.0", "kind": "yanked", "reason": "wrong", "date": "2026-01-01"}
    yanked = variant(first, root / "yanked", version="2.0.0")
    manifest = json.loads((yanked / "manifest.json").read_text())
    (yanked / "manifest.json").write_text(json.dumps(manifest | {"withdrawn": [mark]}))
    early = variant(first, root / "early", version="1.10.0-rc.2")
    catalog = root / "catalog.sqlite"
    for folder in (later, yanked, first, early):
        put(catalog, folder)
    return {"catalog": catalog, "first": first, "later": later, "early": early, "yanked": yanked}


NAMES = [
    ("tiny-saes@1.0.0:layer_1/topk", "first", "layer_1/topk"),
    ("tiny-saes:layer_1/topk", "later", "layer_1/topk"),
    ("tiny-saes@latest:layer_1/jumprelu", "later", "layer_1/jumprelu"),
    ("tiny-saes@v1.10.0-rc.2:layer_1/topk", "early", "layer_1/topk"),
    ("tiny-saes:canonical", "later", "layer_1/topk"),
    ("tiny-saes@2.0.0:layer_1/topk", "yanked", "layer_1/topk"),
]


@pytest.mark.filterwarnings("ignore::saereg.errors.WithdrawnWarning")
@pytest.mark.parametrize(("name", "place", "artifact"), NAMES)
def test_a_name_leads_to_one_artifact(places, name, place, artifact):
    """The newest version is not the one of the largest letters, nor a pre-release, nor one that is taken back."""
    loaded = api.fetch(name, catalog=places["catalog"])

    assert loaded.path == places[place] / artifact
    assert loaded.reference == f"{places[place]}:{artifact}"
    assert loaded.compared == (INDEX if place == "first" else NOTHING)


REFUSED = [
    ("tiny-saes@3.0.0:layer_1/topk", UnknownNameError, "unknown version of tiny-saes '3.0.0'"),
    ("tiny-saes:layer_1/tpk", UnknownNameError, "did you mean 'layer_1/topk'?"),
    ("tiny-saes", UsageError, "names several artifacts: W_U/cross-snapshot-2"),
    ("tiny-saes@1.0.0:canonical", UnknownNameError, "unknown artifact 'canonical'"),
    ("tiny-seas:layer_1/topk", NothingToValidateError, "tiny-seas is not a folder"),
    ("org/repo@latest:x", UsageError, "no release of org/repo is in"),
]


@pytest.mark.parametrize(("name", "kind", "message"), REFUSED)
def test_what_a_catalogue_does_not_have_is_one_line(places, name, kind, message):
    """With what was probably meant, or what there is."""
    with pytest.raises(kind) as caught:
        api.fetch(name, catalog=places["catalog"])

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_wins_over_a_name_of_the_catalogue(places, monkeypatch, tmp_path):
    """What is on this machine is never taken for something else."""
    (tmp_path / "tiny-saes").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(NothingToValidateError, match="tiny-saes holds no manifest"):
        api.fetch("tiny-saes:layer_1/topk", catalog=places["catalog"])


def test_canonical_of_a_folder_is_the_only_pick(places, tmp_path):
    """Without any catalogue; of several picks none is taken."""
    assert saereg.open(places["later"]).named("canonical").id == "layer_1/topk"
    x = torch.arange(4.0)
    loaded = saereg.load(f"{places['later']}:canonical")
    assert torch.equal(loaded(x), saereg.load(places["later"] / "layer_1" / "topk")(x))
    with pytest.raises(UsageError, match="0 artifacts are canonical"):
        saereg.open(places["first"]).named("canonical")


def test_an_id_that_means_several_files_of_a_repository_is_refused(tmp_path):
    """As in the registry of SAELens, which has one release for each kind of place; a path always says which."""
    entries = [Entry("layer_0", path=f"{place}/layer_0") for place in ("resid_post", "mlp_out")]
    releases = tuple(ReleaseRows(f"r-{n}", repo="org/repo", entries=(entry,)) for n, entry in enumerate(entries))
    with store.changing(tmp_path / "c.sqlite") as connection:
        writing.write(connection, Snapshot(Source("saelens", "sae_lens"), "0" * 64, "sae-lens 6", releases))

    def located(text):
        return locate(tmp_path / "c.sqlite", text, parse_reference(text))

    found = located("hf://org/repo:mlp_out/layer_0")
    assert (found.release, found.path, found.reference) == ("r-1", "mlp_out/layer_0", "hf://org/repo:mlp_out/layer_0")
    assert located("r-0:layer_0").path == "resid_post/layer_0"
    assert located("hf://org/repo:layer_9") is None
    with pytest.raises(UsageError, match=r"several files of org/repo: mlp_out/layer_0, resid_post/layer_0; name one"):
        located("hf://org/repo:layer_0")


def test_a_loaded_dictionary_is_the_same_in_saelens(places):
    """SAELens' own object of it computes the same numbers, and a crosscoder is refused with the reason."""
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    dictionary = api.fetch("tiny-saes@1.0.0:layer_1/jumprelu", catalog=places["catalog"]).dictionary
    sae = dictionary.to_saelens()

    assert torch.equal(sae(x), dictionary(x))
    assert torch.equal(sae.encode(x), dictionary.encode(x))
    assert dictionary.to(dtype=torch.float64).to_saelens().dtype == torch.float64
    crosscoder = api.fetch("tiny-saes@1.0.0:W_U/cross-snapshot-2", catalog=places["catalog"]).dictionary
    with pytest.raises(saereg.errors.FormatError, match="crosscoder"):
        crosscoder.to_saelens()


def test_every_reference_of_a_row_leads_back_to_it(tmp_path):
    """Whatever its release, id and path are made of, wherever it is; what two rows share is one file."""
    odd = ["layer_0", "a b", "x:y@z", "p@3:4", "l/canonical", "ü" * 3000]
    entries = tuple(Entry(id, path=f"files/{id}" if n % 2 else None) for n, id in enumerate(odd))
    (tmp_path / "in:side").mkdir()
    places = [{"repo": "org/plain"}, {"folder": str(tmp_path / "in:side")}, {}]
    releases = [
        ReleaseRows(f"{name}-{n}", entries=entries, **place)
        for n, place in enumerate(places)
        for name in ("plain", "org/name/deep", "a@b:c", "with space")
    ]
    pinned = ReleaseRows("pinned", repo="org/pinned", revision="b" * 40, entries=entries)
    catalog = tmp_path / "c.sqlite"
    with store.changing(catalog) as connection:
        writing.write(connection, Snapshot(Source("saelens", "sae_lens"), "0" * 64, "made", tuple(releases)))
        writing.write(connection, Snapshot(Source("hub", "org/pinned"), "b" * 40, "made", (pinned,)))

    found = list(saereg.find(catalog=catalog))
    assert len(found) == (len(releases) + 1) * len(odd)
    for one in found:
        located = locate(catalog, one.reference, parse_reference(one.reference))
        assert located is not None, one.reference
        facts = (located.path, located.repo, located.folder, located.reference)
        assert facts == (*(one.fields[name] for name in ("path", "repo", "folder")), one.reference)


def test_a_revision_that_is_named_is_the_one_that_is_taken(tmp_path):
    """Also where the catalogue has several commits of an inventory of another make."""
    catalog, commits = tmp_path / "c.sqlite", ("b" * 40, "a" * 40, "c" * 40)
    with store.changing(catalog) as connection:
        for commit in commits:
            rows = ReleaseRows("x", repo="org/x", revision=commit, entries=(Entry("one"),))
            source = Source("inventory", "hf://org/x/index.json", commit)
            writing.write(connection, Snapshot(source, commit, "made", (rows,)))

    for commit in commits:
        text = f"org/x@{commit}:one"
        assert locate(catalog, text, parse_reference(text)).revision == commit


def test_of_a_release_on_the_hub_the_hub_says_what_is_there(tmp_path):
    """A catalogue that was read before the release grew refuses nothing; only `latest` asks it."""
    with store.changing(tmp_path / "c.sqlite") as connection:
        rows = ReleaseRows("x", repo="org/x", revision="a" * 40, standing="verified", entries=(Entry("one"),))
        writing.write(connection, Snapshot(Source("hub", "org/x"), "a" * 40, "made", (rows,)))

    assert locate(tmp_path / "c.sqlite", "hf://org/x:two", parse_reference("hf://org/x:two")) is None
    with pytest.raises(UnknownNameError, match="unknown artifact 'two'"):
        locate(tmp_path / "c.sqlite", "org/x@latest:two", parse_reference("org/x@latest:two"))


def test_releases_of_one_name_and_several_authors_are_refused(tmp_path):
    """Which of them is newer says nothing."""
    with store.changing(tmp_path / "c.sqlite") as connection:
        for org, version in (("one", "1.0.0"), ("two", "2.0.0")):
            rows = ReleaseRows("x", version=version, repo=f"{org}/x", revision="a" * 40, entries=(Entry("e"),))
            writing.write(connection, Snapshot(Source("hub", f"{org}/x"), "a" * 40, "made", (rows,)))

    assert locate(tmp_path / "c.sqlite", "x@1.0.0:e", parse_reference("x@1.0.0:e")).repo == "one/x"
    with pytest.raises(UsageError, match="releases in one/x, two/x: name the repository"):
        locate(tmp_path / "c.sqlite", "x:e", parse_reference("x:e"))


def test_a_file_of_an_inventory_in_a_folder_loads_by_its_reference(places, tmp_path):
    """The folder is there and holds no release of saereg; the catalogue says what its rows are."""
    folder = tmp_path / "theirs"
    shutil.copytree(places["first"] / "layer_1" / "topk", folder / "weights")
    row = {"id": "their name", "path": "weights", "layer": 1}
    (folder / "index.json").write_text(json.dumps({"saes": [row]}))
    catalog = tmp_path / "c.sqlite"
    with store.changing(catalog) as connection:
        writing.write(connection, inventory(Source("inventory", str(folder / "index.json"))))

    one = saereg.find(catalog=catalog)[0]
    loaded = api.fetch(one.reference, catalog=catalog)
    assert (one.reference, loaded.reference, loaded.compared) == (f"{folder}:weights", f"{folder}:weights", NOTHING)
    assert api.fetch(f"{folder}:their name", catalog=catalog).path == folder / "weights"
    x = torch.ones(4)
    assert torch.equal(one.load()(x), loaded.dictionary(x))


def test_a_misspelt_folder_asks_nobody(places, monkeypatch):
    """Neither the Hub nor its library is touched for what can only be a name of this machine."""
    monkeypatch.setattr(socket, "socket", None)
    for text in ("relaese/layer_0", "./relaese:layer_1/topk", "tiny-seas:layer_1/topk", "x" * 5000, f"{'x' * 5000}:y"):
        with pytest.raises((NothingToValidateError, UsageError)):
            api.fetch(text, catalog=places["catalog"])


def test_an_artifact_of_a_release_is_found_at_its_path(places, tmp_path):
    """So registries name it that know no ids."""
    moved = variant(places["first"], tmp_path / "moved", {"id": "another-name"})
    path = json.loads((moved / "manifest.json").read_text())["artifacts"][0]["path"]
    assert saereg.open(moved).named(path).id == saereg.open(moved).named("another-name").id == "another-name"


def test_the_view_of_the_latest_versions_has_what_a_name_means(places):
    """One of all folders of a release: the newest that is not taken back."""
    with store.reading(places["catalog"]) as connection:
        rows = connection.execute("SELECT name, version, folder FROM latest").fetchall()
    assert rows == [("tiny-saes", "1.10.0", str(places["later"]))]
