"""A grid of checkpoints as text: which are there, what is in them, and how candidates score."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from saereg.cli.render.text import plural, table, visible

if TYPE_CHECKING:
    from saereg.registry.importing.arbiter import Verdict
    from saereg.registry.importing.grid import Grid
    from saereg.registry.importing.survey import Survey

MOST_ROWS, MOST_COLUMNS, MOST_LISTED = 64, 16, 12
"""Most rows and columns of a grid that are shown, and most lines of a list."""


def grid_text(grid: "Grid") -> str:
    """Return the table of a grid, how many files each combination has; then what is missing, twice, or else."""
    from saereg.registry.importing.grid import said

    names = [part.name for part in grid.template.fields]
    counts = " × ".join(f"{len(grid.values(name))} {name}" for name in names)
    files = sum(len(grid.files(cell.captures)) for cell in grid.cells)
    lines = [f"{plural(files, 'file')} of {visible(str(grid.folder))}: {counts}", "", _table(grid, names), ""]
    lines += _listed("missing", (said(captures) for captures in grid.gaps))
    lines += _listed("twice", (f"{said(captures)}: {', '.join(paths)}" for captures, paths in grid.doubles))
    lines += _listed("no match", grid.others)
    return "\n".join(lines).rstrip("\n")


def _table(grid: "Grid", names: list[str]) -> str:
    fewest = min(reversed(names), key=lambda name: len(grid.values(name))) if len(names) > 1 else None
    columns = grid.values(fewest) if fewest else ()
    if len(columns) > MOST_COLUMNS:
        return "\n".join(f"{name}: {', '.join(map(str, grid.values(name)))}" for name in names)
    rest = [name for name in names if name != fewest]
    found: dict[tuple[str, ...], dict[object, int]] = {}
    for cell in grid.cells:
        row = tuple(str(cell.captures[name]) for name in rest)
        column = cell.captures[fewest] if fewest else None
        found.setdefault(row, {})[column] = len(grid.files(cell.captures))
    head = [*rest, *(map(str, columns) if fewest else ("files",))]
    wanted: Iterable[object] = columns if fewest else (None,)
    rows = [[*map(visible, row), *(str(there.get(column, "–")) for column in wanted)] for row, there in found.items()]
    more = [f"… {plural(len(rows) - MOST_ROWS, 'more row')}"] if len(rows) > MOST_ROWS else []
    return "\n".join([table([visible(name) for name in head], rows[:MOST_ROWS]), *more])


def _listed(label: str, items: Iterable[str]) -> list[str]:
    texts = [visible(item) for item in items]
    lines = [f"{label}: {text}" for text in texts[:MOST_LISTED]]
    return lines + ([f"{label}: … {len(texts) - MOST_LISTED} more"] if len(texts) > MOST_LISTED else [])


def survey_text(found: "Survey") -> str:
    """Return what the first file holds, whether the others agree, what was inferred, and what must be given."""
    part: dict[str, str] = {}
    for name, key in found.parts.items():
        part[key] = f"{part[key]}, {name}" if key in part else name
    part |= dict.fromkeys(found.left_out, "left out")
    rows = [
        (visible(key), entry.dtype, str(entry.shape), part.get(key, "?"))
        for key, entry in found.entries.items()
        if len(found.entries) <= MOST_ROWS or part.get(key) != "left out"
    ]
    lines = [f"{found.layout}: {visible(found.path)}", "", table(("tensor", "type", "shape", "part"), rows), ""]
    lines += _agreement(found.differing)
    lines += [f"assumed: {n.field} = {visible(n.value)}, because {visible(n.because)}" for n in found.assumptions]
    lines += [f"could be {name}: {because}; if so, say --from {name}" for name, because in found.could_be.items()]
    lines += [f"must be given: {q}{f'   ({visible(q.why)})' if q.why else ''}" for q in found.questions]
    if found.questions and found.told:
        lines += _listed("the file says", (f"{name} = {value}" for name, value in found.told.items()))
    lines += [f"cannot be read: {visible(found.problem)}"] if found.problem else []
    return "\n".join(lines)


def _agreement(differing: Mapping[str, str]) -> list[str]:
    if not differing:
        return ["every file holds the same tensors, of the same shapes and types"]
    return _listed("differs", (f"{path}: {what}" for path, what in differing.items()))


def verdict_text(verdict: "Verdict", path: str) -> str:
    """Return the scores of candidates, the best first."""
    names = list(verdict.scores[0].switches)
    rows = []
    for score in verdict.scores:
        value = score.explained_variance
        rows.append([*(score.switches[name] for name in names), "not finite" if value is None else f"{value:.4f}"])
    lines = [f"explained variance of {visible(path)} on {plural(verdict.rows, 'row')}", ""]
    lines.append(table([*names, "explained_variance"], rows))
    said = " ".join(f"--set {name}={value}" for name, value in verdict.proposed.items())
    lines += ["", f"proposed: {said}" if said else "proposed: nothing, no value is clearly the best"]
    return "\n".join(lines)
