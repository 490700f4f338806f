"""What a pull is never led to do: by names that some machine takes for others, by links, by sizes, by another pull."""

import hashlib
import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from saereg.errors import DocumentError, PublishError, UsageError
from saereg.registry.fetching import opening, pulling, verifying
from saereg.registry.fetching.choosing import Choice
from saereg.registry.fetching.download import Fetcher
from saereg.registry.fetching.guarding import require_apart, stage_of, state_of
from saereg.registry.fetching.pulling import Asked, carry_out, plan_pull
from saereg.registry.files.atomic import exclusive
from saereg.registry.files.pulled import read_pulled
from saereg.registry.validators.runner import validate

TOPK, JUMP = "layer_1/topk", "layer_1/jumprelu"


@pytest.fixture
def changed(release, tmp_path) -> Path:
    """A copy of the release that a test may change."""
    return Path(shutil.copytree(release, tmp_path / "changed"))


def indexed(root: Path, path: str, content: bytes) -> None:
    """Add a file to a release and to its index, which need not look at names."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
    index = json.loads((root / "index.json").read_text())
    entry = {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "role": "other"}
    index["files"].append(entry)
    (root / "index.json").write_text(json.dumps(index))


def asked(*ids: str) -> Asked:
    return Asked(Choice(ids))


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("a/cfg.json", "A/cfg.json"), "a/cfg.json and A/cfg.json are one file on some machines"),
        (("caf\u00e9", "CAFE\u0301"), "are one file on some machines"),
        (("A", "a/b/c"), "A is a file, and a folder of a/b/c"),
        (("a/b/c", "a/B"), "a/B is a file, and a folder of a/b/c"),
    ],
)
def test_names_that_are_one_on_some_machine_are_refused(paths, words):
    """By case, by accents, or one as the folder of the other."""
    with pytest.raises(PublishError, match=rf"^hf://o/r: .*{words}.*; nothing is fetched$"):
        require_apart(paths, "hf://o/r")
    require_apart(("a/b", "a/c", "ab", "b/a"), "hf://o/r")


@pytest.mark.parametrize("path", [".GIT/hooks/post-checkout", ".Cache/saereg/pull.json", "NUL", "a./b", "SAEREG.toml"])
def test_an_index_cannot_name_files_of_git_or_of_the_machine(serve, opened, changed, tmp_path, path):
    """One line, before anything is fetched: in other letters they are hooks, the note of pulls, devices, plugins."""
    indexed(changed, path, b"x")
    server = serve(changed)
    with pytest.raises((DocumentError, PublishError)) as caught:
        plan_pull(opened(), tmp_path / "out", asked(TOPK))
    assert path.split("/")[0].strip(".") in str(caught.value)
    assert server.fetched() <= {"manifest.json", "index.json", "README.md"}
    assert not (tmp_path / "out").exists()


def test_an_index_cannot_have_one_file_take_the_place_of_another(serve, opened, changed, tmp_path):
    """`Layer_1` beside `layer_1` is one folder on macOS and Windows."""
    indexed(changed, "Layer_1/topk/cfg.json", b"{}")
    serve(changed)
    with pytest.raises(PublishError, match=r"Layer_1/topk/cfg\.json and layer_1/topk/cfg\.json are one file"):
        plan_pull(opened(), tmp_path / "out", asked(TOPK))


@pytest.mark.parametrize("name", [".cache", ".cache/saereg", ".cache/saereg/received"])
def test_what_saereg_keeps_is_not_kept_behind_a_link(serve, opened, release, tmp_path, name):
    """It would be written, and removed, where the link leads; also when the link is made meanwhile."""
    out, other = tmp_path / "out", tmp_path / "other"
    (other / "saereg/received").mkdir(parents=True)
    (other / "received").mkdir()
    (other / "saereg/received/mine").write_text("mine")
    (other / "received/mine").write_text("mine")
    before = sorted(other.rglob("*"))
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(other)
    serve(release)
    with pytest.raises(UsageError, match=f"{name} is a link; nothing is written through it, remove it$"):
        carry_out(plan_pull(opened(), out, asked(TOPK)), 2)
    assert sorted(other.rglob("*")) == before


def test_links_that_are_made_while_files_are_received_are_seen(serve, opened, release, tmp_path, monkeypatch):
    """Hours may pass until files get their names; and one in the folder of parts is not written through."""
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    (tmp_path / "mine").write_text("mine")
    serve(release)
    plan = plan_pull(opened(), out, asked(TOPK))
    stage_of(out).mkdir(parents=True)
    for wanted in plan.fetched:
        (stage_of(out) / f"{wanted.sha256}.part").symlink_to(tmp_path / "mine")
    real = Fetcher.fetch_all

    def then_linked(self: Fetcher, *arguments: object) -> None:
        real(self, *arguments)
        (out / "layer_1").symlink_to(other)

    monkeypatch.setattr(Fetcher, "fetch_all", then_linked)
    with pytest.raises(UsageError, match="is a link that leads out"):
        carry_out(plan, 2)
    assert list(other.iterdir()) == []
    assert (tmp_path / "mine").read_text() == "mine"
    assert {path.name for path in out.iterdir()} == {".cache", "layer_1"}


def test_a_file_where_a_folder_is_needed_is_said_before_anything_is_fetched(serve, opened, release, tmp_path):
    """Not half way through."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "layer_1").write_text("mine")
    server = serve(release)
    with pytest.raises(UsageError, match=r"layer_1 is no folder, and one is needed there; choose another folder"):
        carry_out(plan_pull(opened(), out, asked(TOPK)), 2)
    assert not {path for path in server.fetched() if path.endswith(".safetensors")}
    assert {path.name for path in out.iterdir()} == {"layer_1"}


def test_of_two_pulls_at_once_the_second_sees_what_the_first_did(serve, opened, release, changed, tmp_path):
    """Planned one after the other, carried out the other way round: one commit, and the artifacts of both."""
    out = tmp_path / "out"
    server = serve(release)
    first = plan_pull(opened(), out, asked(TOPK))
    manifest = json.loads((changed / "manifest.json").read_text()) | {"datasets": {}}
    (changed / "manifest.json").write_text(json.dumps(manifest))
    index = json.loads((changed / "index.json").read_text())
    index["manifest_sha256"] = hashlib.sha256((changed / "manifest.json").read_bytes()).hexdigest()
    (changed / "index.json").write_text(json.dumps(index))
    server.root = changed
    carry_out(plan_pull(opened(), out, asked(JUMP)), 2)
    done = carry_out(first, 2)

    assert done.kept == 1
    assert set(done.artifacts) == set(read_pulled(out).artifacts) == {TOPK, JUMP}
    assert not [path for path in read_pulled(out).absent if (out / path).exists()]
    assert (out / "manifest.json").read_bytes() == (release / "manifest.json").read_bytes()
    assert validate(out, "header").findings == ()


def test_a_pull_that_waits_for_another_says_so(serve, opened, release, tmp_path):
    """In one line; and goes on once the other one is through."""
    out, lines = tmp_path / "out", []
    serve(release)
    plan = plan_pull(opened(), out, asked(TOPK))
    state_of(out).mkdir(parents=True)
    with ExitStack() as other:
        assert other.enter_context(exclusive(state_of(out)))

        def told(line: str) -> None:
            lines.append(line)
            other.close()

        carry_out(plan, 2, told=told)
    assert lines == [f"another pull into {out} is under way; this one goes on after it"]
    assert (out / TOPK / "cfg.json").is_file()


def test_no_file_is_held_in_memory_because_the_hub_says_so(serve, opened, changed, tmp_path, monkeypatch):
    """A card that is too large is received as other files are, compared with the index; a signature is refused."""
    monkeypatch.setattr(pulling, "MAX_CARD_BYTES", 10)
    serve(changed)
    plan = plan_pull(opened(), tmp_path / "out", asked(TOPK))
    carry_out(plan, 2)
    assert "README.md" in {wanted.path for wanted in plan.fetched}
    assert (tmp_path / "out/README.md").read_bytes() == (changed / "README.md").read_bytes()

    with (changed / "README.md").open("a") as card:
        card.write("edited on the site")
    with pytest.raises(PublishError, match=r"README\.md has \d+ bytes in the repository, \d+ in the index"):
        plan_pull(opened(), tmp_path / "out", asked(TOPK))

    (changed / "model.sig").write_bytes(b"x" * (opening.MAX_SIGNATURE_BYTES + 1))
    line = r"^hf://tiny/release@\w+: model\.sig has 10000001 bytes; at most 10000000 are read$"
    monkeypatch.undo()
    serve(changed)
    for ask in (lambda: plan_pull(opened(), tmp_path / "new", asked(TOPK)), lambda: verifying.signature_of(opened())):
        with pytest.raises(PublishError, match=line):
            ask()
