"""Versions of documents: each link leads one step on, and nothing later than what is known is touched."""

import json

import pytest

from saereg.errors import UsageError
from saereg.registry.upgrading.chain import CHAIN, FOREIGN, Link, climb, version_of
from saereg.schemas.document import SCHEMA_VERSION

LINKS = {
    **CHAIN,
    "1.0": Link("1.1", "a is called b", lambda value: {("b" if key == "a" else key): x for key, x in value.items()}),
    "1.1": Link("1.2", "c is new", lambda value: {**value, "c": None}),
}


def test_a_document_climbs_link_by_link():
    """From each version to the last, in order; at the top nothing is to do, and the original is as it was."""
    first = {"schema_version": "1.0", "a": 3}
    last, links = climb(first, "manifest.json", LINKS, "1.2")
    assert last == {"schema_version": "1.2", "b": 3, "c": None}
    assert [link.to for link in links] == ["1.1", "1.2"]
    assert climb(last, "manifest.json", LINKS, "1.2") == (last, ())
    assert first == {"schema_version": "1.0", "a": 3}


@pytest.mark.parametrize("version", ["1.3", "2.0", "1.10", "0.9", "one", "", "1.-1"])
def test_an_unknown_version_is_refused_in_one_line(version):
    """Later ones, ones that never were, and what is no version."""
    with pytest.raises(UsageError) as caught:
        climb({"schema_version": version}, "manifest.json", LINKS, "1.2")
    assert "\n" not in str(caught.value)


def test_every_link_of_today_leads_to_the_schema_of_today():
    """The chain ends at the version that the schemas have, from wherever it starts."""
    for version in CHAIN:
        seen = [version]
        while seen[-1] in CHAIN:
            seen.append(CHAIN[seen[-1]].to)
        assert seen[-1] == SCHEMA_VERSION
    assert version_of([{"path": "a.safetensors", "layer": 1}]) == FOREIGN
    assert version_of(json.loads('{"schema_version": "1.0", "release": {}, "artifacts": []}')) == "1.0"
    assert version_of({"name": "package.json"}) is None
