"""Reports that are kept: used again while nothing has changed, and not once more."""

import importlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

import saereg
from saereg.cli import run
from saereg.registry.files.state import RACY_NS
from saereg.registry.validators import remembered
from saereg.registry.validators.options import Options
from saereg.registry.validators.remembered import fingerprint, recall, remember, validated
from saereg.registry.validators.runner import validate
from saereg.schemas.report import Level, Report
from saereg.schemas.settings import Ignore, Settings
from tests.releases import tiny_release

OLD = 1_700_000_000
USUAL = Settings()


def age(folder: Path) -> Path:
    """Let every file look as if it had been written long ago."""
    for path in folder.rglob("*"):
        os.utime(path, (OLD, OLD))
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A release with checkpoints beside it; read only."""
    root = tiny_release(tmp_path_factory.mktemp("original"))
    return age(root.parent) / root.name


@pytest.fixture(scope="module")
def report(original) -> Report:
    """Its report at level weights."""
    return validate(original, "weights")


@pytest.fixture
def release(original, tmp_path, monkeypatch) -> Path:
    """A copy that may be changed, and a state folder of its own."""
    monkeypatch.setenv("SAEREG_CACHE", str(tmp_path / "state"))
    shutil.copytree(original.parent, tmp_path / "place")
    return age(tmp_path / "place") / original.name


@pytest.fixture
def kept(release, report) -> Path:
    """A copy whose report is kept."""
    assert remember(release, report, fingerprint(release, USUAL))
    return release


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("state/reports/*"))


def test_a_report_is_used_again_while_nothing_changes(release, monkeypatch):
    """It is the same, says when it was made, and nothing is validated."""
    first, when = validated(release, "weights", USUAL)
    assert when is None
    monkeypatch.setattr(remembered, "validate", None)
    again, when = validated(release, "weights", USUAL)
    assert again == first
    assert abs(time.time() - when.timestamp()) < 600


def test_a_deeper_report_answers_a_shallower_wish(kept, report):
    """And no shallower one a deeper wish."""
    assert recall(kept, "header", USUAL).report == report
    assert recall(kept, "data", USUAL) is None


def test_of_two_that_hold_the_deeper_one_answers(kept, report):
    """A policy may ask for it, whatever level was asked for."""
    deep = report.model_copy(update={"level": "data"})
    assert remember(kept, deep, fingerprint(kept, USUAL))
    assert recall(kept, "weights", USUAL).report == recall(kept, "data", USUAL).report == deep


def edit(path: Path) -> None:
    """Change one byte, with the mtime of before."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, (OLD, OLD))


CHANGES = {
    "a file is longer": lambda root: (root / "README.md").open("a").write("more\n"),
    "a file is touched": lambda root: os.utime(root / "layer_1/topk/cfg.json"),
    "a file is added": lambda root: (root / "NOTICE.md").write_text("new"),
    "a file is added that no index names, and is old": lambda root: (
        (root / "NOTICE.md").write_text("new"),
        os.utime(root / "NOTICE.md", (OLD, OLD)),
    ),
    "a file is removed": lambda root: (root / "README.md").unlink(),
    "a file is renamed": lambda root: (root / "README.md").rename(root / "readme.md"),
    "a file takes the place of another of the same size and age": lambda root: (
        shutil.copy2(root / "README.md", root / "x"),
        (root / "x").rename(root / "README.md"),
    ),
    "a link out of the release is added": lambda root: (root / "x").symlink_to("/"),
    "a checkpoint beside it is written": lambda root: os.utime(
        next(path for path in root.with_name("checkpoints").rglob("*") if path.is_file())
    ),
    "a checkpoint beside it is gone": lambda root: next(
        path for path in root.with_name("checkpoints").rglob("*") if path.is_file()
    ).unlink(),
    "the checkpoints beside it are gone": lambda root: shutil.rmtree(root.with_name("checkpoints")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_it_is_not_used_once_anything_that_was_read_changed(kept, what):
    """Whatever the way."""
    assert recall(kept, "weights", USUAL) is not None
    CHANGES[what](kept)
    assert recall(kept, "weights", USUAL) is None


@pytest.mark.skipif(os.name == "nt", reason="there the ctime is the time of birth")
def test_one_byte_that_changed_with_the_mtime_set_back_shows_in_the_ctime(kept):
    """Size, mtime and inode say nothing of it."""
    path = kept / "layer_1/topk/sae_weights.safetensors"
    before = os.stat(path)
    while os.stat(path).st_ctime_ns == before.st_ctime_ns:
        edit(path)
    after = os.stat(path)
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino)
    assert recall(kept, "weights", USUAL) is None


def test_it_is_not_used_under_another_configuration_or_other_code(kept, monkeypatch, tmp_path):
    """Settings, device, folder of checkpoints, the version of saereg, its files, a library."""
    assert recall(kept, "weights", USUAL) is not None
    for settings in (Settings(policy="hub-public"), Settings(ignore=(Ignore(rules=("SR5",), reason="no card yet"),))):
        assert recall(kept, "weights", settings) is None
    assert recall(kept, "weights", USUAL, Options(device="cuda")) is None
    assert recall(kept, "weights", USUAL, Options(checkpoints=tmp_path)) is None
    assert recall(kept, "weights", USUAL, Options(run_snippets=True)) is None
    assert recall(kept, "weights", USUAL, Options(jobs=7)) is not None
    with monkeypatch.context() as patch:
        patch.setattr(saereg, "__version__", "99")
        assert recall(kept, "weights", USUAL) is None
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "_version", lambda name: None)  # as without torch
        assert recall(kept, "weights", USUAL) is None
    with monkeypatch.context() as patch:
        (tmp_path / "saereg").mkdir()
        (tmp_path / "saereg/x.py").write_text("")
        patch.setattr(saereg, "__file__", str(tmp_path / "saereg/__init__.py"))
        assert recall(kept, "weights", USUAL) is None
    assert recall(kept, "weights", USUAL) is not None


def test_a_report_with_errors_or_of_a_quick_level_or_from_the_hub_is_not_kept(release, report, tmp_path):
    """What could not be read may be readable now; a quick level is quick; a commit is not this folder."""
    before = fingerprint(release, USUAL)
    shutil.copytree(release, tmp_path / "broken")
    (tmp_path / "broken/layer_1/topk/cfg.json").unlink()
    wrong = validate(tmp_path / "broken", "weights")
    assert wrong.errors
    assert not remember(release, wrong.model_copy(update={"release_digest": report.release_digest}), before)
    for change in ({"level": "header"}, {"revision": "0" * 40}, {"release_digest": None}, {"release_digest": "0" * 64}):
        assert not remember(release, report.model_copy(update=change), before)
    assert not remember(release, report, None)
    assert fingerprint(release, USUAL, Options(run_snippets=True)) is None
    assert files(tmp_path) == []
    assert remember(release, report, before)


@pytest.mark.parametrize("rows", ["in the release", "of a model"])
def test_a_report_of_level_data_is_kept_only_if_its_rows_are_in_the_release(release, report, rows):
    """A model is elsewhere, and may be gone or another one tomorrow."""
    manifest = json.loads((release / "manifest.json").read_text())
    assert {evaluation["source"] for evaluation in manifest["evaluations"].values()} <= remembered.INSIDE
    if rows == "of a model":
        of_model = {"source": "parameters", "site": "W_U", "tensor": "W_U", "steps": [0, 1000], "rows": 4}
        manifest["evaluations"]["elsewhere"] = of_model | {"revision": "step{step}"}
        (release / "manifest.json").write_text(json.dumps(manifest))
    deep = report.model_copy(update={"level": "data", "release_digest": remembered._digest_now(release)})
    assert remember(release, deep, fingerprint(release, USUAL)) is (rows == "in the release")
    assert (recall(release, "data", USUAL) is not None) is (rows == "in the release")


def test_a_release_that_was_written_to_while_it_was_validated_is_not_remembered(release, report):
    """The report may be of either state."""
    before = fingerprint(release, USUAL)
    os.utime(release / "README.md")
    assert not remember(release, report, before)


def test_files_that_were_just_written_count_by_their_contents(release, report, monkeypatch):
    """`saereg build` ends two moments before: then the digest of what it wrote is compared, once."""
    now = time.time_ns()
    for name in ("index.json", "README.md"):
        os.utime(release / name, ns=(now, now))
    before = fingerprint(release, USUAL)
    assert set(before.unsettled) == {"file:index.json", "file:README.md"}
    assert remember(release, report, before)

    (release / "README.md").write_bytes((release / "README.md").read_bytes())  # the same contents, at another time
    assert recall(release, "weights", USUAL) is not None

    later = now + 10 * RACY_NS
    monkeypatch.setattr(remembered.time, "time_ns", lambda: later)
    assert recall(release, "weights", USUAL) is not None
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "sha256_of", None)  # now their stamps are known to tell
        assert recall(release, "weights", USUAL) is not None

    edit(release / "README.md")
    assert recall(release, "weights", USUAL) is None


def test_one_that_was_just_written_and_is_another_is_seen(release, report):
    """Where no stamp would show it: same size, mtime and inode, within the tick."""
    now = time.time_ns()
    os.utime(release / "README.md", ns=(now, now))
    assert remember(release, report, fingerprint(release, USUAL))
    edit(release / "README.md")
    os.utime(release / "README.md", ns=(now, now))
    assert recall(release, "weights", USUAL) is None


def test_too_many_bytes_that_were_just_written_are_not_hashed(release, monkeypatch):
    """Validating reads them once; remembering it would read them twice more."""
    monkeypatch.setattr(remembered, "MOST_HASHED", 10)
    os.utime(release / "README.md")
    assert fingerprint(release, USUAL) is None


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\xff", None, {"format": 99}, {"when": "x"}, {"report": {}}])
def test_a_damaged_record_is_as_good_as_none(kept, tmp_path, damage):
    """And is written anew."""
    (file,) = files(tmp_path)
    if isinstance(damage, dict):
        damage = json.dumps(json.loads(file.read_bytes()) | damage).encode()
    file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)
    assert recall(kept, "weights", USUAL) is None


def test_a_state_folder_that_cannot_be_written_is_no_error(release, report, tmp_path, monkeypatch):
    """Nothing is kept then."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAEREG_CACHE", str(tmp_path / "file"))
    assert not remember(release, report, fingerprint(release, USUAL))
    assert recall(release, "weights", USUAL) is None


def test_a_bounded_number_is_kept(release, report, tmp_path, monkeypatch):
    """The latest."""
    monkeypatch.setattr(remembered, "MOST", 3)
    for tolerance in range(1, 6):
        settings = Settings(tolerances={"l0": float(tolerance)})
        assert remember(release, report, fingerprint(release, settings))
    assert len(files(tmp_path)) == 3


@pytest.fixture
def plugin(tmp_path):
    """A third-party check, installed as pip does it."""
    site, name = tmp_path / "site", "acme_remembered"
    info = site / "acme_remembered-1.0.dist-info"
    info.mkdir(parents=True)
    (site / name).mkdir()
    (site / name / "__init__.py").write_text("RULES = ()\nCHECKS = ()\n")
    (site / name / "helper.py").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-remembered\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[saereg.checks]\nacme = {name}\n")
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield site / name
    sys.path.remove(str(site))
    sys.modules.pop(name, None)
    importlib.invalidate_caches()


def test_with_third_party_checks_it_holds_while_their_sources_do(release, report, plugin):
    """Any file of their package counts; a check whose sources cannot be found is run anew."""
    settings = Settings(plugins=("acme",))
    assert remember(release, report, fingerprint(release, settings))
    assert recall(release, "weights", settings) is not None
    assert recall(release, "weights", USUAL) is None
    (plugin / "helper.py").write_text("x = 1")
    assert recall(release, "weights", settings) is None
    assert fingerprint(release, Settings(plugins=("absent",))) is None


LEVEL_OF: list[tuple[list[str], Level | None]] = [
    (["--level", "weights"], "weights"),
    (["--level", "header"], None),
    (["--level", "weights", "--fix", "--diff"], None),
]


@pytest.mark.parametrize(("words", "level"), LEVEL_OF)
def test_the_command_keeps_the_report_of_a_deep_validation(release, tmp_path, monkeypatch, words, level):
    """For `saereg publish`; it always looks anew itself, and --fix keeps nothing."""
    monkeypatch.chdir(tmp_path)
    code = run(["validate", str(release), "--isolated", *words])
    found = recall(release, "header", Settings())
    assert (code, found.report.level if found else None) == (0, level)


def test_the_command_never_answers_from_memory(kept, monkeypatch, capsys):
    """A report that lies is not shown."""
    monkeypatch.setattr(remembered, "recall", None)
    assert run(["validate", str(kept), "--isolated", "--level", "weights"]) == 0
