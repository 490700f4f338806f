"""Publishing to a folder: all or nothing, once, and only where it may."""

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import jsonschema
import pytest

import saereg
from saereg.errors import PublishError, UnknownNameError, UsageError
from saereg.publishers import folder as module
from saereg.publishers import publisher_of
from saereg.publishers.folder import FolderPublisher
from saereg.registry.files.atomic import exclusive
from saereg.registry.validators.runner import validate
from saereg.schemas.export import schema


def publish(root: Path, target: Path, **options: bool):
    """Validate, plan and apply."""
    publisher = FolderPublisher(target, **options)
    return publisher.apply(root, publisher.plan(root, validate(root, "header")))


def contents(folder: Path) -> dict[str, str]:
    """Return path → sha256 of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def identities(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return path → (inode, mtime, ctime) of every entry below a folder, and of the folder."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.stat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    return found


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder to publish into, with nothing else in it."""
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


@pytest.fixture
def target(site) -> Path:
    """Where releases are published to; it does not exist yet."""
    return site / "out"


def test_what_is_published_is_the_release_and_validates(release, target):
    """Every byte, and the receipt says the digests that are on disk."""
    receipt = publish(release, target)
    assert contents(target) == contents(release)
    assert {file.path: file.sha256 for file in receipt.files} == contents(target)
    assert (receipt.changed, receipt.added, receipt.replaced, receipt.removed) == (True, 18, 0, 0)
    assert receipt.bytes_written == sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    assert validate(target, "weights").findings == ()


def test_missing_parents_are_made(release, tmp_path):
    """Like `mkdir -p`."""
    publish(release, tmp_path / "a/b/out")
    assert os.listdir(tmp_path / "a/b") == ["out"]


def test_an_empty_folder_is_filled(release, target):
    """As if it were not there."""
    target.mkdir()
    assert publish(release, target).base is not None
    assert contents(target) == contents(release)


def test_a_second_run_changes_nothing_at_all(release, target, site):
    """No inode, no time, not even of the folder that the target stands in."""
    first = publish(release, target)
    before = identities(site)
    second = publish(release, target)
    assert identities(site) == before
    assert (second.changed, second.bytes_written, second.added) == (False, 0, 0)
    assert second.result == second.base == first.result


def test_applying_a_plan_without_work_twice_is_allowed(release, target):
    """Its base is still what the target holds."""
    publish(release, target)
    publisher = FolderPublisher(target)
    plan = publisher.plan(release, validate(release, "header"))
    assert plan.is_noop
    assert publisher.apply(release, plan).result == publisher.apply(release, plan).result


def test_a_new_version_replaces_the_old_one(release, next_release, target, site):
    """Added, replaced and removed are counted; nothing is left beside the target."""
    publish(release, target)
    receipt = publish(next_release, target, delete_unknown=True)
    assert contents(target) == contents(next_release)
    assert (receipt.added, receipt.replaced, receipt.removed) == (1, 3, 3)
    assert os.listdir(site) == ["out"]
    assert not (target / "W_U").exists()


def test_unchanged_files_are_linked_not_copied(release, next_release, target):
    """The same inode; and the source's own files are never shared with the target."""
    publish(release, target)
    path = "layer_1/topk/sae_weights.safetensors"
    inode = (target / path).stat().st_ino
    publish(next_release, target, delete_unknown=True)
    assert (target / path).stat().st_ino == inode
    assert (target / path).stat().st_nlink == 1
    assert (next_release / path).stat().st_ino != inode


def test_a_file_system_without_hard_links_gets_copies(release, next_release, target, monkeypatch):
    """Unchanged files then come from the release."""
    publish(release, target)
    monkeypatch.setattr(os, "link", _refuse)
    publish(next_release, target, delete_unknown=True)
    assert contents(target) == contents(next_release)


def _refuse(*_):
    raise OSError("not supported")


def test_a_system_that_cannot_exchange_folders_renames_them(release, next_release, target, site, monkeypatch):
    """Two renames; nothing is left over."""
    publish(release, target)
    monkeypatch.setattr(module, "_exchange_in_one_call", lambda one, other: False)
    publish(next_release, target, delete_unknown=True)
    assert contents(target) == contents(next_release)
    assert os.listdir(site) == ["out"]


def test_a_failed_second_rename_brings_the_old_release_back(release, next_release, target, site, monkeypatch):
    """The target is never left without a release by an error."""
    publish(release, target)
    monkeypatch.setattr(module, "_exchange_in_one_call", lambda one, other: False)
    rename = Path.rename

    def fail(self, other):
        if self.name == ".out.staging":
            raise OSError(28, "No space left on device")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space left"):
        publish(next_release, target, delete_unknown=True)
    assert contents(target) == contents(release)
    assert os.listdir(site) == ["out"]


def test_a_kill_between_two_renames_is_mended_by_the_next_run(release, next_release, target, site):
    """The old release is put back first, then everything goes on."""
    publish(release, target)
    target.rename(site / ".out.old")
    shutil.copytree(next_release, site / ".out.staging")
    with pytest.raises(PublishError, match="has changed since the plan was made"):
        publish(next_release, target, delete_unknown=True)
    assert contents(target) == contents(release)
    publish(next_release, target, delete_unknown=True)
    assert contents(target) == contents(next_release)
    assert os.listdir(site) == ["out"]


@pytest.mark.parametrize("noop", [False, True])
def test_what_a_killed_run_left_is_removed_by_the_next(release, target, site, noop):
    """Also by one that has nothing else to do."""
    if noop:
        publish(release, target)
    (site / ".out.staging/layer_1").mkdir(parents=True)
    (site / ".out.staging/layer_1/half").write_text("half")
    publish(release, target)
    assert os.listdir(site) == ["out"]


def test_without_locks_a_strangers_staging_folder_is_left_alone(release, target, site, monkeypatch):
    """It may belong to a publish that is under way."""
    import fcntl

    def no_lock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    publish(release, target)
    (site / ".out.staging").mkdir()
    with pytest.raises(PublishError) as refused:
        publish(release, target)
    staging = site / ".out.staging"
    assert str(refused.value) == f"{staging} is there: another publish is under way, or was killed; if so, remove it"
    assert staging.exists()


def test_the_lock_says_whether_it_is_held(tmp_path):
    """And is gone with the block."""
    for _ in range(2):
        with exclusive(tmp_path) as held:
            assert held
    assert os.listdir(tmp_path) == []


def test_files_that_only_the_target_has_are_not_removed_unasked(release, target):
    """They are named, and nothing happens; with leave they go."""
    publish(release, target)
    (target / "mine.txt").write_text("mine")
    with pytest.raises(UsageError) as refused:
        publish(release, target)
    expected = (
        f"{target} holds a file that the release does not: mine.txt; move that away, or allow its removal with "
        "--delete-remote-only"
    )
    assert str(refused.value) == expected
    assert (target / "mine.txt").read_text() == "mine"
    assert publish(release, target, delete_unknown=True).removed == 1
    assert contents(target) == contents(release)


@pytest.mark.parametrize("path", [".cache/x", "__pycache__/x", ".DS_Store", "layer_1/.gitattributes"])
def test_hidden_files_are_not_removed_unasked_either(release, next_release, target, path):
    """Validation passes over them; an exchange of folders would not."""
    publish(release, target)
    (target / path).parent.mkdir(exist_ok=True)
    (target / path).write_text("x")
    publish(release, target)  # nothing to do, so nothing would be lost
    with pytest.raises(UsageError, match=f"holds 4 files that the release does not: .*{re.escape(path)}"):
        publish(next_release, target)
    assert (target / path).exists()


def test_a_link_at_the_target_is_not_removed_unasked(release, target, tmp_path):
    """To a folder or to a file; and what it leads to is never touched."""
    publish(release, target)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_text("kept")
    (target / "link").symlink_to(tmp_path / "elsewhere")
    (release / "README.md").write_text("# other\n")
    saereg.registry.build.build(release)
    with pytest.raises(UsageError, match="holds a file that the release does not: link"):
        publish(release, target)
    publish(release, target, delete_unknown=True)
    assert (tmp_path / "elsewhere/kept").read_text() == "kept"
    assert not (target / "link").exists()


@pytest.mark.parametrize("delete_unknown", [False, True])
def test_a_git_repository_is_never_replaced(release, next_release, target, delete_unknown):
    """Its history would be gone."""
    publish(release, target)
    (target / ".git").mkdir()
    (target / ".git/HEAD").write_text("ref: refs/heads/main\n")
    with pytest.raises(UsageError) as refused:
        publish(next_release, target, delete_unknown=delete_unknown)
    expected = f"{target} is a git repository, which a publish would remove; choose another folder"
    assert str(refused.value) == expected
    assert (target / ".git/HEAD").exists()


def test_target_and_source_may_not_lie_inside_each_other(release):
    """In either direction, also through links, also equal."""
    link = release.parent / "link"
    link.symlink_to(release)
    for place in (release, release / "out", release.parent, link / "out", release / "../release/x"):
        with pytest.raises(UsageError, match="lie inside each other; choose another target"):
            publish(release, place)
    assert validate(release, "weights").findings == ()


@pytest.mark.parametrize("place", ["/", "..", "some/.."])
def test_a_target_without_a_name_of_its_own_is_refused(release, place):
    """It could not be exchanged with another folder."""
    with pytest.raises(UsageError) as caught:
        publish(release, place)

    assert str(caught.value) == f"{place} cannot be replaced; name the folder of the release itself"


def test_a_target_that_is_no_folder_is_refused(release, target, tmp_path):
    """Neither a file nor a link to a folder is replaced."""
    target.write_text("x")
    with pytest.raises(UsageError) as refused:
        publish(release, target)
    assert str(refused.value) == f"{target} is no folder; choose another target"
    target.unlink()
    (tmp_path / "real").mkdir()
    target.symlink_to(tmp_path / "real")
    with pytest.raises(UsageError) as refused:
        publish(release, target)
    assert str(refused.value) == f"{target} is a symbolic link; name the folder that it leads to, {tmp_path / 'real'}"
    target.unlink()
    target.symlink_to(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is a symbolic link"):
        publish(release, target)


def test_a_folder_that_holds_something_else_is_refused(release, target):
    """Photographs, or another release; never replaced, not even with leave to remove files."""
    target.mkdir()
    (target / "photo.jpg").write_text("x")
    with pytest.raises(UsageError) as refused:
        publish(release, target, delete_unknown=True)
    assert str(refused.value) == f"{target} holds files that are no release; choose an empty or new folder"
    shutil.copytree(release, target, dirs_exist_ok=True)
    path = target / "manifest.json"
    path.write_text(path.read_text().replace('"name": "tiny-saes"', '"name": "other-saes"'))
    with pytest.raises(UsageError) as refused:
        publish(release, target, delete_unknown=True)
    assert str(refused.value) == f"{target} holds the release 'other-saes', not 'tiny-saes'; choose another folder"


@pytest.mark.parametrize("change", ["altered", "gone"])
def test_a_file_that_changes_after_the_plan_stops_everything(release, next_release, target, site, change):
    """The target keeps the old release, and nothing is left beside it."""
    publish(release, target)
    before = identities(target)
    publisher = FolderPublisher(target, delete_unknown=True)
    plan = publisher.plan(next_release, validate(next_release, "header"))
    path = next_release / "README.md"
    path.write_text("# tiny, AGAIN\n") if change == "altered" else path.unlink()
    with pytest.raises(PublishError) as refused:
        publisher.apply(next_release, plan)
    word = "has changed" if change == "altered" else "is gone"
    assert str(refused.value) == f"README.md {word} since the plan was made; run saereg validate {next_release}"
    assert identities(target) == before
    assert os.listdir(site) == ["out"]


def test_a_target_that_changes_after_the_plan_stops_everything(release, next_release, target):
    """Whoever changed it wins."""
    publish(release, target)
    publisher = FolderPublisher(target, delete_unknown=True)
    plan = publisher.plan(next_release, validate(next_release, "header"))
    (target / "README.md").write_text("# edited\n")
    with pytest.raises(PublishError) as refused:
        publisher.apply(next_release, plan)
    assert str(refused.value) == f"dir:{target} has changed since the plan was made; plan again"
    assert (target / "README.md").read_text() == "# edited\n"


def test_a_file_added_to_the_target_after_the_plan_is_not_lost(release, next_release, target):
    """Also one that validation passes over."""
    publish(release, target)
    publisher = FolderPublisher(target, delete_unknown=True)
    plan = publisher.plan(next_release, validate(next_release, "header"))
    (target / ".git").mkdir()
    (target / ".git/HEAD").write_text("x")
    with pytest.raises(UsageError, match="is a git repository"):
        publisher.apply(next_release, plan)
    assert (target / ".git/HEAD").exists()


def test_a_target_damaged_in_secret_is_found_and_repaired(release, target):
    """Same size, same time, other bytes: what the target holds is read, never assumed."""
    publish(release, target)
    path = target / "layer_1/topk/sae_weights.safetensors"
    status, good = path.stat(), path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    receipt = publish(release, target)
    assert (receipt.changed, receipt.replaced, receipt.bytes_written) == (True, 1, len(good))
    assert path.read_bytes() == good


def test_progress_counts_bytes_to_the_end(release, target):
    """Each file once."""
    seen = []
    publisher = FolderPublisher(target)
    plan = publisher.plan(release, validate(release, "header"))
    publisher.apply(release, plan, lambda path, done, total: seen.append((path, done, total)))
    assert [path for path, _, _ in seen] == [operation.path for operation in plan.operations]
    assert seen[-1][1] == seen[-1][2] == sum(operation.size for operation in plan.operations)


def test_a_receipt_fits_its_schema(release, target):
    """It is a document like the others."""
    jsonschema.validate(json.loads(publish(release, target).text()), json.loads(schema("receipt")))


def test_a_full_disk_names_the_file_and_leaves_the_old_release(release, next_release, target, site, monkeypatch):
    """The system does not say which file it had no room for; the staging folder is gone afterwards."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish(release, target)
    before = contents(target)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        publish(next_release, target, delete_unknown=True)

    assert caught.value.filename is not None
    assert contents(target) == before
    assert [path.name for path in site.iterdir()] == [target.name]


def test_targets_are_named_by_a_scheme():
    """A place without one, and an unknown one, are refused with the right spelling."""
    with pytest.raises(UsageError) as refused:
        publisher_of("out")
    assert str(refused.value) == "'out' is no target; write dir:out or hf://org/repo"
    with pytest.raises(UnknownNameError) as unknown:
        publisher_of("dri:out")
    assert str(unknown.value) == "unknown target 'dri:'; did you mean 'dir:'?"
    assert publisher_of("dir:a:b").target == "dir:a:b"


def test_the_public_function_validates_plans_and_applies(release, target):
    """`saereg.publish`, at level weights unless told otherwise."""
    assert saereg.publish(release, f"dir:{target}").changed
    assert not saereg.publish(str(release), f"dir:{target}", level="header").changed
