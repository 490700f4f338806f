"""What `saereg show` shows of what only a catalogue knows, and what is said of names that nothing has."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from saereg.cli import run
from saereg.registry.catalog import store
from saereg.registry.catalog.readers.inventory import snapshot
from saereg.registry.catalog.rows import Entry, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.writing import write
from tests.registry.catalog.books import put, variant
from tests.releases import tiny_release

DATA = Path(__file__).parent.parent / "foreign/data"
CROSS = "pythia-160m/W_U/cross-snapshot-32/d24576/seed0"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two versions of a release, an inventory and a registry in the catalogue."""
    root = tmp_path_factory.mktemp("showing")
    first = tiny_release(root, checkpoints=False)
    later = variant(first, root / "later", {"canonical": True}, version="1.1.0")
    shutil.copytree(DATA / "trajectory", root / "trajectory")
    catalog = root / "catalog.sqlite"
    for folder in (first, later):
        put(catalog, folder)
    registry = ReleaseRows("of-saelens", repo="org/others", loader="sae_lens", entries=(Entry("a/b", layer=0),))
    with store.changing(catalog) as connection:
        write(connection, snapshot(Source("inventory", str(root / "trajectory"))))
        write(connection, Snapshot(Source("saelens", "sae_lens"), "0" * 64, "sae-lens 6", (registry,)))
    return root


@pytest.fixture
def show(place, capsys, monkeypatch):
    """`saereg show` on that catalogue; returns exit code, stdout, stderr."""
    monkeypatch.setenv("SAEREG_CATALOG", str(place / "catalog.sqlite"))
    monkeypatch.chdir(place)

    def shown(*words):
        code = run(["show", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return shown


def test_a_name_of_the_catalogue_is_shown_as_its_place_is(show, place):
    """A release, an artifact, the pick of its author; without a version those of the newest."""
    for name, same in {
        "tiny-saes@1.0.0": "release",
        "tiny-saes": "later",
        "tiny-saes@1.0.0:layer_1/topk": "release:layer_1/topk",
        "tiny-saes@latest:layer_1/jumprelu": "later:layer_1/jumprelu",
        "tiny-saes:canonical": "later:layer_1/topk",
    }.items():
        (code, out, err), (_, wanted, _) = show(name), show(same)
        assert (code, out) == (0, wanted), name
        assert err.rpartition("next: ")[2].strip(), name


@pytest.mark.parametrize("name", [f"trajectory:{CROSS}.safetensors", f"{{place}}/trajectory:{CROSS}.safetensors"])
def test_of_another_make_stated_and_assumed_are_told_apart(show, place, name):
    """And where each value comes from; what nobody says is not there."""
    code, out, err = show(name.format(place=place))

    assert code == 0
    assert "nothing was checked against weights" in out
    assert f"{place}/trajectory at" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["d_sae", "24576"] in lines
    assert ["n_sources", "32", "(assumed)"] in lines
    assert ["n_sources", "32", "kind:", "cross-snapshot-32"] in lines
    assert ["explained_variance", "0.92", "stated", "–"] in lines
    assert "measured" not in out
    assert "layer" not in {line[0] for line in lines if line}
    assert f"next: saereg load {place}/trajectory:{CROSS}.safetensors" in err


def test_as_json_with_every_number_and_its_source(show, place):
    """Absent values are null; layer 0 is a layer."""
    code, out, _ = show("hf://org/others:a/b", "--format", "json")
    [found] = json.loads(out)

    assert code == 0
    assert (found["fields"]["layer"], found["fields"]["l0"], found["fields"]["canonical"]) == (0, None, None)
    assert found["source"] == {"kind": "saelens", "locator": "sae_lens", "pin": "0" * 64} | {
        "synced": found["source"]["synced"]
    }
    assert "  layer    0\n" in show("of-saelens:a/b")[1]


REFUSED = [
    ("of-saelens", 2, "saereg ls --where 'release_name = of-saelens'"),
    ("of-saelens:a/c", 2, "unknown artifact 'a/c'; known: a/b"),
    ("tiny-sae:layer_1/topk", 5, "tiny-sae is not a folder, and no release of the catalogue has this name"),
    ("tiny-sae", 5, "did you mean 'tiny-saes'?"),
    ("org/other:a/b", 5, "a repository on the Hub is hf://org/other"),
]


@pytest.mark.parametrize(("name", "code", "message"), REFUSED)
def test_what_is_nowhere_is_one_line(show, name, code, message):
    """With what was probably meant."""
    found, out, err = show(name)

    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_damaged_catalogue_does_not_stand_between_a_user_and_a_folder(place, tmp_path, capsys):
    """What is on this machine is opened without it."""
    (tmp_path / "broken.sqlite").write_bytes(b"no catalogue" * 100)

    assert run(["show", str(place / "release:layer_1/topk"), "--catalog", str(tmp_path / "broken.sqlite")]) == 0
    assert run(["show", str(place / "release"), "--catalog", str(tmp_path / "broken.sqlite")]) == 0
    assert "layer_1/topk" in capsys.readouterr().out


def test_what_files_do_not_say_is_said_on_the_command_line_and_again_in_the_next_step(tmp_path, monkeypatch, capsys):
    """A state dict is read when its layout is named; a reference has one, and takes none."""
    tensors = {"W_enc": torch.eye(2, 4), "W_dec": torch.eye(4, 2), "b_enc": torch.zeros(4), "b_dec": torch.zeros(2)}
    torch.save(tensors, tmp_path / "x.pt")
    monkeypatch.chdir(tmp_path)
    said = {"activation": "relu", "normalization": "none", "pre_encoder_subtraction": "none"}
    words = [word for name, value in said.items() for word in ("--set", f"{name}={value}")]

    assert run(["load", "x.pt", "--from", "state_dict", *words]) == 0
    code = capsys.readouterr().err.partition('next: python -c "')[2].rstrip().removesuffix('"')
    names: dict = {}
    exec(code, names)
    assert torch.equal(names["dictionary"](torch.ones(2)), torch.ones(2))
    assert run(["load", "org/repo@v1:x", "--from", "state_dict"]) == 2
    assert "a layout can be named for a path" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["diff", "tiny-saes@1.0.0", "tiny-saes"],
        ["ls", "tiny-saes@1.0.0"],
        ["registry", "emit", "neuronpedia", "tiny-saes"],
    ],
    ids=lambda words: words[-2],
)
def test_what_opens_releases_takes_their_names(show, capsys, words):
    """A name leads to the same answer as the folder; one of another make is refused, as is one that nothing has."""
    folders = {"tiny-saes@1.0.0": str(Path.cwd() / "release"), "tiny-saes": str(Path.cwd() / "later")}

    def said(*command):
        code = run(list(command))
        return code, capsys.readouterr().out

    assert said(*words) == said(*(folders.get(word, word) for word in words))
    for name, sentence in {"of-saelens": "is of another make", "tiny-seas": "did you mean 'tiny-saes'?"}.items():
        assert run([*words[:-1], name]) != 0
        assert sentence in capsys.readouterr().err
