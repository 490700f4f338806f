"""A release is opened without weights, and its artifacts are verified before they are loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import saereg
from saereg.api import load
from saereg.errors import DocumentError, FormatError, NothingToValidateError, UnknownNameError, UsageError, WeightsError
from saereg.registry.loading import detect, load_path
from saereg.registry.release import open_artifact, open_release
from tests.cases.tools import artifact_of, edit
from tests.releases import tiny_release

TOPK, JUMP, CROSS = "layer_1/topk", "layer_1/jumprelu", "W_U/cross-snapshot-2"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("release"), checkpoints=False)


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "release")


def test_an_open_release_lists_its_artifacts_in_order(pristine):
    """With what the author claims and what saereg found."""
    release = open_release(pristine)

    assert [artifact.id for artifact in release] == [TOPK, JUMP, "layer_1/transcoder", CROSS]
    assert len(release) == 4
    assert release[TOPK].claim.sparsity.k == release[TOPK].cfg.k == 3
    assert release[TOPK].metrics["l0"] == pytest.approx(35 / 12)
    assert release[TOPK].folder == pristine / "layer_1/topk"


def test_a_release_that_was_never_built_has_no_metrics(folder):
    """But stated numbers, marked as such; it can be queried and loaded."""
    (folder / "index.json").unlink()

    release = open_release(folder)

    assert release.index is None
    assert release[TOPK].metrics == {}
    fields = release[TOPK].fields
    assert (fields["l0"], fields["l0_basis"]) == (3.0, "stated")
    assert release[TOPK].fields_by("measured")["l0"] is None
    assert release[TOPK].load()(torch.zeros(2, 4)).shape == (2, 4)


def test_an_unknown_artifact_is_named_with_the_closest(pristine):
    """Ids are long."""
    with pytest.raises(UnknownNameError) as caught:
        open_release(pristine)["layer_1/topc"]

    assert str(caught.value) == "unknown artifact 'layer_1/topc'; did you mean 'layer_1/topk'?"


def test_what_holds_no_manifest_is_no_release(tmp_path):
    """Neither is what is no folder."""
    with pytest.raises(NothingToValidateError) as caught:
        open_release(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds no manifest.json, so it is no release"

    with pytest.raises(NothingToValidateError) as caught:
        open_release(tmp_path / "gone")
    assert str(caught.value) == f"{tmp_path / 'gone'} is not a folder"


@pytest.mark.parametrize("document", ["manifest.json", "index.json", f"{TOPK}/cfg.json"])
def test_a_document_that_does_not_fit_is_named(folder, document):
    """By file and pointer."""
    edit(folder / document, lambda value: value.update(extra=1))

    with pytest.raises(DocumentError) as caught:
        _ = open_release(folder)[TOPK].cfg

    assert str(caught.value) == f"{folder / document}#/extra: unknown key 'extra'"


def test_a_configuration_that_is_gone_is_named(folder):
    """Not an OSError."""
    (folder / TOPK / "cfg.json").unlink()

    with pytest.raises(DocumentError, match=r"layer_1/topk/cfg.json: cannot be read: "):
        _ = open_release(folder)[TOPK].cfg


@pytest.mark.parametrize("identifier", [TOPK, JUMP, "layer_1/transcoder", CROSS])
def test_an_artifact_is_loaded_by_reference_by_folder_and_by_find(pristine, identifier):
    """Three ways to the same tensors."""
    by_reference = load(f"{pristine}:{identifier}")
    by_folder = load(pristine / identifier)
    by_find = saereg.find(pristine, id=identifier)[0].load()
    x = load_file(pristine / identifier / "golden.safetensors")["x"]

    assert torch.equal(by_reference(x), by_folder(x))
    assert torch.equal(by_reference(x), by_find(x))
    assert saereg.load(f"{pristine}:{identifier}").cfg == by_folder.cfg


@pytest.mark.parametrize("file", ["sae_weights.safetensors", "cfg.json"])
@pytest.mark.parametrize("way", ["reference", "folder", "artifact"])
def test_an_altered_file_is_not_loaded(folder, way, file):
    """Whichever way it is asked for; unless verification is switched off."""
    path = folder / TOPK / file
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]) if file != "cfg.json" else raw + b"\n")
    ways = {
        "reference": lambda: load(f"{folder}:{TOPK}"),
        "folder": lambda: load(folder / TOPK),
        "artifact": lambda: open_release(folder)[TOPK].load(),
    }

    with pytest.raises(WeightsError) as caught:
        ways[way]()

    assert str(caught.value) == f"{path}: its sha256 is not the one in index.json: altered, or not built again"
    assert open_release(folder)[TOPK].load(verify=False) is not None


def test_an_indexed_file_that_is_gone_is_named(folder):
    """Before anything is read."""
    (folder / TOPK / "sae_weights.safetensors").unlink()

    with pytest.raises(WeightsError, match=r"sae_weights.safetensors: is in index.json but not in the release$"):
        open_release(folder)[TOPK].load()


def test_a_reference_to_several_artifacts_asks_for_one(pristine):
    """With an example that can be copied."""
    with pytest.raises(UsageError) as caught:
        open_artifact(pristine)

    assert str(caught.value) == f"{pristine} holds 4 artifacts; name one: {pristine}:{TOPK}"


def test_a_release_of_one_artifact_is_a_reference_to_it(folder):
    """And one of none is not."""
    manifest = json.loads((folder / "manifest.json").read_text())
    only = artifact_of(manifest, JUMP)
    edit(folder / "manifest.json", lambda m: m.update(artifacts=[only]))
    assert open_artifact(str(folder)).id == JUMP

    edit(folder / "manifest.json", lambda m: m.update(artifacts=[]))
    with pytest.raises(UsageError) as caught:
        open_artifact(str(folder))
    assert str(caught.value) == f"{folder} holds 0 artifacts"


def test_a_folder_of_a_release_that_is_no_artifact_is_refused(pristine):
    """Neither a folder above artifacts, nor one beside them."""
    with pytest.raises(UsageError) as caught:
        open_artifact(pristine / "layer_1")

    assert str(caught.value) == f"{pristine / 'layer_1'} is no artifact of a release"


def test_a_dictionary_outside_of_any_release_is_loaded_from_its_folder(folder, tmp_path):
    """With nothing to compare it with."""
    shutil.copytree(folder / TOPK, tmp_path / "alone")

    assert load(tmp_path / "alone").cfg.k == 3
    assert load(str(tmp_path / "alone")).cfg.k == 3


@pytest.mark.parametrize("document", ["manifest.json", "index.json"])
def test_an_artifact_of_a_broken_release_is_not_loaded_as_if_it_stood_alone(folder, document):
    """It could not be compared with the index."""
    (folder / document).write_text("{")

    with pytest.raises(DocumentError, match=f"{document}: not JSON: "):
        load(folder / TOPK)


def test_a_manifest_of_another_program_is_no_matter(folder, tmp_path):
    """Web pages have one, too."""
    shutil.copytree(folder / TOPK, tmp_path / "site/topk")
    (tmp_path / "site/manifest.json").write_text('{"short_name": "x"}')

    assert load(tmp_path / "site/topk").cfg.k == 3


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(pristine, device):
    """Before any weights are read, in one line."""
    with pytest.raises(UsageError) as caught:
        load(pristine / TOPK, device=device)

    assert str(caught.value).startswith(f"device {device!r} cannot be used on this machine: ")
    assert "\n" not in str(caught.value)


def test_a_folder_in_no_layout_is_refused(tmp_path):
    """With what is there, and what to do next."""
    with pytest.raises(FormatError) as caught:
        load_path(tmp_path)
    reason = "holds no weight file that saereg reads; saereg detect lists what lies below it"
    assert str(caught.value) == f"{tmp_path}: {reason}"

    save_file({"spam": torch.zeros(2), "eggs": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(FormatError) as caught:
        load_path(tmp_path)
    unknown = (
        "in no layout that saereg knows; its tensors are eggs, spam, and no document beside them says what they mean"
    )
    reason = f"{unknown}; if you know what they mean, say it with --from state_dict"
    assert str(caught.value) == f"{tmp_path}: {reason}"

    with pytest.raises(UsageError, match=r"gone is not a folder or file$"):
        load(tmp_path / "gone")


def test_a_layout_is_recognized_by_configuration_and_tensors(pristine, tmp_path):
    """Each artifact is in one, a folder without weights in none."""
    assert detect(pristine / TOPK) == ("saelens",)
    assert detect(pristine / CROSS) == ("saereg",)
    shutil.copy(pristine / TOPK / "cfg.json", tmp_path)
    assert detect(tmp_path) == ()


def test_several_releases_are_searched_together(pristine, folder):
    """In the order in which they are named."""
    found = saereg.find([pristine, str(folder)], architecture="topk")

    assert [artifact.release.path for artifact in found] == [pristine, folder]


def test_the_public_names_are_there():
    """And no others."""
    assert all(hasattr(saereg, name) for name in saereg.__all__)
    with pytest.raises(AttributeError, match=r"^module 'saereg' has no attribute 'trian'$"):
        _ = saereg.trian
