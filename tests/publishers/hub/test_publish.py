"""Publishing to a repository: what it holds afterwards, what it cost, and what is left alone."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import get_session

from saereg.errors import ConflictError, InvalidReleaseError, PublishError, UsageError
from saereg.publishers.hub import planning
from saereg.publishers.hub.publisher import HubPublisher
from saereg.publishers.hub.target import HubTarget
from saereg.publishers.local_hub import Fault
from saereg.publishers.publisher import Wishes
from saereg.registry.build import build
from saereg.registry.files.digest_cache import Digests
from saereg.schemas.index import Index
from saereg.schemas.plan import Receipt

NAMED = ("manifest.json", "index.json")


def files_of(root) -> dict[str, bytes]:
    """Return path → bytes of what a release publishes."""
    paths = [*NAMED, *(file.path for file in Index.read(root / "index.json").all_files())]
    return {path: (root / path).read_bytes() for path in paths}


def test_the_repository_holds_the_release_byte_for_byte(repository, settled):
    """In one commit on top of the one that made it, tagged with the version."""
    receipt = repository.publish(settled)

    wanted = files_of(settled)
    assert repository.tree() == {path: len(content) for path, content in wanted.items()}
    assert {path: repository.read(path) for path in wanted} == wanted
    title, first = repository.history()
    assert title.startswith("Publish tiny-saes 1.0.0 [")
    assert first == "initial commit"
    assert repository.tags() == {"v1.0.0": repository.head()}
    assert (receipt.hub.commit, receipt.hub.tag, receipt.hub.waits) == (repository.head(), "v1.0.0", False)


def test_a_receipt_says_what_was_done(repository, versions):
    """Digests of every file, counts, bytes, requests; its text is a document."""
    first = repository.publish(versions[0])
    asked = len(repository.asked())
    second = repository.publish(versions[1], delete_unknown=True)

    assert Receipt.from_text(second.text()) == second
    wanted = files_of(versions[1])
    assert {one.path: one.sha256 for one in second.files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in wanted.items()
    }
    assert (first.added, first.replaced, first.removed) == (len(files_of(versions[0])), 0, 0)
    assert (second.added, second.replaced, second.removed) == (1, 3, 3)
    changed = ("NOTICE.md", "README.md", "manifest.json", "index.json")
    assert second.bytes_written == sum(len(wanted[path]) for path in changed)
    assert (second.base, second.result) == (first.hub.commit, repository.head())
    assert (first.hub.requests, first.hub.retries, first.hub.reconciled) == (asked, 0, 0)
    assert first.hub.url == f"{repository.hub.url}/{repository.name}/commit/{first.hub.commit}"


def test_a_second_publish_asks_three_times_and_reads_no_file(repository, settled, monkeypatch):
    """There is nothing to do, and that is soon known."""
    repository.publish(settled)
    repository.plan(settled)
    repository.asked()
    read = []
    hashed = Digests._hashed
    monkeypatch.setattr(Digests, "_hashed", lambda self, path, git: read.append(path) or hashed(self, path, git))

    again = repository.publish(settled)

    assert sorted(repository.asked()) == ["info", "refs", "tree"]
    assert read == []
    assert (again.changed, again.hub.commit, again.hub.tag) == (False, repository.head(), "v1.0.0")
    assert (again.hub.requests, again.hub.commits, again.added, again.bytes_written) == (3, 0, 0, 0)
    assert len(repository.history()) == 2


def test_what_somebody_added_stays(repository, versions):
    """Also in the next version; it goes only when that is asked for, and never .gitattributes."""
    repository.publish(versions[0])
    repository.put({"assets/plot.png": b"png", "notes.ipynb": "{}"})

    kept = repository.publish(versions[1])
    assert repository.read("assets/plot.png") == b"png"
    assert kept.removed == 0

    gone = repository.publish(versions[1], delete_unknown=True)
    assert gone.removed == 5
    assert set(repository.tree()) == set(files_of(versions[1]))
    assert repository.read(".gitattributes")
    assert len(repository.history()) == 5


def test_a_tagged_version_is_put_right_without_its_tag_being_moved(repository, settled):
    """The tag holds the same files; the new commit has none."""
    tagged = repository.publish(settled).hub.commit
    repository.put({"README.md": "# Vandalised\n", "config.json": None})

    receipt = repository.publish(settled, existing="replace")

    assert (receipt.replaced, receipt.added, receipt.hub.tag) == (1, 1, None)
    assert repository.read("README.md") == (settled / "README.md").read_bytes()
    assert repository.tags() == {"v1.0.0": tagged}
    again = repository.publish(settled)
    assert (again.changed, again.hub.commit, again.hub.tag) == (False, receipt.hub.commit, "v1.0.0")


def test_a_repository_with_a_card_alone_gets_the_release(repository, settled):
    """As when it was made on the site: the card is that of the release, other files stay."""
    repository.put({"README.md": "---\nlicense: mit\n---\n# Soon\n", "LICENSE": "MIT"})

    receipt = repository.publish(settled)

    assert (receipt.replaced, receipt.removed) == (1, 0)
    assert repository.read("README.md") == (settled / "README.md").read_bytes()
    assert repository.read("LICENSE") == b"MIT"


def test_a_repository_of_another_release_is_refused(repository, versions, tmp_path):
    """What is published there stays; a manifest that cannot be read is replaced where that is asked for."""
    other = tmp_path / "other"
    other.mkdir()
    text = (versions[0] / "manifest.json").read_text()
    repository.put({"manifest.json": text.replace("tiny-saes", "great-saes")})
    with pytest.raises(UsageError, match="holds the release 'great-saes', not 'tiny-saes'; choose another repository"):
        repository.publish(versions[0])

    repository.put({"manifest.json": '{"manifest_version": 3, "name": "an extension of a browser"}'})
    with pytest.raises(InvalidReleaseError, match="cannot be judged"):
        repository.publish(versions[0])
    assert repository.publish(versions[0], existing="replace").replaced == 1


@pytest.mark.parametrize("name", ["notes.txt", ".env", "layer_1/topk/optimizer.bin", "layer_1/.cache/x"])
def test_what_manifest_and_index_do_not_name_is_not_sent(repository, release, name):
    """Whether it is a finding or not, and whether it is an error."""
    (release / name).parent.mkdir(exist_ok=True)
    (release / name).write_bytes(b"\x80\x04K\x01.")
    if repository.report_of(release).errors:
        with pytest.raises(InvalidReleaseError, match="nothing was published"):
            repository.publish(release)
        assert not repository.api.repo_exists(repository.name)
    else:
        repository.publish(release)
        assert set(repository.tree()) == set(files_of(release))


def test_a_pickle_keeps_a_release_from_being_published(repository, release):
    """Also one that the index names."""
    (release / "layer_1/topk/ae.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(InvalidReleaseError, match="SR0"):
        repository.publish(release)
    build(release)
    with pytest.raises(InvalidReleaseError, match="SR0"):
        repository.publish(release)
    assert not repository.api.repo_exists(repository.name)


def test_a_gitignore_on_the_hub_hides_nothing(repository, settled):
    """The Hub client by itself leaves out, without a word, what a .gitignore that lies in the repository names."""
    repository.put({".gitignore": "*.safetensors\n/evaluation\nmanifest.json\n"})

    repository.publish(settled)

    assert set(files_of(settled)) <= set(repository.tree())


def test_files_that_the_hub_ignores_all_the_same_are_missed(repository, settled):
    """It says so of one file; without it the release would not be whole, so nothing is committed."""
    repository.hub.faults.append(Fault("preupload", status=0, count=-1, ignore="golden"))

    with pytest.raises(PublishError, match=r"golden"):
        repository.publish(settled)

    assert repository.tree() == {}
    assert repository.tags() == {}


def test_a_new_repository_is_public_unless_it_is_to_be_private(repository, settled):
    """And one that is there stays what it is."""
    repository.publish(settled, private=True)
    assert repository.api.repo_info(repository.name).private

    repository.publish(settled)
    assert repository.api.repo_info(repository.name).private


def test_a_branch_is_made_where_it_is_not_there(repository, versions):
    """From main; main stays where it is, and readers of it see nothing of the new version."""
    repository.publish(versions[0])
    main = repository.head()

    receipt = repository.publish(versions[1], branch="next")

    assert (receipt.hub.branch, repository.head("next"), repository.head()) == ("next", receipt.hub.commit, main)
    assert receipt.base == main
    assert repository.tags() == {"v1.0.0": main, "v1.1.0": repository.head("next")}
    assert not repository.publish(versions[1], branch="next").changed


def test_a_branch_of_a_repository_that_is_not_there(repository, settled):
    """The repository is made with it; what is on main is what every new repository has."""
    receipt = repository.publish(settled, branch="v2")

    assert set(repository.tree("v2")) == set(files_of(settled))
    assert repository.tree() == {}
    assert receipt.hub.commit == repository.head("v2")


def test_a_file_that_changed_since_it_was_validated_is_not_sent(repository, release):
    """The index vouches for other bytes."""
    publisher = repository.publisher()
    plan = publisher.plan(release, repository.report_of(release))
    path = release / "evaluation/layer-1.safetensors"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(PublishError, match=r"evaluation/layer-1\.safetensors has changed since the plan was made"):
        publisher.apply(release, plan)
    assert repository.tree() == {}


def test_a_card_that_the_hub_refuses_is_refused_before_anything_is_sent(repository, release):
    """Hours of sending are not lost to a colon."""
    repository.hub.faults.append(Fault("yaml", status=400, message='"license" must be one of [mit]'))

    with pytest.raises(PublishError, match=r"README\.md: the Hub refuses its metadata: "):
        repository.publish(release)

    assert {"preupload", "batch", "put", "commit"}.isdisjoint(repository.asked())
    assert repository.tree() == {}


def test_names_and_sizes_that_are_hard(repository, release):
    """Letters of other alphabets, signs that URLs know, a very long path, an empty file, the same bytes twice."""
    hard = {
        "notes/Überblick–概要.md": "x\n",
        "notes/it's+so,(x)=~@!.md": "y\n",
        "notes/empty.md": "",
        "notes/twice.md": "same\n",
        "notes/twice-again.md": "same\n",
        "/".join(["deep" * 12] * 10) + "/end.md": "deep\n",
    }
    for path, text in hard.items():
        (release / path).parent.mkdir(parents=True, exist_ok=True)
        (release / path).write_text(text)
    build(release)
    named = {file.path for file in Index.read(release / "index.json").all_files()}

    receipt = repository.publish(release)

    assert set(hard) <= named
    assert set(repository.tree()) == named | set(NAMED)
    assert {path: repository.read(path).decode() for path in hard} == hard
    assert not repository.publish(release).changed
    assert receipt.added == len(named) + 2


def test_names_that_no_hub_takes_are_refused_beforehand(repository, release):
    """Before anything is made or sent."""
    (release / "evaluation/.git").mkdir()
    (release / "evaluation/.git/config.md").write_text("x")
    build(release)
    named = {file.path for file in Index.read(release / "index.json").all_files()}
    assert not any(".git/" in path for path in named)
    repository.publish(release)


def test_a_repository_may_be_there_and_empty(repository, settled):
    """As when a publish was killed, or refused, just after it was made."""
    repository.api.create_repo(repository.name)
    receipt = repository.publish(settled)
    assert receipt.base is not None
    assert receipt.added == len(files_of(settled))


def test_two_publishers_of_one_plan_make_one_commit(repository, settled):
    """Whoever comes second finds it done, or is told of a conflict or of the other one."""
    plan = repository.plan(settled)

    def publish(_) -> str:
        try:
            return repository.apply(settled, plan).hub.commit
        except (ConflictError, PublishError) as refused:
            return str(refused)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(publish, range(2)))

    assert repository.head() in found
    assert len(repository.history()) == 2
    assert not repository.publish(settled).changed


def test_a_hub_that_enforces_the_lock_is_not_asked_for_the_history(repository, settled, monkeypatch):
    """huggingface.co is known to do so, and to have all the rest: it is not asked what it can do either."""
    from saereg.publishers.hub import capabilities

    monkeypatch.setitem(capabilities.KNOWN, repository.hub.url, capabilities.Capabilities(xet=False))

    receipt = repository.publish(settled)

    asked = repository.asked()
    assert {"commits", "discussion"}.isdisjoint(asked)
    assert len(receipt.hub.lost) == 1


def test_a_hub_that_does_not_say_what_it_is_gives_a_line(repository, settled):
    """As behind a page where one logs in to a network."""
    publisher = HubPublisher(HubTarget(repository.name, endpoint="http://127.0.0.1:9"), Wishes())
    with pytest.raises(PublishError, match="the Hub cannot be reached"):
        publisher.plan(settled, repository.report_of(settled))


def test_the_mode_is_one_commit_up_to_the_size_of_a_part():
    """Two hundred files."""
    assert planning.ONE_COMMIT == 200


def test_publishes_in_several_threads_leave_nothing_behind_in_the_hub_client(repository, settled):
    """What limits their requests is taken away with each, in whatever order they end: it is not for those of others."""
    before = get_session().event_hooks

    def look(_: int) -> None:
        assert repository.publisher().client.head("main") is None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(24)))

    assert get_session().event_hooks == before
