"""The command line of `saereg validate`: what is looked at, how it is graded, where it goes."""

import json
import os
import shutil
import subprocess

import pytest

from saereg.cli.render.report import RENDERERS
from saereg.schemas.document import canonical
from saereg.schemas.report import Report


@pytest.fixture
def flawed(place):
    """The release with one error (SR212, SR009, SR215) and one warning (SR003)."""
    path = place / "release/layer_1/topk/cfg.json"
    path.write_text(path.read_text().replace('"k": 3', '"k": 300'))
    (place / "release/notes.txt").write_text("not indexed\n")
    return place


def codes(answer) -> list[str]:
    return [f["code"] for f in json.loads(answer.out)["findings"] if not f.get("ignored")]


# formats -------------------------------------------------------------------------------------------------------------


def test_every_format_in_one_run(saereg, flawed):
    """Each in its file, and the same as on stdout."""
    words = [word for form in RENDERERS for word in ("--format", f"{form}:out.{form}")]
    answer = saereg("validate", "release", *words)
    assert (answer.code, answer.out) == (1, "")
    assert [line for line in answer.err.splitlines() if line.startswith("report: ")] == [
        f"report: out.{form}" for form in RENDERERS
    ]
    for form in RENDERERS:
        alone = saereg("validate", "release", "--format", form)
        assert (flawed / f"out.{form}").read_bytes() == alone.out.encode()


@pytest.mark.parametrize("form", RENDERERS)
def test_the_same_release_gives_the_same_bytes_from_anywhere(saereg, flawed, monkeypatch, form):
    """No time, no path of the machine, no trace of where the command ran or how its target was written."""
    first = saereg("validate", "release", "--format", form).out
    monkeypatch.chdir(flawed / "release/layer_1")
    second = saereg("validate", flawed / "release", "--format", form).out
    assert first == second
    assert str(flawed) not in first


def test_one_goes_to_stdout_and_the_others_to_files(saereg, flawed):
    """In any order."""
    answer = saereg("validate", "release", "--format", "sarif:x.sarif", "--format", "github")
    assert answer.out.startswith("::error ")
    assert json.loads((flawed / "x.sarif").read_text())["version"] == "2.1.0"


def test_a_report_replaces_an_older_one_and_nothing_is_left_beside_it(saereg, flawed):
    """Written whole, or not at all."""
    (flawed / "x.json").write_text("old")
    saereg("validate", "release", "--format", "json:x.json")
    assert json.loads((flawed / "x.json").read_text())["level"] == "header"
    assert sorted(path.name for path in flawed.iterdir()) == ["release", "x.json"]


def test_a_pipe_is_written_to_and_not_replaced(place):
    """As /dev/stdout and /dev/null are."""
    os.mkfifo(place / "pipe")
    reader = subprocess.Popen(["cat", str(place / "pipe")], stdout=subprocess.PIPE, text=True)
    from saereg.cli.validate import _write_file

    _write_file(place / "pipe", "whole\n")
    assert reader.communicate(timeout=20)[0] == "whole\n"
    assert (place / "pipe").is_fifo()


def test_a_dash_is_stdout(saereg, flawed):
    """As for other tools; no file of that name is made."""
    answer = saereg("validate", "release", "--format", "json:-")
    assert json.loads(answer.out)["level"] == "header"
    assert [path.name for path in flawed.iterdir()] == ["release"]


@pytest.mark.parametrize("name", ["manifest.json", "index.json", "README.md", "layer_1/topk/cfg.json", "x.safetensors"])
def test_a_report_never_replaces_a_file_of_the_release(saereg, flawed, name, monkeypatch):
    """Said before anything is validated, from wherever."""
    before = {path: path.read_bytes() for path in flawed.rglob("*") if path.is_file()}
    monkeypatch.chdir(flawed / "release")
    answer = saereg("validate", ".", "--format", f"json:{name}")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"error: {name} is a file of the release; give the report another name\n"
    assert {path: path.read_bytes() for path in flawed.rglob("*") if path.is_file()} == before


def test_a_report_may_lie_in_the_release_under_a_name_of_its_own(saereg, flawed, monkeypatch):
    """As where the release is the whole repository."""
    monkeypatch.chdir(flawed / "release")
    saereg("validate", ".", "--format", "sarif:saereg.sarif")
    assert json.loads((flawed / "release/saereg.sarif").read_text())["version"] == "2.1.0"


def test_a_path_may_hold_colons(saereg, place):
    """As those of Windows do: the format ends at the first one."""
    saereg("validate", "release", "--format", "json:C:report.json")
    assert (place / "C:report.json").exists()


# where the release is in its repository ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sarif", "github"])
def test_paths_are_those_of_the_checkout(saereg, flawed, monkeypatch, form):
    """Of the git repository around the release, or of the CI job; its own repository has no prefix."""
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)

    def seen() -> str:
        return saereg("validate", "release", "--format", form).out

    assert "release/notes.txt" not in seen()
    (flawed / ".git").mkdir()
    assert "release/notes.txt" in seen()
    monkeypatch.setenv("GITHUB_WORKSPACE", str(flawed.parent))
    assert f"{flawed.name}/release/notes.txt" in seen()
    monkeypatch.delenv("GITHUB_WORKSPACE")
    (flawed / "release/.git").mkdir()
    assert "release/notes.txt" not in seen()


# grading -------------------------------------------------------------------------------------------------------------


def test_select_and_ignore_add_up(saereg, flawed):
    """Codes or families, several at a time, in any case; what is ignored stays in the report with its reason."""
    assert set(codes(saereg("validate", "release", "--format", "json"))) == {"SR003", "SR009", "SR212", "SR215"}
    assert set(codes(saereg("validate", "release", "--format", "json", "--select", "sr2"))) == {"SR212", "SR215"}
    answer = saereg("validate", "release", "--format", "json", "--ignore", "SR212,SR215", "--ignore", "SR003")
    assert set(codes(answer)) == {"SR009"}
    ignored = [f for f in json.loads(answer.out)["findings"] if f.get("ignored")]
    assert {f["ignored"] for f in ignored} == {"on the command line"}


def test_what_fails_can_be_chosen(saereg, place):
    """--strict is --fail-on warning; --exit-zero never fails, and says the same."""
    (place / "release/notes.txt").write_text("not indexed\n")
    assert saereg("validate", "release").code == 0
    assert saereg("validate", "release", "--strict").code == 1
    assert saereg("validate", "release", "--strict", "--fail-on", "note").code == 1
    zero = saereg("validate", "release", "--strict", "--exit-zero")
    assert (zero.code, zero.next) == (0, "saereg rule SR003")


def test_the_nearest_configuration_is_read_and_named(saereg, place):
    """Flags win over it; --isolated reads none; --config reads another."""
    (place / "release/notes.txt").write_text("not indexed\n")
    (place / "saereg.toml").write_text(
        'profile = "saelens"\n[[ignore]]\nrules = ["SR003"]\nreason = "kept on purpose"\n', encoding="utf-8"
    )
    (place / "other.toml").write_text('severity = {SR003 = "error"}\n')
    first = saereg("validate", "release")
    assert "(1 ignored: see ../saereg.toml)\nconfiguration: ../saereg.toml, profile saelens\n" in first.out
    assert "profile base" in saereg("validate", "release", "--profile", "base").out
    assert "configuration" not in saereg("validate", "release", "--isolated").out
    other = saereg("validate", "release", "--config", "other.toml")
    assert other.code == 1
    assert "configuration: other.toml\n" in other.out


@pytest.mark.parametrize("text", ["profil = 'x'", "[", 'profile = "none"', "select = ['x']", "policy = 3"])
def test_a_configuration_that_does_not_fit_is_one_line(saereg, place, text):
    """It names the file, or the name in it."""
    (place / "saereg.toml").write_text(text)
    answer = saereg("validate", "release")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith("error: ")


def test_the_policy_chooses_the_level(saereg):
    """Unless the user does."""
    assert "level weights" in saereg("validate", "release", "--policy", "hub-public").out
    assert "level layout" in saereg("validate", "release", "--policy", "hub-public", "--level", "layout").out


def test_publishing_under_a_policy_needs_its_level(saereg, place):
    """By default that level is validated; a shallower one is refused, unless a deeper report is remembered."""
    (place / "saereg.toml").write_text(
        'policy = "paper"\n[[ignore]]\nrules = ["SR"]\nreason = "only the level matters here"\n'
    )
    shallow = saereg("publish", "release", "dir:out", "--level", "weights")
    assert shallow.code == 1
    assert "validated at level weights, but data is needed by the policy paper" in shallow.err
    assert not (place / "out").exists()
    answer = saereg("publish", "release", "dir:out", "--dry-run")
    assert "configuration: ../saereg.toml\n" in answer.err
    assert (answer.code, answer.out.splitlines()[0]) == (0, "tiny-saes 1.0.0, validated at level data: 0 errors")
    assert saereg("publish", "release", "dir:out", "--dry-run", "--level", "weights").code == 0
    weights = saereg("publish", "release", "dir:out", "--dry-run", "--isolated")
    assert weights.out.startswith("tiny-saes 1.0.0, validated at level weights: ")
    assert weights.next == "saereg publish release dir:out --isolated"


# the next command ----------------------------------------------------------------------------------------------------


def test_the_next_command_has_the_users_flags(saereg, place):
    """Those that choose what is found; none that only show it."""
    flags = ["--profile", "saelens", "--ignore", "SR4", "--fail-on", "warning", "--isolated", "--jobs", "2"]
    answer = saereg("validate", "release", "--level", "layout", *flags, "--quiet", "--format", "json:x.json")
    expected = "saereg validate release --level header --fail-on warning --profile saelens --ignore SR4 --jobs 2"
    assert answer.next == f"{expected} --isolated"


def test_a_selection_is_not_followed_by_publishing(saereg):
    """But by the whole validation."""
    answer = saereg("validate", "release", "--level", "data", "--select", "SR0")
    assert answer.next == "saereg validate release --level data"
    assert saereg("validate", "release", "--level", "data", "--policy", "ci-fast", "--exit-zero").next in (
        "saereg publish release hf://ORG/NAME --dry-run --policy ci-fast",
    )


# --load --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_report_can_be_shown_again(saereg, flawed, form):
    """In every format, with the same exit code; without the release only its source lines are missing."""
    saereg("validate", "release", "--format", f"{form}:run.{form}")
    for other in RENDERERS:
        fresh = saereg("validate", "release", "--format", other)
        again = saereg("validate", "release", "--load", f"run.{form}", "--format", other)
        assert (again.code, again.out) == (fresh.code, fresh.out), other
    shutil.rmtree(flawed / "release")
    alone = saereg("validate", "--load", f"run.{form}")
    assert alone.code == 1
    assert "layer_1/topk/cfg.json:8:3  error SR212" in alone.out
    assert '"k": 300' not in alone.out


def test_what_fails_is_asked_anew_of_a_loaded_report(saereg, place):
    """With the flags of this run; but a level is that of the report."""
    (place / "release/notes.txt").write_text("not indexed\n")
    saereg("validate", "release", "--format", "json:run.json")
    assert saereg("validate", "--load", "run.json").code == 0
    assert saereg("validate", "--load", "run.json", "--strict").code == 1
    answer = saereg("validate", "--load", "run.json", "--level", "data")
    assert (answer.code, answer.out) == (2, "")
    assert "run.json is a report of level header" in answer.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_disk_that_is_full_is_said_of_the_file(saereg, flawed):
    """One line, with its name."""
    answer = saereg("validate", "release", "--format", "json:/dev/full")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "error: /dev/full: No space left on device\n"


def test_a_folder_of_checkpoints_that_is_not_there_is_refused(saereg, place):
    """A misspelt one would leave the round trip out."""
    answer = saereg("validate", "release", "--checkpoints", "chekpoints")
    assert (answer.code, answer.err) == (2, "error: --checkpoints chekpoints is not a folder\n")


@pytest.mark.parametrize(
    "flags",
    [
        *(["--select", "SR1"], ["--ignore", "SR1"], ["--profile", "saelens"], ["--policy", "paper"]),
        *(["--config", "x.toml"], ["--isolated"], ["--hash"], ["--run-snippets"], ["--jobs", "2"]),
        ["--checkpoints", "ck"],
    ],
)
def test_flags_that_choose_what_is_found_do_not_go_with_a_loaded_report(saereg, flawed, flags):
    """They would be without effect in silence."""
    saereg("validate", "release", "--format", "json:run.json")
    answer = saereg("validate", "--load", "run.json", *flags)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {flags[0]} chooses what is found, and --load shows what was found")


def test_a_report_that_is_none_is_one_line(saereg, flawed):
    """Truncated anywhere, another document, not JSON, not text."""
    saereg("validate", "release", "--format", "jsonl:run.jsonl")
    lines = (flawed / "run.jsonl").read_text().splitlines(keepends=True)
    whole = json.loads(saereg("validate", "release", "--format", "json").out)
    broken = {
        "one finding less": "".join(lines[:-1]),
        "half a finding": "".join(lines[:-1]) + lines[-1][:40],
        "no head": "".join(lines[1:]),
        "two heads": lines[0] + "".join(lines),
        "half a head": lines[0][:50],
        "a manifest": (flawed / "release/manifest.json").read_text(),
        "a finding less in the document": canonical(whole | {"findings": whole["findings"][1:]}),
        "another version": canonical(whole | {"schema_version": "2.0"}),
        "no severity": "".join(lines[:-1]) + '{"record": "finding", "code": "SR001"}\n',
        "nothing": "",
        "a list": "[]",
        "deep": "[" * 100_000,
        "a record of another kind": '{"record": "other"}\n',
    }
    for name, text in broken.items():
        (flawed / "broken").write_text(text)
        answer = saereg("validate", "--load", "broken")
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1), name
        assert answer.err.startswith("error: broken"), name
    (flawed / "broken").write_bytes(b"\xff\xfe{")
    assert saereg("validate", "--load", "broken").err.startswith("error: broken: no report of `saereg validate`: ")


@pytest.mark.slow
def test_a_loaded_report_may_be_larger_than_any_release(saereg, place):
    """Ten thousand artifacts have more findings than a document may have entries."""
    from tests.cli.reports import finding, report

    large: Report = report(*(finding("SR301", artifact=f"a{n}") for n in range(20_100)))
    for form in ("json", "jsonl"):
        (place / "run").write_text(RENDERERS[form](large, None))
        answer = saereg("validate", "--load", "run")
        assert answer.code == 1
        assert "… and 20097 more of SR301 (--verbose shows all)" in answer.out


# columns, hashing ----------------------------------------------------------------------------------------------------


def test_findings_have_columns(saereg, place):
    """In configurations, in the manifest, and where a document does not fit."""
    path = place / "release/layer_1/topk/cfg.json"
    path.write_text(path.read_text().replace('"k": 3', '"k": 300'))
    other = place / "release/layer_1/jumprelu/cfg.json"
    other.write_text(other.read_text().replace('"d_in"', '"d_inn": 1, "d_in"'))
    found = json.loads(saereg("validate", "release", "--format", "json").out)["findings"]
    placed = {f["code"]: (f["line"], f["column"]) for f in found if f.get("column")}
    assert all(f.get("column") for f in found if f.get("pointer") and f.get("line"))
    assert placed["SR103"][1] == placed["SR212"][1] == 3
    assert [f["column"] for f in found if f["path"] == "manifest.json" and f["code"] == "SR215"] == [9]


def test_large_files_are_hashed_at_level_header_on_demand(saereg, place):
    """Weights included, by one thread or several; without the flag a changed bit of them is found one level later."""
    release = place / "release"
    for name in ("big.txt", "layer_1/topk/extra.txt"):
        (release / name).write_bytes(b"x" * 2_000_000)
    assert saereg("build", "release", "--no-figures", "--no-features").code == 0
    (release / "big.txt").write_bytes(b"y" + b"x" * 1_999_999)
    assert saereg("validate", "release", "--select", "SR009").code == 0
    for jobs in ("1", "3"):
        answer = saereg("validate", "release", "--select", "SR009", "--hash", "--jobs", jobs)
        assert answer.code == 1
        assert "big.txt  error SR009  big.txt was altered since the index was built" in answer.out
        assert "extra.txt" not in answer.out
    assert saereg("validate", "release", "--select", "SR009", "--hash", "--level", "layout").code == 0


# on the Hub ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_release_on_the_hub_is_validated_where_it_is(process, flawed):
    """The commit is in every machine format, and the next step is a download: deeper levels need the files."""
    from tests.reading_hub import REPO, SHA, hub

    with hub(flawed / "release") as server:
        clean = {"HF_ENDPOINT": server.url, "HF_HOME": str(flawed / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        answer = process("validate", f"hf://{REPO}", "--format", "json", "--format", "sarif:x.sarif", **clean)
        passed = process("validate", f"hf://{REPO}@main", "--ignore", "SR", "--fail-on", "error", **clean)
    assert (answer.code, json.loads(answer.out)["revision"]) == (1, SHA)
    assert {"SR003", "SR212"} <= set(codes(answer))
    (run,) = json.loads((flawed / "x.sarif").read_text())["runs"]
    (place,) = run["versionControlProvenance"]
    assert (place["repositoryUri"], place["revisionId"]) == (f"https://huggingface.co/{REPO}", SHA)
    assert f" at {SHA[:12]}: 4 artifacts" in passed.out
    assert passed.next.startswith((f"saereg pull hf://{REPO}@main --all --with-evaluations", "saereg rule "))


@pytest.mark.parametrize("words", [("build", "release"), ("validate", "release", "--level", "data")])
def test_metrics_are_computed_on_the_device_that_is_named(saereg, monkeypatch, words):
    """Dictionaries and the rows of base models alike; `cpu:0` is one that every machine has."""
    from saereg.registry import loading
    from saereg.registry.metrics.sources import opening

    devices = []
    load, around = loading.load_path, opening.Surroundings
    monkeypatch.setattr(loading, "load_path", lambda *a, **k: devices.append(a[1]) or load(*a, **k))
    monkeypatch.setattr(
        opening, "Surroundings", lambda *a, **k: devices.append((made := around(*a, **k)).device) or made
    )
    assert saereg(*words, "--device", "cpu:0").code == 0
    assert len(devices) > 3
    assert set(devices) == {"cpu:0"}
