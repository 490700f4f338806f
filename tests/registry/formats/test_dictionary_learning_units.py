"""Units of what dictionary_learning saves: backups before `scale_biases`, and the statistics that its fork stores."""

import json

import pytest
import sae_lens
import torch
from dictionary_learning.dictionary import GatedAutoEncoder
from safetensors.torch import save_file

from tests.registry.formats.test_dictionary_learning import MADE, forward, made, saved, settings
from tests.upstream import D, F, K, assert_converts, assert_golden_catches, assert_same, random, refusal, relative, rows

FACTOR = 6.5


def backup(ae, **more) -> dict:
    """Return what the library saves between checkpoints: tensors in units of scaled inputs."""
    optimizer = torch.optim.Adam(ae.parameters())
    ae(rows(D)).sum().backward()
    optimizer.step()
    config = {"dict_class": type(ae).__name__, "activation_dim": D, "dict_size": F}
    return {"step": 5, "ae": ae.state_dict(), "optimizer": optimizer.state_dict(), "config": config, **more}


@pytest.mark.parametrize("name", [name for name in MADE if name != "AutoEncoderNew"])
def test_a_backup_is_scaled_as_the_library_scales_it(tmp_path, name):
    """`scale_biases(norm_factor)`, after which raw inputs go in."""
    ae, x = made(name), rows(D)
    saved(tmp_path / "a", backup(ae, norm_factor=FACTOR), settings(name))
    with torch.no_grad():
        unscaled = forward(ae, x)[1]
        ae.scale_biases(FACTOR)
    assert_same(tmp_path / "a", x, *forward(ae, x))
    record = assert_converts(tmp_path / "a", tmp_path / "b", "saelens")
    assert "optimizer/state/0/exp_avg" in record.left_out
    with torch.no_grad():
        assert relative(sae_lens.SAE.load_from_disk(str(tmp_path / "b"))(x), forward(ae, x)[1]) < 1e-5
    assert assert_golden_catches(tmp_path / "a", lambda right: _unscaled(right, name)) > 0.01
    assert relative(unscaled, forward(ae, x)[1]) > 0.01


def _unscaled(right, name: str) -> torch.Tensor:
    ae = made(name)
    with torch.no_grad():
        return ae(right.golden_x)


def test_a_backup_without_its_scale_is_refused(tmp_path):
    """The library always saves it; a file without one says nothing of its units."""
    ae, x = made("AutoEncoder"), rows(D)
    saved(tmp_path / "a", backup(ae), settings("AutoEncoder"))
    assert refusal(tmp_path / "a") == (
        f"{tmp_path}/a: is a backup from the middle of training: its biases are in units of inputs that were divided "
        "by a norm_factor, which it does not say (found None); 1 where they were not divided; say it: --set "
        "norm_factor=12.5"
    )
    assert_same(tmp_path / "a", x, *forward(ae, x), given={"norm_factor": 1})
    ae.scale_biases(FACTOR)
    assert_same(tmp_path / "a", x, *forward(ae, x), given={"norm_factor": FACTOR})
    saved(tmp_path / "b", backup(ae, norm_factor=FACTOR), None)
    assert refusal(tmp_path / "b", norm_factor=2) == f"{tmp_path}/b: norm_factor=2 was given, but the file says 6.5"


def test_half_precision_is_widened_before_it_is_scaled(tmp_path):
    """Products of bfloat16 numbers are not bfloat16 numbers."""
    ae, x = made("GatedAutoEncoder").to(torch.bfloat16), rows(D)
    state = {"ae": ae.state_dict(), "step": 5, "norm_factor": FACTOR}
    saved(tmp_path / "a", state, settings("GatedAutoEncoder"))
    wide = GatedAutoEncoder(D, F)
    wide.load_state_dict(ae.state_dict())
    wide.scale_biases(FACTOR)
    dictionary = assert_same(tmp_path / "a", x, *forward(wide, x))
    assert (dictionary.cfg.dtype, dictionary.cfg.dtypes) == ("float32", {})
    assert_converts(tmp_path / "a", tmp_path / "b", "saereg")


def statistics(mean: torch.Tensor, std: torch.Tensor) -> dict:
    """Return the fork's buffers, made as its NormalizableMixin makes them."""
    scale = 1.0 / torch.sqrt((std**2).sum() + 1e-8)
    names = ("target_rms", "activation_mean", "activation_std", "activation_global_scale")
    return dict(zip(names, (torch.tensor(1.0), mean, std, scale), strict=True))


def test_stored_statistics_of_the_fork_are_applied(tmp_path):
    """(x − mean)·scale in, x_hat / scale + mean out; science-of-finetuning 173f7fa, `NormalizableMixin`."""
    ae, x = made("BatchTopKSAE"), rows(D) * 3
    extra = statistics(random(D, seed=50), random(D, seed=51).abs() + 0.1)
    mean, scale = extra["activation_mean"], extra["activation_global_scale"]
    saved(tmp_path / "a", ae.state_dict() | extra, settings("BatchTopKSAE"))
    f, inner = forward(ae, (x - mean) * scale)
    x_hat = inner / (scale + 1e-8) + mean
    assert_same(tmp_path / "a", x, f, x_hat)
    assert_converts(tmp_path / "a", tmp_path / "b", "saereg")
    assert assert_golden_catches(tmp_path / "a", lambda right: forward(ae, right.golden_x)[1]) > 0.1


def test_statistics_that_are_nan_mean_none(tmp_path):
    """As the fork saves a dictionary that it does not normalize for; safetensors of the Hub included."""
    ae, x = made("BatchTopKSAE"), rows(D)
    extra = statistics(torch.full((D,), torch.nan), torch.full((D,), torch.nan)) | {
        "activation_global_scale": torch.tensor(1.0)
    }
    tmp_path.joinpath("a").mkdir()
    save_file(
        {key: value.contiguous() for key, value in (ae.state_dict() | extra).items()}, tmp_path / "a/model.safetensors"
    )
    (tmp_path / "a/config.json").write_text(json.dumps({"activation_dim": D, "dict_size": F, "k": K}))
    assert_same(tmp_path / "a", x, *forward(ae, x))
    assert_converts(tmp_path / "a", tmp_path / "b", "saelens")
    del extra["activation_std"]
    saved(tmp_path / "b2", ae.state_dict() | extra, settings("BatchTopKSAE"))
    assert refusal(tmp_path / "b2") == (
        f"{tmp_path}/b2/ae.pt: activation_global_scale: is there without activation_std; the fork saves all four"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 2.5e-5])
def test_the_epsilon_of_the_way_back_counts_where_the_scale_is_small(tmp_path, scale, dtype):
    """The fork divides by scale + 1e-8: at a scale of 2.5e-5 that is 4 parts in 10,000."""
    ae, x = made("BatchTopKSAE").to(dtype), rows(D).double() / scale
    extra = statistics(random(D, seed=50), random(D, seed=51).abs() + 0.1)
    extra["activation_global_scale"] = torch.tensor(scale)
    saved(tmp_path / "a", ae.state_dict() | extra, settings("BatchTopKSAE"))
    mean, scale = extra["activation_mean"].double(), extra["activation_global_scale"].double()
    f, inner = forward(ae.double(), (x - mean) * scale)
    x_hat = inner / (scale + 1e-8) + mean
    record = assert_converts(tmp_path / "a", tmp_path / "b", "saereg")
    if dtype == torch.float32 or scale < 1:  # bfloat16 rounds what it computes
        assert relative(assert_same(tmp_path / "a", x.float(), f, x_hat)(x.float()), x_hat) < 2e-6
        assert relative(assert_same(tmp_path / "b", x.float(), f, x_hat)(x.float()), x_hat) < 2e-6
    assert all(record.tensors[name].bitwise for name in record.tensors) == (scale == 1)


def test_a_scale_that_is_no_positive_number_is_refused(tmp_path):
    """Nothing can be divided by it."""
    extra = statistics(random(D), random(D).abs() + 0.1) | {"activation_global_scale": torch.tensor(0.0)}
    saved(tmp_path, made("BatchTopKSAE").state_dict() | extra, settings("BatchTopKSAE"))
    assert refusal(tmp_path) == f"{tmp_path}/ae.pt: activation_global_scale is 0; expected a positive number"
