"""latents.safetensors and features.json of a tiny release: what a view says is what the dictionary gives."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.registry.features.latents import Latents, read_latents, write_latents
from saereg.registry.features.views import view_artifact, write_views
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.texts import Part, write_text, write_vocabulary
from saereg.registry.release import open_release
from saereg.schemas.features import FeatureView
from tests.releases import D_SAE, K_SOURCES, ROWS, tiny_release

CROSSCODER = "W_U/cross-snapshot-2"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "release")


def with_text(folder):
    """Put a text beside the rows of layer 1: contexts of four tokens each."""
    rows = folder / "evaluation/layer-1.safetensors"
    text = Part(torch.arange(ROWS), torch.tensor([4] * (ROWS // 4)), torch.arange(ROWS))
    pieces = [f" w{number}".encode() for number in range(ROWS - 1)] + [b"\x1b[31m\xff"]
    write_text(folder / "evaluation/layer-1.text.safetensors", text, pieces, sha256_of(rows))


def test_every_artifact_has_the_statistics_of_its_own_encode(folder):
    """Of SAEs, a transcoder, and a crosscoder with two gates; read again as they were written."""
    release = open_release(folder)
    for artifact in release:
        done = write_views(artifact)
        assert done.reason is None
        name = "W_U" if artifact.id == CROSSCODER else "layer-1"
        f = artifact.load().encode(load_file(folder / f"evaluation/{name}.safetensors")["x"])
        f = f.transpose(0, 1) if artifact.id == CROSSCODER else f.unsqueeze(0)
        found = read_latents(folder / artifact.id / "latents.safetensors")
        assert torch.equal(found.fired, (f != 0).sum(1))
        assert torch.allclose(found.total, f.double().sum(1))
        assert torch.equal(found.maximum, f.amax(1).clamp_min(0))
        assert found.rows == ROWS
        assert done.written == (f"{artifact.id}/latents.safetensors", f"{artifact.id}/features.json")
        view = FeatureView.read(folder / artifact.id / "features.json")
        assert view == done.view
        assert view.weights_sha256 == found.weights_sha256


def test_twice_gives_the_same_bytes(folder):
    """Both files, of every artifact."""
    with_text(folder)
    for artifact in open_release(folder):
        files = [folder / path for path in write_views(artifact).written]
        before = [file.read_bytes() for file in files]
        write_views(artifact)
        assert [file.read_bytes() for file in files] == before


def test_a_view_of_latents_that_a_user_named_stays_one_of_these(folder):
    """The next build brings it up to date, and does not put others in their place."""
    artifact = open_release(folder)["layer_1/topk"]
    path = artifact.folder / "features.json"
    write_views(artifact, latents=4)
    view = json.loads(path.read_text())
    kept = view["latents"][1:3]
    path.write_text(json.dumps(view | {"chosen": "given", "latents": kept}))

    write_views(artifact, latents=4)

    found = FeatureView.read(path)
    assert (found.chosen, [latent.index for latent in found.latents]) == ("given", [one["index"] for one in kept])


def test_contexts_are_the_rows_with_the_text_around_them(folder):
    """The token of the row is the peak, neighbours have their own activations, hostile bytes are named."""
    with_text(folder)
    artifact = open_release(folder)["layer_1/topk"]
    view = view_artifact(open_release(folder), artifact.id, latents=D_SAE).view
    f = artifact.load().encode(load_file(folder / "evaluation/layer-1.safetensors")["x"])
    names = [f" w{number}" for number in range(ROWS - 1)] + ["⟨U+001B⟩[31m⟨FF⟩"]
    assert view.text_note is None
    for latent in view.latents:
        for context in latent.contexts:
            first = context.row // 4 * 4
            assert context.tokens == tuple(names[first : first + 4])
            assert context.peak == context.row - first
            assert context.activations[context.peak] == context.activation
            assert context.activations == pytest.approx(f[first : first + 4, latent.index].tolist(), rel=1e-4)
        expected = f[:, latent.index].sort(descending=True).values[: len(latent.contexts)]
        assert [context.activation for context in latent.contexts] == pytest.approx(expected.tolist(), rel=1e-4)
        assert latent.decoder_norms == pytest.approx(
            [float(artifact.load().weights["W_dec"][latent.index].norm())], 1e-4
        )


def test_rows_of_a_parameter_are_read_out_as_entries_of_the_vocabulary(folder):
    """With the activation at each source, which has a gate of its own; by numbers where no text is shipped."""
    release = open_release(folder)
    view = view_artifact(release, CROSSCODER, latents=D_SAE).view
    assert (view.readout, view.latents[0].contexts) == ("vocabulary", ())
    assert view.latents[0].promoted[0].token.startswith("⟨")
    write_vocabulary(folder / "evaluation/W_U.text.safetensors", [f"e{number}".encode() for number in range(ROWS)])
    view = view_artifact(release, CROSSCODER, latents=D_SAE).view
    f = release[CROSSCODER].load().encode(load_file(folder / "evaluation/W_U.safetensors")["x"])
    for latent in view.latents:
        assert len(latent.per_source) == K_SOURCES
        for entry in latent.promoted:
            assert entry.token == f"e{entry.row}"
            assert entry.at_sources == pytest.approx(f[entry.row, :, latent.index].tolist(), rel=1e-4)
            assert entry.value == max(entry.at_sources)


def test_the_text_of_other_rows_is_not_shown(folder):
    """Rows that changed after their text was written: no text, and a note."""
    with_text(folder)
    rows = load_file(folder / "evaluation/layer-1.safetensors")
    save_file({name: tensor + 1 for name, tensor in rows.items()}, folder / "evaluation/layer-1.safetensors")
    found = view_artifact(_unbuilt(folder), "layer_1/topk")
    assert found.view.text_note == "layer-1.text.safetensors is the text of other rows"
    assert found.view.latents[0].contexts[0].tokens == ()


def _unbuilt(folder):
    (folder / "index.json").unlink()
    return open_release(folder)


def test_a_damaged_text_is_a_reason_of_one_line(folder):
    """The build goes on; what is wrong, and with which file, is said."""
    with_text(folder)
    (folder / "evaluation/layer-1.text.safetensors").write_bytes(b"no header")
    found = view_artifact(open_release(folder), "layer_1/topk")
    assert found.view is None
    assert found.reason.startswith("layer-1.text.safetensors: ")
    assert "\n" not in found.reason


def test_without_rows_nothing_is_written_and_files_of_other_weights_go(folder):
    """Rows that are not at hand: the reason; an earlier view stays as long as the weights are those it is of."""
    artifact = open_release(folder)["layer_1/topk"]
    first = write_views(artifact)
    (folder / "evaluation/layer-1.safetensors").unlink()
    kept = write_views(artifact)
    assert (kept.latents, kept.view, kept.written) == (None, None, first.written)
    assert kept.reason == "evaluation/layer-1.safetensors of evaluation 'held-out' is missing"
    weights = folder / "layer_1/topk/sae_weights.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    assert write_views(_unbuilt(folder)["layer_1/topk"]).written == ()
    assert not (folder / "layer_1/topk/features.json").exists()


def test_weights_that_are_not_finite_are_a_reason(folder):
    """A run that diverged has no view, and no NaN reaches a file."""
    weights = folder / "layer_1/topk/sae_weights.safetensors"
    save_file({name: tensor * torch.nan for name, tensor in load_file(weights).items()}, weights)
    found = view_artifact(_unbuilt(folder), "layer_1/topk")
    assert found.latents is None
    assert "not finite" in found.reason


def test_synthetic_rows_say_nothing_of_latents(folder):
    """Of an artifact with no other evaluation there is no view."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["evaluations"] = {"random": {"source": "synthetic", "rows": 8, "seed": 0, "site": "block-1"}}
    for artifact in manifest["artifacts"]:
        artifact["claims"] = []
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert view_artifact(_unbuilt(folder), "layer_1/topk").reason.startswith("its evaluations are synthetic")
    assert view_artifact(_unbuilt_again(folder), CROSSCODER).reason.startswith("no evaluation of the release")


def _unbuilt_again(folder):
    return open_release(folder)


def test_latents_come_back_as_they_were_written(tmp_path):
    """Every tensor and fact; the same statistics give the same bytes."""
    found = Latents(
        torch.tensor([[1, 0]]),
        torch.tensor([[2.5, 0.0]]).double(),
        torch.tensor([[2.5, 0.0]]),
        7,
        "a",
        "0" * 64,
        "1" * 64,
    )
    for name in ("a", "b"):
        write_latents(tmp_path / name, found)
    again = read_latents(tmp_path / "a")
    assert (again.rows, again.evaluation, again.data_sha256, again.weights_sha256) == (7, "a", "0" * 64, "1" * 64)
    assert torch.equal(again.total, found.total)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
