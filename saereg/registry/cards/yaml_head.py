"""The front matter of a card as it stands there: values, lines, and what is wrong with it."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf

import yaml

from saereg.registry.files import yaml_problem

MOST_CHARACTERS = 32 * 1024
"""Longest front matter that is read; a real one has a few hundred characters."""

MOST_VALUES = 100_000
"""Most values that a front matter may stand for once its aliases are followed; without aliases it cannot have more."""

MOST_OPEN = 100
"""Brackets that may be open at once: of thousands the parser takes a second to say that they are too many."""

_ODD_ENDS = re.compile("[\x85\u2028\u2029]")
"""What ends a line for YAML, and for no editor."""

_END = re.compile(r"^---[ \t]*\r?$", re.M)
_START = re.compile(r"\s*---[ \t]*(?:\r\n|\n|\r)")


@dataclass(frozen=True)
class Problem:
    """Why a front matter cannot be read.

    Attributes:
        sentence: what is wrong.
        line: line of the file.
    """

    sentence: str
    line: int


@dataclass(frozen=True)
class FrontMatter:
    """What stands between the `---` lines at the beginning of a card.

    Attributes:
        present: whether there is any.
        values: key → value; empty where it cannot be read.
        lines: key → line of the file.
        problems: why it cannot be read; empty where it can.
        end: number of lines that it takes, its `---` lines included; 0 where there is none.
    """

    present: bool = False
    values: dict[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    end: int = 0

    def line(self, key: str) -> int:
        """Return the line of a key, or the first one where the key is missing."""
        return self.lines.get(key, 1)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the value of a key that holds one text or a list of them."""
        value = self.values.get(key)
        several = value if isinstance(value, list) else [value]
        return tuple(str(one).strip() for one in several if one is not None and not isinstance(one, dict | list))


def read_front_matter(text: str) -> FrontMatter:
    """Read the front matter of a card; nothing in it is ever executed."""
    start = _START.match(text)
    if start is None:
        return FrontMatter()
    first = _count(text[: start.end()])
    end = _END.search(text, start.end())
    if end is None:
        return FrontMatter(present=True, problems=(Problem("the front matter is not closed by a line `---`", first),))
    body, lines = text[start.end() : end.start()], _count(text[: end.start()]) + 1
    if len(body) > MOST_CHARACTERS:
        sentence = f"the front matter has {len(body)} characters; at most {MOST_CHARACTERS} are read"
        return FrontMatter(present=True, problems=(Problem(sentence, first),), end=lines)
    if _deepest(body) > MOST_OPEN:
        sentence = f"the front matter opens more than {MOST_OPEN} brackets inside each other"
        return FrontMatter(present=True, problems=(Problem(sentence, first),), end=lines)
    values, places, problems = _read(body, first + 1)
    return FrontMatter(True, values, places, problems, lines)


def _deepest(body: str) -> int:
    """Return how many brackets are open at once; those in quotes count as well, of which nobody writes a hundred."""
    changes = (1 if mark in "[{" else -1 for mark in body if mark in "[]{}")
    return max(accumulate(changes), default=0)


def _count(text: str) -> int:
    return len(re.findall(r"\r\n|\n|\r", text))


def _read(body: str, first: int) -> tuple[dict[str, object], dict[str, int], tuple[Problem, ...]]:
    """Return values, lines and problems of the YAML between the marks.

    Args:
        body: it.
        first: number of its first line in the file.
    """
    try:
        loader = yaml.SafeLoader(body)
        try:
            node = loader.get_single_node()
            if node is None:
                return {}, {}, ()
            if not isinstance(node, yaml.MappingNode):
                return {}, {}, (Problem("the front matter is no list of `key: value` lines", first),)
            if _values(node) > MOST_VALUES:
                return {}, {}, (Problem(f"the aliases of the front matter make more than {MOST_VALUES} values", first),)
            twice = tuple(_twice(node, first))
            values = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return {}, {}, (Problem(_sentence(error, body, mark), first + (mark.line if mark else 0)),)
    except yaml_problem.RAISED as error:
        return {}, {}, (Problem(f"the front matter is not YAML: {yaml_problem.sentence(error)}", first),)
    odd = [match.start() for match in _ODD_ENDS.finditer(body)]
    marks = [(str(key.value), key.start_mark) for key, _ in node.value]
    places = {key: first + mark.line - bisect_left(odd, mark.index) for key, mark in marks}
    return {str(key): value for key, value in values.items()}, places, twice


def _sentence(error: yaml.MarkedYAMLError, body: str, mark: yaml.Mark | None) -> str:
    row = body.split("\n")[mark.line] if mark and mark.line < body.count("\n") + 1 else ""
    if "\t" in row[: len(row) - len(row.lstrip())]:
        return "a line of the front matter is indented by a tab; YAML takes spaces alone"
    return f"the front matter is not YAML: {error.problem or error.context}"


def _values(top: yaml.Node) -> float:
    """Return how many values a node stands for, those of aliases at each of their places; infinity where one loops.

    What is shared is small in memory and endless for whoever walks it, as comparing or printing it does.
    """
    known: dict[int, float] = {}
    waiting = [top]
    while waiting:
        node = waiting[-1]
        parts = _parts(node)
        if id(node) not in known:
            known[id(node)] = inf  # what a part of it finds that leads back to it
            waiting += [part for part in parts if id(part) not in known]
        else:
            waiting.pop()
            known[id(node)] = 1 + sum(known[id(part)] for part in parts)
    return known[id(top)]


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _twice(node: yaml.MappingNode, first: int) -> Iterator[Problem]:
    """Yield the keys that stand twice in one mapping; YAML itself forbids them, this loader would take the last."""
    waiting: list[yaml.Node] = [node]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, yaml.SequenceNode):
            waiting += current.value
        elif isinstance(current, yaml.MappingNode):
            known: set[tuple[str, str]] = set()
            for key, value in current.value:
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode) and (name := (key.tag, key.value)) in known:
                    yield Problem(f"the key {key.value!r} stands twice", first + key.start_mark.line)
                elif isinstance(key, yaml.ScalarNode):
                    known.add(name)
