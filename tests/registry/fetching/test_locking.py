"""The lock file: which bytes a project reads, and that a pull gets no others."""

import hashlib
from pathlib import Path

import pytest

from saereg.errors import DocumentError, PublishError, UsageError
from saereg.registry.fetching.choosing import Choice
from saereg.registry.fetching.locking import (
    entry_of,
    locked,
    merged,
    moved,
    read_lock,
    relocked,
    revision_of,
    write_lock,
)
from saereg.registry.fetching.pulling import Asked, plan_pull
from saereg.schemas.lock import Lock
from tests.reading_hub import REPO, SHA

TOPK, OTHER = "layer_1/topk", "layer_1/jumprelu"
BEFORE = "1" * 40


def test_a_lock_holds_the_digests_of_what_was_chosen(serve, opened, release, tmp_path):
    """Of the documents and of each file; written twice it is the same text, and it is read back as it was."""
    server = serve(release)
    entry = relocked(opened(), Choice((TOPK,)), None, update=False)
    assert (entry.repo, entry.requested, entry.commit, entry.artifacts) == (REPO, None, SHA, (TOPK,))
    assert entry.manifest_sha256 == hashlib.sha256((release / "manifest.json").read_bytes()).hexdigest()
    assert {file.path: file.sha256 for file in entry.files} == {
        f"{TOPK}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in (release / TOPK).iterdir()
    }
    assert server.fetched() == {"manifest.json", "index.json"}

    lock = merged(None, [entry])
    write_lock(tmp_path / "saereg.lock", lock)
    assert read_lock(tmp_path / "saereg.lock") == lock
    assert read_lock(tmp_path / "none.lock") is None
    (tmp_path / "bad.lock").write_text('{"releases": []')
    with pytest.raises(DocumentError):
        read_lock(tmp_path / "bad.lock")


def test_what_is_locked_stays_until_it_is_moved(serve, opened, release):
    """At the same commit artifacts are added; at another one it is refused without `--update`."""
    serve(release)
    one = relocked(opened(), Choice((TOPK,)), None, update=False)
    assert relocked(opened(), Choice((OTHER,)), one, update=False).artifacts == tuple(sorted((TOPK, OTHER)))
    assert relocked(opened(), Choice((OTHER,)), one, update=True).artifacts == (OTHER,)

    older = one.model_copy(update={"commit": BEFORE})
    with pytest.raises(UsageError, match=f"is locked at {BEFORE}, and hf://{REPO} is {SHA}; --update moves the lock"):
        relocked(opened(), Choice(), older, update=False)
    assert relocked(opened(), Choice(), older, update=True) == one
    lost = older.model_copy(update={"artifacts": ("gone", TOPK)})
    with pytest.raises(UsageError, match=r"tiny-saes 1\.0\.0 no longer has gone, which is locked"):
        relocked(opened(), Choice(), lost, update=True)


def test_a_release_that_is_not_there_as_indexed_is_not_locked(serve, opened, release):
    """A lock of digests that nobody can fetch would be none."""
    serve(release, missing=(f"{TOPK}/sae_weights.safetensors",))
    with pytest.raises(PublishError, match="is not there as the index says, so nothing is locked"):
        locked(opened(), (TOPK,))
    assert locked(opened(), (OTHER,)).artifacts == (OTHER,)


def test_a_lock_has_each_repository_once(serve, opened, release):
    """Another one is added in order; the same one is replaced."""
    serve(release)
    one = locked(opened(), (TOPK,))
    first = one.model_copy(update={"repo": "a/first"})
    lock = merged(merged(None, [one]), [first, one.model_copy(update={"artifacts": (OTHER,)})])
    assert [entry.repo for entry in lock.releases] == ["a/first", REPO]
    assert entry_of(lock, REPO).artifacts == (OTHER,)
    assert entry_of(lock, "a/other") is entry_of(None, REPO) is None


def test_the_locked_commit_wins_and_another_revision_is_refused(serve, opened, release):
    """`main` and no revision are one; both revisions are named."""
    serve(release)
    entry = locked(opened(), (TOPK,))
    assert {revision_of(asked, entry, Path("saereg.lock")) for asked in (None, "main", SHA)} == {SHA}
    assert revision_of("v2", None, Path("saereg.lock")) == "v2"
    with pytest.raises(UsageError, match=rf"^saereg.lock locks hf://{REPO} at {SHA}, and hf://{REPO}@v2 is asked for"):
        revision_of("v2", entry, Path("saereg.lock"))
    tagged = entry.model_copy(update={"requested": "v1"})
    with pytest.raises(UsageError, match=f"locks hf://{REPO}@v1 at {SHA}, and hf://{REPO}@main is asked for"):
        revision_of("main", tagged, Path("saereg.lock"))


def test_a_revision_that_moved_or_went_is_told(serve, opened, release):
    """One line each; what is as locked is no line."""
    serve(release)
    entry = locked(opened(), (TOPK,))
    assert moved(entry) is None
    assert moved(entry.model_copy(update={"commit": BEFORE})).line == f"hf://{REPO}: locked at {BEFORE}, now {SHA}"
    gone = moved(entry.model_copy(update={"requested": "v9"}))
    assert gone.line == f"hf://{REPO}@v9: locked at {SHA}, and there is no such revision any more"
    with pytest.raises(PublishError, match="no such repository"):
        moved(entry.model_copy(update={"repo": "no/body"}))


def test_a_pull_takes_what_is_locked_and_nothing_else(serve, opened, release, tmp_path):
    """Its artifacts by default; others, and other digests, are refused."""
    serve(release)
    entry = locked(opened(), (TOPK,))
    assert plan_pull(opened(SHA), tmp_path / "out", Asked(), entry).artifacts == (TOPK,)
    with pytest.raises(UsageError, match=f"my.lock does not lock {OTHER}; saereg lock --lock my.lock hf://"):
        plan_pull(opened(SHA), tmp_path / "out", Asked(Choice((OTHER,)), lock_file=Path("my.lock")), entry)
    other = entry.model_copy(update={"index_sha256": "0" * 64})
    with pytest.raises(PublishError, match=rf"index.json has sha256 [0-9a-f]{{64}}, the lock says {'0' * 64}"):
        plan_pull(opened(SHA), tmp_path / "out", Asked(), other)
    file = entry.files[0].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PublishError, match=rf"{file.path} is [0-9a-f]{{64}} in the index, the lock says 0"):
        plan_pull(opened(SHA), tmp_path / "out", Asked(), entry.model_copy(update={"files": (file,)}))


def test_the_text_of_a_lock_is_canonical():
    """The same releases give the same bytes."""
    assert Lock(releases=()).text() == '{\n  "releases": [],\n  "schema_version": "1.0"\n}\n'
