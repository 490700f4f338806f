"""Where a run computes: what this machine cannot do is said in one line, and what would only be slower is not done."""

import sys
import types
from pathlib import Path

import pytest
import torch

from saereg.errors import UsageError
from saereg.trainers.runs import device
from saereg.trainers.runs.device import device_of, has_bf16, placed, reproducible, why_not_compiled


def without_bf16(monkeypatch):
    """Make this processor one without bfloat16 arithmetic."""
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    monkeypatch.setattr(device, "_processor_flags", lambda path: {"avx2", "fma"})


def test_a_processor_without_bfloat16_is_never_autocast_and_the_user_is_told(monkeypatch):
    """Emulated it is 8 to 15 times slower; the run goes on."""
    without_bf16(monkeypatch)
    found = placed("cpu", autocast=True)
    assert (found.device, found.autocast) == ("cpu", False)
    assert found.said == (
        "optimization.autocast is left out: this processor has no bfloat16 arithmetic, which would make steps 8 to 15 "
        "times slower; the run goes on in float32",
    )


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_processor_with_bfloat16_is(flag, monkeypatch, tmp_path):
    """torch tells of x86; Linux tells of ARM too."""
    without_bf16(monkeypatch)
    monkeypatch.undo()
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    (tmp_path / "cpuinfo").write_text(
        f"processor : 0\nmodel name : bf16\n{'Features' if flag == 'bf16' else 'flags'} : fp {flag}\n"
    )
    read = device._processor_flags
    monkeypatch.setattr(device, "_processor_flags", lambda path: read(tmp_path / "cpuinfo"))
    assert placed("cpu", autocast=True) == device.Placement("cpu", autocast=True)


def test_what_linux_does_not_tell_is_not_there(tmp_path):
    """No such file, as on macOS; and a name that only holds the word."""
    assert device._processor_flags(tmp_path / "none") == set()
    (tmp_path / "cpuinfo").write_text("model name : bf16\nflags : fp\n")
    assert device._processor_flags(tmp_path / "cpuinfo") == {"fp"}


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_has_bfloat16_from_ampere_on(capability, has, monkeypatch):
    """Older ones emulate it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bf16("cuda:1") is has


def test_a_device_that_is_not_there_is_one_line():
    """A slip of the pen, and a GPU that this machine lacks."""
    for wanted in ("cdua", "cuda:99", "mps" if sys.platform != "darwin" else "xpu"):
        with pytest.raises(UsageError) as caught:
            device_of(wanted)
        assert str(caught.value).startswith(f"device {wanted!r} cannot be used: ")
        assert str(caught.value).endswith("; choose auto or cpu")
        assert "\n" not in str(caught.value)
    assert device_of("auto") in ("cpu", "cuda", "mps")


def test_without_a_compiler_there_is_no_compiling(monkeypatch, tmp_path):
    """Each thing that is missing has a name."""
    monkeypatch.setenv("CXX", "/no/compiler")
    assert why_not_compiled("cpu") == "there is no C++ compiler (/no/compiler; CXX may name another)"
    monkeypatch.setenv("CXX", sys.executable)
    assert why_not_compiled("cpu") is None
    monkeypatch.setattr(device.util, "find_spec", lambda name: None)
    assert why_not_compiled("cuda:0") == "triton is not installed"
    monkeypatch.setattr(device, "sysconfig", types.SimpleNamespace(get_path=lambda name: str(tmp_path)))
    found = placed("cpu", compiled=True)
    assert not found.compiled
    assert found.said == (
        "optimization.compile is left out: the C headers of Python are not installed; the run goes on uncompiled",
    )


def test_sums_into_shared_places_are_the_same_each_time_and_torch_is_as_before():
    """Many rows add to one, from several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        values, places = torch.randn(400_000), torch.zeros(400_000, dtype=torch.int64)
        with reproducible("cpu"):
            assert not torch.utils.deterministic.fill_uninitialized_memory
            sums = {float(torch.zeros(2).index_put_((places,), values, accumulate=True)[0]) for _ in range(5)}
    finally:
        torch.set_num_threads(threads)
    assert len(sums) == 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
    with reproducible("cuda"):
        assert not torch.are_deterministic_algorithms_enabled()


def test_the_real_processor_is_asked():
    """Here torch and Linux agree, where both can tell."""
    if not Path("/proc/cpuinfo").exists() or not hasattr(torch.cpu, "_is_avx512_bf16_supported"):
        pytest.skip("nothing to compare with")
    told = device._processor_flags(Path("/proc/cpuinfo"))
    assert torch.cpu._is_avx512_bf16_supported() == ("avx512_bf16" in told)
    assert has_bf16("cpu") == bool(told & device.BF16_FLAGS)
