"""How a validation runs: levels, order, skipping, repeatability. For any bytes at all see tests/fuzz."""

import itertools
import shutil

import pytest
from safetensors.torch import load_file, save_file

from saereg.errors import NothingToValidateError
from saereg.registry.build import build
from saereg.registry.evidence import round_trip
from saereg.registry.evidence.inspection import inspect
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources import activations
from saereg.registry.validators import CHECKS, subject
from saereg.registry.validators.check import ArtifactCheck
from saereg.registry.validators.options import Options
from saereg.registry.validators.rules import FAMILIES, RULES, rule
from saereg.registry.validators.runner import DEAR, validate
from saereg.schemas.report import LEVELS, Report
from tests.cases.tools import artifact_of, edit, reindex
from tests.releases import tiny_release

TOPK, JUMP = "layer_1/topk", "layer_1/jumprelu"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def release(pristine, tmp_path):
    shutil.copytree(pristine.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "release"


def test_there_is_nothing_to_validate_without_a_folder(tmp_path):
    """An absent folder must never pass."""
    with pytest.raises(NothingToValidateError) as caught:
        validate(tmp_path / "gone")

    assert str(caught.value) == f"{tmp_path / 'gone'} is not a folder"
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("manifest", ["none", "folder", "broken link"])
def test_there_is_nothing_to_validate_without_a_manifest(tmp_path, manifest):
    """Neither must an empty one, nor one whose manifest is no file."""
    if manifest == "folder":
        (tmp_path / "manifest.json").mkdir()
    if manifest == "broken link":
        (tmp_path / "manifest.json").symlink_to(tmp_path / "gone")

    with pytest.raises(NothingToValidateError) as caught:
        validate(tmp_path)

    assert str(caught.value) == f"{tmp_path} holds no manifest.json: nothing to validate"


def test_each_level_includes_those_before_it(release):
    """What a cheap level finds, every dearer one finds too; and the number of checks only rises."""
    (release / "notes.txt").write_text("later\n")
    edit(release / JUMP / "cfg.json", lambda cfg: cfg["metadata"].update(hook_nam="x"))
    reindex(release)

    reports = [validate(release, level) for level in LEVELS]

    found = [{finding.fingerprint for finding in report.findings} for report in reports]
    assert [len(fingerprints) for fingerprints in found] == [1, 2, 2, 2]
    assert all(cheap <= dear for cheap, dear in itertools.pairwise(found))
    checks = [report.summary.checks for report in reports]
    assert checks == sorted(set(checks))


def test_a_level_reads_only_what_it_says(release):
    """An infinity in the weights is not seen before level weights."""
    weights = load_file(release / TOPK / "sae_weights.safetensors")
    weights["W_dec"][3, 2] = float("inf")
    save_file(weights, release / TOPK / "sae_weights.safetensors")
    reindex(release)

    assert [len(validate(release, level).findings) for level in LEVELS] == [0, 0, 1, 1]


def test_dear_checks_of_an_artifact_are_skipped_after_cheap_ones_failed(release):
    """The others are still checked, and the report says what was skipped and why."""
    (release / TOPK / "sae_weights.safetensors").write_bytes(b"short")
    reindex(release)

    report = validate(release, "data")

    assert [finding.code for finding in report.findings] == ["SR200"]
    dear = [c.name for c in CHECKS if isinstance(c, ArtifactCheck) and c.level in ("weights", "data")]
    assert [(skipped.check, skipped.artifact, skipped.reason) for skipped in report.summary.skipped] == [
        (name, TOPK, "cheaper checks found errors in this artifact") for name in dear
    ]


def test_golden_vectors_are_not_replayed_on_weights_that_are_not_finite(release):
    """A blocking check counts as cheaper than the others of its level: one cause, one finding."""
    weights = load_file(release / JUMP / "sae_weights.safetensors")
    weights["W_enc"][0, 0] = float("nan")
    save_file(weights, release / JUMP / "sae_weights.safetensors")
    reindex(release)

    report = validate(release, "data")

    assert [finding.code for finding in report.findings] == ["SR203"]
    dear = {c.name for c in CHECKS if isinstance(c, ArtifactCheck) and c.level in DEAR and not c.blocking}
    assert {"golden_replays", "recomputed"} < dear
    assert {skipped.check for skipped in report.summary.skipped} == dear


def test_a_warning_does_not_stop_the_dear_checks(release):
    """Only errors do."""
    edit(release / JUMP / "cfg.json", lambda cfg: cfg["metadata"].update(hook_nam="x"))
    reindex(release)

    report = validate(release, "weights")

    assert [(finding.code, finding.severity) for finding in report.findings] == [("SR103", "warning")]
    assert report.summary.skipped == ()


def test_a_missing_source_checkpoint_is_said_to_be_skipped(release):
    """A round trip that was not made must not look like one that passed."""
    shutil.rmtree(release.parent / "checkpoints")

    (skipped,) = validate(release, "weights").summary.skipped

    assert (skipped.check, skipped.artifact) == ("source_agrees", TOPK)
    assert skipped.reason == "its source checkpoint is not at hand; name the folder with --checkpoints"


def test_a_source_checkpoint_that_is_not_in_the_folder_is_named(release):
    """The user named a folder: which file is not there is what they need."""
    folder = release.parent / "checkpoints"
    (folder / TOPK / "source.safetensors").unlink()

    (skipped,) = validate(release, "weights", options=Options(checkpoints=folder)).summary.skipped

    assert skipped.reason == f"there is no {TOPK}/source.safetensors; name its folder with --checkpoints"


@pytest.mark.parametrize(
    ("kept", "untraced"), [((), "W_dec, W_enc, b_dec, b_enc"), (("W_enc", "W_dec"), "b_dec, b_enc")]
)
def test_tensors_of_which_the_source_is_not_told_are_said_to_be_skipped(release, kept, untraced):
    """An empty list of tensors has nothing in it that could differ."""

    def keep(manifest: dict) -> None:
        source = artifact_of(manifest, TOPK)["source_checkpoint"]
        source["tensors"] = {name: source["tensors"][name] for name in kept}

    edit(release / "manifest.json", keep)
    build(release)

    report = validate(release, "weights")

    assert report.findings == ()
    assert [(skipped.check, skipped.artifact, skipped.reason) for skipped in report.summary.skipped] == [
        ("source_agrees", TOPK, f"source_checkpoint.tensors does not say where {untraced} comes from; add it")
    ]


def test_source_checkpoints_may_lie_anywhere(release, tmp_path):
    """Their folder is an argument; by default it is `checkpoints` beside the release."""
    shutil.move(release.parent / "checkpoints", tmp_path / "elsewhere")

    report = validate(release, "weights", options=Options(checkpoints=tmp_path / "elsewhere"))

    assert report.summary.skipped == ()
    assert report.findings == ()


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_release_gives_the_same_report(release, tmp_path, level):
    """Byte for byte, wherever the folder lies: no time and no path of the machine is in it."""
    (release / "notes.txt").write_text("later\n")
    (release / JUMP / "sae_weights.safetensors").write_bytes(b"short")
    elsewhere = tmp_path / "some" / "where" / "release"
    shutil.copytree(release, elsewhere)
    shutil.copytree(release.parent / "checkpoints", elsewhere.parent / "checkpoints")

    first, second, third = validate(release, level), validate(release, level), validate(elsewhere, level)

    assert first.text() == second.text() == third.text()
    assert str(tmp_path) not in first.text()
    assert Report.from_text(first.text()) == first


def test_findings_are_in_order_of_file_line_and_code(release):
    """So that two reports can be compared by eye."""
    edit(release / "manifest.json", lambda m: m["base_models"]["tiny"].pop("revision"))
    edit(release / "manifest.json", lambda m: artifact_of(m, JUMP).update(site="gone"))
    (release / "a.txt").write_text("x")
    (release / "z.txt").write_text("x")

    findings = validate(release).findings

    keys = [(f.path or "", f.line or 0, f.code) for f in findings]
    assert keys == sorted(keys)
    assert len(findings) >= 5


def test_a_fingerprint_outlives_edits_elsewhere_in_the_file(release):
    """Its line is no part of it; what was expected and found is."""
    edit(release / JUMP / "cfg.json", lambda cfg: cfg.update(normalise=1))
    reindex(release)
    (before,) = validate(release).findings
    text = (release / JUMP / "cfg.json").read_text()
    (release / JUMP / "cfg.json").write_text("\n\n\n" + text)
    reindex(release)

    (after,) = validate(release).findings

    assert before.line + 3 == after.line
    assert before.fingerprint == after.fingerprint


def test_progress_is_reported_per_check(release):
    """Each counts once, or once per artifact where it reads weights; the last step is the last."""
    seen = []

    validate(release, "weights", progress=lambda *step: seen.append(step))

    checks = [check for check in CHECKS if check.level != "data"]
    times = [4 if isinstance(check, ArtifactCheck) and check.level == "weights" else 1 for check in checks]
    names = [f"{check.level}: {check.name}" for check, n in zip(checks, times, strict=True) for _ in range(n)]
    assert sorted(name for name, _, _ in seen) == sorted(names)
    assert [(done, total) for _, done, total in seen] == [(i + 1, len(names)) for i in range(len(names))]


def test_checks_stand_in_the_order_of_their_levels():
    """Cheap to dear, each name once, each told in one line."""
    levels = [LEVELS.index(check.level) for check in CHECKS]

    assert levels == sorted(levels)
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.run.__doc__.startswith("SR") and check.name == check.run.__name__ for check in CHECKS)


def test_a_rule_can_be_looked_up_in_any_case():
    """What `saereg rule` prints."""
    assert rule("sr009").code == "SR009" == rule("SR009").code


@pytest.mark.parametrize("code", RULES)
def test_a_rule_says_what_why_and_what_to_do(code):
    """Title without a full stop, reason and remedy as sentences."""
    found = rule(code)

    assert not found.title.endswith(".")
    assert found.why.endswith(".")
    assert found.fix.endswith(".")
    assert code[:3] in FAMILIES


def test_every_file_is_hashed_at_most_once(release, monkeypatch):
    """An evaluation is that of many artifacts, and weights are hashed while they are inspected."""
    hashed = []
    for module in (subject, activations):
        monkeypatch.setattr(module, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))

    assert not validate(release, "data").findings
    assert hashed
    assert len(set(hashed)) == len(hashed)


def test_weights_are_inspected_once(release, monkeypatch):
    """For their values and for the round trip."""
    inspected = []
    monkeypatch.setattr(round_trip, "inspect", lambda path, *more: inspected.append(path) or inspect(path, *more))

    validate(release, "weights")

    assert inspected
    assert len(set(inspected)) == len(inspected)


def test_a_k_that_is_too_large_is_pointed_at_by_its_own_name(release):
    """That of a temporal dictionary is `kval_topk`."""
    edit(release / TOPK / "cfg.json", lambda c: (c.pop("k"), c.update(architecture="temporal", kval_topk=99)))
    edit(release / TOPK / "cfg.json", lambda c: c.pop("rescale_acts_by_decoder_norm", None))
    reindex(release)

    (found,) = [finding for finding in validate(release).findings if finding.code == "SR212"]
    assert (found.pointer, found.message) == ("/kval_topk", "kval_topk = 99, but there are only 10 latents")


@pytest.mark.parametrize("altered", ["nothing", "a weight", "the source", "a value that is no number"])
def test_many_threads_find_what_one_finds(tmp_path, altered):
    """Weights and sources are read ahead, and the report is the same."""
    release = tiny_release(tmp_path)
    weights = release / TOPK / "sae_weights.safetensors"
    if altered == "the source":
        source = next((release.parent / "checkpoints").rglob("*.safetensors"))
        source.write_bytes(source.read_bytes()[:-1] + b"\1")
    elif altered != "nothing":
        weights.write_bytes(weights.read_bytes()[:-4] + (b"\1\2\3\4" if altered == "a weight" else b"\xff" * 4))
        reindex(release)

    one = validate(release, "weights", options=Options(jobs=1))
    many = validate(release, "weights", options=Options(jobs=3))

    assert many == one
    codes = {"nothing": set(), "a weight": {"SR422"}, "the source": {"SR424"}, "a value that is no number": {"SR203"}}
    assert codes[altered] <= {finding.code for finding in one.findings}
