"""The file of a catalogue: what is refused, what a process that dies leaves behind, and two that write at once."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saereg.errors import UsageError
from saereg.registry.catalog import store
from saereg.registry.catalog.references import locate
from saereg.registry.catalog.rows import Entry, Metric, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.tables import DOCUMENTED
from saereg.registry.catalog.writing import add_source, remove_source, write
from saereg.registry.refs import parse_reference
from saereg.registry.semver import order, text_order

SOURCE = Source("hub", "org/release")


def snapshot(count: int = 40, source: Source = SOURCE, pin: str = "a" * 40, **release: str) -> Snapshot:
    """Return a source with one release of so many artifacts."""
    metrics = (Metric("stated", None, "l0", 12.0),)
    entries = tuple(Entry(f"layer_{n}/topk_{n}", model="org/model", layer=n, metrics=metrics) for n in range(count))
    facts = {"name": "release", "repo": source.locator, "revision": pin} | release
    return Snapshot(source, pin, "saereg 0.1.0", (ReleaseRows(**facts, entries=entries),))


@pytest.fixture
def catalog(tmp_path) -> Path:
    """A catalogue with one source of 40 artifacts."""
    path = tmp_path / "catalog.sqlite"
    with store.changing(path) as connection:
        write(connection, snapshot())
    return path


def count(path: Path) -> int:
    """Return the number of artifacts."""
    with store.reading(path) as connection:
        return connection.execute("SELECT count(*) FROM artifacts").fetchone()[0]


def read_all(path: Path) -> None:
    """Read every row of everything that users may read."""
    with store.reading(path) as connection:
        for name in DOCUMENTED:
            connection.execute(f"SELECT * FROM {name}").fetchall()


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _other(path: Path, mode: str = "DELETE") -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE mine (x)")
    connection.execute("INSERT INTO mine VALUES (1)")
    connection.commit()
    connection.close()


def _damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\x5a" * (len(content) - 8192)
    path.write_bytes(content)


BROKEN = {
    "text": (lambda path: path.write_text("[catalog]\n" * 500), "it is no SQLite file"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 64), "it is no SQLite file"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "it is damaged"),
    "pages": (_damaged, "it is damaged"),
    "newer": (_newer, "a catalogue of version 99, and this saereg reads 1"),
    "other": (_other, "no catalogue of saereg"),
    "wal": (lambda path: _other(path, "WAL"), "no catalogue of saereg"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_cannot_be_used_is_refused_in_one_line_and_left_as_it_is(catalog, how):
    """Neither reading nor writing changes a byte of it, and the line says what to do."""
    spoil, problem = BROKEN[how]
    spoil(catalog)
    before = catalog.read_bytes()

    for use in (read_all, lambda path: _write(path)):
        with pytest.raises(UsageError) as caught:
            use(catalog)
        line = str(caught.value)
        assert line.startswith(f"{catalog}: {problem}")
        assert "it is left as it is" in line
        assert "\n" not in line
    assert catalog.read_bytes() == before


def _write(path: Path) -> None:
    with store.changing(path) as connection:
        connection.execute("SELECT * FROM artifacts").fetchall()
        write(connection, snapshot(5, Source("hub", "org/other")))


@pytest.mark.parametrize("how", ["text", "half", "pages", "newer"])
def test_a_broken_catalogue_is_made_anew_without_it(catalog, how):
    """The list beside it names the sources: moving the file away is enough, as the line says."""
    BROKEN[how][0](catalog)
    with pytest.raises(UsageError, match=r"move it away, and saereg registry sync .*sources\.json"):
        read_all(catalog)

    catalog.rename(catalog.with_suffix(".broken"))
    with pytest.raises(UsageError, match="saereg registry sync makes it from"):
        read_all(catalog)
    with store.changing(catalog):
        pass

    with store.reading(catalog) as connection:
        assert connection.execute("SELECT kind, locator, pin FROM source").fetchall() == [("hub", "org/release", None)]


def test_the_list_of_sources_follows_the_sources(catalog):
    """It is written with every source that comes or goes, and is no other file than it was when none does."""
    before = store.list_of(catalog).stat().st_mtime_ns
    with store.changing(catalog) as connection:
        write(connection, snapshot(3))
    assert store.list_of(catalog).stat().st_mtime_ns == before

    with store.changing(catalog) as connection:
        add_source(connection, Source("folder", "/releases/a"))
        assert remove_source(connection, SOURCE)
    text = store.list_of(catalog).read_text()
    assert "/releases/a" in text
    assert "org/release" not in text
    assert count(catalog) == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spots=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=40))
def test_whatever_bytes_change_no_other_error_comes_out(catalog, spots):
    """SQLite has no checksums: a changed value may be read, but nothing is ever raised but the one line."""
    whole = catalog.read_bytes()
    content = bytearray(whole)
    for place, value in spots:
        content[int(place * len(content))] = value
    catalog.write_bytes(content)
    try:
        with contextlib.suppress(UsageError):
            read_all(catalog)
    finally:
        catalog.write_bytes(whole)


def test_there_is_a_line_for_what_is_no_file(tmp_path):
    """A folder, nothing, and a place where nothing can be made."""
    with pytest.raises(UsageError, match="there is no catalogue yet; saereg registry add makes one"):
        read_all(tmp_path / "none.sqlite")
    with pytest.raises(UsageError, match="is no file"):
        _write(tmp_path)
    if sys.platform == "linux":
        with pytest.raises(UsageError, match="it cannot be opened"):
            _write(Path("/proc/catalog.sqlite"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_can_be_read(catalog):
    """Reading needs no file beside the catalogue; writing says that it may not."""
    catalog.parent.chmod(0o500)
    try:
        assert count(catalog) == 40
        with pytest.raises(UsageError, match="may"):
            _write(catalog)
    finally:
        catalog.parent.chmod(0o700)


def test_another_process_that_writes_is_waited_for_and_then_told(catalog, monkeypatch):
    """A reader and a writer, while somebody holds the file."""
    monkeypatch.setattr(store, "PATIENCE", 0.05)
    holder = sqlite3.connect(catalog, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    for use in (read_all, _write):
        with pytest.raises(UsageError, match="another process has written for too long; try again"):
            use(catalog)
    holder.execute("ROLLBACK")
    holder.close()
    assert count(catalog) == 40


FULL = """
import resource, signal, sys
from pathlib import Path
from saereg.errors import UsageError
from saereg.registry.catalog.store import changing
from saereg.registry.catalog.writing import write
from tests.registry.catalog.test_store import snapshot
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
most = path.stat().st_size + 50_000
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    with changing(path) as connection:
        write(connection, snapshot(1500, pin="b" * 40))
except UsageError as error:
    print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits of file sizes are POSIX")
def test_a_disk_without_room_leaves_the_old_rows(catalog):
    """The system refuses to let the file grow; nothing of the new rows is there."""
    answer = subprocess.run(
        [sys.executable, "-c", FULL, catalog], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.startswith(f"{catalog}: the disk ")
    assert answer.stdout.count("\n") == 1
    assert count(catalog) == 40


DYING = """
import sys
from pathlib import Path
from saereg.registry.catalog.store import changing
from saereg.registry.catalog.writing import write
from tests.registry.catalog.test_store import snapshot
with changing(Path(sys.argv[1])) as connection:
    connection.execute("PRAGMA cache_size = 5")  # pages go to the disk before the end, as those of many rows do
    write(connection, snapshot(3000, pin="b" * 40))
    print("half", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="processes are killed otherwise there")
def test_a_process_that_is_killed_in_the_middle_leaves_the_old_rows(catalog):
    """Its pages are in the file already; the next reader, who may not write rows, puts the old ones back."""
    before = catalog.read_bytes()
    with subprocess.Popen([sys.executable, "-c", DYING, catalog], stdin=-1, stdout=-1) as child:
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGKILL)
    assert catalog.with_name("catalog.sqlite-journal").stat().st_size > 0
    assert catalog.read_bytes() != before

    assert count(catalog) == 40

    assert catalog.read_bytes() == before
    _write(catalog)
    assert count(catalog) == 45


WRITING = """
import sys
from pathlib import Path
from saereg.registry.catalog.rows import Source
from saereg.registry.catalog.store import changing
from saereg.registry.catalog.writing import write
from tests.registry.catalog.test_store import snapshot
for n in range(15):
    with changing(Path(sys.argv[1])) as connection:
        write(connection, snapshot(20, Source("hub", f"{sys.argv[2]}/release-{n}")))
    with changing(Path(sys.argv[1])) as connection:
        write(connection, snapshot(7 if sys.argv[2] == "a" else 9, Source("hub", "both/release"), sys.argv[2] * 40))
"""


@pytest.mark.slow
def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    """Both make the file; each has its sources; of the one that both write, one has written all of it."""
    path = tmp_path / "new" / "catalog.sqlite"
    children = [subprocess.Popen([sys.executable, "-c", WRITING, path, name]) for name in "ab"]
    assert [child.wait(60) for child in children] == [0, 0]

    with store.reading(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        sizes = dict(connection.execute("SELECT source, count(*) FROM artifacts GROUP BY source").fetchall())
        pin = connection.execute("SELECT pin FROM source WHERE locator = 'both/release'").fetchone()[0]
    assert sizes.pop("both/release") == {"a": 7, "b": 9}[pin[0]]
    assert sizes == {f"{name}/release-{n}": 20 for name in "ab" for n in range(15)}
    assert store.list_of(path).read_text().count("locator") == 31


def test_many_rows_have_their_indexes(tmp_path):
    """Of many rows they are made afterwards, and are the same."""
    for size in (10, 1500):
        path = tmp_path / f"{size}.sqlite"
        with store.changing(path) as connection:
            write(connection, snapshot(size))
        with store.reading(path) as connection:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
            plan = connection.execute("EXPLAIN QUERY PLAN SELECT * FROM artifact WHERE model_name = 'x'").fetchone()[3]
        assert {"artifact_release", "artifact_model", "artifact_frontier"} <= names
        assert "artifact_model" in plan


ORDERED = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
ORDERED += ["1.0.0-rc.1", "1.0.0", "1.0.1-0", "1.0.1", "1.2.0", "1.10.0", "2.0.0", "10.0.0"]


def test_versions_sort_as_semantic_versioning_says():
    """The example of semver.org, item 11, and numbers of several digits; the build does not count."""
    keys = [text_order(version) for version in ORDERED]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert text_order("1.0.0+linux") == text_order("1.0.0")
    assert [text_order(text) for text in (None, "", "1.0", "v1.0.0", "1.0.0-")] == [None] * 5


number = st.integers(0, 10**12)
identifier = st.one_of(number.map(str), st.from_regex(r"[0-9]{0,3}[a-z-][a-z0-9-]{0,3}", fullmatch=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.tuples(number, number, number), st.lists(identifier, max_size=3)), min_size=2, max_size=2))
def test_the_order_of_two_versions_is_that_of_their_parts(pair):
    """Compared part by part as semver.org says, by another way than the text; versions in memory are in that order."""

    def parts(version):
        numbers, early = version
        return numbers, not early, [(not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in early]

    one, two = (".".join(map(str, numbers)) + ("-" if e else "") + ".".join(e) for numbers, e in pair)
    assert (text_order(one) < text_order(two)) == (parts(pair[0]) < parts(pair[1])) == (order(one) < order(two))


def test_the_latest_version_is_the_newest_that_is_not_yanked(tmp_path):
    """Pre-releases are older than their release; where all are yanked the newest of them is it."""
    path = tmp_path / "c.sqlite"
    rows = [("1.9.0", None), ("1.10.0", None), ("1.11.0-rc.1", None), ("1.11.0", "yanked"), ("2.0.0", "yanked")]
    with store.changing(path) as connection:
        for version, mark in rows:
            source = Source("hub", "org/saes", f"v{version}")
            write(connection, snapshot(1, source, f"{version:0<40}", name="saes", version=version, withdrawn=mark))
        for mark in ("deprecated", "yanked"):
            write(connection, snapshot(1, Source("hub", f"org/{mark}"), name=mark, version="1.0.0", withdrawn=mark))
        write(connection, snapshot(1, Source("hub", "else/saes"), name="saes", version="3.0.0"))

    def newest(name):
        return locate(path, f"{name}:layer_0/topk_0", parse_reference(f"{name}:layer_0/topk_0"))

    with store.reading(path) as connection:
        view = dict(connection.execute("SELECT repo, version FROM latest").fetchall())
    assert view == {
        "org/saes": "1.11.0-rc.1", "org/deprecated": "1.0.0", "org/yanked": "1.0.0", "else/saes": "3.0.0"
    }  # fmt: skip
    assert newest("org/saes@latest").revision == f"{view['org/saes']:0<40}"
    assert newest("deprecated").repo == "org/deprecated"
    assert newest("nothing") is None
    with pytest.raises(UsageError, match="releases in else/saes, org/saes: name the repository"):
        newest("saes")
