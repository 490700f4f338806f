"""Where a run computes, and in which type: what the machine has, and what would only make it slower."""

import contextlib
import logging
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from saereg.errors import UsageError
from saereg.registry.models.model import require

BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Words of /proc/cpuinfo for bfloat16 arithmetic: on x86, on x86, on ARM."""

NO_BF16 = {
    "cpu": "this processor has no bfloat16 arithmetic, which would make steps 8 to 15 times slower",
    "cuda": "this GPU has no bfloat16 arithmetic",
    "mps": "bfloat16 needs macOS 14",
}
"""Kind of device → why it is not autocast to bfloat16."""


@dataclass(frozen=True)
class Placement:
    """How a run computes.

    Attributes:
        device: torch device.
        autocast: whether matrix products run in bfloat16.
        compiled: whether torch.compile is used.
        said: what was asked for and cannot be had, one line each.
    """

    device: str
    autocast: bool = False
    compiled: bool = False
    said: tuple[str, ...] = ()


def placed(wanted: str, *, autocast: bool = False, compiled: bool = False) -> Placement:
    """Return how a run computes on this machine.

    Args:
        wanted: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        autocast: whether matrix products are to run in bfloat16.
        compiled: whether torch.compile is to be used.

    Raises:
        MissingExtraError: without torch.
        UsageError: when there is no such device on this machine.
    """
    device, said = device_of(wanted), []
    if autocast and not has_bf16(device):
        autocast = False
        why = NO_BF16.get(device.split(":")[0], f"{device} has no bfloat16 arithmetic")
        said.append(f"optimization.autocast is left out: {why}; the run goes on in float32")
    if compiled and (missing := why_not_compiled(device)):
        compiled = False
        said.append(f"optimization.compile is left out: {missing}; the run goes on uncompiled")
    return Placement(device, autocast, compiled, tuple(said))


def device_of(wanted: str, what: str = "training") -> str:
    """Return the torch device that `auto`, `cpu`, `cuda`, `cuda:N` or `mps` is here.

    Raises:
        MissingExtraError: without torch.
        UsageError: when there is no such device on this machine.
    """
    torch = require("torch", what)
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = str(torch.device(wanted))
        torch.empty(1, device=device).add_(1)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as problem:
        first = str(problem).splitlines()[0].split(". ")[0].rstrip(".")  # the rest is for who builds PyTorch
        first = "PyTorch knows no such name" if first.startswith("Expected one of") else first
        raise UsageError(f"device {wanted!r} cannot be used: {first}; choose auto or cpu") from None
    return device


def has_bf16(device: str) -> bool:
    """Return whether a device has bfloat16 arithmetic of its own; what cannot be told has none."""
    torch = require("torch", "training")
    kind = device.split(":")[0]
    if kind == "cuda":
        return bool(torch.version.hip) or torch.cuda.get_device_capability(device)[0] >= 8
    if kind == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    if kind != "cpu":
        return False
    told = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(one() for one in told if one) or bool(BF16_FLAGS & _processor_flags(Path("/proc/cpuinfo")))


def _processor_flags(path: Path) -> set[str]:
    """Return what Linux says that the processor can do; nothing elsewhere."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    told = [line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features"))]
    return {flag for line in told for flag in line.split()}


def why_not_compiled(device: str) -> str | None:
    """Return why torch.compile cannot work here, or None; it would say so in the middle of the first step.

    Source: torch 2.13, torch/_inductor/config.py (`cpp.cxx`), and triton 3, triton/runtime/build.py.
    """
    if os.name != "nt" and not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "the C headers of Python are not installed"
    if device == "cpu":
        usual = "clang++" if sys.platform == "darwin" else "cl" if os.name == "nt" else "g++"
        compiler = os.environ.get("CXX", usual)
        return None if shutil.which(compiler) else f"there is no C++ compiler ({compiler}; CXX may name another)"
    if device.startswith("cuda"):
        if util.find_spec("triton") is None:
            return "triton is not installed"
        if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
            return "there is no C compiler (gcc or clang; CC may name another)"
    return None


def compile_step(sae: Any) -> bool:  # noqa: ANN401
    """Let the forward pass of a training SAE be compiled, as SAELens' own runner does, where it is SAELens' own.

    A step with gradients written by hand decides by its numbers how it goes on, and cannot be compiled as a whole.

    Returns:
        Whether it is compiled.
    """
    import torch

    if not type(sae).__module__.startswith("sae_lens."):
        return False
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # it tells of every place that it cannot compile
    sae.training_forward_pass = torch.compile(sae.training_forward_pass)
    return True


@contextlib.contextmanager
def reproducible(device: str) -> Iterator[None]:
    """Let torch use only algorithms that give the same bits each time while the block runs, on the CPU.

    Sums into places that several rows share are the ones that would differ. On a GPU nothing is changed: cuBLAS would
    ask for an environment variable that must be set before it is started.
    """
    import torch

    if device != "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs a pass
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
