"""SAELens' layout: read and write are inverse to the byte, and everything odd is refused in one sentence."""

import json
import re

import pytest
import torch
from sae_lens import SAE, TrainingSAE
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from saereg.errors import DocumentError, FormatError, WeightsError
from saereg.registry.checkpoint import Checkpoint, first_difference
from saereg.registry.dictionary import Dictionary
from saereg.registry.files.header import read_header
from saereg.registry.formats import FORMATS
from saereg.schemas.cfg import INFERENCE
from saereg.schemas.cfg_training import TRAINING
from tests.registry.factories import D_IN, D_SAE, checkpoint, config, crosscoder_config, rows, training_config

SAELENS = FORMATS["saelens"]


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a good JumpReLU dictionary."""
    SAELENS.write(checkpoint(config("jumprelu")), tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((config, name) for name in INFERENCE),
        *((training_config, name) for name in TRAINING),
    ],
)
def test_reading_what_was_written_gives_the_same_bytes(make, name, dtype, tmp_path):
    """Every architecture, inference and training, in every type; and writing again changes no file."""
    source = checkpoint(make(name, dtype=dtype))

    SAELENS.write(source, tmp_path)
    again = SAELENS.read(tmp_path)

    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) == {"cfg.json", "sae_weights.safetensors"}
    assert SAELENS.detect(tmp_path)
    assert first_difference(source, again) is None
    assert again.cfg.text() == source.cfg.text() == files["cfg.json"].decode()
    SAELENS.write(again, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize("name", INFERENCE)
def test_saelens_loads_what_was_written(name, tmp_path):
    """With the same tensors, the same metadata, and the same outputs."""
    source = checkpoint(config(name, metadata={"sae_lens_version": "6.54.12", "hook_name": "blocks.0.mlp"}))
    SAELENS.write(source, tmp_path)

    sae = SAE.load_from_disk(tmp_path)

    assert sae.cfg.metadata.hook_name == "blocks.0.mlp"
    assert {key: value.shape for key, value in sae.state_dict().items()} == {
        key: value.shape for key, value in source.weights.items()
    }
    assert all(torch.equal(sae.state_dict()[key], value) for key, value in source.weights.items())
    x = rows(2, 7, D_IN)
    assert torch.allclose(sae(x), Dictionary(source)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRAINING)
def test_saelens_resumes_training_from_what_was_written(name, tmp_path):
    """Every training setting has the type that SAELens computes with."""
    source = checkpoint(training_config(name))
    SAELENS.write(source, tmp_path)

    sae = TrainingSAE.load_from_disk(tmp_path)

    for key, value in sae.state_dict().items():
        assert torch.equal(value, source.weights[key].to(value.dtype)), key  # it rounds its float64 threshold
    assert sae(rows(7, D_IN)).isfinite().all()


def test_special_values_survive(tmp_path):
    """NaN payloads, negative zero, infinities and subnormals are bytes like any others."""
    source = checkpoint(config("standard"))
    b_enc = source.weights["b_enc"].clone()
    b_enc[:5] = torch.tensor([float("nan"), -0.0, float("inf"), -float("inf"), 1e-45])
    odd = Checkpoint(source.cfg, dict(source.weights) | {"b_enc": b_enc})

    SAELENS.write(odd, tmp_path)

    assert first_difference(odd, SAELENS.read(tmp_path)) is None


def test_tensors_that_share_memory_or_are_strided_are_written_apart(tmp_path):
    """safetensors refuses both; a tied decoder is simply two tensors in the file."""
    source = checkpoint(config("standard"))
    W_dec = source.weights["W_dec"]
    long = torch.arange(2.0 * D_SAE)
    tied = dict(source.weights) | {"W_enc": W_dec.T, "b_enc": long[D_SAE:], "b_dec": W_dec[0]}

    SAELENS.write(Checkpoint(source.cfg, tied), tmp_path)

    stored = load_file(tmp_path / "sae_weights.safetensors")
    assert torch.equal(stored["W_enc"], W_dec.T)
    assert torch.equal(stored["b_enc"], long[D_SAE:])
    assert torch.equal(stored["b_dec"], W_dec[0])


def test_two_names_for_one_tensor_are_written_twice(tmp_path):
    """Whole shared storage is copied as well."""
    source = checkpoint(config("gated"))
    shared = dict(source.weights) | {"b_mag": source.weights["b_gate"]}

    SAELENS.write(Checkpoint(source.cfg, shared), tmp_path)

    stored = load_file(tmp_path / "sae_weights.safetensors")
    assert torch.equal(stored["b_mag"], stored["b_gate"])


def test_the_header_carries_no_metadata_as_in_saelens(folder):
    """SAELens writes none, so the same weights are the same bytes."""
    assert read_header(folder / "sae_weights.safetensors").metadata == {}


def test_weights_are_read_to_the_device_that_is_asked_for(folder):
    """`meta` stands in for an accelerator."""
    assert SAELENS.read(folder, device="meta").weights["W_dec"].device.type == "meta"


def test_weights_read_do_not_depend_on_the_file_any_more(folder):
    """A checkpoint in memory stays as it is when its file is replaced or removed."""
    read = SAELENS.read(folder)
    before = {name: tensor.clone() for name, tensor in read.weights.items()}

    (folder / "sae_weights.safetensors").write_bytes(b"gone")

    assert all(torch.equal(read.weights[name], tensor) for name, tensor in before.items())


def test_a_write_that_fails_leaves_the_old_files_and_no_rubbish(folder, monkeypatch):
    """The weights are complete under another name before they replace anything."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(weights, path, metadata):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="No space left on device"):
        SAELENS.write(checkpoint(config("jumprelu"), seed=5), folder)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_is_an_error_of_the_system(folder, monkeypatch):
    """safetensors has an exception of its own for it, which nobody expects."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(weights, path, metadata):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        SAELENS.write(checkpoint(config("jumprelu"), seed=5), folder)

    assert (caught.value.errno, caught.value.filename) == (28, str(folder / "sae_weights.safetensors"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_configuration_is_written_last(tmp_path, monkeypatch):
    """A folder with a cfg.json has its weights."""
    seen = []

    def spy(path, text):
        seen.append(sorted(entry.name for entry in path.parent.iterdir()))
        path.write_text(text)

    monkeypatch.setattr("saereg.registry.formats.tensorfile.write_text_atomically", spy)
    SAELENS.write(checkpoint(config("standard")), tmp_path)

    assert seen == [["sae_weights.safetensors"]]


def test_another_layout_is_not_detected(tmp_path):
    """Keys and tensor names decide, not the names of the files."""
    (tmp_path / "empty").mkdir()
    assert not SAELENS.detect(tmp_path / "empty")

    SAELENS.write(checkpoint(config("standard")), tmp_path / "other")
    cfg = tmp_path / "other" / "cfg.json"
    text = cfg.read_text()
    for wrong in ("[]", "not JSON", '{"n_dirs": 8}', text.replace('"architecture"', '"kind": "crosscoder", "a"')):
        cfg.write_text(wrong)
        assert not SAELENS.detect(tmp_path / "other")
    cfg.write_text(text)
    assert SAELENS.detect(tmp_path / "other")
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "other" / "sae_weights.safetensors")
    assert not SAELENS.detect(tmp_path / "other")
    (tmp_path / "other" / "sae_weights.safetensors").write_bytes(b"junk")
    assert not SAELENS.detect(tmp_path / "other")


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_missing_file_is_named(folder, name):
    """Both files are needed."""
    (folder / name).unlink()

    with pytest.raises(FormatError) as error:
        SAELENS.read(folder)

    needed = "this layout needs cfg.json and sae_weights.safetensors"
    assert str(error.value) == f"{folder}: {name} is missing; {needed}"


def test_a_file_that_is_no_safetensors_is_refused(folder):
    """Truncated downloads and pickles renamed are the usual reasons."""
    (folder / "sae_weights.safetensors").write_bytes(b"PK\x03\x04 a pickle in disguise")

    with pytest.raises(WeightsError, match="truncated, or not safetensors"):
        SAELENS.read(folder)


def test_a_configuration_that_does_not_fit_is_refused(folder):
    """Unknown keys are errors, with the likely key."""
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["apply_b_dec_to_inputs"] = cfg.pop("apply_b_dec_to_input")
    (folder / "cfg.json").write_text(json.dumps(cfg))

    with pytest.raises(DocumentError, match="did you mean 'apply_b_dec_to_input'"):
        SAELENS.read(folder)


def test_a_configuration_in_another_encoding_is_refused(folder):
    """JSON is UTF-8."""
    (folder / "cfg.json").write_bytes("{}".encode("utf-16"))

    with pytest.raises(DocumentError, match="byte 0 is not UTF-8"):
        SAELENS.read(folder)


CHANGES = {
    "missing": (lambda w: w.pop("threshold"), "threshold: missing; expected shape (20,)"),
    "extra": (lambda w: w.update(scale=torch.ones(2)), "scale: not a tensor of this architecture"),
    "transposed": (
        lambda w: w.update(W_enc=w["W_enc"].T.contiguous()),
        "W_enc: shape (20, 6), expected (6, 20) by the configuration",
    ),
    "integers": (
        lambda w: w.update(b_dec=torch.ones(D_IN, dtype=torch.int32)),
        "b_dec: stored as int32, expected one of float64, float32, float16, bfloat16; convert it and write it again",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_wrong_tensors_are_refused_on_reading(folder, what):
    """The message names file, tensor, what was found and what was expected."""
    path = folder / "sae_weights.safetensors"
    weights = load_file(path)
    change, message = CHANGES[what]
    change(weights)
    save_file(weights, path)

    with pytest.raises(WeightsError) as error:
        SAELENS.read(folder)

    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize("what", ["missing", "extra", "transposed"])
def test_wrong_tensors_are_refused_on_writing(tmp_path, what):
    """Nothing is written then."""
    source = checkpoint(config("jumprelu"))
    weights = dict(source.weights)
    change, message = CHANGES[what]
    change(weights)

    with pytest.raises(WeightsError) as error:
        SAELENS.write(Checkpoint(source.cfg, weights, "here"), tmp_path)

    assert str(error.value) == f"here: {message}"
    assert not list(tmp_path.iterdir())


def test_tensors_of_another_type_than_declared_are_refused_on_writing(tmp_path):
    """A file must not disagree with its own configuration."""
    source = checkpoint(config("standard"))
    weights = dict(source.weights) | {"W_dec": source.weights["W_dec"].double()}

    with pytest.raises(WeightsError) as error:
        SAELENS.write(Checkpoint(source.cfg, weights, "here"), tmp_path)

    assert str(error.value) == (
        "here: W_dec: is float64, but the configuration says float32; cast it or correct `dtype`"
    )


def test_a_configuration_without_version_is_refused_on_writing(tmp_path):
    """SAELens would drop its metadata, hook and model included."""
    source = checkpoint(config("standard", metadata={"hook_name": "blocks.0.hook_resid_post"}))

    with pytest.raises(FormatError) as error:
        SAELENS.write(source, tmp_path)

    assert str(error.value) == (
        f"{tmp_path / 'cfg.json'}: `metadata.sae_lens_version` is not set, so SAELens would drop all metadata on "
        "loading; set it to the version that made the weights"
    )


def test_a_crosscoder_is_no_saelens_dictionary(tmp_path):
    """The message names the layout to use."""
    with pytest.raises(FormatError, match=re.escape("SAELens has no crosscoder; use the layout 'saereg-crosscoder'")):
        SAELENS.write(checkpoint(crosscoder_config("standard")), tmp_path)
