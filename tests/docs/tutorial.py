"""Run a page of the guide as its reader would: every block in order, in one folder, compared with what the page shows.

Fenced blocks of these languages are read; all others are prose.

- `console`: lines that begin with `$ ` are commands (`\\` at the end goes on), the lines after one are what it prints.
  Nothing shown, nothing compared. `…` stands for anything in a line; alone in a line, for any lines. Runs of spaces
  are one space. A command must end with 0, unless the next one is `$ echo $?`, which shows the code.
- `python`: run in one namespace per page. `pycon`: the same as a session with `>>> `, with what it prints.
- `yaml`, `json`, `toml`, `text` whose first line is `# NAME` (or `// NAME`): written to the file NAME.

Commands of saereg run in this process, as heavy libraries are imported once then; all others are given to bash.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from saereg.cli import run

FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)

FILES = {"yaml": "# ", "toml": "# ", "text": "# ", "json": "// "}
"""Language → what stands before the name of a file in its first line."""

LOOP = re.compile(r"for (\w+) in ([^;]+); do (.+?);? done$")

QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")

ANYTHING = "…"


class PageError(AssertionError):
    """A page says what is not so."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its page.
        line: number of its first line, that after the fence.
        language: the word at the fence.
        text: what is between the fences.
    """

    page: Path
    line: int
    language: str
    text: str

    def at(self, offset: int = 0) -> str:
        """Return the place of one of its lines."""
        return f"{self.page.as_posix()}:{self.line + offset}"


@dataclass(frozen=True)
class Command:
    """A command, the output that is shown for it, and the line that it stands in, counted from the block's first."""

    text: str
    shown: tuple[str, ...]
    offset: int


@dataclass
class Session:
    """What a reader has before them: a folder, names of Python, and the code that the last command ended with."""

    folder: Path
    names: dict[str, object] = field(default_factory=dict)
    code: int = 0


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        yield Block(page, line, match["language"], match["text"])


def commands(block: Block) -> list[Command]:
    """Return the commands of a console block.

    Raises:
        PageError: for a block that begins with no command.
    """
    found: list[Command] = []
    lines = block.text.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("$ "):
            raise PageError(f"{block.at(at)}: a console block begins with '$ '")
        start, text = at, lines[at][2:]
        while text.endswith("\\"):
            at += 1
            text = text[:-1].rstrip() + " " + lines[at].strip()
        at += 1
        shown = []
        while at < len(lines) and not lines[at].startswith("$ "):
            shown.append(lines[at])
            at += 1
        found.append(Command(text, tuple(shown), start))
    return found


def run_page(page: Path, folder: Path) -> Session:
    """Run every block of a page in a folder.

    Raises:
        PageError: at the first line that is not so.
    """
    session = Session(folder)
    with contextlib.chdir(folder):
        for block in blocks(page):
            if block.language == "console":
                _console(block, session)
            elif block.language == "python":
                _python(block, session)
            elif block.language == "pycon":
                _pycon(block, session)
            elif block.language in FILES:
                _file(block)
    return session


def _console(block: Block, session: Session) -> None:
    wanted = commands(block)
    for i, command in enumerate(wanted):
        if command.text.strip() == "echo $?":
            out = f"{session.code}\n"
        else:
            session.code, out = execute(command.text, session)
            asked = i + 1 < len(wanted) and wanted[i + 1].text.strip() == "echo $?"
            if session.code and not asked:
                raise PageError(f"{block.at(command.offset)}: `{command.text}` ended with {session.code}:\n{out}")
        if command.shown and not agrees(command.shown, out.splitlines()):
            shown = "\n".join(command.shown)
            raise PageError(f"{block.at(command.offset)}: `{command.text}` is shown as\n{shown}\nand prints\n{out}")


def execute(text: str, session: Session) -> tuple[int, str]:
    """Run a line of a shell; return its exit code, and what it wrote to both streams."""
    loop = LOOP.fullmatch(text.strip())
    if loop is not None:
        name, values, body = loop.groups()
        code, out = 0, ""
        for value in shlex.split(values):
            code, more = execute(re.sub(rf"\$\{{?{name}\b\}}?", value, body), session)
            out += more
            if code:
                break
        return code, out
    words = shlex.split(text)
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        os.environ[name] = value
        return 0, ""
    if words[0] != "saereg" or re.search(r"[|;&]|\$\(", QUOTED.sub("", text)):
        return _bash(text)
    to_file = words[-2] == ">"
    return _in_process(words[1:-2] if to_file else words[1:], Path(words[-1]) if to_file else None)


def _bash(text: str) -> tuple[int, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    line = ["bash", "-c", text]
    done = subprocess.run(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, env=os.environ | {"PATH": path}
    )
    return done.returncode, done.stdout


def _in_process(words: list[str], target: Path | None) -> tuple[int, str]:
    both = io.StringIO()
    out = io.StringIO() if target else both
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(both):
        code = run(words)
    if target is not None:
        target.write_text(out.getvalue(), encoding="utf-8")
    return code, both.getvalue()


def agrees(shown: tuple[str, ...], printed: list[str]) -> bool:
    """Whether what is printed is what is shown."""
    pattern = []
    for line in _trimmed(shown):
        if line == ANYTHING:
            pattern.append(r"(?:[^\n]*\n)*")
        else:
            parts = [re.escape(part) for part in line.split(ANYTHING)]
            pattern.append(r"[^\n]*".join(parts) + r"\n")
    return re.fullmatch("".join(pattern), "".join(f"{line}\n" for line in _trimmed(printed))) is not None


def _trimmed(lines: tuple[str, ...] | list[str]) -> list[str]:
    """Return lines without spaces at their ends, with one for several, and without empty lines around them."""
    return re.sub(r"[ \t]+", " ", "\n".join(line.rstrip() for line in lines)).strip("\n").splitlines()


def _python(block: Block, session: Session) -> None:
    padding = "\n" * (block.line - 1)  # so that a traceback names the line of the page
    try:
        exec(compile(padding + block.text, str(block.page), "exec"), session.names)
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(block.page):
            trace = trace.tb_next
        line = trace.tb_lineno if trace is not None else block.line
        raise PageError(f"{block.page.as_posix()}:{line}: {type(error).__name__}: {error}") from error


class _Shown(doctest.OutputChecker):
    """Compares as everything here does."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Whether what is printed is what is shown."""
        return agrees(tuple(want.splitlines()), got.splitlines())


def _pycon(block: Block, session: Session) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, session.names, block.page.name, str(block.page), block.line)
    said = io.StringIO()
    result = doctest.DocTestRunner(checker=_Shown()).run(test, out=said.write, clear_globs=False)
    session.names.update(test.globs)
    if result.failed:
        raise PageError(f"{block.at()}: {said.getvalue()}")


def _file(block: Block) -> None:
    first, _, rest = block.text.partition("\n")
    mark = FILES[block.language]
    if first.startswith(mark) and re.fullmatch(r"[\w./-]+\.\w+", first.removeprefix(mark)):
        path = Path(first.removeprefix(mark))
        path.parent.mkdir(parents=True, exist_ok=True)
        # a comment stays where the language has comments: what is written is what is shown
        path.write_text(rest if block.language in ("json", "text") else block.text, encoding="utf-8")
