"""The pages of the documents, from their JSON Schemas: every record, field, type, constraint and meaning."""

import json
import re
from collections.abc import Iterator, Mapping

from saereg.schemas.export import DOCUMENTS, generate

ABOUT: Mapping[str, tuple[str, str, str]] = {
    "manifest": ("manifest.json", "the author, or a trainer", "what is claimed of a release"),
    "index": ("index.json", "`saereg build`", "what was found in its files: the evidence"),
    "cfg": ("cfg.json", "trainers and `saereg convert`", "what function the weights of an artifact are"),
    "features": ("features.json", "`saereg build`", "what activates latents of an artifact most"),
    "report": ("–", "`saereg validate --format json`", "findings, and what was looked at"),
    "report-line": ("–", "`saereg validate --format jsonl`", "a report as one line per finding"),
    "plan": ("–", "`saereg publish --plan FILE`", "what a publication would do"),
    "receipt": ("–", "`saereg publish --receipt FILE`", "what a publication did"),
    "lock": ("saereg.lock", "`saereg lock`", "releases on the Hub, pinned to commits and digests"),
    "conversion": ("conversion.json", "`saereg convert`", "what was proved of a conversion"),
    "transfer": ("–", "`saereg metrics transfer --format json`", "every dictionary on every corpus"),
    "difference": ("–", "`saereg diff --format json`", "what changed between two releases"),
    "coverage": ("–", "`saereg coverage --format json`", "model families, and what there is of each"),
    "facts": ("facts.yaml", "whoever knows them", "sourced facts of model families"),
    "train": ("run.yaml", "whoever trains", "a run of `saereg train sae`"),
    "train-crosscoder": ("run.yaml", "whoever trains", "a run of `saereg train crosscoder`"),
    "train-sweep": ("sweep.yaml", "whoever trains", "many runs of `saereg train sweep`"),
    "collection": ("collection.json", "`saereg train collect`", "activations of some sites"),
    "parameters": ("parameters.json", "`saereg train snapshots`", "a parameter at steps of a pretraining"),
}
"""Document → its file, who writes it, what it holds."""

BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "minProperties": "at least {} entries",
}

Node = dict[str, "Node | list[Node] | str | int | float | bool | None"]


def table() -> str:
    """Return the table of all documents, for a page that is read without the others too."""
    lines = ["| document | file | written by | holds |", "|---|---|---|---|"]
    for name, (file, writer, holds) in ABOUT.items():
        lines.append(f"| `{name}` | {'–' if file == '–' else f'`{file}`'} | {writer} | {holds} |")
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Return name → text of every page.

    Raises:
        KeyError: for a document that nothing is said of here.
    """
    return {f"schemas/{name}.md": page(name) for name in sorted(DOCUMENTS, key=list(ABOUT).index)}


def page(name: str) -> str:
    """Return the page of a document: what it is, its own fields, and the records in them."""
    root = json.loads(generate(name))
    records = {**root.get("$defs", {})}
    file, writer, holds = ABOUT[name]
    where = "" if file == "–" else f" `{file}`"
    lines = [
        f"# {name}",
        "",
        f"{_first(holds)}.{' File:' + where + '.' if where else ''} Written by {writer}.",
        "",
        f"[JSON Schema](../../../saereg/schemas/json/{name}-1.schema.json), also printed by `saereg schema {name}`.",
        "Keys that are not listed are errors.",
        "",
    ]
    own = {key: value for key, value in root.items() if key != "$defs"}
    if "properties" in own:
        lines += [f"## {root.get('title', name)}", "", *_record(own, {}, records)]
    else:
        lines += ["One of these records:", "", *(f"- {_type(branch)}" for branch in _branches(own)), ""]
    users = _users(records, root)
    for key in _order(own, records):
        lines += [f"## {key}", "", *_record(records[key], users.get(key, {}), records)]
    return "\n".join(lines).rstrip() + "\n"


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _branches(node: Node) -> list[Node]:
    return node.get("oneOf") or node.get("anyOf") or [node]


def _references(node: object) -> Iterator[str]:
    """Yield the names of the records that a schema names, in the order in which it names them."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[-1]
        for key, value in node.items():
            if key != "discriminator":
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _order(root: Node, records: Mapping[str, Node]) -> list[str]:
    """Return the names of the records as a reader meets them."""
    found: dict[str, None] = {}
    waiting = list(dict.fromkeys(_references(root)))
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting = list(dict.fromkeys(_references(records[name]))) + waiting
    return list(found)


def _users(records: Mapping[str, Node], root: Node) -> dict[str, dict[str, str]]:
    """Return record → the records with a field of it, and that field."""
    found: dict[str, dict[str, str]] = {}
    for owner, node in [(root.get("title", ""), root), *records.items()]:
        for field, value in (node.get("properties") or {}).items():
            for name in _references(value):
                found.setdefault(name, {}).setdefault(str(owner), field)
    return found


def _record(node: Node, users: Mapping[str, str], records: Mapping[str, Node]) -> list[str]:
    lines = [_cell(node.get("description", "")), ""]
    if users:
        named = (f"`{field}` of [{owner}](#{_anchor(owner)})" for owner, field in users.items())
        lines += [f"Found as {', '.join(named)}."]
        lines += [""]
    properties = node.get("properties")
    if not properties:
        kind = _type(node)
        return [*lines, f"{_first(kind)}.", ""]
    lines += ["| field | type | meaning |", "|---|---|---|"]
    required = set(node.get("required", ()))
    for field, value in properties.items():
        star = "<br>*required*" if field in required else ""
        lines.append(f"| `{field}`{star} | {_type(value)} | {_meaning(value, records)} |")
    return [*lines, ""]


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _meaning(node: Node, records: Mapping[str, Node]) -> str:
    """Return what a field is, else what its record is, and what it is when it is left out."""
    record = records.get(str(node.get("$ref", "")).rsplit("/", 1)[-1], {})
    parts = [_cell(node.get("description", "") or record.get("description", ""))]
    default = node.get("default")
    if default not in (None, [], {}, ""):
        parts.append(f"Default: {_code(json.dumps(default, ensure_ascii=False))}.")
    return " ".join(part for part in parts if part)


def _type(node: Node) -> str:
    """Return a type in words."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{_anchor(name)})"
    for several in ("anyOf", "oneOf"):
        if several in node:
            return " or ".join(dict.fromkeys(_type(branch) for branch in node[several]))
    if "const" in node:
        return _code(json.dumps(node["const"], ensure_ascii=False))
    if "enum" in node:
        return " · ".join(_code(json.dumps(value, ensure_ascii=False)) for value in node["enum"])
    return _named(node) + _bounds(node)


def _named(node: Node) -> str:
    kind = node.get("type", "any")
    if kind == "array":
        if "prefixItems" in node:
            return "(" + ", ".join(_type(item) for item in node["prefixItems"]) + ")"
        return f"list of {_type(node['items'])}" if node.get("items") else "list"
    if kind == "object":
        patterns = list((node.get("patternProperties") or {}).values())
        values = patterns[0] if patterns else node.get("additionalProperties")
        return f"map of name to {_type(values)}" if isinstance(values, dict) and values else "map"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no", "null": "null"}
    return words.get(str(kind), "any value")


def _bounds(node: Node) -> str:
    words = [text.format(node[key]) for key, text in BOUNDS.items() if key in node and node[key] != 1]
    words += ["not empty"] if 1 in (node.get("minLength"), node.get("minItems"), node.get("minProperties")) else []
    words += [f"like {_code(node['pattern'])}"] if "pattern" in node else []
    return f" ({', '.join(words)})" if words else ""


def _code(text: str) -> str:
    """Return code for a cell of a table; a fence longer than any backtick in it."""
    fence = "``" if "`" in text else "`"
    pad = " " if fence == "``" else ""
    return fence + pad + text.replace("|", "\\|") + pad + fence


def _cell(text: object) -> str:
    """Return a docstring for a cell of a table: `code` as it is, and nothing else that Markdown would read."""
    pieces = re.split(r"(`[^`]*`)", " ".join(str(text).split()))
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_<>\[\]])", r"\\\1", p) for p in pieces).replace(
        "|", "\\|"
    )
