"""Rows of other makes in our fields: what is said, what is inferred and from what, and what is left over."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.registry.foreign.document import leaves, parse
from saereg.registry.foreign.placing import place
from saereg.registry.foreign.values import MisfitError, pairs, whole

DATA = Path(__file__).parent / "data"

W_U = "pythia-160m/W_U"


def _placed(document):
    return {row.id: row for row in place(parse(document)).rows}


@pytest.fixture(scope="module")
def trajectory():
    """The seventy rows of dictionaries of parameters."""
    return _placed(json.loads((DATA / "trajectory/index.json").read_text()))


@pytest.fixture(scope="module")
def package():
    """The seven rows of a package of SAEs."""
    return _placed(json.loads((DATA / "package/manifest.json").read_text()))


def test_rows_whose_columns_are_equal_are_told_apart_by_what_their_paths_say(trajectory):
    """Snapshots, strengths of the penalty, architectures and variants stand nowhere but in the path."""
    told = ("kind", "model", "parameter", "architecture", "d_sae", "seed", "variant", "n_sources", "model_step",
            "l1_coefficient")  # fmt: skip
    columns = Counter(
        tuple(row.said[n].value for n in ("model", "parameter", "kind", "d_sae", "seed")) for row in trajectory.values()
    )
    assert len(trajectory) == 70
    assert max(columns.values()) == 32
    assert len({tuple(row.get(name) for name in told) for row in trajectory.values()}) == 70


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (f"{W_U}/cross-snapshot-32/d24576/seed1", {"kind": "crosscoder", "axis": "snapshot", "steps": None}),
        (f"{W_U}/cross-snapshot-16/d8192/seed0", {"kind": "crosscoder", "n_sources": 16}),
        ("pythia-1b/W_U/cross-snapshot-32-matched-window/d24576/seed0", {"n_sources": 32, "variant": "matched-window"}),
        (f"{W_U}/per-snapshot-saes/d8192/step1000", {"kind": "sae", "model_step": 1000, "n_sources": None}),
        (f"{W_U}/final-snapshot-saes/d8192", {"kind": "sae", "model_step": None, "variant": "final-snapshot"}),
        (f"{W_U}/lambda-sweep/d8192/lam0p40_seed0", {"kind": None, "l1_coefficient": 0.4, "variant": "lambda-sweep"}),
        (f"{W_U}/architecture-comparison/d8192/gated/seed0", {"architecture": "gated", "expected_failure": None}),
        ("pythia-6.9b/W_U/cross-snapshot-32/d32768/seed0-sparse", {"variant": "sparse", "parameter": "W_U"}),
    ],
)  # fmt: skip
def test_what_a_row_says_and_what_it_does_not(trajectory, name, facts):
    """A word for a kind that is no kind leaves it open; steps that are not listed are absent, not invented."""
    row = trajectory[name]
    assert {key: row.kind if key == "kind" else row.get(key) for key in facts} == facts


def test_inferred_values_say_from_what(trajectory):
    """Each names the key and the words that it was read from, and none stands where the source says it itself."""
    row = trajectory[f"{W_U}/lambda-sweep/d8192/lam0p40_seed0"]
    assert row.inferred["l1_coefficient"].because == "id: lam0p40"
    assert row.inferred["variant"].because == "kind: lambda-sweep"
    for one in trajectory.values():
        assert not (one.inferred.keys() & one.said.keys()) - {"kind"}


def test_a_name_is_no_exact_width(package):
    """131k is 131,072 and 163k is 163,840: only the column says so, and a row without it has no width."""
    assert {row.get("d_sae") for row in package.values()} == {131072, 163840}
    bare = _placed([{"sae_id": "layer_7/width_131k/topk_64_raw", "norm": "none", "k": "64"}])
    (row,) = bare.values()
    assert (row.get("d_sae"), row.get("k"), row.get("layer"), row.get("variant")) == (None, 64.0, 7, "raw")


def test_a_mean_of_the_training_is_called_one_and_has_no_definition(package):
    """`final_training_mean_normalized_mse` names no formula; a key that is one of our definitions does."""
    number = package["layer_07/width_131k/topk_64_raw"].metrics[0]
    assert (number.value, number.metric, number.kind) == (0.27497, None, "training_running_mean")
    (row,) = _placed([{"id": "a", "layer": 1, "nmse_uncentred_row": 0.25, "explained_variance": 0.75}]).values()
    assert [(n.name, n.metric, n.kind) for n in row.metrics] == [
        ("nmse_uncentred_row", "nmse_uncentred_row", None),
        ("explained_variance", None, None),
    ]


def test_a_cell_of_a_table_is_read_as_its_numbers():
    """`EV 0.853 / L0 557` are two numbers with names, and the table's words are those of the index."""
    row = {
        "Path": "a/d8192/seed0.safetensors",
        "Kind": "cross-snapshot-32",
        "d_sae": "8192",
        "Quality": "EV 0.853 / L0 557",
    }
    (placed,) = _placed([row]).values()
    assert [(n.name, n.value) for n in placed.metrics] == [("EV", 0.853), ("L0", 557.0)]
    assert placed.get("d_sae") == 8192
    for text in ("EV high / L0 557", "EV 0.8 / EV 0.9", "EV 0.8 / L0 1e999", "0.853", ""):
        with pytest.raises(MisfitError):
            pairs(text)


@pytest.mark.parametrize("value", ["131k", "163K", 1.5, -1, True, None, "x", 2**63, "1e3", float("1e300")])
def test_what_is_no_whole_number_is_refused(value):
    """Nothing is rounded."""
    with pytest.raises(MisfitError):
        whole(value)


def test_a_path_that_stands_for_several_files_is_no_dictionary():
    """Braces and stars are left over whole, as are a row without a name and the second of two with one name."""
    document = [
        {"path": "d8192/seed{0..4}.safetensors", "d_sae": 8192},
        {"d_sae": 8192, "layer": 1},
        {"id": "a", "layer": 1},
        {"id": "a", "layer": 2},
    ]
    placement = place(parse(document))
    assert [row.id for row in placement.rows] == ["a"]
    assert Counter(one.leaf.pointer.split("/")[1] for one in placement.unplaced) == {"0": 2, "1": 2, "3": 2}
    assert "stands for several files" in placement.unplaced[0].why


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/../../b", "C:\\x", "a\x1b[31m", "a/.."])
def test_a_name_that_leads_elsewhere_is_no_dictionary(name):
    """Whoever loads it by its path would leave the folder of the inventory."""
    placement = place(parse([{"id": "a", "path": name, "layer": 1}, {"id": "b", "layer": 1}]))
    assert [row.id for row in placement.rows] == ["b"]


def test_the_configuration_beside_the_weights_fills_what_a_row_leaves_open():
    """Steps and shape from it are inferred, with its name; what the row says itself holds."""
    config = {"kind": "cross-snapshot", "steps": [0, 1, 1000], "training": {"d_sae": 999}, "config": {"d_in": 16}}
    beside = {"a/d8192/seed0.safetensors": ("a/d8192/seed0.config.json", tuple(leaves(config)))}
    document = [{"path": "a/d8192/seed0.safetensors", "d_sae": 8192}]
    (row,) = place(parse(document), beside.get).rows
    assert (row.kind, row.get("steps"), row.get("d_in"), row.get("d_sae")) == ("crosscoder", (0, 1, 1000), 16, 8192)
    assert row.inferred["steps"].because == "a/d8192/seed0.config.json: steps"


VALUES = st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats(0, 2) | st.sampled_from(
    ["", "-", "W_U", "131k", "sae", "cross-snapshot-3", "EV 0.5 / L0 30", "a/layer_3/x.safetensors", "topk", "yes"]
)  # fmt: skip

KEYS = st.sampled_from(
    ["id", "path", "model", "matrix", "kind", "layer", "d_sae", "Width", "k", "seed", "quality", "canonical", "L0",
     "status", "colour", "mse", "steps", "source_checkpoint", "arch"]
)  # fmt: skip

ROWS = st.lists(
    st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES, max_size=3), min_size=1, max_size=7),
    min_size=1,
    max_size=4,
)


@given(ROWS, st.dictionaries(st.sampled_from(["license", "model", "d_model", "note", "version"]), VALUES))
def test_every_value_comes_out_once(rows, facts):
    """Said, measured, silent or unplaced: whatever rows are made of, nothing is lost and nothing is counted twice."""
    document = {**facts, "artifacts": [{"id": "first", "layer": 0}, *rows]}
    inventory = parse(document)
    placement = place(inventory)
    found = Counter(leaf.pointer for leaf in placement.nothing) + Counter(
        one.leaf.pointer for one in placement.unplaced
    )
    found += Counter({said.leaf.pointer for row in placement.rows for said in row.said.values()})
    found += Counter({number.leaf.pointer for row in placement.rows for number in row.metrics})
    found += Counter(said.leaf.pointer for said in placement.release.values())
    assert found == Counter(leaf.pointer for leaf in leaves(document))
