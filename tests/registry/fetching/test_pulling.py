"""Pulling: exactly what was chosen arrives, with the digests of the index, whatever breaks on the way."""

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

import saereg
from saereg.errors import InvalidReleaseError, PublishError, UsageError
from saereg.publishers.plan import require_valid
from saereg.registry.fetching import download, pulling
from saereg.registry.fetching.choosing import Choice
from saereg.registry.fetching.download import Fetcher, LostFileError, Wanted, WrongBytesError
from saereg.registry.fetching.pulling import Asked, Pull, carry_out, plan_pull
from saereg.registry.files.pulled import read_pulled
from saereg.registry.validators.runner import validate
from saereg.schemas.pulled import PULLED_FILE
from tests.reading_hub import SHA

TOPK = "layer_1/topk"
WEIGHTS = f"{TOPK}/sae_weights.safetensors"
TOP = {"README.md", "config.json", "index.json", "manifest.json"}


def pull(remote, out: Path, *ids: str, **wanted: object) -> Pull:
    done = plan_pull(remote, out, Asked(Choice(ids), **wanted))
    carry_out(done, 2)
    return done


def held(out: Path) -> dict[str, bytes]:
    """Return what is in a folder, without what saereg notes there."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".cache/")}


def test_only_the_files_of_the_chosen_artifacts_are_asked_for(serve, opened, release, tmp_path):
    """By the log of the hub: documents, card, and one folder; nothing of the other three, and no evaluation rows."""
    server = serve(release)
    pull(opened(), tmp_path / "out", TOPK)
    mine = {path.relative_to(release).as_posix() for path in (release / TOPK).iterdir()}

    assert server.fetched() == TOP | mine
    assert set(held(tmp_path / "out")) == TOP | mine
    assert all((release / path).read_bytes() == raw for path, raw in held(tmp_path / "out").items())
    weights = sum(count for path, count in server.sent.items() if path.endswith(".safetensors"))
    assert weights == sum((release / path).stat().st_size for path in mine if path.endswith(".safetensors"))


def test_conditions_choose_as_in_ls(serve, opened, release, tmp_path):
    """`--where` of pull and of ls are the same conditions."""
    serve(release)
    asked = Asked(Choice(conditions=("kind = sae", "architecture = topk")), evaluations=True)
    plan = plan_pull(opened(), tmp_path / "out", asked)

    assert plan.artifacts == tuple(a.id for a in saereg.open(release).find(kind="sae", architecture="topk"))
    assert "evaluation/layer-1.safetensors" in {file.path for file in plan.files}
    assert "evaluation/W_U.safetensors" in plan.absent
    with pytest.raises(UsageError, match="no artifact meets every condition"):
        plan_pull(opened(), tmp_path / "out", Asked(Choice(conditions=("d_in > 99999",))))


def test_nothing_chosen_is_refused_with_the_way_to_choose(serve, opened, release, tmp_path):
    """A release of many gigabytes is not fetched by mistake."""
    serve(release)
    with pytest.raises(UsageError, match=r"4 artifacts; name some, or choose with --where, or take --all"):
        plan_pull(opened(), tmp_path / "out", Asked())


def test_a_second_pull_asks_for_what_is_missing_alone(serve, opened, release, tmp_path):
    """Files with the right digest stay; artifacts of an earlier pull stay chosen."""
    server = serve(release)
    pull(opened(), tmp_path / "out", TOPK)
    server.requests.clear()
    pull(opened(), tmp_path / "out", TOPK)
    assert not {path for path in server.fetched() if "/" in path}

    (tmp_path / "out" / WEIGHTS).unlink()
    server.requests.clear()
    both = pull(opened(), tmp_path / "out", "W_U/cross-snapshot-2")
    assert both.artifacts == (TOPK, "W_U/cross-snapshot-2")
    assert both.kept == 1
    assert {path for path in server.fetched() if path.startswith("layer_1")} == {WEIGHTS}


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_connection_that_breaks_is_gone_on_with(serve, opened, release, tmp_path, elsewhere):
    """Half of the body, twice: what was received is not asked for again, also where another host has the bytes."""
    path = f"/elsewhere/{WEIGHTS}" if elsewhere else f"/tiny/release/resolve/{SHA}/{WEIGHTS}"
    server = serve(release, drops=Counter({path: 2}), elsewhere=elsewhere)
    pull(opened(), tmp_path / "out", TOPK)

    assert held(tmp_path / "out")[WEIGHTS] == (release / WEIGHTS).read_bytes()
    assert server.sent[path] == (release / WEIGHTS).stat().st_size
    assert not +server.habits.drops


@pytest.mark.parametrize("deaf", [False, True])
def test_what_a_killed_pull_received_is_used(serve, opened, release, tmp_path, deaf):
    """A part of the file is continued by a range; a server without ranges sends it anew."""
    content = (release / WEIGHTS).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    stage = tmp_path / "out" / PULLED_FILE
    stage = stage.parent / "received"
    stage.mkdir(parents=True)
    (stage / f"{digest}.part").write_bytes(content[:200])
    server = serve(release, deaf=deaf)
    pull(opened(), tmp_path / "out", TOPK)

    assert held(tmp_path / "out")[WEIGHTS] == content
    sent = server.sent[f"/tiny/release/resolve/{SHA}/{WEIGHTS}"]
    assert sent == (len(content) if deaf else len(content) - 200)
    assert not stage.exists()


def test_a_part_that_was_damaged_here_is_thrown_away(serve, opened, release, tmp_path):
    """Its digest does not fit in the end: once it is begun anew, and the Hub is not blamed."""
    content = (release / WEIGHTS).read_bytes()
    stage = (tmp_path / "out" / PULLED_FILE).parent / "received"
    stage.mkdir(parents=True)
    (stage / f"{hashlib.sha256(content).hexdigest()}.part").write_bytes(b"x" * 200)
    serve(release)
    pull(opened(), tmp_path / "out", TOPK)
    assert held(tmp_path / "out")[WEIGHTS] == content


def test_wrong_bytes_behind_a_right_tree_are_discarded(serve, opened, release, tmp_path):
    """Both digests are said, nothing of the release appears, and the next pull begins that file anew."""
    server = serve(release, altered=WEIGHTS)
    with pytest.raises(WrongBytesError) as caught:
        pull(opened(), tmp_path / "out", TOPK)
    content = (release / WEIGHTS).read_bytes()
    assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert hashlib.sha256(content[:-1] + bytes([content[-1] ^ 1])).hexdigest() in str(caught.value)
    assert caught.value.exit_code == 4
    assert held(tmp_path / "out") == {}

    server.habits.altered = ""
    pull(opened(), tmp_path / "out", TOPK)
    assert held(tmp_path / "out")[WEIGHTS] == content


def test_a_hub_that_is_busy_is_waited_for_and_a_silent_one_is_not(serve, opened, release, tmp_path):
    """429 with a time to wait; 503; then no answer at all, and a file whose bytes are gone: one line each."""
    server = serve(release, busy=Counter({WEIGHTS: 1}), broken=Counter({"cfg.json": 1}))
    pull(opened(), tmp_path / "out", TOPK)
    assert server.asked()[WEIGHTS] == 2

    server.habits.silent_on = "golden"
    with pytest.raises(PublishError, match=f"^hf://tiny/release@{SHA}: the Hub does not answer$"):
        pull(opened(), tmp_path / "other", TOPK)
    server.habits.silent_on, server.habits.lost = "", (WEIGHTS,)
    with pytest.raises(LostFileError, match=f"^{WEIGHTS}: the Hub lists it, but does not have it$"):
        pull(opened(), tmp_path / "third", TOPK)
    assert held(tmp_path / "third") == {}


def test_what_the_tree_shows_is_refused_before_anything_is_fetched(serve, opened, release, tmp_path):
    """A file of the index that is not in the repository; an index of another manifest."""
    server = serve(release, missing=(WEIGHTS,))
    with pytest.raises(PublishError, match=f"{WEIGHTS} is in the index and not in the repository; saereg verify"):
        plan_pull(opened(), tmp_path / "out", Asked(Choice((TOPK,))))
    assert not {path for path in server.fetched() if path.startswith("layer_1")}

    half = tmp_path / "half"
    shutil.copytree(release, half)
    (half / "manifest.json").write_text((half / "manifest.json").read_text().replace("Tiny dict", "Other dict"))
    serve(half)
    with pytest.raises(PublishError, match=r"index\.json is of another manifest\.json: this commit holds half"):
        plan_pull(opened(), tmp_path / "out", Asked(Choice((TOPK,))))


def test_a_card_that_was_edited_on_the_site_is_taken_as_it_is(serve, opened, release, tmp_path):
    """It is no evidence; the user is told."""
    edited = tmp_path / "edited"
    shutil.copytree(release, edited)
    (edited / "README.md").write_text("# Edited\n")
    serve(edited)
    done = pull(opened(), tmp_path / "out", TOPK)
    assert done.notes == ("README.md differs from the index: it was edited on the Hub; it is taken as it is",)
    assert not done.is_as_indexed
    assert held(tmp_path / "out")["README.md"] == b"# Edited\n"


def test_files_of_the_user_are_not_overwritten(serve, opened, release, tmp_path):
    """Unless it is asked for; what an earlier pull brought is renewed, and goes when no index names it any more."""
    out = tmp_path / "out"
    (out / TOPK).mkdir(parents=True)
    (out / TOPK / "cfg.json").write_text("mine")
    server = serve(release)
    with pytest.raises(UsageError, match=f"has files of its own in the way: {TOPK}/cfg.json; choose another folder"):
        pull(opened(), out, TOPK)
    assert held(out) == {f"{TOPK}/cfg.json": b"mine"}
    pull(opened(), out, TOPK, force=True)

    newer = tmp_path / "newer"
    shutil.copytree(release, newer)
    _reindexed(newer, {})
    index = json.loads((newer / "index.json").read_text())
    index["files"] = [file for file in index["files"] if file["path"] != "config.json"]
    (newer / "index.json").write_text(json.dumps(index))
    (newer / "config.json").unlink()
    server.root = newer
    actions = {file.path: file.action for file in pull(opened(), out).files}
    assert actions["manifest.json"] == actions["index.json"] == "replace"
    assert actions["config.json"] == "remove"
    assert actions[WEIGHTS] == "same"
    assert not (out / "config.json").exists()
    assert read_pulled(out).digests["manifest.json"] == (index["manifest_sha256"],)


def test_nothing_is_written_through_links(serve, opened, release, tmp_path):
    """A folder of the release that is a link out of it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/layer_1").symlink_to(tmp_path / "elsewhere")
    serve(release)
    with pytest.raises(UsageError, match=r"is a link that leads out of .*; nothing is written there"):
        pull(opened(), tmp_path / "out", TOPK)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_without_room_is_said_in_one_line(serve, opened, release, tmp_path, monkeypatch):
    """Before anything is fetched; and a place where no folder can be made."""
    serve(release)
    plan = plan_pull(opened(), tmp_path / "out", Asked(Choice((TOPK,))))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UsageError, match=r"out: \d+ bytes are needed and 0 are free"):
        carry_out(plan, 1)
    monkeypatch.undo()


def test_a_partial_pull_can_be_opened_loaded_and_validated(serve, opened, release, tmp_path):
    """What is not there is said in one line, and counted as nothing else; it is no release to publish."""
    out = tmp_path / "out"
    serve(release)
    pull(opened(), out, TOPK)
    assert len(saereg.open(out)) == 4
    assert saereg.load(f"{out}:{TOPK}").encode is not None
    for level in ("header", "weights", "data"):
        report = validate(out, level)
        assert report.findings == ()
        assert report.summary.artifacts == 1
        (skipped,) = [entry for entry in report.summary.skipped if entry.reason == "they were not pulled"]
        assert skipped.check == "3 of 4 artifacts, 11 files"
    with pytest.raises(InvalidReleaseError, match=r"was pulled in part: files of the index are not in it"):
        require_valid(out, validate(out, "weights"), "weights")

    (out / WEIGHTS).unlink()
    assert {found.code for found in validate(out).findings} == {"SR002"}
    pull(opened(), out, whole=True, evaluations=True)
    assert validate(out, "weights").summary.skipped == ()
    assert held(out) == held(release)


def test_files_too_large_for_plain_http_go_through_the_client_of_the_hub(serve, opened, release, tmp_path, monkeypatch):
    """Compared all the same."""
    monkeypatch.setattr(download, "LARGEST_PLAIN", 500)
    serve(release)
    content = (release / WEIGHTS).read_bytes()
    assert len(content) > 500
    wanted = Wanted(WEIGHTS, len(content), hashlib.sha256(content).hexdigest())
    fetcher = Fetcher("tiny/release", SHA, tmp_path / "stage")
    fetcher.fetch_all([wanted], 1)
    assert fetcher.staged(wanted.sha256).read_bytes() == content
    with pytest.raises(WrongBytesError):
        Fetcher("tiny/release", SHA, tmp_path / "stage").fetch_all([Wanted(WEIGHTS, len(content), "0" * 64)], 1)


def test_a_pull_that_ends_anywhere_while_files_get_their_names_is_finished_by_the_next(
    serve, opened, release, tmp_path, monkeypatch
):
    """From one commit to another: after each rename, whatever stands there then counts as the pull's own."""
    newer = tmp_path / "newer"
    shutil.copytree(release, newer)
    _reindexed(newer, {f"{TOPK}/cfg.json": b"{}", "config.json": b"[]"})
    real = pulling._place
    for renames in range(6):
        out, left = tmp_path / f"out-{renames}", renames
        server = serve(release)
        pull(opened(), out, TOPK)
        server.root = newer

        def place(*arguments: object, **named: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            real(*arguments, **named)

        monkeypatch.setattr(pulling, "_place", place)
        if renames < 4:
            with pytest.raises(KeyboardInterrupt):
                pull(opened(), out)
        monkeypatch.setattr(pulling, "_place", real)
        pull(opened(), out)
        assert all((newer / path).read_bytes() == raw for path, raw in held(out).items())
        assert set(read_pulled(out).digests) == set(held(out))


def _reindexed(root: Path, contents: dict[str, bytes]) -> None:
    """Write files of a release, another manifest, and an index that has their digests."""
    for path, content in contents.items():
        (root / path).write_bytes(content)
    manifest = json.loads((root / "manifest.json").read_text()) | {"datasets": {}}
    (root / "manifest.json").write_text(json.dumps(manifest))
    index = json.loads((root / "index.json").read_text())
    index["manifest_sha256"] = hashlib.sha256((root / "manifest.json").read_bytes()).hexdigest()
    for file in [*index["files"], *(file for artifact in index["artifacts"] for file in artifact["files"])]:
        if file["path"] in contents:
            content = contents[file["path"]]
            file |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (root / "index.json").write_text(json.dumps(index))
