"""Inventories of other makes as manifests of ours: complete, without loss, and with every inference named."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saereg.errors import SaeregError, UnknownNameError, UsageError
from saereg.registry.foreign.document import at, leaves, parse
from saereg.registry.upgrading.given import Given, parse_metrics, parse_settings, parse_tokens
from saereg.registry.upgrading.manifest import manifest_of
from saereg.schemas.document import canonical
from saereg.schemas.manifest import Manifest, identity

DATA = Path(__file__).parent.parent / "foreign/data"

STEPS = ",".join(str(step) for step in [0, *(2**n for n in range(10)), *range(1000, 22000, 1000)])

TRAJECTORY = Given(
    release={"name": "parameter-trajectories"},
    settings=parse_settings(
        ["architecture=jumprelu", "d_in=768", "pythia-1b/*:d_in=2048", "pythia-6.9b/*:d_in=4096",
         "olmo-2-7b/*:d_in=4096", "*/lambda-sweep/*:kind=crosscoder", "*/architecture-comparison/*:kind=crosscoder",
         f"steps={STEPS}", "*/cross-snapshot-16/*:steps=" + ",".join(map(str, range(16)))]
    ),
)  # fmt: skip

PACKAGE = Given(
    release={"license": "apache-2.0"},
    site="blocks.{layer}.hook_resid_post",
    module="model.layers.{layer}",
    settings=parse_settings(["kind=sae"]),
    metrics=parse_metrics(["final_training_mean_normalized_mse=nmse_uncentred_row"]),
)


def _document(name):
    return json.loads((DATA / name).read_text())


@pytest.fixture(scope="module", params=["trajectory", "package"])
def upgraded(request):
    """(inventory, what was given, its upgrade)."""
    name, given = {
        "trajectory": ("trajectory/index.json", TRAJECTORY),
        "package": ("package/manifest.json", PACKAGE),
    }[request.param]
    document = _document(name)
    return document, manifest_of(parse(document), given, "release")


def _is_complete(document, result):
    """Every value of the source is moved, unplaced or silent, once; what was moved stands where it is said to."""
    plain = json.loads(canonical(result.document))
    for one in result.moved:
        assert at(plain, one.pointer) == one.became, one
    found = Counter([*(one.leaf.pointer for one in result.moved), *(one.leaf.pointer for one in result.unplaced)])
    found += Counter(leaf.pointer for leaf in result.nothing)
    assert found == Counter(leaf.pointer for leaf in leaves(document))
    changed = {one.pointer for one in result.supposed}
    for one in result.moved:
        same = one.became == one.leaf.value or str(one.became).lower() == str(one.leaf.value).strip().lower()
        numbers = isinstance(one.became, int | float) and str(one.leaf.value).replace(",", "") in str(one.became)
        kept = isinstance(one.became, str) and isinstance(one.leaf.value, str) and one.leaf.value in one.became
        assert same or numbers or kept or one.pointer in changed or one.pointer.endswith(SPELT), one


SPELT = ("/architecture", "/id", "/variant", "/canonical", "/tied", "/sources/steps", "/repository")
"""Where a value may stand in another spelling: `TopK`, a path without its ending, `yes`, a text of numbers."""


def test_nothing_is_lost(upgraded):
    """Placed and unplaced together are all values of the inventory."""
    _is_complete(*upgraded)


def test_the_manifest_is_one_and_tells_all_artifacts_apart(upgraded):
    """It fits the schema, has one artifact for each row, in natural order, and no two with one identity."""
    document, result = upgraded
    manifest = Manifest.from_text(canonical(result.document))
    rows = next(value for value in document.values() if isinstance(value, list))
    assert len(manifest.artifacts) == len(rows)
    assert len({repr(identity(artifact, manifest)) for artifact in manifest.artifacts}) == len(rows)
    steps = [a.id.rpartition("step")[2] for a in manifest.artifacts if "per-snapshot" in a.id]
    assert steps == sorted(steps, key=int)


def test_numbers_without_a_definition_are_no_claims():
    """Until somebody says which formula was used, they stay in the original, and the list says how to say it."""
    result = manifest_of(parse(_document("trajectory/index.json")), TRAJECTORY, "release")
    why = Counter((one.leaf.keys[-1], one.why.partition(";")[0]) for one in result.unplaced)
    assert why == {
        ("explained_variance", "no definition"): 70,
        ("mean_l0", "no definition"): 70,
        ("note", "no field of that meaning"): 1,
    }
    given = Given(TRAJECTORY.release, settings=TRAJECTORY.settings, metrics={"explained_variance": "fve_scalar_var"})
    result = manifest_of(parse(_document("trajectory/index.json")), given, "release")
    assert sum(len(artifact.get("claims", ())) for artifact in result.document["artifacts"]) == 70


def test_a_checkpoint_without_a_digest_and_the_words_of_a_hook_go_where_they_can():
    """The one is listed; the other stands as the reason of a site, and becomes no index into hidden_states."""
    result = manifest_of(parse(_document("package/manifest.json")), PACKAGE, "release")
    assert {one.leaf.keys[-1] for one in result.unplaced} == {"norm", "status", "source_checkpoint", "training_data"}
    site = result.document["sites"]["blocks.31.hook_resid_post"]
    assert "hidden_states[L + 1]" in site["reason"]
    assert "hidden_states_index" not in site
    claim = result.document["artifacts"][0]["claims"][0]
    assert claim == {"metric": "nmse_uncentred_row", "value": 0.27497, "kind": "training_running_mean"}


def test_what_is_said_of_some_wins_over_names_and_what_is_said_of_all_does_not():
    """`architecture=jumprelu` fills what no name says: the gated one stays gated."""
    result = manifest_of(parse(_document("trajectory/index.json")), TRAJECTORY, "release")
    found = {a["id"].split("/")[4]: a["architecture"] for a in result.document["artifacts"] if "comparison" in a["id"]}
    assert found == {"batchtopk": "batchtopk", "gated": "gated", "gated-retuned": "gated"}


def test_everything_that_is_missing_is_said_at_once():
    """In one line, each with its option; a setting of no use is refused too."""
    with pytest.raises(UsageError) as caught:
        manifest_of(parse(_document("package/manifest.json")), Given(), "release")
    assert all(word in str(caught.value) for word in ("--license", "--set kind=", "--site", "all 7"))
    assert "\n" not in str(caught.value)
    given = Given(TRAJECTORY.release, settings=(*TRAJECTORY.settings, *parse_settings(["nowhere/*:k=3"])))
    with pytest.raises(UsageError, match="nowhere"):
        manifest_of(parse(_document("trajectory/index.json")), given, "release")


@pytest.mark.parametrize(
    "word", ["d_in", "d_in=", "=3", "d_in=many", "kind=clt", "axis=layer", "colour=red", "x:d_in=-1"]
)
def test_a_setting_that_cannot_hold_is_refused(word):
    """Before anything is read."""
    with pytest.raises(SaeregError):
        parse_settings([word])


CELLS = st.none() | st.booleans() | st.integers(0, 9000) | st.floats(0, 2) | st.text("ab/._ é") | st.sampled_from(
    ["-", "131k", "W_U", "sae", "per-snapshot-saes", "EV 0.5 / L0 30", "a/layer_3/x.safetensors", "../up", "yes", "MIT"]
)  # fmt: skip

ROW_KEYS = st.sampled_from(
    ["model", "matrix", "kind", "d_sae", "k", "seed", "quality", "canonical", "L0", "status", "colour", "mse",
     "variant", "source_checkpoint", "checkpoint_sha256", "layer", "n_rows", "model_step", "description", "lr",
     "expected_failure"]
)  # fmt: skip

ANY_ROWS = st.lists(st.tuples(CELLS, st.dictionaries(ROW_KEYS, CELLS, max_size=8)), min_size=1, max_size=4)

FACTS = st.dictionaries(
    st.sampled_from(["license", "name", "version", "repo_id", "d_model", "hook_name", "note"]), CELLS
)

ALL = Given(
    release={"license": "mit"},
    model="org/model",
    settings=parse_settings(["kind=sae", "architecture=topk", "d_in=8", "d_sae=16", "parameter=W_U"]),
)


@settings(deadline=None, max_examples=50)
@given(ANY_ROWS, FACTS)
def test_whatever_rows_are_made_of_nothing_is_lost(rows, facts):
    """Either the document is refused in one line, or every value of it is found again."""
    document = {**facts, "artifacts": [{"id": "first", "layer": 0}, *({"id": name, **row} for name, row in rows)]}
    try:
        result = manifest_of(parse(document), ALL, "release")
    except SaeregError as error:
        problem = str(error)
        result = None
    if result is None:
        assert "\n" not in problem
    else:
        _is_complete(document, result)


@pytest.mark.parametrize("given", [Given(models={"nobody": "a/b"}), Given(metrics={"nothing": "l0"})])
def test_what_is_said_of_nothing_is_refused(given):
    """A model or number that no row names is a slip of the pen."""
    given = replace(PACKAGE, models=given.models, metrics=given.metrics or PACKAGE.metrics)
    with pytest.raises(UnknownNameError):
        manifest_of(parse(_document("package/manifest.json")), given, "release")


def test_a_token_policy_is_taken_over():
    """As it was typed; one that does not fit is refused."""
    tokens = parse_tokens(["bos=false", "separator=eos", "context_size=8192", "excluded=pad,special"])
    result = manifest_of(parse(_document("package/manifest.json")), replace(PACKAGE, tokens=tokens), "release")
    policy = Manifest.from_text(canonical(result.document)).tokens
    assert (policy.bos, policy.context_size, policy.excluded) == (False, 8192, ("pad", "special"))
    with pytest.raises(UsageError):
        manifest_of(parse(_document("package/manifest.json")), replace(PACKAGE, tokens={"bos": "maybe"}), "release")


def test_models_of_one_short_name_are_two_models():
    """`a/small` and `b/small`, or one model at two commits, never share a record."""
    rows = [
        {"id": "x", "model": "a/small", "layer": 1},
        {"id": "y", "model": "b/small", "layer": 1},
        {"id": "z", "model": "b/small", "layer": 1, "model_revision": "0" * 40},
    ]
    result = manifest_of(parse(rows), ALL, "release")
    document = Manifest.from_text(canonical(result.document))
    models = [document.base_models[document.sites[a.site].model] for a in document.artifacts]
    assert [(m.id, m.revision) for m in models] == [("a/small", None), ("b/small", None), ("b/small", "0" * 40)]
    _is_complete(rows, result)
