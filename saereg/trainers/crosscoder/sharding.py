"""The processes that torchrun started, as a `Group`: explicit collectives of torch.distributed.

Tensors on the processor go through gloo, those on CUDA devices through NCCL; both add up so that every process gets the
same bits. A process that ends takes its connections with it, which the others see in their next collective; one that
hangs is waited for until `TIMEOUT`. Both end as one clear line of one process.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from saereg.errors import LostProcessError, UsageError
from saereg.trainers.crosscoder.group import ALONE, Group

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which torchrun, and what does as it does, tells a process of the others."""

TIMEOUT = timedelta(minutes=30)
"""How long others are waited for: while one writes tens of gigabytes, or reads rows from a cold disk."""

SMALLEST = -torch.inf
"""What is put behind values of processes that have fewer of them."""


class Store(Protocol):
    """What processes share besides tensors."""

    def add(self, key: str, amount: int) -> int:
        """Add to a number that begins at 0, and return it."""


class Ranks:
    """The processes of this run.

    Args:
        rank: number of this one.
        size: how many there are.
        store: where they count who spoke.
    """

    def __init__(self, rank: int, size: int, store: Store) -> None:
        self.rank, self.size, self._store = rank, size, store

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes; see `Group`."""
        whole = tensor.contiguous()
        with _found_out():
            distributed.all_reduce(whole)
        return tensor if whole is tensor else tensor.copy_(whole)

    def top_values(self, values: Tensor, count: int) -> Tensor:
        """Return the largest values of all processes along the last axis; see `Group`.

        Each process sends its own largest ones, at most `count` of them.
        """
        own = values.topk(min(count, values.shape[-1]), dim=-1).values
        lengths = self._lengths(own.shape[-1])
        own = torch.nn.functional.pad(own, (0, max(lengths) - own.shape[-1]), value=SMALLEST).contiguous()
        parts = [torch.empty_like(own) for _ in lengths]
        if own.numel():
            with _found_out():
                distributed.all_gather(parts, own)
        return torch.cat(parts, -1).topk(min(count, sum(lengths)), dim=-1).values

    def joined(self, tensor: Tensor, dim: int) -> Tensor:
        """Return all parts, in every process; see `Group`."""
        lengths = self._lengths(tensor.shape[dim])
        own = tensor.detach().movedim(dim, 0)
        whole = torch.nn.functional.pad(own, (0, 0) * (own.dim() - 1) + (0, max(lengths) - len(own))).contiguous()
        parts = [torch.empty_like(whole) for _ in lengths]
        if whole.numel():
            with _found_out():
                distributed.all_gather(parts, whole)
        found = torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
        return found.movedim(0, dim).contiguous()

    def largest(self, *numbers: int) -> tuple[int, ...]:
        """Return the largest number of any process, place by place; see `Together`."""
        found = torch.tensor(numbers, dtype=torch.int64)
        with _found_out():
            distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return tuple(found.tolist())

    def speaks(self) -> bool:
        """Whether this process is the first to say why it ends; the others, which end for that, then say nothing."""
        key = f"spoken-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        try:
            return bool(self._store.add(key, 1) == 1)
        except RuntimeError:  # whoever kept the store is gone, and can say nothing
            return True

    def _lengths(self, own: int) -> list[int]:
        """Return a number of every process, in the order of their ranks."""
        parts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with _found_out():
            distributed.all_gather(parts, torch.tensor([own]))
        return [int(part) for part in parts]


def is_one_of_several() -> bool:
    """Whether this process was started as one of several.

    Raises:
        UsageError: when it was, and cannot find the others.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        return False
    if missing := [name for name in NAMES if name not in os.environ]:
        raise UsageError(
            f"RANK and WORLD_SIZE are set, but {' and '.join(missing)} not: start it with torchrun, "
            "or unset them to train in one process"
        )
    return True


@contextlib.contextmanager
def ranks() -> Iterator[Ranks]:
    """Meet the other processes, and leave them in order.

    Raises:
        LostProcessError: when they do not come.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _found_out():
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        own = distributed.PrefixStore("saereg", store)  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield Ranks(rank, size, own)
        with _found_out():  # the first process is the one that all meet at: it leaves when nobody needs it any more
            distributed.all_reduce(torch.zeros(()))
    finally:
        distributed.destroy_process_group()


def own_device(wanted: str, group: Group) -> str:
    """Return the device of this process: `auto` and `cuda` are its own card, the one of its number on this machine.

    Raises:
        UsageError: when all would use one card, or there are fewer cards than processes.
    """
    if group is ALONE or wanted == "cpu":
        return wanted
    if wanted not in ("auto", "cuda"):
        raise UsageError(f"device {wanted!r} is one device, for {group.size} processes; choose auto, cuda or cpu")
    if not torch.cuda.is_available():
        return "cpu" if wanted == "auto" else wanted
    number, cards = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= cards:
        raise UsageError(f"there are {cards} cards for more processes here; start as many with --nproc-per-node")
    torch.cuda.set_device(number)
    return f"cuda:{number}"


@contextlib.contextmanager
def _found_out() -> Iterator[None]:
    """Say in one line what torch says in many.

    Raises:
        LostProcessError: for any error of torch.distributed.
    """
    try:
        yield
    except (RuntimeError, ValueError) as problem:
        first = re.sub(r"^\[[^\]]*\]\s*", "", (str(problem).splitlines() or [""])[0]).split(". ")[0]
        raise LostProcessError(
            f"another process of this run has ended, or cannot be reached ({first}); "
            "the same command goes on from the last checkpoint of all of them"
        ) from problem
