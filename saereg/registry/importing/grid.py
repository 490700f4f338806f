"""The files of a folder as a grid of captures: which are there, which are missing, which are there twice."""

import itertools
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from saereg.errors import FormatError
from saereg.registry.files.folder import IGNORED_FOLDERS
from saereg.registry.importing.template import Capture, Captures, Template
from saereg.registry.readings.source import WEIGHT_SUFFIXES

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
"""Letters behind a quantity, as in 50M tokens."""

LAST = ("final", "last", "latest", "end", "done")
"""Moments that come after every quantity."""

MOST_FILES = 20_000
"""Most files of one grid."""

MOST_GAPS = 10_000
"""Most combinations of values that are looked through for gaps."""

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kmgbt]?)", re.IGNORECASE)


@dataclass(frozen=True)
class Cell:
    """One checkpoint of the grid.

    Attributes:
        path: relative to the folder, with `/`.
        captures: what its name says.
    """

    path: str
    captures: Captures = field(hash=False)

    def __str__(self) -> str:
        """Return the captures in words."""
        return said(self.captures)


@dataclass(frozen=True)
class Grid:
    """Everything in a folder, seen through a template.

    Attributes:
        folder: where the files are.
        template: how they are named.
        cells: one for each combination of values that is there, in order.
        doubles: captures that several files have, with those files; such a cell is also in `cells`, with its first.
        gaps: combinations of values, each of which occurs, that have no file.
        others: weight files that the template does not match.
    """

    folder: Path
    template: Template
    cells: tuple[Cell, ...]
    doubles: tuple[tuple[Captures, tuple[str, ...]], ...] = ()
    gaps: tuple[Captures, ...] = ()
    others: tuple[str, ...] = ()

    def values(self, name: str) -> tuple[Capture, ...]:
        """Return the values of a field, in order."""
        return tuple(sorted({cell.captures[name] for cell in self.cells}, key=order))

    def files(self, captures: Captures) -> tuple[str, ...]:
        """Return the files of a combination of values."""
        several = [paths for known, paths in self.doubles if known == captures]
        return several[0] if several else tuple(cell.path for cell in self.cells if cell.captures == captures)


def look(folder: Path, template: Template) -> Grid:
    """Look at a folder through a template.

    Raises:
        FormatError: when no file matches, or there are far too many.
        OSError: when the folder cannot be listed.
    """
    found: dict[tuple[Capture, ...], list[Cell]] = {}
    others = []
    for path in _files(folder):
        captures = template.parse(path)
        if captures is None:
            others += [path] if path.endswith(WEIGHT_SUFFIXES) else []
        else:
            found.setdefault(tuple(captures.values()), []).append(Cell(path, captures))
    if not found:
        raise FormatError(folder, f"no file matches {template.text}", others[:8])
    cells = sorted((cells[0] for cells in found.values()), key=lambda cell: key(cell.captures))
    doubles = [(cells[0].captures, tuple(cell.path for cell in cells)) for cells in found.values() if len(cells) > 1]
    grid = Grid(folder, template, tuple(cells), tuple(sorted(doubles, key=lambda d: key(d[0]))), (), tuple(others))
    return Grid(folder, template, grid.cells, grid.doubles, _gaps(grid), grid.others)


def order(value: Capture) -> tuple[object, ...]:
    """Return the key by which values sort: 50M < 100M < 1B < step9 < step10 < final."""
    text = str(value)
    if quantity := _QUANTITY.fullmatch(text):
        return (0, float(quantity[1]) * UNITS[quantity[2].lower()], text)
    if text.lower() in LAST:
        return (2, 0.0, text)
    pieces = [piece for piece in re.split(r"([0-9]+)", text) if piece]
    return (1, 0.0, *((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pieces))


def key(captures: Captures) -> tuple[object, ...]:
    """Return the key by which combinations of values sort."""
    return tuple(order(value) for value in captures.values())


def said(captures: Captures) -> str:
    """Return captures in words, e.g. `layer 3, snapshot 50M`."""
    return ", ".join(f"{name} {value}" for name, value in captures.items())


def _files(folder: Path) -> list[str]:
    """Return every file below a folder that is not hidden, sorted; links to files count, linked folders do not."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if name not in IGNORED_FOLDERS and not name.startswith("."))
        relative = Path(place).relative_to(folder).as_posix()
        found += [name if relative == "." else f"{relative}/{name}" for name in names if not name.startswith(".")]
        if len(found) > MOST_FILES:
            raise FormatError(folder, f"holds more than {MOST_FILES} files; name the folder of the checkpoints")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _gaps(grid: Grid) -> tuple[Captures, ...]:
    names = [part.name for part in grid.template.fields]
    values = [grid.values(name) for name in names]
    if math.prod(len(known) for known in values) > MOST_GAPS:
        return ()
    there = {tuple(cell.captures.values()) for cell in grid.cells}
    return tuple(dict(zip(names, combination, strict=True)) for combination in _missing(values, there))


def _missing(values: Iterable[tuple[Capture, ...]], there: set[tuple[Capture, ...]]) -> list[tuple[Capture, ...]]:
    return [combination for combination in itertools.product(*values) if combination not in there]
