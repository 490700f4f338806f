"""The base of everything saereg keeps on disk: strict, frozen values with one canonical text."""

import json
import types
import typing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Discriminator, Field, TypeAdapter, ValidationError

from saereg.errors import DocumentError, did_you_mean
from saereg.schemas import jsontext
from saereg.schemas.garbage import collected_later

T = TypeVar("T")

SCHEMA_VERSION = "1.0"
"""Version of the manifest, index and report schemas: another major is refused, a newer minor is read."""

SCHEMA_FILES = "https://raw.githubusercontent.com/saereg/saereg/main/saereg/schemas/json"
"""Where the JSON Schemas can be fetched; the major version is part of each file's name."""


class Record(BaseModel):
    """A frozen value with no unknown keys, no silent coercion, no NaN."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        populate_by_name=True,
        ser_json_inf_nan="constants",
    )


class Document(Record):
    """A record that is a file of its own."""

    @classmethod
    def from_text(cls, text: str, source: object = "document") -> Self:
        """Parse and check one document.

        Raises:
            DocumentError: with the pointer and sentence of the first problem.
        """
        value, problems = check_text(cls, text)
        if problems or value is None:
            # A misspelt key is also a missing one: the misspelling is what helps.
            first = min(problems, key=lambda problem: problem.kind != "unknown_key")
            raise DocumentError(source, first.pointer, first.sentence)
        return value

    @classmethod
    def made(cls, source: object, **fields: object) -> Self:
        """Make a document from values that a reader found.

        Raises:
            DocumentError: with the pointer and sentence of the first problem.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            message = _lower(str(first["msg"]).removeprefix("Value error, "))
            raise DocumentError(source, "".join(f"/{part}" for part in first["loc"]), message) from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read one document from a file.

        Raises:
            DocumentError: when it does not parse or fit.
            OSError: when it cannot be read.
        """
        try:
            text = jsontext.decode(path.read_bytes())
        except jsontext.JsonError as problem:
            raise DocumentError(path, "", problem.problem) from None
        return cls.from_text(text, path)

    def text(self) -> str:
        """Return the canonical text: sorted keys, two spaces, one newline at the end; nulls are left out."""
        return canonical(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def canonical(value: object) -> str:
    """Return the canonical JSON text of a plain value."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


MAX_ENTRIES = 20_000
"""Most entries in one list or object of a document; a larger inventory is several releases."""

SchemaVersion = Annotated[str, Field(pattern=r"^1\.[0-9]{1,4}$")]
"""A version that can be read: any minor of this major."""


@dataclass(frozen=True)
class Problem:
    """One way in which a document does not fit.

    Attributes:
        kind: `syntax`, `missing`, `unknown_key`, `unsafe_path` or `value`.
        pointer: JSON pointer into the document.
        sentence: what is wrong, in words.
        line: 1-based line in the text, when known.
        expected: what should stand there.
        found: what stands there.
        hint: what to do next.
        column: 1-based column in the line, when known.
        renamable: whether an unknown key could simply get the name that was meant.
    """

    kind: str
    pointer: str
    sentence: str
    line: int | None = None
    expected: str | None = None
    found: str | None = None
    hint: str | None = None
    column: int | None = None
    renamable: bool = False


MAX_PROBLEMS = 100
"""Problems listed for one document; a broken generator repeats itself."""


def check_text(shape: type[T] | TypeAdapter[T], text: str) -> tuple[T | None, list[Problem]]:
    """Check a text against a model (or a TypeAdapter of a union) and return the value or all problems.

    Returns:
        (value, []) when it fits, (None, problems) otherwise; at most MAX_PROBLEMS of them.
    """
    with collected_later():
        return _checked(shape, text)


def _checked(shape: type[T] | TypeAdapter[T], text: str) -> tuple[T | None, list[Problem]]:
    try:
        value, longest = jsontext.parse_measured(text)
    except jsontext.JsonError as problem:
        return None, [Problem("syntax", "", problem.problem, problem.line)]
    if longest > MAX_ENTRIES and (too_long := _too_long(value)):
        return None, [too_long]
    adapter: TypeAdapter[T] = shape if isinstance(shape, TypeAdapter) else _adapter(shape)
    if _is_long(value) and len(found := check_text(adapter, _beginning(value))[1]) >= MAX_PROBLEMS:
        # a generator's mistake repeats itself: its first entries tell it all
        return None, [_placed(problem, text) for problem in found]
    del value  # a long document is in memory twice otherwise
    try:
        return adapter.validate_json(text), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)[:MAX_PROBLEMS]
        annotation = _annotation(adapter)
        return None, [_placed(_problem(annotation, dict(detail), text), text) for detail in details]


def _placed(problem: Problem, text: str) -> Problem:
    """Return a problem with its line and column; one without a line is that of the whole text."""
    place = jsontext.place_of(text, problem.pointer) if problem.line is not None else None
    return replace(problem, line=place[0], column=place[1]) if place else problem


def _too_long(value: jsontext.JsonValue) -> Problem | None:
    """Refuse runaway inventories before each of their entries is checked: a million errors help nobody."""
    pending: list[tuple[tuple[object, ...], jsontext.JsonValue]] = [((), value)]
    while pending:
        location, entries = pending.pop()
        if type(entries) is not dict and type(entries) is not list:
            continue
        if (count := len(entries)) > MAX_ENTRIES:
            name = repr(str(location[-1])) if location else "the document"
            sentence = f"{count} entries in {name}; {MAX_ENTRIES} is the most in one release, split it"
            return Problem("value", jsontext.pointer(location), sentence, None, f"at most {MAX_ENTRIES}", str(count))
        children = entries.items() if isinstance(entries, dict) else enumerate(entries)
        pending += [((*location, key), child) for key, child in children if type(child) is dict or type(child) is list]
    return None


_PROBE = 200


def _is_long(value: jsontext.JsonValue) -> bool:
    return isinstance(value, dict) and any(isinstance(v, list) and len(v) > 5 * _PROBE for v in value.values())


def _beginning(value: jsontext.JsonValue) -> str:
    entries = value.items() if isinstance(value, dict) else ()
    return json.dumps({key: v[:_PROBE] if isinstance(v, list) else v for key, v in entries}, indent=2)


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(cls: type[T]) -> TypeAdapter[T]:
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


def _annotation(adapter: TypeAdapter[Any]) -> Any:  # noqa: ANN401
    return adapter._type


def _problem(annotation: Any, detail: dict[str, Any], text: str) -> Problem:  # noqa: ANN401
    path, owner = _walk(annotation, detail["loc"])
    where = jsontext.pointer(tuple(path))
    line = jsontext.line_of(text, where)
    kind, found = detail["type"], _short(detail.get("input"))
    if kind == "json_invalid":
        return Problem("syntax", "", _lower(detail["msg"]))
    if kind == "extra_forbidden":
        known = field_names(owner) if owner else ()
        guess = did_you_mean(str(path[-1]), known)
        hint = f"did you mean {guess!r}?" if guess else "remove it; the known keys are in `saereg schema`"
        sentence = f"unknown key {path[-1]!r}" + (f", did you mean {guess!r}?" if guess else "")
        free = guess is not None and not jsontext.has(text, f"{where.rpartition('/')[0]}/{guess}")
        return Problem("unknown_key", where, sentence, line, guess, str(path[-1]), hint, renamable=free)
    if kind == "missing":
        sentence = f"the required key {path[-1]!r} is missing"
        return Problem("missing", where, sentence, line, _describe(owner, path[-1]), "nothing", "add it")
    context = detail.get("ctx", {})
    if kind in ("union_tag_invalid", "union_tag_not_found", "unknown_architecture"):
        return _untagged(where, detail, text)
    message = detail["msg"].removeprefix("Value error, ")
    expected = context.get("expected") or context.get("pattern")
    kind = kind if kind == "unsafe_path" else "value"
    return Problem(kind, where, _lower(message), line, str(expected) if expected else None, found)


def _untagged(where: str, detail: dict[str, Any], text: str) -> Problem:
    """Say which value of a discriminating key is not known, or that the key is missing."""
    context = detail.get("ctx", {})
    key = str(context.get("discriminator", "'architecture'")).strip("'")
    key = key if key.isidentifier() else "architecture"
    known = [tag.strip("' ") for tag in str(context.get("expected_tags", "")).split(",") if tag]
    value = detail["input"].get(key) if isinstance(detail["input"], dict) else None
    pointer, line = f"{where}/{key}", jsontext.line_of(text, f"{where}/{key}")
    if value is None:
        return Problem("missing", pointer, f"the required key {key!r} is missing", line, ", ".join(known), "nothing")
    guess = did_you_mean(str(value), known)
    sentence = f"unknown {key} {value!r}" + (f", did you mean {guess!r}?" if guess else "")
    return Problem("value", pointer, sentence, line, ", ".join(known), str(value))


def _walk(annotation: Any, location: tuple[Any, ...]) -> tuple[list[str | int], type[BaseModel] | None]:  # noqa: ANN401
    """Follow an error location through the types; drop the union tags, which are no keys of the document."""
    path: list[str | int] = []
    owner: type[BaseModel] | None = None
    current = annotation
    for step in location:
        current = _plain(current)
        if get_origin(current) in (Union, types.UnionType):
            member = _member(current, step)
            if member is not None:
                current = member
                continue
            current = next((arm for arm in get_args(current) if arm is not type(None)), current)
            current = _plain(current)
        if step == "[key]":  # pydantic's mark that the key itself does not fit
            continue
        path.append(step)
        if isinstance(current, type) and issubclass(current, BaseModel):
            owner = current
            current = _field_type(current, str(step))
        else:
            arguments = [a for a in get_args(current) if a is not Ellipsis]
            owner = None
            current = arguments[-1] if arguments else Any
    return path, owner


def _plain(annotation: Any) -> Any:  # noqa: ANN401
    while True:
        if get_origin(annotation) is Annotated:
            inner, *metadata = get_args(annotation)
            if any(isinstance(m, Discriminator) for m in metadata) or get_origin(inner) in (
                Union,
                types.UnionType,
            ):
                return inner
            annotation = inner
        else:
            return annotation


def _member(union: Any, tag: object) -> Any | None:  # noqa: ANN401
    """Return the arm of a union that an error location names by its tag, class name or discriminator value."""
    for arm in get_args(union):
        names = {str(getattr(m, "tag", "")) for m in getattr(arm, "__metadata__", ())}
        plain = _plain(arm)
        names.add(str(plain))  # list[int] is named so in full
        if isinstance(plain, type):
            names.add(plain.__name__)
            if issubclass(plain, BaseModel):
                names |= {
                    str(value)
                    for field in plain.model_fields.values()
                    if get_origin(field.annotation) is typing.Literal
                    for value in get_args(field.annotation)
                    if get_args(field.annotation) == (value,)
                }
        if str(tag) in names:
            return plain
    return None


def _field_type(model: type[BaseModel], key: str) -> Any:  # noqa: ANN401
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return field.annotation
    return Any


def field_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys that a document of this model may have."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _describe(model: type[BaseModel] | None, key: object) -> str | None:
    field = model.model_fields.get(str(key)) if model else None
    return field.description.split("\n")[0] if field and field.description else None


def _short(value: object) -> str:
    if isinstance(value, dict | list) and len(value) > 20:
        return f"{len(value)} entries"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""64 lower-case hexadecimal digits."""
