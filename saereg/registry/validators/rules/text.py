"""A rule is written as a class whose docstring is its page; this file reads that docstring.

class SR123(RuleText):
    \"\"\"The problem in a few words.

    What exactly is looked at, and when it is reported: a paragraph or two.

    Why: what goes wrong for the people who load the release.

    Fix: what to do; a command, where there is one.

    Bad: manifest.json
        {"k": 400, "d_sae": 64}

    Good: manifest.json
        {"k": 32, "d_sae": 64}
    \"\"\"

    severity = "error"
    level = "header"
"""

import inspect
import re
from dataclasses import dataclass
from typing import ClassVar

from saereg.schemas.report import FixKind, Level, Severity

DOCS = "https://github.com/saereg/saereg/blob/main/docs/rules"
"""Where the pages of the rules are."""

_SECTION = re.compile(r"^(What|Why|Fix|Bad|Good):[ ]?(.*)$")

_OWN = re.compile(r"^SR\d")

_SENTENCE = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+(?=[A-Z`]|saereg )")


class RuleText:
    """Base of every rule; the name of the class is the code.

    Attributes:
        severity: how grave a finding of it is, unless a profile or configuration says otherwise.
        level: cheapest level at which it can be found.
        fixable: whether `saereg validate --fix` (`safe`) or `--unsafe-fixes` can mend some of its findings.
        silenceable: whether its errors may be ignored or graded down. Where they may not, nothing else that is found
            of the release could be relied on.
        shows_source: whether the line of the file may be printed; not where it holds a secret.
        also: less grave severities that some of its findings have.
        page: address of its page; those of saereg's own rules are known.
    """

    severity: ClassVar[Severity]
    level: ClassVar[Level]
    also: ClassVar[tuple[Severity, ...]] = ()
    page: ClassVar[str | None] = None
    fixable: ClassVar[FixKind | None] = None
    silenceable: ClassVar[bool] = True
    shows_source: ClassVar[bool] = True


@dataclass(frozen=True)
class Example:
    """A file as it should or should not be: its name, and the part of it that matters."""

    file: str
    text: str


@dataclass(frozen=True)
class Rule:
    """One rule, its docstring read.

    Attributes:
        code: letters of the family and three digits.
        severity: how grave a finding of it is.
        level: cheapest level at which it can be found.
        fixable: `safe`, `unsafe` or None.
        silenceable: whether its errors may be ignored or graded down.
        shows_source: whether the line of the file may be printed.
        also: less grave severities that some of its findings have.
        url: address of its page, or None for a third-party rule that names none.
        title: the problem in a few words.
        what: what exactly is looked at.
        why: what goes wrong for the people who load the release.
        fix: what to do.
        bad: a file that has the problem.
        good: the same file without it.
    """

    code: str
    severity: Severity
    level: Level
    fixable: FixKind | None
    silenceable: bool
    shows_source: bool
    also: tuple[Severity, ...]
    url: str | None
    title: str
    what: str
    why: str
    fix: str
    bad: Example
    good: Example

    @property
    def hint(self) -> str:
        """The first sentence of what to do: it stands beside every finding that has no better one."""
        return _SENTENCE.split(self.fix, maxsplit=1)[0]


_READ: dict[type[RuleText], Rule] = {}


def read_rule(text: type[RuleText]) -> Rule:
    """Return a rule from its class; its docstring is read once."""
    if text not in _READ:
        _READ[text] = _read(text)
    return _READ[text]


def _read(text: type[RuleText]) -> Rule:
    title, _, rest = inspect.cleandoc(text.__doc__ or text.__name__).partition("\n")
    sections: dict[str, list[str]] = {"What": []}
    current = "What"
    for line in rest.splitlines():
        if match := _SECTION.match(line):
            current = match[1]
            sections[current] = [match[2]]
        else:
            sections[current].append(line)
    prose = {name: _paragraphs(lines) for name, lines in sections.items() if name not in ("Bad", "Good")}
    return Rule(
        code=text.__name__,
        severity=text.severity,
        level=text.level,
        fixable=text.fixable,
        silenceable=text.silenceable,
        shows_source=text.shows_source,
        also=text.also,
        url=f"{DOCS}/{text.__name__}.md" if _OWN.match(text.__name__) else text.page,
        title=_uncapitalized(title.rstrip(".")),
        what=prose.get("What", ""),
        why=prose.get("Why", ""),
        fix=prose.get("Fix", ""),
        bad=_example(sections.get("Bad", [])),
        good=_example(sections.get("Good", [])),
    )


def _uncapitalized(title: str) -> str:
    """Return a title with a small first letter, unless its first word is a name such as TopK."""
    first = title.split(" ")[0]
    return title[:1].lower() + title[1:] if first[1:] == first[1:].lower() else title


def _paragraphs(lines: list[str]) -> str:
    text = "\n".join(lines).strip()
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph)


def _example(lines: list[str]) -> Example:
    return Example(lines[0].strip() if lines else "", inspect.cleandoc("\n".join(["", *lines[1:]])).strip())
