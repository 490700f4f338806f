"""Histograms of active latents: their counts are those of the rows, and of the latents."""

import math

import pytest
import torch

from saereg.errors import WeightsError
from saereg.registry.figures import frequency, sparsity
from saereg.registry.metrics.sources.opening import Surroundings, open_rows
from saereg.registry.release import open_release
from saereg.registry.semantics import row_shape
from saereg.schemas.document import canonical
from tests.registry.figures.planted import count, crosscoder, release, rows_of, sae
from tests.releases import tiny_release


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small real release with its evidence."""
    return open_release(tiny_release(tmp_path_factory.mktemp("sparsity")))


def encoded(artifact):
    """Return the latents of an artifact on its own evaluation, (N, F) or (N, K, F)."""
    name = "vocabulary" if artifact.claim.kind == "crosscoder" else "held-out"
    around = Surroundings(artifact.release.path, artifact.release.manifest, row_shape(artifact.cfg))
    rows = open_rows(artifact.release.manifest.evaluations[name], around)
    return artifact.load().encode(rows.read(0, rows.rows)[0])


def bars_of(panel):
    """Return (low, high, count) of the bars of one histogram."""
    return [(row["low"], row["high"], row["n"]) for row in rows_of(panel) if "n" in row]


def test_bars_are_the_rows_with_so_many_active_latents(tiny):
    """Each bar against a count with torch; a bar of one whole number is centred on it."""
    drawing = next(d for d in sparsity.draw(tiny) if d.name == "sparsity")
    for artifact, panel in zip(tiny, drawing.spec["vconcat"], strict=True):
        active = encoded(artifact) != 0
        per_row = (active.any(1) if active.dim() == 3 else active).sum(1)
        panel = panel | {"datasets": drawing.spec["datasets"]}
        for low, high, n in bars_of(panel):
            assert n == int(((per_row > low) & (per_row < high)).sum())
        assert sum(n for *_, n in bars_of(panel)) == len(per_row)
    assert "l0_any_source" in drawing.caption
    assert "held-out (12 rows)" in drawing.caption


def test_sources_have_their_own_means(tiny):
    """The line of a crosscoder, against torch."""
    drawing = next(d for d in sparsity.draw(tiny) if d.name == "sparsity-sources")
    expected = (encoded(tiny["W_U/cross-snapshot-2"]) != 0).double().sum(2).mean(0).tolist()
    rows = rows_of(drawing.spec)
    assert [(row["step"], row["l0"]) for row in rows] == list(zip((0, 1000), map(pytest.approx, expected), strict=True))


def test_frequencies_are_counted_in_quarters_of_a_factor_of_ten(tmp_path):
    """Never, once and always active: three bars; at each bound a latent is in the bar above it."""
    found = release(tmp_path, [sae("a", d_sae=6)])
    count(tmp_path / "a", torch.tensor([[0, 1, 10, 100, 100, 0]]), rows=100)
    (drawing,) = sparsity.draw(found)
    bars = {(low, high): n for low, high, n in bars_of(drawing.spec)}
    assert bars == {(-2.0, -1.75): 1, (-1.0, -0.75): 1, (-0.25, 0.0): 2, (-2.75, -2.5): 2}
    assert drawing.name == "sparsity-frequency"
    assert "33.3% of them" in drawing.alt


def test_points_are_frequency_and_mean_activation(tmp_path):
    """A latent per point, on logarithmic scales; those never active are counted in words."""
    found = release(tmp_path, [crosscoder("a", steps=(0, 1), d_sae=4)])
    fired = torch.tensor([[0, 4, 0, 10], [0, 1, 2, 10]])
    total = torch.tensor([[0.0, 8.0, 0.0, 1000.0], [0.0, 2.0, 1.0, 1000.0]], dtype=torch.float64)
    count(tmp_path / "a", fired, rows=10, total=total)
    (drawing,) = frequency.draw(found)
    points = [(row["low"], row["below"]) for row in rows_of(drawing.spec) if "below" in row]
    expected = [(2 / 20, 0.5), (5 / 20, 2.0), (20 / 20, 100.0)]
    assert points == [pytest.approx((math.log10(x), math.log10(y)), abs=1e-3) for x, y in expected]
    assert "4 latents: 1 never active, 2 dense" in drawing.alt


def test_cells_hold_every_latent_once_and_do_not_depend_on_their_order(tmp_path, monkeypatch):
    """Of many latents the figure has counts, the same after a permutation of the latents."""
    monkeypatch.setattr(frequency, "FEWEST", 100)
    generator = torch.Generator().manual_seed(0)
    fired = torch.randint(0, 500, (1, 3000), generator=generator)
    total = fired * torch.rand(1, 3000, generator=generator, dtype=torch.float64).add(0.01)
    order = torch.randperm(3000, generator=generator)
    texts = []
    for name, at in (("a", slice(None)), ("b", order)):
        found = release(tmp_path / name, [sae("a", d_sae=3000)])
        count(tmp_path / name / "a", fired[:, at], 500, total[:, at])
        drawings = (*frequency.draw(found), *sparsity.draw(found))
        texts.append([canonical(drawing.spec) for drawing in drawings])
        cells = [row for row in rows_of(drawings[0].spec) if "n" in row]
        assert sum(row["n"] for row in cells) == int((fired > 0).sum())
    assert texts[0] == texts[1]
    assert len(texts[0][0]) < 300_000


def test_statistics_of_other_weights_are_not_shown(tiny, tmp_path):
    """What was counted of other weights than the index names says nothing of these."""
    count(tiny["layer_1/topk"].folder, torch.ones(1, 10, dtype=torch.long), rows=2)
    assert frequency.draw(tiny) == ()
    (tiny["layer_1/topk"].folder / "latents.safetensors").unlink()


def test_a_damaged_file_of_latents_is_one_line(tmp_path):
    """It names the file, and what writes it again."""
    found = release(tmp_path, [sae("a", d_sae=6)])
    count(tmp_path / "a", torch.ones(1, 5, dtype=torch.long), rows=2)
    with pytest.raises(WeightsError, match=r"a/latents\.safetensors: it counts 5 latents, and d_sae is 6"):
        sparsity.draw(found)
    (tmp_path / "a/latents.safetensors").write_bytes(b"12345678")
    with pytest.raises(WeightsError, match="claims"):
        frequency.draw(found)


def test_nothing_is_drawn_of_a_release_without_counts(tmp_path):
    """Absent evidence is no figure."""
    found = release(tmp_path, [sae("a")])
    assert sparsity.draw(found) == frequency.draw(found) == ()


def test_few_of_many_artifacts_are_shown_canonical_ones_first(tmp_path):
    """The caption says how many; strange names are shown as they are."""
    entries = [sae(f"a{n}", d_sae=2, canonical=n == 8) for n in range(9)]
    entries[3] = sae("it-is.x[0]", d_sae=2, architecture="topk")
    found = release(tmp_path, entries)
    for entry in entries:
        count(tmp_path / entry["path"], torch.tensor([[1, 0]]), rows=2)
    (drawing,) = sparsity.draw(found)
    words = [row["words"] for row in rows_of(drawing.spec) if set(row) == {"words"}]
    assert words[::2] == ["a0", "a1", "a2", "it-is.x[0]", "a4", "a8"]
    assert "Shown are 6 of the 9 artifacts with counts of latents" in drawing.caption


def test_the_border_of_dense_latents_is_inside_where_all_are_dense():
    """A rule beyond the bounds would be drawn over the words beside the axis."""
    cloud = frequency.Cloud("a", torch.tensor([-0.4]), torch.tensor([0.1]), 1, 0, 1)
    (low, high), _ = frequency.square_of([cloud])
    assert low < math.log10(frequency.DENSE) < high
