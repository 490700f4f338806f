"""What the manifest claims of the tensors, and whether a normalization is applied once: real files, real layouts."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import saereg
from saereg.errors import FormatError
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.evidence.tied import compare_tied
from saereg.registry.files.flat import open_safetensors
from saereg.registry.formats.saelens_scale import folded
from saereg.registry.validators.runner import validate
from saereg.schemas.recipe import (
    SWAP_AXES,
    SourceTensor,
    Step,
    constant,
    divided_by,
    divided_by_decoder_norm,
    moved,
    plus,
    scaled,
    times_by,
    times_decoder_norm,
)
from saereg.schemas.settings import Settings
from tests.cases.tools import JUMP, TOPK, TRANS, artifact_of, config, edit, manifest, reindex, renamed, tensors
from tests.releases import tiny_release

CROSS, SAE = "W_U/cross-snapshot-2", "layer_1/sae"
ALL = (TOPK, JUMP, TRANS, CROSS)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("claims"), checkpoints=False)


@pytest.fixture
def release(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "release"))


def codes(release, level="header", **more) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.artifact) for finding in validate(release, level, **more).findings]


def only_finding(release, level="header", **more):
    (found,) = validate(release, level, **more).findings
    return found


def written(folder, encoder, decoder):
    save_file({"W_enc": encoder.contiguous(), "W_dec": decoder.contiguous()}, folder / "weights.safetensors")
    return compare_tied(open_safetensors(folder / "weights.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("d_in", "d_sae"), [(3, 7), (5, 5), (1, 4), (48, 40_000)])
def test_a_transposed_copy_is_tied_and_one_other_number_unties_it(d_in, d_sae, dtype, tmp_path):
    """Whatever the shape and type, and in whichever block the number lies."""
    encoder = torch.randn(d_in, d_sae, generator=torch.Generator().manual_seed(0)).to(dtype)
    decoder = encoder.T.clone()
    tie = written(tmp_path, encoder, decoder)
    assert (tie.bitwise, tie.max_abs_diff) == (True, 0.0)

    decoder[-1, -1] += 2

    tie = written(tmp_path, encoder, decoder)
    assert not tie.bitwise
    assert tie.max_abs_diff == float((decoder.double() - encoder.T.double()).abs().max()) > 1


def test_a_crosscoder_is_tied_source_by_source(tmp_path):
    """W_dec (F, K, D) against W_enc (K, D, F); sources in another order are not tied."""
    encoder = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
    decoder = torch.stack([source.T for source in encoder], dim=1)

    assert written(tmp_path, encoder, decoder).bitwise
    tie = written(tmp_path, encoder, decoder.flip(1))
    assert not tie.bitwise
    assert tie.max_abs_diff == float((decoder.flip(1) - decoder).abs().max())


def test_a_zero_of_the_other_sign_is_another_number(tmp_path):
    """Bytes are compared, and the difference of 0 is told as it is."""
    encoder = torch.zeros(2, 3)

    tie = written(tmp_path, encoder, -encoder.T)

    assert (tie.bitwise, tie.max_abs_diff) == (False, 0.0)


@pytest.mark.parametrize(
    ("decoder", "found"),
    [
        (torch.zeros(3, 5), ("float32 (3, 2)", "float32 (3, 5)")),
        (torch.zeros(3, 2, dtype=torch.bfloat16), ("float32 (3, 2)", "bfloat16 (3, 2)")),
    ],
    ids=["another width", "another type"],
)
def test_matrices_of_other_shapes_or_types_are_not_tied(decoder, found, tmp_path):
    """Shapes and types are said, and no number is looked at."""
    tie = written(tmp_path, torch.zeros(2, 3), decoder)

    assert (tie.comparable, tie.bitwise, tie.shapes) == (False, False, found)


@pytest.mark.parametrize("name", ALL)
def test_a_claim_that_separate_matrices_are_tied_is_refuted(name, release):
    """Of an SAE, a transcoder and a crosscoder; at level header no weights are read and nothing is said."""
    manifest(lambda m: artifact_of(m, name).update(tied=True))(release)

    assert codes(release) == []
    found = only_finding(release, "weights")
    assert (found.code, found.artifact) == ("SR205", name)
    assert found.pointer.endswith("/tied")


def test_a_transcoder_of_two_widths_says_both(release):
    """There is no difference to tell, so the shapes are."""
    manifest(lambda m: artifact_of(m, TRANS).update(tied=True))(release)

    message = only_finding(release, "weights").message

    assert message.endswith("transposed and side by side they are float32 (10, 4) and float32 (10, 3)")


def without_encoder(release):
    renamed(JUMP, SAE)(release)
    config(SAE, lambda c: c.update(architecture="matching_pursuit"))(release)
    manifest(lambda m: artifact_of(m, SAE).update(architecture="matching_pursuit"))(release)
    tensors(SAE, lambda w: [w.pop(name) for name in ("W_enc", "b_enc", "threshold")], golden=True)(release)


@pytest.mark.parametrize(("tied", "expected"), [(True, []), (False, [("SR205", SAE)]), (None, [])])
def test_an_architecture_without_encoder_is_tied_by_definition(tied, expected, release):
    """matching_pursuit has one matrix for both."""
    without_encoder(release)
    manifest(lambda m: artifact_of(m, SAE).update(tied=tied))(release)

    assert codes(release, "weights") == expected


def make_unit(weights):
    weights["W_dec"] /= weights["W_dec"].flatten(1).norm(dim=1).reshape(-1, *[1] * (weights["W_dec"].ndim - 1))


@pytest.mark.parametrize("name", ALL)
def test_unit_norms_are_looked_for_where_they_are_claimed(name, release):
    """In the index at level header; `free` is true of any decoder."""
    manifest(lambda m: artifact_of(m, name).update(decoder_norm="free"))(release)
    assert codes(release, "weights") == []

    manifest(lambda m: artifact_of(m, name).update(decoder_norm="unit"))(release)

    found = only_finding(release)
    assert (found.code, found.artifact) == ("SR217", name)
    norms = next(a for a in saereg.open(release).index.artifacts if a.id == name).decoder_norm
    assert found.found == f"{norms.minimum:.4g} to {norms.maximum:.4g}"


@pytest.mark.parametrize(("off", "expected"), [(0.0008, []), (0.0015, [("SR217", JUMP)]), (-0.0015, [("SR217", JUMP)])])
def test_a_norm_may_be_off_by_a_thousandth(off, expected, release):
    """Which is what rounding to half types can do."""

    def change(weights):
        make_unit(weights)
        weights["W_dec"][3] *= 1 + off

    manifest(lambda m: artifact_of(m, JUMP).update(decoder_norm="unit"))(release)
    tensors(JUMP, change, golden=True)(release)

    assert codes(release) == codes(release, "weights") == expected


def test_an_index_that_flatters_does_not_help_at_level_weights(release):
    """The norms are measured again."""
    manifest(lambda m: artifact_of(m, JUMP).update(decoder_norm="unit"))(release)
    flattering = {"unit": True, "minimum": 1.0, "maximum": 1.0}
    edit(release / "index.json", lambda i: artifact_of(i, JUMP).update(decoder_norm=flattering))

    assert codes(release) == []
    assert codes(release, "weights") == [("SR217", JUMP)]


PLAIN = {name: moved(name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
SCALE, MEAN = moved("activation_global_scale"), moved("activation_mean")


def then(name: str, *steps: Step) -> dict[str, SourceTensor]:
    return {name: moved(name, *steps)}


FOLDS = {
    "as SAELens folds": (folded(PLAIN, 0.37), "an input scale of 0.37"),
    "with decoder norms": (
        folded(
            PLAIN
            | then("W_enc", times_decoder_norm(1))
            | then("b_enc", times_decoder_norm(0))
            | then("W_dec", divided_by_decoder_norm(0)),
            0.37,
        ),
        "an input scale of 0.37",
    ),
    "into the biases alone": (
        PLAIN | then("b_enc", scaled(4.0)) | then("b_dec", scaled(4.0)),
        "an input scale of 0.25",
    ),
    "of each source": (
        PLAIN
        | then("W_enc", times_by(SCALE, 0))
        | then("W_dec", SWAP_AXES, divided_by(SCALE, 1))
        | then("b_dec", divided_by(SCALE, 0)),
        "the input scale activation_global_scale",
    ),
}

HONEST = {
    "nothing done": PLAIN,
    "decoder norms folded": PLAIN
    | then("W_enc", times_decoder_norm(1))
    | then("b_enc", times_decoder_norm(0))
    | then("W_dec", divided_by_decoder_norm(0)),
    "latents rescaled": PLAIN | then("W_enc", scaled(4.0)) | then("b_enc", scaled(4.0)) | then("W_dec", scaled(0.25)),
    # a way back that divides by scale + ε is corrected in the encoder
    "encoder corrected for epsilon": PLAIN | then("W_enc", times_by(constant((0.9, 0.8)), 0)),
    # BatchTopK crosscoders of the fork with DECOUPLED code norm normalize twice, in training too
    "trained with rows normalized twice": PLAIN
    | then("W_enc", times_by(SCALE, 0))
    | then("b_enc", plus(moved("W_enc", times_by(SCALE, 0), Step(do="merge_first_axes"), times_by(MEAN, 0)))),
    "no output bias": folded(PLAIN | {"b_dec": SourceTensor(key=None)}, 1.0),
}


def exported(release, name, plan, **switches):
    source = {"path": "source.safetensors", "sha256": "0" * 64}
    source["tensors"] = {key: recipe.model_dump(mode="json", exclude_none=True) for key, recipe in plan.items()}
    edit(release / "manifest.json", lambda m: artifact_of(m, name).update(source_checkpoint=source))
    edit(release / name / "cfg.json", lambda c: c.update(switches))
    reindex(release)


@pytest.mark.parametrize("what", FOLDS)
@pytest.mark.parametrize(
    ("name", "switches", "pointer"),
    [
        (CROSS, {}, "/statistics/preprocess"),
        (JUMP, {"normalize_activations": "constant_norm_rescale"}, "/normalize_activations"),
    ],
)
def test_a_fold_under_a_declared_normalization_is_found(name, switches, pointer, what, release):
    """However it is written down: in the matrices, in the biases, or by a number of each source."""
    plan, folds = FOLDS[what]
    exported(release, name, plan, **switches)

    found = only_finding(release)

    assert (found.code, found.artifact, found.pointer) == ("SR312", name, pointer)
    assert found.message.startswith(folds)


@pytest.mark.parametrize("what", HONEST)
@pytest.mark.parametrize(
    ("name", "switches"), [(CROSS, {}), (JUMP, {"normalize_activations": "constant_norm_rescale"})]
)
def test_what_is_no_fold_of_the_inputs_passes(name, switches, what, release):
    """Work on the latents, and corrections of the encoder alone, leave the output bias as it is."""
    exported(release, name, HONEST[what], **switches)

    assert codes(release) == []


@pytest.mark.parametrize("what", FOLDS)
def test_a_fold_without_a_normalization_is_right(what, release):
    """That is what a fold is for."""
    exported(release, JUMP, FOLDS[what][0])

    assert codes(release) == []


def test_a_fold_under_a_normalization_that_nobody_applies_is_one_finding(release):
    """SR311, which says what to do whether it was folded or not."""
    exported(release, JUMP, folded(PLAIN, 0.37), normalize_activations="expected_average_only_in")

    assert codes(release) == [("SR311", JUMP)]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (then("W_enc", scaled(0.5)) | then("b_enc") | then("W_dec", scaled(3.0)), [("SR312", TRANS)]),
        (then("W_enc", scaled(0.5)) | then("b_enc", scaled(0.5)) | then("W_dec", scaled(2.0)), []),
        (then("W_dec", scaled(3.0)) | then("b_dec", scaled(3.0)) | then("b_enc"), []),
    ],
    ids=["input folded", "latents rescaled", "output folded"],
)
def test_of_a_transcoder_the_encoder_tells(plan, expected, release):
    """Its output has a scale of its own, which says nothing of the input."""
    exported(release, TRANS, plan, normalize_activations="constant_norm_rescale")

    assert codes(release) == expected


@pytest.mark.parametrize("by", [1e308, 5e-324, 0.0, -1.0])
def test_odd_factors_are_looked_at_in_peace(by, release):
    """Numbers that no export multiplies by neither stop the validation nor divide by zero."""
    plan = PLAIN | {name: moved(name, scaled(by), scaled(by)) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    exported(release, JUMP, plan, normalize_activations="constant_norm_rescale")

    assert {code for code, _ in codes(release)} <= {"SR312"}


def layer_norm(release, made_by, **replay):
    def change(index):
        golden = artifact_of(index, JUMP)["golden"]
        golden["made_by"] = made_by
        golden["replayed"][0].update(replay)

    edit(release / JUMP / "cfg.json", lambda c: c.update(normalize_activations="layer_norm"))
    reindex(release)
    edit(release / "index.json", change)


@pytest.mark.parametrize(
    ("made_by", "proves"),
    [
        ("sae_lens 6.54.12 TopKTrainingSAE forward", True),
        ("saereg 0.1.0: forward of olmo_builder (daMS2005/olmo-sae-builder, sparse_autoencoder/train.py)", True),
        ("saereg 0.1.0: forward of mlsae (mlsae, src/mlsae/model/autoencoder.py)", True),
        ("saereg 0.1.0: forward of saelens (SAELens 6.54, `saes/sae.py`)", False),
        ("saereg 0.1.0: forward of saereg (this documentation.)", False),
        ("saereg 0.1.0: forward of temporal", False),
        ("unknown", False),
    ],
)
def test_a_layer_norm_is_shown_by_whoever_did_not_take_it_from_cfg_json(made_by, proves, release):
    """The trainer's forward, or that of the publisher's layout."""
    layer_norm(release, made_by)

    assert codes(release) == ([] if proves else [("SR313", JUMP)])


@pytest.mark.parametrize("replay", [{"active_sets_equal": False}, {"max_rel_error": 1e-3}])
def test_golden_vectors_that_do_not_replay_show_nothing(replay, release):
    """1 / (2·d_in) is less than what active sets alone can tell."""
    layer_norm(release, "sae_lens 6.54.12 TopKTrainingSAE forward", **replay)

    found = only_finding(release)

    assert (found.code, found.severity) == ("SR313", "warning")
    assert found.message.endswith("off from torch's by 0.12 (relative) at d_in = 4")


def test_without_golden_vectors_nothing_is_shown_either(release):
    """Beside the finding that there are none."""
    layer_norm(release, "sae_lens 6.54.12 TopKTrainingSAE forward")
    (release / JUMP / "golden.safetensors").unlink()

    assert {"SR313", "SR423"} <= {code for code, _ in codes(release)}


def test_two_formulas_of_layer_norm_are_as_far_apart_as_the_rule_says():
    """SAELens' and torch's own, on the same row."""
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)).double()
    ours = (x - x.mean()) / (x.std() + 1e-5)

    off = (torch.nn.functional.layer_norm(x, (64,)) / ours - 1).abs().max()

    assert float(off) == pytest.approx(1 / 128, rel=0.02)


PROFILES = {"saelens": "saelens", "sparsify": "sparsify", "dictionary-learning": "dictionary_learning"}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_layout_is_refused_where_its_converter_refuses_it(profile, release, tmp_path):
    """Validation reads configurations alone and gives the sentence that the conversion stops with."""
    found = validate(release, settings=Settings(profile=profile, select=("SR216",))).findings
    refused = {finding.artifact: finding.message for finding in found}

    for name in ALL:
        order = Order(release / name, tmp_path / "converted" / name, PROFILES[profile])
        if name in refused:
            with pytest.raises(FormatError) as refusal:
                convert(order)
            assert refused[name].rpartition(": ")[2] in str(refusal.value)
        else:
            convert(order)
    assert refused.keys() < set(ALL)


def test_a_setting_that_nobody_can_have_is_told_once(release):
    """k > d_sae is SR212; that no layout can say it adds nothing."""
    config(TOPK, lambda c: c.update(k=400))(release)
    manifest(lambda m: artifact_of(m, TOPK).update(sparsity={"k": 400.0}))(release)

    found = validate(release, settings=Settings(profile="sparsify")).findings

    assert [finding.code for finding in found if finding.artifact == TOPK] == ["SR212"]


def test_layouts_are_asked_without_torch(release):
    """Level header works in a base installation, with a profile too."""
    code = """
    import sys
    from pathlib import Path
    from saereg.registry.validators.runner import validate
    from saereg.schemas.settings import Settings
    report = validate(Path(sys.argv[1]), "header", settings=Settings(profile="sparsify"))
    assert len(report.findings) == 3, report.findings
    print(*[name for name in ("torch", "numpy", "safetensors") if name in sys.modules])
    """
    lines = "\n".join(line.removeprefix("    ") for line in code.splitlines())

    done = subprocess.run([sys.executable, "-c", lines, str(release)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


COMPARE = """
import re, sys
from pathlib import Path

import torch

from saereg.registry.evidence.tied import compare_tied
from saereg.registry.files.flat import open_safetensors


def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


torch.randn(600, 600) @ torch.randn(600, 600)
before, tie = peak(), compare_tied(open_safetensors(Path(sys.argv[1])))
print(int(tie.bitwise), tie.max_abs_diff, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process alone is Linux' to tell")
@pytest.mark.parametrize("tied", [True, False])
def test_two_large_matrices_are_compared_in_less_memory_than_one_takes(tied, tmp_path):
    """160 MB each, of which strips are read; where they differ as where they do not."""
    encoder = torch.randn(2048, 20_480, generator=torch.Generator().manual_seed(0))
    decoder = encoder.T.contiguous() * (1 if tied else -1)
    save_file({"W_enc": encoder, "W_dec": decoder}, tmp_path / "weights.safetensors")

    command = [sys.executable, "-c", COMPARE, str(tmp_path / "weights.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    same, largest, peak = done.stdout.split()

    assert bool(int(same)) is tied
    assert float(largest) == (0.0 if tied else 2 * float(encoder.abs().max()))
    assert int(peak) < encoder.nbytes * 3 / 4
