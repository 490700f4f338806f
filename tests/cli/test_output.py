"""What each verb prints: data on stdout, hints on stderr, nothing that a terminal alone understands."""

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from saereg.cli.render.context import Context
from saereg.cli.render.plain import as_text
from saereg.schemas.export import schema
from saereg.schemas.report import Finding, Report, Summary
from tests.cases.tools import edit

NEXT = [
    (["build", "release", "--no-figures", "--no-features"], "saereg validate release --level data"),
    (
        ["build", "release", "--no-figures", "--no-features", "--checkpoints", "my checkpoints"],
        "saereg validate release --level data --checkpoints 'my checkpoints'",
    ),
    (["validate", "release", "--level", "layout"], "saereg validate release --level header"),
    (
        ["validate", "release", "--checkpoints", "release"],
        "saereg validate release --level weights --checkpoints release",
    ),
    (["validate", "release", "--level", "data"], "saereg publish release hf://ORG/NAME --dry-run"),
    (["ls", "release"], "saereg show release:layer_1/topk"),
    (["ls", "release", "--sort=-layer", "--where", "kind=crosscoder"], "saereg show release:W_U/cross-snapshot-2"),
    (["ls", "release", "--format", "ids"], "saereg show release:layer_1/topk"),
    (["ls", "release", "--where", "l0 > 100"], "saereg ls release"),
    (["show", "release"], "saereg ls release"),
    (
        ["show", "release:layer_1/topk"],
        """python -c "import saereg; print(saereg.load('release:layer_1/topk'))\"""",
    ),
    (["rule"], "saereg rule SR001"),
    (["rule", "SR421"], "saereg validate RELEASE --level weights"),
    (["schema"], "saereg schema manifest"),
    (["schema", "plan"], "saereg schema plan > plan-1.schema.json"),
    (["publish", "release", "dir:out", "--dry-run"], "saereg publish release dir:out"),
    (
        ["publish", "release", "dir:out", "--dry-run", "--level", "header", "--delete-remote-only"],
        "saereg publish release dir:out --level header --delete-remote-only",
    ),
    (["publish", "release", "dir:out"], "saereg ls out"),
]


@pytest.mark.parametrize(("words", "step"), NEXT, ids=[" ".join(words) for words, _ in NEXT])
def test_every_verb_names_the_next_command_with_the_users_own_words(saereg, words, step):
    """One line, on stderr."""
    answer = saereg(*words)
    assert (answer.code, answer.next) == (0, step)
    assert "next:" not in answer.out


@pytest.mark.parametrize("name", ["two words", "it's", 'say "hi"', "a$HOME", "back\\slash"])
def test_a_hint_can_be_pasted_whatever_the_folder_is_called(saereg, place, name):
    """Quoted for the shell, and for Python inside it."""
    shutil.copytree(place / "release", place / name)
    assert shlex.split(saereg("validate", name).next) == ["saereg", "validate", name, "--level", "weights"]
    assert shlex.split(saereg("ls", name).next) == ["saereg", "show", f"{name}:layer_1/topk"]
    python, flag, code = shlex.split(saereg("show", f"{name}:layer_1/topk").next)
    assert (python, flag) == ("python", "-c")
    assert code == f"import saereg; print(saereg.load({f'{name}:layer_1/topk'!r}))"


@pytest.mark.slow
def test_the_hint_to_load_an_artifact_loads_it(saereg, place):
    """Pasted into a shell, with the worst of names."""
    shutil.copytree(place / "release", place / "it's $HOME")
    hint = saereg("show", "it's $HOME:layer_1/topk").next.replace("python", sys.executable, 1)
    done = subprocess.run(["bash", "-c", hint], cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Dictionary" in done.stdout


def test_the_table_of_a_release(saereg):
    """Numbers stand right, absent values are a dash and never a zero, columns without values are left out."""
    answer = saereg("ls", "release")
    lines = answer.out.splitlines()
    assert (
        lines[0] == "id                    kind        arch        layer  d_in  d_sae  k  seed      ev         l0  dead"
    )
    assert (
        lines[1] == "layer_1/topk          sae         topk            1     4     10  3     0  -3.623      2.917     0"
    )
    assert (
        lines[4] == "W_U/cross-snapshot-2  crosscoder  jumprelu        –     4     10  –     0  -11.09  3.625/src   0.1"
    )
    assert len(lines) == 5
    assert answer.err.startswith("/src: active latents per source of a crosscoder (l0_per_source_mean)\n")


def test_several_releases_are_told_apart(saereg, place):
    """By a column of their own, and the hint names the right one."""
    shutil.copytree(place / "release", place / "second")
    path = place / "second/manifest.json"
    path.write_text(path.read_text().replace('"version": "1.0.0"', '"version": "2.0.0"'))
    answer = saereg("ls", "release", "second", "--sort", "-release", "--where", "kind = sae")
    assert [line[:15] for line in answer.out.splitlines()] == ["release        ", *["tiny-saes 2.0.0"] * 2] + [
        "tiny-saes 1.0.0"
    ] * 2
    assert answer.next == "saereg show second:layer_1/topk"


def test_columns_that_were_asked_for_are_shown_even_without_values(saereg):
    """In the order given, short names allowed."""
    answer = saereg("ls", "release", "--columns", "ev, id,variant", "--where", "kind = transcoder")
    assert answer.out.splitlines() == ["    ev  id                  variant", "-4.213  layer_1/transcoder        –"]


def test_conditions_add_up(saereg):
    """Every --where must hold, and an absent value meets none."""
    answer = saereg("ls", "release", "--where", "kind = sae", "--where", "l0 > 3", "--format", "ids")
    assert answer.out == "layer_1/jumprelu\n"
    assert saereg("ls", "release", "--where", "k < 1000", "--format", "ids").out.count("\n") == 1
    assert saereg("ls", "release", "--where", "layer != 7", "--format", "ids").out.count("\n") == 3


def test_sorting_puts_absent_values_last_both_ways(saereg):
    """Because they are neither large nor small."""
    up = saereg("ls", "release", "--sort", "layer,l0", "--format", "ids").out.split()
    down = saereg("ls", "release", "--sort=-layer,-l0", "--format", "ids").out.split()
    assert up == ["layer_1/topk", "layer_1/jumprelu", "layer_1/transcoder", "W_U/cross-snapshot-2"]
    assert down == ["layer_1/transcoder", "layer_1/jumprelu", "layer_1/topk", "W_U/cross-snapshot-2"]


def test_ls_as_json_has_every_field_and_null_where_there_is_no_value(saereg):
    """A zero stays a zero."""
    rows = json.loads(saereg("ls", "release", "--format", "json").out)
    assert [row["id"] for row in rows][:2] == ["layer_1/topk", "layer_1/jumprelu"]
    assert rows[0]["seed"] == 0
    assert rows[3]["k"] is None
    assert rows[3]["steps"] == [0, 1000]
    assert json.loads(saereg("ls", "release", "--where", "l0>99", "--format", "json").out) == []


def test_nothing_selected_is_said_on_stderr(saereg):
    """ids of nothing are nothing."""
    answer = saereg("ls", "release", "--where", "l0 > 99", "--format", "ids")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith("no artifact meets every condition\n")


def test_an_artifact_shows_identity_semantics_numbers_and_proof(saereg):
    """A zero is shown; what is absent is left out."""
    text = saereg("show", "release:W_U/cross-snapshot-2").out
    assert text.startswith("W_U/cross-snapshot-2\n  kind            crosscoder\n")
    assert "  seed            0\n" in text
    assert "  steps           0, 1000\n" in text
    assert "  layer " not in text
    for heading in ("\nsemantics\n", "\nmeasured\n", "\nclaimed\n", "\nproof\n"):
        assert heading in text
    assert "explained_variance  -11.09  verified" in text
    assert "None" not in text
    assert "4 of 4 tensors moved bitwise, max_abs_diff 0" in saereg("show", "release:layer_1/topk").out


def test_a_release_shows_what_it_is(saereg, place):
    """With evidence its size; without, what to run."""
    text = saereg("show", "release").out
    assert text.startswith("tiny-saes 1.0.0\n  title        Tiny dictionaries\n")
    assert "  files        16 files, " in text
    (place / "release/index.json").unlink()
    answer = saereg("show", "release")
    assert answer.out.endswith("  evidence     none yet: saereg build\n")
    assert answer.next == "saereg build release"


def test_show_finds_an_artifact_by_its_folder(saereg):
    """The same text either way."""
    assert saereg("show", "release/layer_1/topk").out == saereg("show", "release:layer_1/topk").out


def test_an_artifact_in_a_release_that_cannot_be_read_says_so(saereg, place):
    """And not that its own folder is no release."""
    (place / "release/index.json").write_text("")
    answer = saereg("show", "release/layer_1/topk")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    assert "release/index.json: not JSON" in answer.err


def test_a_source_checkpoint_without_tensors_is_shown(saereg, place):
    """None of none were compared."""
    edit(place / "release/index.json", lambda index: index["artifacts"][0]["round_trip"].update(tensors={}))
    answer = saereg("show", "release:layer_1/topk")
    assert answer.code == 0
    assert "0 of 0 tensors moved bitwise, max_abs_diff 0\n" in answer.out


def test_what_would_move_the_cursor_is_written_out(saereg, place):
    """A title is one line, whatever stands in it."""
    edit(place / "release/manifest.json", lambda m: m["release"].update(title="a\n\x1b[31mred \u202eé 🙂"))
    assert "  title        a\\n\\x1b[31mred \\u202eé 🙂\n" in saereg("show", "release").out


def test_show_as_json_is_claim_evidence_and_fields(saereg, place):
    """A release is its manifest, an artifact its claim and evidence."""
    assert saereg("show", "release", "--format", "json").out == (place / "release/manifest.json").read_text()
    shown = json.loads(saereg("show", "release:layer_1/topk", "--format", "json").out)
    assert list(shown) == ["claim", "evidence", "fields"]
    assert shown["claim"]["id"] == shown["evidence"]["id"] == shown["fields"]["id"] == "layer_1/topk"


def test_a_finding_says_where_what_and_how_to_mend_it(saereg, place):
    """With the line and a mark under the key."""
    path = place / "release/manifest.json"
    path.write_text(path.read_text().replace('"hook_name": "blocks.1.hook_resid_post"', '"hook_nam": "x"'))
    answer = saereg("validate", "release")
    block = answer.out.split("\n\n")[0].splitlines()
    assert block[0].startswith("manifest.json:")
    assert "  error SR103  " in block[0]
    assert '"hook_nam": "x"' in block[1]
    assert block[2].split("|")[1].lstrip().startswith("^^^")
    assert block[-1].startswith("   fix  ")
    assert block[-1].endswith("(saereg rule SR103)")


def test_json_of_a_report_fits_its_schema_and_is_the_same_twice(saereg):
    """No time, no machine path."""
    text = saereg("validate", "release", "--format", "json", "--level", "weights").out
    report = json.loads(text)
    jsonschema.validate(report, json.loads(schema("report")))
    assert report["findings"] == []
    assert report["summary"]["artifacts"] == 4
    assert saereg("validate", "release", "--format", "json", "--level", "weights").out == text


def test_a_report_can_go_to_a_file(saereg, place):
    """stdout stays empty, stderr says where it is, and the exit code is that of the findings."""
    (place / "release/index.json").unlink()
    answer = saereg("validate", "release", "--format", "json:report.json")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("report: report.json\n")
    assert json.loads((place / "report.json").read_text())["summary"]["errors"] == 1


def test_fail_on_sets_the_least_severity_that_fails(saereg, place):
    """And the next step explains what failed."""
    (place / "release/notes.txt").write_text("not indexed\n")
    assert saereg("validate", "release").code == 0
    answer = saereg("validate", "release", "--fail-on", "warning")
    assert (answer.code, answer.next) == (1, "saereg rule SR003")
    assert saereg("validate", "release", "--fail-on", "note").code == 1


def test_a_schema_is_printed_as_committed(saereg):
    """Byte for byte."""
    assert saereg("schema", "plan").out == schema("plan")
    assert saereg("schema").out.split()[:3] == ["manifest", "index", "cfg"]


def test_publishing_says_what_it_will_do_and_did(saereg, place):
    """Plan, then receipt; the second time nothing."""
    first = saereg("publish", "release", "dir:out", "--receipt", "receipt.json")
    lines = first.out.splitlines()
    assert lines[0] == "tiny-saes 1.0.0, validated at level weights: 0 errors"
    assert lines[1].startswith("to dir:out: 18 files, ")
    assert lines[1].endswith(" (0 B already there)")
    assert "  + config.json  56 B" in lines
    assert lines[-1].startswith("published in ")
    second = saereg("publish", "release", "dir:out").out.splitlines()
    assert second[2:] == ["  = 18 files unchanged", "nothing to do: the target holds exactly this release"]
    receipt = json.loads((place / "receipt.json").read_text())
    jsonschema.validate(receipt, json.loads(schema("receipt")))
    plan = json.loads(saereg("publish", "release", "dir:elsewhere", "--dry-run", "--format", "json").out)
    jsonschema.validate(plan, json.loads(schema("plan")))
    assert not (place / "elsewhere").exists()


@pytest.mark.slow
def test_without_a_terminal_there_are_no_escape_codes(process, place):
    """Neither on stdout nor on stderr, also with findings."""
    (place / "release/index.json").unlink()
    for words in (["validate", "release"], ["ls", "release"], ["rule"], ["publish", "release", "dir:out"]):
        answer = process(*words)
        assert "\x1b" not in answer.out + answer.err


def test_a_terminal_gets_colour_unless_no_color_is_set(place):
    """And a progress bar, on stderr alone."""
    (place / "release/index.json").unlink()
    colour, plain = _on_terminal(place), _on_terminal(place, NO_COLOR="1")
    assert "\x1b[31m" in colour
    assert "error SR011" in plain
    assert "\x1b[31m" not in plain
    assert "\x1b[1m" not in plain


def _on_terminal(place, **environment: str) -> str:
    """Return what a terminal sees of a validation."""
    leader, follower = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    done = subprocess.Popen(
        [sys.executable, "-m", "saereg", "validate", "release"],
        cwd=place,
        env=kept | {"TERM": "xterm"} | environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    seen = b""
    try:
        while block := os.read(leader, 4096):
            seen += block
    except OSError:  # the terminal is gone with the process
        pass
    finally:
        os.close(leader)
    assert done.wait(timeout=60) == 1
    return seen.decode()


def test_a_file_with_many_findings_is_read_once(place, monkeypatch):
    """A manifest of ten thousand artifacts would else be read ten thousand times."""
    finding = Finding(code="SR423", severity="warning", message="no golden vectors", path="manifest.json", line=2)
    summary = Summary(artifacts=9, errors=0, warnings=9, notes=0, checks=1)
    report = Report(release="r 1.0.0", level="header", findings=(finding,) * 9, summary=summary)
    opened, read = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **options: opened.append(path) or read(path, **options))

    text = as_text(report, Context(place / "release"))

    assert text.count("\n   2 | ") == 9
    assert opened == [place / "release" / "manifest.json"]
