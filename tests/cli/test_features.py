"""`saereg features`: what a latent is active on, as text and JSON, with hostile text made harmless."""

import shutil

import torch

from saereg.registry.features.views import write_views
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.holdout import HeldOut, chosen, hold_out
from saereg.registry.metrics.sources.texts import Part, write_text
from saereg.registry.release import open_release
from saereg.schemas.features import FeatureView
from tests.releases import ROWS

TOPK = "release:layer_1/topk"


def with_text(release):
    """Put a text beside the rows of layer 1, part of it hostile."""
    rows = release / "evaluation/layer-1.safetensors"
    text = Part(torch.arange(ROWS), torch.tensor([ROWS]), torch.arange(ROWS))
    pieces = [f" w{number}".encode() for number in range(ROWS - 1)] + ["\x1b]0;owned\x07\u202e\n".encode()]
    write_text(release / "evaluation/layer-1.text.safetensors", text, pieces, sha256_of(rows))


def test_latents_are_shown_with_the_tokens_that_activate_them(saereg, place):
    """Frequency, sizes, a histogram, and the peak marked among its neighbours; no control character comes through."""
    with_text(place / "release")
    answer = saereg("features", TOPK, "--strata", 10, "--contexts", 3)
    assert answer.code == 0
    assert answer.out.startswith("layer_1/topk on held-out, 12 rows\n10 of 10 latents, one of each stratum")
    assert " «w3» " in answer.out
    assert "⟨U+001B⟩]0;owned⟨U+0007⟩⟨U+202E⟩↵" in answer.out
    assert all(character.isprintable() for character in answer.out.replace("\n", ""))
    assert "no readout: the unembedding is not at hand; give --model tiny=FOLDER" in answer.out
    assert answer.next == f"saereg features {TOPK} --latent 0 --contexts 30"


def test_json_is_a_document_and_goes_to_a_file(saereg, place):
    """The same view as the library makes; of latents that are named, in their order."""
    answer = saereg("features", TOPK, "--latent", 7, "--latent", 2, "--format", "json", "-o", "view.json")
    assert (answer.code, answer.out) == (0, "")
    view = FeatureView.read(place / "view.json")
    assert (view.chosen, [latent.index for latent in view.latents]) == ("given", [2, 7])
    assert answer.next == f"saereg show {TOPK}"


def test_a_release_shows_the_view_that_it_ships(saereg, place, monkeypatch):
    """Without options nothing is encoded; a view of other weights is not shown."""
    release = place / "release"
    done = write_views(open_release(release)["layer_1/topk"], latents=4, seed=5)
    shown = saereg("features", TOPK, "--format", "json").out
    assert shown == done.view.text()
    other = done.view.model_copy(update={"weights_sha256": "0" * 64})
    (release / "layer_1/topk/features.json").write_text(other.text())
    assert FeatureView.from_text(saereg("features", TOPK, "--format", "json").out).weights_sha256 != "0" * 64


def test_a_crosscoder_shows_each_of_its_sources(saereg):
    """Frequency and entries at every source, as bars; entries without a text by their number."""
    answer = saereg("features", "release:W_U/cross-snapshot-2", "--random", 10)
    assert "at its 2 sources, first to last" in answer.out
    assert "'⟨" in answer.out
    assert "readout (vocabulary): rows are entries of the vocabulary" in answer.out


def test_what_cannot_be_shown_is_one_line(saereg, place):
    """Latents that are not there, choices that contradict each other, names that nothing has, rows that are gone."""
    for words, said in (
        (["--latent", 10], "error: latent 10: the dictionary has latents 0 to 9"),
        (["--latent", 1, "--random", 3], "error: --latent and --random both choose latents; give one of them"),
        (["--evaluation", "held-ou"], "did you mean 'held-out'?"),
        (["--model", "tin=."], "did you mean 'tiny'?"),
        (["--strata", 0], "0 is not in the range"),
    ):
        answer = saereg("features", TOPK, *words)
        assert answer.code == 2, words
        assert said in answer.err, words
        assert answer.out == ""
    (place / "release/evaluation/layer-1.safetensors").unlink()
    answer = saereg("features", TOPK)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "evaluation/layer-1.safetensors of evaluation 'held-out' is missing" in answer.err


def test_a_held_out_evaluation_takes_the_text_along(saereg, place):
    """Rows that `saereg build --evaluation` draws from rows with a text: the text of those that were drawn."""
    release = place / "release"
    with_text(release)
    (release / "evaluation").rename(place / "source")
    shutil.copytree(place / "source", release / "evaluation")
    (release / "evaluation/layer-1.text.safetensors").unlink()
    spec = f"{place}/source/layer-1.safetensors#x"
    (made,) = hold_out(release, HeldOut("few", spec, rows=5, seed=3, site="block-1"))
    assert made.is_new
    assert not hold_out(release, HeldOut("few", spec, rows=5, seed=3, site="block-1"))[0].is_new
    view = FeatureView.from_text(saereg("features", TOPK, "--evaluation", "few", "--format", "json").out)
    assert (view.text_note, view.rows) == (None, 5)
    picked = chosen(ROWS, 5, 3).tolist()
    for context in (context for latent in view.latents for context in latent.contexts):
        if picked[context.row] < ROWS - 1:
            assert context.tokens[context.peak] == f" w{picked[context.row]}"
