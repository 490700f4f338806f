"""`saereg init`: what it shows of a grid, what it asks for, and the release that it makes."""

import json
import shlex
import shutil

import pytest
import torch
from safetensors.torch import save_file

from tests.grids import TEMPLATE, forward, save_grid, state
from tests.upstream import TOLERANCE, D, relative, rows

GIVEN = ("--set", "activation=relu", "--set", "normalization=none", "--set", "pre_encoder_subtraction=none")

REVISION = "0123456789abcdef0123456789abcdef01234567"

WHERE = (
    "--model", "EleutherAI/pythia-410m", "--revision", REVISION, "--site", "blocks.{layer}.hook_resid_post",
    "--module", "gpt_neox.layers.{layer}", "--tokens", "bos=false", "--tokens", "separator=eos", "--license", "mit",
)  # fmt: skip

OUT = ("--out", "grid-release")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """The grid; read only."""
    return save_grid(tmp_path_factory.mktemp("grid") / "checkpoints")


@pytest.fixture
def folder(grid, place):
    """A copy of it in the working directory."""
    return shutil.copytree(grid, place / "checkpoints")


@pytest.fixture
def init(saereg, folder):
    """Run `saereg init` on it."""

    def answer(*words: object, template: str = TEMPLATE):
        return saereg("init", "checkpoints", "--template", template, *words)

    return answer


def test_alone_it_shows_the_grid_and_what_must_be_given(init, folder):
    """Gaps and doubles marked, tensors and their parts, what was inferred, what is asked."""
    shutil.copy(folder / "sae_layer01_50M.pt", folder / "sae_layer1_50M.pt")
    answer = init(template="sae_layer{layer:d}_{snapshot}.pt")
    assert answer.code == 0
    assert answer.out == (
        "12 files of checkpoints: 4 layer × 3 snapshot\n\n"
        "layer  50M  100M  final\n"
        "    0    1     1      1\n"
        "    1    2     1      1\n"
        "    2    1     –      1\n"
        "    3    1     1      1\n\n"
        "missing: layer 2, snapshot 100M\n"
        "twice: layer 1, snapshot 50M: sae_layer01_50M.pt, sae_layer1_50M.pt\n"
        "no match: notes.pt\n\n"
        "state_dict: sae_layer00_50M.pt\n\n"
        "tensor                     type     shape     part\n"
        "state_dict/encoder.weight  float32  (48, 16)  W_enc\n"
        "state_dict/encoder.bias    float32  (48,)     b_enc\n"
        "state_dict/decoder.weight  float32  (16, 48)  W_dec\n"
        "state_dict/decoder.bias    float32  (16,)     b_dec\n\n"
        "every file holds the same tensors, of the same shapes and types\n"
        "assumed: encoder, decoder = state_dict/encoder.weight, state_dict/decoder.weight, because by name: "
        "encoder.weight and decoder.weight\n"
        "assumed: d_sae = 48, because encoder.bias has 48 values\n"
        "must be given: --set activation=relu|topk|abstopk|groupmax|batchtopk|jumprelu|gated\n"
        "must be given: --set normalization=none|layer_norm|constant_norm_rescale\n"
        "must be given: --set pre_encoder_subtraction=none|b_dec   (decoder.bias is added after the decoder, and may "
        "be subtracted before the encoder)\n"
        "must be given: --set k=K   (for topk, abstopk, groupmax)\n"
    )


def test_the_next_command_has_what_was_said_and_what_is_missing(init):
    """Quoted for the shell."""
    words = shlex.split(init("--set", "activation=relu", "--model", "EleutherAI/pythia-410m").next)
    assert words == [
        "saereg", "init", "checkpoints", "--template", TEMPLATE, "--set", "activation=relu",
        "--model", "EleutherAI/pythia-410m", "--set", "normalization=none|layer_norm|constant_norm_rescale",
        "--set", "pre_encoder_subtraction=none|b_dec", "--site", "blocks.{layer}.hook_resid_post",
        "--tokens", "bos=true|false", "--license", "LICENSE", "--out", "RELEASE",
    ]  # fmt: skip
    complete = shlex.split(init(*GIVEN, *WHERE, "--to", "saereg").next)
    assert complete[-2:] == ["--out", "RELEASE"]
    assert not any("|" in word or word.isupper() for word in complete[:-1])
    assert complete[complete.index("--to") + 1] == "saereg"


def test_from_a_grid_to_a_validated_release(init, saereg, place):
    """Each command names the next one, and that one works."""
    answer = init(*GIVEN, *WHERE, *OUT)
    assert (answer.code, answer.out) == (0, "grid-release: 11 artifacts: 11 converted, 0 kept\n")
    assert answer.next == "saereg build grid-release --checkpoints checkpoints"
    built = saereg(*shlex.split(answer.next)[1:])
    assert (built.code, built.out) == (0, "index.json: 11 artifacts, 57 files; claims: none stated\n")
    checked = saereg("validate", "grid-release", "--level", "weights", "--checkpoints", "checkpoints")
    assert checked.code == 0
    assert checked.out.startswith("grid-release 0.1.0: 11 artifacts, level weights, ")
    assert checked.out.endswith(" checks: 0 errors, 0 warnings, 0 notes\n")
    listed = saereg("ls", "grid-release", "--where", "layer = 2", "--columns", "id,layer,snapshot")
    assert listed.out.split() == ["id", "layer", "snapshot", "layer_02/50M", "2", "50M", "layer_02/final", "2", "final"]
    from sae_lens import SAE

    x = rows(D)
    with torch.no_grad():
        x_hat = SAE.load_from_disk(place / "grid-release/layer_02/final", device="cpu")(x)
    assert relative(x_hat, forward(state(2, "final"), x)) <= TOLERANCE


def test_a_second_run_keeps_what_is_there(init, place):
    """Then neither licence nor tokens are asked for again."""
    assert init(*GIVEN, *WHERE, *OUT, template="sae_layer{layer:02d}_final.pt").code == 0
    before = (place / "grid-release/manifest.json").read_bytes()
    short = ("--model", "EleutherAI/pythia-410m", "--revision", REVISION)
    site = ("--site", "blocks.{layer}.hook_resid_post", "--module", "gpt_neox.layers.{layer}")
    answer = init(*GIVEN, *short, *site, *OUT, template="sae_layer{layer:02d}_final.pt")
    assert (answer.code, answer.out) == (0, "grid-release: 4 artifacts: 0 converted, 4 kept\n")
    assert (place / "grid-release/manifest.json").read_bytes() == before


def test_what_the_author_says_of_the_release_stands_in_the_manifest(init, place):
    """Name, title, licence, tokens, and what all checkpoints have in common."""
    words = ("--name", "my-saes", "--title", "My SAEs", "--field", "l1=3e-4", "--field", "seed=0")
    answer = init(
        *GIVEN, *WHERE, *words, "--tokens", "excluded=bos,pad", "--tokens", "context_size=1024",
        "--id", "{snapshot}/L{layer:02d}", *OUT, template="sae_layer{layer:02d}_{snapshot}.pt",
    )  # fmt: skip
    assert answer.code == 0
    manifest = json.loads((place / "grid-release/manifest.json").read_text())
    release = {key: manifest["release"][key] for key in ("name", "title", "license", "version")}
    assert release == {"name": "my-saes", "title": "My SAEs", "license": "mit", "version": "0.1.0"}
    tokens = manifest["tokens"]
    assert (tokens["bos"], tokens["separator"], tokens["excluded"], tokens["context_size"]) == (
        False, "eos", ["bos", "pad"], 1024,
    )  # fmt: skip
    first = manifest["artifacts"][0]
    assert (first["id"], first["seed"], first["sparsity"]) == ("50M/L00", 0, {"l1_coefficient": 0.0003})
    assert manifest["base_models"]["pythia-410m"]["revision"] == REVISION


def test_a_sample_scores_what_must_be_given_and_chooses_nothing(init, place):
    """A table, and a proposal in the next command."""
    eye, b_dec = torch.eye(D), torch.full((D,), 5.0)
    plain = {"encoder.weight": torch.cat([eye, -eye]), "encoder.bias": torch.zeros(2 * D)}
    plain |= {"decoder.weight": torch.cat([eye, -eye], dim=0).T.contiguous(), "decoder.bias": b_dec}
    torch.save(plain, place / "checkpoints/sae_layer03_final.pt")
    x = torch.randn(1100, D, generator=torch.Generator().manual_seed(2)) + 5
    save_file({"x": x}, place / "x.safetensors")
    sample = ("--sample", "x.safetensors", "--sample-for", "sae_layer03_final.pt")
    answer = init("--set", "activation=relu", "--set", "normalization=none", *sample)
    assert answer.code == 0
    assert "differs: sae_layer03_final.pt: state_dict/encoder.weight is missing" in answer.out
    assert (
        "explained variance of sae_layer03_final.pt on 1100 rows\n\npre_encoder_subtraction  explained_variance\n"
        in answer.out
    )
    assert "\nb_dec                                1.0000\nnone " in answer.out
    assert answer.out.endswith("\nproposed: --set pre_encoder_subtraction=b_dec\n")
    words = shlex.split(answer.next)
    assert "pre_encoder_subtraction=b_dec" in words
    assert "pre_encoder_subtraction=none|b_dec" not in words
    unsure = init("--set", "activation=relu", "--set", "normalization=none", "--sample", "x.safetensors")
    assert unsure.out.endswith("\nproposed: nothing, no value is clearly the best\n")
    assert "pre_encoder_subtraction=none|b_dec" in shlex.split(unsure.next)


BAD = {
    "everything is missing": (
        OUT,
        "neither files nor options say everything; add "
        "--set activation=relu|topk|abstopk|groupmax|batchtopk|jumprelu|gated "
        "--set normalization=none|layer_norm|constant_norm_rescale --set pre_encoder_subtraction=none|b_dec "
        "--set k=K --model ORG/NAME --site blocks.{layer}.hook_resid_post --tokens bos=true|false --license LICENSE",
    ),
    "a site without layer": (
        (*GIVEN, *WHERE, *OUT, "--site", "blocks.3.hook_resid_post", "--module", "gpt_neox"),
        "every layer would have the site 'blocks.3.hook_resid_post'; write e.g. blocks.{layer}.hook_resid_post",
    ),
    "a misspelt field of a site": (
        (*GIVEN, *WHERE, *OUT, "--site", "blocks.{layr}.hook_resid_post"),
        "unknown field of 'blocks.{layr}.hook_resid_post' 'layr'; did you mean 'layer'?",
    ),
    "a branch for a commit": (
        (*GIVEN, *WHERE, *OUT, "--revision", "main"),
        "--model, --revision: revision: string should match pattern '^[0-9a-f]{40}$'",
    ),
    "an unknown word of tokens": (
        (*GIVEN, *WHERE, *OUT, "--tokens", "boss=true"),
        "--tokens: unknown 'boss'; did you mean 'bos'?",
    ),
    "tokens that do not fit": (
        (*GIVEN, *WHERE, *OUT, "--tokens", "packing=loose"),
        "--tokens: packing: input should be 'none', 'documents' or 'mixed'",
    ),
    "tokens without a value": ((*GIVEN, *WHERE, *OUT, "--tokens", "packing"), "--tokens packing: expected name=value"),
    "a name that is none": (
        (*GIVEN, *WHERE, *OUT, "--name", "my saes"),
        "--name, --title, --license: name: string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.\\-]*$'",
    ),
    "an activation that is none": (("--set", "activation=gelu"), "activation=gelu: choose from relu, topk, abstopk,"),
    "a misspelt setting": (
        ("--set", "activaton=relu"),
        "this layout does not ask for 'activaton'; did you mean 'activation'?",
    ),
    "a layout that is none": (("--from", "sparsfy"), "unknown layout 'sparsfy'; did you mean 'sparsify'?"),
    "a sample that is not there": (
        (*GIVEN[:4], "--sample", "x.safetensors"),
        "x.safetensors: No such file or directory",
    ),
    "a sample for no checkpoint": (
        (*GIVEN[:4], "--sample", "x.safetensors", "--sample-for", "a.pt"),
        "--sample-for a.pt: no checkpoint of the grid; the first is sae_layer00_50M.pt",
    ),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_makes_nothing(init, place, words, message):
    """Exit code 2."""
    answer = init(*words)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert not (place / "grid-release").exists()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("sae.pt", "sae.pt: this template has no field; write e.g. sae_layer{layer:02d}_{snapshot}.pt"),
        ("{a}{b}.pt", "{a}{b}.pt: nothing tells where {a} ends; put a character behind it"),
        ("layer{layer:d}.pt", "checkpoints: no file matches layer{layer:d}.pt (candidates: notes.pt)"),
    ],
)
def test_a_template_that_fits_nothing_is_one_line(init, folder, template, message):
    """With what to write instead, or what is there."""
    for path in folder.glob("sae_*"):
        path.unlink()
    answer = init(template=template)
    assert (answer.code, answer.out, answer.err) == (2, "", f"error: {message}\n")


def test_a_checkpoint_that_fails_is_named(init, folder):
    """What is done stays, and the line says so."""
    (folder / "sae_layer02_final.pt").write_bytes(b"\x80\x02 no pickle")
    answer = init(*GIVEN, *WHERE, *OUT)
    assert answer.code == 2
    assert answer.err.startswith("error: checkpoints/sae_layer02_final.pt: ")
    assert answer.err.endswith("; 7 of 11 are done and stay, and the same command goes on from there\n")
    assert answer.err.count("\n") == 1


def test_files_of_equal_bytes_are_noted(init, folder):
    """One of them may be misnamed."""
    shutil.copy(folder / "sae_layer03_50M.pt", folder / "sae_layer03_final.pt")
    answer = init(*GIVEN, *WHERE, *OUT, "--field", "layer=3", template="sae_layer03_{snapshot}.pt")
    assert answer.code == 0
    assert "note: 50M and final come from files of the same bytes; is one misnamed?\n" in answer.out


def test_files_that_say_more_are_quoted(init, folder):
    """Numbers beside the tensors help to answer."""
    torch.save({"model": state(0, "50M"), "top_k": 8, "normalize": True}, folder / "sae_layer00_50M.pt")
    out = init().out
    assert "the file says: top_k = 8\nthe file says: normalize = True\n" in out


def test_a_file_that_is_no_dictionary_says_why(init, folder):
    """Without --out that is a finding, with it an error."""
    torch.save({"weights": torch.zeros(3, 4, 5)}, folder / "sae_layer00_50M.pt")
    answer = init()
    assert answer.code == 0
    assert "cannot be read: checkpoints/sae_layer00_50M.pt: expected the two matrices" in answer.out
    made = init(*GIVEN, *WHERE, *OUT)
    assert made.code == 2
    assert made.err.startswith("error: checkpoints/sae_layer00_50M.pt: expected the two matrices of a dictionary")


def test_control_characters_in_names_are_written_out(init, folder):
    """Keys come from strangers."""
    torch.save({"W\x1b[31m_enc": torch.randn(3, 5), "W_dec": torch.randn(5, 3)}, folder / "sae_layer00_50M.pt")
    assert "\x1b" not in init().out


def test_many_columns_are_listed_instead(saereg, place):
    """A grid of moments."""
    (place / "steps").mkdir()
    for layer in range(20):
        for step in range(20):
            (place / f"steps/l{layer}_s{step}.pt").touch()
    torch.save(state(0, "50M"), place / "steps/l0_s0.pt")
    answer = saereg("init", "steps", "--template", "l{layer:d}_s{step:d}.pt")
    assert "layer: 0, 1, 2," in answer.out
    assert "differs: … 387 more" in answer.out
