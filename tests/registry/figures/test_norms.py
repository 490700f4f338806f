"""Decoder norms and lives of crosscoders, planted and of a small real release."""

import pytest
import torch

from saereg.errors import WeightsError
from saereg.registry.figures import lifecycle, norms
from saereg.registry.files.blocks import write_tensors
from saereg.registry.release import open_release
from saereg.schemas.document import canonical
from tests.registry.figures.planted import count, crosscoder, decoder, release, rows_of, sae
from tests.releases import tiny_release


def test_relative_norms_are_those_of_the_released_weights(tmp_path):
    """The histogram of two sources, against torch; the caption warns of the L1 penalty."""
    found = open_release(tiny_release(tmp_path, built=False))
    W_dec = found["W_U/cross-snapshot-2"].load(verify=False).weights["W_dec"]
    norm = W_dec.norm(dim=2)
    share = norm[:, 1] / norm.sum(1)
    (drawing,) = norms.draw(found)
    rows = rows_of(drawing.spec)
    bars = [row for row in rows if set(row) == {"low", "high", "n"}]
    assert sum(row["n"] for row in bars) == 10
    for row in bars:
        assert row["n"] == int(((share >= row["low"]) & (share < row["high"])).sum())
    assert drawing.name == drawing.kind == "decoder-norms"
    assert "arXiv:2504.02922" in drawing.caption
    assert "step 1,000" in drawing.alt


def test_regions_of_two_sources_are_counted(tmp_path):
    """Only the first, shared, only the second, and what lies between."""
    found = release(tmp_path, [crosscoder("a", sites=2, d_sae=6)])
    sizes = torch.tensor([[1.0, 0.0], [1.0, 0.05], [1.0, 1.0], [1.0, 3.0], [0.0, 2.0], [0.0, 0.0]])
    decoder(tmp_path / "a", sizes.unsqueeze(2) * torch.eye(6)[0])
    (drawing,) = norms.draw(found)
    assert drawing.alt == "Latents by region: only layer 0 2, shared 1, only layer 1 1, between 1."
    assert "1 latents that write nothing are left out" in drawing.caption


def test_the_heat_map_of_many_sources_is_in_the_order_of_peaks(tmp_path):
    """A planted staircase comes out as one, whatever the order of latents."""
    share = torch.eye(4).mul(8).add(0.1).repeat_interleave(2, 0)
    texts = []
    for name, order in (("x", [0, 1, 2, 3, 4, 5, 6, 7]), ("y", [5, 0, 7, 2, 1, 6, 3, 4])):
        found = release(tmp_path / name, [crosscoder("a", steps=(0, 10, 100, 2000))])
        write_tensors(tmp_path / name / "a/decoder_analysis.safetensors", {"decoder_norm": share[order]})
        (drawing,) = norms.draw(found)
        texts.append(canonical(drawing.spec))
    cells = [row for row in rows_of(drawing.spec) if "times" in row]
    bright = [(row["low"], row["source"]) for row in cells if row["times"] > 1]
    assert bright == [(n, source) for n, source in enumerate(["0", "0", "10", "10", "100", "100", "2k", "2k"])]
    assert all(
        row["times"] in (pytest.approx(4 * 8.1 / 8.4, abs=0.01), pytest.approx(0.4 / 8.4, abs=0.01)) for row in cells
    )
    assert [row["peaks"] for row in rows_of(drawing.spec) if "peaks" in row][:4] == [2, 2, 2, 2]
    assert texts[0] == texts[1]


def test_norms_of_another_dictionary_are_refused(tmp_path):
    """One line names the file and the shape."""
    found = release(tmp_path, [crosscoder("a", sites=3)])
    write_tensors(tmp_path / "a/decoder_analysis.safetensors", {"decoder_norm": torch.ones(8, 2)})
    with pytest.raises(WeightsError, match=r"a/decoder_analysis\.safetensors: expected decoder_norm of shape \(8, 3\)"):
        norms.draw(found)


def test_nothing_is_drawn_without_crosscoders_or_their_files(tmp_path):
    """An SAE, and a crosscoder of which neither weights nor analysis are here."""
    found = release(tmp_path, [sae("a"), crosscoder("b", steps=(0, 1)), crosscoder("c", steps=(0,))])
    assert norms.draw(found) == lifecycle.draw(found) == ()


def test_one_crosscoder_of_each_sort_is_drawn_the_canonical_one(tmp_path):
    """Of three of one sort the author's pick; the caption says what is left out."""
    entries = [crosscoder(f"a{n}", sites=2, canonical=n == 1) for n in range(3)] + [crosscoder("b", sites=3)]
    found = release(tmp_path, entries)
    for entry, sources in zip(entries, (2, 2, 2, 3), strict=True):
        decoder(tmp_path / entry["path"], torch.ones(8, sources, 6))
    drawings = norms.draw(found)
    assert [drawing.title.split()[-1] for drawing in drawings] == ["a1", "b"]
    assert [drawing.name for drawing in drawings] == ["decoder-norms-1", "decoder-norms-2"]
    assert "Shown are 2 of the 4 crosscoders" in drawings[0].caption


FIRED = torch.tensor([[50, 0, 0, 9, 0], [50, 3, 0, 0, 0], [4, 90, 0, 0, 0], [3, 95, 1, 8, 0]])
"""Of five latents at four snapshots: dies, is born, is born late, sleeps, never is."""


def test_lives_follow_the_rates_at_each_snapshot(tmp_path):
    """Alive is a tenth of the largest rate at least, and one row."""
    found = release(tmp_path, [crosscoder("a", steps=(0, 1, 512, 143000), d_sae=5)])
    count(tmp_path / "a", FIRED, rows=100)
    (drawing,) = lifecycle.draw(found)
    rows = rows_of(drawing.spec)
    states = {name: [row["n"] for row in rows if row.get("state") == name] for name in ("alive", "dead", "dormant")}
    assert states == {"alive": [2, 1, 1, 3], "dead": [0, 0, 1, 1], "dormant": [0, 1, 1, 0]}
    assert [row["step"] for row in rows if row.get("state") == "alive"] == [0, 1, 512, 143000]
    changes = {name: [row["n"] for row in rows if row.get("change") == name] for name in ("born", "dead from here on")}
    assert changes == {"born": [0, 0, 1, 1], "dead from here on": [0, 0, -1, 0]}
    cells = [row["level"] for row in rows if "level" in row]
    assert cells == pytest.approx((FIRED.T[[0, 3, 1, 2]] / 100).flatten().tolist())
    assert "1 of 5 are never alive" in drawing.caption
    assert "Measured on held-out (100 rows)" in drawing.caption


def test_snapshots_behind_one_gate_are_told_by_their_norms(tmp_path):
    """And the caption says so; what is never active is never alive."""
    found = release(tmp_path, [crosscoder("a", steps=(0, 1, 2), d_sae=3, architecture="topk")])
    sizes = torch.tensor([[1.0, 0.5, 0.05], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    decoder(tmp_path / "a", sizes.unsqueeze(2) * torch.eye(6)[0])
    count(tmp_path / "a", torch.tensor([[7, 7, 0]]), rows=10)
    (drawing,) = lifecycle.draw(found)
    rows = rows_of(drawing.spec)
    assert [row["n"] for row in rows if row.get("state") == "alive"] == [1, 2, 1]
    assert [row["level"] for row in rows if "level" in row] == [1.0, 0.5, 0.05, 0.0, 1.0, 1.0]
    assert "All snapshots share one gate" in drawing.caption


def test_a_life_does_not_depend_on_the_numbers_of_latents(tmp_path):
    """Permuted latents give the same bytes."""
    generator = torch.Generator().manual_seed(0)
    fired = torch.randint(0, 40, (6, 300), generator=generator) * (torch.rand(6, 300, generator=generator) < 0.5)
    texts = []
    for name, order in (("x", torch.arange(300)), ("y", torch.randperm(300, generator=generator))):
        found = release(tmp_path / name, [crosscoder("a", steps=(0, 1, 2, 3, 4, 5), d_sae=300)])
        count(tmp_path / name / "a", fired[:, order], rows=50)
        (drawing,) = lifecycle.draw(found)
        texts.append(canonical(drawing.spec))
    assert texts[0] == texts[1]
