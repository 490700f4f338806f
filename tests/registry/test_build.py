"""The index: built twice it is the same bytes, and it says what is there."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from saereg.errors import DocumentError, UsageError, WeightsError
from saereg.publishers.folder import FolderPublisher
from saereg.registry import build as builder
from saereg.registry.build import build
from saereg.registry.files import listing
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.folder import scan
from saereg.registry.metrics.sources import activations
from saereg.registry.validators.runner import validate
from saereg.schemas.index import Index
from tests.cases.tools import artifact_of, edit
from tests.releases import tiny_release

TOPK, JUMP, CROSS = "layer_1/topk", "layer_1/jumprelu", "W_U/cross-snapshot-2"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("build"))


@pytest.fixture
def release(pristine, tmp_path):
    shutil.copytree(pristine.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "release"


def test_building_twice_gives_the_same_bytes(release):
    """And changes no other file."""
    before = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}

    index = build(release)

    assert {path: path.read_bytes() for path in release.rglob("*") if path.is_file()} == before
    assert Index.read(release / "index.json") == index
    assert not validate(release, "data").findings


def test_the_index_names_every_file_once_with_its_digest(release):
    """All but the manifest and the index itself."""
    files = Index.read(release / "index.json").all_files()

    found = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert [file.path for file in files] == sorted(found - {"manifest.json", "index.json"})
    for file in files:
        assert (file.size, file.sha256) == ((release / file.path).stat().st_size, sha256_of(release / file.path))
    assert {file.role for file in files} == {"weights", "config", "golden", "evaluation", "card", "other"}


def test_the_evidence_is_what_was_found(release):
    """Tensors, golden replays, the round trip, metrics and verdicts."""
    topk, *_, crosscoder = Index.read(release / "index.json").artifacts

    assert topk.tensors["W_enc"].shape == (4, 10)
    assert all(tensor.finite for tensor in topk.tensors.values())
    assert topk.golden.replayed[0].active_sets_equal
    assert all(tensor.bitwise for tensor in topk.round_trip.tensors.values())
    assert {m.metric for m in topk.metrics} == {
        "explained_variance", "fvu", "mse_per_row", "mse_per_element", "l0", "dead_fraction",
        "density_below_1e_5", "density_below_1e_6",
    }  # fmt: skip
    assert [verdict.verdict for verdict in topk.verdicts] == ["verified"]
    assert crosscoder.round_trip is None
    assert {"l0_per_source_mean", "l0_any_source"} <= {m.metric for m in crosscoder.metrics}


def test_a_release_without_its_checkpoints_is_built_without_a_round_trip(release):
    """Nothing is claimed that was not compared."""
    shutil.rmtree(release.parent / "checkpoints")

    assert build(release).artifacts[0].round_trip is None


def test_another_checkpoint_is_refused(release):
    """A round trip against another file would prove nothing."""
    path = release.parent / "checkpoints" / TOPK / "source.safetensors"
    save_file(load_file(path) | {"extra": load_file(path)["b_enc"]}, path)

    with pytest.raises(UsageError) as caught:
        build(release)

    assert str(caught.value) == f"{path} is not the checkpoint that the manifest names"


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    """With who would have written it."""
    with pytest.raises(UsageError) as caught:
        build(tmp_path)

    assert str(caught.value) == f"{tmp_path} holds no manifest.json; a trainer writes one, or write it by hand"


@pytest.mark.parametrize("file", ["cfg.json", "sae_weights.safetensors"])
def test_an_artifact_without_its_files_is_refused(release, file):
    """With the artifact that asks for it."""
    (release / JUMP / file).unlink()

    with pytest.raises(UsageError) as caught:
        build(release)

    assert str(caught.value) == f"{release / JUMP / file} is missing; the manifest lists artifact {JUMP!r} there"


@pytest.mark.parametrize("instead", ["nothing", "folder", "pipe"])
def test_an_evaluation_that_is_no_file_is_refused(release, instead):
    """At once: a pipe would be read for ever."""
    path = release / "evaluation/layer-1.safetensors"
    path.unlink()
    {"nothing": lambda _: None, "folder": os.mkdir, "pipe": os.mkfifo}[instead](path)

    with pytest.raises(UsageError) as caught:
        build(release)

    assert str(caught.value) == f"{path} is no file; the manifest's evaluation 'held-out' names it"


def test_a_name_that_is_not_portable_is_refused(release):
    """Before it gets into the index."""
    (release / JUMP / "run 1.log").write_text("x")

    with pytest.raises(UsageError) as caught:
        build(release)

    problem = "' ' in a path; URLs and shells read it differently, rename the file"
    assert str(caught.value) == f"{release}: {JUMP}/run 1.log: {problem}"


def test_a_configuration_that_does_not_fit_is_refused(release):
    """By file and pointer."""
    edit(release / JUMP / "cfg.json", lambda cfg: cfg.update(extra=1))

    with pytest.raises(DocumentError, match=r"layer_1/jumprelu/cfg.json#/extra: unknown key 'extra'$"):
        build(release)


def test_weights_that_do_not_fit_are_refused(release):
    """And the old index stays."""
    before = (release / "index.json").read_bytes()
    weights = load_file(release / JUMP / "sae_weights.safetensors")
    weights["threshold"] = weights["threshold"][:5].clone()
    save_file(weights, release / JUMP / "sae_weights.safetensors")

    with pytest.raises(WeightsError, match=r"threshold: "):
        build(release)

    assert (release / "index.json").read_bytes() == before


def test_pickles_and_training_state_never_get_into_the_index(release):
    """The validation then says that they must go."""
    (release / JUMP / "trainer_state.json").write_text("{}")
    (release / "old.pt").write_bytes(b"x")

    build(release)

    assert sorted(finding.code for finding in validate(release).findings) == ["SR005", "SR006"]


def test_progress_is_reported_per_artifact(release):
    """In the order of the manifest."""
    steps = []

    build(release, progress=lambda *step: steps.append(step))

    assert steps == [(TOPK, 1, 4), (JUMP, 2, 4), ("layer_1/transcoder", 3, 4), (CROSS, 4, 4)]


def test_a_claim_that_differs_is_recorded_as_such(release):
    """The index is built all the same: it is evidence, not praise."""
    claim = {"metric": "explained_variance", "value": 0.99, "evaluation": "held-out"}
    edit(release / "manifest.json", lambda manifest: artifact_of(manifest, TOPK).update(claims=[claim]))

    (verdict,) = build(release).artifacts[0].verdicts

    measured = next(m.value for m in build(release).artifacts[0].metrics if m.metric == "explained_variance")
    assert (verdict.verdict, verdict.measured) == ("differs", measured)
    assert verdict.why.startswith(f"measured {measured:.6g}, ")


def test_the_index_is_canonical_text(release):
    """Sorted keys, so that a diff shows what changed."""
    text = (release / "index.json").read_text()

    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def test_the_folder_is_listed_once_and_an_evaluation_hashed_once(release, monkeypatch):
    """However many artifacts there are."""
    listed, hashed = [], []
    monkeypatch.setattr(builder, "scan", lambda root: listed.append(root) or scan(root))
    for module in (builder, listing, activations):
        monkeypatch.setattr(module, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))

    build(release)

    assert listed == [release]
    evaluations = [path for path in hashed if path.parent.name == "evaluation"]
    assert evaluations
    assert len(set(evaluations)) == len(evaluations)


def test_a_manifest_with_other_line_ends_is_the_same_manifest_to_build_validate_and_publish(release, tmp_path):
    """Digests are of the bytes, wherever they are computed."""
    path = release / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    index = build(release)
    report = validate(release)

    assert index.manifest_sha256 == sha256_of(path)
    assert report.findings == ()
    assert FolderPublisher(tmp_path / "out").plan(release, report).release_digest == report.release_digest


def test_another_process_writes_the_same_index(tmp_path, monkeypatch):
    """Byte by byte; from a path that is relative, too."""
    release = tiny_release(tmp_path)
    before = (release / "index.json").read_bytes()
    monkeypatch.chdir(tmp_path)
    build(Path("release"), executor="local:1")
    assert (release / "index.json").read_bytes() == before


def test_data_that_do_not_fit_one_claim_leave_the_rest_as_it_is(release):
    """Its verdict says what is wrong with which file; everything else is measured, judged and written."""
    rows = load_file(release / "evaluation/layer-1.safetensors")
    rows["x"][7, 0] = float("nan")
    save_file(rows, release / "evaluation/broken.safetensors")
    broken = {"source": "activations", "path": "evaluation/broken.safetensors", "rows": 12, "site": "block-1"}
    edit(release / "manifest.json", lambda m: m["evaluations"].update(broken=broken))
    wrong = [{"metric": "l0", "value": 3.83, "evaluation": name} for name in ("broken", "held-out-mlp", "held-out")]
    edit(release / "manifest.json", lambda m: artifact_of(m, JUMP).update(claims=wrong))

    index = build(release)

    assert Index.read(release / "index.json") == index
    (entry,) = (artifact for artifact in index.artifacts if artifact.id == JUMP)
    assert [(verdict.verdict, verdict.why) for verdict in entry.verdicts[:2]] == [
        (
            "not_verifiable",
            "the data of 'broken' do not fit: broken.safetensors: the input of row 7 is not finite",
        ),
        (
            "not_verifiable",
            "the data of 'held-out-mlp' do not fit: layer-1.safetensors: has targets, but the dictionary reconstructs "
            "its input",
        ),
    ]
    assert entry.verdicts[2].verdict == "verified"
    assert {m.evaluation for m in entry.metrics} == {"held-out"}
    found = [f.message for f in validate(release, "data").findings if f.code == "SR425" and f.artifact == JUMP]
    assert found == [
        "evaluation 'broken': broken.safetensors: the input of row 7 is not finite",
        "evaluation 'held-out-mlp': layer-1.safetensors: has targets, but the dictionary reconstructs its input",
    ]
