"""`saereg diff`: its output, its exit codes, what it refuses, and a release on the Hub by documents alone."""

import json

import pytest

from saereg.cli import run
from saereg.schemas.difference import Difference
from tests.reading_hub import REPO, SHA, Client, hub
from tests.registry.differences import documents as d


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A working directory with a release in `old`."""
    monkeypatch.chdir(tmp_path)
    return d.write(tmp_path / "old")


@pytest.fixture
def diff(old, capsys):
    """Run the command in this process; return its exit code, stdout and stderr."""

    def answer(*words: object) -> tuple[int, str, str]:
        code = run(["diff", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return answer


def test_a_release_that_did_not_change_takes_four_lines(diff):
    """And the exit code is 0 with --exit-code too."""
    code, out, err = diff("old", "old", "--exit-code")
    assert (code, out.splitlines()) == (
        0,
        [
            "tiny 1.0.0 → tiny 1.0.0  (old → old)",
            "artifacts: 3 unchanged",
            "",
            "version: nothing changed, which demands no new version; the new release says 1.0.0",
        ],
    )
    assert err == "next: saereg validate old\n"


def test_a_version_that_says_too_little_fails_only_when_asked(diff, tmp_path):
    """The sentence names both versions; weights under an equal one are an error of their own."""
    d.write(tmp_path / "new", d.version("1.0.1"), d.bytes_of(0, 0, "1"))
    code, out, _ = diff("old", "new")
    assert code == 0
    assert "! weights changed: sae_weights.safetensors" in out
    assert "the new release says 1.0.1, the changes demand 2.0.0 (major: weights changed)" in out
    assert diff("old", "new", "--exit-code")[0] == 1
    d.write(tmp_path / "fits", d.version("2.0.0"), d.bytes_of(0, 0, "1"))
    assert diff("old", "fits", "--exit-code")[0] == 0
    d.write(tmp_path / "same", d.bytes_of(0, 0, "1"))
    assert "error: the weights of 1 artifact changed and both say 1.0.0" in diff("old", "same")[1]


def test_json_is_the_whole_difference(diff, tmp_path):
    """It is a document with a schema, and fits it."""
    d.write(tmp_path / "new", d.version("1.1.0"), d.renamed(0, "x"), d.measured(1, 0, value=3.0))
    _, out, _ = diff("old", "new", "--format", "json")
    found = Difference.from_text(out)
    assert (found.old.target, found.new.version, found.unchanged) == ("old", "1.1.0", 1)
    assert found.counts == {"artifact_renamed": 1, "metric_drift": 1}
    assert json.loads(out)["advice"]["least"] == "2.0.0"


def test_many_changed_artifacts_are_summed_up(diff, tmp_path):
    """One line for what all share; --all shows each."""

    def many(manifest: dict, index: dict) -> None:
        for name in ("artifacts",):
            manifest[name] = [dict(manifest[name][0], id=f"a{n}", path=f"a{n}", seed=n) for n in range(40)]
            first = index[name][0]
            index[name] = [
                dict(first, id=f"a{n}", files=[dict(f, path=f"a{n}/{f['role']}") for f in first["files"]])
                for n in range(40)
            ]

    d.write(tmp_path / "many", many)
    d.write(tmp_path / "new", many, lambda m, i: m["sites"]["one"].update(layer=9))
    _, out, _ = diff("many", "new")
    assert "  ! site changed: site.layer  1 → 9  40 artifacts: a0, a1, a2 and 37 more" in out.splitlines()
    assert len(out.splitlines()) < 15
    assert diff("many", "new", "--all")[1].count("site changed: site.layer") == 40
    assert diff("many", "new", "--format", "md")[1].count("\n| **site changed** | `site.layer` | `1` | `9` | `a0`") == 1


def test_two_artifacts_stand_side_by_side(diff):
    """Of one release; what is equal is left out, and there is no version to advise on."""
    code, out, err = diff("old:layer_1/a", "old:layer_1/b")
    assert code == 0
    assert any(line.split() == ["field", "seed", "0", "1"] for line in out.splitlines())
    assert "version" not in out
    assert "d_sae" not in out
    assert err == "next: saereg show old:layer_1/b\n"
    assert "no difference" in diff("old:layer_1/a", "old:layer_1/a")[1]


def test_a_changelog_is_printed_or_put_into_a_file(diff, tmp_path):
    """Twice the same bytes, hand-written text untouched."""
    d.write(tmp_path / "new", d.version("2.0.0"), d.removed(2))
    _, out, _ = diff("old", "new", "--changelog", "--date", "2026-01-31")
    assert out == "## [2.0.0] - 2026-01-31\n\n### Removed\n\n- `layer_2/c`\n"
    log = tmp_path / "CHANGELOG.md"
    log.write_text("# Log\n\nMine.\n\n## 1.0.0\n\n- mine\n")
    assert diff("old", "new", "--changelog", "-o", "CHANGELOG.md")[0] == 0
    first = log.read_text()
    assert first.startswith("# Log\n\nMine.\n\n<!-- saereg:begin changelog-2.0.0 -->\n## [2.0.0]\n")
    assert first.endswith("<!-- saereg:end changelog-2.0.0 -->\n\n## 1.0.0\n\n- mine\n")
    assert "same section" in diff("old", "new", "--changelog", "-o", "CHANGELOG.md")[2]
    assert log.read_text() == first


REFUSED = [
    (("old", "nowhere"), 5, "nowhere is not a folder"),
    (("old", "old:layer_1/z"), 2, "did you mean 'layer_"),
    (("old", "old:layer_1/a"), 2, "name two of a kind, e.g. old:layer_1/a"),
    (("old", "@v1"), 2, "old is a folder and has no revisions"),
    (("old", "bad"), 2, "bad/manifest.json: not JSON"),
    (("old", "old", "--metric-tolerance", "l1=3"), 2, "unknown metric of --metric-tolerance 'l1'"),
    (("old", "old", "--metric-tolerance", "l0=-1"), 2, "expected a number of 0 or more"),
    (("old", "old", "--metric-tolerance", "l0=nan"), 2, "expected a number of 0 or more"),
    (("old", "old", "-o", "X.md"), 2, "-o goes with --changelog"),
    (("old", "old", "--changelog", "--date", "31.1.2026"), 2, "expected a day as 2026-01-31"),
    (("old", "old", "--changelog", "--format", "json"), 2, "leave --format json out"),
    (("old", "old", "--changelog", "-o", "no/X.md"), 2, "there is no folder"),
    (("old", "old", "--changelog", "-o", "old/manifest.json"), 2, "is no Markdown; name a changelog"),
    (("old:layer_1/a", "old:layer_1/b", "--changelog"), 2, "a changelog is on two releases"),
]


@pytest.mark.parametrize(("words", "code", "sentence"), REFUSED)
def test_what_cannot_be_compared_is_one_line(diff, tmp_path, words, code, sentence):
    """With the exit code of its kind; nothing is written."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text('{"release": ')
    answered, out, err = diff(*words)
    assert (answered, out) == (code, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_texts_of_others_cannot_move_the_cursor(diff, tmp_path):
    """A title with an escape sequence is shown with its characters written out."""
    d.write(tmp_path / "new", lambda m, i: m["release"].update(title="a\x1b[2Jb\nc"))
    for form in ("text", "md"):
        out = diff("old", "new", "--format", form)[1]
        assert "\x1b" not in out
        assert "\nc" not in out


@pytest.mark.slow
def test_a_release_on_the_hub_is_compared_by_documents_alone(old, tmp_path):
    """By hf:// or org/repo@revision; its weights are there, and nobody asks for them."""
    remote = d.write(tmp_path / "remote", d.version("1.0.1"))
    (remote / "layer_1" / "a").mkdir(parents=True)
    (remote / "layer_1" / "a" / "sae_weights.safetensors").write_bytes(b"weights")
    with hub(remote) as server:
        done = Client(tmp_path / "home").saereg(server.url, "diff", "old", f"{REPO}@{SHA}", "--format", "json")
        asked = server.fetched()
    assert done.returncode == 0, done.stderr
    found = Difference.from_text(done.stdout)
    assert (found.new.target, found.new.commit, found.new.version) == (f"{REPO}@{SHA}", SHA, "1.0.1")
    assert found.counts == {}
    assert not [path for path in asked if path.endswith(".safetensors")]
