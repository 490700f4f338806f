"""What a release was made from follows from its documents, and says nothing that they do not."""

import hashlib
import json

import pytest

from saereg.registry.build import build
from saereg.registry.provenance import provenance_of
from saereg.schemas.document import canonical
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.provenance import CheckpointSet, Provenance
from tests.releases import tiny_release

BUILT_WITH = {"saereg": "0.1.0", "torch": "2.13.0"}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A tiny release with one source checkpoint; read only."""
    return tiny_release(tmp_path_factory.mktemp("provenance"))


@pytest.fixture
def made_from(release):
    """Return the provenance of the release after a change of its manifest."""
    index = Index.read(release / "index.json")

    def made(change=lambda manifest: None, artifacts=index.artifacts) -> Provenance:
        raw = json.loads((release / "manifest.json").read_text())
        change(raw)
        return provenance_of(Manifest.from_text(canonical(raw)), artifacts, BUILT_WITH)

    return made


def test_the_index_holds_it_and_gives_it_again(release):
    """It is the same whoever works it out, from the files alone."""
    index, manifest = Index.read(release / "index.json"), Manifest.read(release / "manifest.json")
    assert index.provenance == provenance_of(manifest, index.artifacts, index.generated_by)
    assert build(release).text() == index.text()


def test_what_nobody_said_is_absent(made_from):
    """No commit of a data set, no code: not `main`, not what is on this machine."""
    found = made_from(lambda m: m.update(datasets={}, base_models={}, sites={}))
    assert (found.code, found.base_models, found.datasets) == (None, {}, {})
    assert made_from().datasets["text"].revision is None
    bare = made_from(lambda m: [a.pop("source_checkpoint", None) for a in m["artifacts"]])
    assert bare.source_checkpoints is None
    assert "source_checkpoints" not in bare.model_dump(exclude_none=True)


def test_what_is_pinned_is_taken_over(made_from):
    """Commits and digests of code, models and data."""
    code = {"repository": "https://example.org/training", "commit": "c" * 40}

    def pin(m):
        m["release"]["code"] = code
        m["datasets"]["text"].update(revision="d" * 40, split="train")
        m["base_models"]["tiny"] = {"id": "tiny", "weights_sha256": "e" * 64, "step": 3}

    found = made_from(pin).model_dump(mode="json", exclude_none=True)
    assert found["code"] == code
    assert found["datasets"] == {"text": {"id": "tiny/text", "revision": "d" * 40, "split": "train"}}
    assert found["base_models"] == {"tiny": {"id": "tiny", "weights_sha256": "e" * 64, "step": 3}}


def test_the_digest_of_the_configuration_is_the_documented_one(release, made_from):
    """One line per artifact: id, digest of cfg.json, and what the author says of its training."""

    def trained(m):
        m["artifacts"].sort(key=lambda a: a["id"], reverse=True)
        for artifact in m["artifacts"]:
            artifact.update(seed=3, sparsity={}, training={"lr": 0.5, "tool": {"t": "1"}})

    names = sorted(a["id"] for a in json.loads((release / "manifest.json").read_text())["artifacts"])
    lines = ""
    for name in names:
        cfg = hashlib.sha256((release / name / "cfg.json").read_bytes()).hexdigest()
        lines += f'{name}\0{cfg}\0{{"seed": 3, "training": {{"lr": 0.5, "tool": {{"t": "1"}}}}}}\n'
    assert made_from(trained).configuration_sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_only_a_change_of_the_training_changes_the_digest_of_the_configuration(made_from):
    """Not the order of artifacts, a claim or a title."""
    before = made_from().configuration_sha256

    def set_on_first(**fields):
        return lambda m: m["artifacts"][0].update(fields)

    for change in (set_on_first(seed=99), set_on_first(training={"lr": 1.0}), set_on_first(sparsity={"k": 2.5})):
        assert made_from(change).configuration_sha256 != before
    for change in (
        set_on_first(claims=[]),
        lambda m: m["artifacts"].reverse(),
        lambda m: m["release"].update(title="T"),
    ):
        assert made_from(change).configuration_sha256 == before
    assert made_from(artifacts=()).configuration_sha256 != before


def test_parts_of_a_release_trained_with_other_versions_are_all_named(made_from):
    """In natural order, 6.9 before 6.10, with what built the index."""

    def trained(m):
        for artifact, version in zip(m["artifacts"], ("6.10.0", "6.9.1", "6.10.0", "6.10.0"), strict=True):
            artifact["training"] = {"tool": {"sae-lens": version, "torch": "2.4.0"}}

    expected = {"sae-lens": ("6.9.1", "6.10.0"), "saereg": ("0.1.0",), "torch": ("2.4.0", "2.13.0")}
    assert made_from(trained).tools == expected


def test_several_artifacts_of_one_checkpoint_count_it_once(made_from):
    """The digest is over path and sha256 of each file."""

    def sources(m):
        for position, artifact in enumerate(m["artifacts"]):
            path = "b.pt" if position else "a.pt"
            artifact["source_checkpoint"] = {"path": path, "sha256": str(min(position, 1)) * 64}

    text = f"a.pt\0{'0' * 64}\nb.pt\0{'1' * 64}\n"
    assert made_from(sources).source_checkpoints == CheckpointSet(
        count=2, sha256=hashlib.sha256(text.encode()).hexdigest()
    )
