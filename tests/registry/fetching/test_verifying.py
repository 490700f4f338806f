"""Verifying: what a repository holds against its own index, without a download of weights."""

import json
import shutil
from pathlib import Path

import pytest

import saereg
from saereg.errors import DocumentError, NothingToValidateError, PublishError, UsageError
from saereg.registry.fetching.opening import open_remote
from saereg.registry.fetching.sampling import sampled
from saereg.registry.fetching.verifying import Sampling, verify
from saereg.registry.files.digest import sha256_of
from tests.reading_hub import REPO, SHA

TOPK = "layer_1/topk"
WEIGHTS = f"{TOPK}/sae_weights.safetensors"


@pytest.fixture
def copy(release, tmp_path) -> Path:
    """A copy of the release that may be damaged."""
    shutil.copytree(release, tmp_path / "copy")
    return tmp_path / "copy"


def codes(verified) -> set[tuple[str, str | None]]:
    return {(found.code, found.path) for found in verified.report.findings}


def test_a_whole_release_is_clean_and_no_weights_are_fetched(serve, opened, release):
    """By the log of the hub; every file of the index was compared, and the report is about one commit."""
    server = serve(release)
    verified = verify(opened())
    assert verified.report.findings == ()
    assert verified.report.revision == SHA
    assert not {path for path in server.fetched() if path.endswith(".safetensors")}
    index = opened().index
    assert verified.files == len(index.all_files()) == verified.listed + 6  # four cfg.json, card and marker
    assert verified.digests == {
        path.relative_to(release).as_posix(): sha256_of(path) for path in release.rglob("*") if path.is_file()
    }
    assert saereg.verify(f"hf://{REPO}").findings == ()


def test_small_files_that_a_local_copy_has_are_not_fetched(serve, opened, release):
    """By git's id of them: only the two documents are."""
    server = serve(release)
    verified = verify(opened(), against=release)
    assert server.fetched() == {"manifest.json", "index.json"}
    assert verified.report.findings == ()
    assert (verified.files, verified.listed, verified.known, verified.fetched) == (16, 10, 6, 0)


def test_what_is_missing_altered_or_new_is_found(serve, opened, copy):
    """A file less, weights and a small file that are others, an extra file; a card that was edited is a warning."""
    gone = sorted(path for path in copy.rglob("golden.safetensors"))[0].relative_to(copy).as_posix()
    (copy / gone).unlink()
    content = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    config = (copy / TOPK / "cfg.json").read_text()
    (copy / TOPK / "cfg.json").write_text(config.replace('"k": 3', '"k": 4'))
    (copy / "README.md").write_text("# Edited\n")
    (copy / "notes.txt").write_text("added on the site")
    (copy / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    serve(copy)
    verified = verify(opened())
    assert {("SR604", gone), ("SR601", WEIGHTS), ("SR601", f"{TOPK}/cfg.json")} <= codes(verified)
    assert {("SR601", "README.md"), ("SR003", "notes.txt")} <= codes(verified)
    severity = {found.path: found.severity for found in verified.report.findings}
    assert (severity["README.md"], severity["notes.txt"], severity[WEIGHTS]) == ("warning", "note", "error")
    assert ".gitattributes" not in severity
    (card,) = [found for found in verified.report.findings if found.path == "README.md"]
    assert (card.hint or "").startswith("Take the edit into your folder (download README.md, run saereg build, raise")
    against = verify(opened(), against=copy)
    assert against.files - against.listed - against.known - against.fetched == 2  # gone, or another size
    assert against.fetched == 0
    (found,) = [found for found in verified.report.findings if found.path == WEIGHTS]
    assert (found.artifact, found.found) == (TOPK, sha256_of(copy / WEIGHTS))


def test_a_manifest_of_another_index_is_found(serve, opened, copy):
    """An upload in two commits, of which the second never came."""
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace("Tiny dictionaries", "Other dictionaries"))
    serve(copy)
    (found,) = verify(opened()).report.errors
    assert (found.code, found.message) == ("SR012", "index.json is of another manifest.json than the one beside it")


def test_a_repository_that_is_no_release_is_one_line(serve, opened, copy, monkeypatch):
    """No index, an index that is none, no manifest, no such repository, no network allowed."""
    server = serve(copy)
    (copy / "index.json").write_text("{}")
    with pytest.raises(DocumentError, match=f"^hf://{REPO}@{SHA}: index.json"):
        opened()
    (copy / "index.json").unlink()
    with pytest.raises(NothingToValidateError, match=r"holds no index\.json, so nothing in it can be checked"):
        opened()
    server.root = copy / "layer_1"
    with pytest.raises(NothingToValidateError, match=r"holds no manifest\.json, so it is no release"):
        opened()
    with pytest.raises(PublishError, match=f"^hf://{REPO}@v9: no such revision$"):
        opened("v9")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, and the Hub must be asked"):
        open_remote(REPO, None)


def test_a_sample_is_downloaded_and_run(serve, opened, release):
    """Its golden vectors replay; the same seed chooses the same; each kind and architecture has its turn."""
    server = serve(release)
    verified = verify(opened(), Sampling(2))
    assert [sample.unchecked for sample in verified.samples] == ["", ""]
    assert all(sample.rows == 5 and sample.findings == () for sample in verified.samples)
    fetched = {path for path in server.fetched() if path.endswith("weights.safetensors")}
    assert {path.rpartition("/")[0] for path in fetched} == {sample.artifact for sample in verified.samples}

    remote = opened()
    assert sampled(remote, 2, 5) == sampled(remote, 2, 5)
    assert len({tuple(artifact.id for artifact in sampled(remote, 2, seed)) for seed in range(9)}) > 1
    assert len(sampled(remote, 99, 0)) == 4
    claims = {claim.id: (claim.kind, claim.architecture) for claim in remote.manifest.artifacts}
    assert len({claims[artifact.id] for artifact in sampled(remote, 3, 1)}) == 3


def test_a_sample_shows_what_the_tree_hides(serve, opened, release):
    """Other bytes than the tree says, and bytes that are gone: the listing alone is clean."""
    server = serve(release, altered="sae_weights")
    assert verify(opened()).report.findings == ()
    verified = verify(opened(), Sampling(99))
    assert {(found.code, found.path) for found in verified.report.errors} >= {("SR601", WEIGHTS)}
    server.habits.altered, server.habits.lost = "", (WEIGHTS,)
    verified = verify(opened(), Sampling(99))
    assert codes(verified) == {("SR604", WEIGHTS)}
    assert [skipped.artifact for skipped in verified.report.summary.skipped] == [TOPK]


def test_a_sample_that_computes_something_else_is_found(serve, opened, copy):
    """Indexed as it is, and wrong all the same: the golden vectors show it."""
    path = copy / TOPK / "cfg.json"
    text = path.read_text()
    other = text.replace('"apply_b_dec_to_input": true', '"apply_b_dec_to_input": false')
    assert other != text
    path.write_text(other)
    index = json.loads((copy / "index.json").read_text())
    for artifact in index["artifacts"]:
        for file in artifact["files"]:
            if file["path"] == f"{TOPK}/cfg.json":
                file |= {"size": path.stat().st_size, "sha256": sha256_of(path)}
    (copy / "index.json").write_text(json.dumps(index))
    serve(copy)
    assert verify(opened()).report.findings == ()
    (found,) = verify(opened(), Sampling(99)).report.errors
    assert (found.code, found.artifact) == ("SR421", TOPK)
