"""The config.yaml of a set of transcoders: what circuit-tracer's own loader asks for, of files that were compared."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import saereg
from saereg.cli import run
from saereg.errors import MissingExtraError, UsageError, WeightsError
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.emitting import EMITTERS, Emitted, Wishes
from saereg.registry.emitting.subject import open_subject
from saereg.registry.formats import FORMATS
from saereg.registry.readings.given import Given
from saereg.registry.readings.source import open_source
from saereg.schemas.artifact_config import assumptions
from tests.registry.emitting.good_release import REVISION, TRANSCODERS, edit

REPO = f"tiny/release@{REVISION}"


def emitted(release: Path, repo: str = REPO, **wishes) -> Emitted:
    """Emit from a folder."""
    return EMITTERS["circuit-tracer"].emit(open_subject(str(release), repo), Wishes(**wishes))


@pytest.fixture
def converted(own) -> Path:
    """A release that holds its transcoders in the other layout too."""
    for identifier, layer in TRANSCODERS.items():
        convert(Order(own / identifier, own / "circuit_tracer" / f"layer_{layer}", "circuit_tracer"))
    return own


def test_a_config_names_a_pinned_file_for_each_layer(converted):
    """In the order of layers, as circuit-tracer counts them, with the hooks inside of a block."""
    found = emitted(converted)
    start = "hf://tiny/release/circuit_tracer"
    assert yaml.safe_load(found.text) == {
        "model_name": "tiny-model",
        "model_kind": "transcoder_set",
        "feature_input_hook": "hook_mlp_in",
        "feature_output_hook": "hook_mlp_out",
        "scan": REPO,
        "transcoders": [f"{start}/layer_{i}/layer_{i}.safetensors?revision={REVISION}" for i in range(2)],
    }
    assert found.notes == ("the model has 12 layers and the set 2: circuit-tracer replaces them all",)
    assert {one.id for one in found.left_out} == {
        "layer_2/jump",
        "layer_2/failed",
        "layer_3/exact",
        "layer_10/jump",
        "cross",
    }


def test_our_reader_of_such_a_set_understands_it(converted):
    """The config beside a file gives the model and the hooks that the artifact itself states."""
    folder = converted / "circuit_tracer/layer_0"
    (folder / "config.yaml").write_text(emitted(converted).text)
    reading = FORMATS["circuit_tracer"].read(open_source(folder / "layer_0.safetensors"), Given())
    theirs, ours = reading.cfg.metadata, saereg.open(converted)["mlp/layer_0"].cfg.metadata
    assert theirs.model_name == ours.model_name
    assert reading.unsettled is None
    assert [note.field for note in assumptions(reading.cfg)] == ["activation"]  # no key of it is unknown


def test_circuit_tracer_itself_loads_the_files(converted):
    """Its own set, of the files that the config names: the same outputs as the dictionaries of the release."""
    single = pytest.importorskip("circuit_tracer.transcoder.single_layer_transcoder")
    document = yaml.safe_load(emitted(converted).text)
    paths = {}
    for layer, uri in enumerate(document["transcoders"]):
        repo, _, rest = uri.removeprefix("hf://tiny/").partition("/")
        name, _, query = rest.partition("?")
        assert (repo, query) == ("release", f"revision={REVISION}")
        paths[layer] = str(converted / name)
    hooks = {key: document[key] for key in ("feature_input_hook", "feature_output_hook")}
    loaded = single.load_transcoder_set(paths, document["scan"], **hooks, device=torch.device("cpu"))
    x, release = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), saereg.open(converted)
    for identifier, layer in TRANSCODERS.items():
        assert torch.allclose(loaded.transcoders[layer](x), release[identifier].load()(x), atol=1e-6)


def test_without_converted_files_the_commands_are_named_and_work(own, capsys):
    """The one line of the refusal, pasted, is what was missing."""
    with pytest.raises(UsageError, match="2 of 2 transcoders are not in the layout of circuit-tracer") as refused:
        emitted(own)
    for line in str(refused.value).split("convert them first: ")[1].split(" && "):
        assert run(shlex.split(line)[1:]) == 0
    assert emitted(own).count == 2


def test_files_elsewhere_are_named_from_their_own_root(converted, tmp_path):
    """A repository of its own for the converted files."""
    root = (converted / "circuit_tracer").rename(tmp_path / "set")
    found = yaml.safe_load(emitted(converted, repo="tiny/set", files=root).text)
    assert found["transcoders"] == [f"hf://tiny/set/layer_{i}/layer_{i}.safetensors" for i in range(2)]


def test_a_file_of_other_numbers_is_refused(converted):
    """One number of a converted file is another: the tensor and the artifact are named."""
    file = converted / "circuit_tracer/layer_1/layer_1.safetensors"
    tensors = load_file(file)
    tensors["b_enc"][3] += 1e-3
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"layer_1\.safetensors: b_enc: is not that of mlp/layer_1"):
        emitted(converted)


REFUSED = [
    ({"where": ("id = mlp/layer_1",)}, "needs a transcoder for each layer from 0 to 1; missing: layer 0"),
    ({"where": ("kind = sae",)}, "circuit-tracer can have none of its artifacts; layer_2/failed: its kind is sae"),
    ({"files": Path("nowhere")}, "--files nowhere is not a folder"),
]


@pytest.mark.parametrize(("wishes", "why"), REFUSED)
def test_what_is_no_set_is_refused(good, wishes, why):
    """A gap, nothing that fits, and no folder."""
    with pytest.raises(UsageError, match=why):
        emitted(good, **wishes)


def test_two_of_one_layer_are_refused(own):
    """Which of two widths is meant, only the user can say."""

    def change(raw: dict) -> None:
        (entry,) = [one for one in raw["artifacts"] if one["id"] == "mlp/layer_0"]
        (own / "mlp/again").mkdir()
        for file in (own / "mlp/layer_0").iterdir():
            (own / "mlp/again" / file.name).write_bytes(file.read_bytes())
        raw["artifacts"].append(entry | {"id": "mlp/again", "path": "mlp/again", "variant": "again"})

    edit(own, change)
    with pytest.raises(UsageError, match="layer 0 has mlp/again and mlp/layer_0, and a set takes one"):
        emitted(own)


def test_a_name_that_circuit_tracer_reads_otherwise_is_told(converted):
    """By its name, circuit-tracer takes such a repository for Gemma Scope 2, whose files are others."""
    notes = emitted(converted, repo="me/gemma-scope-2-mine").notes
    assert any("gemma-scope-2" in note and "another layout" in note for note in notes)
    assert any(note.startswith("nothing is pinned") for note in notes)


def test_the_document_has_no_others(converted):
    """Plain strings and one list: what `yaml.safe_load` gives is what JSON could say too."""
    assert json.loads(json.dumps(yaml.safe_load(emitted(converted).text)))["model_kind"] == "transcoder_set"


def test_without_torch_it_is_one_line(good, monkeypatch):
    """Comparing numbers needs the extra, which is named."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"comparing converted transcoders needs torch"):
        emitted(good)
