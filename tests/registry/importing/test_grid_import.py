"""A grid becomes a release that builds and validates; what is there is kept, and what fails leaves the rest whole."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from saereg.errors import FormatError, SaeregError, UsageError
from saereg.registry.build import build
from saereg.registry.importing.entry import Place, slug
from saereg.registry.importing.grid import look
from saereg.registry.importing.grid_import import GridImport, import_grid
from saereg.registry.importing.survey import survey
from saereg.registry.importing.template import parse_template
from saereg.registry.release import open_release
from saereg.registry.validators.options import Options
from saereg.registry.validators.runner import validate
from saereg.schemas.manifest import Manifest, ReleaseInfo
from saereg.schemas.site import BaseModelRef, TokenPolicy
from tests.grids import GIVEN, TEMPLATE, forward, save_grid, state
from tests.upstream import TOLERANCE, D, F, random, relative, rows

MODEL = BaseModelRef(id="EleutherAI/pythia-410m", revision="0123456789abcdef0123456789abcdef01234567")

PLACE = Place(
    model=MODEL,
    hook="blocks.{layer}.hook_resid_post",
    module="gpt_neox.layers.{layer}",
    tokens=TokenPolicy(bos=False, separator="eos", context_size=1024),
    fields={"l1": "3e-4"},
)

INFO = ReleaseInfo(name="pythia-410m-saes", version="0.1.0", title="SAEs of a grid", license="mit")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The grid; read only."""
    return save_grid(tmp_path_factory.mktemp("grid") / "checkpoints")


@pytest.fixture(scope="module")
def made(checkpoints, tmp_path_factory):
    """A release of it; read only."""
    root = tmp_path_factory.mktemp("made") / "release"
    done = import_grid(order(checkpoints, root))
    assert (len(done.made), done.kept, done.same_bytes) == (11, (), ())
    return root


def order(folder, release, template: str = TEMPLATE, **changes) -> GridImport:
    """Return an order on a grid."""
    made = GridImport(look(folder, parse_template(template)), release, PLACE, given=GIVEN, info=INFO)
    return replace(made, **changes)


def refused(wanted: GridImport) -> str:
    """Return the one line with which it is refused."""
    with pytest.raises(SaeregError) as caught:
        import_grid(wanted)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("to", ["saelens", "saereg"])
def test_the_release_builds_and_validates_against_its_sources(checkpoints, tmp_path, to):
    """No error and no warning at level weights; every tensor is bitwise that of its checkpoint."""
    root = tmp_path / "release"
    import_grid(order(checkpoints, root, to=to))
    index = build(root, checkpoints=checkpoints)
    assert all(tensor.bitwise for entry in index.artifacts for tensor in entry.round_trip.tensors.values())
    report = validate(root, "weights", options=Options(checkpoints=checkpoints))
    assert (report.summary.errors, report.summary.warnings, report.summary.skipped) == (0, 0, ())
    assert validate(root, "data", options=Options(checkpoints=checkpoints)).summary.errors == 0


def test_the_entries_say_what_the_names_say(made):
    """Layer → site, snapshot → snapshot, the rest where it belongs."""
    manifest = Manifest.read(made / "manifest.json")
    entry = next(known for known in manifest.artifacts if known.id == "layer_03/100M")
    assert (entry.site, entry.snapshot, entry.seed, entry.variant) == ("blocks.3.hook_resid_post", "100M", None, None)
    assert entry.sparsity.l1_coefficient == 3e-4
    assert (entry.d_in, entry.d_sae, entry.architecture) == (D, F, "standard")
    assert entry.source_checkpoint.path == "sae_layer03_100M.pt"
    assert entry.source_checkpoint.tensors["W_enc"].key == "state_dict/encoder.weight"
    site = manifest.sites[entry.site]
    assert (site.model, site.layer, site.module) == ("pythia-410m", 3, "gpt_neox.layers.3")
    assert manifest.base_models["pythia-410m"] == MODEL
    assert [known.id for known in manifest.artifacts][:4] == [
        "layer_00/50M", "layer_00/100M", "layer_00/final", "layer_01/50M",
    ]  # fmt: skip


def test_saelens_loads_a_result_with_its_hook_and_computes_the_same(made):
    """Metadata included."""
    from sae_lens import SAE

    sae = SAE.load_from_disk(made / "layer_01/final", device="cpu")
    x = rows(D)
    with torch.no_grad():
        assert relative(sae(x), forward(state(1, "final"), x)) <= TOLERANCE
    assert sae.cfg.metadata.hook_name == "blocks.1.hook_resid_post"
    assert sae.cfg.metadata.model_name == MODEL.id
    assert sae.cfg.metadata.hf_hook_name == "gpt_neox.layers.1"
    assert sae.cfg.metadata.prepend_bos is False


def test_our_own_loader_computes_the_same(made):
    """From the release."""
    x = rows(D)
    for artifact in open_release(made):
        layer, snapshot = artifact.claim.id.removeprefix("layer_").split("/")
        assert relative(artifact.load()(x), forward(state(int(layer), snapshot), x)) <= TOLERANCE


def test_a_second_run_changes_nothing(checkpoints, made, tmp_path):
    """Not a byte; and what the author wrote into the manifest stays."""
    root = shutil.copytree(made, tmp_path / "release")
    path = root / "manifest.json"
    value = json.loads(path.read_text())
    value["artifacts"][0]["canonical"] = True
    path.write_text(Manifest.from_text(json.dumps(value)).text())
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    done = import_grid(order(checkpoints, root, info=None))
    assert (done.made, len(done.kept)) == ((), 11)
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


def test_a_stopped_run_goes_on(checkpoints, made, tmp_path):
    """A converted folder that the manifest does not know yet is entered; a missing one is made."""
    root = shutil.copytree(made, tmp_path / "release")
    path = root / "manifest.json"
    value = json.loads(path.read_text())
    value["artifacts"] = value["artifacts"][:5]
    path.write_text(Manifest.from_text(json.dumps(value)).text())
    shutil.rmtree(root / "layer_03/final")
    done = import_grid(order(checkpoints, root))
    assert done.made == ("layer_03/final",)
    assert (root / "manifest.json").read_bytes() == (made / "manifest.json").read_bytes()


def test_a_file_that_fails_stops_with_its_name_and_leaves_the_rest(tmp_path):
    """And mended, the same command goes on."""
    folder, root = save_grid(tmp_path / "checkpoints", layers=(0, 1)), tmp_path / "release"
    bad = folder / "sae_layer01_100M.pt"
    weights = state(1, "100M")
    weights["encoder.bias"][3] = torch.nan
    torch.save({"state_dict": weights, "step": 1}, bad)
    line = refused(order(folder, root))
    assert line == (
        f"{bad}: state_dict/encoder.bias: a value at (3,) of b_enc is not finite; no reader could use it; "
        "4 of 6 are done and stay, and the same command goes on from there"
    )
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_dir()) == [
        "layer_00", "layer_00/100M", "layer_00/50M", "layer_00/final", "layer_01", "layer_01/50M",
    ]  # fmt: skip
    build(root, checkpoints=folder)
    assert validate(root, "weights", options=Options(checkpoints=folder)).summary.errors == 0
    save_grid(folder, layers=(1,))
    assert len(import_grid(order(folder, root)).made) == 2


def test_two_files_of_one_cell_are_refused_before_anything_is_made(checkpoints, tmp_path):
    """With what tells them apart."""
    folder = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    shutil.copy(folder / "sae_layer01_50M.pt", folder / "sae_layer1_50M.pt")
    line = refused(order(folder, tmp_path / "release", "sae_layer{layer:d}_{snapshot}.pt"))
    assert line == (
        "layer 1, snapshot 50M is there twice, as sae_layer01_50M.pt and sae_layer1_50M.pt; move one away, or say the "
        "width of its number in the template, as in {layer:02d}"
    )
    assert not (tmp_path / "release").exists()


def test_files_of_the_same_bytes_under_two_names_are_told(tmp_path):
    """A misnamed upload looks so."""
    folder = save_grid(tmp_path / "checkpoints", layers=(0,))
    shutil.copy(folder / "sae_layer00_50M.pt", folder / "sae_layer00_100M.pt")
    done = import_grid(order(folder, tmp_path / "release"))
    assert done.same_bytes == (("layer_00/50M", "layer_00/100M"),)


def test_what_was_converted_otherwise_is_not_kept_in_silence(checkpoints, made, tmp_path):
    """Another switch, another source, another layout."""
    root = shutil.copytree(made, tmp_path / "release")
    folder = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    other = GIVEN | {"pre_encoder_subtraction": "b_dec"}
    first = folder / "sae_layer00_50M.pt"
    expected = (
        f"{first}: {root}/layer_00/50M was converted with other settings; remove it, or use another release folder"
    )
    assert refused(order(folder, root, given=other)) == expected
    assert refused(order(folder, root, to="saereg")) == expected
    torch.save({"state_dict": state(3, "final")}, first)
    assert refused(order(folder, root)) == (
        f"{first}: {root}/layer_00/50M was converted from another file; remove it to convert this one"
    )


def test_what_was_entered_otherwise_is_not_kept_in_silence(checkpoints, made, tmp_path):
    """Another site, a second id for the same file, another licence."""
    root = shutil.copytree(made, tmp_path / "release")
    before = (root / "manifest.json").read_bytes()
    elsewhere = replace(PLACE, hook="blocks.{layer}.hook_resid_pre")
    assert "layer_00/50M was entered with site " in refused(order(checkpoints, root, place=elsewhere))
    renamed = refused(order(checkpoints, root, place=replace(PLACE, identifier="L{layer}S{snapshot}")))
    assert "is entered as 'layer_00/50M' already, and would now be 'L0S50M'; use the same --id" in renamed
    licence = INFO.model_copy(update={"license": "apache-2.0"})
    assert "its manifest has another title or licence" in refused(order(checkpoints, root, info=licence))
    assert (root / "manifest.json").read_bytes() == before


PLACES = {
    "one site for all layers": (
        {"hook": "blocks.3.hook_resid_post", "module": None},
        "every layer would have the site 'blocks.3.hook_resid_post'; write e.g. blocks.{layer}.hook_resid_post",
    ),
    "a field that is not captured": (
        {"hook": "blocks.{layr}.hook_resid_post"},
        "unknown field of 'blocks.{layr}.hook_resid_post' 'layr'; did you mean 'layer'?",
    ),
    "one id for all": (
        {"identifier": "layer_{layer}"},
        "sae_layer00_50M.pt and sae_layer00_100M.pt would both have the id 'layer_0'; say another with --id",
    ),
    "an id that leaves the release": (
        {"identifier": "../{layer}/{snapshot}"},
        "sae_layer00_50M.pt would have the id '../0/50M': '..' in a path; it would leave the release folder; "
        "say another with --id",
    ),
}


@pytest.mark.parametrize(("changes", "message"), PLACES.values(), ids=PLACES)
def test_entries_that_could_not_be_told_apart_are_refused(checkpoints, tmp_path, changes, message):
    """Before anything is converted."""
    assert refused(order(checkpoints, tmp_path / "release", place=replace(PLACE, **changes))) == message
    assert not (tmp_path / "release").exists()


def test_other_captures_have_their_places(tmp_path):
    """Seed and k as numbers, the rest as variant; `{k}` gives k to each file."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for k in (4, 8):
        for seed in (0, 1):
            torch.save(state(0, "final"), folder / f"16k_k{k}_seed{seed}_raw.pt")
    wanted = order(
        folder,
        tmp_path / "release",
        "{width}_k{k:d}_seed{seed:d}_{variant}.pt",
        place=Place(model=MODEL, hook="blocks.3.hook_mlp_out", stream="mlp", tokens=PLACE.tokens),
        given=GIVEN | {"activation": "topk", "k": "{k}"},
    )
    import_grid(wanted)
    entries = Manifest.read(tmp_path / "release/manifest.json").artifacts
    assert [(e.sparsity.k, e.seed, e.variant) for e in entries] == [
        (4.0, 0, "raw-width_16k"), (4.0, 1, "raw-width_16k"), (8.0, 0, "raw-width_16k"), (8.0, 1, "raw-width_16k"),
    ]  # fmt: skip
    assert entries[0].id == "16k/k_4/seed_0/raw"
    build(tmp_path / "release", checkpoints=folder)
    assert validate(tmp_path / "release", "weights", options=Options(checkpoints=folder)).summary.errors == 0
    line = refused(replace(wanted, release=tmp_path / "b", given=GIVEN | {"activation": "topk", "k": "4"}))
    assert "k8_seed0_raw.pt says k = 8, but k = 4 was given; pass --set k={k}" in line


def test_a_layer_as_text_is_refused(checkpoints, tmp_path):
    """A layer is a number."""
    line = refused(order(checkpoints, tmp_path / "release", "sae_layer{layer}_{snapshot}.pt"))
    assert line == "layer '00' is no number; write {layer:d} or {layer:02d} in the template"


def test_a_grid_of_transcoders_is_refused(tmp_path):
    """They need a second site."""
    (tmp_path / "checkpoints").mkdir()
    torch.save({"encoder.weight": random(F, D), "decoder.weight": random(7, F)}, tmp_path / "checkpoints/layer0.pt")
    line = refused(order(tmp_path / "checkpoints", tmp_path / "release", "layer{layer:d}.pt"))
    assert line == f"{tmp_path}/checkpoints/layer0.pt: is a transcoder; only SAEs can be imported as a grid"


def test_another_layout_is_recognized(tmp_path):
    """Nothing is to be given then."""
    from saereg.registry.conversion.convert import Order, convert

    folder = tmp_path / "checkpoints"
    torch.save(state(0, "final"), tmp_path / "a.pt")
    for layer in (0, 1):
        convert(Order(tmp_path / "a.pt", folder / f"layer{layer}", "saelens", "state_dict", GIVEN))
    wanted = order(folder, tmp_path / "release", "layer{layer:d}/sae_weights.safetensors", given={})
    assert survey(wanted.grid, {}).layout == "saelens"
    assert len(import_grid(wanted).made) == 2
    build(tmp_path / "release", checkpoints=folder)
    assert validate(tmp_path / "release", "weights", options=Options(checkpoints=folder)).summary.errors == 0


def test_names_that_any_script_may_choose_decide_nothing(tmp_path):
    """Two Linears are one publisher's layout too; for somebody else's grid it must be named."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save(state(0, "final"), folder / "layer0.pt")
    grid = look(folder, parse_template("layer{layer:d}.pt"))
    found = survey(grid, {})
    assert found.layout == "state_dict"
    assert list(found.could_be) == ["deepseek_r1"]
    assert {question.name for question in found.questions} == {*GIVEN, "k"}
    assert survey(grid, {}, "deepseek_r1").layout == "deepseek_r1"
    wanted = order(folder, tmp_path / "release", "layer{layer:d}.pt", given={})
    assert "the tensors do not say activation" in refused(wanted)
    import_grid(replace(wanted, layout="deepseek_r1"))


def test_a_survey_says_what_differs(checkpoints, tmp_path):
    """Shapes, keys, and files that cannot be opened."""
    folder = shutil.copytree(checkpoints, tmp_path / "checkpoints")
    torch.save({"state_dict": state(1, "50M", latents=40)}, folder / "sae_layer01_50M.pt")
    torch.save({"sae": state(1, "100M")}, folder / "sae_layer01_100M.pt")
    torch.save({"state_dict": state(3, "50M") | {"extra": torch.zeros(1)}}, folder / "sae_layer03_50M.pt")
    (folder / "sae_layer03_final.pt").write_bytes(b"PK\x03\x04 no archive")
    save_file(state(0, "final"), folder / "sae_layer00_final.pt")
    found = survey(look(folder, parse_template(TEMPLATE)), GIVEN)
    assert list(found.differing) == [
        "sae_layer00_final.pt", "sae_layer01_50M.pt", "sae_layer01_100M.pt", "sae_layer03_50M.pt",
        "sae_layer03_final.pt",
    ]  # fmt: skip
    assert (
        found.differing["sae_layer01_50M.pt"] == "state_dict/encoder.weight is float32 (40, 16), not float32 (48, 16)"
    )
    assert found.differing["sae_layer01_100M.pt"] == "state_dict/encoder.weight is missing"
    assert found.differing["sae_layer03_50M.pt"] == "state_dict/extra is extra"
    assert found.differing["sae_layer03_final.pt"].startswith("sae_layer03_final.pt: ")
    assert (found.questions, found.problem) == ((), None)


def test_a_release_that_says_otherwise_is_left_alone(checkpoints, made, tmp_path):
    """Another revision of the model, or other tokens."""
    root = shutil.copytree(made, tmp_path / "release")
    with pytest.raises(UsageError, match="base model 'pythia-410m' has another revision"):
        import_grid(order(checkpoints, root, place=replace(PLACE, model=BaseModelRef(id=MODEL.id))))
    with pytest.raises(UsageError, match="its dictionaries were trained on other tokens"):
        import_grid(order(checkpoints, root, place=replace(PLACE, tokens=TokenPolicy(bos=True))))


def test_a_new_release_needs_its_name(checkpoints, tmp_path):
    """And says so before anything is converted."""
    assert "say the release's name, title and license" in refused(order(checkpoints, tmp_path / "release", info=None))
    assert not (tmp_path / "release").exists()


def test_keys_are_made_of_names():
    """For models, hooks and modules."""
    assert [slug(n) for n in ("EleutherAI/pythia-70m", "blocks.3.hook_z", "model.layers[3]", "///")] == [
        "pythia-70m", "blocks.3.hook_z", "model.layers-3", "model",
    ]  # fmt: skip


def test_the_first_file_in_two_layouts_must_be_named(checkpoints, monkeypatch, tmp_path):
    """With --from."""
    from saereg.registry.formats import FORMATS
    from saereg.registry.importing import survey as module
    from saereg.registry.loading import Match

    both = (Match(FORMATS["saelens"], "a"), Match(FORMATS["saereg"], "b"))
    monkeypatch.setattr(module, "matches", lambda source: both)
    with pytest.raises(
        FormatError, match=r"fits several layouts; say which with --from \(candidates: saelens, saereg\)"
    ):
        survey(look(checkpoints, parse_template(TEMPLATE)), {})
    assert survey(look(checkpoints, parse_template(TEMPLATE)), GIVEN, "state_dict").problem is None
