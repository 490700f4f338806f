"""The code of the cards is run: it computes what the dictionary computes, of every architecture in both layouts."""

import ast
import json
import os
import subprocess
import sys

import pytest
import torch

from saereg.registry.cards.recipes import Recipe, literal, recipes
from saereg.registry.cards.recipes_torch import MOST_LINES
from saereg.registry.evidence.golden_file import read_golden, sparse_golden, write_golden
from saereg.registry.files.header import read_header
from saereg.registry.files.names import WEIGHTS_FILES
from saereg.registry.loading import load_path
from saereg.registry.release import open_release
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig, read_config
from saereg.schemas.cfg import SaelensConfig
from saereg.schemas.index import GoldenFacts, IndexArtifact, IndexFile, TensorFacts
from saereg.schemas.manifest import CrosscoderArtifact, Manifest, SaeArtifact, TranscoderArtifact
from tests.reading_hub import REPO, SHA, hub
from tests.registry import factories
from tests.registry.factories import D_IN, D_OUT, D_SAE, SOURCES, relative
from tests.releases import tiny_release

ROWS, PATH = 7, "layer_1/it's"

NORMALIZED = {
    f"{name}_{norm}": factories.config(name, normalize_activations=norm)
    for name in ("standard", "topk", "skip_transcoder", "matching_pursuit")
    for norm in ("layer_norm", "constant_norm_rescale", "expected_average_only_in")
}
SWITCHED = {
    "without_b_dec": factories.config("standard", apply_b_dec_to_input=False),
    "topk_rescaled": factories.config("topk", rescale_acts_by_decoder_norm=True),
    "abstopk_rescaled": factories.config(
        "abstopk", rescale_acts_by_decoder_norm=True, normalize_activations="layer_norm"
    ),
    "pursuit_untied": factories.config("matching_pursuit", apply_b_dec_to_input=False, residual_threshold=1.5),
    "pursuit_twice": factories.config("matching_pursuit", max_iterations=2, stop_on_duplicate_support=False),
    "half": factories.config("jumprelu", dtype="bfloat16"),
    "double": factories.config("gated", dtype="float64"),
    "native_half": factories.native_config("jumprelu", preprocess="center_scale", dtype="bfloat16"),
    "native_mixed": factories.native_config("jumprelu", dtype="bfloat16", dtypes={"threshold": "float32"}),
    "crosscoder_half": factories.crosscoder_config("topk_per_source", "center", dtype="bfloat16"),
    "crosscoder_per_element": factories.crosscoder_config(
        "jumprelu", statistics={"preprocess": "center_scale", "scale_per": "element"}
    ),
    "crosscoder_kept_normalized": factories.crosscoder_config(
        "gated", statistics={"preprocess": "scale", "inverted_on_output": False}
    ),
}
HEADS = {
    "heads": factories.config(
        "topk",
        reshape_activations="hook_z",
        metadata={"sae_lens_version": "6.54.12", "hook_name": "blocks.0.attn.hook_z"},
    )
}
EVERY = factories.EVERY_CONFIG | NORMALIZED | SWITCHED | HEADS

MANIFEST = Manifest.from_text(
    json.dumps(
        {
            "schema_version": "1.0",
            "release": {"name": "r", "version": "1.0.0", "title": "R", "license": "mit"},
            "base_models": {},
            "sites": {},
            "artifacts": [],
        }
    )
)


def written(cfg, root):
    """Write an artifact of a configuration, with golden vectors; return (claim, evidence, dictionary, x)."""
    layout = "saelens" if isinstance(cfg, SaelensConfig) else "saereg"
    folder = root / PATH
    factories.write(factories.checkpoint(cfg), folder)
    dictionary = load_path(folder, layout=layout, as_library=True)
    x = rows_of(dictionary.cfg, ROWS)
    save_golden(dictionary, x, root)
    return claim_of(dictionary.cfg, layout), evidence_of(folder, layout, ROWS), dictionary, x


def save_golden(dictionary, x, root):
    """Write golden vectors of a dictionary on some rows."""
    write_golden(root / PATH / "golden.safetensors", sparse_golden(x, dictionary.encode(x), dictionary(x), "tests"))


def rows_of(cfg, rows):
    """Return rows of the shape that a dictionary reads; positions are rows of a temporal one."""
    if getattr(cfg, "kind", None) in ("crosscoder", "cross_layer"):
        return factories.rows(rows, SOURCES, D_IN)
    if getattr(cfg, "reshape_activations", "none") == "hook_z":
        return factories.rows(rows, 2, D_IN // 2)
    return factories.rows(rows, 3, D_IN) if cfg.architecture == "temporal" else factories.rows(rows, D_IN)


def claim_of(cfg: ArtifactConfig, layout: str):
    """Return what a manifest says of it."""
    values = {"id": PATH, "path": PATH, "architecture": cfg.architecture, "format": layout}
    values |= {"d_in": D_IN, "d_sae": D_SAE}
    if getattr(cfg, "kind", None) == "crosscoder":
        return CrosscoderArtifact.model_validate(values | {"kind": "crosscoder", "sources": cfg.sources})
    if "transcoder" in cfg.architecture or getattr(cfg, "kind", None) == "cross_layer":
        name = cfg.architecture if "transcoder" in cfg.architecture else "transcoder"
        more = {"architecture": name, "kind": "transcoder", "site": "a", "site_out": "b", "d_out": D_OUT}
        return TranscoderArtifact.model_validate(values | more)
    return SaeArtifact.model_validate(values | {"kind": "sae", "site": "a"})


def evidence_of(folder, layout, rows) -> IndexArtifact:
    """Return what an index says of it, as far as recipes look."""
    cfg, header = read_config(folder / "cfg.json"), read_header(folder / WEIGHTS_FILES[layout])
    tensors = {n: TensorFacts(shape=e.shape, dtype=e.dtype, finite=True) for n, e in header.tensors.items()}
    golden = GoldenFacts(path=f"{PATH}/golden.safetensors", made_by="tests", rows=rows, replayed=())
    facts = {"id": PATH, "files": (), "tensors": tensors, "dtype": cfg.torch_dtype, "golden": golden}
    return IndexArtifact(**facts, semantics=semantics_of(cfg))


def run(recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the code of a recipe as a reader would, in a namespace of its own; return (f, x_hat)."""
    names: dict[str, object] = {}
    exec(compile(recipe.code, recipe.library, "exec"), names)
    return names["f"], names["x_hat"]


def of(library: str, found: tuple[Recipe, ...]) -> Recipe | None:
    """Return the recipe with a library."""
    return next((recipe for recipe in found if recipe.library == library), None)


@pytest.mark.parametrize("name", [name for name in EVERY if name != "temporal"])
def test_plain_torch_computes_what_the_dictionary_computes(name, tmp_path):
    """The latents, which of them are active, and the reconstruction; of several rows, and of one."""
    claim, evidence, dictionary, x = written(EVERY[name], tmp_path)
    bound = 1e-2 if dictionary.dtype == torch.bfloat16 else 1e-5
    recipe = of("torch", recipes(claim, MANIFEST, evidence, str(tmp_path)))

    for rows in (x, x[:1]):
        save_golden(dictionary, rows, tmp_path)
        f, x_hat = run(recipe)
        assert (f.shape, x_hat.shape) == (dictionary.encode(rows).shape, dictionary(rows).shape)
        assert torch.equal(f != 0, dictionary.encode(rows) != 0)
        assert relative(f, dictionary.encode(rows)) < bound
        assert relative(x_hat, dictionary(rows)) < bound
    lines = [line for line in recipe.code.split("\n") if line.strip() and line[0] != "#"]
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines[4:])) <= 110
    assert "saereg" not in recipe.code.replace(str(tmp_path), "")


SAELENS = [name for name, cfg in EVERY.items() if isinstance(cfg, SaelensConfig) and "covariance" not in name]

CHILD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
for name, code in json.load(open(sys.argv[1])).items():
    names = {}
    exec(compile(code, name, "exec"), names)
    torch.save((names["f"], names["x_hat"]), f"{sys.argv[2]}/{name}.pt")
"""


@pytest.mark.slow
def test_saelens_computes_what_the_dictionary_computes(tmp_path):
    """Its recipe of every artifact that it can read, in a process that never heard of saereg's maths."""
    wanted, codes = {}, {}
    for name in SAELENS:
        claim, evidence, dictionary, x = written(EVERY[name], tmp_path / name)
        recipe = of("SAELens", recipes(claim, MANIFEST, evidence, str(tmp_path / name)))
        wanted[name], codes[name] = (dictionary.encode(x), dictionary(x)), recipe.code
    (tmp_path / "codes.json").write_text(json.dumps(codes))

    command = [sys.executable, "-c", CHILD, str(tmp_path / "codes.json"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)

    for name, (f, x_hat) in wanted.items():
        theirs, their_x_hat = torch.load(tmp_path / f"{name}.pt")
        bound = 1e-2 if f.dtype == torch.bfloat16 else 1e-5
        assert torch.equal(f != 0, theirs != 0), name
        assert relative(theirs, f) < bound, name
        assert relative(their_x_hat, x_hat) < bound, name


def test_only_what_saelens_has_words_for_gets_its_recipe(tmp_path):
    """A crosscoder and a TopK transcoder have none; of a temporal one it is said why there is none with plain torch."""
    libraries = {}
    for name in ("standard", "temporal", "crosscoder_topk", "native_topk_transcoder"):
        claim, evidence, _, _ = written(EVERY[name], tmp_path / name)
        found = recipes(claim, MANIFEST, evidence)
        libraries[name] = [recipe.library for recipe in found]
        assert all(compile(recipe.code, name, "exec") for recipe in found)
    assert libraries == {
        "standard": ["saereg", "SAELens", "torch"],
        "temporal": ["saereg", "SAELens"],
        "crosscoder_topk": ["saereg", "torch"],
        "native_topk_transcoder": ["saereg", "torch"],
    }
    assert "attention" in (recipes(claim_of(EVERY["temporal"], "saelens"), MANIFEST, evidence)[0].note or "")
    assert [recipe.library for recipe in recipes(claim, MANIFEST, None)] == ["saereg"]


def test_without_golden_vectors_the_rows_are_random(tmp_path):
    """The code runs as it is all the same, whatever shape a row has."""
    for name in ("gated", "heads", "crosscoder_topk_per_source", "across_all_layers", "native_mixed"):
        claim, evidence, _, _ = written(EVERY[name], tmp_path / name)
        bare = evidence.model_copy(update={"golden": None})
        f, x_hat = run(of("torch", recipes(claim, MANIFEST, bare, str(tmp_path / name))))
        assert len(f) == len(x_hat) == ROWS, name
        assert f.shape[-1] == D_SAE, name


def test_a_factor_beside_the_weights_is_not_left_out_in_silence(tmp_path):
    """SAELens' own scaler: saereg puts it into the weights, so that weights as they are would be another function."""
    claim, evidence, _, _ = written(EVERY["standard_expected_average_only_in"], tmp_path)
    assert "no reader applies" in of("torch", recipes(claim, MANIFEST, evidence)).note
    scaler = IndexFile(path=f"{PATH}/activation_scaler.json", size=2, sha256="0" * 64, role="other")

    found = recipes(claim, MANIFEST, evidence.model_copy(update={"files": (scaler,)}))
    assert [recipe.library for recipe in found] == ["saereg", "SAELens"]
    assert "activation_scaler.json" in found[0].note


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("tiny"))


def test_every_recipe_of_a_release_gives_its_golden_vectors(release, monkeypatch):
    """Run in the release folder, as the card says: the reconstructions that the source of the weights made."""
    monkeypatch.chdir(release)
    opened = open_release(release)
    for artifact in opened:
        golden = read_golden(artifact.folder / "golden.safetensors")
        for recipe in recipes(artifact.claim, opened.manifest, artifact.evidence):
            if recipe.library != "SAELens":
                f, x_hat = run(recipe)
                assert relative(x_hat, golden.x_hat) < 1e-5
                assert f.flatten(1).count_nonzero() == (golden.active >= 0).sum()


@pytest.mark.slow
@pytest.mark.parametrize("library", ["saereg", "torch"])
def test_recipes_of_a_repository_fetch_what_they_need(release, tmp_path, library):
    """Plain torch those of the one artifact alone, at the revision that is named; by the Hub's own client."""
    opened = open_release(release)
    artifact = opened["layer_1/topk"]
    recipe = of(library, recipes(artifact.claim, opened.manifest, artifact.evidence, f"hf://{REPO}@{SHA}"))
    (tmp_path / "codes.json").write_text(json.dumps({"code": recipe.code}))
    with hub(release) as server:
        settings = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", CHILD, str(tmp_path / "codes.json"), str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True, timeout=120, env=os.environ | settings)

    f, x_hat = torch.load(tmp_path / "code.pt")
    assert (f.shape, x_hat.shape) == ((len(x_hat), 10), (len(x_hat), 4))
    if library == "torch":
        assert relative(x_hat, read_golden(artifact.folder / "golden.safetensors").x_hat) < 1e-5
        found = (tmp_path / "home").rglob("snapshots/*/**/*")
        assert {path.name for path in found if path.is_file()} == {path.name for path in artifact.folder.iterdir()}


@pytest.mark.parametrize(
    "text", ['a"b', "a\\b", "a\nb", "a'''b", "\u202egnp", "naïve 模型 \U0001f600", "{x}\x7f\ufeff"]
)
def test_any_text_is_a_literal_of_itself(text):
    """On one line, and with nothing in it that cannot be seen."""
    written_ = literal(text)

    assert ast.literal_eval(written_) == text
    assert written_.isprintable()
