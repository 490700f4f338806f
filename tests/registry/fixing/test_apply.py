"""What can be mended is mended, proved beside the release, and written only then."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from saereg.registry.fixing import FIXERS
from saereg.registry.fixing.apply import Fixes, plan_fixes, write_fixes
from saereg.registry.validators.rules import RULES
from saereg.registry.validators.runner import validate
from saereg.schemas.report import Report
from tests.cases.plant import CASES, folder_of
from tests.cases.tools import JUMP, TOPK, artifact_of, claim, config, edit, manifest, reindex
from tests.releases import tiny_release


def plan(release: Path, *, unsafe: bool = False, level: str = "header") -> Fixes:
    return plan_fixes(release, validate(release, level), lambda folder: validate(folder, level), unsafe=unsafe)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def codes(release: Path, level: str = "header") -> list[str]:
    return [finding.code for finding in validate(release, level).findings]


def _unsorted(release: Path) -> None:
    path = release / "manifest.json"
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items())), indent=2) + "\n")
    reindex(release)


def front_matter(key: str, line: str) -> object:
    """Return a defect in the front matter: the line of a key is another one, or missing."""

    def plant(release: Path) -> None:
        path = release / "README.md"
        lines = path.read_text().splitlines(keepends=True)
        at = next(i for i, text in enumerate(lines) if text.startswith(f"{key}:"))
        lines[at : at + 1] = [line] if line else []
        path.write_text("".join(lines))
        reindex(release)

    return plant


def _stale_block(release: Path) -> None:
    path = release / "README.md"
    path.write_text(
        path.read_text().rstrip() + "\n\n<!-- saereg:begin inventory -->\nold\n<!-- saereg:end inventory -->\n"
    )
    reindex(release)


def _text_sorted_rows(release: Path) -> None:
    path = release / "README.md"
    rows = "".join(f"| step{n} | yes |\n" for n in (1, 1000, 102000, 2000))
    path.write_text(path.read_text().rstrip() + f"\n\n| snapshot | kept |\n|---|---|\n{rows}")
    reindex(release)


def _no_card(release: Path) -> None:
    (release / "README.md").unlink()
    edit(release / "index.json", lambda i: i.update(files=[f for f in i["files"] if f["path"] != "README.md"]))


SAFE = {
    "SR003": lambda release: (release / "notes.txt").write_text("later\n"),
    "SR009": lambda release: (release / "README.md").write_text((release / "README.md").read_text() + "\nMore.\n"),
    "SR106": _unsorted,
    "SR105": manifest(lambda m: m.pop("$schema", None)),
    "SR500": _no_card,
    "SR501": front_matter("library_name", ""),
    "SR502": front_matter("license", ""),
    "SR508": _stale_block,
}

UNSAFE = {
    "SR012": lambda release: edit(release / "manifest.json", lambda m: m["release"].update(title="Another title")),
    "SR103": config(JUMP, lambda c: c.update(normalise_activations=c.pop("normalize_activations"))),
    "SR204": config(JUMP, lambda c: c.update(dtype="bfloat16")),
    "SR215": manifest(lambda m: artifact_of(m, JUMP).update(d_sae=12)),
    "SR411": manifest(claim("explained_variance", 0.71)),
    "SR418": manifest(claim("mse_per_row", 5.241)),
    "SR501 ": front_matter("library_name", "library_name: transformers\n"),
    "SR503": front_matter("base_model_relation", "base_model_relation: finetune\n"),
    "SR509": _text_sorted_rows,
}


@pytest.mark.parametrize("code", [*SAFE, *UNSAFE])
def test_a_fix_takes_the_finding_away_and_brings_no_other(tmp_path, code):
    """Written, validated again: clean; and doing it twice changes nothing more."""
    release = tiny_release(tmp_path, checkpoints=False)
    (SAFE | UNSAFE)[code](release)
    code, unsafe = code.strip(), code in UNSAFE
    assert code in codes(release)

    fixes = plan(release, unsafe=unsafe)
    assert fixes.problem is None
    assert code in {finding.code for finding in fixes.fixed}
    write_fixes(release, fixes)

    assert codes(release) == []
    assert codes(release, "weights") == []
    assert plan(release, unsafe=True).changed == {}


@pytest.mark.parametrize("code", UNSAFE)
def test_what_changes_a_statement_is_left_alone_unless_asked_for(tmp_path, code):
    """`--fix` alone never changes what the author says."""
    release = tiny_release(tmp_path, checkpoints=False)
    UNSAFE[code](release)

    assert plan(release).changed == {}


def test_planning_writes_nothing(tmp_path):
    """Not in the release, and nothing beside it stays."""
    release = tiny_release(tmp_path, checkpoints=False)
    UNSAFE["SR411"](release)
    _unsorted(release)
    before, beside = contents(release), sorted(tmp_path.iterdir())

    assert plan(release, unsafe=True).changed

    assert contents(release) == before
    assert sorted(tmp_path.iterdir()) == beside


def test_only_the_files_concerned_change(tmp_path):
    """A wrong claim: the manifest, and the index that carries its digest."""
    release = tiny_release(tmp_path, checkpoints=False)
    UNSAFE["SR411"](release)
    before = contents(release)

    write_fixes(release, plan(release, unsafe=True))

    after = contents(release)
    assert {path for path in after if after[path] != before.get(path)} == {"manifest.json", "index.json"}


def test_altered_weights_are_never_taken_for_right(tmp_path):
    """A digest that evidence hangs on is not simply computed anew."""
    release = tiny_release(tmp_path, checkpoints=False)
    path = release / TOPK / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")

    fixes = plan(release, unsafe=True, level="weights")

    assert fixes.changed == {}
    assert "SR009" in {finding.code for finding in fixes.report.findings}


def _pipe(release: Path) -> None:
    os.mkfifo(release / "pipe")


def _name_of_another_encoding(release: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(release) + b"/bad\xff.txt")).touch()
    except OSError:
        pytest.skip("this system has names in UTF-8 alone")


@pytest.mark.parametrize("plant", [_pipe, _name_of_another_encoding])
def test_what_the_copy_would_lack_is_named_and_nothing_is_written(tmp_path, plant):
    """Else the copy would be clean where the release is not."""
    release = tiny_release(tmp_path)
    (release / "notes.md").write_text("not indexed\n")
    plant(release)

    fixes = plan(release)

    assert fixes.problem is not None
    assert fixes.problem.endswith("cannot be copied, so no change can be proved; rename or remove it first")
    assert (fixes.changed, fixes.report) == ({}, validate(release, "header"))
    assert [path.name for path in tmp_path.iterdir() if "fixing" in path.name] == []


def test_the_copy_of_a_run_that_was_killed_is_swept_away(tmp_path):
    """That of one which still runs is not."""
    release = tiny_release(tmp_path)
    (release / "notes.md").write_text("not indexed\n")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getppid()):
        (tmp_path / f".release.fixing.{process}").mkdir()

    plan(release)

    assert [path.name for path in tmp_path.glob(".release.fixing.*")] == [f".release.fixing.{os.getppid()}"]


def test_a_file_that_changed_meanwhile_is_not_overwritten(tmp_path):
    """The author saves the manifest while the fix is being proved."""
    release = tiny_release(tmp_path, checkpoints=False)
    _unsorted(release)
    fixes = plan(release)
    edit(release / "manifest.json", lambda m: m["release"].update(title="Saved meanwhile"))
    before = contents(release)

    with pytest.raises(ValueError, match=r"manifest\.json has changed meanwhile"):
        write_fixes(release, fixes)

    assert contents(release) == before


@pytest.mark.parametrize("before", ["", "\fA page\u2028and a line\n\n"])
def test_rows_are_sorted_and_nothing_else_moves(tmp_path, before):
    """Where the last row ends the file without an end of line, and where the text holds odd separators."""
    release = tiny_release(tmp_path, checkpoints=False)
    path = release / "README.md"
    text = f"{path.read_text()}\n{before}| snapshot | kept |\n|---|---|\n"
    path.write_text(text + "| step1 | a |\n| step102000 | b |\n| step2000 | c |")
    reindex(release)

    fixes = plan(release, unsafe=True)

    assert fixes.problem is None
    assert fixes.changed["README.md"] == text + "| step1 | a |\n| step2000 | c |\n| step102000 | b |"


def test_a_key_of_the_front_matter_goes_without_its_neighbours(tmp_path):
    """A line separator of Unicode inside a value ends no line of the file."""
    release = tiny_release(tmp_path, checkpoints=False)
    path = release / "README.md"
    text = path.read_text()
    assert text.count("license: mit\n") == 1
    path.write_text(text.replace("license: mit\n", 'note: "a\u2028b"\nlicense: MIT\n'))
    reindex(release)

    changed = plan(release, unsafe=True).changed["README.md"]

    assert 'note: "a\u2028b"\n' in changed
    assert "MIT" not in changed.split("---")[1]
    assert set(text.split("\n")) <= set(changed.split("\n"))


def test_a_card_that_is_a_link_is_not_replaced(tmp_path):
    """It leads out of the release, which is another finding; a first card would take its place."""
    release = tiny_release(tmp_path, checkpoints=False)
    _no_card(release)
    (release / "README.md").symlink_to(tmp_path / "elsewhere.md")

    assert "README.md" not in plan(release, unsafe=True).changed


def test_the_diff_is_one_that_git_applies(tmp_path):
    """What --diff prints, applied by another program, gives the same bytes."""
    release = tiny_release(tmp_path / "a", checkpoints=False)
    UNSAFE["SR411"](release)
    _no_card(release)
    shutil.copytree(release, tmp_path / "b")
    fixes = plan(release, unsafe=True)
    assert set(fixes.changed) == {"README.md", "manifest.json", "index.json"}

    write_fixes(release, fixes)
    subprocess.run(["git", "apply", "-"], input=fixes.diff().encode(), cwd=tmp_path / "b", check=True)

    assert contents(tmp_path / "b") == contents(release)


def test_an_ignored_finding_is_not_mended(tmp_path):
    """Who accepts a finding does not want it changed."""
    from saereg.schemas.settings import Ignore, Settings

    release = tiny_release(tmp_path, checkpoints=False)
    _unsorted(release)
    settings = Settings(ignore=(Ignore(rules=("SR106",), reason="the order tells a story"),))

    report = validate(release, settings=settings)

    assert plan_fixes(release, report, lambda folder: validate(folder, settings=settings)).changed == {}


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if RULES[case.code].fixable and not case.passes])
def test_what_a_finding_says_of_being_mended_is_true(tmp_path, name):
    """Every planted defect whose finding says `fixable` is mended, or its mending is refused with a reason."""
    case = CASES[name]
    shutil.copytree(folder_of(name) / "release", tmp_path / "release", symlinks=True)

    def check(folder: Path) -> Report:
        return validate(folder, case.level, options=case.options, settings=case.settings)

    report = check(tmp_path / "release")
    for unsafe in (False, True):
        promised = [f for f in report.findings if f.fixable == "safe" or (unsafe and f.fixable)]
        fixes = plan_fixes(tmp_path / "release", report, check, unsafe=unsafe)

        assert fixes.problem is None or promised
        assert fixes.problem or {f.fingerprint for f in promised} == {f.fingerprint for f in fixes.fixed}


def test_every_fix_is_announced_by_its_rule():
    """A rule says `fixable` if and only if something mends it."""
    mended = {code for fixer in FIXERS for code in fixer.codes} | {"SR003", "SR009", "SR012"}

    assert mended == {code for code, rule in RULES.items() if rule.fixable}


def test_evidence_of_other_data_is_not_signed_anew(tmp_path):
    """The manifest now names another site or more rows for an evaluation: only `saereg build` can say what holds."""
    release = tiny_release(tmp_path, checkpoints=False)
    edit(release / "manifest.json", lambda m: m["evaluations"]["held-out"].update(site="block-1-mlp"))

    assert "SR012" in codes(release)
    assert plan(release, unsafe=True).changed == {}


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path):
    """The copy beside the release, of a process that is no more."""
    release = tiny_release(tmp_path, checkpoints=False)
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f".release.fixing.{ended.pid}"
    left.mkdir()
    _unsorted(release)

    plan(release)

    assert not left.exists()
