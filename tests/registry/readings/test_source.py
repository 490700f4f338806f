"""What lies at a path: which files are candidates, and that documents of others never end in a traceback."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from saereg.errors import DocumentError, FormatError, WeightsError
from saereg.registry.readings.source import open_source


def weights(path: Path, **tensors: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors or {"x": torch.ones(2)}, path)


def test_a_file_is_itself_and_its_folder_has_the_documents(tmp_path):
    """Whatever lies beside it."""
    weights(tmp_path / "a.safetensors")
    weights(tmp_path / "b.safetensors")
    (tmp_path / "cfg.json").write_text('{"k": 3}')
    source = open_source(tmp_path / "a.safetensors")
    assert (source.names, source.stem, source.keys, source.shape("x")) == (("a.safetensors",), "a", {"x"}, (2,))
    assert source.document("cfg.json") == {"k": 3}
    assert source.only() is source.file("a.safetensors")


def test_a_folder_is_its_weight_files_without_those_that_belong_beside_them(tmp_path):
    """Golden vectors, sparsities, optimizers, hidden files, folders that are called like files."""
    for name in ("b.safetensors", "a.pt", "golden.safetensors", "sparsity.safetensors", "optimizer_0.pt", "state.pt",
                 ".hidden.safetensors", "lr_scheduler_1.pt", "rank_0.pt", "trainer_state.pt"):  # fmt: skip
        weights(tmp_path / name)
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "notes.txt").write_text("")
    source = open_source(tmp_path)
    assert source.names == ("a.pt", "b.safetensors")
    assert (source.keys, source.weights, source.shape("x"), source.stem) == (frozenset(), None, (), "")
    with pytest.raises(FormatError, match=r"holds 2 weight files; name one \(candidates: a\.pt, b\.safetensors\)"):
        source.only()


def test_a_file_with_the_name_of_a_release_is_taken_among_others(tmp_path):
    """When it is the only such, and cfg.json is in a dialect of releases; sparsify, too, has a cfg.json."""
    weights(tmp_path / "sae_weights.safetensors", W=torch.ones(3))
    weights(tmp_path / "extra.safetensors")
    assert open_source(tmp_path).weights is None
    (tmp_path / "cfg.json").write_text('{"d_in": 3, "num_latents": 5}')
    assert open_source(tmp_path).weights is None
    (tmp_path / "cfg.json").write_text('{"architecture": "topk"}')
    assert open_source(tmp_path).keys == {"W"}


def test_a_file_that_is_named_itself_is_opened_whatever_it_is_called(tmp_path):
    """Also one that lies beside others in known layouts."""
    weights(tmp_path / "state.pt")
    assert open_source(tmp_path / "state.pt").keys == {"x"}


def test_checkpoints_are_looked_for_one_level_down(tmp_path):
    """With the documents one level up."""
    weights(tmp_path / "checkpoints/final.safetensors")
    (tmp_path / "cfg.json").write_text('{"a": 1}')
    source = open_source(tmp_path)
    assert source.names == ("checkpoints/final.safetensors",)
    assert source.document("cfg.json") == {"a": 1}
    assert open_source(tmp_path / "checkpoints").document("cfg.json") == {"a": 1}


def test_nothing_and_far_too_much_are_refused(tmp_path):
    """One line each."""
    with pytest.raises(FormatError, match="nowhere: there is no such file or folder"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="holds no weight file"):
        open_source(tmp_path).only()
    for index in range(401):
        (tmp_path / f"{index}.pt").touch()
    with pytest.raises(
        FormatError, match="holds 401 weight files; name one of them, or make a release with saereg init"
    ):
        open_source(tmp_path)


DOCUMENTS = {
    "NaN and repeated keys": ("cfg.json", b'{"a": NaN, "a": 2}', {"a": 2}),
    "byte order mark": ("cfg.json", b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "list": ("cfg.json", b"[1, 2]", None),
    "nothing but null": ("cfg.json", b"null", None),
    "yaml": ("config.yaml", b"a: 1\nb: [x, y]\n", {"a": 1, "b": ["x", "y"]}),
    "empty yaml": ("config.yml", b"", None),
    "yaml date": ("config.yaml", b"when: 2024-05-01\n", ...),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_read_as_their_own_programs_read_them(tmp_path, name):
    """Only objects are of use."""
    file, content, expected = DOCUMENTS[name]
    (tmp_path / file).write_bytes(content)
    found = open_source(tmp_path).document(file)
    assert expected is ... or found == expected
    assert open_source(tmp_path).document("absent.json") is None


BROKEN = {
    "not UTF-8": ("cfg.json", b'{"a": "\xff"}', "is not UTF-8 (byte 7)"),
    "not JSON": ("cfg.json", b'{"a": 1,}', "is not JSON: "),
    "empty": ("cfg.json", b"", "is not JSON: Expecting value at line 1"),
    "deep": ("cfg.json", b"[" * 200_000, "cannot be parsed: "),
    "long number": ("cfg.json", b'{"a": ' + b"9" * 5000 + b"}", "cannot be parsed: "),
    "not YAML": ("config.yaml", b"a: [1,\n b: {", "cannot be parsed: "),
    "YAML that makes an object": (
        "config.yaml",
        b"a: !!python/object/apply:os.system ['touch ran']",
        "cannot be parsed: ",
    ),
    "deep YAML": ("config.yaml", b"[" * 5000, "cannot be parsed: "),
    "YAML with an unhashable key": ("config.yaml", b"{[1]: 2}", "cannot be parsed: "),
    "YAML with a value that is not of its tag": ("config.yaml", b"a: !!int ''\n", "cannot be parsed: "),
    "YAML with an impossible date": ("config.yaml", b"a: 2024-13-41\n", "cannot be parsed: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_document_is_one_line(tmp_path, name):
    """With its path."""
    file, content, expected = BROKEN[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        open_source(tmp_path).document(file)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / file}: {expected}")
    assert "\n" not in text


def test_a_yaml_bomb_stays_small(tmp_path):
    """Aliases are shared, not copied."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "config.yaml").write_text("\n".join(lines))
    found = open_source(tmp_path).document("config.yaml")
    assert found is not None
    assert len(found) == 12


def test_a_damaged_weight_file_is_an_error_when_it_is_opened(tmp_path):
    """Not when the folder is looked at, so that documents beside it can still be read."""
    (tmp_path / "a.safetensors").write_bytes(b"<html>")
    (tmp_path / "cfg.json").write_text(json.dumps({"a": 1}))
    source = open_source(tmp_path)
    assert source.document("cfg.json") == {"a": 1}
    with pytest.raises(WeightsError):
        _ = source.keys


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_file(tmp_path):
    """Opening it would wait forever."""
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(FormatError, match="there is no such file or folder"):
        open_source(tmp_path / "a.pt")
    assert open_source(tmp_path).names == ()
