"""Reading files of facts: YAML with the line of every problem; what a user adds replaces what the package has."""

import json
import math
from pathlib import Path
from typing import TypeAlias

import yaml

from saereg.errors import DocumentError, UsageError
from saereg.registry.coverage.families import placed
from saereg.registry.files import yaml_problem
from saereg.schemas.document import check_text
from saereg.schemas.facts import Facts

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
"""What JSON has words for."""

OWN = Path(__file__).parent / "facts.yaml"
"""The facts of the package."""

LARGEST = 4_000_000
"""Bytes of a file of facts at most."""

DEEPEST, MOST = 20, 200_000
"""Levels, and values with aliases written out, of a file of facts at most."""

TEXTS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp")
"""What is text here: a day stays as it is written."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Reading:
    """One file, from YAML to plain values; remembers on which line each stands."""

    def __init__(self, text: str) -> None:
        _check_depth(text)
        self.lines: dict[str, int] = {"": 1}
        self._count = 0
        self._loader = _Loader(text)

    def value(self) -> Plain:
        node = self._loader.get_single_node()
        return None if node is None else self._plain(node, "")

    def _plain(self, node: yaml.Node, pointer: str) -> Plain:
        self._count += 1
        line = self.lines[pointer] = node.start_mark.line + 1
        if pointer.count("/") > DEEPEST or self._count > MOST:
            raise yaml.YAMLError(f"line {line}: nested too deeply, or too many values")
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(part, f"{pointer}/{at}") for at, part in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, pointer)
        if node.tag in TEXTS:
            return str(node.value)
        found = self._loader.construct_object(node)
        if found is None or isinstance(found, bool | int) or (isinstance(found, float) and math.isfinite(found)):
            return found
        raise yaml.YAMLError(
            f"line {line}: neither words nor a finite number; put it in quotes if it is meant as words"
        )

    def _mapping(self, node: yaml.MappingNode, pointer: str) -> dict[str, Plain]:
        found: dict[str, Plain] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != TEXTS[0] or not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {line}: a key is a word; put it in quotes")
            if key.value in found:
                raise yaml.YAMLError(f"line {line}: the key {key.value!r} stands twice")
            inner = f"{pointer}/{key.value.replace('~', '~0').replace('/', '~1')}"
            found[key.value] = self._plain(value, inner)
            self.lines[inner] = line
        return found

    def line(self, pointer: str) -> int:
        """Return the line of a value, or of what it is missing from."""
        while pointer not in self.lines:
            pointer = pointer.rpartition("/")[0]
        return self.lines[pointer]


def _check_depth(text: str) -> None:
    """Refuse deep nesting before libyaml composes it: it recurses in C, and the process would end without a word.

    Raises:
        yaml.YAMLError: with the line.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise yaml.YAMLError(f"line {line}: nested too deeply")


def read_facts(path: Path) -> Facts:
    """Return the facts in a file; whether its families and sources exist is left to `merged`.

    Raises:
        DocumentError: with the line, when it is no YAML or does not fit the schema.
        UsageError: when it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; --facts takes a YAML file")
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    if len(raw) > LARGEST:
        raise DocumentError(path, "", f"more than {LARGEST:,} bytes; no file of facts is so large")
    try:
        reading = _Reading(raw.decode("utf-8"))
        text = json.dumps(reading.value(), allow_nan=False)
    except yaml_problem.RAISED as error:
        raise DocumentError(path, "", yaml_problem.sentence(error)) from None
    facts, problems = check_text(Facts, text)
    if facts is None:
        first = min(problems, key=lambda problem: (problem.kind != "unknown_key", reading.line(problem.pointer)))
        known = f"; known: {first.expected}" if first.pointer.endswith("/kind") and first.expected else ""
        raise DocumentError(path, first.pointer, f"line {reading.line(first.pointer)}: {first.sentence}{known}")
    return facts


def load_facts(own: Path | None = None) -> Facts:
    """Return the facts of the package, with those of a user's file added or put in their place.

    Raises:
        DocumentError: when the file does not fit, or names a family or source that is nowhere.
        UsageError: when it cannot be read.
    """
    known = read_facts(OWN)
    return checked(known, OWN) if own is None else checked(merged(known, read_facts(own)), own)


def merged(first: Facts, second: Facts) -> Facts:
    """Return both; what has the same id or key stands as in the second, at the place of the first."""
    families = {family.id: family for family in (*first.families, *second.families)}
    facts = {fact.id: fact for fact in (*first.facts, *second.facts)}
    sources = first.sources | second.sources
    return Facts(sources=sources, families=tuple(families.values()), facts=tuple(facts.values()))


def checked(facts: Facts, path: Path) -> Facts:
    """Return facts whose families and sources exist, and no model of which is in two families.

    Raises:
        DocumentError: with the first thing that is wrong.
    """
    families = {family.id for family in facts.families}
    for fact in facts.facts:
        if fact.source not in facts.sources:
            raise DocumentError(path, "/facts", f"{fact.id}: the source {fact.source!r} is not in `sources`")
        if fact.family not in families:
            raise DocumentError(path, "/facts", f"{fact.id}: the family {fact.family!r} is not in `families`")
    for family in facts.families:
        for model in (*family.models, *family.aliases):
            found = [other.id for other in placed(model, facts.families)]
            if found != [family.id]:
                where = f"fits {' and '.join(found)}" if found else "fits no pattern"
                raise DocumentError(path, "/families", f"{family.id}: the model {model!r} {where}")
    return facts
