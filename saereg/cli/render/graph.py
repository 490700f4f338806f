"""The lineage of a release: as a tree for people, as JSON, as a Mermaid diagram for pages."""

import json

from saereg.cli.render.text import visible
from saereg.registry.catalog.graph import WORDS, Graph, Node, tree


def graph_text(graph: Graph) -> str:
    """Return a graph as an indented list."""
    lines = []
    for depth, how, node, known in tree(graph):
        again = "  (see above)" if known else ""
        lines.append("  " * depth + (f"{how} " if how else "") + _named(node) + again)
    return "\n".join(lines) + ("\n…" if graph.cut else "") + "\n"


def _named(node: Node) -> str:
    facts = ", ".join(fact for fact in (node.name, node.standing) if fact and fact not in node.label)
    return visible(node.label) + (f"  [{visible(facts)}]" if facts else "")


def graph_json(graph: Graph) -> str:
    """Return a graph as JSON: its nodes, and its links by the labels of their ends."""
    nodes = [
        {"label": n.label, "place": n.place, "artifact": n.artifact, "release": n.name, "standing": n.standing}
        for n in graph.nodes
    ]
    links = [{"from": k.start.label, "relation": k.relation, "to": k.end.label, "note": k.note} for k in graph.links]
    found = {"root": graph.root.label, "nodes": nodes, "links": links, "cut": graph.cut}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def graph_mermaid(graph: Graph) -> str:
    """Return a graph as a Mermaid flowchart, as the Hub and GitHub draw it."""
    names = {node.key: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    lines += [f'  {names[node.key]}["{_quoted(node.label)}"]' for node in graph.nodes]
    lines += [
        f"  {names[link.start.key]} -- {WORDS[link.relation][0]} --> {names[link.end.key]}" for link in graph.links
    ]
    lines += [
        f"  {names[node.place, None]} -.- {names[node.key]}"
        for node in graph.nodes
        if node.artifact is not None and (node.place, None) in names
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return visible(text).replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;")


GRAPHS = {"text": graph_text, "json": graph_json, "mermaid": graph_mermaid}
"""Format → how a graph is written."""
