"""Contexts of any lengths give what each gives alone, and in their own order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saereg.errors import UsageError
from saereg.registry.models.batched import at_places, padded_batches
from saereg.registry.models.hooks import Place, replaced, run_at
from saereg.registry.models.model import ModelSource, load_model

LAYER = {
    "neox": "gpt_neox.layers.1",
    "bert": "encoder.layer.1",
    "roberta": "encoder.layer.1",
    "gemma": "model.layers.1",
}
CHILD = {"neox": "attention", "bert": "attention", "roberta": "attention", "gemma": "self_attn"}


def contexts_of(lengths, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 60, (length,), generator=generator) for length in lengths]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_every_context_is_in_one_batch_and_batches_are_bounded(lengths, most):
    """Shorter ones first, so that a batch holds like lengths; only a single context may exceed the bound."""
    contexts = contexts_of(lengths)
    found = list(padded_batches(contexts, most))

    assert sorted(at for batch in found for at in batch.where) == list(range(len(lengths)))
    assert [lengths[at] for batch in found for at in batch.where] == sorted(lengths)
    for batch in found:
        assert len(batch.where) == 1 or batch.ids.numel() <= most
        for row, at in enumerate(batch.where):
            length = lengths[at]
            assert torch.equal(batch.ids[row, :length], contexts[at])
            assert batch.present[row].tolist() == [1] * length + [0] * (batch.ids.shape[1] - length)
            assert (batch.ids[row, length:] == 0).all()


@pytest.mark.parametrize("kind", list(LAYER))
def test_batched_rows_are_those_of_each_context_alone(kind, tiny):
    """In decoders (one with a sliding window) and encoders (one that counts positions from the padding), at outputs
    and inputs, where the input of a module is a positional argument and where it is a named one."""
    loaded = load_model(ModelSource(str(tiny(kind)), tokenizer=False))
    contexts = contexts_of([3, 40, 1, 17, 17, 5, 40, 2])
    layer, child = LAYER[kind], f"{LAYER[kind]}.{CHILD[kind]}"
    places = (Place(layer), Place(layer, "input"), Place(child), Place(child, "input"))
    found = at_places(loaded, places, contexts, 64)

    for context, held in zip(contexts, found, strict=True):
        alone, _ = run_at(loaded.model, places, {"input_ids": context[None]})
        for place in places:
            assert held[place].shape == (len(context), 16)
            assert torch.allclose(held[place], alone[place][0], atol=2e-5)
    assert not torch.equal(found[1][places[0]], found[1][places[1]])


@pytest.mark.parametrize("io", ["output", "input"])
@pytest.mark.parametrize("module", ["gpt_neox.layers.1", "gpt_neox.layers.1.attention"])
def test_a_tensor_in_the_place_of_another_is_what_the_rest_reads(module, io, tiny):
    """Of itself it changes nothing; of zeros it changes what comes after, and only while the block runs."""
    loaded = load_model(ModelSource(str(tiny("neox")), tokenizer=False))
    inputs = {"input_ids": contexts_of([9])[0][None]}
    place, before, behind = Place(module, io), Place("gpt_neox.layers.0"), Place("gpt_neox.layers.2")
    clean, logits = run_at(loaded.model, (place, before, behind), inputs)
    with replaced(loaded.model, place, clean[place]):
        assert torch.equal(loaded.model(**inputs).logits, logits.logits)
    with replaced(loaded.model, place, torch.zeros_like(clean[place])):
        other, _ = run_at(loaded.model, (before, behind), inputs)

    assert torch.equal(other[before], clean[before])
    assert not torch.allclose(other[behind], clean[behind], atol=1e-3)
    assert torch.equal(loaded.model(**inputs).logits, logits.logits)


def test_a_module_that_gives_or_reads_no_tensor_is_named(tiny):
    """In one line, not as an error of torch."""
    loaded = load_model(ModelSource(str(tiny("neox")), tokenizer=False))
    with pytest.raises(UsageError, match="'gpt_neox' gives BaseModelOutputWithPast, not a tensor"):
        run_at(loaded.model, (Place("gpt_neox"),), {"input_ids": contexts_of([4])[0][None]})
    with pytest.raises(UsageError, match=r"'gpt_neox\.layers' is not run"):
        run_at(loaded.model, (Place("gpt_neox.layers"),), {"input_ids": contexts_of([4])[0][None]})
