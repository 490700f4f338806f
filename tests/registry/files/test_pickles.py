"""Pickles are opened by a process that runs none of their code, and whatever they do to it, the next file is opened."""

import contextlib
import json
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from saereg.errors import WeightsError
from saereg.registry.files import pickle_child, pickles
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.pickles import open_pickle
from saereg.registry.files.tensors import whole

ASKS = (
    "refused: it asks to run {}, which is no tensor and no plain value; where you trust it, save its tensors as "
    "safetensors"
)
TOO_MUCH = "needs more memory than its size warrants; it is damaged, or made to do harm"
TOO_MANY = "holds more than 100000 values; it is no checkpoint of one dictionary"
DIED = "the process that opened it died: it is damaged, made to do harm, or too large for this machine"


class Payload:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.mark}",)


def problem(path: Path) -> str:
    """Return the one line with which a file is refused, without its name."""
    with pytest.raises(WeightsError) as caught:
        open_pickle(path)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(f"{path.name}: ")


def archive(path: Path, data: bytes, records: tuple[bytes, ...] = (), compression: int = zipfile.ZIP_STORED) -> Path:
    """Write what torch.save would write, with this pickle in it."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/byteorder", b"little")
        file.writestr("archive/version", b"3\n")
        for index, record in enumerate(records):
            file.writestr(f"archive/data/{index}", record)
    return path


def repacked(path: Path, old: bytes, new: bytes) -> Path:
    """Replace bytes of the pickle inside what torch.save wrote."""
    with zipfile.ZipFile(path) as file:
        records = {member.filename: file.read(member) for member in file.infolist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, record in records.items():
            changed = record.replace(old, new) if name.endswith("data.pkl") else record
            assert changed != record or not name.endswith("data.pkl")
            file.writestr(name, changed)
    return path


def legacy(data: bytes) -> bytes:
    """Return a file from before torch 1.6 with this pickle in it."""
    magic, protocol, info = 0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}
    head = b"".join(pickle.dumps(part, protocol=2) for part in (magic, protocol, info))
    return head + data + pickle.dumps([], protocol=2)


def test_what_torch_saves_is_read(tmp_path):
    """Of every kind of nesting, key, type, stride and sharing that training leaves behind."""
    tied, x = torch.randn(6, 4), torch.randn(5, 7, 3)
    saved = {
        "nested": OrderedDict(a={"b": [torch.arange(3), torch.tensor(2.5)]}),
        3: torch.ones(2),
        (1, "x"): torch.zeros(1),
        "decoder": tied, "encoder": tied.T, "rows": x[1:4], "strided": x[:, ::2, 1], "same": torch.ones(1).expand(3, 1),
        "parameter": torch.nn.Parameter(torch.randn(3)), "empty": torch.empty(0, 4),
        "bfloat16": torch.randn(3, 2).bfloat16(), "float16": torch.randn(3).half(), "flags": torch.tensor([True]),
        "negated": torch._neg_view(torch.ones(2)), "float8": torch.randn(4).to(torch.float8_e4m3fn),
        "k": 32, "lr": float("nan"), "name": "topk", "none": None, "yes": True, "history": list(range(5000)),
        "big": 10**30, "text": "x" * 20_000,
        "sparse": torch.eye(3).to_sparse(), "complex": torch.ones(2, dtype=torch.complex64),
        "meta": torch.empty(2, device="meta"),
    }  # fmt: skip
    torch.save(saved, tmp_path / "a.pt")

    file = open_pickle(tmp_path / "a.pt")

    expected = {str(n): v.detach() for n, v in saved.items() if torch.is_tensor(v)}
    expected |= {"nested/a/b/0": torch.arange(3), "nested/a/b/1": torch.tensor(2.5), "(1, x)": torch.zeros(1)}
    for odd in ("sparse", "complex", "meta", "(1, 'x')"):
        del expected[odd]
    assert set(file.entries) == set(expected)
    for name, tensor in expected.items():
        found = whole(file, name)
        assert found.is_contiguous()
        assert found.dtype == tensor.dtype
        assert torch.equal(found.float(), tensor.float())
    assert file.facts == {
        "k": 32, "lr": "nan", "name": "topk", "none": None, "yes": True, "history": "list of 5000 values",
        "big": "number of 100 bits", "text": "text of 20000 characters",
        "sparse": "tensor of torch.sparse_coo torch.float32 on cpu",
        "complex": "tensor of torch.strided torch.complex64 on cpu",
        "meta": "tensor of torch.strided torch.float32 on meta",
    }  # fmt: skip


def test_boxes_are_slices(tmp_path):
    """Of strided views of a mapped storage, too."""
    x = torch.randn(9, 8, 7)
    torch.save({"x": x[:, 1::2].transpose(0, 2)}, tmp_path / "a.pt")
    file = open_pickle(tmp_path / "a.pt")
    expected = x[:, 1::2].transpose(0, 2)
    for box in (((0, 7), (0, 4), (0, 9)), ((2, 5), (1, 2), (3, 3)), ((6, 7), (0, 4), (8, 9)), ((1, 2), (1, 2), (4, 5))):
        assert torch.equal(file.box("x", box), expected[tuple(slice(*span) for span in box)])


def test_files_of_before_torch_1_6_are_read(tmp_path):
    """They cannot be mapped, and are in the memory of the child."""
    torch.save({"a": torch.arange(6.0).reshape(2, 3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(whole(open_tensors(tmp_path / "a.pt"), "a"), torch.arange(6.0).reshape(2, 3))


def test_tensors_saved_on_a_gpu_are_read(tmp_path):
    """Without one."""
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    repacked(tmp_path / "a.pt", b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
    assert torch.equal(whole(open_pickle(tmp_path / "a.pt"), "a"), torch.ones(3))


@pytest.mark.parametrize("name", ["with a space.pt", "two\nlines.pt", os.fsdecode(b"not utf-8 \xff.pt"), "Zürich.pt"])
def test_any_name_of_a_file_will_do(tmp_path, name):
    """Also one that torch itself cannot map."""
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    (tmp_path / "a.pt").rename(tmp_path / name)
    assert torch.equal(whole(open_pickle(tmp_path / name), "a"), torch.ones(3))


NESTED = {
    "alone": lambda payload: payload,
    "in a dictionary": lambda payload: {"a": torch.ones(2), "b": payload},
    "deep in a list": lambda payload: {"a": {"b": [1, {"c": (2, [payload])}]}},
    "as a key": lambda payload: {("a", payload): 1},
    "as the state of a tensor": lambda payload: OrderedDict(a=torch.ones(2), _metadata={"version": payload}),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("place", NESTED)
def test_code_in_a_pickle_is_named_and_never_runs(tmp_path, place, zipped):
    """Wherever it stands."""
    mark = tmp_path / "it ran"
    torch.save(NESTED[place](Payload(mark)), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert problem(tmp_path / "a.pt") == ASKS.format(f"{os.system.__module__}.system")
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_plain_pickle_never_runs(tmp_path, protocol):
    """`pickle.dump` writes what torch does not load at all."""
    mark = tmp_path / "it ran"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": Payload(mark)}, protocol=protocol))
    with pytest.raises(WeightsError):
        open_tensors(tmp_path / "a.pkl")
    assert problem(tmp_path / "a.pkl")
    assert not mark.exists()


def test_code_in_a_tar_never_runs(tmp_path):
    """The first layout of torch, of 2016."""
    mark = tmp_path / "it ran"
    (tmp_path / "pickle").write_bytes(pickle.dumps(Payload(mark), protocol=2))
    with tarfile.open(tmp_path / "a.pt", "w") as tar:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            tar.add(tmp_path / "pickle", name)
    with pytest.raises(WeightsError):
        open_tensors(tmp_path / "a.pt")
    assert problem(tmp_path / "a.pt")
    assert not mark.exists()


GLOBALS = (
    "builtins.eval", "builtins.exec", "os.system", "posix.system", "nt.system", "subprocess.Popen", "sys.exit",
    "numpy.core.multiarray._reconstruct", "functools.partial", "torch.hub.load", "torch.jit.load", "__main__.Custom",
    "torch.storage._load_from_bytes", "builtins.getattr", "runpy.run_path", "operator.attrgetter", "importlib.reload",
)  # fmt: skip


@pytest.mark.parametrize("name", GLOBALS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_global_is_refused_by_name(tmp_path, name, zipped):
    """Before it is looked up: a module is not even imported."""
    module, _, attribute = name.rpartition(".")
    call = b"\x80\x02c" + module.encode() + b"\n" + attribute.encode() + b"\nX\x01\x00\x00\x001\x85R."
    if zipped:
        archive(tmp_path / "a.pt", call)
    else:
        (tmp_path / "a.pt").write_bytes(legacy(call))
    assert problem(tmp_path / "a.pt") == ASKS.format(name.removeprefix("builtins."))


def test_state_is_only_set_on_tensors_and_dictionaries(tmp_path):
    """BUILD calls __setstate__ of whatever is there; torch.Size and list have none that may be called."""
    archive(tmp_path / "a.pt", b"\x80\x02]}X\x01\x00\x00\x00aK\x01sb.")
    assert problem(tmp_path / "a.pt").startswith(
        "cannot be opened as tensors and plain values: UnpicklingError: Can only"
    )


def text(value: str) -> bytes:
    """Return the opcode of a text."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


BOMBS = {
    "allocation": (b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x20\x85R.", TOO_MUCH),
    "text that is repeated": (
        b"\x80\x02](" + text("x" * 9000) + b"q\x00" + b"h\x00" * 5000 + b"}e.",
        "its names and texts have more than 8388608 characters",
    ),
    "references": (b"\x80\x02](" + (b"](" + b"K\x01" * 500 + b"}e") * 300 + b"e.", TOO_MANY),
    "itself": (b"\x80\x02]q\x00(" + b"h\x00" * 100 + b"e.", TOO_MANY),
    "long name": (
        b"\x80\x02}" + text("n" * 2000) + b"K\x01s.",
        "has a name of more than 1000 characters, which begins 'n",
    ),
    "same names": (
        b"\x80\x02}(" + text("a/b") + b"K\x01" + text("a") + b"}" + text("b") + b"K\x02su.",
        "two of its values are named 'a/b' when keys are joined by /",
    ),
    "nothing": (b"", "cannot be opened as tensors and plain values: "),
    "stack": (b"\x80\x02" + b"0" * 50 + b".", "cannot be opened as tensors and plain values: "),
    "other storage": (b"\x80\x02X\x01\x00\x00\x00aQ.", "cannot be opened as tensors and plain values: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_do_not_go_off(tmp_path, name):
    """They are refused in a line, and the next file is read."""
    data, expected = BOMBS[name]
    archive(tmp_path / "a.pt", data)
    assert problem(tmp_path / "a.pt").startswith(expected)
    _next_file_is_read(tmp_path)


@pytest.mark.parametrize("depth", [1000, 200_000])
@pytest.mark.parametrize(
    "opcodes", [(b"](", b"e"), (b"}X\x01\x00\x00\x00a", b"s"), (b"", b"\x85")], ids=["lists", "dicts", "tuples"]
)
def test_deep_nesting_is_cut_off(tmp_path, depth, opcodes):
    """What lies deeper than eight levels is a phrase; no recursion, no crash."""
    start, end = opcodes
    archive(tmp_path / "a.pt", b"\x80\x02" + start * depth + b"]" + end * depth + b".")
    (fact,) = open_pickle(tmp_path / "a.pt").facts.values()
    assert fact in ("list of 1 values", "object of type dict", "tuple of 1 values")
    _next_file_is_read(tmp_path)


def _next_file_is_read(folder: Path) -> None:
    torch.save({"a": torch.ones(3)}, folder / "next.pt")
    assert torch.equal(whole(open_pickle(folder / "next.pt"), "a"), torch.ones(3))


def test_an_expanded_tensor_is_refused(tmp_path):
    """A stride of zero makes terabytes of four bytes."""
    torch.save({"a": torch.ones(1).expand(2**20, 2**20)}, tmp_path / "a.pt")
    assert problem(tmp_path / "a.pt") == "'a': shape (1048576, 1048576) needs more bytes than the file has"


def test_compressed_records_are_refused(tmp_path):
    """A zip bomb is made of them, and torch makes none."""
    archive(tmp_path / "a.pt", b"\x80\x02}.", (b"\0" * 10**7,), zipfile.ZIP_DEFLATED)
    assert (
        problem(tmp_path / "a.pt")
        == "its records are compressed, which torch never does; save it again with torch.save"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused(tmp_path):
    """Two readers could take different ones."""
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "a") as file:
        file.writestr("a/data/0", b"\0" * 12)
    assert problem(tmp_path / "a.pt") == "two of its records have the same name; save it again with torch.save"


LIES = {
    "a storage longer than its record": (b"K\x0ct", b"K\x0dt"),
    "a storage longer than the file": (b"K\x0ct", b"J\xff\xff\xff\x7ft"),
    "an offset behind the end": (b"QK\x00", b"QK\x05"),
    "a negative offset": (b"QK\x00", b"QJ\xff\xff\xff\xff"),
    "a negative stride": (b"K\x03K\x01\x86", b"J\xfd\xff\xff\xffK\x01\x86"),
    "a negative shape": (b"K\x04K\x03\x86", b"J\xfc\xff\xff\xffK\x03\x86"),
    "a shape too large": (b"K\x04K\x03\x86", b"K\x05K\x03\x86"),
    "a shape of words": (b"K\x04K\x03\x86", b"X\x01\x00\x00\x00aK\x03\x86"),
    "a missing record": (b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x009"),
    "an unknown type": (b"FloatStorage", b"FlaotStorage"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_about_storages_are_refused(tmp_path, name):
    """torch compares some of them only when it does not map."""
    torch.save({"a": torch.arange(12.0).reshape(4, 3)}, tmp_path / "a.pt")
    repacked(tmp_path / "a.pt", *LIES[name])
    assert problem(tmp_path / "a.pt")
    _next_file_is_read(tmp_path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_truncated_file_is_refused(tmp_path, zipped):
    """At any length."""
    torch.save({"a": torch.randn(50, 20)}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    raw = (tmp_path / "a.pt").read_bytes()
    for length in (4, 30, 100, 1000, len(raw) // 2, len(raw) - 1):
        (tmp_path / "b.pt").write_bytes(raw[:length])
        assert problem(tmp_path / "b.pt")


def test_damaged_bytes_never_crash(tmp_path):
    """Flip any byte of the pickle: it is read or refused."""
    torch.save({"a": torch.ones(3), "b": [1, "x", {"c": torch.zeros(2, 2)}]}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        data = file.read("a/data.pkl")
    generator, child = torch.Generator().manual_seed(1), pickles._CHILD._process
    for _ in range(300):
        changed = bytearray(data)
        changed[int(torch.randint(len(data), (), generator=generator))] = int(
            torch.randint(256, (), generator=generator)
        )
        archive(tmp_path / "b.pt", bytes(changed), (b"\0" * 12, b"\0" * 16))
        with contextlib.suppress(WeightsError):
            open_pickle(tmp_path / "b.pt")
        assert pickles._CHILD._process is child


def test_facts_are_json(tmp_path):
    """Whatever the values."""
    torch.save({"a": [float("inf"), -1e400, {"b": None, 1.5: True}], "c": torch.Size([2, 3])}, tmp_path / "a.pt")
    facts = open_pickle(tmp_path / "a.pt").facts
    assert json.loads(json.dumps(facts, allow_nan=False)) == {
        "a/0": "inf",
        "a/1": "-inf",
        "a/2/b": None,
        "a/2/1.5": True,
        "c/0": 2,
        "c/1": 3,
    }


def test_numbers_of_another_byte_order_are_those_that_torch_gives(tmp_path):
    """Torch turns them round in the pages that it maps, so nothing is read past it from where they lie."""
    expected = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    torch.save({"w": expected}, tmp_path / "little.pt")
    with zipfile.ZipFile(tmp_path / "little.pt") as little, zipfile.ZipFile(tmp_path / "big.pt", "w") as big:
        for name in little.namelist():
            turned = {"byteorder": b"big", "0": expected.numpy().byteswap().tobytes()}
            big.writestr(name, turned.get(name.rpartition("/")[2], little.read(name)))
    found = open_pickle(tmp_path / "big.pt")
    assert torch.equal(whole(found, "w"), expected)
    assert torch.equal(found.box("w", ((1, 2), (0, 4))), expected[1:2])
    assert found.begin("w") is None
    assert torch.equal(whole(open_pickle(tmp_path / "little.pt"), "w"), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which file a page is of")
def test_a_place_is_one_in_the_very_file(tmp_path):
    """A file that was put in its place while torch opened it has other pages."""
    for name in ("a.pt", "b.pt"):
        torch.save({"w": torch.arange(1000.0)}, tmp_path / name)
    tensors = torch.load(tmp_path / "a.pt", mmap=True)
    with open(tmp_path / "a.pt", "rb") as a, open(tmp_path / "b.pt", "rb") as b:
        begin = pickle_child._places(tensors, pickle_child._mapping(a.fileno()))["w"]
        assert pickle_child._places(tensors, pickle_child._mapping(b.fileno())) == {}
        a.seek(begin)
        assert a.read(4000) == tensors["w"].numpy().tobytes()
