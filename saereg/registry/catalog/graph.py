"""How releases and artifacts hang together: sisters, what was made from what, and what has the same weights."""

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from saereg.errors import SaeregError
from saereg.registry.refs import parse_reference

WORDS = {
    "sister": ("sister of", "sister of"),
    "derived_from": ("derived from", "origin of"),
    "source_checkpoint": ("exported from checkpoint", "checkpoint of"),
    "same_weights": ("has the weights of", "has the weights of"),
}
"""Relation → (what it is called along its direction, and against it)."""

CHECKPOINT = "sha256:"
"""How the place of a source checkpoint begins: what makes it one and the same is its digest."""

MOST_LINKS = 1000
"""Links of one walk; a graph with more is not read by anyone."""


@dataclass(frozen=True)
class Node:
    """A release, an artifact, a source checkpoint, or something outside of the catalogue.

    Attributes:
        place: repository, folder or URL of the release; of a checkpoint `sha256:` and its digest.
        artifact: id of the artifact, or None for the release.
        name: name and version of the release, where it is known; of a checkpoint its file.
        standing: of the release; None where the catalogue does not have it.
    """

    place: str
    artifact: str | None = None
    name: str | None = None
    standing: str | None = None

    @property
    def key(self) -> tuple[str, str | None]:
        """What makes it one and the same: revisions of a repository are one node."""
        return self.place, self.artifact

    @property
    def label(self) -> str:
        """It in a few words."""
        if self.place.startswith(CHECKPOINT):
            return f"{self.name} ({self.place[: len(CHECKPOINT) + 8]})"
        return self.place if self.artifact is None else f"{self.place}:{self.artifact}"


@dataclass(frozen=True)
class Link:
    """One relation.

    Attributes:
        start: where it leads from.
        relation: key of `WORDS`.
        end: where it leads to.
        note: digest or reference as it is written, where it says more than the node.
    """

    start: Node
    relation: str
    end: Node
    note: str = ""


@dataclass(frozen=True)
class Graph:
    """What was reached from a node.

    Attributes:
        root: where the walk began.
        links: each once, in the order in which they were found.
        cut: whether there are more than were walked.
    """

    root: Node
    links: tuple[Link, ...]
    cut: bool

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, the root first."""
        ends = {node.key: node for link in self.links for node in (link.start, link.end)}
        return tuple(({self.root.key: self.root} | ends).values())


@dataclass(frozen=True)
class Books:
    """Catalogues that are read as one: the user's, and one in memory of a release that is not in it.

    Attributes:
        connections: of each.
    """

    connections: Sequence[sqlite3.Connection]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query of each, one after the other."""
        return [row for connection in self.connections for row in connection.execute(query, values).fetchall()]


def walk(books: Books, root: Node, depth: int) -> Graph:
    """Walk from a node along every relation, in both directions.

    Args:
        books: catalogues.
        root: a release or artifact of it.
        depth: steps from the root; 1 gives its neighbours.
    """
    found: dict[tuple[object, ...], Link] = {}
    seen, waiting = {root.key}, deque([(root, 0)])
    while waiting and len(found) < MOST_LINKS:
        node, steps = waiting.popleft()
        if steps >= depth:
            continue
        for link in _links(books, node):
            found.setdefault(_identity(link), link)
            for end in (link.start, link.end):
                if end.key not in seen:
                    seen.add(end.key)
                    waiting.append((end, steps + 1))
    links = tuple(found.values())
    return Graph(root, links[:MOST_LINKS], len(links) >= MOST_LINKS)


def _identity(link: Link) -> tuple[object, ...]:
    ends = (link.start.key, link.end.key)
    one_way = WORDS[link.relation][0] != WORDS[link.relation][1]
    return link.relation, *(ends if one_way else sorted(ends, key=repr))


def node_of(books: Books, reference: str) -> Node:
    """Return the node that a reference names, with what the catalogues know of it."""
    try:
        parsed = parse_reference(reference)
    except SaeregError:  # a URL of another place, or words
        return Node(reference)
    return known(books, parsed.repo or str(parsed.folder), parsed.artifact)


def known(books: Books, place: str, artifact: str | None) -> Node:
    """Return a node with name and standing of its release, where a catalogue has it."""
    rows = books.rows(
        "SELECT name || coalesce(' ' || version, ''), standing FROM release WHERE repo = ? OR folder = ? OR name = ?"
        " ORDER BY (standing = 'foreign'), id DESC LIMIT 1",
        *(place, place, place),
    )
    return Node(place, artifact, *(rows[0] if rows else (None, None)))


def _links(books: Books, node: Node) -> Iterator[Link]:
    if node.place.startswith(CHECKPOINT):
        yield from _exports(books, node)
        return
    yield from _outward(books, node)
    yield from _inward(books, node)
    if node.artifact is not None:
        yield from _same(books, node)


_HERE = "release IN (SELECT id FROM release WHERE repo = ? OR folder = ? OR name = ?)"


def _outward(books: Books, node: Node) -> Iterator[Link]:
    """Yield what a release or artifact says of itself; of a release also what its artifacts are derived from."""
    rows = books.rows(
        f"SELECT artifact, relation, target, sha256 FROM edge WHERE {_HERE}"
        " AND (artifact IS ? OR (? IS NULL AND relation = 'derived_from'))",
        *(node.place, node.place, node.place, node.artifact, node.artifact),
    )
    for artifact, relation, target, sha256 in rows:
        start = node if artifact == node.artifact else Node(node.place, artifact, node.name, node.standing)
        if relation == "source_checkpoint" and sha256 is None:  # which file it is, is not known
            yield Link(start, relation, Node(target), target)
        elif relation == "source_checkpoint":
            yield Link(start, relation, Node(f"{CHECKPOINT}{sha256}", name=target), target)
        else:
            yield Link(start, relation, node_of(books, target), target)


def _inward(books: Books, node: Node) -> Iterator[Link]:
    """Yield what others say of a node: their targets are compared as references, whatever revision they name."""
    rows = books.rows(
        "SELECT coalesce(r.repo, r.folder, r.name), e.artifact, e.relation, e.target FROM edge e"
        " JOIN release r ON r.id = e.release WHERE e.relation <> 'source_checkpoint' AND instr(e.target, ?)",
        node.place,
    )
    for place, artifact, relation, target in rows:
        end = node_of(books, target)
        if end.place == node.place and (node.artifact is None or end.artifact in (None, node.artifact)):
            yield Link(known(books, place, artifact), relation, end, target)


_HOLDERS = "SELECT coalesce(r.repo, r.folder, r.name), h.artifact FROM ({}) h JOIN release r ON r.id = h.release"
"""Of a query for (release, artifact), where each of them is."""

_WEIGHTS = _HOLDERS.format("SELECT release, id AS artifact FROM artifact WHERE weights_sha256 = ? LIMIT 100")
_EXPORTS = _HOLDERS.format(
    "SELECT release, artifact FROM edge WHERE sha256 = ? AND relation = 'source_checkpoint' LIMIT 100"
)


def _same(books: Books, node: Node) -> Iterator[Link]:
    """Yield the artifacts that have the same weights, whatever they are called."""
    digests = books.rows(
        f"SELECT weights_sha256 FROM artifact WHERE {_HERE} AND id = ?", *(node.place,) * 3, node.artifact
    )
    for digest in {row[0] for row in digests} - {None}:
        for place, artifact in books.rows(_WEIGHTS, digest):
            if (place, artifact) != node.key:
                yield Link(node, "same_weights", known(books, place, artifact))


def _exports(books: Books, checkpoint: Node) -> Iterator[Link]:
    """Yield the artifacts that were exported from one checkpoint."""
    for place, artifact in books.rows(_EXPORTS, checkpoint.place.removeprefix(CHECKPOINT)):
        yield Link(known(books, place, artifact), "source_checkpoint", checkpoint)


def tree(graph: Graph) -> Iterator[tuple[int, str, Node, bool]]:
    """Yield a graph as an indented list: (depth, how it hangs on the line above, node, whether it was shown before).

    What hangs on an artifact of a release is shown below the release, too, with the artifact's id before it.
    """
    shown: set[tuple[str, str | None]] = set()

    def below(node: Node, depth: int, came: Link | None) -> Iterator[tuple[int, str, Node, bool]]:
        shown.add(node.key)
        for link in graph.links:
            for here, other, side in ((link.start, link.end, 0), (link.end, link.start, 1)):
                if link is came or not _holds(node, here) or _holds(node, other):
                    continue
                part = f"{here.artifact} " if here.key != node.key else ""
                known = other.key in shown
                yield depth, part + WORDS[link.relation][side], other, known
                if not known:
                    yield from below(other, depth + 1, link)

    yield 0, "", graph.root, False
    yield from below(graph.root, 1, None)


def _holds(node: Node, other: Node) -> bool:
    """Whether a node is another one, or the release that it is an artifact of."""
    return node.key == other.key or (node.artifact is None and node.place == other.place)
