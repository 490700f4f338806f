"""Sources from what users type to rows of a catalogue, and what happens when they are read again."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from saereg.cli import run
from saereg.errors import ExitCode, NothingToValidateError, SaeregError, UsageError
from saereg.registry.catalog import store, writing
from saereg.registry.catalog.listing import listed
from saereg.registry.catalog.reading import reader_of
from saereg.registry.catalog.rows import Entry, Metric, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.sources import matching, name_of, sources_of
from saereg.registry.catalog.sync import Wishes, add, remove, sync, worst
from saereg.registry.withdrawal import withdraw
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal
from tests.releases import tiny_release

INVENTORY = Path(__file__).parent.parent / "foreign" / "data" / "trajectory" / "index.json"
MARK = Withdrawal(version="1.0.0", kind="yanked", date="2026-01-02", reason="its numbers are wrong")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A built release; read only."""
    return tiny_release(tmp_path_factory.mktemp("made"), checkpoints=False)


@pytest.fixture
def release(made, tmp_path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "release"))


@pytest.fixture
def catalog(tmp_path) -> Path:
    """Where a catalogue will be."""
    return tmp_path / "catalog.sqlite"


def one(catalog: Path, query: str) -> tuple:
    """Return the first row of a query."""
    with store.reading(catalog) as connection:
        return connection.execute(query).fetchone()


def states(catalog: Path, *sources: Source, **wishes: bool) -> list[tuple]:
    """Sync and return (state, artifacts, exit code) of each source."""
    outcomes = sync(catalog, sources or None, Wishes(**wishes))
    return [(outcome.state, outcome.artifacts, int(outcome.code)) for outcome in outcomes]


def edited(release: Path, **facts: str) -> None:
    """Change what the manifest says of the release."""
    manifest = json.loads((release / "manifest.json").read_text())
    manifest["release"] |= facts
    (release / "manifest.json").write_text(json.dumps(manifest))


def test_a_folder_is_read_once_and_again_when_its_documents_change(release, catalog):
    """Or with `again`; the digest and the time say of what state the rows are."""
    add(catalog, sources_of(str(release)))
    assert states(catalog) == [("read", 4, 0)]
    assert one(catalog, "SELECT standing, level, version, findings FROM releases")[:3] == (
        "verified",
        "header",
        "1.0.0",
    )
    assert states(catalog) == [("unchanged", 4, 0)]
    assert states(catalog, again=True) == [("read", 4, 0)]

    edited(release, title="Another title")
    (outcome,) = sync(catalog)
    assert (outcome.state, outcome.code) == ("read", ExitCode.FINDINGS)  # its index is of another manifest now
    assert one(catalog, "SELECT standing, title FROM releases") == ("unverified", "Another title")
    assert one(catalog, "SELECT count(*) FROM finding WHERE severity = 'error'")[0] > 0
    assert states(catalog) == [("unchanged", 4, 1)]


def test_rows_of_an_earlier_saereg_are_read_again(release, catalog):
    add(catalog, sources_of(str(release)))
    sync(catalog)
    with store.changing(catalog) as connection:
        connection.execute("UPDATE source SET tool = 'saereg 0.0.1'")
    assert states(catalog) == [("read", 4, 0)]


def test_what_cannot_be_read_keeps_its_rows_and_the_problem(release, catalog):
    """A manifest that does not parse, an index that does not, no folder at all: and everything back again."""
    (source,) = sources_of(str(release))
    add(catalog, [source])
    sync(catalog)
    text, index = (release / "manifest.json").read_text(), (release / "index.json").read_text()

    (release / "manifest.json").write_text(text[:100])
    assert states(catalog) == [("failed", 4, 2)]
    assert str(release / "manifest.json") in one(catalog, "SELECT problem FROM source")[0]
    away = release.rename(release.with_name("away"))
    assert states(catalog) == [("failed", 4, 5)]
    assert one(catalog, "SELECT count(*) FROM artifacts") == (4,)

    away.rename(release)
    (release / "manifest.json").write_text(text)
    assert states(catalog) == [("unchanged", 4, 0)]
    assert one(catalog, "SELECT problem FROM source") == (None,)
    (release / "index.json").write_text(index[:100])
    assert states(catalog) == [("read", 4, 1)]
    assert one(catalog, "SELECT standing FROM release") == ("unverified",)


def test_a_manifest_that_never_parsed_is_a_source_with_a_problem(release, catalog):
    (release / "manifest.json").write_text('{"schema_version": "1.0", ')
    add(catalog, sources_of(str(release)))
    assert states(catalog) == [("failed", 0, 2)]
    (record,) = listed(catalog)
    assert (record["pin"], record["releases"]) == (None, 0)
    assert "manifest.json" in record["problem"]


def test_one_source_that_fails_stops_no_other(release, catalog, tmp_path):
    """Each is told when it is done, and the worst code is that of the whole."""
    other = Path(shutil.copytree(release, tmp_path / "other"))
    add(catalog, [*sources_of(str(release)), *sources_of(str(other))])
    shutil.rmtree(release)
    told = []
    outcomes = sync(catalog, told=told.append)
    assert [outcome.state for outcome in told] == ["failed", "read"]
    assert worst([outcome.code for outcome in outcomes]) == ExitCode.NOTHING_TO_VALIDATE
    assert worst([]) == ExitCode.CLEAN


def test_a_sync_that_was_stopped_goes_on_with_those_that_were_not_asked(release, catalog, tmp_path):
    """What was done is kept, since each source is a transaction of its own; the next run begins with the others."""
    folders = [Path(shutil.copytree(release, tmp_path / name)) for name in "abc"]
    add(catalog, [source for folder in folders for source in sources_of(str(folder))])

    def stop(outcome):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(catalog, told=stop)
    assert one(catalog, "SELECT count(pin) FROM source") == (1,)
    outcomes = sync(catalog)
    assert [(Path(o.source.locator).name, o.state) for o in outcomes] == [
        ("b", "read"),
        ("c", "read"),
        ("a", "unchanged"),
    ]


def test_rows_that_were_read_later_are_not_replaced_by_earlier_ones(release, catalog, monkeypatch):
    """Another process may read the same source meanwhile, or remove it: its word is the last."""
    (source,) = sources_of(str(release))
    add(catalog, [source])
    sync(catalog)
    with store.changing(catalog) as connection:
        connection.execute("UPDATE source SET synced = '2999-01-01T00:00:00Z'")
    assert states(catalog, again=True) == [("overtaken", 4, 0)]

    read = reader_of("folder").snapshot
    monkeypatch.setattr(
        "saereg.registry.catalog.readers.release.read_folder",
        lambda source: (_removed(catalog, source), read(source))[1],
    )
    assert states(catalog, again=True) == [("overtaken", 0, 0)]
    assert listed(catalog) == []


def _removed(catalog: Path, source: Source) -> None:
    with store.changing(catalog) as connection:
        writing.remove_source(connection, source)


def test_a_folder_that_changes_while_it_is_read_is_of_one_state_or_none(release, monkeypatch):
    """It is read again; where it never rests, that is the problem."""
    from saereg.registry.catalog.readers import release as reader

    index, left = reader._index, [1]

    def restless(place):
        if left:
            edited(release, title=f"Title {left.pop()}")
        return index(place)

    monkeypatch.setattr(reader, "_index", restless)
    (source,) = sources_of(str(release))
    assert reader.read_folder(source).releases[0].title == "Title 1"
    left += range(2, 6)
    with pytest.raises(UsageError, match="changes while it is read"):
        reader.read_folder(source)


def test_a_release_that_is_yanked_says_so(release, catalog):
    manifest = Manifest.read(release / "manifest.json")
    (release / "manifest.json").write_text(withdraw(manifest, MARK).text())
    add(catalog, sources_of(str(release)))
    sync(catalog)
    assert one(catalog, "SELECT withdrawn FROM release") == ("yanked",)
    assert one(catalog, "SELECT DISTINCT withdrawn FROM artifacts") == ("yanked",)


TWO = """
import sys
from pathlib import Path
from saereg.cli import run
sys.exit(run(["registry", "add", "--catalog", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_two_processes_that_sync_at_once_lose_nothing(release, catalog, tmp_path):
    """Each its own release, and both the same one."""
    own = {name: shutil.copytree(release, tmp_path / name) for name in "ab"}
    words = [[sys.executable, "-c", TWO, catalog, own[name], release] for name in "ab"]
    children = [subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for line in words]
    assert [child.wait(60) for child in children] == [0, 0]
    found = {(Path(record["locator"]).name, record["artifacts"], record["problem"]) for record in listed(catalog)}
    assert found == {("a", 4, None), ("b", 4, None), ("release", 4, None)}


def test_what_a_folder_or_file_is_is_seen_by_what_is_in_it(release, tmp_path, monkeypatch):
    """A release of ours by its folder or its documents; of another make by its file; a name alone says nothing."""
    monkeypatch.chdir(tmp_path)
    ours = (Source("folder", str(release)),)
    assert sources_of("release") == sources_of(str(release / "manifest.json")) == ours
    assert sources_of("release/index.json") == sources_of("./release/") == ours

    (tmp_path / "foreign").mkdir()
    foreign = Path(shutil.copy(INVENTORY, tmp_path / "foreign" / "index.json"))
    for target in ("foreign", "foreign/index.json"):
        assert sources_of(target) == (Source("inventory", str(foreign)),)

    (tmp_path / "sae_lens").mkdir()
    assert sources_of("saelens") == (Source("saelens", "sae_lens"),)
    with pytest.raises(NothingToValidateError, match=r"holds no manifest\.json and no index\.json"):
        sources_of("sae_lens")  # the folder of that name
    with pytest.raises(NothingToValidateError, match=r"there is one in .*release"):
        sources_of(str(tmp_path))


def test_what_is_on_the_hub_is_seen_by_its_name():
    """Offline nobody is asked; `main` is no other revision than none."""
    for target in ("org/repo", "hf://org/repo", "hf://org/repo@main"):
        assert sources_of(target, offline=True) == (Source("hub", "org/repo"),)
    assert sources_of("org/repo@refs/pr/1", offline=True) == (Source("hub", "org/repo", "refs/pr/1"),)
    assert sources_of("hf://org/repo@v1/sub/index.json") == (Source("inventory", "hf://org/repo/sub/index.json", "v1"),)
    for source in (*sources_of("org/repo@v1", offline=True), Source("inventory", "hf://org/repo/sub/index.json", "v1")):
        assert sources_of(name_of(source), offline=True) == (source,)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("", "there is no ''; a catalogue takes a release folder"),
        ("relaese", "there is no relaese; did you mean release?"),
        ("sealens", "did you mean saelens?"),
        ("https://huggingface.co/org/repo", "a catalogue takes"),
        ("hf://org", "a catalogue takes"),
        ("hf://org/repo:layer_1/topk", "a catalogue takes"),
        ("notes.txt", "is no JSON file; a catalogue takes"),
        ("x" * 300, "a catalogue takes"),
        ("nul\0byte", "a catalogue takes"),
    ],
)
def test_anything_else_is_one_line_that_says_what_is_taken(release, tmp_path, monkeypatch, target, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SaeregError) as caught:
        sources_of(target)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_of_a_catalogue_is_named_as_it_was_added_or_is_listed(catalog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub = [Source("hub", "org/a"), Source("hub", "org/a", "v1"), Source("inventory", "hf://org/b/index.json")]
    local = [Source("folder", str(tmp_path / "r")), Source("inventory", str(tmp_path / "i" / "index.json"))]
    add(catalog, [*hub, *local, Source("saelens", "sae_lens")])
    with store.reading(catalog) as connection:

        def found(target):
            return list(matching(connection, target))

        assert found("org/a") == found("hf://org/a") == hub[:2]
        assert found("org/a@v1") == found("hf://org/a@v1") == [hub[1]]
        assert found("hf://org/a@main") == [hub[0]]
        assert found("hf://org/*") == hub
        assert found("hf://org/b/index.json") == [hub[2]]
        assert found("r") == found(str(tmp_path / "r")) == [local[0]]
        assert found("i") == found("i/index.json") == [local[1]]
        assert found("saelens") == [Source("saelens", "sae_lens")]
        with pytest.raises(UsageError, match=r"no source of this catalogue; did you mean .*org/b/index.json"):
            found("hf://org/c/index.json")


def saereg(capsys, *words: object) -> tuple[int, str, str]:
    """Run the command line in this process."""
    code = run(["registry", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_commands_tell_what_they_did_and_what_is_next(release, catalog, tmp_path, capsys, monkeypatch):
    """Data on stdout, a line a source on stderr."""
    monkeypatch.setenv("SAEREG_CATALOG", str(catalog))
    foreign = shutil.copy(INVENTORY, tmp_path / "index.json")
    code, out, err = saereg(capsys, "add", release, foreign, tmp_path / "none")
    assert (code, out.startswith("2 sources (2 read), ")) == (2, True)
    assert "error: there is no" in err
    assert f"{release}: read at " in err
    assert err.endswith("next: saereg ls\n")

    code, out, err = saereg(capsys, "list")
    assert (code, err) == (0, f"2 sources in {catalog}\nnext: saereg registry sync\n")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        [str(release), "folder"],
        [str(foreign), "inventory"],
    ]
    records = json.loads(saereg(capsys, "list", "--format", "json")[1])
    assert [(r["verified"], r["foreign"]) for r in records] == [(1, 0), (0, 1)]

    assert saereg(capsys, "sync")[:2] == (0, f"2 sources (2 unchanged), {4 + records[1]['artifacts']} artifacts\n")
    shutil.rmtree(release)
    code, out, err = saereg(capsys, "sync", release)
    assert (code, out) == (5, "1 source (1 failed), 4 artifacts\n")
    assert "(its 4 artifacts of before stay)\nnext: saereg registry list\n" in err
    assert saereg(capsys, "remove", release)[:2] == (0, f"removed {release}\n")
    assert saereg(capsys, "remove", release)[0] == 2


def test_a_catalogue_that_is_gone_comes_back_from_its_list(release, catalog, capsys):
    """`sync` makes it, as the refusal of a damaged one says; a list that is none is one line."""
    options = ("--catalog", catalog)
    saereg(capsys, "add", release, *options)
    catalog.write_bytes(b"damaged" * 1000)
    code, _, err = saereg(capsys, "sync", *options)
    assert code == 2
    assert f"move it away, and saereg registry sync --catalog {catalog} makes it anew" in err
    os.remove(catalog)
    assert saereg(capsys, "sync", *options)[:2] == (0, "1 source (1 read), 4 artifacts\n")

    os.remove(catalog)
    store.list_of(catalog).write_text("[]")
    code, _, err = saereg(capsys, "sync", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert not catalog.exists() or catalog.stat().st_size == 0
    store.list_of(catalog).unlink()
    assert saereg(capsys, "sync", *options)[2].startswith(f"error: {catalog}: there is no catalogue yet")


REVISIONS = ("", "maintenance", "domain-v1", "v1.0.0")


@pytest.mark.parametrize("name", ["org/saes", "hf://org/saes"])
def test_a_repository_is_meant_with_all_of_its_revisions_or_the_one_that_is_named(catalog, name):
    """Also where a revision has the name of the default branch in its own."""
    add(catalog, [Source("hub", "org/saes", revision) for revision in REVISIONS])
    with store.reading(catalog) as connection:
        assert [source.revision for source in matching(connection, "hf://org/saes")] == [*REVISIONS]
        for revision in REVISIONS[1:]:
            assert [source.revision for source in matching(connection, f"{name}@{revision}")] == [revision]
        assert [source.revision for source in matching(connection, f"{name}@main")] == [""]
        with pytest.raises(UsageError):
            matching(connection, f"{name}@main-v2")


NOT_HELD = [{"layer": 2**70}, {"id": "\ud800"}, {"metrics": (Metric("stated", None, "x", nan),)}]


@pytest.mark.parametrize("value", NOT_HELD)
def test_a_value_that_cannot_be_held_fails_its_source_alone(release, catalog, monkeypatch, value):
    """What was there stays, the next source is read, and the list says why."""
    bad = Source("inventory", "/nowhere/index.json")
    rows = ReleaseRows("bad", entries=(replace(Entry("one"), **value),))
    real = reader_of
    monkeypatch.setattr(
        "saereg.registry.catalog.sync.reader_of",
        lambda kind, offline: (
            replace(real(kind), snapshot=lambda source: Snapshot(source, "0", "made", (rows,)))
            if kind == bad.kind
            else real(kind)
        ),
    )
    add(catalog, [bad, *sources_of(str(release))])
    assert states(catalog) == [("failed", 0, 2), ("read", 4, 0)]
    assert "has a value that no catalogue can hold" in one(catalog, "SELECT problem FROM source WHERE pin IS NULL")[0]


def test_nothing_is_left_of_rows_that_were_replaced(release, catalog):
    """Neither in any table nor in the size of the file, however often it is read."""
    tables = ("artifact", "metric", "assumption", "edge", "alias", "finding", "release")
    add(catalog, sources_of(str(release)))
    add(catalog, sources_of(str(INVENTORY)))
    sync(catalog)
    counts = [one(catalog, f"SELECT count(*) FROM {table}") for table in tables]
    sync(catalog, wishes=Wishes(again=True))
    size = catalog.stat().st_size
    for _ in range(5):
        sync(catalog, wishes=Wishes(again=True))
    assert [one(catalog, f"SELECT count(*) FROM {table}") for table in tables] == counts
    assert catalog.stat().st_size <= size * 1.1

    with store.reading(catalog) as connection:
        gone = [source for target in (release, INVENTORY) for source in matching(connection, str(target))]
    remove(catalog, gone)
    assert [one(catalog, f"SELECT count(*) FROM {table}") for table in (*tables, "source")] == [(0,)] * 8


def test_a_name_that_is_no_text_is_refused(release, tmp_path):
    """SQLite and JSON hold text only; the file system holds any bytes."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/na\xffme")
    os.rename(release, folder)

    with pytest.raises(UsageError, match=r"na\\xffme: bytes of the name are no UTF-8"):
        sources_of(folder)


def test_an_index_that_is_no_inventory_is_not_said_to_be_missing(tmp_path):
    """What is wrong with it is said, with the line."""
    (tmp_path / "index.json").write_text('[{"id": "a", "path": "a.pt",\n  "l0": NaN}]')

    with pytest.raises(UsageError, match=r"index\.json:2: NaN is not JSON"):
        sources_of(str(tmp_path))
