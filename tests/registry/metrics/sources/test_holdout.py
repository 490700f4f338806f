"""Held-out evaluations that `saereg build` makes: a few rows of a source, declared without touching another byte."""

import difflib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from saereg.cli import run
from saereg.errors import DocumentError, SaeregError, UsageError, WeightsError
from saereg.registry.build import build
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.holdout import HeldOut, _spans, chosen, hold_out
from saereg.registry.metrics.sources.spec import rows_of_spec
from saereg.registry.validators.runner import validate
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from tests.cases.tools import edit
from tests.releases import D_IN, D_OUT, K_SOURCES, tiny_release

TOPK, JUMP, CROSS = "layer_1/topk", "layer_1/jumprelu", "W_U/cross-snapshot-2"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return tiny_release(tmp_path_factory.mktemp("held-out"))


@pytest.fixture
def release(pristine, tmp_path) -> Path:
    shutil.copytree(pristine.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "release"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Nine hundred rows of activations in three shards, with targets."""
    folder, generator = tmp_path_factory.mktemp("source"), torch.Generator().manual_seed(0)
    for number in range(3):
        x, y = (torch.randn(300, width, generator=generator) for width in (D_IN, D_OUT))
        save_file({"x": x, "y": y}, folder / f"{number}.safetensors")
    return folder


def measured(root: Path, artifact: str) -> set[str]:
    (found,) = (a for a in Index.read(root / "index.json").artifacts if a.id == artifact)
    return {m.evaluation for m in found.metrics}


def test_rows_are_drawn_stored_and_declared(release, source):
    """In the order of the source; the manifest has one record more, and every other byte of it stays."""
    before = (release / "manifest.json").read_text()

    path = hold_out(release, HeldOut("fresh", str(source), rows=40, seed=5, site="block-1"))[0].file

    rows = rows_of_spec(str(source), (D_IN,))
    picked = chosen(900, 40, 5)
    assert path == release / "evaluation/fresh.safetensors"
    assert torch.equal(load_file(path)["x"], rows.read(0, 900)[0][picked])
    after = (release / "manifest.json").read_text()
    gone = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line.startswith("- ")]
    assert gone == []
    assert json.loads(after)["evaluations"]["fresh"] == {
        "source": "activations", "path": "evaluation/fresh.safetensors", "rows": 40, "site": "block-1",
        "origin": rows.digest(),
    }  # fmt: skip
    with safe_open(path, "pt") as file:
        assert file.metadata()["rows"] == "40 of 900 rows, seed 5"

    index = build(release)

    assert {TOPK: measured(release, TOPK), CROSS: measured(release, CROSS)} == {
        TOPK: {"fresh", "held-out"}, CROSS: {"vocabulary"},
    }  # fmt: skip
    assert "evaluation/fresh.safetensors" in {file.path for file in index.files}
    assert validate(release, "data").findings == ()


def test_what_is_there_already_is_left_as_it_is(release, source):
    """A second run writes nothing; a lost file is made again, byte by byte."""
    wanted = HeldOut("fresh", str(source), rows=40, site="block-1")
    path = hold_out(release, wanted)[0].file
    files = {file: (file.read_bytes(), file.stat().st_ino) for file in (path, release / "manifest.json")}

    hold_out(release, wanted)
    assert {file: (file.read_bytes(), file.stat().st_ino) for file in files} == files

    path.unlink()
    hold_out(release, HeldOut("fresh", str(source)))
    assert path.read_bytes() == files[path][0]
    assert (release / "manifest.json").read_bytes() == files[release / "manifest.json"][0]


def test_either_all_are_made_or_none(release, source):
    """What is wrong with the last is found before the first is written; and it is said of what nothing is made."""
    before = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}
    good = HeldOut("one", str(source), rows=40, site="block-1"), HeldOut("two", "synthetic:rows=50", 20, site="W_U")

    with pytest.raises(UsageError, match="1000 rows are wanted, but the source has 900"):
        hold_out(release, *good, HeldOut("three", str(source), rows=1000, site="block-1"))
    assert {path: path.read_bytes() for path in release.rglob("*") if path.is_file()} == before

    assert [(made.name, made.is_new) for made in hold_out(release, *good)] == [("one", True), ("two", True)]
    assert set(Manifest.read(release / "manifest.json").evaluations) >= {"one", "two"}
    (release / "evaluation/two.safetensors").unlink()
    assert [made.is_new for made in hold_out(release, *good)] == [False, True]
    assert [made.is_new for made in hold_out(release, *good)] == [False, False]


def test_a_declared_evaluation_without_its_file_is_made(release, source):
    """As the manifest says: its path, its tensors, its number of rows; only the digest of the source is added."""
    record = {
        "source": "activations", "path": "data/mlp.safetensors", "rows": 30, "site": "block-1", "tensor": "in",
        "target": "out",
    }  # fmt: skip
    edit(release / "manifest.json", lambda m: m["evaluations"].update(mine=record))

    path = hold_out(release, HeldOut("mine", f"{source}#x,y"))[0].file

    assert path == release / "data/mlp.safetensors"
    assert {name: tuple(tensor.shape) for name, tensor in load_file(path).items()} == {"in": (30, 4), "out": (30, 3)}
    origin = rows_of_spec(f"{source}#x,y", (D_IN,)).digest()
    assert json.loads((release / "manifest.json").read_text())["evaluations"]["mine"] == record | {"origin": origin}
    with pytest.raises(UsageError, match="the source has no targets, other than the manifest declares"):
        hold_out(release, HeldOut("mine", str(source)))


def test_a_manifest_without_evaluations_gets_its_first(release, source):
    """The group of them as well."""

    def strip(manifest):
        del manifest["evaluations"]
        for artifact in manifest["artifacts"]:
            artifact.pop("claims", None)

    edit(release / "manifest.json", strip)

    hold_out(release, HeldOut("first", str(source), rows=9, site="block-1"))

    assert list(Manifest.read(release / "manifest.json").evaluations) == ["first"]


def test_rows_of_parameters_and_generators_are_held_out_too(release):
    """With what was done to them; for the crosscoder over snapshots that reads them."""
    for step, folder in ((0, "step0"), (1000, "step1000")):
        (release.parent / "models" / folder).mkdir(parents=True)
        weight = np.random.default_rng(step).standard_normal((60, D_IN)).astype(np.float32) + 3
        save_file({"embed_out.weight": torch.from_numpy(weight)}, release.parent / f"models/{folder}/model.safetensors")
    record = {"source": "parameters", "tensor": "embed_out.weight", "steps": [0, 1000], "rows": 60}
    word = release.parent / "w_u.json"
    word.write_text(json.dumps(record | {"preprocess": "center_scale"}))
    models = {"final": str(release.parent / "models")}
    model = Manifest.read(release / "manifest.json").sites["W_U"].model
    models = {model: models["final"]}

    hold_out(release, HeldOut("kept", str(word), rows=20, site="W_U", models=models))
    hold_out(release, HeldOut("made", "synthetic:rows=50,seed=3", rows=20, site="W_U"))
    edit(release / "manifest.json", lambda m: m["evaluations"].update(all=record | {"site": "W_U"}))
    build(release, models=models)

    kept = Manifest.read(release / "manifest.json").evaluations["kept"]
    assert (kept.preprocess, kept.rows) == ("center_scale", 20)
    assert load_file(release / "evaluation/kept.safetensors")["x"].shape == (20, K_SOURCES, D_IN)
    assert measured(release, CROSS) == {"all", "kept", "made", "vocabulary"}
    assert measured(release, TOPK) == {"held-out"}

    build(release)
    assert measured(release, CROSS) == {"kept", "made", "vocabulary"}


def test_a_folder_of_shards_in_a_release_is_an_evaluation(release):
    """One file after the other: the same digits as of all in one, under a digest of its own."""
    stored = load_file(release / "evaluation/layer-1.safetensors")["x"]
    (release / "evaluation/parts").mkdir()
    for number, first in ((2, 0), (10, 5)):
        part = stored[first : 5 if number == 2 else None].clone()
        save_file({"x": part}, release / f"evaluation/parts/{number}.safetensors")
    value = {"source": "activations", "path": "evaluation/parts", "rows": len(stored), "site": "block-1"}
    edit(release / "manifest.json", lambda m: m["evaluations"].update(parts=value))

    index = build(release)

    (topk,) = (a for a in index.artifacts if a.id == TOPK)
    values = {name: [m.value for m in topk.metrics if m.evaluation == name] for name in ("parts", "held-out")}
    assert values["parts"] == values["held-out"]
    assert len({m.data_sha256 for m in topk.metrics}) == 2
    assert validate(release, "data").findings == ()

    (release / "evaluation/parts/10.safetensors").unlink()
    build_again = [f for f in validate(release, "header").findings if f.code == "SR425"]
    assert build_again
    assert all("evaluation/parts holds x (5, 4), but x (12, …, 4) is declared" in f.message for f in build_again)


UNFIT = {
    "snapshots": (
        {"source": "parameters", "tensor": "w", "steps": [0], "rows": 12, "site": "W_U"},
        "evaluation 'vocabulary' has 1 snapshots, W_U/cross-snapshot-2 reads 2",
    ),
    "shape": (
        {"source": "synthetic", "seed": 0, "rows": 12, "shape": [3, 4]},
        "evaluation 'vocabulary' has rows (12, 3, 4), but W_U/cross-snapshot-2 reads (12, 2, 4)",
    ),
    "tokens": (
        {"source": "tokens", "path": "evaluation/W_U.safetensors", "rows": 12, "site": "block-1"},
        "evaluation/W_U.safetensors holds x; `tokens` and `lengths` are needed, integers along one axis",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_records_of_every_kind_are_held_against_the_artifact(release, name):
    """SR425, at level header: without the data."""
    record, message = UNFIT[name]
    edit(release / "manifest.json", lambda m: m["evaluations"].update(vocabulary=record))

    assert message in [f.message for f in validate(release, "header").findings if f.code == "SR425"]


REFUSED = {
    "more rows than there are": ({"rows": 901}, "901 rows are wanted, but the source has 900"),
    "no such site": ({"site": "block-2"}, "no artifact reads site 'block-2'; choose from W_U, block-1"),
    "no site said": ({"site": None}, "at which site? Add --site KEY, one of W_U, block-1"),
    "another of that name": (
        {"name": "held-out", "rows": None}, "is there and holds other rows; give another name, or remove it",
    ),
    "another number of that name": ({"name": "held-out"}, "the manifest declares rows 12, not 40; give another name"),
    "a name with a slash": ({"name": "a/b"}, "a name is made of letters, digits, '_', '-' and '.'"),
    "nothing there": ({"spec": "nowhere"}, "there is no nowhere"),
    "other width": ({"site": "W_U"}, "0.safetensors: x: has rows of shape (4,), the dictionary reads (sources, d_in)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(release, source, name):
    """In one line."""
    changes, message = REFUSED[name]
    before = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}
    values = {"name": "fresh", "spec": str(source), "rows": 40, "site": "block-1"} | changes

    with pytest.raises(SaeregError) as caught:
        hold_out(release, HeldOut(**values))

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in release.rglob("*") if path.is_file()} == before


def test_rows_of_another_seed_need_another_name(release, source):
    """A name stands for one set of rows; a declared one of other kind, or of another source, is none of these."""
    hold_out(release, HeldOut("fresh", str(source), rows=40, site="block-1"))

    with pytest.raises(UsageError, match="holds other rows; give another name, or remove it"):
        hold_out(release, HeldOut("fresh", str(source), rows=40, site="block-1", seed=1))
    with pytest.raises(UsageError, match="its rows are of another source"):
        hold_out(release, HeldOut("fresh", "synthetic:rows=90"))
    edit(
        release / "manifest.json", lambda m: m["evaluations"].update(syn={"source": "synthetic", "rows": 5, "seed": 0})
    )
    with pytest.raises(UsageError, match="the manifest has one of that name, of synthetic; give another name"):
        hold_out(release, HeldOut("syn", str(source), rows=5, site="block-1"))


def test_rows_that_are_not_finite_are_not_held_out(release, tmp_path):
    """With the row."""
    x = np.ones((100, D_IN), np.float32)
    x[71, 2] = np.inf
    np.save(tmp_path / "bad.npy", x)

    with pytest.raises(WeightsError, match=r"bad.npy: row 71 is not finite"):
        hold_out(release, HeldOut("fresh", str(tmp_path / "bad.npy"), site="block-1"))


def test_a_release_that_cannot_be_read_is_refused(tmp_path, source):
    """No manifest, or a broken one."""
    with pytest.raises(UsageError, match=r"holds no manifest.json; a trainer writes one"):
        hold_out(tmp_path, HeldOut("fresh", str(source)))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DocumentError):
        hold_out(tmp_path, HeldOut("fresh", str(source)))


@given(st.integers(1, 3000), st.data(), st.integers(0, 2**64))
def test_draws_are_sorted_and_without_repetition(total, data, seed):
    """All rows are all rows, whatever the seed."""
    count = data.draw(st.integers(1, total))

    picked = chosen(total, count, seed)

    assert len(picked) == count
    assert picked.tolist() == sorted(set(picked.tolist()))
    assert picked[0] >= 0
    assert picked[-1] < total
    assert [row for span in _spans(picked.tolist()) for row in span] == picked.tolist()
    assert all(span[-1] - span[0] < 1024 + 64 for span in _spans(picked.tolist()))


def test_the_command_makes_builds_and_says_so(release, source, capsys):
    """`saereg build RELEASE --evaluation NAME=DATA --rows N --seed S --site KEY`."""
    words = ["build", str(release), "--evaluation", f"fresh={source}", "--rows", "16", "--seed", "2"]

    assert run(words) == 2
    assert "Add --site KEY, one of W_U, block-1" in capsys.readouterr().err
    assert run(["build", str(release), "--rows", "3"]) == 2
    assert "add --evaluation NAME=DATA" in capsys.readouterr().err
    assert run([*words, "--site", "block-1"]) == 0
    assert "evaluation/fresh.safetensors: evaluation fresh\nindex.json: 4 artifacts" in capsys.readouterr().out
    assert sha256_of(release / "evaluation/fresh.safetensors") in (release / "index.json").read_text()


def test_a_source_that_is_not_there_is_said_of_the_option_that_names_it(release):
    """Other commands read the same words behind --data."""
    with pytest.raises(UsageError) as caught:
        hold_out(release, HeldOut("h4", "d/nope", site="block-1"))

    assert str(caught.value).startswith("--evaluation h4=d/nope: there is no d/nope; ")
