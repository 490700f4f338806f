"""The Python blocks of a card: which they are, what of them can be compiled, and which are not meant to be run."""

import ast
import re
import textwrap
import warnings
from dataclasses import dataclass

from saereg.registry.cards.card import Card, Fence

PYTHON = ("python", "py", "python3", "pycon", "ipython", "ipython3")
"""First words of blocks that are Python."""

LONGEST = 200_000
"""Characters of a block that is compiled at all."""

_NOT_RUN = re.compile(r"<!--\s*saereg:\s*not run\s*-->\s*$")
_NO_RUN = frozenset({"no-run", "no_run", "norun", "skip"})
_MARKS = re.compile(r"(?:`{3,}|~{3,})([^`]*)$")
_PROMPT = re.compile(r"\s*(?:>>>|In \[\d*\]:)(?: |$)")
_CONTINUED = re.compile(r"\s*(?:\.\.\.|\s+\.\.\.:)(?: |$)")
_MAGIC = re.compile(r"(\s*)(?:[!%]\S|[\w.]+ = [!%]\S|[\w.]+\?{1,2}\s*$)")
_CELL = re.compile(r"\s*%%(\w+)")

_RUNNABLE_CELLS = ("time", "timeit", "capture", "prun")
"""Cell magics whose body is Python."""


@dataclass(frozen=True)
class Snippet:
    """One Python block.

    Attributes:
        number: which of the Python blocks of the card, counted from 1.
        line: line of the card before its first line.
        code: what is compiled: the same lines, without prompts, their output, and lines for the shell.
        problem: why it cannot be compiled, or None.
        problem_line: line of the card that is meant, where there is a problem.
        left_out: why it is not meant to be run, or None.
    """

    number: int
    line: int
    code: str
    problem: str | None = None
    problem_line: int = 0
    left_out: str | None = None


def snippets_of(card: Card) -> tuple[Snippet, ...]:
    """Return the Python blocks of a card, in order."""
    fences = [fence for fence in card.fences if _words(card, fence)[0] in PYTHON]
    return tuple(_snippet(card, fence, number) for number, fence in enumerate(fences, 1))


def _words(card: Card, fence: Fence) -> list[str]:
    """Return what stands behind the opening marks of a block, in small letters, word by word."""
    mark = _MARKS.search(card.lines[fence.line - 1])
    return re.split(r"[,{}.\s]+", mark[1].strip("{}. \t").lower()) if mark else [""]


def _snippet(card: Card, fence: Fence, number: int) -> Snippet:
    code = textwrap.dedent(_without_prompts(fence.text))
    problem = _compiled(code)
    if problem is not None:
        cell = next((match[1] for line in code.split("\n") if (match := _CELL.match(line))), None)
        if cell and cell not in _RUNNABLE_CELLS:
            return Snippet(number, fence.line, "", left_out=f"%%{cell} is not Python")
        plain = _without_magic(code)
        if plain != code:
            code, problem = plain, _compiled(plain)
    if problem is not None:
        what, line = problem
        end = max(fence.end - 1, fence.line + 1)
        return Snippet(number, fence.line, code, what, min(fence.line + max(line, 1), end))
    return Snippet(number, fence.line, code, left_out=_left_out(card, fence, code))


def _without_prompts(text: str) -> str:
    """Keep what stands behind prompts where a block is a session, its output blanked."""
    lines = text.split("\n")
    if not any(_PROMPT.match(line) for line in lines):
        return text
    kept, inside = [], False
    for line in lines:
        mark = _PROMPT.match(line) or (_CONTINUED.match(line) if inside else None)
        inside = mark is not None
        kept.append(line[mark.end() :] if mark else "")
    return "\n".join(kept)


def _without_magic(text: str) -> str:
    """Blank the lines of IPython that are for the shell or for the notebook."""
    return "\n".join(f"{match[1]}pass" if (match := _MAGIC.match(line)) else line for line in text.split("\n"))


def _compiled(code: str) -> tuple[str, int] | None:
    """Return why a block cannot be compiled, and in which of its lines; None when it can."""
    if len(code) > LONGEST:
        return f"it has {len(code)} characters", 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "<block>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        return error.msg or "invalid syntax", error.lineno or 1
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return {"ValueError": "a character that Python does not read"}.get(type(error).__name__, "nested too deeply"), 1
    return None


def _left_out(card: Card, fence: Fence, code: str) -> str | None:
    if not _NO_RUN.isdisjoint(_words(card, fence)[1:]):
        return "its first line says no-run"
    before = next((line for line in reversed(card.lines[: fence.line - 1]) if line.strip()), "")
    if _NOT_RUN.search(before):
        return "the line before it says that it is not run"
    if not code.strip():
        return "it is empty"
    return "it leaves something out, written as ..." if _has_gap(code) else None


def _has_gap(code: str) -> bool:
    """Whether `...` stands where a value is needed: as an argument, or as what a name is set to."""
    for node in ast.walk(compile(code, "<block>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Assign):
            values = [node.value]
        if any(isinstance(value, ast.Constant) and value.value is ... for value in values):
            return True
    return False
