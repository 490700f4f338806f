"""How much of a file has come from the Hub, shown on a terminal as the client of the Hub does."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def bar(what: str, size: int) -> Iterator[Callable[[int], object]]:
    """Show how much of a file is fetched.

    Args:
        what: its name.
        size: its bytes.

    Yields:
        What to call with the number of bytes after each block of them.
    """
    from huggingface_hub.utils import tqdm

    with (bars() or tqdm)(total=size, unit="B", unit_scale=True, desc=what) as shown:
        yield shown.update


def bars() -> Any:  # noqa: ANN401 - a progress bar class of the Hub client, or None for its own
    """Return the class of progress bars: its own on a terminal, none elsewhere."""
    if sys.stderr.isatty():
        return None
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):  # type: ignore[misc]
        """A bar that is not shown."""

        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(*arguments, **options | {"disable": True})

    return Silent
