"""What others do at the same place: their pull requests, commits and edits are neither merged nor undone."""

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from saereg.errors import ConflictError, InvalidReleaseError, PublishError
from saereg.publishers.hub.staging import title_of
from saereg.publishers.local_hub import Fault


def refused_at(repository, root, route, **wishes):
    """Publish while the hub refuses one kind of request, and return the plan."""
    publisher = repository.publisher(**wishes)
    plan = publisher.plan(root, repository.report_of(root))
    repository.hub.faults.append(Fault(route, status=403))
    with pytest.raises(PublishError):
        publisher.apply(root, plan)
    repository.hub.faults.clear()
    return plan


def test_a_pull_request_of_somebody_else_is_not_adopted(repository, settled, small_parts):
    """Its title is ours, as anybody can write it; what is in it is not."""
    plan = refused_at(repository, settled, "merge")
    mallory = HfApi(endpoint=repository.hub.url, token="hf_mallory.x")
    theirs = mallory.create_pull_request(repository.name, title=title_of(plan), description="")
    evil = [CommitOperationAdd("modeling_evil.py", b"print()")]
    mallory.create_commit(repository.name, evil, commit_message="evil", revision=theirs.git_reference)

    receipt = repository.publish(settled)

    assert receipt.hub.pull_request == 1
    assert "modeling_evil.py" not in repository.tree()
    assert repository.pull_requests() == [(1, "merged"), (theirs.num, "draft")]


def test_a_commit_of_somebody_else_on_our_pull_request_is_not_merged(repository, settled, small_parts):
    """The pull request is closed, and made anew."""
    refused_at(repository, settled, "merge")
    extra = [CommitOperationAdd("extra.bin", b"extra")]
    repository.api.create_commit(repository.name, extra, commit_message="extra", revision="refs/pr/1")

    receipt = repository.publish(settled)

    assert receipt.hub.pull_request == 2
    assert "extra.bin" not in repository.tree()
    assert repository.pull_requests() == [(1, "closed"), (2, "merged")]


def test_a_pull_request_that_starts_before_the_branch_is_made_anew(repository, versions, small_parts):
    """What it only inherited would not be merged, so that the branch would hold a mixture."""
    repository.publish(versions[0])
    refused_at(repository, versions[1], "merge", delete_unknown=True)
    path = "layer_1/topk/cfg.json"
    repository.put({path: repository.read(path) + b" "})

    repository.publish(versions[1], delete_unknown=True, existing="replace")

    assert repository.read(path) == (versions[1] / path).read_bytes()
    assert repository.pull_requests() == [(1, "merged"), (2, "closed"), (3, "merged")]
    assert not repository.publish(versions[1]).changed


def test_a_merge_is_ours_although_somebody_commits_right_after(repository, settled, small_parts, monkeypatch):
    """It is found in the history, tagged, and the later commit stays."""
    publisher = repository.publisher()
    plan, merge = publisher.plan(settled, repository.report_of(settled)), publisher.client.merge

    def merged(number, comment):
        merge(number, comment)
        repository.put({"NOTES.md": "right after"})

    monkeypatch.setattr(publisher.client, "merge", merged)
    receipt = publisher.apply(settled, plan)

    assert repository.history() == ["by hand", f"{title_of(plan)} (#1)", "initial commit"]
    assert repository.tags() == {"v1.0.0": receipt.hub.commit}
    assert receipt.hub.commit != repository.head()


def test_lost_replies_leave_no_second_pull_request(repository, settled, small_parts):
    """Opened twice at most, and what is left is closed."""
    repository.hub.faults.append(Fault("discussion", status=503, count=5, path=" POST"))
    repository.hub.faults.append(Fault("discussion", when="after", status=504, count=2, path=" POST"))

    repository.publish(settled)

    states = [status for _, status in repository.pull_requests()]
    assert states.count("merged") == 1
    assert set(states) <= {"merged", "closed"}


def test_a_manifest_of_a_newer_saereg_is_not_overwritten(repository, settled):
    """What it protects cannot be known."""
    raw = (settled / "manifest.json").read_text().replace('"schema_version": "1.0"', '"schema_version": "2.0"')
    repository.put({"manifest.json": raw})

    with pytest.raises(InvalidReleaseError, match=r"what is published cannot be judged.*upgrade saereg"):
        repository.publish(settled, no_tag=True)
    assert repository.read("manifest.json") == raw.encode()


def test_a_repository_that_somebody_made_public_meanwhile_is_not_used(repository, settled):
    """It was to be private; nothing is sent."""
    publisher = repository.publisher(private=True)
    plan = publisher.plan(settled, repository.report_of(settled))
    repository.api.create_repo(repository.name, private=False)

    with pytest.raises(ConflictError, match="is public, and it was to be private; nothing was sent"):
        publisher.apply(settled, plan)
    assert repository.tree() == {}


def test_a_card_that_was_edited_on_the_site_is_not_overwritten_unasked(repository, versions):
    """Neither by the same version nor by the next; `--existing replace` undoes the edit."""
    repository.publish(versions[0])
    card = repository.read("README.md").decode() + "\nMended on the site.\n"
    repository.put({"README.md": card})

    for root in versions:
        with pytest.raises(InvalidReleaseError, match=r"README\.md was edited at .* since the last publish"):
            repository.publish(root)
    assert repository.publish(versions[0], existing="skip").changed is False
    assert repository.read("README.md").decode() == card
    repository.publish(versions[1], existing="replace")
    assert repository.read("README.md") == (versions[1] / "README.md").read_bytes()


def test_a_version_with_a_tag_is_not_published_under_another_name(repository, release):
    """Neither without a tag nor with another one."""
    repository.publish(release)
    (release / "layer_1/topk/training.log").write_text("{}\n")
    from saereg.registry.build import build

    build(release)
    for wishes in ({"no_tag": True}, {"tag": "camera-ready"}, {"no_tag": True, "existing": "replace"}):
        with pytest.raises(InvalidReleaseError, match=r"version 1\.0\.0 is published already"):
            repository.publish(release, **wishes)
