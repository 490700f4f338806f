"""The model that runs is the one that the manifest names, or it does not run."""

import hashlib
import json
import pickle
import shutil
import sys

import pytest

from saereg.errors import DataUnavailableError, UsageError, WeightsError
from saereg.registry.models.model import ModelSource, load_model
from saereg.registry.models.pinned import PinnedModel
from saereg.registry.models.sites import locate
from saereg.schemas.site import BaseModelRef

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def weights_digest(folder) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_a_folder_with_the_weights_that_are_named_is_loaded_once_and_without_a_tokenizer(tiny):
    """Stored token ids need none."""
    folder = tiny("neox")
    ref = BaseModelRef(id="org/tiny", weights_sha256=weights_digest(folder), n_layers=3, d_model=16)
    pinned = PinnedModel("tiny", ref, str(folder))
    loaded = pinned.load()

    assert loaded.tokenizer is None
    assert loaded.causal
    assert pinned.load() is loaded
    config = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    assert pinned.identity == f"org/tiny@{weights_digest(folder)}+{config}"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"weights_sha256": "0" * 64}, "weights_sha256 is"),
        ({"n_layers": 6}, "n_layers is 3, the manifest says 6"),
        ({"d_model": 512}, "d_model is 16, the manifest says 512"),
    ],
)
def test_another_model_is_refused(said, problem, tiny):
    """By whatever the manifest says of it."""
    pinned = PinnedModel("tiny", BaseModelRef(id="org/tiny", **said), str(tiny("neox")))
    with pytest.raises(WeightsError, match=f"base model tiny: {problem}"):
        pinned.load()


def test_a_snapshot_of_another_commit_is_refused(tiny, tmp_path):
    """Folders in the Hub's cache are named by their commit."""
    folder = tmp_path / COMMIT
    shutil.copytree(tiny("neox"), folder)

    assert PinnedModel("tiny", BaseModelRef(id="org/tiny", revision=COMMIT), str(folder)).load().causal
    with pytest.raises(WeightsError, match=f"revision is {COMMIT}, the manifest says aaaa"):
        PinnedModel("tiny", BaseModelRef(id="org/tiny", revision="a" * 40), str(folder)).load()


def test_a_folder_that_cannot_confirm_the_commit_is_no_model_of_it(tiny, tmp_path):
    """Any weights could be called by any commit; what the client of the Hub writes beside a download tells them."""
    folder = shutil.copytree(tiny("neox"), tmp_path / "download")
    pinned = PinnedModel("tiny", BaseModelRef(id="org/tiny", revision=COMMIT), str(folder))
    for refused in (lambda: pinned.identity, pinned.load):
        with pytest.raises(DataUnavailableError, match=f"nothing tells .* weights_sha256 {weights_digest(folder)}"):
            refused()
    known = BaseModelRef(id="org/tiny", revision=COMMIT, weights_sha256=weights_digest(folder))
    assert PinnedModel("tiny", known, str(folder)).load().causal

    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text(f"{COMMIT}\n{'1' * 40}\n1.0\n")
    (notes / "model.safetensors.metadata").write_text(f"{COMMIT}\n{weights_digest(folder)}\n1.0\n")
    assert pinned.load().causal
    (notes / "model.safetensors.metadata").write_text(f"{COMMIT}\n{'1' * 64}\n1.0\n")
    with pytest.raises(DataUnavailableError, match="nothing tells"):
        pinned.load()


def test_another_model_in_the_same_place_is_another_and_is_not_measured_on(tiny, tmp_path):
    """Weights and configuration both tell; also in another process, which takes along what was found here."""
    folder = shutil.copytree(tiny("neox"), tmp_path / "model")
    pinned = PinnedModel("tiny", BaseModelRef(id="org/tiny"), str(folder))
    first = pinned.identity
    taken = pickle.loads(pickle.dumps(pinned))
    assert pinned.load().causal

    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rotary_pct": 0.5}))
    assert PinnedModel("tiny", BaseModelRef(id="org/tiny"), str(folder)).identity != first
    for one in (pinned, taken):
        with pytest.raises(WeightsError, match="base model tiny: changed while it was measured"):
            one.load()


def test_what_a_manifest_names_is_no_path(tiny, tmp_path, monkeypatch):
    """A release could bring the model that its numbers are right of; the working directory does not matter."""
    (tmp_path / "evaluation").mkdir()
    shutil.copytree(tiny("neox"), tmp_path / "evaluation" / "model")
    shutil.copytree(tiny("neox"), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    for name in ("evaluation/model", "model", "./model", "../x", "a/b/c", str(tmp_path / "model"), "~/model"):
        with pytest.raises(DataUnavailableError, match=r"not in the cache of the Hub|no repository id"):
            PinnedModel("tiny", BaseModelRef(id=name)).load()


def test_a_snapshot_in_the_cache_is_found_by_its_commit(tiny, tmp_path, monkeypatch):
    """Without a network, and only where the weights are there too."""
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / COMMIT
    shutil.copytree(tiny("neox"), snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    pinned = PinnedModel("tiny", BaseModelRef(id="org/tiny", revision=COMMIT))
    assert pinned.load().causal
    assert pinned.identity == PinnedModel("tiny", BaseModelRef(id="org/tiny"), str(tiny("neox"))).identity
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(DataUnavailableError, match="not in the cache of the Hub"):
        pinned.load()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (
            {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}},
            "needs code of its own, which is never run",
        ),
        ({"transformers_weights": "other.safetensors"}, "names other weights"),
    ],
)
def test_a_model_that_wants_more_than_its_weights_is_refused_without_a_question(said, problem, tiny, tmp_path):
    """Its code is never run, whatever stands on standard input; the line goes into releases and names no path."""
    folder = shutil.copytree(tiny("neox"), tmp_path / "model")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(DataUnavailableError, match=problem) as caught:
        PinnedModel("tiny", BaseModelRef(id="org/tiny"), str(folder)).load()
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("harm", ["no config", "no JSON", "torn weights", "gone"])
def test_why_a_model_cannot_be_loaded_names_no_path_of_this_machine(harm, tiny, tmp_path):
    """The line stands in index.json."""
    folder = shutil.copytree(tiny("neox"), tmp_path / "jane")
    if harm == "no config":
        (folder / "config.json").unlink()
    elif harm == "no JSON":
        (folder / "config.json").write_text("{")
    elif harm == "torn weights":
        (folder / "model.safetensors").write_bytes(b"\0" * 40)
    else:
        shutil.rmtree(folder)
    with pytest.raises(DataUnavailableError, match="say where it is") as caught:
        PinnedModel("tiny", BaseModelRef(id="org/tiny"), str(folder)).load()
    assert "jane" not in str(caught.value)


def test_a_model_that_is_not_here_says_how_to_name_one(tiny, tmp_path):
    """Nothing is downloaded unless a repository is named; a folder without a model is no model."""
    (tmp_path / "empty").mkdir()
    for given in (None, str(tmp_path / "empty")):
        with pytest.raises(DataUnavailableError, match=r"say where it is: --model tiny=WHERE") as caught:
            PinnedModel("tiny", BaseModelRef(id="org/no-such-model", revision=COMMIT), given).load()
        assert f"base model tiny (org/no-such-model at {COMMIT})" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_transformers_the_rows_cannot_be_had(tmp_path, monkeypatch):
    """As where the weights are missing: other evaluations are measured all the same."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataUnavailableError, match=r"pip install 'saereg\[train\]'"):
        PinnedModel("tiny", BaseModelRef(id="org/tiny"), str(tmp_path)).load()


def test_a_module_is_found_with_and_without_its_outer_model(tiny):
    """`gpt_neox.layers.1` with the head is `layers.1` without it; what is nowhere is named."""
    causal = load_model(ModelSource(str(tiny("neox")), tokenizer=False))
    encoder = load_model(ModelSource(str(tiny("bert")), tokenizer=False))

    assert locate("layers.1", causal) == locate("gpt_neox.layers.1", causal) == "gpt_neox.layers.1"
    assert locate("bert.encoder.layer.0", encoder) == locate("encoder.layer.0", encoder) == "encoder.layer.0"
    with pytest.raises(UsageError, match="has no module"):
        locate("gpt_neox.layers.9", causal)
