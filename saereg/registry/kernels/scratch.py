"""Memory for products that is used again: for every block anew, the system would have to clear it page by page."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Scratch:
    """One buffer per thread that asks at the same time; a copy in another process starts without."""

    def __init__(self) -> None:
        """Start with none."""
        self._free: list[Tensor] = []

    @contextmanager
    def lent(self, size: int, dtype: torch.dtype, device: torch.device) -> Iterator[Tensor]:
        """Lend a flat buffer of so many numbers, with anything in it."""
        buffer = self._free.pop() if self._free else torch.empty(0, dtype=dtype, device=device)
        if len(buffer) < size:
            del buffer  # before the larger one is made
            buffer = torch.empty(size, dtype=dtype, device=device)
        try:
            yield buffer[:size]
        finally:
            self._free.append(buffer)

    def __reduce__(self) -> tuple[type["Scratch"], tuple[()]]:
        """Leave the buffers behind."""
        return Scratch, ()
