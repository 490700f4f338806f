"""Sisters and lineage: edges that one can walk in both directions, over releases in and out of the catalogue."""

import json

import pytest

from saereg.cli.render.graph import graph_json, graph_mermaid, graph_text
from saereg.errors import UnknownNameError
from saereg.registry.catalog import store, writing
from saereg.registry.catalog.lineage import graph_of
from saereg.registry.catalog.rows import Edge, Entry, ReleaseRows, Snapshot, Source
from tests.registry.catalog.books import put, variant
from tests.releases import tiny_release


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """`child` was made from an artifact of `parent`; `sister` names `parent`; `loose` is in no catalogue."""
    root = tmp_path_factory.mktemp("family")
    parent = tiny_release(root, checkpoints=True)
    origin = {"derived_from": [f"{parent}:layer_1/topk"]}
    child = variant(parent, root / "child", origin, name="child", sister_releases=["https://example.org/saes"])
    sister = variant(parent, root / "sister", name="sister", sister_releases=[str(parent)])
    loose = variant(parent, root / "loose", name="loose", derived_from=[str(child)])
    catalog = root / "catalog.sqlite"
    for folder in (parent, child, sister):
        put(catalog, folder)
    return {"catalog": catalog, "parent": parent, "child": child, "sister": sister, "loose": loose}


def links(family, target, depth=3):
    """Return the relations of a graph as (start, relation, end) by the names of the family."""
    graph = graph_of(str(target), depth, family["catalog"])
    names = {str(path): name for name, path in family.items()}

    def short(node):
        return names.get(node.place, node.place) + (f":{node.artifact}" if node.artifact else "")

    return {(short(link.start), link.relation, short(link.end)) for link in graph.links}


def test_edges_are_walked_in_both_directions(family):
    """From the parent one comes to the child that names it, and from there to the child's other relations."""
    assert links(family, family["parent"]) >= {
        ("child:layer_1/topk", "derived_from", "parent:layer_1/topk"),
        ("sister", "sister", "parent"),
    }
    assert ("sister", "sister", "parent") in links(family, family["sister"], depth=1)


def test_a_release_that_is_in_no_catalogue_is_the_root_of_its_graph(family):
    """What it says of itself is read from its manifest, and goes on in the catalogue."""
    assert links(family, family["loose"]) >= {
        ("loose", "derived_from", "child"),
        ("child", "sister", "https://example.org/saes"),
        ("child:layer_1/topk", "derived_from", "parent:layer_1/topk"),
    }


def test_depth_limits_the_walk(family):
    """One step from `loose` is `child`; the parent is two away."""
    assert links(family, family["loose"], depth=1) == {("loose", "derived_from", "child")}


def test_equal_weights_and_checkpoints_are_found_by_their_digests(family):
    """Nobody says that two artifacts are of one checkpoint: the manifest's digests do."""
    found = links(family, f"{family['parent']}:layer_1/topk", depth=2)
    (checkpoint,) = {end for _, relation, end in found if relation == "source_checkpoint"}

    assert checkpoint.startswith("sha256:")
    assert {start for start, _, end in found if end == checkpoint} == {
        f"{name}:layer_1/topk" for name in ("parent", "child", "sister")
    }


def test_a_name_of_the_catalogue_will_do(family):
    """As everywhere, and an unknown one is one line."""
    assert links(family, "sister") == links(family, family["sister"])
    assert links(family, "child:layer_1/topk") == links(family, f"{family['child']}:layer_1/topk")
    with pytest.raises(Exception, match="no release of that name is in the catalogue"):
        graph_of("nobody", 3, family["catalog"])


def test_every_way_to_write_a_graph_holds_every_node(family):
    """Text shows each node once in full, JSON and Mermaid each link once."""
    graph = graph_of(str(family["loose"]), 5, family["catalog"])
    text, data, drawn = graph_text(graph), json.loads(graph_json(graph)), graph_mermaid(graph)

    assert all(node.label in text and node.label in drawn for node in graph.nodes)
    assert len(data["links"]) == len(graph.links) == drawn.count("-->")
    assert {node["label"] for node in data["nodes"]} == {node.label for node in graph.nodes}
    assert "child 1.0.0, unverified" in text


def test_checkpoints_without_a_digest_are_not_one(tmp_path):
    """Two files that nobody hashed are two."""
    entries, catalog = (Entry("one"), Entry("two")), tmp_path / "c.sqlite"
    edges = tuple(Edge("source_checkpoint", f"run/{entry.id}.pt", entry.id) for entry in entries)
    with store.changing(catalog) as connection:
        rows = ReleaseRows("x", repo="org/x", entries=entries, edges=edges)
        writing.write(connection, Snapshot(Source("inventory", "/x/index.json"), "0", "made", (rows,)))

    for entry in entries:
        (link,) = graph_of(f"hf://org/x:{entry.id}", 3, catalog).links
        assert (link.start.artifact, link.end.label) == (entry.id, f"run/{entry.id}.pt")


def test_a_folder_is_the_same_however_its_path_is_written(family, monkeypatch):
    """Relative, and with a way back in it."""
    monkeypatch.chdir(family["child"])
    there = links(family, family["parent"], depth=1)
    assert there
    assert links(family, f"../child/../{family['parent'].name}", depth=1) == there


def test_an_artifact_that_a_release_does_not_have_has_no_lineage(family):
    """The name of its release alone does not make it one; a second name leads to the one that has it."""
    with pytest.raises(UnknownNameError, match="did you mean 'layer_1/topk'"):
        graph_of(f"{family['parent']}:layer_1/tpk", 3, family["catalog"])
