"""`saereg validate --fix`, `--unsafe-fixes` and `--diff`."""

import json
import shutil
import subprocess

import pytest

from tests.cases.tools import artifact_of, edit, reindex


@pytest.fixture
def flawed(place):
    """The release with a log that is not indexed (safe to mend) and a wrong claim (unsafe)."""
    (place / "release/notes.txt").write_text("later\n")
    stated = {"metric": "explained_variance", "value": 0.71, "evaluation": "held-out"}
    edit(place / "release/manifest.json", lambda m: artifact_of(m, "layer_1/topk").update(claims=[stated]))
    reindex(place / "release")
    return place


def texts(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_report_says_what_can_be_mended(saereg, flawed):
    """And by which flag."""
    answer = saereg("validate", "release")

    assert answer.code == 1
    assert "can be mended: 1 with --fix, 1 with --unsafe-fixes" in answer.out


def test_fix_mends_what_is_safe_and_reports_the_rest(saereg, flawed):
    """The exit code is that of what is left."""
    answer = saereg("validate", "release", "--fix")

    assert answer.code == 1
    assert "mended 1 finding in 1 file: SR003\n" in answer.err
    assert "SR411" in answer.out
    assert "SR003" not in answer.out
    assert saereg("validate", "release", "--select", "SR003").code == 0


def test_unsafe_fixes_mend_both(saereg, flawed):
    """Then the release is clean, at every level."""
    answer = saereg("validate", "release", "--unsafe-fixes")

    assert (answer.code, "mended 2 findings in 2 files: SR003, SR411\n" in answer.err) == (0, True)
    assert saereg("validate", "release", "--level", "data").code == 0
    again = saereg("validate", "release", "--unsafe-fixes")
    assert (again.code, "nothing to mend\n" in again.err) == (0, True)


def test_diff_is_a_patch_and_writes_nothing(saereg, flawed):
    """What it prints is what git applies; then there is nothing left to mend."""
    before = texts(flawed / "release")

    answer = saereg("validate", "release", "--unsafe-fixes", "--diff")

    assert answer.code == 1
    assert "would mend 2 findings in 2 files: SR003, SR411\n" in answer.err
    assert texts(flawed / "release") == before
    subprocess.run(["git", "apply", "-"], input=answer.out.encode(), cwd=flawed / "release", check=True)
    assert saereg("validate", "release", "--unsafe-fixes", "--diff").out == ""


def test_exit_zero_holds_for_a_diff_too(saereg, flawed):
    """Whoever asks for it wants to see, not to fail."""
    answer = saereg("validate", "release", "--unsafe-fixes", "--diff", "--exit-zero")

    assert (answer.code, "+++ b/manifest.json" in answer.out) == (0, True)


def test_diff_alone_shows_the_safe_fixes(saereg, flawed):
    """As --fix would make them."""
    answer = saereg("validate", "release", "--diff")

    assert "notes.txt" in answer.out
    assert "0.71" not in answer.out


def test_a_clean_release_has_no_diff(saereg, place):
    """Exit code 0, nothing on stdout."""
    answer = saereg("validate", "release", "--diff")

    assert (answer.code, answer.out) == (0, "")


def test_other_formats_speak_of_the_mended_release(saereg, flawed):
    """A file beside the mending holds what is left."""
    saereg("validate", "release", "--fix", "--format", "json:left.json")

    assert {f["code"] for f in json.loads((flawed / "left.json").read_text())["findings"]} == {"SR411"}


def test_a_diff_never_shows_a_secret(saereg, place):
    """The card holds a token near a place that is mended: that file is left out."""
    token = "hf_" + "aB3dE5fG7h" * 4
    path = place / "release/README.md"
    block = "<!-- saereg:begin inventory -->\nold\n<!-- saereg:end inventory -->"
    path.write_text(path.read_text() + f"\ntoken {token}\n\n{block}\n")
    reindex(place / "release")

    answer = saereg("validate", "release", "--diff")

    assert answer.code == 1
    assert token not in answer.out + answer.err
    assert "# README.md: not shown, a finding there is about a secret\n" in answer.out


def test_a_selection_hides_no_secret_from_the_diff(saereg, place):
    """The rule that is not selected still says what may not be shown."""
    token = "hf_" + "aB3dE5fG7h" * 4
    path = place / "release/README.md"
    block = "<!-- saereg:begin inventory -->\nold\n<!-- saereg:end inventory -->"
    path.write_text(path.read_text() + f"\ntoken {token}\n\n{block}\n")
    reindex(place / "release")

    answer = saereg("validate", "release", "--diff", "--select", "SR508")

    assert token not in answer.out + answer.err


def test_a_selected_fix_that_breaks_another_rule_is_not_written(saereg, place):
    """Two artifacts differ by a wrong width alone: what is proved is the whole release, and no patch is shown."""
    release, first, second = place / "release", "layer_1/jumprelu", "layer_1/second"
    shutil.copytree(release / first, release / second)
    twin = {"id": second, "path": second, "d_sae": 12}
    edit(release / "manifest.json", lambda m: m["artifacts"].append(artifact_of(m, first) | twin))
    index = json.loads((release / "index.json").read_text())
    entry = json.loads(json.dumps(artifact_of(index, first)).replace(first, second))
    edit(release / "index.json", lambda i: i["artifacts"].append(entry))
    reindex(release)
    before = texts(release)

    mended = saereg("validate", "release", "--select", "SR215", "--unsafe-fixes")
    shown = saereg("validate", "release", "--select", "SR215", "--unsafe-fixes", "--diff")

    assert (mended.code, "nothing was mended: " in mended.err, "SR110" in mended.err) == (1, True, True)
    assert (shown.code, shown.out, "nothing would be mended: " in shown.err) == (1, "", True)
    assert texts(release) == before


def test_only_what_is_selected_is_mended(saereg, flawed):
    """The log that is not indexed stays so; the claim is mended."""
    answer = saereg("validate", "release", "--select", "SR4", "--unsafe-fixes")

    assert (answer.code, "mended 1 finding in 2 files: SR411\n" in answer.err) == (0, True)
    assert "SR003" in saereg("validate", "release").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--load", "run.json", "--fix"], "do not go with --load"),
        (["hf://org/repo", "--fix"], "--fix needs the whole release: hf download org/repo"),
    ],
)
def test_what_cannot_be_mended_is_said_in_one_line(saereg, place, words, message, monkeypatch):
    """Exit code 2."""
    saereg("validate", "release", "--format", "json:run.json")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    answer = saereg("validate", *words)

    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
