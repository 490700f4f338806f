"""Draw every figure of a release and write it: specification, PNG and SVG."""

import contextlib
import json
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from saereg.errors import FigureWarning
from saereg.registry.figures import FIGURES
from saereg.registry.figures.figure import Drawing, FigureKind
from saereg.registry.figures.rendering import pictures, require_plots
from saereg.registry.files.atomic import write_bytes_atomically
from saereg.registry.files.names import FIGURES as FOLDER
from saereg.registry.release import INDEX_FILE, Release
from saereg.schemas.document import canonical
from saereg.schemas.index import Figure

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""What a figure may be called; nothing that leads out of its folder."""

ENDINGS = (".vl.json", ".png", ".svg")
"""The specification first: by it a later run knows that the pictures are its own."""

Failed = Callable[[str], None]
"""(one line on a figure that could not be drawn) → None."""


def write_figures(release: Release, failed: Failed | None = None) -> tuple[Figure, ...]:
    """Draw what the evidence of a release allows, and remove the files of figures that it no longer does.

    A figure that cannot be drawn of an odd release is left out, and one line says so; the others are drawn. A file of
    the same name that is somebody else's stays as it is: neither the index on disk names it, nor has its specification
    the mark of this software.

    Args:
        release: an open folder, its index the evidence that was just found.
        failed: is told of what could not be drawn; by default a `FigureWarning` says it.

    Returns:
        What was drawn, in the order in which it is shown. A file that has these bytes already is not touched.

    Raises:
        MissingExtraError: without the `plots` extra.
        OSError: when a file cannot be written.
    """
    require_plots("drawing figures")
    failed = failed or _warn
    if problem := _not_ours(release.path):
        failed(f"no figures: {problem}")
        return ()
    written = tuple(_written(release.path, _known(release), drawn(release, FIGURES.values(), failed), failed))
    remove_figures(release, kept={figure.name for figure in written})
    return written


def remove_figures(release: Release, kept: Collection[str] = ()) -> None:
    """Remove the figures that an earlier index of a release names, but for some: nobody would see that they are stale.

    Raises:
        OSError: when a file cannot be removed.
    """
    if _not_ours(release.path):
        return
    for name in sorted(_known(release) - set(kept)):
        for ending in ENDINGS:
            (release.path / FOLDER / f"{name}{ending}").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it holds files of others, or was never made
        (release.path / FOLDER).rmdir()


def _not_ours(root: Path) -> str | None:
    """Return why nothing is written into the folder of figures, or removed from it; None where it is one, or will be.

    Through a link, files of somebody else would be replaced.
    """
    folder = root / FOLDER
    if folder.is_symlink():
        return f"{FOLDER} is a link, and nothing is written through it; remove it"
    return f"{FOLDER} is a file; rename it" if folder.exists() and not folder.is_dir() else None


def drawn(release: Release, kinds: Iterable[FigureKind], failed: Failed) -> Iterator[Drawing]:
    """Yield the drawings of some kinds; of a kind that fails on this release, one line tells why."""
    for kind in kinds:
        try:
            yield from kind.draw(release)
        except Exception as error:  # noqa: BLE001  # evidence may be odd in ways that nobody thought of
            failed(_line(kind.name, error))


def _written(root: Path, known: set[str], drawings: Iterable[Drawing], failed: Failed) -> Iterator[Figure]:
    taken: set[str] = set()
    for drawing in drawings:
        if drawing.name in taken or not NAME.fullmatch(drawing.name):
            failed(f"figure {drawing.name!r} of {drawing.kind} is left out: the name is taken, or is none")
            continue
        taken.add(drawing.name)
        paths = [f"{FOLDER}/{drawing.name}{ending}" for ending in ENDINGS]
        if drawing.name not in known and (foreign := _foreign(root, paths)):
            failed(f"figure {drawing.name} is left out: {foreign} is there and was not drawn by saereg; rename it")
            continue
        try:
            pixels, vectors = pictures(drawing.spec)
            contents = (canonical(drawing.spec).encode(), pixels, vectors.encode())
        except (ValueError, TypeError) as error:
            failed(_line(drawing.name, error))
            continue
        for path, content in zip(paths, contents, strict=True):
            _write(root / path, content)
        facts = {"name": drawing.name, "kind": drawing.kind, "title": drawing.title, "caption": drawing.caption}
        yield Figure(**facts, alt=drawing.alt, spec=paths[0], png=paths[1], svg=paths[2])


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_bytes_atomically(path, content)


def _known(release: Release) -> set[str]:
    """Return the names of the figures that an earlier index of the release has, the one on disk above all."""
    found = {figure.name for figure in release.index.figures} if release.index else set()
    try:
        before = json.loads((release.path / INDEX_FILE).read_bytes())["figures"]
        found |= {figure["name"] for figure in before}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass  # none yet, or one that the next index replaces
    return {name for name in found if isinstance(name, str) and NAME.fullmatch(name)}


def _foreign(root: Path, paths: list[str]) -> str | None:
    """Return a file of a figure that somebody else made, or None."""
    there = [path for path in paths if (root / path).exists()]
    if not there:
        return None
    try:
        mark = json.loads((root / paths[0]).read_bytes())["usermeta"]["made_by"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return there[0]
    return None if mark == "saereg" else there[0]


def _line(name: str, error: Exception) -> str:
    words = " ".join(str(error).split())[:200]
    return f"figure {name} is left out, as it cannot be drawn of this release: {type(error).__name__}: {words}"


def _warn(line: str) -> None:
    warnings.warn(line, FigureWarning, stacklevel=2)
