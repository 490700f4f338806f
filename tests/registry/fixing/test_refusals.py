"""What stops a fix: what it would break, what it cannot follow, and nothing that was there before."""

import json
import shutil
from pathlib import Path

import pytest

from saereg.registry.fixing.apply import Fixes, plan_fixes, write_fixes
from saereg.registry.validators.runner import validate
from tests.cases.plant import CASES
from tests.cases.tools import JUMP, artifact_of, edit, reindex
from tests.releases import tiny_release


def plan(release: Path, level: str = "header") -> Fixes:
    return plan_fixes(release, validate(release, level), lambda folder: validate(folder, level), unsafe=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _twins(release: Path) -> None:
    """Plant a second artifact that differs from the first by a wrong width alone."""
    shutil.copytree(release / JUMP, release / "layer_1/second")
    twin = {"id": "layer_1/second", "path": "layer_1/second", "d_sae": 12}
    edit(release / "manifest.json", lambda m: m["artifacts"].append(artifact_of(m, JUMP) | twin))
    index = json.loads((release / "index.json").read_text())
    entry = json.loads(json.dumps(artifact_of(index, JUMP)).replace(JUMP, "layer_1/second"))
    edit(release / "index.json", lambda i: i["artifacts"].append(entry))
    reindex(release)


def test_nothing_is_written_when_a_fix_would_not_verify(tmp_path):
    """Two artifacts differ by a wrong width alone: mending it would make them one, which is another error."""
    release = tiny_release(tmp_path, checkpoints=False)
    _twins(release)
    before = contents(release)

    fixes = plan(release)

    assert "SR110" in fixes.problem
    with pytest.raises(ValueError, match="new finding"):
        write_fixes(release, fixes)
    assert contents(release) == before


def test_a_warning_that_an_error_hid_does_not_stop_its_mending(tmp_path):
    """The weights of an artifact with an error are not looked at; once it is mended they are, as they always were."""
    release = tiny_release(tmp_path, checkpoints=False)
    CASES["dead_decoder_rows"].plant(release)
    CASES["wrong_dead_fraction"].plant(release)
    assert [finding.code for finding in validate(release, "weights").findings] == ["SR414"]

    fixes = plan(release, "weights")

    assert fixes.problem is None
    write_fixes(release, fixes)
    assert {(f.code, f.severity) for f in validate(release, "weights").findings} == {("SR214", "warning")}


def test_a_document_that_stays_unreadable_excuses_no_new_finding(tmp_path):
    """The guard is lifted only for what a document shows that could not be read before, and can be now."""
    release = tiny_release(tmp_path, checkpoints=False)
    (release / "layer_1/topk/cfg.json").write_text("{")
    reindex(release)
    _twins(release)

    fixes = plan(release)

    assert "SR110" in fixes.problem


@pytest.mark.parametrize(
    "names", [("misspelt_manifest_key", "sorted_as_text"), ("steps_sorted_as_text", "altered_card")]
)
def test_a_manifest_that_stays_wrong_is_named_as_the_reason(tmp_path, names):
    """The index cannot follow a change of the card then, and what cannot be mended is not called nothing."""
    release = tiny_release(tmp_path, checkpoints=False)
    for name in names:
        CASES[name].plant(release)
    before = contents(release)

    fixes = plan(release)

    assert fixes.problem == "what can be mended follows manifest.json, which is missing or wrong; correct that first"
    assert contents(release) == before


def test_a_link_inside_the_release_is_not_replaced_by_a_file(tmp_path):
    """What it leads to would keep the old text."""
    release = tiny_release(tmp_path, checkpoints=False)
    CASES["library_missing"].plant(release)
    (release / "README.md").rename(release / "card.md")
    (release / "README.md").symlink_to("card.md")

    assert "README.md is a link" in plan(release).problem
