"""Python's collector of cycles, paused while many values are made that stay: it would look through all of them."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collected_later() -> Iterator[None]:
    """Put garbage collection off until the end of the block, unless it is off anyway.

    Reading the index of 10,000 artifacts makes two million values, none of which is in a cycle; counting references
    frees them as ever. With the collector at work it takes twice the time. A process that has called `gc.freeze`, as
    the command line does, ends soon: there the values are never looked through, which would take another second.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count():
            gc.freeze()
        gc.enable()
