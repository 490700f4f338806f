"""What a plan for a repository says: made by reading alone, and done only while all is as it says."""

import json
import shutil

import jsonschema
import pytest
from huggingface_hub import CommitOperationAdd

from saereg.errors import ConflictError, InvalidReleaseError, PublishError, UsageError
from saereg.publishers import publisher_of
from saereg.publishers.hub.publisher import HubPublisher
from saereg.publishers.hub.target import HubTarget
from saereg.publishers.local_hub import Fault
from saereg.registry.validators.runner import validate
from saereg.schemas.export import schema
from saereg.schemas.plan import Plan

CROSSCODER = {f"W_U/cross-snapshot-2/{name}" for name in ("cfg.json", "golden.safetensors", "weights.safetensors")}


def actions(plan: Plan) -> dict[str, str]:
    """Return path → what happens to it."""
    return {one.path: one.action for one in plan.operations}


def test_a_plan_for_what_is_not_there_adds_everything(repository, settled):
    """It names no base, and says that the repository is made; nothing is made, and no right to write is needed."""
    plan = repository.plan(settled, private=True)

    assert set(actions(plan).values()) == {"add"}
    assert plan.base is None
    assert (plan.hub.creates, plan.hub.private, plan.hub.branch, plan.hub.tag) == ("repository", True, "main", "v1.0.0")
    assert (plan.hub.mode, plan.hub.commits) == ("one_commit", 1)
    assert plan.hub.upload_bytes == sum(one.size for one in plan.operations)
    assert {one.method for one in repository.hub.requests} == {"GET"}
    assert not repository.api.repo_exists(repository.name)


def test_a_report_that_is_too_shallow_is_refused_before_anything_is_asked(repository, settled, release):
    """Of a repository the weights are wanted; and a release with errors is refused though no Hub can be reached."""
    with pytest.raises(InvalidReleaseError, match="a repository wants level weights; nothing was published"):
        repository.publisher().plan(settled, validate(settled, "header"))
    assert repository.publisher(at_least="header").plan(settled, validate(settled, "header")).hub
    repository.asked()
    (release / "layer_1/topk/cfg.json").unlink()
    with pytest.raises(InvalidReleaseError, match="nothing was published"):
        repository.plan(release)
    assert repository.asked() == []


def test_every_difference_has_its_operation(repository, versions):
    """Files that only the repository has stay, unless their removal is asked for."""
    repository.publish(versions[0])
    repository.put({"NOTES.md": "of somebody", "assets/logo.png": b"png"})

    kept = repository.plan(versions[1])
    removed = repository.plan(versions[1], delete_unknown=True)

    found = actions(kept)
    assert found["NOTICE.md"] == "add"
    assert found["README.md"] == found["manifest.json"] == found["index.json"] == "change"
    assert found["layer_1/topk/sae_weights.safetensors"] == found["config.json"] == "same"
    only_there = CROSSCODER | {"NOTES.md", "assets/logo.png"}
    assert {path for path, action in found.items() if action == "keep"} == only_there
    assert {path for path, action in actions(removed).items() if action == "remove"} == only_there
    assert kept.base == removed.base == repository.head()
    assert ".gitattributes" not in found
    assert kept.hub.upload_bytes == sum(one.size for one in kept.operations if one.action in ("add", "change"))


def test_a_file_that_was_changed_by_hand_is_put_back(repository, settled):
    """Whatever was done on the site, the branch holds the release that was validated, or the plan says what differs."""
    repository.publish(settled, no_tag=True)
    repository.put({"README.md": "---\nlicense: mit\n---\n# Mended on the site\n", "config.json": None})

    plan = repository.plan(settled, existing="replace")

    assert {path: action for path, action in actions(plan).items() if action != "same"} == {
        "README.md": "change",
        "config.json": "add",
    }


def test_a_plan_is_a_document(repository, settled):
    """It fits its schema, and text → value → text is the identity."""
    plan = repository.plan(settled, pull_request=True)

    jsonschema.validate(json.loads(plan.text()), json.loads(schema("plan")))
    assert Plan.from_text(plan.text()) == plan
    assert Plan.from_text(plan.text()).digest == plan.digest


def test_a_written_plan_is_done_as_it_stands(repository, settled):
    """By another process, later, from its text alone."""
    plan = Plan.from_text(repository.plan(settled).text())

    receipt = repository.apply(settled, plan)

    assert receipt.hub.commit == repository.head()
    assert repository.tree() == {one.path: one.size for one in plan.operations}


def test_a_plan_that_was_done_already_is_not_done_again(repository, versions):
    """As after a kill, or when a job is run once more: one commit, and the tag that was missing."""
    for root in versions:
        plan = repository.plan(root)
        repository.hub.faults.append(Fault("tag", status=403))
        with pytest.raises(PublishError, match="cannot make the tag"):
            repository.apply(root, plan)
        head = repository.head()

        again = repository.apply(root, plan)

        assert (again.changed, again.hub.commit, again.hub.tag) == (False, head, plan.hub.tag)
        assert repository.tags()[plan.hub.tag] == repository.head() == head


def test_a_plan_is_refused_when_the_branch_moved(repository, versions):
    """The line says from where to where, and which files differ; nothing is published."""
    first = repository.publish(versions[0]).hub.commit
    plan = repository.plan(versions[1])
    moved = repository.put({"NOTES.md": "of somebody", "NOTICE.md": "of somebody"})

    with pytest.raises(ConflictError) as refused:
        repository.apply(versions[1], plan)

    assert str(refused.value).splitlines() == [
        f"hf://{repository.name} has moved from {first[:8]} to {moved[:8]} since the plan was made; 1 of the files "
        "that differ are yours too, first NOTICE.md; nothing of yours was published; look at it and publish again: "
        "the plan is made anew",
        "  + NOTES.md",
        "  + NOTICE.md",
    ]
    assert refused.value.exit_code == 4
    assert repository.head() == moved


def test_a_plan_for_a_new_repository_is_refused_when_somebody_made_it(repository, settled):
    """What is there now was not planned for."""
    plan = repository.plan(settled)
    repository.api.create_repo(repository.name)
    repository.put({"train.py": "print()"})

    with pytest.raises(ConflictError, match="was made by somebody else meanwhile, and holds 1 file"):
        repository.apply(settled, plan)
    assert set(repository.tree()) == {"train.py"}


def test_a_plan_is_refused_for_another_target(repository, settled):
    """Another repository, another branch, another Hub, a folder."""
    plan, hub = repository.plan(settled), repository.hub.url
    others = (
        (HubTarget("org/other", endpoint=hub), f"the plan is for hf://{repository.name}, not for hf://org/other"),
        (HubTarget(repository.name, "next", hub), f"the plan is for hf://{repository.name}, not for "),
        (HubTarget(repository.name, endpoint="http://127.0.0.1:9"), f"the plan is for {hub}, and HF_ENDPOINT is http"),
    )
    for target, problem in others:
        with pytest.raises(UsageError, match=problem):
            HubPublisher(target).renew(settled, repository.report_of(settled), plan)
    assert not repository.api.repo_exists(repository.name)


def test_a_plan_for_a_folder_is_none_for_a_repository(repository, settled, tmp_path):
    """Nor the other way round."""
    for_folder = publisher_of(f"dir:{tmp_path / 'out'}").plan(settled, repository.report_of(settled))
    with pytest.raises(UsageError, match="the plan is for dir:"):
        repository.publisher().renew(settled, repository.report_of(settled), for_folder)
    with pytest.raises(UsageError, match="the plan is for hf://"):
        publisher_of(f"dir:{tmp_path / 'out'}").renew(settled, repository.report_of(settled), repository.plan(settled))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_a_plan_is_refused_for_a_release_that_changed(repository, release, name):
    """One space more in a document: what was validated is no longer what would be sent."""
    publisher = repository.publisher()
    plan = publisher.plan(release, repository.report_of(release))
    path = release / name
    path.write_text(path.read_text() + " ")

    with pytest.raises(PublishError, match=f"{name} is not the one that was planned; plan again"):
        publisher.apply(release, plan)
    with pytest.raises((PublishError, InvalidReleaseError)):
        repository.redo(release, plan)
    path.unlink()
    with pytest.raises(PublishError, match=f"holds no {name}: the plan is for another release"):
        publisher.apply(release, plan)
    assert not repository.api.repo_exists(repository.name)


def test_a_plan_of_another_release_is_refused(repository, versions):
    """Both are valid; the plan is for one of them."""
    plan = repository.plan(versions[0])

    with pytest.raises(PublishError, match=r"is not the release that was planned; plan again"):
        repository.redo(versions[1], plan)


def test_a_file_that_changed_since_the_plan_is_not_sent(repository, release):
    """Not even when its size and its times are those of before."""
    publisher, path = repository.publisher(), release / "layer_1/topk/sae_weights.safetensors"
    plan = publisher.plan(release, repository.report_of(release))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    with pytest.raises(PublishError, match=f"{path.relative_to(release)} has changed since the plan was made. Run"):
        publisher.apply(release, plan)
    path.unlink()
    with pytest.raises(PublishError, match=r"is gone since the plan was made\. Run saereg build"):
        publisher.apply(release, plan)
    assert repository.tree() == {}


def test_only_the_plan_that_was_made_is_applied(repository, settled, versions):
    """Another one may be old, or altered: it is made anew first."""
    publisher = repository.publisher()
    old = publisher.plan(settled, repository.report_of(settled))
    publisher.plan(versions[1], repository.report_of(versions[1]))

    with pytest.raises(UsageError, match="apply takes the plan that this publisher has just made"):
        publisher.apply(settled, old)


@pytest.mark.parametrize(
    "edit",
    [
        lambda plan: plan["operations"].pop(0),
        lambda plan: plan["operations"].append({"action": "add", "path": "payload.txt", "size": 3, "sha256": "0" * 64}),
        lambda plan: plan["operations"].append({"action": "remove", "path": "LICENSE", "size": 3, "sha256": None}),
        lambda plan: plan["operations"][0].update(sha256="0" * 64),
        lambda plan: plan["operations"][0].update(action="same"),
        lambda plan: plan["hub"].update(tag="v9.9.9"),
        lambda plan: plan.update(release_digest="0" * 64),
        lambda plan: plan["hub"].update(skips="nothing to see here"),
    ],
    ids=["file left out", "file more", "removal", "digest", "said to be there", "tag", "release", "skipped"],
)
def test_a_plan_that_was_edited_is_refused(repository, release, edit):
    """A plan is no place to say what is published: the release is. Nothing is sent."""
    (release / "payload.txt").write_bytes(b"abc")
    raw = json.loads(repository.plan(release).text())
    edit(raw)
    plan = Plan.from_text(json.dumps(raw))

    with pytest.raises((PublishError, UsageError, InvalidReleaseError)):
        repository.apply(release, plan)
    assert not repository.api.repo_exists(repository.name) or repository.tree() == {}


def test_the_base_is_looked_at_once(repository, settled):
    """Tree, tags and documents are read at the commit that the plan names, whatever happens to the branch meanwhile."""
    repository.publish(settled)
    repository.asked()

    plan = repository.plan(settled)

    asked = [request.path for request in repository.hub.requests]
    assert [path.rpartition("/")[2] for path in asked if "/tree/" in path] == [plan.base]
    assert sum("/revision/" in path for path in asked) == 1


def test_two_releases_of_one_name_in_two_folders_are_one(repository, settled, tmp_path):
    """Where it lies does not matter; a plan is done from any copy of the release."""
    plan = repository.plan(settled)
    shutil.copytree(settled, tmp_path / "copy")

    repository.apply(tmp_path / "copy", plan)

    assert repository.plan(settled).is_noop


def test_a_plan_counts_files_that_differ_only_in_place(repository, settled):
    """A file whose bytes are in the repository under another name is still one to add: trees are compared by path."""
    repository.api.create_repo(repository.name)
    weights = settled / "layer_1/topk/sae_weights.safetensors"
    repository.api.create_commit(
        repository.name, [CommitOperationAdd("elsewhere.safetensors", weights)], commit_message="elsewhere"
    )
    found = actions(repository.plan(settled))
    assert found["layer_1/topk/sae_weights.safetensors"] == "add"
    assert found["elsewhere.safetensors"] == "keep"
