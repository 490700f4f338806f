"""A published version is not overwritten unasked, a tag is never moved, what was said of a version is not lost."""

import json

import pytest

from saereg.errors import ConflictError, InvalidReleaseError, PublishError, UsageError
from saereg.publishers.hub import publisher as hub_publisher
from saereg.publishers.local_hub import Fault
from saereg.publishers.publisher import Wishes
from saereg.registry.build import build

MARK = {"version": "0.9.0", "kind": "yanked", "reason": "its labels were shuffled", "date": "2026-01-05"}


def alter(root, **more) -> None:
    """Change the card of a release, or fields of its manifest, and build it."""
    (root / "README.md").write_text((root / "README.md").read_text() + "\nAltered.\n")
    manifest = json.loads((root / "manifest.json").read_text())
    manifest["release"] |= {name: value for name, value in more.items() if name != "withdrawn"}
    manifest |= {"withdrawn": more["withdrawn"]} if "withdrawn" in more else {}
    (root / "manifest.json").write_text(json.dumps(manifest))
    build(root)


def test_a_published_version_with_other_content_is_refused(repository, release):
    """With what to do; nothing is sent."""
    tagged = repository.publish(release).hub.commit
    alter(release)

    with pytest.raises(InvalidReleaseError) as refused:
        repository.publish(release)

    assert str(refused.value) == (
        f"version 1.0.0 is published already (tag v1.0.0 at {tagged[:8]}), with other content: raise `version` of the "
        "manifest, then run saereg build; --existing skip leaves it alone; a tag is never moved"
    )
    assert refused.value.exit_code == 1
    assert repository.head() == tagged


def test_a_published_version_may_be_left_alone(repository, release):
    """`skip`: nothing is done, which is no error."""
    tagged = repository.publish(release).hub.commit
    alter(release)

    plan = repository.plan(release, existing="skip")
    receipt = repository.publish(release, existing="skip")

    assert plan.is_noop
    assert plan.hub.skips.startswith("version 1.0.0 is published already")
    assert (receipt.changed, receipt.hub.commit, receipt.added, receipt.bytes_written) == (False, tagged, 0, 0)
    assert repository.head() == tagged


def test_a_version_without_a_tag_may_be_replaced(repository, release):
    """`replace`: only what was asked for, and only where no tag says which commit the version is."""
    repository.publish(release, no_tag=True)
    alter(release)
    with pytest.raises(InvalidReleaseError, match="--existing replace puts yours in its place"):
        repository.publish(release, no_tag=True)

    replaced = repository.publish(release, existing="replace")

    assert repository.tags() == {"v1.0.0": replaced.hub.commit}
    alter(release)
    with pytest.raises(InvalidReleaseError, match="a tag is never moved"):
        repository.publish(release, existing="replace")
    assert repository.head() == replaced.hub.commit


def test_the_next_version_is_published_and_the_old_tag_stays(repository, versions):
    """Each version has its tag."""
    first = repository.publish(versions[0]).hub.commit
    second = repository.publish(versions[1]).hub.commit

    assert repository.tags() == {"v1.0.0": first, "v1.1.0": second}


def test_an_older_version_is_not_published_over_a_newer_one(repository, versions):
    """Not unasked: readers of main would go back."""
    newer = repository.publish(versions[1]).hub.commit
    with pytest.raises(InvalidReleaseError, match=r"holds version 1\.1\.0, which is newer than 1\.0\.0"):
        repository.publish(versions[0])
    assert not repository.publish(versions[0], existing="skip").changed
    assert repository.head() == newer

    on_a_branch = repository.publish(versions[0], branch="v1", existing="replace")

    assert (repository.head(), repository.tags()["v1.0.0"]) == (newer, on_a_branch.hub.commit)


def test_a_tag_that_holds_something_else_is_not_moved(repository, versions):
    """Neither that of a version, which somebody made by hand, nor one with another name."""
    somewhere = repository.put({"README.md": "# Soon\n"})
    repository.api.create_tag(repository.name, tag="best", revision=somewhere)

    with pytest.raises(InvalidReleaseError) as refused:
        repository.publish(versions[0], tag="best")

    assert str(refused.value) == (
        f"hf://{repository.name} has the tag best at {somewhere[:8]}, which holds something else, and a tag is never "
        "moved: choose another one with --tag, or none with --no-tag"
    )
    assert repository.head() == somewhere
    repository.api.create_tag(repository.name, tag="v1.0.0", revision=somewhere)
    with pytest.raises(
        InvalidReleaseError, match=rf"version 1\.0\.0 is published already \(tag v1.0.0 at {somewhere[:8]}"
    ):
        repository.publish(versions[0])


@pytest.mark.parametrize(
    ("wishes", "problem"),
    [
        ({"tag": "v2.0.0"}, "--tag v2.0.0: the manifest says version 1.0.0; change one of them"),
        ({"tag": "1.0.0"}, "--tag 1.0.0: the manifest says version 1.0.0; write v1.0.0"),
        ({"tag": "a b"}, "--tag 'a b' is no name for a tag; write it like v1.0.0"),
        ({"tag": "-x"}, "--tag '-x' is no name for a tag; write it like v1.0.0"),
        ({"tag": "v1.0.0", "no_tag": True}, "--tag v1.0.0 does not go with --no-tag"),
        (
            {"tag": "v1.0.0", "pull_request": True},
            "--tag v1.0.0 does not go with --pr: a tag is made once it is merged",
        ),
    ],
)
def test_tags_that_make_no_sense_are_refused(repository, settled, wishes, problem):
    """In one line, before anything is made."""
    with pytest.raises(UsageError) as refused:
        repository.publish(settled, **wishes)
    assert str(refused.value) == problem
    assert not repository.api.repo_exists(repository.name)


def test_a_run_that_ended_before_it_tagged_is_ended_by_the_next(repository, settled):
    """Nothing is sent again."""
    repository.hub.faults.append(Fault("tag", status=403))
    with pytest.raises(PublishError, match=r"cannot make the tag v1\.0\.0"):
        repository.publish(settled)
    assert repository.tags() == {}

    plan = repository.plan(settled)
    receipt = repository.publish(settled)

    assert (plan.is_noop, plan.hub.tag, plan.hub.tagged) == (True, "v1.0.0", None)
    assert (receipt.changed, receipt.hub.tag, receipt.hub.commits) == (False, "v1.0.0", 0)
    assert repository.tags() == {"v1.0.0": repository.head()}


def test_a_tag_whose_reply_is_lost_is_made_once(repository, settled):
    """What the repository says decides."""
    repository.hub.faults.append(Fault("tag", when="after", status=504))
    receipt = repository.publish(settled)
    assert receipt.hub.tag == "v1.0.0"
    assert receipt.hub.reconciled == 1
    assert repository.tags() == {"v1.0.0": repository.head()}


def test_somebody_who_takes_the_tag_meanwhile_keeps_it(repository, settled):
    """Nothing is published under a version that is another by now."""
    publisher = repository.publisher()
    plan = publisher.plan(settled, repository.report_of(settled))
    repository.api.create_repo(repository.name)
    repository.api.create_tag(repository.name, tag="v1.0.0")

    with pytest.raises(
        ConflictError, match=r"has had the tag v1\.0\.0 at [0-9a-f]{8} since the plan was made; nothing"
    ):
        publisher.apply(settled, plan)
    assert repository.tree() == {}


def test_no_tag_is_made_where_none_is_wanted(repository, settled):
    """`--no-tag`."""
    assert repository.publish(settled, no_tag=True).hub.tag is None
    assert repository.tags() == {}


def test_a_hub_without_tags_is_published_to_all_the_same(repository, settled):
    """The receipt says what is lost."""
    repository.hub.faults.append(Fault("refs", status=501, count=-1))
    receipt = repository.publish(settled)
    assert receipt.hub.tag is None
    assert any(line.startswith("no tags: ") for line in receipt.hub.lost)
    repository.hub.faults.clear()
    assert repository.tags() == {}


def test_marks_of_withdrawal_are_not_lost(repository, release, next_release):
    """What was said of a version on the Hub must be in the next one too."""
    alter(release, withdrawn=[MARK])
    head = repository.publish(release).hub.commit

    with pytest.raises(InvalidReleaseError) as refused:
        repository.publish(next_release)

    assert str(refused.value) == (
        f"hf://{repository.name} says that 0.9.0 is yanked, and this manifest does not; set the same in your folder:\n"
        "  saereg yank FOLDER 0.9.0 --reason 'its labels were shuffled'"
    )
    assert repository.head() == head
    alter(next_release, withdrawn=[MARK])
    assert repository.publish(next_release).hub.tag == "v1.1.0"


def test_a_mark_alone_is_no_new_version(repository, release):
    """It is published over the version that it is of, whose tag stays where it is."""
    tagged = repository.publish(release).hub.commit
    manifest = json.loads((release / "manifest.json").read_text()) | {"withdrawn": [MARK | {"version": "1.0.0"}]}
    (release / "manifest.json").write_text(json.dumps(manifest))
    build(release)

    receipt = repository.publish(release)
    assert not repository.publish(release).changed
    (release / "NOTICE.md").write_text("new\n")
    build(release)
    with pytest.raises(InvalidReleaseError, match="is published already"):
        repository.publish(release)

    assert (receipt.hub.tag, receipt.replaced) == (None, 3)
    assert repository.tags() == {"v1.0.0": tagged}


def test_wishes_that_contradict_each_other_are_refused():
    """Before anything is asked."""
    with pytest.raises(UsageError, match="--pr makes no tag anyway"):
        hub_publisher.open_target("//org/name", Wishes(pull_request=True, no_tag=True))
    with pytest.raises(UsageError, match="name two branches"):
        hub_publisher.open_target("//org/name@next", Wishes(branch="other"))
