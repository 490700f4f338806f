"""The entry of SAELens' registry: only what is known stands in it, and SAELens itself reads it as it is meant."""

import json
import shutil

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import saereg
from saereg.cli import run
from saereg.errors import InvalidReleaseError, UsageError
from saereg.publishers.local_hub import local_hub
from saereg.registry.emitting import EMITTERS, Emitted, Wishes, saelens_check
from saereg.registry.emitting.saelens_check import require_understood
from saereg.registry.emitting.saelens_pull_request import pull_request
from saereg.registry.emitting.saelens_yaml import rounded_l0, rounded_share
from saereg.registry.emitting.subject import open_subject
from tests.reading_hub import REPO, SHA, Client, hub
from tests.registry.emitting.good_release import edit

RES, MLP = "tiny-model-res-good-ones", "tiny-model-transcoders-good-ones"


def emitted(release, repo: str = REPO, **wishes) -> Emitted:
    """Emit from a folder."""
    return EMITTERS["saelens-yaml"].emit(open_subject(str(release), repo), Wishes(**wishes))


def test_a_release_is_one_entry_for_each_place_with_rows_as_people_count(good):
    """Residual streams and transcoders stand apart, layer 2 before layer 10, and the name says model and place."""
    document = yaml.safe_load(emitted(good).text)
    assert {name: [row["id"] for row in entry["saes"]] for name, entry in document.items()} == {
        RES: ["layer_2/jump", "layer_3/exact", "layer_10/jump"],
        MLP: ["mlp/layer_0", "mlp/layer_1"],
    }
    for entry in document.values():
        assert (entry["conversion_func"], entry["model"], entry["repo_id"]) == (None, "tiny-model", REPO)


def test_numbers_are_those_that_were_measured_and_absent_ones_are_absent(good):
    """No 1.00 for a variance explained that nobody measured, none for one that is exactly 1, and no l0 of 0.00."""
    document = yaml.safe_load(emitted(good).text)
    rows = {row["id"]: row for entry in document.values() for row in entry["saes"]}
    metrics = {artifact.id: artifact.metrics for artifact in saereg.open(good)}
    found = metrics["layer_2/jump"]
    assert rows["layer_2/jump"] == {
        "id": "layer_2/jump",
        "path": "layer_2/jump",
        "l0": round(found["l0"], 1),
        "variance_explained": round(found["explained_variance"], 3),
        "neuronpedia": "tiny-model/2-res-tt",
    }
    assert metrics["layer_3/exact"]["explained_variance"] == 1
    assert rows["layer_3/exact"].keys() == {"id", "path", "l0"}
    assert rows["mlp/layer_0"].keys() == {"id", "path"}


def test_what_is_left_out_is_named_with_its_reason(good):
    """A crosscoder and what its author calls a failure are no SAEs for others to load."""
    assert {one.id: one.why for one in emitted(good).left_out} == {
        "cross": "SAELens has no crosscoders",
        "layer_2/failed": "its author calls it a failure: it was stopped early",
    }


CHANGES = [
    (lambda raw: _mark(raw), "layer_2/jump", "yanked"),
    (lambda raw: raw["sites"]["block-3"].update(post_final_norm=True), "layer_3/exact", "after the final norm"),
]


def _mark(raw: dict) -> None:
    mark = {"version": "1.0.0", "artifact": "layer_2/jump", "kind": "yanked", "reason": "wrong", "date": "2026-01-01"}
    raw["withdrawn"] = [mark]


@pytest.mark.parametrize(("change", "identifier", "why"), CHANGES)
def test_other_reasons(own, change, identifier, why):
    """What its author took back, and what reads behind the final norm, stay out."""
    edit(own, change)
    left = {one.id: one.why for one in emitted(own).left_out}
    assert why in left[identifier]


def test_names_can_be_chosen(good):
    """A chosen name stands as it is for one entry, and gets the place for several."""
    assert list(emitted(good, where=("kind = sae",), name="mine").rows) == ["mine"]
    assert list(emitted(good, name="mine").rows) == ["mine-res", "mine-transcoders"]
    with pytest.raises(UsageError, match="--name 'a b': expected letters"):
        emitted(good, name="a b")


def test_a_release_without_evidence_is_refused(own):
    """Never built, or with errors: no entry, and the command that comes before."""
    (own / "layer_2/jump/cfg.json").write_text("{}")
    with pytest.raises(InvalidReleaseError, match=r"errors? at level header, the first SR\d+; saereg validate"):
        emitted(own)
    (own / "index.json").unlink()
    with pytest.raises(InvalidReleaseError, match="never built"):
        emitted(own)


def test_nothing_that_fits_is_an_error(good):
    """A document without a row is never written."""
    with pytest.raises(UsageError, match="SAELens can have none of its artifacts; cross: SAELens has no crosscoders"):
        emitted(good, where=("kind = crosscoder",))


@pytest.fixture
def short(tmp_path, monkeypatch):
    """The installed parser beside a registry of one release of the installed one: all of it takes seconds."""
    package = saelens_check._package()
    for name in (saelens_check.PARSER, saelens_check.FILE):
        (tmp_path / "package" / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(package / saelens_check.PARSER, tmp_path / "package" / saelens_check.PARSER)
    begin, end = "\ngpt2-small-res-jb:\n", "\ngpt2-small-res-jb-feature-splitting:\n"
    release = (package / saelens_check.FILE).read_text().partition(begin)[2].partition(end)[0]
    assert release.count("- id: ") == 13
    (tmp_path / "package" / saelens_check.FILE).write_text(f"{begin.lstrip()}{release}")
    monkeypatch.setattr(saelens_check, "_package", lambda: tmp_path / "package")


@pytest.mark.slow
def test_the_parser_of_the_installed_saelens_reads_its_whole_registry_with_the_entries(good):
    """Nothing in its 170 releases is in the way."""
    require_understood(emitted(good))


def test_the_parser_of_the_installed_saelens_agrees(good, short):
    """Appended to a registry; a name or a folder that is there already is refused."""
    found = emitted(good)
    said = require_understood(found)
    read = "SAELens' own parser read 5 rows in 2 releases, as they are meant"
    assert said == f"{read}; saereg registry check finds no error in them"
    text = pull_request(open_subject(str(good), f"{REPO}@{SHA}"), found, said)
    assert "| layer_2/jump | jumprelu | blocks.2.hook_resid_post | 4 | 10 | 3.0 | 0.994 | held-out-2, 40 rows |" in text
    assert said in text
    assert SHA in text
    assert found.text in text


def test_a_clash_with_the_registry_is_refused(good):
    """The parser would silently take the later of two releases of one name."""
    with pytest.raises(UsageError, match="has a release called gpt2-small-res-jb already; choose another with --name"):
        require_understood(emitted(good, where=("kind = sae",), name="gpt2-small-res-jb"))


def test_a_folder_that_is_registered_and_an_id_of_another_model_are_refused(own, short):
    """One SAE under two names is what users of the registry count twice; the id is what our own lint calls wrong."""

    def change(raw: dict) -> None:
        raw["artifacts"] = [one for one in raw["artifacts"] if one["id"] == "layer_2/jump"]
        raw["artifacts"][0] |= {"path": "blocks.0.hook_resid_pre", "neuronpedia_id": "gemma-2-2b/2-res-tt"}

    (own / "layer_2/jump").rename(own / "blocks.0.hook_resid_pre")
    edit(own, change)
    with pytest.raises(UsageError, match=r"^--check: blocks\.0\.hook_resid_pre of jbloom/GPT2") as refused:
        require_understood(emitted(own, repo="jbloom/GPT2-Small-SAEs-Reformatted"))
    assert "is in its release gpt2-small-res-jb already" in str(refused.value)
    assert "SR705: gemma-2-2b/2-res-tt is no id of" in str(refused.value)


@given(st.floats(min_value=-1e6, max_value=1, exclude_max=True))
def test_a_rounded_share_is_never_the_default(value):
    """1.00 stands for nothing known, so nothing below it is rounded up to it; all else is off by half a thousandth."""
    shown = rounded_share(value)
    assert shown is not None
    assert shown < 1
    assert abs(shown - value) <= 0.001


@given(st.floats(min_value=1e-9, max_value=1e6))
def test_a_rounded_count_is_never_the_default(value):
    """0.00 stands for nothing known; all else has one decimal, or two digits."""
    assert rounded_l0(value) > 0
    assert abs(rounded_l0(value) - value) <= max(0.0501, 0.051 * value)


LOAD = """
import json, sys
from pathlib import Path
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_saes_directory as directory
directory.files = lambda package: Path(sys.argv[1])
torch.manual_seed(0)
x = torch.randn(5, 4)
sae = SAE.from_pretrained(sys.argv[2], sys.argv[3], device="cpu")
known = directory.get_pretrained_saes_directory()[sys.argv[2]].neuronpedia_id
found = {"codes": sae.encode(x).tolist(), "neuronpedia": known[sys.argv[3]]}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_saelens_loads_an_sae_by_the_entry(good, tmp_path):
    """From a hub on loopback, by release and id alone: the same codes as by saereg, and the Neuronpedia id."""
    registry = tmp_path / "registry"
    registry.mkdir()
    (registry / "pretrained_saes.yaml").write_text(emitted(good).text)
    with hub(good) as server:
        words = [str(registry), RES, "layer_2/jump"]
        done = Client(tmp_path / "home").python(server.url, f"import sys; sys.argv[1:] = {words!r}\n{LOAD}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    torch.manual_seed(0)
    codes = saereg.open(good)["layer_2/jump"].load().encode(torch.randn(5, 4))
    assert torch.allclose(torch.tensor(found["codes"]), codes, atol=1e-6)
    assert found["neuronpedia"] == "tiny-model/2-res-tt"


ON_THE_HUB = """
import sys
from huggingface_hub import HfApi
from saereg.cli import run
api = HfApi()
api.create_repo("org/good")
first = api.upload_folder(repo_id="org/good", folder_path=sys.argv[1]).oid
assert run(["registry", "emit", "saelens-yaml", "hf://org/good", "-o", sys.argv[2]]) == 0
mark = ["--artifact", "layer_3/exact", "--reason", "b_dec is 0"]
assert run(["yank", "hf://org/good", *mark]) == 0
assert run(["registry", "emit", "saelens-yaml", f"hf://org/good@{first}", "-o", sys.argv[3]]) == 0
"""


@pytest.mark.slow
def test_a_release_on_the_hub_says_its_repository_and_what_was_withdrawn_since(good, tmp_path):
    """The same entry as from the folder; at an earlier commit, without what was yanked after it."""
    before, after = tmp_path / "before.yaml", tmp_path / "after.yaml"
    words = [str(good), str(before), str(after)]
    with local_hub(tmp_path / "hub") as server:
        code = f"import sys; sys.argv[1:] = {words!r}\n{ON_THE_HUB}"
        settings = {"HF_TOKEN": "hf_writer", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        done = Client(tmp_path / "home").python(server.url, code, **settings)
    assert done.returncode == 0, done.stderr
    assert before.read_text() == emitted(good, repo="org/good").text
    kept = [row["id"] for row in yaml.safe_load(after.read_text())[RES]["saes"]]
    assert kept == ["layer_2/jump", "layer_10/jump"]
    assert "left out: layer_3/exact: layer_3/exact of 1.0.0 is yanked" in done.stderr
    assert "its yaml has no revision" in done.stderr


def test_written_twice_it_is_the_same_file(own, capsys):
    """Into the release itself, for a repository that carries its own entry; the next step indexes it."""
    out = own / "saelens_pretrained_saes.yaml"
    words = ["registry", "emit", "saelens-yaml", str(own), "--repo", REPO, "-o", str(out)]
    assert run(words) == 0
    before, said = out.read_bytes(), capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == f"next: saereg build {own}"
    assert run(words) == 0
    assert out.read_bytes() == before
    assert [path.name for path in own.iterdir() if path.name.startswith(".")] == []
