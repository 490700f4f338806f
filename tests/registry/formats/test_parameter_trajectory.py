"""Crosscoders of a parameter over training, against a forward written from the publisher's inference code."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.registry.dictionary import Dictionary
from saereg.registry.loading import detect, read
from tests.upstream import (
    TOLERANCE,
    D,
    F,
    assert_converts,
    assert_golden_catches,
    assert_same,
    random,
    refusal,
    relative,
    rows,
)

STEPS = [0, 512, 143000]
SNAPSHOTS = len(STEPS)
THRESHOLD = "activation_function.log_jumprelu_threshold"
GATED = ("activation_function.b_gate", "activation_function.r_mag", "activation_function.b_mag")


def tensors(kind: str = "jumprelu", count: int = SNAPSHOTS) -> dict[str, torch.Tensor]:
    """Return weights; latent 0 is exactly at the threshold and latent 1 just above it, at every snapshot."""
    made = {
        "W_E": random(count, D, F, seed=1),
        "b_E": random(count, F, seed=2),
        "W_D": random(count, F, D, seed=3),
        "b_D": random(count, D, seed=4),
    }
    if kind == "gated":
        made |= {name: random(F, seed=5 + index) for index, name in enumerate(GATED)}
    if kind == "jumprelu":
        made[THRESHOLD] = random(F, seed=5) + 1
        made["W_E"][..., :2], made["W_D"][:, :2], made["b_E"][:, :2] = 0, 0, 0
        made["W_D"][:, :2, 0], made["b_E"][0, 0], made["b_E"][0, 1] = 1, 1, 1 + 1e-6
        made[THRESHOLD][:2] = 0
    return made


def document(**changes) -> dict:
    """Return a `.config.json` as released beside weights."""
    made = {
        "kind": "cross-snapshot",
        "model_name": "EleutherAI/pythia-160m",
        "steps": STEPS,
        "seed": 0,
        "training": {"lr": 5e-5, "input_preprocess": "none", "batch_size": 1024},
        "config": {"act_fn": "jumprelu", "sparsity_include_decoder_norm": True, "norm_activation": "inference"},
    }
    return made | changes


def write(folder, weights=None, **changes):
    """Write a release's files and return the path of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors() if weights is None else weights, folder / "seed0.safetensors")
    (folder / "seed0.config.json").write_text(json.dumps(document(**changes)))
    return folder / "seed0.safetensors"


def forward(weights, x, mean=0.0, scale=1.0, gate="per_source", k=None):
    """Return (f, x_hat) of rows x (n, K, D), as the publisher's inference code computes them.

    pre = Σ x_k·W_E[k] + Σ b_E[k]; JumpReLU keeps it at snapshot k where pre·‖W_D[k, j]‖ > exp(log θ_j).
    """
    x_in = (x - mean) / scale
    pre = torch.einsum("nkd,kdf->nf", x_in, weights["W_E"]) + weights["b_E"].sum(0)
    if k is not None:
        best = pre.relu().topk(k)
        f = torch.zeros_like(pre).scatter(1, best.indices, best.values)
    elif GATED[0] in weights:
        b_gate, r_mag, b_mag = (weights[name] for name in GATED)
        f = (pre + b_gate > 0) * (r_mag.exp() * pre + b_mag).relu()
    elif gate == "shared":
        f = pre * (pre > weights[THRESHOLD].exp())
    else:
        f = pre[:, None] * (pre[:, None] * weights["W_D"].norm(dim=-1) > weights[THRESHOLD].exp())
    x_hat = torch.einsum("nkf,kfd->nkd" if f.ndim == 3 else "nf,kfd->nkd", f, weights["W_D"]) + weights["b_D"]
    return f, x_hat * scale + mean


def test_each_snapshot_has_its_own_gate(tmp_path):
    """A latent exactly at its threshold is off, one just above is on."""
    path, x = write(tmp_path), rows(SNAPSHOTS, D)
    f, x_hat = forward(tensors(), x)
    assert not f[:, :, 0].any()
    assert f[:, :, 1].all()
    dictionary = assert_same(path, x, f, x_hat)

    assert not torch.equal(f[:, 0] != 0, f[:, 1] != 0)
    assert dictionary.cfg.sources.steps == tuple(STEPS)
    assert dictionary.cfg.input.parameter == dictionary.cfg.sources.site == "W_U"
    assert dictionary.cfg.metadata.model_name == "EleutherAI/pythia-160m"
    assert {note.field for note in dictionary.cfg.assumptions} == {"parameter"}


def test_the_folder_says_which_parameter(tmp_path):
    """As in the publisher's own scripts; the caller can say another."""
    path = write(tmp_path / "pythia-160m/W_E/cross-snapshot-32")
    assert read(path).cfg.input.parameter == "W_E"
    assert read(path, {"parameter": "W_pos"}).cfg.input.parameter == "W_pos"


def test_metadata_may_be_one_level_deeper(tmp_path):
    """As in the newer files of pythia-1b."""
    path, x = write(tmp_path), rows(SNAPSHOTS, D)
    outer = document()
    (tmp_path / "seed0.config.json").write_text(json.dumps({"config": outer}))
    dictionary = assert_same(path, x, *forward(tensors(), x))
    assert dictionary.cfg.sources.steps == tuple(STEPS)


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "one level deeper"])
def test_originals_are_read(tmp_path, nested):
    """`.pt` with weights under `state_dict`, and input statistics with axes of length 1."""
    mean, scale, x = random(SNAPSHOTS, 1, D, seed=8), random(SNAPSHOTS, 1, 1, seed=9).abs() + 0.5, rows(SNAPSHOTS, D)
    facts = document(training={"input_preprocess": "center_scale"})
    whole = ({"config": facts} if nested else facts) | {
        "state_dict": tensors(),
        "preprocess_stats": {"mean": mean, "scale": scale, "mode": "center_scale"},
    }
    torch.save(whole, tmp_path / "run.pt")

    assert detect(tmp_path) == ("parameter_trajectory",)
    assert_same(tmp_path / "run.pt", x, *forward(tensors(), x, mean[:, 0], scale[:, 0]))
    assert_converts(tmp_path / "run.pt", tmp_path / "out", "saereg")


@pytest.mark.parametrize("ours", [False, True], ids=["publisher's names", "our names"])
def test_input_statistics_may_be_given(tmp_path, ours):
    """A divisor under the publisher's name `scale`, a factor under our own `input_scale`."""
    path = write(tmp_path, training={"input_preprocess": "center_scale"})
    mean, scale, x = random(SNAPSHOTS, D, seed=8), random(SNAPSHOTS, seed=9).abs() + 0.5, rows(SNAPSHOTS, D)
    names = {"input_mean": mean, "input_scale": 1 / scale} if ours else {"mean": mean, "scale": scale}
    save_file(names, tmp_path / "statistics.st")
    given = {"input_statistics": str(tmp_path / "statistics.st")}

    expected = forward(tensors(), x, mean, scale[:, None])
    assert_same(path, x, *expected, given=given)
    record = assert_converts(path, tmp_path / "out", "saereg", given=given)
    assert [file.name for file in record.source] == ["seed0.safetensors", "statistics.st"]
    assert_same(tmp_path / "out", x, *expected)


def test_rows_may_be_prepared_by_the_caller(tmp_path):
    """Which is recorded."""
    path, x = write(tmp_path, training={"input_preprocess": "center_scale"}), rows(SNAPSHOTS, D)
    dictionary = assert_same(path, x, *forward(tensors(), x), given={"preprocess": "none"})
    assert ("preprocess", "none", "given by the caller") in {
        (note.field, note.value, note.because) for note in dictionary.cfg.assumptions
    }


def test_missing_statistics_are_asked_for(tmp_path):
    """Never left out in silence."""
    path = write(tmp_path, training={"input_preprocess": "center_scale"})
    assert refusal(path) == (
        f"{path}: rows were prepared by 'center_scale' and the files do not hold the statistics; take mean (K, D) and "
        "root mean square deviation (K,) of the parameter at each snapshot, as `mean` and `scale` of a safetensors "
        "file, or prepare rows yourself (--set preprocess=none); say it: --set input_statistics=statistics.safetensors"
    )
    assert refusal(path, input_statistics=str(tmp_path / "none.st")).startswith(f"{tmp_path}/none.st: cannot be read")


def test_gated_ones_have_the_encoder_bias_in_both_paths(tmp_path):
    """The class adds its gate and magnitude biases to a sum that has `b_E` in it."""
    weights, x = tensors("gated"), rows(SNAPSHOTS, D)
    path = write(tmp_path, weights, config={"arch": "gated"})
    assert_same(path, x, *forward(weights, x))
    assert_converts(path, tmp_path / "out", "saereg")
    assert_same(tmp_path / "out", x, *forward(weights, x))


@pytest.mark.parametrize("kind", ["jumprelu", "gated"])
def test_half_types_are_computed_with_in_float32(tmp_path, kind):
    """Exponentials and sums would be rounded once more."""
    weights, x = {name: tensor.bfloat16() for name, tensor in tensors(kind).items()}, rows(SNAPSHOTS, D)
    if kind == "jumprelu":
        weights["b_E"][:, :2] = 0
    path = write(tmp_path, weights, config={"act_fn": kind} if kind == "jumprelu" else {"arch": kind})
    f, x_hat = forward({name: tensor.float() for name, tensor in weights.items()}, x)
    dictionary = Dictionary(read(path).checkpoint()).to(dtype=torch.float32)
    assert torch.equal(dictionary.encode(x) != 0, f != 0)
    assert relative(dictionary(x), x_hat) <= TOLERANCE
    assert_converts(path, tmp_path / "out", "saereg")


def test_batchtopk_is_read_as_topk_of_each_row_when_asked_for(tmp_path):
    """Its own cut runs through a batch, and no threshold was stored."""
    weights, x = tensors("batchtopk"), rows(SNAPSHOTS, D)
    path = write(tmp_path, weights, config={"arch": "batchtopk", "batchtopk_k": 5})
    assert refusal(path) == (
        f"{path}: BatchTopK without a stored threshold: which latents are active depends on the other rows of the "
        "batch, and only the k largest of each row can be read; say it: --set activation=topk"
    )
    assert_same(path, x, *forward(weights, x, k=5), given={"activation": "topk"})
    assert_converts(path, tmp_path / "out", "saereg", given={"activation": "topk"})


@pytest.mark.parametrize("k", [0, F + 1, "5", 2.5, None])
def test_a_wrong_k_is_refused(tmp_path, k):
    """A whole number up to F."""
    path = write(tmp_path, tensors("batchtopk"), config={"arch": "batchtopk", "batchtopk_k": k})
    message = f"{path}: batchtopk_k is {k!r}; expected a whole number from 1 to d_sae = {F}"
    if k is None:
        message = f"{path}: the configuration has no `batchtopk_k`; say it: --set k=64"
    assert refusal(path, activation="topk") == message


def test_the_class_of_the_comparison_gates_otherwise_and_is_asked_about(tmp_path):
    """Its own JumpReLU compares the bare pre-activation; the publisher's figures do not."""
    path, x = write(tmp_path, config={"arch": "jumprelu"}), rows(SNAPSHOTS, D)
    assert refusal(path) == (
        f"{path}: the class behind `arch` compares the bare pre-activation with its threshold, and the publisher's "
        "figures compare it times ‖W_D‖ of each snapshot; say it: --set gate=per_source"
    )
    assert_same(path, x, *forward(tensors(), x), given={"gate": "per_source"})
    assert_same(path, x, *forward(tensors(), x, gate="shared"), given={"gate": "shared"})


@pytest.mark.parametrize("axis", [True, False], ids=["K = 1", "no source axis"])
@pytest.mark.parametrize("kind", ["jumprelu", "gated"])
def test_single_snapshots_are_read(tmp_path, axis, kind):
    """With a source axis of length 1, or as matrices."""
    weights, x = tensors(kind, 1), rows(1, D)
    f, x_hat = forward(weights, x)
    stored = (
        weights if axis else {name: t[0] if name in ("W_E", "b_E", "W_D", "b_D") else t for name, t in weights.items()}
    )
    path = write(tmp_path, {n: t.contiguous() for n, t in stored.items()}, steps=[143000], config={})
    if axis:
        assert_same(path, x, f, x_hat)
    else:
        assert_same(path, x[:, 0], f[:, 0] if f.ndim == 3 else f, x_hat[:, 0])
    assert_converts(path, tmp_path / "out", "saereg")


def test_writing_gives_the_same_bytes(tmp_path):
    """Threshold included: the logarithm of an exponential is left out."""
    path = write(tmp_path / "a")
    assert_converts(path, tmp_path / "b", "parameter_trajectory")
    written = load_file(tmp_path / "b/crosscoder.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors().items())
    assert_converts(tmp_path / "b", tmp_path / "c", "saereg")
    assert_converts(tmp_path / "c", tmp_path / "d", "parameter_trajectory")


def test_what_it_cannot_say_is_refused(tmp_path):
    """With the reason."""
    weights = tensors("gated")
    path = write(tmp_path, weights, config={"arch": "gated"})
    from saereg.errors import FormatError

    with pytest.raises(FormatError, match="architecture 'gated': only JumpReLU has all its numbers in the files"):
        assert_converts(path, tmp_path / "out", "parameter_trajectory")


def test_golden_vectors_catch_a_shared_gate_and_an_unsummed_bias(tmp_path):
    """Heads disagree, and a bias at one snapshot is not the sum."""
    path, weights = write(tmp_path), tensors()
    assert_golden_catches(path, lambda d: forward(weights, d.golden_x, gate="shared")[1])
    one_bias = weights | {"b_E": weights["b_E"][:1]}
    assert_golden_catches(path, lambda d: forward(one_bias, d.golden_x)[1])
    linear = weights | {THRESHOLD: weights[THRESHOLD].exp()}
    assert_golden_catches(path, lambda d: forward(linear, d.golden_x)[1])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": [0, 512]}, "`steps` are [0, 512]; expected 3 whole numbers that rise, one for each snapshot"),
        ({"steps": [512, 0, 1]}, "`steps` are [512, 0, 1]; expected 3 whole numbers that rise, one for each snapshot"),
        (
            {"steps": ["0", "1", "2"]},
            "`steps` are ['0', '1', '2']; expected 3 whole numbers that rise, one for each snapshot",
        ),
        (
            {"config": {"act_fn": "gated"}},
            "the configuration says 'gated', but the tensors are of jumprelu; correct it",
        ),
        (
            {"training": {"input_preprocess": "whiten"}},
            "input_preprocess is 'whiten'; expected one of none, center, center_scale",
        ),
        (
            {"training": None},
            "the configuration does not say how rows were prepared; say it: --set preprocess=none",
        ),
        (
            {"config": {"act_fn": "jumprelu", "norm_activation": "dataset-wise"}},
            "norm_activation is 'dataset-wise'; only 'inference' is known in this layout",
        ),
    ],
)
def test_odd_documents_are_refused(tmp_path, changes, problem):
    """In one line that says what to do."""
    path = write(tmp_path, **changes)
    assert refusal(path) == f"{path}: {problem}"


def test_odd_tensors_are_refused(tmp_path):
    """A tensor that means something is never dropped, and shapes must fit."""
    path = write(tmp_path / "a", tensors() | {"W_E_glu": random(3)})
    assert refusal(path) == f"{path}: W_E_glu: is no tensor of this layout; it would be lost"
    path = write(tmp_path / "b", tensors() | {"b_D": random(SNAPSHOTS, D + 1)})
    assert "b_dec" in refusal(path)
    path = write(tmp_path / "c", tensors() | {"W_E": random(D)})
    assert "expected (K, D, F) or (D, F)" in refusal(path)


@pytest.mark.parametrize("name", ["W_E", "b_D", THRESHOLD])
def test_float8_is_refused_in_one_line(tmp_path, name):
    """No reader computes with it."""
    weights = tensors()
    weights[name] = weights[name].to(torch.float8_e4m3fn)
    assert "float8_e4m3fn" in refusal(write(tmp_path, weights))
