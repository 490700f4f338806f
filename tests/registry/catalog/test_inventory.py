"""Inventories of other makes in the catalogue: what their rows answer to, and what is said of what they do not say."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saereg.cli import run
from saereg.errors import DocumentError, NothingToValidateError, UsageError
from saereg.registry.catalog import store
from saereg.registry.catalog.headline import headline
from saereg.registry.catalog.readers.inventory import is_inventory, snapshot
from saereg.registry.catalog.references import locate
from saereg.registry.catalog.rows import Source
from saereg.registry.catalog.selection import CatalogSelection
from saereg.registry.catalog.writing import write
from saereg.registry.refs import parse_reference
from tests.reading_hub import REPO, SHA, Client, hub
from tests.releases import tiny_release

DATA = Path(__file__).parent.parent / "foreign/data"


def _release(path):
    return snapshot(Source("inventory", str(path))).releases[0]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A catalogue of both inventories."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    with store.changing(path) as connection:
        for name in ("trajectory", "package"):
            write(connection, snapshot(Source("inventory", str(DATA / name))))
    return path


def _ask(catalog, question):
    with store.reading(catalog) as connection:
        return connection.execute(question).fetchall()


def test_the_question_of_readers_has_its_three_answers(catalog):
    """Crosscoders of pythia-160m with EV > 0.9 and L0 < 300: three seeds, stated, without definition."""
    found = _ask(
        catalog,
        "SELECT id, ev, l0, explained_variance_basis, explained_variance_definition, standing FROM artifacts"
        " WHERE model_name = 'pythia-160m' AND kind = 'crosscoder' AND ev > 0.9 AND l0 < 300 ORDER BY id",
    )
    ids = [f"pythia-160m/W_U/cross-snapshot-32/d24576/seed{seed}" for seed in range(3)]
    assert found == [(name, 0.92, 286.0, "stated", None, "foreign") for name in ids]


def test_the_same_question_on_the_command_line(tmp_path, capsys):
    """`registry add` takes the document, and `ls` answers with the same three."""
    catalog = ("--catalog", str(tmp_path / "catalog.sqlite"))
    assert run(["registry", "add", str(DATA / "trajectory/index.json"), *catalog]) == 0
    capsys.readouterr()
    where = ("--where", "model = pythia-160m and kind = crosscoder", "--where", "ev > 0.9 and l0 < 300")
    assert run(["ls", *where, "--format", "json", "--columns", "id", *catalog]) == 0
    found = {row["id"] for row in json.loads(capsys.readouterr().out)}
    assert found == {f"pythia-160m/W_U/cross-snapshot-32/d24576/seed{seed}" for seed in range(3)}


def test_steps_are_numbers(catalog):
    """The SAEs of single snapshots sort by their step, not by its text, and the step is marked as inferred."""
    steps = [s for (s,) in _ask(catalog, "SELECT model_step FROM artifacts WHERE model_step >= 0 ORDER BY model_step")]
    assert (len(steps), steps[:3], steps[-2:]) == (32, [0, 1, 2], [130000, 143000])
    assert _ask(catalog, "SELECT count(*) FROM assumptions WHERE field = 'model_step'") == [(32,)]


def test_picks_and_checkpoints_are_rows_of_their_own(catalog):
    """Canonical ones are aliases, source checkpoints are edges without a digest that nobody gave."""
    assert _ask(catalog, "SELECT count(*) FROM alias WHERE name = 'canonical'") == [(4,)]
    edges = _ask(catalog, "SELECT target, sha256 FROM edge WHERE relation = 'source_checkpoint'")
    assert len(edges) == 7
    assert all(target.endswith(".pt") and digest is None for target, digest in edges)
    kinds = _ask(catalog, "SELECT DISTINCT kind, name, metric FROM metrics WHERE name LIKE '%mse'")
    assert kinds == [("training_running_mean", "final_training_mean_normalized_mse", None)]


def test_numbers_that_repeat_are_a_finding_and_values_without_a_field_a_note():
    """Nine snapshots share two numbers, which is reported; seeds that agree in three digits are not."""
    found = _release(DATA / "trajectory").findings
    assert [f.message[:42] for f in found if f.code == "SR403"] == [
        "9 different dictionaries have the same num",
        "2 different dictionaries have the same num",
    ]
    notes = {f.message.partition(":")[0] for f in _release(DATA / "package").findings if f.severity == "note"}
    assert notes == {"norm", "status", "training_data"}


def test_a_name_that_contradicts_its_column_is_a_finding(tmp_path):
    """The column holds, and the finding points to it."""
    rows = [{"path": "W_U/d8192/seed0.safetensors", "d_sae": 24576, "seed": 0}]
    (tmp_path / "index.json").write_text(json.dumps(rows))
    release = _release(tmp_path)
    (finding,) = [f for f in release.findings if f.code == "SR112"]
    assert (finding.pointer, release.entries[0].d_sae) == ("/0/d_sae", 24576)


@pytest.mark.parametrize("key", ["L0", "Mean L0", "mean_l0", "avg_l0", "l0"])
def test_an_l0_is_found_by_whatever_name(tmp_path, key):
    """It stands in the column of readers, as stated and without definition."""
    (tmp_path / "index.json").write_text(json.dumps([{"id": "a", "layer": 1, key: 12.5}]))
    (entry,) = _release(tmp_path).entries
    assert headline(entry.metrics, "l0") == entry.metrics[0]
    assert (entry.metrics[0].value, entry.metrics[0].metric) == (12.5, None)


def test_the_pin_covers_what_was_read_beside(tmp_path):
    """A configuration beside the weights gives steps and shape, and changing it changes the pin."""
    folder = shutil.copytree(DATA / "trajectory", tmp_path / "copy")
    before = snapshot(Source("inventory", str(folder)))
    name = folder / "pythia-1b/W_U/cross-snapshot-32/d8192/seed0.config.json"
    name.parent.mkdir(parents=True)
    pins = {before.pin}
    for steps in ([0, 1, 1000], [0, 2, 1000]):
        name.write_text(json.dumps({"kind": "cross-snapshot", "steps": steps}))
        after = snapshot(Source("inventory", str(folder)))
        entry = next(e for e in after.releases[0].entries if e.id.startswith("pythia-1b/W_U/cross-snapshot-32/d8192"))
        assert (entry.steps, entry.n_sources) == (tuple(steps), 3)
        pins.add(after.pin)
    assert len(pins) == 3


def test_what_is_no_inventory_is_told_so(tmp_path):
    """A release of ours, an empty folder, a broken document, a list of something else: each in one line."""
    ours, empty = tiny_release(tmp_path / "ours"), tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "broken.json").write_text('{"artifacts": [')
    (tmp_path / "other.json").write_text('{"files": [{"name": "x"}]}')
    for path, error in {
        ours: UsageError,
        empty: UsageError,
        tmp_path / "none": NothingToValidateError,
        tmp_path / "broken.json": DocumentError,
        tmp_path / "other.json": UsageError,
    }.items():
        assert not is_inventory(path)
        with pytest.raises(error) as caught:
            snapshot(Source("inventory", str(path)))
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_inventory_on_the_hub_is_pinned_to_its_commit(tmp_path):
    """Only JSON is fetched, references name repository and commit, and it can be read again offline."""
    root = shutil.copytree(DATA / "package", tmp_path / "repository")
    (root / "weights.safetensors").write_bytes(b"x" * 100)
    code = (
        "from saereg.registry.catalog.readers.inventory import snapshot\n"
        "from saereg.registry.catalog.rows import Source\n"
        f"s = snapshot(Source('inventory', 'hf://{REPO}/manifest.json')); r = s.releases[0];"
        "print(s.pin, r.repo, r.revision, r.name, len(r.entries))"
    )
    client = Client(tmp_path / "cache")
    with hub(root) as server:
        answer = client.python(server.url, code)
        assert server.fetched() == {"manifest.json"}
    assert answer.stdout == f"{SHA} {REPO} {SHA} release 7\n", answer.stderr
    assert client.python(server.url, code, HF_HUB_OFFLINE="1").stdout == answer.stdout


@pytest.mark.parametrize(
    ("said", "repo"),
    [
        ("org/saes", "org/saes"),
        ("https://huggingface.co/org/saes", "org/saes"),
        ("https://example.org/saes", None),
        ("../../saes", None),
        ("saes", None),
        ("org/saes@main", None),
    ],
)
def test_a_repository_is_what_a_document_names_as_one(tmp_path, said, repo):
    """Anything else would make references that nothing can open; the rows are then those of the folder."""
    (tmp_path / "index.json").write_text(json.dumps({"repo": said, "saes": [{"id": "x", "layer": 1}]}))
    (release,) = snapshot(Source("inventory", str(tmp_path / "index.json"))).releases
    assert (release.repo, release.folder) == (repo, str(tmp_path))


ODD = (
    "EV 1e999 / L0 3",
    "1e999",
    "9" * 30,
    f"width_{'9' * 400}",
    "a/b",
    "a:b@c",
    "://",
    "canonical",
    " ",
    "16k",
    "\x00",
)
KEYS = (
    "path",
    "layer",
    "d_sae",
    "k",
    "seed",
    "quality",
    "Mean L0",
    "steps",
    "kind",
    "hook",
    "size",
    "canonical",
    "repo",
)
numbers = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
values = numbers | st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.booleans()
rows = st.dictionaries(st.sampled_from(KEYS), values | st.lists(numbers, max_size=2), max_size=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(ODD) | st.text("ab /:@", min_size=1), rows, min_size=1, max_size=3), rows)
def test_whatever_an_inventory_says_is_rows_or_one_line(tmp_path, listed, facts):
    """Rows that can be written, whose numbers are JSON, and whose references lead back to them."""
    document = facts | {"saes": [{"id": name, "layer": 1} | row for name, row in listed.items()]}
    (tmp_path / "index.json").write_text(json.dumps(document))
    catalog = tmp_path / "c.sqlite"
    catalog.unlink(missing_ok=True)
    try:
        found = snapshot(Source("inventory", str(tmp_path / "index.json")))
    except UsageError:
        return
    with store.changing(catalog) as connection:
        write(connection, found)
    for one in CatalogSelection(catalog):
        json.dumps(one.fields, allow_nan=False)
        located = locate(catalog, one.reference, parse_reference(one.reference))
        assert located is not None
        assert (located.path, located.reference) == (one.fields["path"], one.reference)
