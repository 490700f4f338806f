"""Ways to damage a release folder: its bytes, its documents, its headers, its card, its settings, its files."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import yaml
from hypothesis import strategies as st

from tests.fuzz.fragments import (
    CARD,
    CODECS,
    FIRST_LINES,
    HEAD,
    JSON,
    NAMES,
    PATTERNS,
    SETTINGS,
    TOML,
)

Draw = Callable[[st.SearchStrategy], object]
Files = Mapping[str, bytes]
"""Path → content of a whole release."""

Kind = Literal["write", "remove", "folder", "link", "pipe", "sparse", "locked", "many", "deep"]

MANIFEST, INDEX, README, SETTINGS_FILE = "manifest.json", "index.json", "README.md", "saereg.toml"
MARK = "@@mark@@"
"""Stands for a raw fragment in a document that is written; JSON itself could not hold most of them."""


@dataclass(frozen=True)
class Edit:
    """One change of a folder: what is put where."""

    path: str
    kind: Kind = "write"
    content: bytes = b""

    def __repr__(self) -> str:
        """Shorten what a fuzzer makes long."""
        content = self.content if len(self.content) <= 4000 else self.content[:4000] + b"... %d" % len(self.content)
        return f"Edit({self.path!r}, {self.kind!r}, {content!r})"


def pick(draw: Draw, items: list | tuple) -> object:
    """Draw one of many."""
    return items[draw(st.integers(0, len(items) - 1))]


# --- bytes ------------------------------------------------------------------------------------------------------------


def spoil(draw: Draw, raw: bytes, others: Files) -> bytes:
    """Overwrite, insert, remove, cut, repeat or splice at up to three places."""
    damaged = bytearray(raw)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(damaged)))
        length = draw(st.sampled_from([0, 0, 1, 1, 4, 40]))
        action = draw(st.sampled_from(["put", "put", "put", "cut", "cut front", "repeat", "splice"]))
        if action == "cut":
            del damaged[at:]
        elif action == "cut front":
            del damaged[:at]
        elif action == "repeat":
            damaged[at:at] = damaged[at : at + 200] * draw(st.sampled_from([1, 2, 50]))
        elif action == "splice":
            other = others[pick(draw, sorted(others))]
            start = draw(st.integers(0, len(other)))
            damaged[at : at + length] = other[start : start + 300]
        else:
            put = st.binary(max_size=6) | st.sampled_from([b'"', b"{", b"[", b"\\", b"\0", b"\n", b"9" * 400])
            damaged[at : at + length] = draw(put)
    return bytes(damaged)


def encode(draw: Draw, raw: bytes) -> bytes:
    """Write a text in another encoding, with a byte order mark or with other ends of lines."""
    text = raw.decode("utf-8", "replace")
    codec = draw(st.sampled_from(CODECS))
    ends = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", "\u2028"]))
    start = draw(st.sampled_from(["", "", "\ufeff", "\u00e9", "\0"]))
    return (start + text.replace("\n", ends)).encode(codec, "replace")


# --- documents --------------------------------------------------------------------------------------------------------


def places(value: object) -> Iterator[tuple[object, object]]:
    """Yield (parent, key) of every value inside a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(items):
        yield value, key
        yield from places(child)


def restructure(draw: Draw, document: object, pool: list, fragments: tuple[str, ...], write: Callable) -> str:
    """Drop, rename, retype, move, repeat or replace up to three values, and return the document as text.

    Args:
        draw: of hypothesis.
        document: what is changed, in place.
        pool: values of other documents.
        fragments: raw texts that may stand where a value stands.
        write: returns a document as text, in which `MARK` in double quotes stands for a fragment.
    """
    raw = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        found = list(places(document))
        if not found:
            break
        parent, key = pick(draw, found)
        raw += _change(draw, parent, key, found, pool, fragments)
    text = write(document)
    for fragment in raw:
        text = text.replace(f'"{MARK}"', fragment, 1)
    return text


def _change(draw: Draw, parent, key, found: list, pool: list, fragments: tuple[str, ...]) -> list[str]:
    """Change one value, and return the fragment that stands for it, if one does."""
    action = draw(st.sampled_from(["fragment", "fragment", "drop", "rename", "other", "swap", "many", "twice", "text"]))
    if action == "drop":
        del parent[key]
    elif action == "rename" and isinstance(parent, dict):
        names = [name for where, name in found if isinstance(where, dict)]
        parent[draw(st.sampled_from([f"{key}s", str(key)[:-1], str(key).upper(), ""]) | st.sampled_from(names))] = (
            parent.pop(key)
        )
    elif action == "other":
        parent[key] = json.loads(pick(draw, pool))
    elif action == "swap":
        there, name = pick(draw, found)
        parent[key], there[name] = json.loads(json.dumps([there[name], parent[key]]))
    elif action == "many":
        small = len(json.dumps(parent[key])) < 1000  # else three of these in one another make a hundred megabytes
        parent[key] = [parent[key]] * draw(st.sampled_from([0, 2, 300 if small else 3]))
    elif action == "twice" and isinstance(parent, dict):
        value = json.dumps(parent[key])
        parent[key] = MARK
        return [f"{value}, {json.dumps(key)}: {value}"]
    elif action == "text":
        parent[key] = draw(st.text(max_size=8) | st.integers() | st.floats() | st.none() | st.booleans())
    else:
        parent[key] = MARK
        return [pick(draw, fragments)]
    return []


def pool_of(files: Files) -> list[str]:
    """Return the values inside every document of a release, as texts and in order."""
    return _pool(tuple(raw for path, raw in sorted(files.items()) if path.endswith(".json")))


@lru_cache(maxsize=1)
def _pool(documents: tuple[bytes, ...]) -> list[str]:
    texts = {json.dumps(where[key]) for raw in documents for where, key in places(json.loads(raw))}
    return sorted(text for text in texts if len(text) < 2000)


# --- families: each returns the edits of one case ---------------------------------------------------------------------


def documents(files: Files) -> list[str]:
    """Return the paths of every JSON document."""
    return sorted(path for path in files if path.endswith(".json"))


def bytes_of_documents(draw: Draw, files: Files) -> list[Edit]:
    """Spoil bytes or the encoding of a document, or put another in its place."""
    path = pick(draw, [MANIFEST, INDEX, *documents(files)])
    action = draw(st.sampled_from(["spoil", "spoil", "spoil", "encode", "swap", "whole", "any"]))
    if action == "encode":
        return [Edit(path, content=encode(draw, files[path]))]
    if action == "swap":
        return [Edit(path, content=files[pick(draw, sorted(files))])]
    if action == "whole":
        return [Edit(path, content=pick(draw, JSON).encode("utf-8", "surrogatepass"))]
    if action == "any":
        return [Edit(path, content=draw(st.binary(max_size=40)))]
    return [Edit(path, content=spoil(draw, files[path], files))]


def structure_of_documents(draw: Draw, files: Files) -> list[Edit]:
    """Change the structure of one or two documents."""
    edits = []
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        path = pick(draw, [MANIFEST, MANIFEST, INDEX, *documents(files)])
        indent = draw(st.sampled_from([2, None]))
        text = restructure(
            draw, json.loads(files[path]), pool_of(files), JSON, lambda d, indent=indent: json.dumps(d, indent=indent)
        )
        edits.append(Edit(path, content=text.encode("utf-8", "surrogatepass")))
    return edits


def headers(draw: Draw, files: Files) -> list[Edit]:
    """Change the header of a safetensors file, its length, or the bytes after it."""
    path = pick(draw, sorted(path for path in files if path.endswith(".safetensors")))
    raw = files[path]
    if draw(st.sampled_from([True, False, False])):
        return [Edit(path, content=spoil(draw, raw, files))]
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    text = restructure(draw, header, pool_of(files), JSON, lambda d: json.dumps(d, separators=(",", ":")))
    encoded = text.encode("utf-8", "surrogatepass") + b" " * draw(st.sampled_from([0, 0, 7]))
    wrong = st.sampled_from([0, 0, 0, 0, 1, -1, 8, 2**40, 2**63])
    claimed = max(0, len(encoded) + draw(wrong)) % 2**64
    body = raw[8 + length :]
    body = draw(st.sampled_from([body, body, body, body[:-1], body + b"\0", b"", body * 2]))
    return [Edit(path, content=struct.pack("<Q", claimed) + encoded + body)]


def card(draw: Draw, files: Files) -> list[Edit]:
    """Change the front matter of the card by structure, put something wild anywhere, or spoil its bytes."""
    _, head, body = files[README].decode().split("---\n", 2)
    action = draw(st.sampled_from(["head", "raw head", "body", "body", "spoil", "encode"]))
    if action == "spoil":
        return [Edit(README, content=spoil(draw, files[README], files))]
    if action == "encode":
        return [Edit(README, content=encode(draw, files[README]))]
    if action == "head":
        write = lambda d: yaml.safe_dump(d, default_style=draw(st.sampled_from([None, '"']))).replace(MARK, f'"{MARK}"')  # noqa: E731
        head = restructure(draw, yaml.safe_load(head), pool_of(files), HEAD, write).replace(f'""{MARK}""', "null")
    elif action == "raw head":
        lines = head.splitlines(keepends=True)
        lines.insert(draw(st.integers(0, len(lines))), pick(draw, HEAD) + "\n")
        head = "".join(lines)
    else:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + pick(draw, CARD) * draw(st.sampled_from([1, 1, 1, 3, 40])) + body[at:]
    text = draw(st.sampled_from(FIRST_LINES)) + head + draw(st.sampled_from(["---\n", "---\n", "---\n", "", "...\n"]))
    return [Edit(README, content=(text + body).encode("utf-8", "surrogatepass"))]


def settings(draw: Draw, files: Files) -> list[Edit]:
    """Put a configuration beside the manifest: changed by structure, by lines or by bytes."""
    action = draw(st.sampled_from(["structure", "structure", "lines", "spoil", "encode"]))
    text = to_toml(SETTINGS)
    if action == "structure":
        fragments = (*TOML, *(json.dumps(pattern) for pattern in PATTERNS))
        text = restructure(draw, json.loads(json.dumps(SETTINGS)), pool_of(files), fragments, to_toml)
    elif action == "lines":
        lines = text.splitlines(keepends=True)
        lines.insert(draw(st.integers(0, len(lines))), pick(draw, TOML) + "\n")
        text = "".join(lines)
    content = text.encode("utf-8", "surrogatepass")
    if action == "spoil":
        content = spoil(draw, content, files)
    elif action == "encode":
        content = encode(draw, content)
    planted = structure_of_documents(draw, files) if draw(st.booleans()) else []
    name = draw(st.sampled_from([SETTINGS_FILE, SETTINGS_FILE, SETTINGS_FILE, "pyproject.toml"]))
    prefix = b"[tool.saereg]\n" if name == "pyproject.toml" and draw(st.booleans()) else b""
    return [*planted, Edit(name, content=prefix + content)]


def to_toml(value: object) -> str:
    """Return a document as TOML; values are written inline, and null, which TOML has not, as an empty list."""
    if not isinstance(value, dict):
        return _inline(value)
    return "".join(f"{_key(key)} = {_inline(child)}\n" for key, child in value.items())


def _inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_inline(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return "[]" if value is None else json.dumps(value)


def _key(key: str) -> str:
    return json.dumps(key)


def file_system(draw: Draw, files: Files) -> list[Edit]:
    """Remove, empty, replace and add files, folders, links, pipes and odd names."""
    edits = []
    folders = sorted({path.rsplit("/", 1)[0] for path in files if "/" in path} | {"layer_1"})
    for _ in range(draw(st.integers(1, 3))):
        path = pick(draw, [MANIFEST, INDEX, *sorted(files), *folders])
        kind = draw(st.sampled_from(["write", "remove", "folder", "link", "pipe", "sparse", "locked", "many", "deep"]))
        content = b""
        if kind == "link":
            content = pick(draw, [b"gone", b".", b"..", b"/dev/null", b"manifest.json", path.encode(), b"/etc/passwd"])
        if kind == "write":
            stem = draw(st.sampled_from(["", *(f"{folder}/" for folder in folders)]))
            odd = st.sampled_from(NAMES) | st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1)
            path = draw(st.sampled_from([path, stem + (draw(odd) if draw(st.booleans()) else pick(draw, NAMES))]))
            content = draw(st.sampled_from([b"", b"x", b"{}", files[pick(draw, sorted(files))]]))
        edits.append(Edit(path, kind, content))
    return edits


FAMILIES: dict[str, Callable[[Draw, Files], list[Edit]]] = {
    family.__name__: family
    for family in (
        bytes_of_documents,
        structure_of_documents,
        headers,
        card,
        settings,
        file_system,
    )
}
"""Name → what makes the edits of one case."""
