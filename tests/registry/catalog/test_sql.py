"""SQL over a catalogue: any text is answered or refused in one line, and no text changes or reaches anything."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import saereg
from saereg.errors import UsageError
from saereg.registry.catalog import sql
from saereg.registry.catalog.guard import FUNCTIONS, Guard, guarded
from saereg.registry.catalog.rows import Entry, Metric, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.selection import CatalogSelection
from saereg.registry.catalog.store import changing, reading
from saereg.registry.catalog.tables import DOCUMENTED
from saereg.registry.catalog.writing import write
from saereg.registry.query import meeting

ENTRIES = tuple(
    Entry(
        id=f"layer_{n}",
        kind="sae",
        layer=n,
        steps=(0, n) if n else (),
        metrics=(Metric("measured", "l0", "l0", 10.0 * n), Metric("stated", None, "score", n / 10)) if n else (),
    )
    for n in range(4)
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A catalogue of one release; other files stand beside it."""
    folder = tmp_path_factory.mktemp("catalog")
    (folder / "beside.txt").write_text("left alone")
    release = ReleaseRows(name="one", version="1.0.0", repo="org/one", revision="c" * 40, entries=ENTRIES)
    with changing(folder / "catalog.sqlite") as connection:
        write(connection, Snapshot(Source("hub", "org/one"), "c" * 40, "saereg 0", (release,)))
    return folder / "catalog.sqlite"


def digests(catalog):
    """Name → digest of every file in the folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in catalog.parent.iterdir()}


def ask(catalog, text, parameters=None, seconds=2.0):
    """Ask with a short time limit."""
    return sql.run(text, parameters, catalog=catalog, seconds=seconds)


def refusal(catalog, text, parameters=None, seconds=2.0):
    """Return the line that a query is refused with."""
    with pytest.raises(UsageError) as caught:
        ask(catalog, text, parameters, seconds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CHANGES = [
    "DROP TABLE artifact",
    "DROP VIEW artifacts",
    "DELETE FROM artifact",
    "DELETE FROM artifact RETURNING id",
    "UPDATE artifact SET l0 = 1",
    "UPDATE artifacts SET l0 = 1",
    "WITH x AS (SELECT 1) UPDATE artifact SET l0 = 1",
    "WITH x AS (SELECT 1) DELETE FROM artifact",
    "WITH x AS (SELECT 1) INSERT INTO source (kind, locator) SELECT 'hub', 'x' FROM x",
    "INSERT INTO source (kind, locator) VALUES ('hub', 'x')",
    "REPLACE INTO source (id, kind, locator) VALUES (1, 'hub', 'x')",
    "ALTER TABLE artifact ADD COLUMN x",
    "ALTER TABLE artifact RENAME TO x",
    "CREATE TABLE x (y)",
    "CREATE TEMP TABLE x (y)",
    "CREATE TEMP VIEW x AS SELECT 1",
    "CREATE INDEX x ON artifact (l0)",
    "CREATE TRIGGER x AFTER INSERT ON source BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE x USING fts5(y)",
    "CREATE VIRTUAL TABLE temp.x USING rtree(a, b, c)",
    "EXPLAIN DROP TABLE artifact",
    "BEGIN",
    "BEGIN EXCLUSIVE",
    "COMMIT",
    "SAVEPOINT x",
    "RELEASE x",
    "REINDEX",
    "ANALYZE",
    "VACUUM",
    "/* a */ DROP -- b\n TABLE artifact",
    "\ufeff\u00a0DROP TABLE artifact",
    "ＤＲＯＰ TABLE artifact",
]
"""Texts that would change the catalogue."""

REACHES = [
    "ATTACH 'other.sqlite' AS other",
    "ATTACH ':memory:' AS other",
    "ATTACH DATABASE 'file:/etc/passwd?mode=rw' AS other",
    "DETACH main",
    "VACUUM INTO 'copy.sqlite'",
    "VACUUM main INTO 'file:copy.sqlite'",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT LOAD_EXTENSION('/tmp/x.so', 'y')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('x', 'y')",
    "SELECT edit('x')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT fts3_tokenizer('x', x'00')",
    "SELECT * FROM fts3tokenize",
    "SELECT * FROM dbstat",
    "SELECT * FROM sqlite_stmt",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_module_list",
    "SELECT sqlite_compileoption_get(1)",
    "SELECT last_insert_rowid()",
    "PRAGMA database_list",
    "PRAGMA writable_schema = ON",
    "PRAGMA query_only = OFF",
    "PRAGMA trusted_schema = ON",
    "PRAGMA journal_mode = WAL",
    "PRAGMA user_version = 9",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA hard_heap_limit = 0",
    "PRAGMA wal_checkpoint",
    "PRAGMA optimize",
    "PRAGMA main.table_info = 1; DROP TABLE artifact",
]
"""Texts that would reach outside of it, or loosen what holds them."""

BOMBS = [
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c",
    "SELECT count(*) FROM artifact a, artifact b" + "".join(f", artifact x{n}" for n in range(28)),
    "SELECT randomblob(1000000000)",
    "SELECT zeroblob(1000000000)",
    "SELECT hex(zeroblob(500000000))",
    "SELECT printf('%1000000000d', 1)",
    "SELECT format('%.*c', 1000000000, 'x')",
    f"SELECT {'hex(' * 17}'0123456789'{')' * 17}",
    f"SELECT replace({'hex(' * 9}'0123456789'{')' * 9}, '3', {'hex(' * 9}'0123456789'{')' * 9})",
    "WITH RECURSIVE c(n, x) AS (SELECT 0, '0123456789' UNION ALL SELECT n + 1, x || x FROM c WHERE n < 40) "
    "SELECT length(x) FROM c",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 900000) SELECT group_concat(x) FROM c",
    f"SELECT {'(' * 5000}1{')' * 5000}",
    f"SELECT 1{' + 1' * 20000}",
    f"SELECT 1{' UNION ALL SELECT 1' * 2000}",
    f"SELECT {', '.join(['1'] * 3000)}",
    f"SELECT 1 WHERE 'x' LIKE '{'%a' * 5000}'",
    "SELECT 1 /*" + "x" * 200_000,
    "SELECT " + "x" * 200_000,
]
"""Texts that would take for ever, or all the memory."""

SEVERAL = [
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE artifact",
    "SELECT 1;;--\n SELECT 2",
    "'; DELETE FROM artifact; --",
]
"""More than one statement."""

BROKEN = ["", ";", "-- nothing", "SELECT 'x", "SELEC\0T 1", "SELECT '\ud800'", "(", "SELECT", "x", "SELECT * FROM"]
"""What is no query at all."""

ATTACKS = [*CHANGES, *REACHES, *BOMBS, *SEVERAL, *BROKEN]


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: ascii(text[:40]))
def test_an_attack_is_refused_in_one_line_and_changes_nothing(catalog, text):
    """Whatever it is: one line, within the limit, and every file in the folder as it was."""
    before = digests(catalog)
    assert refusal(catalog, text, seconds=0.2)
    assert digests(catalog) == before


@pytest.mark.parametrize("text", ATTACKS, ids=lambda text: ascii(text[:40]))
def test_the_same_text_as_a_condition_is_refused_too(catalog, text):
    """`saereg ls --where` knows fields, comparisons and values: SQL is none of it."""
    before = digests(catalog)
    with pytest.raises(UsageError) as caught:
        list(meeting(CatalogSelection(catalog), [text]))
    assert "\n" not in str(caught.value)
    assert digests(catalog) == before


@pytest.mark.parametrize("value", ["x'; DROP TABLE artifact; --", "' OR 1=1 --", '" OR ""="', "%", "layer_1 "])
def test_a_value_of_a_condition_is_never_sql(catalog, value):
    """What is compared is a parameter; no artifact has such an id."""
    before = digests(catalog)
    assert len(saereg.find(catalog=catalog, id=value)) == 0
    assert len(saereg.find(catalog=catalog, id__in=[value, "layer_1"])) == 1
    assert digests(catalog) == before


FRAGMENTS = (
    *("SELECT", "FROM", "WHERE", "artifacts", "artifact", "l0", "*", "1", "'x'", ",", ";", "--", "/*", "*/", "(", ")"),
    *("DROP TABLE artifact", "DELETE FROM artifact", "UPDATE artifact SET l0 = 1", "INSERT INTO source", "VALUES (1)"),
    *("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c)", "c", "ATTACH 'x' AS y", "PRAGMA", "table_info"),
    *("VACUUM INTO 'x'", "load_extension('x')", "UNION ALL", "ORDER BY", "LIMIT", "EXPLAIN", "RETURNING *", "\0", "é"),
    *("count(*)", "sum(l0) OVER ()", "json_each(steps)", ":a", "?", "COMMIT", '"', "'", "=", "||", "CREATE TEMP TABLE"),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=4), max_size=12).map(" ".join))
def test_any_text_is_answered_or_refused(catalog, text):
    """Put together from pieces of SQL and anything else: rows or one line, never anything else, nothing changed."""
    before = hashlib.sha256(catalog.read_bytes()).hexdigest()
    said = ""
    try:
        ask(catalog, text, {"a": 1} if ":a" in text else None, 0.1)
    except UsageError as error:
        said = str(error)
    assert "\n" not in said
    assert hashlib.sha256(catalog.read_bytes()).hexdigest() == before


ANSWERED = [
    ("SELECT count(*) AS n FROM artifacts", [{"n": 4}]),
    ("SELECT id, l0 FROM artifacts WHERE l0 < 15", [{"id": "layer_1", "l0": 10.0}]),
    ("SELECT l0 FROM artifacts WHERE id = 'layer_0';", [{"l0": None}]),
    ("SELECT id FROM artifacts ORDER BY l0 DESC LIMIT 1 -- the sparsest last", [{"id": "layer_3"}]),
    ("WITH x AS (SELECT layer FROM artifact) SELECT count(*) AS n FROM x", [{"n": 4}]),
    (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x * 2 FROM c WHERE x < 4) SELECT x FROM c",
        [{"x": 1}, {"x": 2}, {"x": 4}],
    ),
    ("SELECT id, rank() OVER (ORDER BY l0 DESC) AS place FROM artifacts LIMIT 1", [{"id": "layer_3", "place": 1}]),
    ("SELECT s.value FROM artifacts a, json_each(a.steps) s WHERE a.layer = 2", [{"value": 0}, {"value": 2}]),
    ("SELECT name, value FROM metrics WHERE basis = 'stated' AND id = 'layer_1'", [{"name": "score", "value": 0.1}]),
    ("SELECT name, value FROM metrics WHERE basis = 'measured' AND id = 'layer_1'", [{"name": "l0", "value": 10.0}]),
    ("SELECT reference FROM artifacts WHERE layer = 1", [{"reference": f"org/one@{'c' * 40}:layer_1"}]),
    ("SELECT 1 AS a, 2 AS a, 3 AS a", [{"a": 1, "a:1": 2, "a:2": 3}]),
    ("SELECT name FROM pragma_table_info('alias') LIMIT 1", [{"name": "release"}]),
    ("VALUES (1)", [{"column1": 1}]),
    ("SELECT x'00' AS b, 9e999 AS i, NULL AS n", [{"b": b"\0", "i": float("inf"), "n": None}]),
    ("SELECT round(avg(l0), 1) AS mean, upper(kind) AS k FROM artifacts GROUP BY kind", [{"mean": 20.0, "k": "SAE"}]),
]


@pytest.mark.parametrize(("text", "rows"), ANSWERED)
def test_a_query_is_answered(catalog, text, rows):
    """The guard forbids no more than it says: joins, windows, recursion within the limit, JSON, comments."""
    assert ask(catalog, text) == rows


def test_parameters_are_values_and_never_sql(catalog):
    """A value that looks like SQL is compared as text; by name or in order."""
    text = "SELECT count(*) AS n FROM artifacts WHERE id = "
    for value in ("' OR 1 = 1 --", "layer_1'; DROP TABLE artifact; --", "layer_1"):
        found = [{"n": int(value == "layer_1")}]
        assert ask(catalog, f"{text}:id", {"id": value}) == found
        assert ask(catalog, f"{text}?", [value]) == found


REFUSED = [
    ("SELECT l_0 FROM artifacts", "no such column: l_0; did you mean l0?"),
    (
        "SELECT a.explained_varience FROM artifacts a",
        "no such column: a.explained_varience; did you mean explained_variance?",
    ),
    ("SELECT id FROM artifactes", "no such table: artifactes; did you mean artifacts?"),
    ("SELECT zzz FROM artifacts", "no such column: zzz; saereg sql --schema lists tables and columns"),
    ("SELECT kount(*) FROM artifacts", "no such function: kount; did you mean count?"),
    ("SELECT id\nFORM artifacts WHERE", 'near "artifacts": syntax error at line 2, character 6'),
    ("SELECT a, a b, a b c FROM x", 'near "c": syntax error at line 1, character 20'),
    ("SELECT 'FRO' FRO x", 'near "x": syntax error at line 1, character 18'),
    ("DROP TABLE artifact", "not allowed: changing tables; a query can read the catalogue and do nothing else"),
    ("SELECT trim('x')", "not allowed: function trim; a query can read the catalogue and do nothing else"),
    ("ATTACH 'x' AS y", "not allowed: attach x; a query can read the catalogue and do nothing else"),
    ("SELECT 1; SELECT 2", "one query at a time: there is a second statement after the first ;"),
    ("SELECT :l0", "no value for :l0; give it with --param l0=VALUE"),
    ("SELECT ?", "a ? in the query has no value: write :name, and give it with --param name=VALUE"),
    ("-- x", "the query is empty: write a SELECT; saereg sql --schema lists tables and columns"),
    (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT 1 FROM c) SELECT count(*) FROM c",
        "stopped after 0.1 s: ask for less (WHERE, LIMIT), or allow more with --timeout",
    ),
    (
        "WITH RECURSIVE c(x) AS (SELECT 'x' UNION ALL SELECT x || x FROM c) SELECT length(x) FROM c",
        "a text or row of more than 400,000 bytes: ask for rows instead of one long text",
    ),
]


@pytest.mark.parametrize(("text", "line"), REFUSED)
def test_a_refusal_says_what_to_do(catalog, text, line):
    """The sentence names what is wrong, where, and what was probably meant."""
    assert refusal(catalog, text, seconds=0.1) == line


def test_a_parameter_that_is_not_used_is_refused(catalog):
    """A misspelt name would otherwise be ignored; one that SQLite cannot hold is said to be so."""
    assert refusal(catalog, "SELECT :layer", {"layr": 1}) == "the query has no :layr; did you mean :layer?"
    assert refusal(catalog, "SELECT :a", {"a": 2**70}) == "a parameter is a whole number of more than 64 bits"
    assert refusal(catalog, "SELECT :a", {"a": "\ud800"}) == "the query or a parameter is no valid Unicode text"
    assert "as many values" in refusal(catalog, "SELECT ?, ?", [1])


def test_what_the_reader_does_between_rows_is_not_counted(catalog):
    """The limit is on computing: whoever pages through an answer is not cut off."""
    guard = Guard(0.05)
    text = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 5000) SELECT x FROM c"
    with sql.asking(catalog, text, guard=guard) as answer:
        for (number,) in answer.rows:
            if number % 1000 == 0:
                time.sleep(0.03)
    assert number == 5000


def test_memory_is_limited(catalog):
    """A query whose process grows too much is stopped, in one line."""
    text = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c ORDER BY x DESC"
    small = Guard(30.0, memory=20_000_000)
    with pytest.raises(UsageError, match=r"stopped at 0\.02 GB of memory"), sql.asking(catalog, text, guard=small):
        pass


def test_every_allowed_function_is_known_and_none_that_reaches_out(catalog):
    """The table is of functions that there are; those that SQLite itself calls unsafe are not in it."""
    with sqlite3.connect(":memory:") as connection:
        known = {name for (name,) in connection.execute("SELECT DISTINCT lower(name) FROM pragma_function_list")}
    builtin_math = {name for name in FUNCTIONS if name not in known}
    assert builtin_math <= {"iif", "coalesce", "unixepoch", "ln", "->", "->>", "likelihood", "unlikely", "likely"}
    assert not FUNCTIONS & {
        "load_extension",
        "readfile",
        "writefile",
        "edit",
        "fts3_tokenizer",
        "randomblob",
        "zeroblob",
    }


def test_the_guard_holds_on_a_connection_of_a_query(catalog):
    """`guarded` alone, on a connection of `store.reading`: a statement that is no read is denied."""
    with reading(catalog) as connection, guarded(connection) as guard:
        assert connection.execute("SELECT count(*) FROM artifacts").fetchone() == (4,)
        with pytest.raises(sqlite3.DatabaseError):
            connection.execute("ATTACH ':memory:' AS x")
    assert guard.refused == "attach :memory:"


@pytest.mark.parametrize(
    "hidden", ["load_extension('x')", "randomblob(9)", "(SELECT count(*) FROM pragma_database_list)"]
)
def test_a_catalogue_of_somebody_else_hides_nothing(catalog, tmp_path, hidden):
    """What a view of the file itself would do is refused as if it stood in the query."""
    path = tmp_path / "theirs.sqlite"
    shutil.copy(catalog, path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE VIEW harmless AS SELECT {hidden} AS x")
        connection.commit()
    assert refusal(path, "SELECT * FROM harmless")
    assert len(ask(path, "SELECT * FROM artifacts")) == len(ENTRIES)


def test_a_damaged_catalogue_is_said_to_be_so(catalog, tmp_path):
    """Pages overwritten behind the header: one line that says how to get another, and the file stays."""
    damaged = tmp_path / "damaged.sqlite"
    raw = bytearray(catalog.read_bytes())
    raw[4096:] = b"\xff" * (len(raw) - 4096)
    damaged.write_bytes(raw)
    assert "move it away" in refusal(damaged, "SELECT * FROM artifact")
    assert damaged.read_bytes() == raw


def test_the_schema_describes_every_documented_table():
    """Each has one line, and each column a type."""
    tables = sql.describe()
    assert tuple(one.name for one in tables) == DOCUMENTED
    assert all(one.meaning and one.columns and all(one.columns.values()) for one in tables)


def command(catalog, *words):
    """Run `saereg sql` in a process of its own."""
    own = os.environ | {"SAEREG_CATALOG": str(catalog), "NO_COLOR": "1"}
    line = [sys.executable, "-m", "saereg", "sql", *words]
    return subprocess.run(line, env=own, capture_output=True, text=True, timeout=60)


SEVERAL = """
import contextlib, io, json, sys
from saereg.cli import run
asked, stdin = json.loads(sys.argv[1])
answers = []
for words in asked:
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["sql", *words])
    answers.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(answers))
"""


def commands(catalog, *asked, stdin=""):
    """Run `saereg sql` several times in one process, which gets its limit of memory: (code, out, err) of each."""
    own = os.environ | {"SAEREG_CATALOG": str(catalog), "NO_COLOR": "1"}
    line = [sys.executable, "-c", SEVERAL, json.dumps([asked, stdin])]
    return json.loads(subprocess.run(line, env=own, capture_output=True, text=True, timeout=60, check=True).stdout)


def test_the_command_line_answers_in_every_format(catalog):
    """Data on stdout, the next step on stderr; absent stays absent in each."""
    text = "SELECT id, l0 FROM artifacts WHERE layer < :n ORDER BY layer"
    forms = ("table", "json", "csv", "md")
    answers = commands(catalog, *(["-", "--param", "n=2", "--format", form] for form in forms), stdin=text)
    table, record, csv, markdown = (out for _, out, _ in answers)
    assert table == "id       l0\nlayer_0   –\nlayer_1  10\n"
    assert json.loads(record) == [{"id": "layer_0", "l0": None}, {"id": "layer_1", "l0": 10.0}]
    assert csv == "id,l0\nlayer_0,\nlayer_1,10.0\n"
    assert markdown == "| id | l0 |\n|---|---|\n| layer\\_0 | – |\n| layer\\_1 | 10 |\n"
    assert {(code, err) for code, _, err in answers} == {(0, "next: saereg sql --schema\n")}


def test_a_table_says_when_rows_are_left_out(catalog):
    """A limit is said on stderr; the answer itself holds rows only."""
    few = command(catalog, "SELECT reference FROM artifacts ORDER BY layer", "--limit", "2", "--format", "csv")
    assert few.stdout.count("\n") == 3
    said = f"only the first 2 rows\nnext: saereg show org/one@{'c' * 40}:layer_0\n"
    assert few.stderr == said


def test_bad_calls_are_one_line_and_exit_2(catalog, tmp_path):
    """Every refusal of the command line: nothing on stdout, one line, exit code 2; the bomb that compiles ends too."""
    doubled = ", ".join(f"c{n + 1} AS (SELECT 1 FROM c{n} a, c{n} b)" for n in range(30))
    bomb = command(catalog, "WITH c0 AS (SELECT 1), " + doubled + " SELECT count(*) FROM c30", "--timeout", "0.1")
    others = commands(
        catalog,
        ["DROP TABLE artifact"],
        ["SELECT 1", "--param", "x"],
        ["SELECT 1", "--catalog", str(tmp_path / "none.sqlite")],
        [],
    )
    for code, out, err in [(bomb.returncode, bomb.stdout, bomb.stderr), *others]:
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_saereg_sql_is_the_same_in_python(catalog, monkeypatch):
    """`saereg.sql` reads the user's catalogue."""
    monkeypatch.setenv("SAEREG_CATALOG", str(catalog))
    assert saereg.sql("SELECT count(*) AS n FROM artifacts") == [{"n": 4}]


def test_ctrl_c_stops_a_query_and_is_no_error_of_it(catalog):
    """SQLite reports it as `interrupted`, whatever Python raised inside of it."""
    endless = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t"
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            sql.run(endless, catalog=catalog)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
