"""What a dictionary costs the language model, against transformers' own loss and the code of others."""

import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig
from sae_lens.evals import get_recons_loss
from sae_lens.load_model import HookedProxyLM
from sae_lens.training.activation_scaler import ActivationScaler

from saereg.errors import WeightsError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.kernels.plain import PlainRunner
from saereg.registry.metrics import losses
from saereg.registry.metrics.evaluate import Subject, measure
from saereg.registry.metrics.losses import LossSettings, measure_losses, total_losses
from saereg.schemas.metrics import Claim
from tests.registry.factories import checkpoint, config, crosscoder_config
from tests.registry.metrics.token_data import BOS, contexts_of, manifest_of, token_rows

D_IN, D_SAE = 16, 24


def runner_of(seed: int = 0, **settings) -> PlainRunner:
    return PlainRunner(Dictionary(checkpoint(config("standard", d_in=D_IN, d_sae=D_SAE, **settings), seed)))


def identity() -> PlainRunner:
    """A dictionary that gives back what it reads: ReLU(x) − ReLU(−x)."""
    eye = torch.eye(D_IN)
    zero = {"b_enc": torch.zeros(2 * D_IN), "b_dec": torch.zeros(D_IN)}
    weights = {"W_enc": torch.cat([eye, -eye], 1), "W_dec": torch.cat([eye, -eye]), **zero}
    return PlainRunner(Dictionary(Checkpoint(config("standard", d_in=D_IN, d_sae=2 * D_IN), weights)))


def subject(rows, runner, claims=()) -> Subject:
    manifest = manifest_of({"rows": rows.rows, "site": "neox"})
    return Subject(runner, rows, "held-out", rows.evaluation, manifest, claims)


def measured(rows, runner, **settings):
    found = measure_losses(runner, rows, subject(rows, runner).occasion, **settings)
    return {(m.metric, m.batch_rows): m for m in found}


def by_hand(rows, contexts, runner, module, fill=None) -> list[tuple[float, float, float]]:
    """Return (clean, spliced, ablated) sums of every context by itself, with a hook and transformers' own loss."""
    model = rows.model(rows.places[0].model).model

    def loss(ids, change):
        def hook(_module, _arguments, output):
            x = output[0] if isinstance(output, tuple) else output
            kept = (ids != BOS)[..., None] if rows.excluded else torch.ones_like(ids, dtype=torch.bool)[..., None]
            new = torch.where(kept, change(x), x)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = model.get_submodule(module).register_forward_hook(hook)
        with torch.no_grad():
            value = model(input_ids=ids, labels=ids).loss.double() * (ids.shape[1] - 1)
        handle.remove()
        return float(value)

    fill = torch.zeros(D_IN) if fill is None else fill
    changes = (lambda x: x, lambda x: runner.run(x[0]).x_hat[None], lambda x: fill.to(x).expand_as(x))
    inputs = [torch.tensor([ids]) for ids in contexts if len(ids) > 1]
    return [tuple(loss(ids, change) for change in changes) for ids in inputs]


@pytest.mark.parametrize(("kind", "module"), [("neox", "gpt_neox.layers.1"), ("gemma", "model.layers.1")])
@pytest.mark.parametrize("dropped", [(), (BOS,)])
def test_losses_are_those_of_transformers_with_the_activations_replaced(kind, module, dropped, tiny, tmp_path):
    """Token-weighted over all contexts; a position that is left out (BOS) keeps its activation in every pass."""
    contexts, runner = contexts_of(), runner_of()
    rows = token_rows(tmp_path, tiny, dropped=dropped, site=kind)
    sums = torch.tensor(by_hand(rows, contexts, runner, module), dtype=torch.float64).sum(0)
    clean, spliced, ablated = (sums / sum(len(ids) - 1 for ids in contexts)).tolist()
    found = measured(rows, runner)

    assert found["ce_clean", None].value == pytest.approx(clean, rel=1e-6)
    assert found["ce_spliced", None].value == pytest.approx(spliced, rel=1e-6)
    assert found["ce_ablated", None].value == pytest.approx(ablated, rel=1e-6)
    recovered = found["ce_recovered", None]
    assert recovered.value == pytest.approx((ablated - spliced) / (ablated - clean), abs=recovered.tolerance)
    assert recovered.tokens == sum(len(ids) - 1 for ids in contexts)
    assert (recovered.rows, recovered.ablation) == (rows.rows, "zero")
    assert found["ce_clean", None].ablation is None
    assert recovered.tolerance < 1e-2


def test_the_mean_row_may_stand_in_the_place_of_zeros(tiny, tmp_path):
    """Another ablated loss, and so another share; it is said which."""
    runner, rows = runner_of(), token_rows(tmp_path, tiny)
    fill = rows.read(0, rows.rows)[0].double().mean(0)
    sums = torch.tensor(by_hand(rows, contexts_of(), runner, "gpt_neox.layers.1", fill), dtype=torch.float64).sum(0)
    mean, zero = measured(rows, runner, ablation="mean"), measured(rows, runner)

    assert mean["ce_ablated", None].value == pytest.approx(float(sums[2]) / mean["ce_ablated", None].tokens, rel=1e-6)
    assert mean["ce_ablated", None].ablation == mean["ce_recovered", None].ablation == "mean"
    assert mean["ce_ablated", None].value != pytest.approx(zero["ce_ablated", None].value, rel=1e-3)
    assert mean["ce_spliced", None].value == zero["ce_spliced", None].value


def test_a_perfect_dictionary_recovers_everything_and_one_of_zeros_nothing(tiny, tmp_path):
    """The two ends of the scale."""
    rows = token_rows(tmp_path, tiny)
    nothing = Dictionary(checkpoint(config("standard", d_in=D_IN, d_sae=D_SAE)))
    zeros = {name: torch.zeros_like(tensor) for name, tensor in nothing.weights.items()}

    assert measured(rows, identity())["ce_recovered", None].value == pytest.approx(1.0, abs=1e-5)
    nothing = PlainRunner(Dictionary(Checkpoint(nothing.cfg, zeros)))
    assert measured(rows, nothing)["ce_recovered", None].value == pytest.approx(0.0, abs=1e-5)


def test_losses_are_those_of_saelens(tiny, tmp_path):
    """Its `get_recons_loss` on the same model, dictionary and tokens: contexts of one length, as it needs them."""
    contexts, runner = contexts_of([12] * 6), runner_of()
    rows = token_rows(tmp_path, tiny, contexts)
    sae = StandardSAE(StandardSAEConfig(d_in=D_IN, d_sae=D_SAE))
    sae.load_state_dict(dict(runner.dictionary.weights))
    hooked = HookedProxyLM(rows.model("neox").model, tokenizer=None, hook_names=["gpt_neox.layers.1"])
    with torch.no_grad():
        theirs = get_recons_loss(
            sae, hooked, ActivationScaler(), torch.tensor(contexts), compute_kl=False, compute_ce_loss=True,
            hook_name="gpt_neox.layers.1",
        )  # fmt: skip
    for module in rows.model("neox").model.modules():
        module._forward_hooks.clear()
    found = measured(rows, runner)

    assert found["ce_clean", None].value == pytest.approx(float(theirs["ce_loss_without_sae"].mean()), rel=1e-6)
    assert found["ce_spliced", None].value == pytest.approx(float(theirs["ce_loss_with_sae"].mean()), rel=1e-6)
    assert found["ce_ablated", None].value == pytest.approx(float(theirs["ce_loss_with_ablation"].mean()), rel=1e-6)


@pytest.mark.parametrize("size", [1, 5, 12, 100])
def test_the_mean_over_batches_is_that_of_dictionary_learning(size, tiny, tmp_path):
    """Of (loss_reconstructed − loss_zero) / (loss_original − loss_zero) of each batch, the short one in full."""
    contexts = contexts_of([3, 40, 9, 17, 18, 9, 40, 2, 33, 12, 26, 7])
    runner, rows = runner_of(), token_rows(tmp_path, tiny, contexts)
    each = by_hand(rows, contexts, runner, "gpt_neox.layers.1")
    batches = [[sum(part) for part in zip(*each[i : i + size], strict=True)] for i in range(0, len(each), size)]
    expected = sum((spliced - zero) / (clean - zero) for clean, spliced, zero in batches) / len(batches)
    found = measured(rows, runner, batch_contexts=[size])["ce_recovered_batch_mean", size]

    assert found.value == pytest.approx(expected, abs=found.tolerance)
    assert found.value == pytest.approx(expected, rel=1e-4)


def test_sums_merge_to_those_of_everything(tiny, tmp_path, monkeypatch):
    """Spans end at batches of every size, so who works on which does not matter; a model of another type too."""
    runner, rows = runner_of(), token_rows(tmp_path, tiny, dropped=(BOS,))
    settings = LossSettings(batch_contexts=(2, 3))
    whole = total_losses(runner, rows, settings)
    monkeypatch.setattr(losses, "SPAN_CONTEXTS", 1)
    assert [count for _, count in losses.spans(rows.file.contexts, settings)] == [6, 6]
    parts = total_losses(runner, rows, settings)

    assert parts.tokens == whole.tokens
    for name in ("clean", "spliced", "ablated"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-6)
    for size in (2, 3):
        assert parts.batches[size].batches == whole.batches[size].batches
        assert parts.batches[size].ratios == pytest.approx(whole.batches[size].ratios, rel=1e-4)


def test_measuring_on_tokens_adds_the_losses_and_on_nothing_else(tiny, tmp_path):
    """With what a claim names, in the batch that it names."""
    rows = token_rows(tmp_path, tiny)
    claim = Claim(metric="ce_recovered_batch_mean", value=0.5, evaluation="held-out", batch_rows=4)
    found = measure(subject(rows, runner_of(), (claim,)))
    names = [(m.metric, m.batch_rows) for m in found if m.metric.startswith("ce_")]

    assert names == [("ce_recovered", None), ("ce_clean", None), ("ce_spliced", None), ("ce_ablated", None),
                     ("ce_recovered_batch_mean", 4)]  # fmt: skip
    assert {m.metric for m in found} >= {"explained_variance", "l0", "dead_fraction"}
    assert {m.data_sha256 for m in found} == {rows.digest()}
    assert all(m.tokens == rows.rows for m in found if m.metric == "l0")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"site": "bert"}, "no causal language-model head"),
        ({"keys": ["neox", "gemma"]}, "a crosscoder reconstructs several sites"),
        ({"contexts": [[5], [6]]}, "every context is a single token"),
    ],
)
def test_where_there_is_no_loss_each_number_is_null_and_says_why(settings, reason, tiny, tmp_path):
    """Never zero, and never left out."""
    rows = token_rows(tmp_path, tiny, **settings)
    found = measured(rows, runner_of(), batch_contexts=[2])
    assert len(found) == 5
    assert all(m.value is None and reason in m.reason for m in found.values())


def test_where_ablation_changes_nothing_there_is_no_share(tiny, tmp_path):
    """The last context ends with the only token that is a row, and what stands there predicts nothing."""
    rows = token_rows(tmp_path, tiny, [[BOS, BOS, 7], [BOS, 9]], dropped=(BOS,))
    found = measured(rows, runner_of(), batch_contexts=[1])

    assert found["ce_clean", None].value == found["ce_spliced", None].value == found["ce_ablated", None].value
    assert found["ce_recovered", None].value is None
    assert "ablation leaves the loss as it is" in found["ce_recovered", None].reason
    assert "of some batch" in found["ce_recovered_batch_mean", 1].reason


def test_a_transcoder_is_put_where_it_predicts(tiny, tmp_path):
    """It reads the MLP's input; its prediction stands in the place of the MLP's output."""
    sites = {
        "in": {"model": "neox", "module": "layers.1.mlp", "io": "input"},
        "out": {"model": "neox", "module": "layers.1.mlp"},
    }
    rows = token_rows(tmp_path, tiny, sites=sites, site="in", site_out="out")
    settings = {"d_out": D_IN, "apply_b_dec_to_input": False}
    runner = PlainRunner(Dictionary(checkpoint(config("transcoder", d_in=D_IN, d_sae=D_SAE, **settings))))
    model = rows.model("neox").model
    mlp, total = model.gpt_neox.layers[1].mlp, 0.0
    handle = mlp.register_forward_hook(lambda _m, args, _out: runner.run(args[0][0]).x_hat[None])
    for ids in (torch.tensor([ids]) for ids in contexts_of() if len(ids) > 1):
        total += float(model(input_ids=ids, labels=ids).loss.double() * (ids.shape[1] - 1))
    handle.remove()

    spliced = measured(rows, runner)["ce_spliced", None]
    assert spliced.value == pytest.approx(total / spliced.tokens, rel=1e-6)


def test_a_dictionary_of_another_width_is_refused_by_name(tiny, tmp_path):
    """In one line."""
    rows = token_rows(tmp_path, tiny)
    with pytest.raises(WeightsError, match=r"tokens.safetensors: x has width 16, the dictionary reads d_in = 6"):
        total_losses(PlainRunner(Dictionary(checkpoint(config("standard")))), rows, LossSettings())
    crosscoder = PlainRunner(Dictionary(checkpoint(crosscoder_config("topk"))))
    with pytest.raises(WeightsError, match="the crosscoder reads"):
        total_losses(crosscoder, rows, LossSettings())
