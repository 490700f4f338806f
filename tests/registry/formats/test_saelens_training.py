"""Training checkpoints of SAELens, and scaled inputs: what SAELens' own final save makes of them."""

import json
from pathlib import Path

import pytest
import torch
from sae_lens import SAE, TrainingSAE
from sae_lens.registry import get_sae_class, get_sae_training_class
from safetensors.torch import load_file, save_file

from saereg.errors import FormatError
from saereg.registry.conversion.convert import Order, convert
from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import read
from saereg.schemas.cfg_training import TRAINING
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

SCALE = 1.7

SETTINGS = {
    "topk": {"k": K},
    "abstopk": {"k": K},
    "batchtopk": {"k": 4.5},
    "matryoshka_batchtopk": {"k": 4.5, "matryoshka_widths": [20, F]},
}
RESCALES = "rescale_acts_by_decoder_norm"
CASES = [(name, {}) for name in TRAINING if "topk" not in name] + [
    (name, {RESCALES: rescales}) for name in TRAINING if "topk" in name for rescales in (False, True)
]
IDS = [f"{name}, rescaled" if settings.get(RESCALES) else name for name, settings in CASES]
SCALED = "expected_average_only_in"


def randomized(sae):
    """Fill every parameter and buffer; thresholds are positive."""
    with torch.no_grad():
        for seed, (name, tensor) in enumerate(sae.state_dict().items()):
            value = random(*tensor.shape, seed=seed)
            tensor.copy_(value.abs() + 0.1 if "threshold" in name else value)
    return sae


def trainer_sae(name: str, **settings) -> TrainingSAE:
    """Return SAELens' own training object."""
    cls, config = get_sae_training_class(name)
    return randomized(cls(config(d_in=D, d_sae=F, **SETTINGS.get(name, {}) | settings)))


def inference_sae(name: str, **settings) -> SAE:
    """Return SAELens' own inference object."""
    cls, config = get_sae_class(name)
    extra = {"k": K} if "topk" in name else {}
    return randomized(cls(config(d_in=D, d_sae=F, **extra | settings)))


def scaler(folder: Path, **said) -> None:
    """Write activation_scaler.json as the trainer does."""
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": None, "has_whitening": False} | said))


def exported(sae: TrainingSAE, folder: Path) -> tuple[SAE, dict[str, torch.Tensor]]:
    """Return what SAELens itself exports: as it loads it, and the tensors."""
    sae.save_inference_model(folder)
    return SAE.load_from_disk(folder), load_file(folder / "sae_weights.safetensors")


@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_a_checkpoint_converts_to_what_saelens_exports(tmp_path, name, settings):
    """Bitwise, with SAELens' own metadata; and it means the same before it is converted."""
    sae, x = trainer_sae(name, **settings), rows(D)
    sae.save_model(tmp_path / "training")
    model, tensors = exported(sae, tmp_path / "theirs")
    with torch.no_grad():
        assert_same(tmp_path / "training", x, model.encode(x), model(x))

    assert_converts(tmp_path / "training", tmp_path / "ours", "saelens")

    ours = load_file(tmp_path / "ours/sae_weights.safetensors")
    assert ours.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert torch.equal(ours[key], tensor), key
    mine, theirs = (json.loads((tmp_path / f / "cfg.json").read_text()) for f in ("ours", "theirs"))
    if RESCALES in theirs:  # SAELens leaves it as it was in training; folded, the norms are 1
        assert mine.pop(RESCALES) is False
        del theirs[RESCALES]
    assert {**mine, "metadata": None, "max_iterations": None} == {**theirs, "metadata": None, "max_iterations": None}
    details = theirs["metadata"].pop("training_architecture_details")
    assert {k: v for k, v in mine["metadata"].pop("training_architecture_details").items() if v is not None} == {
        k: v for k, v in details.items() if v is not None
    }
    assert mine["metadata"].items() >= {k: v for k, v in theirs["metadata"].items() if v is not None}.items()
    assert_same(tmp_path / "ours", x, model.encode(x), model(x))


@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_a_checkpoint_in_scaled_space_is_folded_as_the_last_save_folds_it(tmp_path, name, settings):
    """The factor is beside it; the threshold of BatchTopK moves with the decoder norms it is compared by."""
    sae, x = trainer_sae(name, normalize_activations=SCALED, **settings), rows(D)
    sae.save_model(tmp_path / "training")
    scaler(tmp_path / "training", scaling_factor=SCALE)
    sae.fold_activation_norm_scaling_factor(SCALE)
    model, tensors = exported(sae, tmp_path / "theirs")

    with torch.no_grad():
        dictionary = assert_same(tmp_path / "training", x, model.encode(x), model(x))
    assert dictionary.cfg.normalize_activations == "none"
    assert dictionary.cfg.metadata.model_extra["saereg_assumptions"] == [
        {
            "field": "scaling_factor",
            "value": "1.7",
            "because": "activation_scaler.json beside the weights, which hold for inputs times this",
        }
    ]

    assert_converts(tmp_path / "training", tmp_path / "ours", "saelens")
    ours = load_file(tmp_path / "ours/sae_weights.safetensors")
    assert {key: relative(ours[key], tensor) < 1e-6 for key, tensor in tensors.items()} == dict.fromkeys(ours, True)
    again = SAE.load_from_disk(tmp_path / "ours")
    assert again.cfg.normalize_activations == "none"
    with torch.no_grad():
        assert torch.equal(again.encode(x) != 0, model.encode(x) != 0)
        assert relative(again(x), model(x)) < 1e-6


@pytest.mark.parametrize("given", [{"scaling_factor": SCALE}, {"scaling_factor": str(SCALE)}])
def test_the_factor_can_be_said_where_no_file_has_it(tmp_path, given):
    """As a number or as typed."""
    sae, x = trainer_sae("standard", normalize_activations=SCALED), rows(D)
    sae.save_model(tmp_path / "a")
    sae.fold_activation_norm_scaling_factor(SCALE)
    with torch.no_grad():
        assert_same(tmp_path / "a", x, sae.encode(x), sae(x), given=given)
    record = assert_converts(tmp_path / "a", tmp_path / "b", "saereg", given=given)
    assert record.plan["W_enc"].operation == "scale by 1.7"


def test_a_factor_beside_weights_of_training_counts_whatever_cfg_says(tmp_path):
    """The trainer multiplies by it wherever it has one."""
    sae, x = trainer_sae("gated"), rows(D)
    sae.save_model(tmp_path / "a")
    scaler(tmp_path / "a", scaling_factor=SCALE)
    sae.fold_activation_norm_scaling_factor(SCALE)
    with torch.no_grad():
        assert_same(tmp_path / "a", x, sae.encode(x), sae(x))


def test_the_last_save_is_taken_as_it_is(tmp_path):
    """Its scaler is there, and says nothing."""
    sae, x = trainer_sae("standard"), rows(D)
    sae.save_model(tmp_path / "a")
    scaler(tmp_path / "a")
    with torch.no_grad():
        assert_same(tmp_path / "a", x, sae.encode(x), sae(x))
    assert all(recipe.is_movement for recipe in read(tmp_path / "a").plan.values())


ASKED = (
    "its weights hold for inputs times a factor that no file here says; say it: --set scaling_factor=1.05, or --set "
    "already_folded=true if it is in them already"
)


def test_a_checkpoint_in_an_unknown_scale_is_refused(tmp_path):
    """In one sentence, and so are a whitening, and a scale that is none."""
    trainer_sae("standard", normalize_activations=SCALED).save_model(tmp_path / "a")
    assert refusal(tmp_path / "a") == f"{tmp_path}/a: {ASKED}"
    scaler(tmp_path / "a")
    assert refusal(tmp_path / "a") == f"{tmp_path}/a: {ASKED}"
    for odd in (0, -1.0, "2", True, [1.0]):
        scaler(tmp_path / "a", scaling_factor=odd)
        assert refusal(tmp_path / "a") == (
            f"{tmp_path}/a/activation_scaler.json: says scaling_factor {odd!r}; expected a positive number or null; "
            "correct it"
        )
    whitened = (
        "its weights hold for whitened inputs, and saereg does not fold a whitening; take the final save of SAELens, "
        "which is folded, or say --set already_folded=true"
    )
    trainer_sae("standard", normalize_activations="covariance_whitening").save_model(tmp_path / "w")
    assert refusal(tmp_path / "w") == f"{tmp_path}/w: {whitened}"
    scaler(tmp_path / "w", has_whitening=True)
    assert refusal(tmp_path / "w") == f"{tmp_path}/w: {whitened}"
    assert refusal(tmp_path / "w", already_folded=True, scaling_factor=2) == (
        "already_folded=true and scaling_factor=2 contradict each other; say one of them"
    )


def test_what_is_not_asked_for_is_refused(tmp_path):
    """A factor for weights that need none."""
    trainer_sae("standard").save_model(tmp_path / "a")
    assert refusal(tmp_path / "a", scaling_factor=2.0) == (
        "this layout does not ask for 'scaling_factor'; it asks for nothing"
    )


def test_a_scale_under_another_normalization_is_refused(tmp_path):
    """Which of the two came first cannot be told."""
    trainer_sae("standard", normalize_activations="layer_norm").save_model(tmp_path / "a")
    scaler(tmp_path / "a", scaling_factor=SCALE)
    assert refusal(tmp_path / "a") == (
        f"{tmp_path}/a: normalizes by layer_norm, and activation_scaler.json beside it says that inputs are scaled "
        "first; remove activation_scaler.json if it is of another dictionary"
    )


INFERENCE = [
    ("standard", {}),
    ("gated", {}),
    ("jumprelu", {}),
    ("topk", {RESCALES: False}),
    ("topk", {RESCALES: True}),
    ("abstopk", {RESCALES: True}),
    ("matching_pursuit", {}),
    ("transcoder", {"d_out": 12, "apply_b_dec_to_input": False}),
    ("skip_transcoder", {"d_out": 12, "apply_b_dec_to_input": False}),
]


@pytest.mark.parametrize(("name", "settings"), INFERENCE)
def test_an_export_in_scaled_space_is_folded_when_the_factor_is_said(tmp_path, name, settings):
    """SAELens only warns, and computes something else."""
    sae, x = inference_sae(name, normalize_activations=SCALED, **settings), rows(D)
    sae.save_model(tmp_path / "a")
    with torch.no_grad():
        unfolded = SAE.load_from_disk(tmp_path / "a")(x)
        sae.fold_activation_norm_scaling_factor(SCALE)
        dictionary = assert_same(tmp_path / "a", x, sae.encode(x), sae(x), given={"scaling_factor": SCALE})
        assert relative(unfolded, sae(x)) > 1e-2
    assert dictionary.cfg.normalize_activations == "none"
    assert_converts(tmp_path / "a", tmp_path / "b", "saelens", given={"scaling_factor": SCALE})
    with torch.no_grad():
        assert relative(SAE.load_from_disk(tmp_path / "b")(x), sae(x)) < 1e-6


def test_a_temporal_dictionary_is_not_folded(tmp_path):
    """SAELens cannot do it either."""
    sizes = {"n_heads": 2, "bottleneck_factor": 4, "kval_topk": K}
    cls, config = get_sae_class("temporal")
    randomized(cls(config(d_in=D, d_sae=F, normalize_activations=SCALED, **sizes))).save_model(tmp_path / "a")
    assert refusal(tmp_path / "a", scaling_factor=SCALE) == (
        f"{tmp_path}/a: a temporal dictionary cannot be folded; SAELens cannot do it either"
    )


@pytest.mark.parametrize("given", [{"scaling_factor": 1}, {"already_folded": True}, {"already_folded": "yes"}])
@pytest.mark.parametrize("kind", [SCALED, "covariance_whitening"])
def test_what_is_folded_already_can_be_said(tmp_path, given, kind):
    """Then nothing is computed, and the configuration says so."""
    if "scaling_factor" in given and kind != SCALED:
        given = {"already_folded": "1"}
    sae, x = inference_sae("jumprelu", normalize_activations=kind), rows(D)
    sae.save_model(tmp_path / "a")
    with torch.no_grad():
        dictionary = assert_same(tmp_path / "a", x, sae.encode(x), sae(x), given=given)
    assert dictionary.cfg.normalize_activations == "none"
    record = assert_converts(tmp_path / "a", tmp_path / "b", "saelens", given=given)
    assert all(tensor.bitwise for tensor in record.tensors.values())


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (SCALED, ASKED),
        (
            "covariance_whitening",
            "its inputs were whitened, which saereg does not fold; if the weights hold for raw inputs, say "
            "--set already_folded=true",
        ),
    ],
)
@pytest.mark.parametrize("to", ["saelens", "saereg"])
def test_an_export_in_an_unknown_scale_is_read_as_saelens_reads_it_and_never_converted(tmp_path, kind, sentence, to):
    """A release with such a configuration can be looked at (SR311); a conversion would make it look right."""
    sae, x = inference_sae("standard", normalize_activations=kind), rows(D)
    sae.save_model(tmp_path / "a")
    with torch.no_grad():
        assert_same(tmp_path / "a", x, sae.encode(x), sae(x))
    with pytest.raises(FormatError) as caught:
        convert(Order(tmp_path / "a", tmp_path / "b", to))
    assert str(caught.value).endswith(sentence)
    assert not (tmp_path / "b").exists()


def test_a_scaler_beside_an_export_that_says_none_is_asked_about(tmp_path):
    """One of the two is wrong."""
    inference_sae("standard").save_model(tmp_path / "a")
    scaler(tmp_path / "a", scaling_factor=SCALE)
    assert refusal(tmp_path / "a") == (
        f"{tmp_path}/a: activation_scaler.json says scaling_factor 1.7, and cfg.json that inputs are not normalized; "
        "say which: --set scaling_factor=1.7 or --set already_folded=true"
    )
    assert read(tmp_path / "a", {"already_folded": True}).plan["W_enc"].is_movement


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_other_types(tmp_path, name, settings, dtype):
    """Half types become float32 where something is computed; nothing else changes type."""
    sae, x = trainer_sae(name, dtype=dtype, **settings), rows(D)
    sae.save_model(tmp_path / "a")
    if name != "matching_pursuit":  # in half precision its choices are those of rounding
        assert_converts(tmp_path / "a", tmp_path / "b", "saelens")
    else:
        convert(Order(tmp_path / "a", tmp_path / "b", "saelens"))
    result = read(tmp_path / "b").checkpoint()
    computed = settings.get(RESCALES) or "threshold" in result.weights
    assert result.cfg.torch_dtype == ("float32" if computed and dtype != "float64" else dtype)
    assert all(tensor.dtype == getattr(torch, result.cfg.torch_dtype) for tensor in result.weights.values())
    if computed or dtype == "float64":
        model, _ = exported(TrainingSAE.load_from_disk(tmp_path / "a", dtype=result.cfg.torch_dtype), tmp_path / "c")
        with torch.no_grad():
            assert_same(tmp_path / "b", x, model.encode(x), model(x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_types_are_folded_in_float32(tmp_path, dtype):
    """Scale and norms both."""
    sae, x = trainer_sae("batchtopk", dtype=dtype, normalize_activations=SCALED), rows(D)
    sae.save_model(tmp_path / "a")
    wide = TrainingSAE.load_from_disk(tmp_path / "a", dtype="float32")
    wide.fold_activation_norm_scaling_factor(SCALE)
    model, _ = exported(wide, tmp_path / "theirs")
    given = {"scaling_factor": SCALE}
    with torch.no_grad():
        assert_same(tmp_path / "a", x, model.encode(x), model(x), given=given)
    assert_converts(tmp_path / "a", tmp_path / "b", "saelens", given=given)
    assert read(tmp_path / "b").cfg.torch_dtype == "float32"


def test_golden_vectors_catch_a_forgotten_fold(tmp_path):
    """Of the scale, of its inverse, and of the threshold of BatchTopK (which SAELens itself once forgot)."""
    sae = trainer_sae("batchtopk", normalize_activations=SCALED)
    sae.save_model(tmp_path / "a")
    assert_golden_catches(
        tmp_path / "a",
        lambda d: Dictionary(read(tmp_path / "a", {"already_folded": True}).checkpoint())(d.golden_x),
        scaling_factor=SCALE,
    )
    assert_golden_catches(
        tmp_path / "a",
        lambda d: Dictionary(read(tmp_path / "a", {"scaling_factor": 1 / SCALE}).checkpoint())(d.golden_x),
        scaling_factor=SCALE,
    )

    def threshold_forgotten(dictionary):
        sae.fold_activation_norm_scaling_factor(SCALE)
        sae.topk_threshold *= SCALE
        sae.save_inference_model(tmp_path / "wrong")
        return SAE.load_from_disk(tmp_path / "wrong")(dictionary.golden_x)

    assert_golden_catches(tmp_path / "a", threshold_forgotten, scaling_factor=SCALE)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    """A tensor that is missing, and one too many."""
    trainer_sae("batchtopk").save_model(tmp_path / "a")
    path = tmp_path / "a/sae_weights.safetensors"
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "topk_threshold"}, path)
    assert refusal(tmp_path / "a") == f"{path}: topk_threshold: missing; expected shape ()"
    save_file(tensors | {"threshold": torch.ones(F)}, path)
    assert refusal(tmp_path / "a") == f"{path}: threshold: not a tensor of this architecture"
