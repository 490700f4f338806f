"""saereg's layout for crosscoders: read and write are inverse to the byte, and everything odd is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.errors import DocumentError, FormatError, WeightsError
from saereg.registry.checkpoint import Checkpoint, first_difference
from saereg.registry.files.header import read_header
from saereg.registry.formats import FORMATS
from tests.registry.factories import CROSSCODERS, PREPROCESS, SOURCES, checkpoint, config, crosscoder_config

CROSSCODER = FORMATS["saereg-crosscoder"]
WEIGHTS = "weights.safetensors"


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a good crosscoder."""
    CROSSCODER.write(checkpoint(crosscoder_config("jumprelu", "center_scale")), tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("preprocess", PREPROCESS)
@pytest.mark.parametrize("name", CROSSCODERS)
def test_reading_what_was_written_gives_the_same_bytes(name, preprocess, dtype, tmp_path):
    """Every architecture, gate, bias reduction, statistic and type; and writing again changes no file."""
    source = checkpoint(crosscoder_config(name, preprocess, dtype=dtype))

    CROSSCODER.write(source, tmp_path)
    again = CROSSCODER.read(tmp_path)

    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) == {"cfg.json", WEIGHTS}
    assert first_difference(source, again) is None
    assert again.cfg.text() == source.cfg.text() == files["cfg.json"].decode()
    CROSSCODER.write(again, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_every_switch_stands_in_the_configuration(folder):
    """Axes, bias, gate, code norm and statistics are spelt out, whether or not they have their plain value."""
    cfg = json.loads((folder / "cfg.json").read_text())

    assert {"axes", "bias_reduction", "gate", "code_norm", "statistics", "sources", "input"} <= cfg.keys()
    assert cfg["axes"]["W_dec"] == ["d_sae", "source", "d_in"]


def test_the_header_names_the_layout(folder):
    """A weight file that was separated from its folder still says what it is."""
    assert read_header(folder / WEIGHTS).metadata == {"format": "saereg-crosscoder"}


def test_exactly_one_layout_recognizes_each_folder(tmp_path):
    """No folder is in two layouts."""
    CROSSCODER.write(checkpoint(crosscoder_config("gated")), tmp_path / "crosscoder")
    FORMATS["saelens"].write(checkpoint(config("gated")), tmp_path / "sae")
    (tmp_path / "empty").mkdir()

    found = {
        path.name: [name for name, layout in FORMATS.items() if layout.detect(path)] for path in tmp_path.iterdir()
    }
    assert found == {"crosscoder": ["saereg-crosscoder"], "sae": ["saelens"], "empty": []}


def test_a_crosscoder_is_recognized_by_keys_and_tensors(folder):
    """The names of the files are not enough."""
    text = (folder / "cfg.json").read_text()
    (folder / "cfg.json").write_text(text.replace('"crosscoder"', '"transcoder"'))
    assert not CROSSCODER.detect(folder)

    (folder / "cfg.json").write_text(text)
    assert CROSSCODER.detect(folder)
    save_file({"W_E": torch.zeros(2)}, folder / WEIGHTS)
    assert not CROSSCODER.detect(folder)


@pytest.mark.parametrize("name", ["cfg.json", WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    """Both files are needed."""
    (folder / name).unlink()

    with pytest.raises(FormatError) as error:
        CROSSCODER.read(folder)

    assert str(error.value) == f"{folder}: {name} is missing; this layout needs cfg.json and weights.safetensors"


def test_statistics_that_are_declared_must_be_there(folder):
    """`center_scale` without its numbers is another function."""
    weights = load_file(folder / WEIGHTS)
    del weights["input_mean"]
    save_file(weights, folder / WEIGHTS)

    with pytest.raises(WeightsError) as error:
        CROSSCODER.read(folder)

    assert str(error.value) == f"{folder / WEIGHTS}: input_mean: missing; expected shape (3, 6)"


def test_a_bias_of_the_other_reduction_is_refused(folder):
    """A shared bias where one per source is declared does not pass by broadcasting."""
    weights = load_file(folder / WEIGHTS)
    weights["b_enc"] = torch.zeros(1, weights["b_enc"].shape[-1])
    save_file(weights, folder / WEIGHTS)

    with pytest.raises(WeightsError) as error:
        CROSSCODER.read(folder)

    assert str(error.value) == f"{folder / WEIGHTS}: b_enc: shape (1, 20), expected (3, 20) by the configuration"


def test_statistics_of_another_type_are_refused_on_writing(tmp_path):
    """They are float32 whatever the type of the weights."""
    source = checkpoint(crosscoder_config("standard", "center", dtype="bfloat16"))
    weights = dict(source.weights)
    weights["input_mean"] = weights["input_mean"].bfloat16()

    with pytest.raises(WeightsError) as error:
        CROSSCODER.write(Checkpoint(source.cfg, weights, "here"), tmp_path)

    assert str(error.value) == (
        "here: input_mean: is bfloat16, but the configuration says float32; cast it or correct `dtype`"
    )


def test_sources_that_do_not_match_their_number_are_refused(folder):
    """The source axis has as many entries as it names."""
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["sources"]["steps"] = list(range(1, SOURCES))
    (folder / "cfg.json").write_text(json.dumps(cfg))

    with pytest.raises(DocumentError, match="n_sources is 3, but `sources` names 2"):
        CROSSCODER.read(folder)


def test_an_ordinary_sae_is_no_crosscoder(tmp_path):
    """On writing and on reading, the message names the layout to use."""
    source = checkpoint(config("standard"))
    with pytest.raises(FormatError) as error:
        CROSSCODER.write(source, tmp_path)
    assert str(error.value) == (f"{tmp_path}: architecture 'standard' is no crosscoder; use the layout 'saelens'")

    FORMATS["saelens"].write(source, tmp_path)
    (tmp_path / "sae_weights.safetensors").rename(tmp_path / WEIGHTS)
    with pytest.raises(FormatError, match="use the layout 'saelens'"):
        CROSSCODER.read(tmp_path)


def test_a_crosscoder_under_the_file_name_of_saelens_is_refused(folder):
    """The configuration decides."""
    (folder / WEIGHTS).rename(folder / "sae_weights.safetensors")

    with pytest.raises(FormatError, match="use the layout 'saereg-crosscoder'"):
        FORMATS["saelens"].read(folder)
