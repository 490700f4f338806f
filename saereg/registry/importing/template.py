"""File names with fields: `sae_layer{layer:02d}_{snapshot}.pt` reads names and writes them.

{name}       text without `/`, at least one character
{name:d}     a whole number, with or without zeros in front
{name:0Nd}   a whole number of exactly N digits

Reading inverts writing: `template.parse(template.format(captures)) == captures`. So that this holds, a field of free
length that another such field follows (in one folder's name) ends at the first occurrence of the character behind it,
and cannot contain that character. Where no character tells where it ends, the template is refused.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from saereg.errors import UnknownNameError, UsageError
from saereg.schemas.names import path_problem

Capture = str | int
"""A value of a field."""

Captures = Mapping[str, Capture]
"""Field → value."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WIDTH = re.compile(r"0([1-9][0-9]?)d")


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        name: its name.
        kind: text, a number of any length, or one of exactly `width` digits.
        width: digits, for `digits`.
        pattern: regular expression of its text.
    """

    name: str
    kind: Literal["text", "number", "digits"]
    width: int = 0
    pattern: str = ""

    def read(self, text: str) -> Capture:
        """Return the value of a text."""
        return text if self.kind == "text" else int(text)

    def write(self, value: Capture) -> str:
        """Return the text of a value; an int written where the pattern wants another form fails on reading."""
        return f"{value:0{self.width}d}" if self.kind == "digits" and isinstance(value, int) else str(value)


@dataclass(frozen=True)
class Template:
    """A template that can be inverted.

    Attributes:
        text: as it was given.
        parts: literal texts and fields, in order.
    """

    text: str
    parts: tuple[str | Field, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields, in order."""
        return tuple(part for part in self.parts if isinstance(part, Field))

    def parse(self, path: str) -> dict[str, Capture] | None:
        """Return field → value of a path, or None when it does not match."""
        match = self._pattern().fullmatch(path)
        return {field.name: field.read(match[field.name]) for field in self.fields} if match else None

    def format(self, captures: Captures) -> str:
        """Return the path of values.

        Raises:
            UsageError: when a value is missing, is of another kind, or would be read as another one.
        """
        texts = []
        for part in self.parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            value = captures.get(part.name)
            if value is None or isinstance(value, bool) or isinstance(value, str) != (part.kind == "text"):
                raise UsageError(f"{self.text}: {{{part.name}}} cannot be {value!r}")
            texts.append(part.write(value))
            if not re.fullmatch(part.pattern, texts[-1], re.DOTALL):
                raise UsageError(f"{self.text}: {{{part.name}}} cannot be {value!r}")
        return "".join(texts)

    def _pattern(self) -> re.Pattern[str]:
        parts = (re.escape(p) if isinstance(p, str) else f"(?P<{p.name}>{p.pattern})" for p in self.parts)
        return re.compile("".join(parts), re.DOTALL)


def parse_template(text: str) -> Template:
    """Parse a template.

    Raises:
        UsageError: when it has no field, has one twice, names a format that is none of the three, cannot be inverted,
            or is no path inside a folder.
    """
    parts = _parts(text)
    names = [part.name for part in parts if isinstance(part, Field)]
    if not names:
        raise UsageError(f"{text}: this template has no field; write e.g. sae_layer{{layer:02d}}_{{snapshot}}.pt")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{text}: {{{name}}} stands there twice; give each its own name")
    sample = "".join(part if isinstance(part, str) else "x" for part in parts)
    if problem := path_problem(sample):
        raise UsageError(f"{text}: {problem}")
    return Template(text, tuple(_delimited(text, parts)))


def fill(text: str, captures: Captures) -> str:
    """Return a text with its fields replaced, e.g. of `blocks.{layer}.hook_resid_post`.

    Raises:
        UnknownNameError: when a field is not among the captures.
        UsageError: when a field cannot be written so.
    """
    result = ""
    for part in _parts(text):
        if isinstance(part, str):
            result += part
            continue
        if part.name not in captures:
            raise UnknownNameError(f"field of {text!r}", part.name, captures)
        value = captures[part.name]
        if part.kind != "text" and not isinstance(value, int):
            raise UsageError(
                f"{text}: {{{part.name}}} is {value!r}, no number; write {{{part.name}:d}} in the template"
            )
        result += part.write(value)
    return result


def _parts(text: str) -> list[str | Field]:
    """Return literals and fields, neighbouring literals joined."""
    parts: list[str | Field] = []
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise UsageError(f"{text}: {str(error).lower()}; write literal braces twice") from None
    for literal, name, spec, conversion in pieces:
        if literal:
            joined = bool(parts) and isinstance(parts[-1], str)
            parts[-1:] = [f"{parts[-1]}{literal}"] if joined else [*parts[-1:], literal]
        if name is not None:
            parts.append(_field(text, name, spec or "", conversion))
    return parts


def _field(text: str, name: str, spec: str, conversion: str | None) -> Field:
    if not _NAME.fullmatch(name) or conversion:
        raise UsageError(f"{text}: {{{name}}} is no field; a name is letters, digits and _")
    width = _WIDTH.fullmatch(spec)
    if spec not in ("", "d") and not width:
        raise UsageError(f"{text}: {{{name}:{spec}}}: after the colon stands nothing, d, or 02d for two digits")
    if width:
        return Field(name, "digits", int(width[1]), rf"[0-9]{{{width[1]}}}")
    return Field(name, "number", 0, r"[0-9]+") if spec else Field(name, "text", 0, r"[^/]+")


def _delimited(text: str, parts: list[str | Field]) -> list[str | Field]:
    """Return the parts, with fields of free length kept from running into the next one."""
    result: list[str | Field] = []
    for position, part in enumerate(parts):
        if isinstance(part, str) or part.kind == "digits" or not _another_follows(parts[position + 1 :]):
            result.append(part)
            continue
        following = parts[position + 1]
        if not isinstance(following, str) or (part.kind == "number" and following[0] in string.digits):
            raise UsageError(f"{text}: nothing tells where {{{part.name}}} ends; put a character behind it")
        pattern = part.pattern if part.kind == "number" else f"[^/{re.escape(following[0])}]+"
        result.append(Field(part.name, part.kind, part.width, pattern))
    return result


def _another_follows(rest: list[str | Field]) -> bool:
    """Whether another field of free length follows in the same folder's name."""
    for part in rest:
        if isinstance(part, str) and "/" in part:
            return False
        if isinstance(part, Field) and part.kind != "digits":
            return True
    return False
