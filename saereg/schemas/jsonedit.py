"""Change a JSON text and leave all the rest of it as its author wrote it: order, spaces, the way numbers are printed.

Every function takes a text that `jsontext.parse` accepts and returns one; pointers are RFC 6901.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from saereg.schemas import jsontext

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BARE = re.compile(r"[^\s\[\]{},:\"]+")


@dataclass
class Node:
    """One value and where it stands.

    Attributes:
        start: offset of its first character.
        end: offset behind its last character.
        opener: `{`, `[`, or empty for a plain value.
        members: key (or index as text) → value; in the order of the text.
        keys: key → (start, end) of the key's own text, quotes included; empty in an array.
    """

    start: int
    end: int = 0
    opener: str = ""
    members: dict[str, "Node"] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)


def replaced(text: str, pointer: str, value: jsontext.JsonValue) -> str:
    """Return the text with another value at a pointer.

    Raises:
        KeyError: when there is nothing at the pointer.
    """
    node = _find(text, pointer)
    return text[: node.start] + _written(text, node.start, value) + text[node.end :]


def renamed(text: str, pointer: str, key: str) -> str:
    """Return the text with another name for the key at a pointer; its value stays.

    Raises:
        KeyError: when there is no such key, or the new one is there already.
    """
    parent, _, last = pointer.rpartition("/")
    node, old = _find(text, parent), _unescaped(last)
    if old not in node.keys or key in node.keys:
        raise KeyError(pointer)
    start, end = node.keys[old]
    return text[:start] + json.dumps(key, ensure_ascii=False) + text[end:]


def inserted(text: str, pointer: str, value: jsontext.JsonValue) -> str:
    """Return the text with a new key: in its place where the keys of its object are in order, else behind the last.

    Raises:
        KeyError: when its object is not there, or the key is already.
    """
    parent, _, last = pointer.rpartition("/")
    node, key = _find(text, parent), _unescaped(last)
    if node.opener != "{" or key in node.members:
        raise KeyError(pointer)
    name, keys = json.dumps(key, ensure_ascii=False), list(node.keys)
    if not keys:
        inside = _indent(text, node.start) + "  "
        body = f"{name}: {_dumped(value, inside)}"
        return f"{text[: node.start]}{{\n{inside}{body}\n{_indent(text, node.start)}}}{text[node.end :]}"
    gap = _gap(text, node.keys[keys[-1]][0])
    body = f"{name}: {_dumped(value, gap.lstrip(chr(10)))}"
    following = [known for known in keys if known > key] if keys == sorted(keys) else []
    if following:
        at = node.keys[following[0]][0]
        return f"{text[:at]}{body},{gap}{text[at:]}"
    end = node.members[keys[-1]].end
    return f"{text[:end]},{gap}{body}{text[end:]}"


def _gap(text: str, key_start: int) -> str:
    """Return what stands between two members: a line break and its indent where a key has a line of its own."""
    line_start = text.rfind("\n", 0, key_start) + 1
    alone = line_start > 0 and text[line_start:key_start].strip() == ""
    return text[line_start - 1 : key_start] if alone else " "


def reordered(text: str, pointer: str, order: Sequence[int]) -> str:
    """Return the text with the elements of a list in another order; their own texts move as they are.

    Args:
        text: JSON text.
        pointer: a list.
        order: for each new place, the old one.

    Raises:
        KeyError: when there is no list at the pointer.
        ValueError: when the order is no permutation of its places.
    """
    node = _find(text, pointer)
    nodes = list(node.members.values())
    if node.opener != "[":
        raise KeyError(pointer)
    if sorted(order) != list(range(len(nodes))):
        raise ValueError("the order is no permutation")
    parts, at = [], 0
    for place, old in zip(nodes, order, strict=True):
        parts += [text[at : place.start], text[nodes[old].start : nodes[old].end]]
        at = place.end
    return "".join(parts) + text[at:]


def sorted_keys(text: str) -> str:
    """Return the text with the keys of every object in order; values and spaces move as they are."""
    return _sorted(text, _tree(text))


def has_sorted_keys(text: str) -> bool:
    """Whether the keys of every object are in order; quick, for texts of many megabytes."""
    in_order = True

    def look(pairs: list[tuple[str, object]]) -> None:
        nonlocal in_order
        keys = [key for key, _ in pairs]
        in_order = in_order and keys == sorted(keys)

    json.loads(text, object_pairs_hook=look)
    return in_order


def _sorted(text: str, node: Node) -> str:
    """Return the text of a node, sorted inside."""
    if not node.members:
        return text[node.start : node.end]
    places = list(node.members.items())
    order = sorted(node.keys) if node.opener == "{" else list(node.members)
    parts, at = [], node.start
    for (name, place), wanted in zip(places, order, strict=True):
        begin = node.keys[name][0] if node.opener == "{" else place.start
        parts.append(text[at:begin])
        if node.opener == "{":
            start, end = node.keys[wanted]
            parts.append(text[start:end] + text[end : node.members[wanted].start])
        parts.append(_sorted(text, node.members[wanted]))
        at = place.end
    return "".join(parts) + text[at : node.end]


def _find(text: str, pointer: str) -> Node:
    node = _tree(text)
    for part in pointer.split("/")[1:]:
        node = node.members[_unescaped(part)]
    return node


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _tree(text: str) -> Node:
    """Return where every value of a text stands."""
    root, at = _value(text, _skip(text, 0))
    if _skip(text, at) != len(text):
        raise jsontext.JsonError("not JSON: text behind the value")
    return root


def _value(text: str, at: int) -> tuple[Node, int]:
    if text[at] in "{[":
        return _container(text, at)
    match = (_STRING if text[at] == '"' else _BARE).match(text, at)
    if match is None:
        raise jsontext.JsonError(f"not JSON: at character {at}")
    return Node(at, match.end()), match.end()


def _container(text: str, at: int) -> tuple[Node, int]:
    node = Node(at, opener=text[at])
    read: Callable[[str, int, Node], int] = _member if node.opener == "{" else _element
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        at = _skip(text, read(text, at, node))
        if text[at] == ",":
            at = _skip(text, at + 1)
    node.end = at + 1
    return node, node.end


def _member(text: str, at: int, node: Node) -> int:
    match = _STRING.match(text, at)
    if match is None:
        raise jsontext.JsonError(f"not JSON: at character {at}")
    key = str(json.loads(match.group()))
    node.keys[key] = match.span()
    colon = _skip(text, match.end())
    node.members[key], end = _value(text, _skip(text, colon + 1))
    return end


def _element(text: str, at: int, node: Node) -> int:
    node.members[str(len(node.members))], end = _value(text, at)
    return end


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _written(text: str, at: int, value: jsontext.JsonValue) -> str:
    return _dumped(value, _indent(text, at))


def _indent(text: str, at: int) -> str:
    """Return the spaces that begin the line of a place."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _dumped(value: jsontext.JsonValue, indent: str) -> str:
    dumped = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return dumped.replace("\n", "\n" + indent)
