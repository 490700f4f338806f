"""The stub for Neuronpedia: facts of the release, null for all else, and what will be asked for."""

import json

import pytest

from saereg.errors import UsageError
from saereg.registry.emitting import EMITTERS, Wishes
from saereg.registry.emitting.subject import open_subject
from tests.registry.emitting.good_release import REVISION, edit


def emitted(release, **wishes):
    """Return the document and what was said beside it."""
    subject = open_subject(str(release), f"tiny/release@{REVISION}")
    found = EMITTERS["neuronpedia"].emit(subject, Wishes(**wishes))
    return json.loads(found.text), found


def test_a_stated_id_gives_model_set_and_source(good):
    """`tiny-model/2-res-tt` is layer 2 of the set res-tt of tiny-model, and the rest are facts of the release."""
    document, found = emitted(good, where=("id = layer_2/jump",))
    assert document["release"]["name"] == "good-ones"
    assert document["models"] == [
        {
            "id": "tiny-model",
            "layers": 12,
            "dimension": 4,
            "owner": "tiny",
            "website": "https://huggingface.co/tiny/tiny-model",
        }
    ]
    (one,), (source,) = document["sourceSets"], document["sources"]
    assert (one["modelId"], one["name"], one["description"]) == ("tiny-model", "res-tt", "Residual Stream - 10")
    assert (source["id"], source["hfRepoId"], source["hfFolderId"]) == ("2-res-tt", "tiny/release", "layer_2/jump")
    assert source["dashboard"] == {
        "layer-num": 2,
        "hook-point": "hook_resid_post",
        "hf-weights-path": "layer_2/jump/sae_weights.safetensors",
        "source-dtype": "float32",
        "zero-out-bos-token": True,
    }
    assert source["num_prompts"] is None
    assert found.notes == ("Neuronpedia will ask for sources.dataset", "Neuronpedia will ask for sources.num_prompts")


def test_what_nobody_said_is_null_and_asked_for(good):
    """No name of the set, no id of the model: neither is guessed."""
    document, found = emitted(good, where=("id = layer_3/exact",))
    (source,) = document["sources"]
    assert (source["id"], source["modelId"], source["setName"]) == (None, None, None)
    assert "Neuronpedia will ask for sourceSets.name (--name says it)" in found.notes
    assert "Neuronpedia will ask for models.id (--model-name says it)" in found.notes


def test_options_say_it(good):
    """Two layers of one set, in the order of layers; transcoders are a set of their own."""
    document, _ = emitted(good, where=("kind = transcoder",), name="mine-mlp", model="tiny-1b")
    assert [source["id"] for source in document["sources"]] == ["0-mine-mlp", "1-mine-mlp"]
    assert document["sourceSets"][0]["description"] == "MLP Transcoder - 10"
    assert {source["modelId"] for source in document["sources"]} == {"tiny-1b"}


def test_a_name_that_its_form_refuses_is_told(good):
    """The name stands as the user wrote it."""
    document, found = emitted(good, where=("kind = transcoder",), name="My_Set")
    assert document["sourceSets"][0]["name"] == "My_Set"
    assert any("My_Set has others" in note for note in found.notes)


def test_a_training_data_set_is_named(own):
    """Only where the manifest names it."""

    def change(raw: dict) -> None:
        for one in raw["artifacts"]:
            one["training"] = {"dataset": "text"}

    edit(own, change)
    document, _ = emitted(own, where=("kind = transcoder",))
    assert {source["dataset"] for source in document["sources"]} == {"tiny/text"}


def test_an_id_of_another_layer_is_refused(own):
    """An id that points to the features of another dictionary is worse than none."""

    def change(raw: dict) -> None:
        (one,) = [one for one in raw["artifacts"] if one["id"] == "layer_2/jump"]
        one["neuronpedia_id"] = "tiny-model/3-res-tt"

    edit(own, change)
    with pytest.raises(UsageError, match=r"layer_2/jump: neuronpedia_id tiny-model/3-res-tt is not MODEL/2-SET"):
        emitted(own)


def test_a_crosscoder_and_a_failure_stay_out(good):
    """Each with its reason."""
    _, found = emitted(good)
    assert {one.id for one in found.left_out} == {"cross", "layer_2/failed"}


def test_one_name_is_not_given_to_two_sets(good):
    """SAEs and transcoders under one name would be one set in which a layer stands twice, or for two things."""
    with pytest.raises(UsageError, match="--name is the name of one set; here are 2: MLP Transcoder - 10, Residual"):
        emitted(good, name="mine")
