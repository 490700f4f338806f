"""The header of a safetensors file is read as the library reads it, and never trusted further."""

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import save, save_file

from saereg.errors import WeightsError
from saereg.registry.files.blocks import torch_dtype
from saereg.registry.files.header import ITEM_BYTES, TORCH_NAMES, parse_header, read_header

TENSORS = {
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 3),
    "cube": torch.arange(24.0).reshape(2, 3, 4),
    "half": torch.ones(5, dtype=torch.bfloat16),
    "é \n": torch.ones(2, dtype=torch.int64),
}


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_a_file_of_any_type_is_read_as_the_library_reads_it(tmp_path, dtype):
    """Names, types, shapes, and the bytes at the offsets."""
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(3, 2).to(torch_dtype(dtype)), "b": torch.ones(4).to(torch_dtype(dtype))}, path)

    header = read_header(path)

    raw = path.read_bytes()
    expected = dict(deserialize(raw))
    assert set(header.tensors) == set(expected)
    for name, entry in header.tensors.items():
        assert entry.dtype == expected[name]["dtype"] == dtype
        assert list(entry.shape) == expected[name]["shape"]
        assert raw[entry.begin : entry.end] == bytes(expected[name]["data"])
        assert (entry.torch_dtype in TORCH_NAMES.values()) == (dtype in TORCH_NAMES)


def test_odd_names_scalars_and_empty_tensors_are_read(tmp_path):
    """And metadata, which is a map of strings."""
    path = tmp_path / "x.safetensors"
    save_file(TENSORS, path, metadata={"made_by": "test"})

    header = read_header(path)

    assert {name: entry.shape for name, entry in header.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in TENSORS.items()
    }
    assert header.metadata == {"made_by": "test"}


def test_an_empty_file_of_tensors_is_sound(tmp_path):
    """No tensors, no data."""
    (tmp_path / "x").write_bytes(struct.pack("<Q", 2) + b"{}")

    assert read_header(tmp_path / "x").tensors == {}


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


REFUSED = {
    "gap": (
        {"a": entry(), "b": entry(offsets=(12, 20))},
        20,
        "x: b: its data leaves a gap before it (offset 144, expected 140)",
    ),
    "overlap": (
        {"a": entry(), "b": entry(offsets=(4, 12))},
        12,
        "x: b: its data overlaps the one before it (offset 135, expected 139)",
    ),
    "truncated": ({"a": entry()}, 7, "x: its tensors end at byte 77, but the file has 76: truncated"),
    "oversized": ({"a": entry()}, 9, "x: 1 bytes stand behind the last tensor: oversized or damaged"),
    "shape": ({"a": entry(shape=(3,))}, 8, "x: a: its offsets span 8 bytes, but F32 (3,) takes 12"),
    "type": ({"a": entry(dtype="F99")}, 8, 'x: a: unknown type "F99" in the header'),
    "key": ({"a": entry() | {"x": 1}}, 8, "x: a: its header entry needs exactly dtype, shape and data_offsets"),
    "huge": (
        {"a": entry(shape=(2**62, 4, 0), offsets=(0, 0))},
        0,
        "x: a: shape (4611686018427387904, 4, 0) is larger than any file",
    ),
    "float": ({"a": entry(shape=(2.0,))}, 8, "x: a: shape and data_offsets must be lists of natural numbers"),
    "metadata": ({"__metadata__": {"a": 1}}, 0, "x: `__metadata__` of the safetensors header is not a map of strings"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_header_that_lies_is_refused(name):
    """With the tensor and the numbers that do not fit."""
    header, data, message = REFUSED[name]
    raw = json.dumps(header).encode()

    with pytest.raises(WeightsError) as caught:
        parse_header(raw, 8 + len(raw) + data, "x")

    assert str(caught.value) == message


VALID = save(TENSORS, metadata={"made_by": "test"})


def library_accepts(path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name)
            return True
    except (SafetensorError, RuntimeError):
        return False


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_like_the_library(tmp_path_factory, data):
    """Nothing but WeightsError is ever raised, and what is accepted here, safetensors accepts too."""
    raw = bytearray(VALID)
    header_end = 8 + struct.unpack("<Q", VALID[:8])[0]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, header_end) | st.integers(0, len(raw)))
        length = data.draw(st.sampled_from([0, 1, 1, 2, 30]))
        raw[place : place + length] = data.draw(st.binary(max_size=3) | st.sampled_from([b"-", b"0", b" ", b"\\ud800"]))
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(raw)

    try:
        read_header(path)
    except WeightsError:
        return
    assert library_accepts(path)


NUMBERS = st.integers(-2, 40) | st.integers(-(2**65), 2**65) | st.floats() | st.booleans() | st.just(-0.0)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*ITEM_BYTES, "F4", "f32", ""]),
        "shape": st.lists(st.integers(0, 4) | NUMBERS, max_size=3),
        "data_offsets": st.lists(st.integers(0, 40) | NUMBERS, min_size=2, max_size=2) | st.just([0, 0]),
    }
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=4), ENTRIES, max_size=3), st.integers(0, 60), st.integers(0, 3))
def test_a_made_up_header_is_refused_or_read_like_the_library(tmp_path_factory, header, data, padding):
    """Every type, shape and offset that JSON can hold."""
    text = json.dumps(header).encode() + b" " * padding
    path = tmp_path_factory.getbasetemp() / "made-up.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))

    try:
        read_header(path)
    except WeightsError:
        return
    assert library_accepts(path)


def test_a_minus_zero_is_no_natural_number():
    """The library's parser takes it for a fraction."""
    raw = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [-0, 8]}}'

    with pytest.raises(WeightsError, match="must be lists of natural numbers"):
        parse_header(raw, 8 + len(raw) + 8, "x")
