"""A definition of others gives the digits of the code that it is from, on the same rows in the same batches."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from dictionary_learning.dictionary import AutoEncoder
from dictionary_learning.evaluation import evaluate
from sae_lens import SAE, StandardSAEConfig
from sae_lens.evals import get_sparsity_and_variance_metrics
from sae_lens.training.activation_scaler import ActivationScaler
from sparsify import SparseCoder, SparseCoderConfig
from transformer_lens.hook_points import HookedRootModule, HookPoint

from tests.registry.metrics import oracles
from tests.registry.metrics.oracles import Data, data

ROWS, SIZES = 60, [15, 16, 60]
"""Rows, and batch sizes: whole batches, a short last one, all at once."""


def filled(module, scale: float = 0.4):
    """A dictionary with weights that hide no mistake."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return module


def single(expected: float):
    """Peers add in float32."""
    return pytest.approx(expected, rel=3e-5, abs=3e-5)


class Table(HookedRootModule):
    """A model whose activation at `hook` is row t for token t."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows, self.hook = rows, HookPoint()
        self.setup()

    def forward(
        self, tokens: torch.Tensor, stop_at_layer: int | None = None, prepend_bos: bool = False
    ) -> torch.Tensor:
        return self.hook(self.rows[tokens])


@pytest.mark.parametrize("size", SIZES)
def test_saelens(size):
    """Its evals, run over a model that returns our rows: the legacy key, the mean error, the L0."""
    x = data(0, ROWS).x
    sae = filled(SAE.from_dict(StandardSAEConfig(d_in=oracles.D, d_sae=oracles.F, device="cpu").to_dict()))
    sae.cfg.metadata.hook_name = "hook"
    batches = iter(torch.arange(ROWS).split(size))
    store = SimpleNamespace(get_batch_tokens=lambda prompts: next(batches).unsqueeze(0))
    wanted = {"compute_l2_norms": False, "compute_featurewise_density_statistics": False}

    with torch.no_grad():
        theirs, _ = get_sparsity_and_variance_metrics(
            sae, Table(x), store, ActivationScaler(), math.ceil(ROWS / size),
            compute_sparsity_metrics=True, compute_variance_metrics=True, eval_batch_size_prompts=1, model_kwargs={},
            **wanted,
        )  # fmt: skip
        ours = Data(x, sae(x), sae.encode(x))

    assert ours.value("explained_variance").value == single(theirs["explained_variance"])
    assert ours.value("explained_variance_legacy_rowmean", size).value == single(theirs["explained_variance_legacy"])
    assert ours.value("mse_per_row").value == single(theirs["mse"])
    assert ours.value("l0").value == single(theirs["l0"])
    assert ours.value("l1_norm").value == single(theirs["l1"])


@pytest.mark.parametrize("size", SIZES)
def test_saebench_and_older_saelens(size):
    """Written again from `evals/core/main.py` (8042bb3) in float32; neither is installed here."""
    what = data(1, ROWS)
    what = Data(what.x / 30, what.x_hat / 30, what.f)
    theirs = oracles.uncentred_by_saelens(what.batches(size), torch.float32)
    errors = [(x - y).pow(2).sum(-1) / len(x) for x, y, _ in what.batches(size)]

    assert what.value("ev_saelens_uncentred_batch_mean", size).value == single(theirs)
    assert (what.value("ev_saelens_uncentred").value == single(theirs)) == (size != 16)
    assert what.value("mse_row_over_batch", size).value == single(torch.cat(errors).mean().item())


@pytest.mark.parametrize("size", SIZES)
def test_dictionary_learning(size):
    """Its `evaluate`, over a generator of batches."""
    x = data(2, ROWS).x
    made = filled(AutoEncoder(oracles.D, oracles.F))

    theirs = evaluate(made, iter(x.split(size)), n_batches=math.ceil(ROWS / size))
    with torch.no_grad():
        x_hat, f = made(x, output_features=True)

    ours = Data(x, x_hat, f)
    assert ours.value("fve_centred_residual", size).value == single(theirs["frac_variance_explained"])
    assert ours.value("l0_batch_mean", size).value == single(theirs["l0"])
    assert (ours.value("l1_norm").value == single(theirs["l1_loss"])) == (size != 16)  # a short batch counts in full
    assert ours.value("dead_fraction").value == single(1 - theirs["frac_alive"])


def test_science_of_finetuning():
    """Written again from its `training.py` (173f7fa): each layer, and all of them."""
    what = data(3, ROWS, sources=oracles.K)
    parts = [(x.var(0).sum(1), (x - y).var(0).sum(1)) for x, y, _ in what.batches(16)]

    found = what.value("fve_centred_residual", 16)
    assert found.value == single(sum(1 - float(r.sum() / v.sum()) for v, r in parts) / len(parts))
    assert found.per_source == single(torch.stack([1 - r / v for v, r in parts]).mean(0).tolist())


@pytest.mark.parametrize("size", SIZES)
def test_sparsify(size):
    """The `fvu` that its module returns, averaged as its trainer does."""
    x = data(4, ROWS).x
    made = filled(SparseCoder(oracles.D, SparseCoderConfig(num_latents=oracles.F, k=3)))

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for CUDA
        out = [made(batch) for batch in x.split(size)]
    f = torch.zeros(ROWS, oracles.F)
    f.scatter_(1, torch.cat([o.latent_indices for o in out]), torch.cat([o.latent_acts for o in out]))

    ours = Data(x, torch.cat([o.sae_out for o in out]), f)
    assert ours.value("fvu_batch_mean", size).value == single(sum(float(o.fvu) for o in out) / len(out))


@pytest.mark.parametrize("sources", [0, oracles.K])
@pytest.mark.parametrize("size", SIZES)
def test_llamascopium(sources, size):
    """Its metric, updated batch by batch; for a crosscoder it is the mean of the sources."""
    pytest.importorskip("llamascopium")  # it has no build for Python 3.13 and newer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for CUDA when it is imported
        from llamascopium.metrics import ExplainedVarianceMetric
        from llamascopium.models.crosscoder import CrosscoderSpecs
        from llamascopium.utils.tensor_specs import TensorSpecs
    what = data(5, ROWS, sources=sources)
    metric = ExplainedVarianceMetric(SimpleNamespace(specs=CrosscoderSpecs if sources else TensorSpecs))
    for x, x_hat in zip(what.x.split(size), what.x_hat.split(size), strict=True):
        metric.update({"label": x, "reconstructed": x_hat})

    theirs = metric.compute()

    found = what.value("explained_variance_batch_mean", size)
    ours = sum(found.per_source) / sources if sources else found.value
    assert ours == single(theirs["metrics/explained_variance"])
    if ROWS % size == 0:  # it averages batches, SAELens rows
        found = what.value("explained_variance_legacy_rowmean", size)
        ours = sum(found.per_source) / sources if sources else found.value
        assert ours == single(theirs["metrics/explained_variance_legacy"])


def test_ckkissane_crosscoder():
    """Written again from its `crosscoder.py` (e221e8d): both models together, A and B."""
    what = data(6, ROWS, sources=2)
    x, y = what.x, what.x_hat
    total = 1 - (x - y).pow(2).sum((1, 2)) / (x - x.mean(0)).pow(2).sum((1, 2))
    each = [1 - (x - y)[:, k].pow(2).sum(-1) / (x - x.mean(0))[:, k].pow(2).sum(-1) for k in (0, 1)]

    found = what.value("explained_variance_legacy_rowmean", ROWS)
    assert found.value == single(float(total.mean()))
    assert found.per_source == single([float(one.mean()) for one in each])


@pytest.mark.parametrize("size", SIZES)
def test_mlsae_and_the_recompute_script_of_crosscoders(size):
    """Written again from `layerwise_fvu.py` (ba90c51), layer by layer; the script takes all of them at once."""
    what = data(7, ROWS, sources=oracles.K)
    layers = [(x.transpose(0, 1), y.transpose(0, 1)) for x, y, _ in what.batches(size)]
    errors = sum((y - x).pow(2).mean((1, 2)) for x, y in layers)
    variances = sum(x.var((1, 2)) for x, _ in layers)

    found = what.value("fve_scalar_var", size)
    assert found.per_source == single((1 - errors / variances).tolist())
    errors = sum((y - x).pow(2).mean() for x, y in layers)
    assert found.value == single(float(1 - errors / sum(x.var() for x, _ in layers)))


def test_openai_and_olmo():
    """Written again from `loss.py` (4965b94): each row relative to itself."""
    what = data(8, ROWS)
    theirs = (((what.x_hat - what.x) ** 2).mean(dim=1) / (what.x**2).mean(dim=1)).mean()

    assert what.value("nmse_uncentred_row").value == single(float(theirs))


def test_openai_kernels():
    """`normalized_mse` of its `kernels.py`: what sparsify calls fvu."""
    what = data(9, ROWS)
    x, y = what.x, what.x_hat
    theirs = (y - x).pow(2).mean() / (x.mean(0)[None, :].broadcast_to(x.shape) - x).pow(2).mean()

    assert what.value("fvu_batch_mean", ROWS).value == single(float(theirs))
