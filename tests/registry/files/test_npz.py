"""An npz archive is read without numpy's unpickling, and one that is damaged or made to do harm is refused."""

import io
import os
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from saereg.errors import WeightsError
from saereg.registry.files.flat import open_npz
from saereg.registry.files.tensors import whole


class Payload:
    """An object that makes a file when numpy unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.mark}",)


def npy(header: str | bytes, data: bytes = b"", version: int = 1) -> bytes:
    """Return an array with this header, whatever it says."""
    raw = header if isinstance(header, bytes) else header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(raw)) + raw + data


def says(descr: object = "<f4", shape: object = (2,), fortran: object = False) -> str:
    """Return the header of an array."""
    return str({"descr": descr, "fortran_order": fortran, "shape": shape})


def archive(path: Path, *members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def problem(path: Path) -> str:
    """Return the one line with which an archive is refused."""
    with pytest.raises(WeightsError) as caught:
        open_npz(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"])
def test_every_type_that_torch_shares_is_read(tmp_path, save, dtype):
    """Bit for bit."""
    x = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    save(tmp_path / "a.npz", **{"x": x, "in/folder": x.T, "scalar": x[0, 1]})
    file = open_npz(tmp_path / "a.npz")
    assert torch.equal(whole(file, "x"), torch.from_numpy(x))
    assert torch.equal(whole(file, "in/folder"), torch.from_numpy(x.T.copy()))
    assert whole(file, "scalar").shape == ()


def test_versions_two_and_three_are_read(tmp_path):
    """Of numpy's own header."""
    data = struct.pack("<2f", 1, 2)
    archive(tmp_path / "a.npz", ("a.npy", npy(says(), data, 2)), ("b.npy", npy(says(), data, 3)))
    file = open_npz(tmp_path / "a.npz")
    assert whole(file, "a").tolist() == whole(file, "b").tolist() == [1, 2]


def test_archives_with_64_bit_sizes_are_read(tmp_path):
    """As numpy writes them whenever it does not know the size before."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file, file.open("x.npy", "w", force_zip64=True) as member:
        buffer = io.BytesIO()
        np.save(buffer, np.arange(5.0))
        member.write(buffer.getvalue())
    assert whole(open_npz(tmp_path / "a.npz"), "x").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_objects_are_refused_and_never_unpickled(tmp_path, save):
    """numpy itself would need allow_pickle for them."""
    mark = tmp_path / "it ran"
    save(tmp_path / "a.npz", x=np.array([Payload(mark)], dtype=object))
    mark.unlink(missing_ok=True)
    assert problem(tmp_path / "a.npz") == "a.npz: x: holds '|O': only plain little-endian numbers are read"
    assert not mark.exists()


HEADERS = {
    "big-endian": (says(">f4"), "holds '>f4': only plain little-endian numbers are read"),
    "structured": (says([("a", "<f4")]), "holds \"[('a', '<f4')]\": only plain little-endian numbers are read"),
    "text": (says("<U4"), "holds '<U4': only plain little-endian numbers are read"),
    "complex": (says("<c8"), "holds '<c8': only plain little-endian numbers are read"),
    "void, as bfloat16 is written": (says("<V2"), "holds '<V2': only plain little-endian numbers are read"),
    "no type": (says(""), "holds '': only plain little-endian numbers are read"),
    "shape too large": (says(shape=(3,)), "shape (3,) needs more bytes than it has"),
    "huge shape": (says(shape=(2**62, 2**62)), "its header describes no array"),
    "huge empty shape": (says(shape=(0, 2**70)), "its shape is no tuple of natural numbers"),
    "negative shape": (says(shape=(-2,)), "its shape is no tuple of natural numbers"),
    "shape of flags": (says(shape=(True,)), "its shape is no tuple of natural numbers"),
    "shape as a list": (says(shape=[2]), "its shape is no tuple of natural numbers"),
    "axes without end": (says(shape=(1,) * 40), "its header describes no array"),
    "order as a word": (says(fortran="yes"), "its header describes no array"),
    "no dictionary": ("[1, 2]", "its header cannot be read"),
    "missing key": ("{'descr': '<f4'}", "its header cannot be read"),
    "code": ("__import__('os').system('true')", "its header cannot be read"),
    "brackets": ("(" * 60_000, "its header cannot be read"),
    "minus signs": ("-" * 60_000 + "1", "its header cannot be read"),
    "nothing": ("", "its header cannot be read"),
    "zero bytes": (b"\0" * 100, "its header cannot be read"),
}


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "compressed"])
@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_are_refused(tmp_path, name, packed):
    """By name of the array."""
    header, expected = HEADERS[name]
    archive(tmp_path / "a.npz", ("x.npy", npy(header, b"\0" * 8)), compression=packed)
    assert problem(tmp_path / "a.npz") == f"a.npz: x: {expected}"


def test_what_is_no_array_is_refused(tmp_path):
    """A member of another kind, an endless header, another version."""
    for content, expected in (
        (b"", "is no array in numpy's format"),
        (b"\x93NUM", "is no array in numpy's format"),
        (b"not an array", "is no array in numpy's format"),
        (b"\x93NUMPY\x09\x00\x10\x00", "is no array in numpy's format"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "its header claims 2147483647 bytes"),
    ):
        archive(tmp_path / "a.npz", ("x.npy", content))
        assert problem(tmp_path / "a.npz") == f"a.npz: x: {expected}"
    archive(tmp_path / "a.npz", ("notes.txt", b"hello"))
    assert problem(tmp_path / "a.npz") == "a.npz: member 'notes.txt' is no array (.npy)"


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """Zeros pack a thousandfold; that is well for a bias, not for half a gigabyte."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        member.write(npy(says(shape=(70 * 2**20,))))
        for _ in range(70):
            member.write(b"\0" * 4 * 2**20)
    size = (tmp_path / "a.npz").stat().st_size
    assert problem(tmp_path / "a.npz").startswith(f"a.npz: claims to unpack {size} bytes to 2936")
    np.savez_compressed(tmp_path / "b.npz", bias=np.zeros(2**20, np.float32))
    assert whole(open_npz(tmp_path / "b.npz"), "bias").sum() == 0


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path):
    """Two readers could take different ones."""
    archive(tmp_path / "a.npz", ("x.npy", npy(says(), b"\0" * 8)), ("x.npy", npy(says(), b"\1" * 8)))
    assert problem(tmp_path / "a.npz") == "a.npz: two members are named 'x.npy'; save it again"


def test_an_encrypted_member_is_refused(tmp_path):
    """Its bytes would be read as numbers."""
    raw = bytearray(archive(tmp_path / "a.npz", ("x.npy", npy(says(), b"\0" * 8))).read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.npz").write_bytes(raw)
    expected = "a.npz: member 'x.npy' is encrypted or packed in an unknown way; save it again"
    assert problem(tmp_path / "a.npz") == expected


def test_a_member_that_is_elsewhere_is_refused(tmp_path):
    """The list of members says where they are; it can be wrong in offset and size."""
    whole_file = archive(tmp_path / "a.npz", ("x.npy", npy(says(), b"\0" * 8))).read_bytes()
    entry = whole_file.index(b"PK\1\2")
    for position, value in ((42, 7), (24, 10**6)):
        raw = bytearray(whole_file)
        raw[entry + position : entry + position + 4] = struct.pack("<I", value)
        (tmp_path / "a.npz").write_bytes(raw)
        assert problem(tmp_path / "a.npz") == "a.npz: x: is not where the archive says: truncated or damaged"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_archive_is_refused(tmp_path, save):
    """At any length."""
    save(tmp_path / "a.npz", x=np.random.default_rng(0).random(500))
    raw = (tmp_path / "a.npz").read_bytes()
    for length in (4, 40, len(raw) // 2, len(raw) - 30, len(raw) - 1):
        (tmp_path / "b.npz").write_bytes(raw[:length])
        assert problem(tmp_path / "b.npz").startswith("b.npz: is a damaged archive: ")


def test_a_damaged_compressed_array_is_refused_when_it_is_read(tmp_path):
    """By its checksum."""
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).random(5000))
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[len(raw) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(raw)
    file = open_npz(tmp_path / "a.npz")
    with pytest.raises(WeightsError, match=r"a\.npz: x\.npy: cannot be unpacked: "):
        whole(file, "x")


def test_no_room_to_unpack_is_one_line(tmp_path, monkeypatch):
    """It says where there is none."""

    class Full(io.BytesIO):
        def write(self, raw):
            raise OSError(28, "No space left on device")

    np.savez_compressed(tmp_path / "a.npz", x=np.ones(5))
    file = open_npz(tmp_path / "a.npz")
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        whole(file, "x")
    assert caught.value.filename == f"{tmp_path / 'a.npz'}, unpacked into {tempfile.gettempdir()}"
