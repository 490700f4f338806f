"""YAML with the line of every key and entry, as fast as its scanner: from the events of the parser, without nodes.

PyYAML's own constructor forgets lines and keeps the last of two equal keys; its composer keeps lines and takes twice
the time. Nothing is ever executed, and nothing that an alias repeats is copied.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

import yaml

from saereg.errors import DocumentError
from saereg.registry.files import yaml_problem

MOST_VALUES = 1_000_000
"""Most values that a document may stand for once its aliases are followed; SAELens' document has 60,000."""

DEEPEST = 50
"""Lists and mappings that may be open at once; SAELens' document has five."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it, which is ten times as fast."""

_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
_EQUALS = "tag:yaml.org,2002:value"
"""A plain `=`, which PyYAML takes for a text where it is a key, and for nothing elsewhere."""

_PLAIN_TAGS = {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


@dataclass(slots=True)
class Table:
    """A mapping.

    Attributes:
        line: where it begins.
        values: key → value; of a key that stands twice, the last one, as every loader takes it.
        lines: key → line.
        twice: (key, line) of keys that stand there before.
        odd: (key, line) of keys that are no text to YAML, such as `on`, `null` and `2024`; here they are the text.
    """

    line: int
    values: "dict[str, Value]" = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    twice: list[tuple[str, int]] = field(default_factory=list)
    odd: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Items:
    """A list.

    Attributes:
        line: where it begins.
        values: its entries.
        lines: their lines.
    """

    line: int
    values: "list[Value]" = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


Value = str | int | float | bool | bytes | date | None | Table | Items


class _Open:
    """A list or mapping that is not closed yet."""

    __slots__ = ("anchor", "key", "key_line", "merges", "merging", "value", "weight")

    def __init__(self, value: Table | Items, anchor: str | None) -> None:
        self.value, self.anchor, self.weight = value, anchor, 1
        self.key: str | None = None
        self.key_line = 0
        self.merging = False
        self.merges: list[Value] = []

    @property
    def wants_key(self) -> bool:
        """Whether a key comes next."""
        return type(self.value) is Table and self.key is None and not self.merging


def read_lines(data: bytes, source: object) -> Value:
    """Read a document.

    Args:
        data: its bytes.
        source: what errors call it.

    Raises:
        DocumentError: when it is not YAML, not safe, or its aliases make too much of it; the sentence names the line.
    """
    try:
        return _Builder(source).build(yaml.parse(data, Loader=LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _problem(
            source, (mark.line + 1) if mark else 0, f"is not YAML: {error.problem or error.context}"
        ) from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise DocumentError(source, "", f"is not YAML: {str(error).strip().splitlines()[0]}") from None


def _problem(source: object, line: int, sentence: str) -> DocumentError:
    return DocumentError(f"{source}:{line}" if line else source, "", sentence)


class _Builder:
    """Values from events."""

    def __init__(self, source: object) -> None:
        self.source = source
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Value, int]] = {}
        self.scalars = _Scalars()
        self.top: Value = None
        self.documents = 0

    def build(self, events: Iterator[yaml.Event]) -> Value:
        """Return the one document of a stream."""
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.MappingStartEvent):
                self._start(event, Table(_line(event)))
            elif isinstance(event, yaml.SequenceStartEvent):
                self._start(event, Items(_line(event)))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._end(event)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    raise self._refused(event, "begins a second document; SAELens reads a single one")
        return self.top

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        at = self.open[-1] if self.open else None
        if at is not None and at.wants_key:
            self._key(event, at)
            return
        value = self._safe(event)
        self._name(event.anchor, value, 1, event)
        self._put(value, event, 1)

    def _key(self, event: yaml.ScalarEvent, at: _Open) -> None:
        tag = self.scalars.tag(event)
        self._name(event.anchor, event.value, 1, event)
        at.merging = tag == _MERGE
        at.key, at.key_line = None if at.merging else event.value, _line(event)
        if tag not in (_MERGE, _TEXT, _EQUALS) and isinstance(at.value, Table):
            self._safe(event)
            at.value.odd.append((event.value, _line(event)))

    def _safe(self, event: yaml.ScalarEvent) -> Value:
        """Return the value of a scalar, or refuse it."""
        try:
            return self.scalars.value(event)
        except yaml_problem.RAISED:
            raise self._refused(event, f"holds a value that is not safe YAML: {event.value[:40]!r}") from None

    def _name(self, anchor: str | None, value: Value, weight: int, event: yaml.Event) -> None:
        """Keep what an anchor names; PyYAML, and so SAELens, refuses one that stands twice."""
        if anchor is None:
            return
        if anchor in self.anchors:
            raise self._refused(event, f"names a second value &{anchor}")
        self.anchors[anchor] = (value, weight)

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, value: Table | Items) -> None:
        if event.tag not in _PLAIN_TAGS:
            raise self._refused(event, f"has the tag {str(event.tag)[:60]!r}, which is not safe, or of no use here")
        if len(self.open) >= DEEPEST:
            raise self._refused(event, f"opens more than {DEEPEST} lists and mappings inside each other")
        at = self.open[-1] if self.open else None
        if at is not None and at.wants_key:
            raise self._refused(event, "has a list or mapping as a key")
        self.open.append(_Open(value, event.anchor))

    def _end(self, event: yaml.Event) -> None:
        done = self.open.pop()
        self._name(done.anchor, done.value, done.weight, event)
        for merged in done.merges:
            self._merge(done.value, merged, event)
        self._put(done.value, event, done.weight, line=done.value.line)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self.anchors:
            raise self._refused(event, f"has the alias *{event.anchor} of nothing that stands before it")
        value, weight = self.anchors[event.anchor]
        at = self.open[-1] if self.open else None
        if at is not None and at.wants_key:
            if isinstance(value, Table | Items):
                raise self._refused(event, "has a list or mapping as a key")
            at.key, at.key_line = str(value), _line(event)
            return
        self._put(value, event, weight)

    def _put(self, value: Value, event: yaml.Event, weight: int, line: int = 0) -> None:
        """Put a value where it belongs: into what is open, or on top."""
        if not self.open:
            self.top = value
            return
        at, line = self.open[-1], line or _line(event)
        at.weight += weight
        if at.weight > MOST_VALUES:
            raise self._refused(event, f"stands for more than {MOST_VALUES} values, those of its aliases counted")
        into = at.value
        if isinstance(into, Items):
            into.values.append(value)
            into.lines.append(line)
        elif at.merging:
            at.merges.append(value)
            at.merging = False
        elif at.key is not None:
            if at.key in into.values:
                into.twice.append((at.key, at.key_line))
            into.values[at.key] = value
            into.lines[at.key] = at.key_line
            at.key = None

    def _merge(self, into: Table | Items, merged: Value, event: yaml.Event) -> None:
        """Add what `<<` names: keys of its own win, the first of several mappings comes first."""
        for one in merged.values if isinstance(merged, Items) else [merged]:
            if not isinstance(one, Table) or not isinstance(into, Table):
                raise self._refused(event, "merges with << what is no mapping")
            for key, value in one.values.items():
                if key not in into.values:
                    into.values[key], into.lines[key] = value, one.lines[key]

    def _refused(self, event: yaml.Event, sentence: str) -> DocumentError:
        return _problem(self.source, _line(event), sentence)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


class _Scalars:
    """Texts → values as YAML 1.1 types them; the same texts come again and again, so each is looked at once."""

    def __init__(self) -> None:
        self._loader = yaml.SafeLoader("")
        self._tags: dict[tuple[str | None, str], str] = {}
        self._values: dict[tuple[str, str], Value] = {}

    def tag(self, event: yaml.ScalarEvent) -> str:
        """Return the tag of a scalar, worked out from its text where it has none."""
        if event.tag not in (None, "!"):
            return str(event.tag)
        if not event.implicit[0]:
            return _TEXT
        found = self._tags.get((None, event.value))
        if found is None:
            resolved = self._loader.resolve(yaml.ScalarNode, event.value, (True, False))  # type: ignore[no-untyped-call]
            found = self._tags[None, event.value] = str(resolved)
        return found

    def value(self, event: yaml.ScalarEvent) -> Value:
        """Return the value of a scalar.

        Raises:
            KeyError: when its tag is not one of safe YAML.
            ValueError: when its text cannot be of its tag.
        """
        tag = self.tag(event)
        if tag == _TEXT:
            return str(event.value)
        if (tag, event.value) not in self._values:
            construct = self._loader.yaml_constructors[tag]
            made = construct(self._loader, yaml.ScalarNode(tag, event.value))
            if made is not None and not isinstance(made, str | int | float | bytes | date):
                raise ValueError(tag)
            self._values[tag, event.value] = made
        return self._values[tag, event.value]
