"""Which tokens share a batch does not depend on where reading starts."""

import pytest

from saereg.schemas.collection import Cursor
from saereg.schemas.site import TokenPolicy
from saereg.trainers.collecting.packing import Framing, batches


def letters(text, **_):
    return {"input_ids": [ord(letter) for letter in text]}


@pytest.mark.parametrize("separator", [None, 7])
def test_reading_from_any_batch_gives_the_rest(separator):
    texts = ["abcde", "", "f" * 50, "ghi", "", "", "jklmnopq" * 4, "r"]
    frame = Framing((1,), (2,), separator, frozenset({1, 2}), TokenPolicy(bos=False, context_size=6))
    whole = list(batches(iter(texts), letters, frame, size=3, start=Cursor()))
    assert len(whole) > 5
    for number, batch in enumerate(whole):
        again = list(batches(iter(texts), letters, frame, size=3, start=batch.start))
        assert again == whole[number:]


def test_contexts_hold_every_token_once_and_nothing_but_full_ones():
    frame = Framing((1,), (), 0, frozenset(), TokenPolicy(bos=True, context_size=5))
    found = list(batches(iter(["abc", "defgh", "ij"]), letters, frame, size=2, start=Cursor()))
    contexts = [context for batch in found for context in batch.contexts]
    assert all(context[0] == 1 and len(context) == 5 for context in contexts)
    tokens = [token for context in contexts for token in context[1:]]
    assert tokens == [*map(ord, "abc"), 0, *map(ord, "defgh"), 0, *map(ord, "ij")]
    assert [len(batch.contexts) for batch in found] == [2, 1]


def test_a_context_is_as_long_as_it_says():
    policy = TokenPolicy(bos=False, context_size=8)
    assert Framing((1,), (2,), None, frozenset(), policy).content == 6
