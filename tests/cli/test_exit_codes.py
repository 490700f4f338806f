"""Every exit code is reached for real, and every failure is a line, not a traceback."""

import errno
import json
import os
import re
import subprocess
import sys

import pytest

from saereg.cli.render.report import RENDERERS
from saereg.errors import ExitCode


def _break(place):
    """Damage a configuration, so that the release has an error."""
    path = place / "release/layer_1/topk/cfg.json"
    path.write_text(path.read_text().replace('"k": 3', '"k": 300'))


def test_0_a_clean_release(process):
    """Data on stdout, the hint on stderr."""
    answer = process("validate", "release")
    assert answer.code == ExitCode.CLEAN
    assert re.sub(r"\d+ checks", "N checks", answer.out) == (
        "tiny-saes 1.0.0: 4 artifacts, level header, N checks: 0 errors, 0 warnings, 0 notes\n"
    )
    assert answer.err == "next: saereg validate release --level weights\n"


def test_1_findings(process, place):
    """The next step explains the first of them."""
    _break(place)
    answer = process("validate", "release")
    assert answer.code == ExitCode.FINDINGS
    assert "error SR009" in answer.out
    assert answer.next.startswith("saereg rule SR")


def test_1_publishing_with_findings(process, place):
    """Nothing is published, nothing is on stdout."""
    _break(place)
    answer = process("publish", "release", "dir:out", "--level", "header")
    assert (answer.code, answer.out) == (ExitCode.FINDINGS, "")
    assert answer.err.startswith("error: tiny-saes 1.0.0 has ")
    assert answer.err.endswith("; nothing was published. See: saereg validate release --level header\n")
    assert answer.err.count("\n") == 1
    assert not (place / "out").exists()


@pytest.mark.parametrize("form", RENDERERS)
def test_the_format_never_changes_the_exit_code(saereg, place, form):
    """Also with findings."""
    assert saereg("validate", "release", "--format", form).code == 0
    _break(place)
    assert saereg("validate", "release", "--format", form).code == 1


def test_3_a_bug_is_one_line(saereg, monkeypatch):
    """No traceback; and where to find it."""
    monkeypatch.setattr("saereg.registry.release.open_release", _fail)
    answer = saereg("ls", "release")
    assert (answer.code, answer.out) == (ExitCode.INTERNAL, "")
    expected = "internal error: RuntimeError: the reactor is cold (SAEREG_TRACEBACK=1 shows where; please report it)\n"
    assert answer.err == expected


def test_3_with_its_traceback_on_demand(saereg, monkeypatch):
    """SAEREG_TRACEBACK=1 lets the error through."""
    monkeypatch.setattr("saereg.registry.release.open_release", _fail)
    monkeypatch.setenv("SAEREG_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="the reactor is cold"):
        saereg("ls", "release")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "error: out of memory; take"),
        (
            RuntimeError(
                "[enforce fail at x.cpp:127] DefaultCPUAllocator: can't allocate memory: 8 bytes. Error code 12"
            ),
            "error: out of memory (can't allocate memory: 8 bytes); take",
        ),
    ],
)
def test_2_memory_that_runs_out_is_no_bug(saereg, monkeypatch, error, line):
    """Whoever asks for more than the machine has is told what to take less of."""
    monkeypatch.setattr("saereg.registry.release.open_release", lambda target: _raise(error))
    answer = saereg("ls", "release")
    assert answer.code == ExitCode.USAGE
    assert answer.err.startswith(line)


def _raise(error):
    raise error


def _fail(target):
    raise RuntimeError("the reactor is cold")


def test_4_a_target_that_changed(saereg, monkeypatch, place):
    """A publish that cannot be done as planned."""
    from saereg.publishers.folder import FolderPublisher

    real = FolderPublisher.plan

    def slow(self, root, report):
        plan = real(self, root, report)
        (place / "out").mkdir()
        (place / "out/other").write_text("x")
        return plan

    monkeypatch.setattr(FolderPublisher, "plan", slow)
    answer = saereg("publish", "release", "dir:out", "--level", "header")
    assert answer.code == ExitCode.NETWORK
    assert answer.err == "error: dir:out has changed since the plan was made; plan again\n"


def test_4_no_hub(process):
    """A Hub that does not answer is one line."""
    answer = process("ls", "hf://nobody/nothing", HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_DISABLE_TELEMETRY="1")
    assert (answer.code, answer.out) == (ExitCode.NETWORK, "")
    assert answer.err.startswith("error: hf://nobody/nothing: ")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("verb", ["validate", "ls", "show", "build"])
def test_5_nothing_there(saereg, verb):
    """A folder that is not there never passes, and the one beside it is named."""
    answer = saereg(verb, "relase")
    assert (answer.code, answer.out) == (ExitCode.NOTHING_TO_VALIDATE, "")
    assert answer.err == "error: relase is not a folder; did you mean 'release'?\n"


@pytest.mark.parametrize("verb", ["validate", "ls", "show"])
def test_5_an_empty_folder(saereg, place, verb):
    """Neither does an empty one."""
    (place / "empty").mkdir()
    answer = saereg(verb, "empty")
    assert answer.code == ExitCode.NOTHING_TO_VALIDATE
    assert answer.err.startswith("error: empty holds no manifest.json")


TYPOS = [
    (["validte", "release"], "no such command 'validte'; did you mean 'validate'?"),
    (["ls", "release", "--formt", "json"], "no such option '--formt'"),
    (["ls", "release", "--where", "kund = sae"], "unknown field 'kund'; did you mean 'kind'?"),
    (["ls", "release", "--sort", "layr"], "unknown field 'layr'; did you mean 'layer'?"),
    (["ls", "release", "--columns", "id,d_sea"], "unknown field 'd_sea'; did you mean 'd_sae'?"),
    (
        ["ls", "release", "--where", "l0"],
        "'l0' column 3: expected one of < <= > >= = == != <>, is, in, between, like, contains after l0, found the end",
    ),
    (
        ["ls", "release", "--where", "kind < 3"],
        "'kind < 3' column 8: kind is a text, it cannot be compared so: '9' comes after '10'",
    ),
    (["show", "release:layer_1/topkk"], "unknown artifact 'layer_1/topkk'; did you mean 'layer_1/topk'?"),
    (["rule", "srr421"], "unknown rule 'SRR421'; did you mean 'SR421'?"),
    (["schema", "manifst"], "unknown document 'manifst'; did you mean 'manifest'?"),
    (["publish", "release", "dri:out"], "unknown target 'dri:'; did you mean 'dir:'?"),
    (["publish", "release", "out"], "'out' is no target; write dir:out"),
    (["publish", "release", "dir:release/out"], "release/out and the release release lie inside each other"),
    (["validate"], "missing argument 'TARGET'"),
    (["validate", "release", "--level", "deep"], "'deep' is not one of 'layout', 'header', 'weights', 'data'"),
    (["validate", "release:layer_1/topk"], "this command works on a whole release; name its folder, release"),
    (["build", "hf://org/repo"], "this command works on a local folder; download the release first"),
    (["validate", "hf://org/repo", "--level", "data"], "level data needs the whole release: saereg pull"),
    (["validate", "hf://o/r@v1", "--run-snippets"], "pull hf://o/r@v1 --all --with-evaluations, and validate that"),
    (["validate", "release", "--format", "sarf"], "unknown format 'sarf'; did you mean 'sarif'?"),
    (["validate", "release", "--format", "json", "--format", "text"], "two formats go to stdout; give each its own"),
    (["validate", "release", "--format", "json:x", "--format", "text:x"], "two formats go to x; give each its own"),
    (["validate", "release", "--format", "json:"], "--format json:: no path after the colon"),
    (["validate", "release", "--format", "json:no/x.json"], "no/x.json: the folder no does not exist"),
    (["validate", "release", "--format", "json:release"], "release is a folder; name a file in it"),
    (["validate", "release", "--ignore", "SR9"], "ignore: no rule begins with 'SR9'; `saereg rule` lists them all"),
    (["validate", "release", "--select", "3"], "--select: '3' is no code and no family; `saereg rule` lists them all"),
    (["validate", "release", "--policy", "papr"], "unknown policy 'papr'; did you mean 'paper'?"),
    (["validate", "release", "--profile", "saelen"], "unknown profile 'saelen'; did you mean 'saelens'?"),
    (["validate", "release", "--plugin", "none"], "unknown plugin 'none'"),
    (["validate", "release", "--config", "x.toml", "--isolated"], "--config and --isolated exclude each other"),
    (["validate", "release", "--config", "x.toml"], "x.toml: No such file or directory"),
    (["validate", "--load", "x.jsonl"], "x.jsonl: No such file or directory"),
    (["ls", "https://example.org/x"], "only folders and hf://org/repo can be opened"),
    (["ls", "hf://repo"], "'hf://repo' is no reference; write hf://org/repo[@revision][:artifact]"),
]


@pytest.mark.parametrize(("words", "message"), TYPOS, ids=[" ".join(words) for words, _ in TYPOS])
def test_2_a_typo_is_answered_with_what_was_meant(saereg, words, message):
    """One line that says what is wrong, and at most one that says where help is."""
    answer = saereg(*words)
    assert (answer.code, answer.out) == (ExitCode.USAGE, "")
    first, *rest = answer.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert all(line.startswith("help: saereg") for line in rest)
    assert len(rest) <= 1


def test_2_a_broken_manifest_is_one_line(saereg, place):
    """File, line and problem."""
    path = place / "release/manifest.json"
    path.write_text(path.read_text().replace('"licence"', '"license"').replace('"license": "mit"', '"licence": "mit"'))
    answer = saereg("ls", "release")
    assert answer.code == ExitCode.USAGE
    assert answer.err.startswith("error: release/manifest.json")
    assert "'licence'" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("text", ["{", "[]", "null", '"x"', "\ud800", "\0"])
def test_2_a_manifest_that_is_none(saereg, place, text):
    """Never a traceback."""
    (place / "release/manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for words in (["ls", "release"], ["show", "release"], ["build", "release"], ["show", "release:x"]):
        answer = saereg(*words)
        assert answer.code == ExitCode.USAGE, words
        assert answer.err.startswith("error: release/manifest.json"), words
        assert answer.err.count("\n") == 1, words


def test_2_a_file_without_permission_is_one_line(saereg, monkeypatch):
    """Named by its path; the system's refusal is made up, because root may read every file."""

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    answer = saereg("ls", "release")
    assert answer.code == ExitCode.USAGE
    assert answer.err == "error: release/manifest.json: Permission denied\n"


def test_2_a_place_that_cannot_be_written_is_one_line(saereg, place):
    """A report that cannot go where it was sent."""
    (place / "file").write_text("x")
    answer = saereg("validate", "release", "--format", "text:file/report.txt")
    assert (answer.code, answer.out) == (ExitCode.USAGE, "")
    assert answer.err.startswith("error: file")
    assert answer.err.count("\n") == 1


def test_a_reader_that_goes_away_is_no_error(place):
    """`saereg rule | head -1`."""
    script = f"set -o pipefail; {sys.executable} -m saereg rule 2>err | head -1"
    done = subprocess.run(["bash", "-c", script], cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("code ")
    assert "rror" not in (place / "err").read_text()


def test_a_reader_that_is_gone_before_the_first_byte_is_no_error(place):
    """Silent, also in the interpreter's last flush; but never 0, which would say that a release is clean."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "saereg", "schema", "manifest"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_an_interrupt_is_one_word(saereg, monkeypatch):
    """Ctrl-C."""

    def interrupt(target):
        raise KeyboardInterrupt

    monkeypatch.setattr("saereg.registry.release.open_release", interrupt)
    answer = saereg("ls", "release")
    assert (answer.code, answer.out, answer.err.strip()) == (130, "", "stopped")


def test_json_of_a_failed_validation_still_parses(process, place):
    """The whole of stdout is the document."""
    _break(place)
    answer = process("validate", "release", "--format", "json")
    report = json.loads(answer.out)
    assert answer.code == 1
    assert report["summary"]["errors"] == len([f for f in report["findings"] if f["severity"] == "error"]) > 0


@pytest.mark.parametrize("words", [("build", "release"), ("validate", "release", "--level", "data")])
def test_metrics_on_a_device_that_is_not_there_are_one_line(saereg, words):
    """Before anything is computed."""
    answer = saereg(*words, "--device", "abacus")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith("error: device 'abacus' cannot be used on this machine: ")


@pytest.mark.parametrize("words", [(), ("--evaluation", "more=synthetic:seed=0,rows=8")])
def test_building_without_torch_names_the_extra(saereg, place, monkeypatch, words):
    """Also where an evaluation is to be made first; nothing is written."""
    before = (place / "release/manifest.json").read_bytes()
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = saereg("build", "release", "--no-figures", "--no-features", *words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "saereg[torch]" in answer.err
    assert (place / "release/manifest.json").read_bytes() == before


def test_a_process_of_a_test_asks_the_catalogue_of_this_run(process):
    """Not that of the user: no test puts anything into it."""
    answer = process("sql", "SELECT 1")
    assert answer.code == ExitCode.USAGE
    assert answer.err.startswith(f"error: {os.environ['SAEREG_CATALOG']}: ")
