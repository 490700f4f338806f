"""Repositories on a hub in a catalogue: pinned to commits, asked for little, left alone offline."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, snapshot_download

from saereg.errors import NothingToValidateError, PublishError, UsageError
from saereg.publishers.local_hub import Fault, local_hub
from saereg.registry.catalog import store
from saereg.registry.catalog.listing import listed
from saereg.registry.catalog.rows import Source
from saereg.registry.catalog.sources import matching, sources_of
from saereg.registry.catalog.sync import Wishes, add, sync
from saereg.registry.withdrawal import withdraw
from saereg.schemas.manifest import Manifest
from tests.registry.catalog.test_sync import INVENTORY, MARK, one, states
from tests.releases import tiny_release

REPO = "org/saes"


def commit(api: HfApi, repo: str, **files: bytes) -> str:
    """Commit files; the last underscore of a name stands for a dot."""
    adds = [CommitOperationAdd(".".join(name.rsplit("_", 1)), content) for name, content in files.items()]
    return api.create_commit(repo, adds, commit_message="files").oid


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """The folder of a hub: a release with a tag, inventories of another make, a model."""
    root = tmp_path_factory.mktemp("hub")
    release = tiny_release(root, checkpoints=False)
    patch = pytest.MonkeyPatch()
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with local_hub(root / "stored", xet=False) as hub:
        api = HfApi(endpoint=hub.url, token="hf_x")
        for repo in (REPO, "org/inventory", "org/foreign", "org/model", "other/empty"):
            api.create_repo(repo)
        files = sorted(path for path in release.rglob("*") if path.is_file())
        adds = [CommitOperationAdd(path.relative_to(release).as_posix(), str(path)) for path in files]
        api.create_tag(REPO, tag="v1.0.0", revision=api.create_commit(REPO, adds, commit_message="release").oid)
        commit(api, "org/inventory", index_json=INVENTORY.read_bytes())
        commit(api, "org/foreign", manifest_json=INVENTORY.read_bytes())
        commit(api, "org/model", config_json=b"{}")
    patch.undo()
    return root / "stored"


@pytest.fixture
def hub(stored, tmp_path, monkeypatch):
    """A copy of the hub, for the client of this process, with a cache of its own."""
    shutil.copytree(stored, tmp_path / "stored")
    with local_hub(tmp_path / "stored", xet=False, page=2) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        yield server


@pytest.fixture
def catalog(tmp_path) -> Path:
    """Where a catalogue will be."""
    return tmp_path / "catalog.sqlite"


def asked(hub) -> list[str]:
    """Return the routes asked for since the last call."""
    found = [request.route for request in hub.requests]
    hub.requests.clear()
    return found


def writer(hub) -> HfApi:
    """Return a client that may write."""
    return HfApi(endpoint=hub.url, token="hf_x")


def test_a_repository_is_pinned_to_its_commit_and_asked_one_question_when_nothing_changed(hub, catalog):
    """Of weights only headers are fetched; with a new commit it is read again, and pinned to that."""
    add(catalog, sources_of(REPO))
    asked(hub)
    assert states(catalog) == [("read", 4, 0)]
    sent = sum(request.sent for request in hub.requests if request.path.endswith(".safetensors"))
    assert asked(hub).count("tree") >= 1
    head = writer(hub).repo_info(REPO).sha
    assert one(catalog, "SELECT pin, repo, revision, standing FROM releases") == (head, REPO, head, "verified")
    assert one(catalog, "SELECT DISTINCT reference FROM artifacts ORDER BY 1") == (
        f"{REPO}@{head}:W_U/cross-snapshot-2",
    )
    assert sent < 4 * 65536

    asked(hub)
    assert states(catalog) == [("unchanged", 4, 0)]
    assert asked(hub) == ["info"]

    new = commit(writer(hub), REPO, README_md=b"# Another card\n")
    assert [(outcome.state, outcome.pin) for outcome in sync(catalog)] == [("read", new)]


def test_a_repository_that_is_gone_or_does_not_answer_keeps_its_rows(hub, catalog):
    """Exit code 4, and the reason stands in the list."""
    add(catalog, sources_of(REPO))
    sync(catalog)
    hub.faults = [Fault("info", status=404, count=-1)]
    assert states(catalog) == [("failed", 4, 4)]
    assert f"hf://{REPO}: " in listed(catalog)[0]["problem"]
    hub.faults = []
    assert states(catalog) == [("unchanged", 4, 0)]
    assert listed(catalog)[0]["problem"] is None


def test_offline_nothing_is_asked(hub, catalog):
    """What was read stays; what was not is taken from the local cache of the client, where it is whole."""
    add(catalog, [*sources_of(REPO), *sources_of("org/inventory")])
    sync(catalog, sources_of(REPO))
    asked(hub)
    before = listed(catalog)
    assert states(catalog, offline=True) == [("left", 0, 0), ("left", 4, 0)]
    assert (asked(hub), listed(catalog)) == ([], before)

    tag = Source("hub", REPO, "v1.0.0")
    add(catalog, [tag])
    assert states(catalog, tag, offline=True) == [("left", 0, 0)]
    assert "not read yet: offline" in listed(catalog)[1]["problem"]
    assert asked(hub) == []
    snapshot_download(REPO, revision="v1.0.0")
    asked(hub)
    assert states(catalog, tag, offline=True) == [("read", 4, 0)]
    assert asked(hub) == []
    assert one(catalog, "SELECT count(DISTINCT revision) FROM release") == (1,)


def test_a_tag_whose_version_is_yanked_at_the_head_says_so(hub, catalog):
    """Tags never move: the mark is made at the head, and found though the commit of the tag is what it was."""
    source = Source("hub", REPO, "v1.0.0")
    add(catalog, [source])
    assert states(catalog) == [("read", 4, 0)]
    assert states(catalog) == [("unchanged", 4, 0)]
    pin = one(catalog, "SELECT pin FROM source")

    api = writer(hub)
    manifest = Manifest.read(Path(api.hf_hub_download(REPO, "manifest.json")))
    commit(api, REPO, manifest_json=withdraw(manifest, MARK).text().encode())
    assert states(catalog) == [("read", 4, 0)]
    assert one(catalog, "SELECT DISTINCT withdrawn FROM artifacts") == ("yanked",)
    assert one(catalog, "SELECT pin FROM source") == pin
    assert states(catalog) == [("unchanged", 4, 0)]

    commit(api, REPO, manifest_json=manifest.text().encode())
    assert states(catalog) == [("read", 4, 0)]
    assert one(catalog, "SELECT DISTINCT withdrawn FROM artifacts") == (None,)


def test_an_organization_is_its_repositories_that_hold_something(hub, catalog):
    """Page by page, by the names of their files; of which make a manifest is, is seen on reading."""
    found = sources_of("hf://org/*")
    assert asked(hub) == ["models", "models"]
    assert found == (
        Source("hub", "org/foreign"),
        Source("inventory", "hf://org/inventory/index.json"),
        Source("hub", REPO),
    )
    add(catalog, found)
    hub.faults = [Fault("info", status=403, count=-1, path="org/inventory")]
    assert [(state, code) for state, _, code in states(catalog)] == [("read", 0), ("failed", 4), ("read", 0)]
    hub.faults = []
    assert sorted(state for state, _, _ in states(catalog)) == ["read", "unchanged", "unchanged"]
    standings = {record["source"]: (record["verified"], record["foreign"]) for record in listed(catalog)}
    assert standings == {
        "hf://org/foreign": (0, 1),
        "hf://org/inventory/index.json": (0, 1),
        f"hf://{REPO}": (1, 0),
    }
    with store.reading(catalog) as connection:
        rows = dict(connection.execute("SELECT source, count(*) FROM artifacts GROUP BY 1").fetchall())
    assert rows["org/foreign"] == rows["hf://org/inventory/index.json"] > 0


@pytest.mark.parametrize(
    ("target", "kind", "problem"),
    [
        ("hf://other/*", NothingToValidateError, "no repository with a manifest.json or index.json"),
        ("hf://nobody/*", NothingToValidateError, "no repository that may be seen"),
        ("org/model", NothingToValidateError, "hf://org/model holds no manifest.json and no index.json"),
        ("org/nothing", PublishError, "no such repository, or no access to it"),
        ("hf://org/saes@v9", PublishError, "no such revision"),
    ],
)
def test_what_holds_nothing_is_not_added(hub, target, kind, problem):
    with pytest.raises(kind, match=problem.replace(".", r"\.")):
        sources_of(target)


def test_a_repository_is_one_source_however_it_is_written(hub, catalog):
    """Also one of another make; and it is found again by whatever it was added as."""
    one_way = {
        Source("inventory", "hf://org/inventory/index.json"): ("org/inventory", "hf://org/inventory/index.json"),
        Source("hub", "org/foreign"): ("org/foreign", "hf://org/foreign@main", "hf://org/foreign/manifest.json"),
        Source("hub", REPO): (REPO, f"hf://{REPO}", f"hf://{REPO}/manifest.json"),
    }
    add(catalog, [*one_way, Source("hub", f"{REPO}-2")])
    for source, targets in one_way.items():
        for target in targets:
            assert sources_of(target) == (source,)
            with store.reading(catalog) as connection:
                assert matching(connection, target) == (source,)
    with pytest.raises(UsageError, match="the Hub must be asked"):
        sources_of("hf://org/*", offline=True)


def test_a_release_with_errors_enters_as_unverified(hub, catalog):
    """With what is wrong; a manifest that does not parse enters as a problem, and what was read before stays."""
    api = writer(hub)
    text = Path(api.hf_hub_download(REPO, "manifest.json")).read_text()
    changed = json.loads(text)
    changed["artifacts"][0]["d_sae"] = 11
    commit(api, REPO, manifest_json=json.dumps(changed).encode())
    add(catalog, sources_of(REPO))
    (outcome,) = sync(catalog)
    assert (outcome.state, outcome.wrong, int(outcome.code)) == ("read", 1, 1)
    assert one(catalog, "SELECT standing FROM release") == ("unverified",)
    commit(api, REPO, manifest_json=text[:-20].encode())
    assert [(o.state, o.artifacts) for o in sync(catalog, wishes=Wishes(again=True))] == [("failed", 4)]


def test_a_revision_needs_no_release_of_saereg_at_the_head(hub, catalog):
    """Where releases are on branches of their own, or the documents are of another make, nothing is marked there."""
    api = writer(hub)
    api.create_branch(REPO, branch="r1")
    api.delete_files(REPO, ["manifest.json", "index.json"], commit_message="moved to r1")
    api.create_branch("org/foreign", branch="r1")
    sources = [Source("hub", REPO, "r1"), Source("hub", "org/foreign", "r1")]
    add(catalog, sources)

    assert {(outcome.state, outcome.problem) for outcome in sync(catalog)} == {("read", None)}
    assert states(catalog) == [("unchanged", *state[1:]) for state in states(catalog, again=True)]
    assert one(catalog, "SELECT count(*) FROM release WHERE standing = 'verified'") == (1,)
