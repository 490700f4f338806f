"""The demo in small: the same steps on fewer tokens."""

import pytest

from saereg.cli import run
from saereg.demo import Demo
from saereg.errors import UsageError
from saereg.registry.files.digest import sha256_of
from saereg.registry.release import open_release


def quiet(what, done, total):
    """Report nothing."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo that went all the way."""
    demo = Demo(tmp_path_factory.mktemp("demo") / "out", rows=6144, tokens=20_480, held_out=1024)
    demo.check()
    demo.collect(quiet)
    demo.train(quiet)
    demo.build(quiet)
    return demo


@pytest.mark.slow
def test_the_release_has_no_findings_at_level_data(demo):
    """What the trainer stated is what the released weights give, and nothing else is wrong."""
    report = demo.validate(quiet)

    assert report.findings == ()
    assert report.level == "data"
    assert {a.id for a in open_release(demo.release)} == {"layer_2/topk_32", "layer_2/relu_l1", "layer_4/topk_32"}


@pytest.mark.slow
def test_saelens_reads_what_was_published(demo):
    """From a hub, by name, it finds the same latents active and the same reconstructions, to float32 rounding."""
    demo.publish(demo.validate(quiet), quiet)
    assert "in 1 commit, tag v0.1.0" in demo.publish_to_hub()

    found = list(demo.compare())

    assert [comparison.artifact for comparison in found] == ["layer_2/topk_32", "layer_2/relu_l1", "layer_4/topk_32"]
    assert all(comparison.active_sets_equal and comparison.max_rel_error < 1e-5 for comparison in found)


@pytest.mark.slow
def test_its_readers_get_cards_figures_and_a_page(demo):
    """All from its own evidence."""
    index = open_release(demo.release).index

    assert {figure.kind for figure in index.figures} >= {"heatmap", "curves", "frontier", "sparsity"}
    assert all((demo.release / artifact.id / "README.md").is_file() for artifact in index.artifacts)
    assert "site/index.html" in demo.explore(quiet)


@pytest.mark.slow
def test_every_dictionary_is_wide_enough(demo):
    """d_sae is at least eight times d_in."""
    assert all(a.claim.d_sae >= 8 * a.claim.d_in for a in open_release(demo.release))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(tmp_path):
    """A second demo in another folder ends with the same sha256 of every weight file; another seed does not."""

    def trained(name, seed=0):
        one = Demo(tmp_path / name, seed=seed, rows=2560, tokens=2048, held_out=256)
        one.collect(quiet)
        one.train(quiet)
        weights = one.release.rglob("*.safetensors")
        return {path.relative_to(one.release).as_posix(): sha256_of(path) for path in weights}

    first, second, other = trained("one"), trained("two"), trained("three", seed=1)

    assert first == second
    name = "layer_2/topk_32/sae_weights.safetensors"
    assert other[name] != first[name]


def test_a_folder_with_other_files_is_refused(tmp_path):
    """The demo never writes into a folder that holds something else."""
    (tmp_path / "thesis.tex").write_text("x")

    with pytest.raises(UsageError, match="holds other files; choose another folder with --out"):
        Demo(tmp_path).check()


def test_the_command_says_so_in_one_line(tmp_path, capsys):
    """The same refusal on the command line is one line and exit code 2."""
    (tmp_path / "thesis.tex").write_text("x")

    assert run(["demo", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
