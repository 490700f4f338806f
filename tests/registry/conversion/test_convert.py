"""A conversion appears whole or not at all, and says in one line why not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.errors import FormatError, SaeregError, UnknownNameError, UsageError, WeightsError
from saereg.registry.conversion import convert as module
from saereg.registry.conversion.convert import Order, convert
from saereg.schemas.conversion import Conversion
from tests.upstream import D, F, K, random

CFG = {"d_in": D, "num_latents": F, "expansion_factor": 3, "k": K, "activation": "topk", "signed": False,
       "skip_connection": False, "transcode": False, "normalize_decoder": True, "multi_topk": False}  # fmt: skip


def source(folder: Path, **changed: torch.Tensor) -> Path:
    """Write a dictionary in sparsify's layout."""
    folder.mkdir()
    shapes = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
    tensors = {name: random(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}
    save_file(tensors | changed, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps(CFG))
    return folder


def refusal(order: Order, kind: type[Exception] = SaeregError) -> str:
    """Return the one line with which a conversion is refused."""
    with pytest.raises(kind) as caught:
        convert(order)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_appears_is_complete(tmp_path):
    """Weights, configuration, golden vectors, and the record that it returns."""
    record = convert(Order(source(tmp_path / "a"), tmp_path / "b", "saereg"))
    assert sorted(os.listdir(tmp_path / "b")) == [
        "cfg.json",
        "conversion.json",
        "golden.safetensors",
        "weights.safetensors",
    ]
    assert Conversion.from_text((tmp_path / "b/conversion.json").read_text()) == record
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    mode = (tmp_path / "b").stat().st_mode
    (tmp_path / "c").mkdir()
    assert mode == (tmp_path / "c").stat().st_mode


def test_there_and_back_is_the_same_file(tmp_path):
    """Also when paths are relative, empty folders, or in folders that do not exist yet."""
    source(tmp_path / "a")
    (tmp_path / "b").mkdir()
    convert(Order(tmp_path / "a", tmp_path / "b", "saereg"))
    convert(Order(tmp_path / "b", tmp_path / "c/d/e", "sparsify"))
    assert (tmp_path / "c/d/e/sae.safetensors").read_bytes() == (tmp_path / "a/sae.safetensors").read_bytes()


def test_the_working_folder_can_be_the_target(tmp_path, monkeypatch):
    """When it is empty; it has no name to put a temporary one beside."""
    source(tmp_path / "a")
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    convert(Order(Path("../a"), Path(), "saereg"))
    assert (tmp_path / "b/conversion.json").is_file()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_refused_with_its_position(tmp_path, value):
    """In the orientation that it would be written in, and by its name in the source."""
    weight = random(F, D)
    weight[7, 3] = value
    source(tmp_path / "a", **{"encoder.weight": weight})
    assert refusal(Order(tmp_path / "a", tmp_path / "b", "saereg"), WeightsError) == (
        f"{tmp_path}/a/sae.safetensors: encoder.weight: a value at (3, 7) of W_enc is not finite; "
        "no reader could use it"
    )
    assert os.listdir(tmp_path) == ["a"]


OCCUPIED = {
    "folder with a file": lambda path: (path.mkdir(), (path / "old").write_text("old")),
    "file": lambda path: path.write_text("old"),
    "link to a folder": lambda path: ((path.parent / "c").mkdir(), path.symlink_to(path.parent / "c")),
    "dangling link": lambda path: path.symlink_to(path.parent / "nowhere"),
}


@pytest.mark.parametrize("name", OCCUPIED)
def test_a_target_that_exists_is_refused_and_untouched(tmp_path, name):
    """Before anything is read."""
    OCCUPIED[name](tmp_path / "b")
    before = sorted(os.walk(tmp_path))
    text = refusal(Order(tmp_path / "missing", tmp_path / "b", "saereg"), UsageError)
    what = (
        "is a link; name a folder that does not exist"
        if "link" in name
        else "exists; name a folder that does not, or remove it first"
    )
    assert text == f"{tmp_path}/b {what}"
    assert sorted(os.walk(tmp_path)) == before


def test_source_and_target_may_not_be_the_same(tmp_path):
    """Nor the target contain the source; it may lie in it."""
    source(tmp_path / "a")
    for target in (tmp_path / "a", tmp_path / "a/sae.safetensors", tmp_path):
        assert refusal(Order(tmp_path / "a", target, "saereg"), UsageError).startswith(f"{target} exists")
    convert(Order(tmp_path / "a", tmp_path / "a/converted", "saereg"))
    assert (tmp_path / "a/converted/conversion.json").is_file()


def test_a_linked_source_is_read(tmp_path):
    """As on the Hub's cache, where every file is a link."""
    source(tmp_path / "a")
    (tmp_path / "links").mkdir()
    for name in os.listdir(tmp_path / "a"):
        (tmp_path / "links" / name).symlink_to(tmp_path / "a" / name)
    (tmp_path / "folder").symlink_to(tmp_path / "links")
    convert(Order(tmp_path / "folder", tmp_path / "b", "saereg"))
    assert not (tmp_path / "b/weights.safetensors").is_symlink()


@pytest.mark.parametrize("step", ["write_layout", "_require_finite", "_proved", "write_text_atomically"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, WeightsError("a", "b"), OSError(5, "Input/output error")])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, step, error):
    """At any step, also no folder that was made for the target."""

    def fail(*_: object) -> None:
        raise error

    source(tmp_path / "a")
    monkeypatch.setattr(module, step, fail)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        convert(Order(tmp_path / "a", tmp_path / "x/y/b", "saereg"))
    assert os.listdir(tmp_path) == ["a"]


def test_an_empty_target_stays_when_it_fails(tmp_path, monkeypatch):
    """It was there before."""
    monkeypatch.setattr(module, "_require_finite", lambda *_: 1 / 0)
    (tmp_path / "b").mkdir()
    with pytest.raises(ZeroDivisionError):
        convert(Order(source(tmp_path / "a"), tmp_path / "b", "saereg"))
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_what_cannot_be_said_is_refused_before_anything_is_written(tmp_path):
    """A layout that does not exist, one that cannot say it, a value that is not asked for."""
    source(tmp_path / "a")
    text = refusal(Order(tmp_path / "a", tmp_path / "b", "sealens"), UnknownNameError)
    assert text == "unknown layout 'sealens'; did you mean 'saelens'?"
    refusal(Order(tmp_path / "a", tmp_path / "b", "saereg", given={"k": 3}), UsageError)
    refusal(Order(tmp_path / "missing", tmp_path / "b", "saereg"), FormatError)
    assert os.listdir(tmp_path) == ["a"]


RUN = """
import os, signal, sys, threading
from pathlib import Path

from saereg.registry.conversion import convert as module
from saereg.registry.conversion.convert import Order, convert

real = module._proved
def slow(*arguments):
    print("half", flush=True)
    threading.Event().wait(20)
    return real(*arguments)
module._proved = slow
convert(Order(Path(sys.argv[1]), Path(sys.argv[2]), "saereg"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_ended_process_leaves_no_target_and_does_not_block_the_next(tmp_path, number):
    """Only a kill leaves a temporary folder, hidden, beside it."""
    source(tmp_path / "a")
    command = [sys.executable, "-c", RUN, str(tmp_path / "a"), str(tmp_path / "b")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        process.wait()
    left = sorted(os.listdir(tmp_path))
    assert [name for name in left if not name.startswith(".b.")] == ["a"]
    assert len(left) == (2 if number == signal.SIGKILL else 1)
    convert(Order(tmp_path / "a", tmp_path / "b", "saereg"))
    assert (tmp_path / "b/conversion.json").is_file()


LIMITED = """
import resource, signal, sys

from saereg.cli import run

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
sys.exit(run(["convert", sys.argv[1], sys.argv[2], "--to", sys.argv[4]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """With the name of the file in the target; a limit on file sizes is met in the same places."""
    source(tmp_path / "a")
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "a"), str(tmp_path / "b"), "3000", "saereg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {tmp_path}/b/weights.safetensors: File too large\n"
    assert os.listdir(tmp_path) == ["a"]


def test_a_parent_that_cannot_be_written_is_an_error_with_the_name_of_the_target(tmp_path):
    """Not that of a temporary folder; a file as a parent is met in the same place as a folder without permission."""
    source(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory") as caught:
        convert(Order(tmp_path / "a", tmp_path / "file/b", "saereg"))
    assert caught.value.filename == str(tmp_path / "file/b")


def test_many_conversions_leave_no_descriptor_open(tmp_path):
    """Of pickles, too."""
    source(tmp_path / "a")
    torch.save(load_file(tmp_path / "a/sae.safetensors"), tmp_path / "a/sae.pt")
    (tmp_path / "a/sae.safetensors").unlink()
    counts = []
    for index in range(12):
        convert(Order(tmp_path / "a", tmp_path / f"b{index}", "saereg"))
        counts.append(len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0)
    assert max(counts[2:]) <= counts[1]


def test_pickles_and_safetensors_convert_to_the_same_bytes(tmp_path):
    """From nested keys or not."""
    source(tmp_path / "a")
    source(tmp_path / "p")
    torch.save(load_file(tmp_path / "p/sae.safetensors"), tmp_path / "p/sae.pt")
    (tmp_path / "p/sae.safetensors").unlink()
    convert(Order(tmp_path / "a", tmp_path / "b", "saereg"))
    convert(Order(tmp_path / "p", tmp_path / "q", "saereg"))
    assert (tmp_path / "q/weights.safetensors").read_bytes() == (tmp_path / "b/weights.safetensors").read_bytes()
    assert (tmp_path / "q/golden.safetensors").read_bytes() == (tmp_path / "b/golden.safetensors").read_bytes()
