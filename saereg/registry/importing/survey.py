"""What the files of a grid hold: the tensors of the first, whether all others agree, what is inferred and missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from saereg.errors import FormatError, SaeregError
from saereg.registry.files.opening import open_tensors
from saereg.registry.files.tensors import Entry
from saereg.registry.formats import state_dict
from saereg.registry.formats.anatomy import Question, dissect
from saereg.registry.importing.grid import Grid
from saereg.registry.importing.template import Captures, fill
from saereg.registry.loading import matches, read
from saereg.registry.readings.given import Given
from saereg.registry.readings.source import open_source
from saereg.schemas.artifact_config import assumptions
from saereg.schemas.semantics import Assumption

TOLD_BY_NAMES = ("deepseek_r1", "goodfire", "qwen_scope")
"""Layouts that are told by names of tensors that any training script may have chosen, e.g. two Linears `encoder` and
`decoder`. Each is one publisher's function: for a grid of somebody else's it must be named, not recognized."""


@dataclass(frozen=True)
class Survey:
    """What a grid of files holds.

    Attributes:
        layout: layout of the first file.
        path: that file, relative to the folder.
        entries: its tensors.
        parts: canonical tensor → the key that it is made of; empty where it cannot be read yet.
        left_out: keys that are none of the dictionary's.
        differing: other files that hold other tensors → the first difference.
        assumptions: what was inferred or given.
        questions: what must still be given.
        told: numbers and strings in the first file that may help to answer.
        problem: why it cannot be read, where that is no question.
        could_be: layouts that its tensors fit too, which must be named → what tells so.
    """

    layout: str
    path: str
    entries: Mapping[str, Entry]
    parts: Mapping[str, str]
    left_out: tuple[str, ...]
    differing: Mapping[str, str]
    assumptions: tuple[Assumption, ...] = ()
    questions: tuple[Question, ...] = ()
    told: Mapping[str, object] | None = None
    problem: str | None = None
    could_be: Mapping[str, str] = field(default_factory=dict)


def survey(grid: Grid, given: Mapping[str, str], layout: str | None = None) -> Survey:
    """Look into every file of a grid; only headers are read, and vectors that decide something.

    Args:
        grid: the files.
        given: what they do not say; values may have fields, e.g. `{k}`.
        layout: layout of the files. By default the one that the first is in, or else a state dict.

    Raises:
        FormatError: when the first file is in several layouts.
        WeightsError: when it cannot be opened.
        UsageError: when a given value does not fit.
    """
    first = grid.cells[0]
    path, values = grid.folder / first.path, given_of(given, first.captures)
    name = layout_of_file(path, layout)
    entries = open_tensors(path).entries
    differing = {
        cell.path: what
        for cell in grid.cells[1:]
        if (what := _difference(entries, grid.folder / cell.path)) is not None
    }
    if name == state_dict.NAME:
        found = _of_state_dict(path, first.path, values, entries, differing)
        return replace(found, could_be=_could_be(path) if layout is None else {})
    try:
        reading = read(path, values, name)
    except FormatError as error:
        return Survey(name, first.path, entries, {}, (), differing, problem=str(error))
    parts = {tensor: str(recipe.key) for tensor, recipe in reading.plan.items() if recipe.key is not None}
    return Survey(name, first.path, entries, parts, reading.left_out, differing, assumptions(reading.cfg))


def layout_of_file(path: Path, name: str | None = None) -> str:
    """Return the layout that a file is in: the named one, the one that fits for sure, or else a state dict.

    Raises:
        FormatError: when several fit.
        WeightsError: when it cannot be opened.
    """
    if name is not None:
        return name
    found = [match.layout.name for match in matches(open_source(path)) if match.layout.name not in TOLD_BY_NAMES]
    if len(found) > 1:
        raise FormatError(path, "fits several layouts; say which with --from", found)
    return found[0] if found else state_dict.NAME


def _could_be(path: Path) -> dict[str, str]:
    fitting = matches(open_source(path))
    return {match.layout.name: match.because for match in fitting if match.layout.name in TOLD_BY_NAMES}


def given_of(given: Mapping[str, str], captures: Captures) -> dict[str, str]:
    """Return the given values with their fields replaced by the captures of a file.

    Raises:
        UsageError: when a field is not among them.
    """
    return {name: fill(value, captures) if "{" in value else value for name, value in given.items()}


def _of_state_dict(
    path: Path, name: str, values: Mapping[str, str], entries: Mapping[str, Entry], differing: Mapping[str, str]
) -> Survey:
    asked = Given(dict(values))
    try:
        anatomy = dissect(open_source(path).only(), asked)
        if anatomy.encoder:
            state_dict.settle_output_bias(anatomy)
        state_dict.ask_switches(anatomy, asked)
        asked.check_used()
    except FormatError as error:
        return Survey(state_dict.NAME, name, entries, {}, (), differing, problem=str(error))
    sides = {"W_enc": anatomy.encoder, "W_dec": anatomy.decoder} if anatomy.encoder else {}
    parts, told = {**sides, **anatomy.vectors}, state_dict.stated_beside(anatomy.file)
    found, left_out = (*anatomy.assumptions, *asked.assumptions), tuple(anatomy.left_out)
    questions, problem = tuple(anatomy.questions), None
    if not questions:
        try:
            reading = read(path, values, state_dict.NAME)
            found, left_out = reading.cfg.assumptions, reading.left_out  # type: ignore[union-attr]
        except FormatError as error:
            problem = str(error)
    return Survey(state_dict.NAME, name, entries, parts, left_out, differing, found, questions, told, problem)


def _difference(expected: Mapping[str, Entry], path: Path) -> str | None:
    """Return the first way in which a file holds other tensors, or None."""
    try:
        found = open_tensors(path).entries
    except (SaeregError, OSError) as error:
        return str(error)
    for key, entry in expected.items():
        if key not in found:
            return f"{key} is missing"
        if found[key] != entry:
            return f"{key} is {found[key].dtype} {found[key].shape}, not {entry.dtype} {entry.shape}"
    extra = [key for key in found if key not in expected]
    return f"{extra[0]} is extra" if extra else None
