"""`saereg registry emit`: data on stdout, all else on stderr, and one line for what cannot be done."""

import pytest

from saereg.cli import run
from saereg.registry.emitting import EMITTERS


def test_without_a_kind_all_are_listed(capsys):
    """Each with what it writes and when it applies."""
    assert run(["registry", "emit"]) == 0
    out = capsys.readouterr().out
    for name, emitter in EMITTERS.items():
        assert name in out
        assert emitter.when in out


def test_the_entry_is_all_that_is_on_stdout(good, capsys):
    """What was left out, notes and the next step are on stderr."""
    assert run(["registry", "emit", "saelens-yaml", str(good), "--repo", "tiny/release", "--where", "kind = sae"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("tiny-model-res-good-ones:\n  conversion_func: null\n")
    assert "left out: layer_2/failed: its author calls it a failure" in said.err
    last = said.err.splitlines()[-1]
    again = f"{good} --repo tiny/release --where 'kind = sae' --check --pull-request"
    assert last == f"next: saereg registry emit saelens-yaml {again}"


REFUSED = [
    (["nope", "."], "unknown kind 'nope'"),
    (["saelens-yaml"], "missing argument 'TARGET'"),
    (["neuronpedia", "GOOD", "--check"], "--check belongs to saelens-yaml, not to neuronpedia"),
    (["saelens-yaml", "GOOD", "--files", "."], "--files belongs to circuit-tracer, not to saelens-yaml"),
    (["saelens-yaml", "GOOD"], "say which repository on the Hub has, or will have, its files: --repo"),
    (["saelens-yaml", "GOOD", "--repo", "a/b/c"], "--repo 'a/b/c' is no repository"),
    (["saelens-yaml", "GOOD:layer_2/jump", "--repo", "a/b"], "a registry takes a release as a whole"),
    (["saelens-yaml", "GOOD", "--repo", "a/b", "--where", "d_sae > 999"], "no artifact meets every condition"),
]


@pytest.mark.parametrize(("words", "why"), REFUSED)
def test_what_cannot_be_done_is_one_line(good, capsys, words, why):
    """Nothing on stdout, exit code 2."""
    assert run(["registry", "emit", *(word.replace("GOOD", str(good)) for word in words)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert why in said.err.splitlines()[0]
    assert said.err.startswith("error: ")


@pytest.mark.parametrize(
    "name", ["manifest.json", "index.json", "README.md", "layer_2/jump/cfg.json", "layer_2/../manifest.json"]
)
def test_a_file_of_the_release_is_never_replaced(own, capsys, name):
    """A file that an earlier call wrote may be."""
    before = (own / name).read_bytes()
    words = ["registry", "emit", "saelens-yaml", str(own), "--repo", "a/b", "-o"]

    assert run([*words, str(own / name)]) == 2
    assert "is a file of the release itself" in capsys.readouterr().err
    assert (own / name).read_bytes() == before
    assert run([*words, str(own / "entry.yaml")]) == run([*words, str(own / "entry.yaml")]) == 0


def test_a_registry_of_others_is_never_replaced(own, tmp_path, capsys):
    """Its entry is appended to it."""
    path = tmp_path / "pretrained_saes.yaml"
    path.write_text("other: {}\n")

    assert run(["registry", "emit", "saelens-yaml", str(own), "--repo", "a/b", "-o", str(path)]) == 2
    assert "append it: >> " in capsys.readouterr().err
    assert path.read_text() == "other: {}\n"
