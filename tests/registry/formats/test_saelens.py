"""SAELens' layout: read and write are inverse to the byte, and everything odd is refused in one sentence."""

import errno
import json
import os
import re

import pytest
import torch
from sae_lens import SAE, TrainingSAE
from safetensors.torch import load_file, save_file

from saereg.errors import DocumentError, FormatError, WeightsError
from saereg.registry.checkpoint import Checkpoint, first_difference
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.files import streaming
from saereg.registry.files.header import read_header
from saereg.registry.files.tensors import MemoryFile
from saereg.registry.loading import detect, read_checkpoint
from saereg.registry.readings.source import WEIGHT_SUFFIXES
from saereg.schemas.cfg import INFERENCE
from saereg.schemas.cfg_training import TRAINING
from tests.registry.factories import D_IN, D_SAE, checkpoint, config, crosscoder_config, rows, training_config, write


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a good JumpReLU dictionary."""
    write(checkpoint(config("jumprelu")), tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", INFERENCE)
def test_reading_what_was_written_gives_the_same_bytes(name, dtype, tmp_path):
    """Every architecture in every type; and writing again changes no file."""
    source = checkpoint(config(name, dtype=dtype))

    write(source, tmp_path)
    again = read_checkpoint(tmp_path)

    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) == {"cfg.json", "sae_weights.safetensors"}
    assert detect(tmp_path) == ("saelens",)
    assert first_difference(source, again) is None
    assert again.cfg.text() == source.cfg.text() == files["cfg.json"].decode()
    write(again, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def saved(source, folder):
    """Write a training checkpoint as SAELens' trainer does, tensor by tensor as it is."""
    save_file(dict(source.weights), folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(source.cfg.text())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("name", TRAINING)
def test_reading_a_training_checkpoint_gives_its_bytes(name, dtype, tmp_path):
    """Every training architecture in every type, where no decoder norm is to be folded."""
    plain = {"rescale_acts_by_decoder_norm": False} if "topk" in name else {}
    source = checkpoint(training_config(name, dtype=dtype, **plain))

    saved(source, tmp_path)
    again = read_checkpoint(tmp_path)

    assert detect(tmp_path) == ("saelens",)
    assert first_difference(source, again) is None
    assert again.cfg.text() == source.cfg.text()


@pytest.mark.parametrize("name", TRAINING)
def test_a_training_checkpoint_is_written_for_inference(name, tmp_path):
    """SAELens runs what was written, and it is the function that the checkpoint has at inference."""
    source, x = checkpoint(training_config(name)), rows(7, D_IN)

    write(source, tmp_path)

    sae, expected = SAE.load_from_disk(tmp_path), Dictionary(source)
    assert sae.cfg.architecture() in INFERENCE
    assert torch.equal(Dictionary(read_checkpoint(tmp_path)).encode(x) != 0, expected.encode(x) != 0)
    assert torch.allclose(sae(x), expected(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", INFERENCE)
def test_saelens_loads_what_was_written(name, tmp_path):
    """With the same tensors, the same metadata, and the same outputs."""
    source = checkpoint(config(name, metadata={"sae_lens_version": "6.54.12", "hook_name": "blocks.0.mlp"}))
    write(source, tmp_path)

    sae = SAE.load_from_disk(tmp_path)

    assert sae.cfg.metadata.hook_name == "blocks.0.mlp"
    assert {key: value.shape for key, value in sae.state_dict().items()} == {
        key: value.shape for key, value in source.weights.items()
    }
    assert all(torch.equal(sae.state_dict()[key], value) for key, value in source.weights.items())
    x = rows(2, 7, D_IN)
    assert torch.allclose(sae(x), Dictionary(source)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRAINING)
def test_saelens_resumes_training_from_a_configuration_that_was_read_and_written(name, tmp_path):
    """Every training setting has the type that SAELens computes with."""
    source = checkpoint(training_config(name))
    saved(source, tmp_path)

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

    write(odd, tmp_path)

    assert first_difference(odd, read_checkpoint(tmp_path)) is None


def test_tensors_that_share_memory_or_are_strided_are_written_apart(tmp_path):
    """safetensors refuses both; a tied decoder is simply two tensors in the file."""
    source = checkpoint(config("standard"))
    W_dec = source.weights["W_dec"]
    long = torch.arange(2.0 * D_SAE)
    tied = dict(source.weights) | {"W_enc": W_dec.T, "b_enc": long[D_SAE:], "b_dec": W_dec[0]}

    write(Checkpoint(source.cfg, tied), tmp_path)

    stored = load_file(tmp_path / "sae_weights.safetensors")
    assert torch.equal(stored["W_enc"], W_dec.T)
    assert torch.equal(stored["b_enc"], long[D_SAE:])
    assert torch.equal(stored["b_dec"], W_dec[0])


def test_two_names_for_one_tensor_are_written_twice(tmp_path):
    """Whole shared storage is copied as well."""
    source = checkpoint(config("gated"))
    shared = dict(source.weights) | {"b_mag": source.weights["b_gate"]}

    write(Checkpoint(source.cfg, shared), tmp_path)

    stored = load_file(tmp_path / "sae_weights.safetensors")
    assert torch.equal(stored["b_mag"], stored["b_gate"])


def test_the_header_carries_no_metadata_as_in_saelens(folder):
    """SAELens writes none, so the same weights are the same bytes."""
    assert read_header(folder / "sae_weights.safetensors").metadata == {}


def test_weights_are_read_to_the_device_that_is_asked_for(folder):
    """`meta` stands in for an accelerator."""
    assert read_checkpoint(folder, device="meta").weights["W_dec"].device.type == "meta"


def test_weights_read_do_not_depend_on_the_file_any_more(folder):
    """A checkpoint in memory stays as it is when its file is replaced or removed."""
    read = read_checkpoint(folder)
    before = {name: tensor.clone() for name, tensor in read.weights.items()}

    (folder / "sae_weights.safetensors").write_bytes(b"gone")

    assert all(torch.equal(read.weights[name], tensor) for name, tensor in before.items())


def test_a_write_that_fails_leaves_the_old_files_and_no_rubbish(folder, monkeypatch):
    """The weights are complete under another name before they replace anything."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(path, name, box):
        raise WeightsError(path, "cannot be read any more", name)

    monkeypatch.setattr(MemoryFile, "box", lambda file, name, box: fail(file.path.name, name, box))
    with pytest.raises(WeightsError, match="cannot be read any more"):
        write(checkpoint(config("jumprelu"), seed=5), folder)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_is_an_error_of_the_system_and_names_the_file(folder, monkeypatch):
    """The first bytes went out, the others found no room; the file is called by the name that the caller knows."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_some = streaming._Hashing.write

    def fail(out, raw):
        if out.file.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_some(out, raw)

    monkeypatch.setattr(streaming._Hashing, "write", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(checkpoint(config("jumprelu"), seed=5), folder)

    assert (caught.value.errno, caught.value.filename) == (28, str(folder / "sae_weights.safetensors"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_configuration_is_written_last(tmp_path, monkeypatch):
    """A folder with a cfg.json has its weights."""
    seen = []

    def spy(path, text):
        seen.append(sorted(entry.name for entry in path.parent.iterdir()))
        path.write_text(text)

    monkeypatch.setattr("saereg.registry.conversion.write.write_text_atomically", spy)
    write(checkpoint(config("standard")), tmp_path)

    assert seen == [["sae_weights.safetensors"]]


def test_another_layout_is_not_detected(tmp_path):
    """Keys and tensor names decide, not the names of the files."""
    (tmp_path / "empty").mkdir()
    assert detect(tmp_path / "empty") == ()

    write(checkpoint(config("standard")), tmp_path / "other")
    cfg = tmp_path / "other" / "cfg.json"
    text = cfg.read_text()
    foreign = ("[]", '{"n_dirs": 8}', text.replace('"architecture"', '"kind": "crosscoder", "a"'))
    for wrong in (*foreign, text.replace('"d_in"', '"hook_point": "blocks.0.hook_mlp_out", "d_in"')):
        cfg.write_text(re.sub(r'"sae_lens_version": "6[^"]*"', '"sae_lens_version": "5.1.0"', wrong))
        assert "saelens" not in detect(tmp_path / "other")
    cfg.write_text(text)
    assert detect(tmp_path / "other") == ("saelens",)
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "other" / "sae_weights.safetensors")
    assert "saelens" not in detect(tmp_path / "other")


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_damaged_file_is_no_reason_to_say_that_there_is_no_layout(folder, name):
    """It is said what is damaged, and how, where a layout is looked for."""
    (folder / name).write_bytes(b"junk")
    damage = {
        "cfg.json": f"{folder / name}: is not JSON: Expecting value at line 1",
        "sae_weights.safetensors": f"{name}: 4 bytes are too few for a safetensors file",
    }

    for look in (detect, read_checkpoint):
        with pytest.raises((DocumentError, WeightsError)) as error:
            look(folder)
        assert str(error.value) == damage[name]


MISSING = {
    "cfg.json": (
        "in no layout that saereg knows; its tensors are W_dec, W_enc, b_dec, b_enc, threshold, and no document "
        "beside them says what they mean; if you know what they mean, say it with --from state_dict",
        "cfg.json is missing; this layout needs it beside the weights",
    ),
    "sae_weights.safetensors": (
        "holds no weight file that saereg reads; saereg detect lists what lies below it",
        f"holds no weight file; expected one that ends in {', '.join(WEIGHT_SUFFIXES)}",
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_is_named(folder, name):
    """Both files are needed, whether the layout is looked for or known."""
    (folder / name).unlink()

    for layout, message in zip((None, "saelens"), MISSING[name], strict=True):
        with pytest.raises(FormatError) as error:
            read_checkpoint(folder, layout=layout)
        assert str(error.value) == f"{folder}: {message}"


BROKEN = {
    "archive that is none": (b"PK\x03\x04 a pickle in disguise", "is a damaged archive: File is not a zip file"),
    "page": (
        b"<!DOCTYPE html><html>",
        "its header claims 5789751444030890300 bytes, but the file has 21: truncated, or not safetensors",
    ),
    "cut off": (None, "its tensors end at byte 1472, but the file has 700: truncated"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_is_no_safetensors_is_refused(folder, what):
    """Truncated downloads, pages of a server and pickles renamed are the usual reasons."""
    path = folder / "sae_weights.safetensors"
    content, message = BROKEN[what]
    path.write_bytes(path.read_bytes()[:700] if content is None else content)

    with pytest.raises(WeightsError) as error:
        read_checkpoint(folder)

    assert str(error.value) == f"sae_weights.safetensors: {message}"


def test_a_configuration_that_does_not_fit_is_refused(folder):
    """Unknown keys are errors, with the likely key."""
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["apply_b_dec_to_inputs"] = cfg.pop("apply_b_dec_to_input")
    (folder / "cfg.json").write_text(json.dumps(cfg))

    with pytest.raises(DocumentError, match="did you mean 'apply_b_dec_to_input'"):
        read_checkpoint(folder)


def test_a_configuration_in_another_encoding_is_refused(folder):
    """JSON is UTF-8."""
    (folder / "cfg.json").write_bytes("{}".encode("utf-16"))

    with pytest.raises(DocumentError) as error:
        read_checkpoint(folder)

    assert str(error.value) == f"{folder / 'cfg.json'}: is not UTF-8 (byte 0)"


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
        read_checkpoint(folder)

    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize("what", ["missing", "extra", "transposed"])
def test_wrong_tensors_are_refused_on_writing(tmp_path, what):
    """Nothing is written then."""
    source = checkpoint(config("jumprelu"))
    weights = dict(source.weights)
    change, message = CHANGES[what]
    change(weights)

    with pytest.raises(WeightsError) as error:
        write(Checkpoint(source.cfg, weights, "here"), tmp_path)

    assert str(error.value) == f"here: {message}"
    assert not list(tmp_path.iterdir())


def test_tensors_of_another_type_than_declared_are_refused_on_writing(tmp_path):
    """A file must not disagree with its own configuration."""
    source = checkpoint(config("standard"))
    weights = dict(source.weights) | {"W_dec": source.weights["W_dec"].double()}

    with pytest.raises(WeightsError) as error:
        write(Checkpoint(source.cfg, weights, "here"), tmp_path)

    assert str(error.value) == (
        "here: W_dec: is float64, but the configuration says float32; cast it or correct `dtype`"
    )


def test_a_configuration_without_version_is_refused_on_writing(tmp_path):
    """SAELens would drop its metadata, hook and model included."""
    source = checkpoint(config("standard", metadata={"hook_name": "blocks.0.hook_resid_post"}))

    with pytest.raises(FormatError) as error:
        write(source, tmp_path)

    assert str(error.value) == (
        "cfg.json: `metadata.sae_lens_version` is not set, so SAELens would drop all metadata on loading; "
        "set it to the version that made the weights"
    )


def test_a_crosscoder_with_a_gate_per_source_is_no_saelens_dictionary(tmp_path):
    """On writing and on reading, the message names the layout to use."""
    source = checkpoint(crosscoder_config("jumprelu_per_source"))
    with pytest.raises(FormatError) as error:
        write_checkpoint(source, tmp_path / "refused", "saelens")
    assert str(error.value) == (
        "SAELens: cannot say this crosscoder, not even as a wide SAE: each source has a gate of its own, so that the "
        "sources have different codes; use --to saereg"
    )
    assert not (tmp_path / "refused").exists()

    write(source, tmp_path / "own")
    with pytest.raises(FormatError) as error:
        read_checkpoint(tmp_path / "own", layout="saelens")
    assert str(error.value) == f"{tmp_path / 'own'}: cfg.json says kind 'crosscoder', so its layout is 'saereg'"
