"""The order in which people count: numbers inside a name are compared as numbers."""

import re

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which `step2` comes before `step10`, and `layer_9` before `layer_10`.

    Two texts have one key only if they are equal: `step1` and `step01` are told apart by their zeros, in the end.

    Args:
        text: a name, id or path; each folder of a path is a part of its own, as it is in a listing.
    """
    parts: list[tuple[int, int, str]] = []
    for folder in text.split("/"):
        for position, part in enumerate(_DIGITS.split(folder)):
            parts.append((1, int(part), "") if position % 2 else (0, 0, part))
        parts.append((-1, 0, ""))  # before any letter or digit: `a/b` stands with `a`, not after `a-c`
    return (*parts, (-2, 0, text))
