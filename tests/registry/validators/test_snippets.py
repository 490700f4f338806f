"""SR506 in a validation: parsed always, run only when asked for."""

import shutil

import pytest

from saereg.registry.validators.options import Options
from saereg.registry.validators.runner import validate
from tests.cases.planted.privacy import HF_TOKEN
from tests.cases.tools import reindex
from tests.releases import tiny_release


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("pristine"), checkpoints=False)


@pytest.fixture
def release(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "release")
    return tmp_path / "release"


def write(release, *blocks):
    text = (release / "README.md").read_text()
    (release / "README.md").write_text(text + "".join(f"\n```python\n{block}\n```\n" for block in blocks))
    reindex(release)


def test_blocks_are_run_only_when_asked_for(release):
    """A card is somebody else's code; and without the flag nothing is said of it."""
    write(release, "open('/tmp/never', 'r+')\nraise ValueError('ran')")

    assert validate(release, "weights").findings == ()
    assert validate(release, "weights").summary.skipped == ()
    assert validate(release, "header", options=Options(run_snippets=True)).findings == ()
    (finding,) = validate(release, "weights", options=Options(run_snippets=True)).findings
    assert (finding.code, finding.path) == ("SR506", "README.md")


def test_a_block_that_is_skipped_is_in_the_report(release):
    """With its line and the reason; it is no finding."""
    write(release, "import nosuchlibrary")

    report = validate(release, "weights", options=Options(run_snippets=True))

    assert report.findings == ()
    (skipped,) = report.summary.skipped
    line = (release / "README.md").read_text().split("\n").index("import nosuchlibrary") + 1
    assert skipped.check == "snippets_run"
    assert skipped.reason == (
        f"Python block 2 of README.md (line {line}): it needs nosuchlibrary, which is not installed here"
    )


def test_what_a_block_raises_is_shown_without_secrets(release):
    """A report is public; the token is a finding of its own rule."""
    write(release, f"raise ValueError('token {HF_TOKEN}')")

    report = validate(release, "weights", options=Options(run_snippets=True))

    assert [finding.code for finding in report.findings] == ["SR008", "SR506"]
    assert HF_TOKEN[3:9] not in report.text()


def test_a_block_that_is_no_python_is_found_once(release):
    """It is not run; those beside it are."""
    write(release, "x = (1", "raise ValueError('ran')")

    report = validate(release, "weights", options=Options(run_snippets=True))

    assert [finding.message for finding in report.findings] == [
        "Python block 2 of the card is not Python: '(' was never closed",
        "Python block 3 of the card does not run: ValueError: ran",
    ]
    assert report.summary.skipped == ()


def test_a_release_without_a_readable_card_or_manifest_has_no_blocks(release):
    """Other rules say so."""
    (release / "README.md").unlink()

    codes = {finding.code for finding in validate(release, "weights", options=Options(run_snippets=True)).findings}
    assert "SR506" not in codes


def test_blocks_that_were_to_run_and_did_not_are_named(tmp_path):
    """Below level weights they do not run, and the report says so."""
    from saereg.registry.validators.options import Options

    report = validate(tiny_release(tmp_path, checkpoints=False), "header", options=Options(run_snippets=True))

    assert [skipped.check for skipped in report.summary.skipped] == ["snippets_run"]
