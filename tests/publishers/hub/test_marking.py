"""Marks of withdrawal on the Hub: one commit at the head of a branch, made once, and nothing else moves."""

import json
import shutil

import pytest

from saereg.errors import ConflictError, NothingToValidateError, PublishError, UnknownNameError, UsageError
from saereg.publishers.hub.marking import HubBranch
from saereg.publishers.hub.target import HubTarget
from saereg.publishers.local_hub import Fault
from saereg.registry.withdrawal import restore, withdraw
from saereg.registry.withdrawn_documents import DOCUMENTS, artifact_cards, mark_folder, read_documents
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.withdrawal import Withdrawal
from tests.cases.tools import TOPK, write_cards

MARK = Withdrawal(version="1.0.0", kind="yanked", reason="b_dec is 0", date="2026-11-21")


def marking(manifest: Manifest) -> Manifest:
    return withdraw(manifest, MARK)


def titled(manifest: Manifest) -> str:
    return f"Yank {manifest.release.version}"


@pytest.fixture
def published(repository, versions):
    """Version 1.0.0 without its weights, which nobody asks for here, under its tag, and 1.1.0 at the head."""
    for root in versions:
        files = {name: (root / name).read_bytes() for name in DOCUMENTS}
        repository.put({"config.json": "{}", "model.sig": "signed", **files}, title=root.parent.name)
        if root == versions[0]:
            repository.api.create_tag(repository.name, tag="v1.0.0", revision="main")
    repository.hub.requests.clear()
    return repository


def branch(repository, name: str = "main") -> HubBranch:
    return HubBranch(HubTarget(repository.name, name, repository.hub.url))


def marks(repository, revision: str = "main") -> list[str]:
    found = json.loads(repository.read("manifest.json", revision))["withdrawn"]
    return [f"{mark['version']} {mark['kind']} {mark['reason']}" for mark in found]


def test_three_documents_change_in_one_commit_and_tags_stay(published):
    """A dry run sends nothing; a second run makes no commit; the signature no longer fits."""
    tags, tree = published.tags(), published.tree()
    planned = branch(published).mark(marking, titled, dry_run=True)
    assert (set(planned.documents), planned.commit, planned.is_signed) == (set(DOCUMENTS), None, True)
    assert not {"auth", "preupload", "commit"} & set(published.asked())

    done = branch(published).mark(marking, titled)

    assert done.commit == published.head()
    assert published.history()[0] == "Yank 1.1.0"
    assert len(published.history()) == 4
    assert {path: published.read(path) for path in DOCUMENTS} == planned.documents
    assert marks(published) == ["1.0.0 yanked b_dec is 0"]
    assert (marks(published, "v1.0.0"), published.tags()) == ([], tags)
    assert set(published.tree()) == set(tree)
    again = branch(published).mark(marking, titled)
    assert (again.documents, again.commit, len(published.history())) == ({}, None, 4)

    branch(published).mark(lambda manifest: restore(manifest, "1.0.0"), titled)
    assert (published.tree()["README.md"], marks(published)) == (tree["README.md"], [])


@pytest.mark.parametrize(
    "fault",
    [Fault("commit", "after", drop=True), Fault("commit", "after", status=504), Fault("commit", status=504)],
    ids=["cut", "late", "early"],
)
def test_a_lost_reply_makes_no_second_commit(published, fault):
    """What the repository holds says whether it was made."""
    published.hub.faults.append(fault)

    done = branch(published).mark(marking, titled)

    assert done.commit == published.head()
    assert published.history().count("Yank 1.1.0") == 1
    assert marks(published) == ["1.0.0 yanked b_dec is 0"]


def test_who_comes_in_between_is_not_overwritten(published):
    """The mark is set in what the branch holds now; after three times somebody else should have his way."""
    seen = []

    def change(manifest: Manifest) -> Manifest:
        if not seen:
            published.put({"README.md": "# Another card\n", "NOTES.md": "mine\n"}, title="a word")
        seen.append(manifest)
        return marking(manifest)

    done = branch(published).mark(change, titled)

    assert len(seen) == 2
    assert published.history()[:2] == ["Yank 1.1.0", "a word"]
    assert done.documents["README.md"] == published.read("README.md")
    assert published.read("README.md").decode().endswith("# Another card\n")
    assert "NOTES.md" in published.tree()

    def always(manifest: Manifest) -> Manifest:
        seen.append(manifest)
        published.put({"NOTES.md": f"{len(seen)}\n"}, title=f"word {len(seen)}")
        return restore(manifest, "1.0.0")

    with pytest.raises(ConflictError, match="has moved from"):
        branch(published).mark(always, titled)
    assert marks(published) == ["1.0.0 yanked b_dec is 0"]


def test_what_was_never_published_is_refused(published, versions):
    """Versions by the tags, their artifacts by their own manifest, successors too."""
    hub, head = branch(published), Manifest.read(versions[1] / "manifest.json")

    hub.require_published(head, "1.1.0")
    hub.require_published(head, "1.0.0", "W_U/cross-snapshot-2")  # which 1.1.0 has no more
    with pytest.raises(UsageError, match=r"^version 1\.0\.1 was never published \(there is no tag v1\.0\.1\); did you"):
        hub.require_published(head, "1.0.1")
    with pytest.raises(
        UnknownNameError, match=r"^unknown artifact of 1\.0\.0 'layer_1/topq'; did you mean 'layer_1/topk'"
    ):
        hub.require_published(head, "1.0.0", "layer_1/topq")
    here = f"hf://{published.name}"
    assert hub.successor(head, f"{here}@v1.0.0") == "1.0.0"
    assert hub.successor(head, f"{here}:layer_1/topk") == "layer_1/topk"
    assert hub.successor(head, f"{here}@v1.0.0:layer_1/topk") == f"{here}@v1.0.0:layer_1/topk"
    assert hub.successor(head, "hf://org/other") == "hf://org/other"
    with pytest.raises(UsageError, match="is this repository; name a version of it"):
        hub.successor(head, here)
    with pytest.raises(UsageError, match=r"^--successor 1\.2\.0 was never published .*: publish it first, or leave"):
        hub.successor(head, "v1.2.0")


def test_only_the_head_of_a_branch_is_marked(published):
    """Not a tag, a commit, a repository without a release, nor one that is not there."""
    with pytest.raises(UsageError) as refused:
        branch(published, "v1.0.0").mark(marking, titled)
    assert str(refused.value) == (
        f"v1.0.0 is a tag, which never moves; mark it on a branch: hf://{published.name} 1.0.0"
    )
    with pytest.raises(UsageError, match="a commit never changes; name a branch"):
        branch(published, published.head()).mark(marking, titled)
    with pytest.raises(PublishError, match="there is no such repository or branch"):
        branch(published, "nowhere").mark(marking, titled)
    with pytest.raises(PublishError, match="there is no such repository or branch, or this token may not see it"):
        HubBranch(HubTarget("org/absent", "main", published.hub.url)).mark(marking, titled)
    published.put({"index.json": None})
    with pytest.raises(NothingToValidateError, match=r"holds no index\.json; run saereg build and publish it first"):
        branch(published).mark(marking, titled)
    published.put({"manifest.json": None})
    with pytest.raises(NothingToValidateError, match=r"holds no manifest\.json"):
        branch(published).mark(marking, titled)


def test_a_hub_without_tags_knows_the_version_of_its_branch_alone(published):
    """Which can be marked as anywhere."""
    published.hub.faults.append(Fault("refs", status=404, count=-1))

    assert branch(published).mark(marking, titled).commit == published.head()
    with pytest.raises(UsageError, match=r"published: 1\.1\.0$"):
        branch(published).require_published(Manifest.from_text(published.read("manifest.json").decode()), "0.0.9")


def test_who_may_not_write_is_told_before_anything_is_sent(published, monkeypatch):
    """A dry run needs no right to write."""
    monkeypatch.setenv("HF_TOKEN", "hf_read")

    assert branch(published).mark(marking, titled, dry_run=True).documents
    with pytest.raises(PublishError, match="write"):
        branch(published).mark(marking, titled)
    assert not {"preupload", "commit"} & set(published.asked())


def test_marks_on_the_hub_are_those_that_a_folder_gets(published, versions):
    """Byte for byte: publishing the marked folder afterwards has nothing to do."""
    from saereg.registry.withdrawn_documents import marked

    there = read_documents(versions[1])
    assert branch(published).mark(marking, titled).documents == marked(there, marking, "here").documents


def test_the_cards_of_artifacts_say_it_in_the_same_commit(repository, versions, tmp_path):
    """Of the artifact that is marked, and of all others with their version."""
    root = shutil.copytree(versions[1], tmp_path / "release")
    write_cards(root)
    index = Index.read(root / "index.json")
    paths = [*DOCUMENTS, *artifact_cards(index)]
    repository.put({path: (root / path).read_bytes() for path in paths}, title="cards")
    mark = Withdrawal(version="1.1.0", artifact=TOPK, kind="yanked", reason="b_dec is 0", date="2026-11-21")

    done = branch(repository).mark(lambda manifest: withdraw(manifest, mark), titled)

    assert set(done.documents) == {*DOCUMENTS, f"{TOPK}/README.md"}
    assert repository.read(f"{TOPK}/README.md").startswith(b"<!-- saereg:begin withdrawn -->")
    assert done.documents == mark_folder(root, lambda manifest: withdraw(manifest, mark)).documents
    whole = mark.model_copy(update={"artifact": None})
    assert set(branch(repository).mark(lambda m: withdraw(m, whole), titled).documents) == {*paths} - {
        f"{TOPK}/README.md"
    }
    undone = branch(repository).mark(lambda m: restore(restore(m, "1.1.0"), "1.1.0", TOPK), titled)
    assert b"saereg:begin withdrawn" not in undone.documents[f"{TOPK}/README.md"]


def test_of_very_many_artifacts_the_card_of_the_release_says_it_alone(repository, versions, tmp_path, monkeypatch):
    """Each card is a request; publishing the marked folder brings the others."""
    root = shutil.copytree(versions[1], tmp_path / "release")
    write_cards(root)
    repository.put({p: (root / p).read_bytes() for p in (*DOCUMENTS, f"{TOPK}/README.md")}, title="cards")
    monkeypatch.setattr("saereg.publishers.hub.marking.MOST_CARDS", 0)
    whole = Withdrawal(version="1.1.0", kind="yanked", reason="b_dec is 0", date="2026-11-21")

    assert set(branch(repository).mark(lambda m: withdraw(m, whole), titled).documents) == set(DOCUMENTS)
