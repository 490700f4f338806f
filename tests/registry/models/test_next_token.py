"""Losses are those of transformers, however the logits are computed."""

import pytest
import torch

from saereg.errors import UsageError
from saereg.registry.models import next_token
from saereg.registry.models.batched import padded_batches
from saereg.registry.models.hooks import Place
from saereg.registry.models.model import ModelSource, load_model
from saereg.registry.models.next_token import NextToken
from tests.registry.models.test_batched import LAYER, contexts_of


@pytest.mark.parametrize(("kind", "head"), [("neox", Place("lm_head", "input")), ("gemma", None)])
def test_losses_are_those_of_transformers(kind, head, tiny, monkeypatch):
    """Of a model whose logits come from its last map they are computed in slices; where they are capped behind it,
    all at once. Here slices are of 5 tokens, so that contexts are cut in the middle."""
    loaded = load_model(ModelSource(str(tiny(kind)), tokenizer=False))
    model, place = NextToken.of(loaded), Place(LAYER[kind])
    assert model.head == head
    monkeypatch.setattr(next_token, "SLICE_BYTES", 5 * 64 * 4)
    contexts = contexts_of([3, 40, 1, 17, 18, 2])

    for batch in padded_batches(contexts, 64):
        sums, held = model.losses(batch, (place,))
        assert sums.dtype == torch.float64
        assert held[place].shape == (*batch.ids.shape, 16)
        for row, at in enumerate(batch.where):
            ids = contexts[at][None]
            expected = loaded.model(input_ids=ids, labels=ids).loss * (ids.shape[1] - 1) if ids.shape[1] > 1 else 0.0
            assert float(sums[row]) == pytest.approx(float(expected), rel=1e-5, abs=1e-9)


def test_batches_are_small_where_logits_come_all_at_once(tiny, monkeypatch):
    """So that they fit the memory that is meant for them."""
    monkeypatch.setattr(next_token, "WHOLE_BYTES", 100 * 64 * 4)
    assert NextToken.of(load_model(ModelSource(str(tiny("gemma")), tokenizer=False))).batch_tokens == 100


def test_an_encoder_has_no_next_token(tiny):
    """It is said in words."""
    with pytest.raises(UsageError, match="no causal language-model head"):
        NextToken.of(load_model(ModelSource(str(tiny("bert")), tokenizer=False)))
