"""From documents to contexts: documents are packed one behind the other, and cut where a context is full."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from saereg.errors import UsageError
from saereg.registry.models.model import LoadedModel
from saereg.schemas.collection import Cursor
from saereg.schemas.site import TokenPolicy
from saereg.trainers.collecting.buckets import Bucket, Plan
from saereg.trainers.collecting.documents import LONGEST_SLICE, Text


@dataclass(frozen=True)
class Framing:
    """What stands around and between the tokens of documents.

    Attributes:
        prefix: token ids before each context, e.g. [CLS] or BOS.
        suffix: token ids behind it, e.g. [SEP].
        separator: token id between documents; None for none.
        special: ids whose activations are dropped.
        policy: the same, for the release.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    separator: int | None
    special: frozenset[int]
    policy: TokenPolicy

    @property
    def around(self) -> int:
        """Special tokens of each context."""
        return len(self.prefix) + len(self.suffix)

    @property
    def content(self) -> int:
        """Tokens of text per context, where all are of one length."""
        return int(self.policy.context_size or 0) - self.around


@dataclass(frozen=True)
class Cut:
    """How long contexts are.

    Attributes:
        context_size: tokens of each, special tokens included, where there are no buckets.
        buckets: lengths they are drawn from instead.
        seed: seed of the draws.
    """

    context_size: int
    buckets: Sequence[Bucket] = ()
    seed: int = 0

    def check(self, loaded: LoadedModel, around: int) -> None:
        """Refuse contexts that are too long for the model, or hold nothing but special tokens.

        Raises:
            UsageError: naming the first such length.
        """
        longest = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
        for low, high in self.buckets or ((self.context_size, self.context_size),):
            what = f"bucket {low}:{high}" if self.buckets else f"context size {high}"
            if longest and high > longest:
                raise UsageError(f"{what}: {loaded.ref.id} has {longest} positions")
            if low <= around:
                raise UsageError(f"{what}: {around} of {'it' if low == high else low} are special tokens")

    def policy(self) -> dict[str, Any]:
        """Return what a token policy says of it."""
        if not self.buckets:
            return {"excluded": ("special",), "packing": "documents", "context_size": self.context_size}
        buckets = tuple((low, high) for low, high in self.buckets)
        return {"excluded": ("special", "pad"), "packing": "mixed", "buckets": buckets, "seed": self.seed}


def framing(loaded: LoadedModel, cut: Cut, *, bos: bool = False) -> Framing:
    """Learn from the tokenizer itself which special tokens it puts around a text.

    Args:
        loaded: the model.
        cut: how long contexts are.
        bos: whether to prepend BOS where the tokenizer does not.

    Raises:
        UsageError: when there is no BOS token, or a context is too short or too long.
    """
    tokenizer = loaded.tokenizer
    prefix, suffix = _around(tokenizer)
    if bos and not prefix:
        if tokenizer.bos_token_id is None:
            raise UsageError(f"{loaded.ref.id} has no BOS token; collect without it")
        prefix = (tokenizer.bos_token_id,)
    cut.check(loaded, len(prefix) + len(suffix))
    name, separator = _separator(tokenizer, suffix)
    starts = bool(prefix) and prefix[0] == tokenizer.bos_token_id
    policy = TokenPolicy(bos=starts, separator=name, **cut.policy())
    return Framing(prefix, suffix, separator, frozenset(tokenizer.all_special_ids), policy)


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:  # noqa: ANN401
    bare = tokenizer.encode("a", add_special_tokens=False)
    framed = tokenizer.encode("a", add_special_tokens=True)
    start = next((i for i in range(len(framed)) if framed[i : i + len(bare)] == bare), 0)
    return tuple(framed[:start]), tuple(framed[start + len(bare) :])


def _separator(tokenizer: Any, suffix: Sequence[int]) -> tuple[Literal["none", "bos", "eos", "sep"], int | None]:  # noqa: ANN401
    if suffix and tokenizer.sep_token_id == suffix[-1]:
        return "sep", tokenizer.sep_token_id
    if tokenizer.eos_token_id is not None:
        return "eos", tokenizer.eos_token_id
    return "none", None


@dataclass(frozen=True)
class Batch:
    """Contexts that go through the model together, of one length or of like lengths.

    Attributes:
        contexts: token ids, special tokens included.
        start: where its first token of text stands in the corpus.
    """

    contexts: list[list[int]]
    start: Cursor


def batches(
    texts: Iterator[Text],
    tokenizer: Any,  # noqa: ANN401
    frame: Framing,
    *,
    start: Cursor,
    size: int = 1,
    plan: Plan | None = None,
) -> Iterator[Batch]:
    """Yield batches of contexts; which tokens share a batch does not depend on where reading starts.

    Only the last batch may be smaller; tokens behind the last full context are dropped.

    Args:
        texts: all documents of the corpus, from the first.
        tokenizer: turns text into ids.
        frame: special tokens.
        start: beginning of a batch, as an earlier one was labelled.
        size: contexts per batch, where there is no plan.
        plan: how many contexts of which lengths are in a batch.
    """
    stream, number = _Stream(start), start.batch
    lengths = _contents(frame, size, plan, number)
    for document, text in enumerate(texts):
        if document < start.document:
            continue
        for ids in _encoded(tokenizer, text, frame.separator):
            stream.add(document, ids)
            while stream.length >= sum(lengths):
                yield _take(stream, lengths, frame, number)
                number += 1
                lengths = _contents(frame, size, plan, number)
    if full := [length for length, end in zip(lengths, accumulate(lengths), strict=True) if end <= stream.length]:
        yield _take(stream, full, frame, number)


def _contents(frame: Framing, size: int, plan: Plan | None, number: int) -> list[int]:
    """Return how many tokens of text each context of a batch has."""
    if plan is None:
        return [frame.content] * size
    return [length - frame.around for length in plan(number)]


def _take(stream: "_Stream", lengths: Sequence[int], frame: Framing, number: int) -> Batch:
    start = stream.start.model_copy(update={"batch": number})
    pieces = (stream.take(length) for length in lengths)
    return Batch([[*frame.prefix, *piece, *frame.suffix] for piece in pieces], start)


def _encoded(tokenizer: Any, text: Text, separator: int | None) -> Iterator[list[int]]:  # noqa: ANN401
    """Yield the tokens of a document, slice by slice, and the separator behind them."""
    for piece in _slices(text) if isinstance(text, str) else text:
        yield list(tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"])
    if separator is not None:
        yield [separator]


def _slices(text: str) -> Iterator[str]:
    for first in range(0, len(text), LONGEST_SLICE):
        yield text[first : first + LONGEST_SLICE]


class _Stream:
    """Tokens that were read but not used yet, with their place in the corpus."""

    def __init__(self, start: Cursor) -> None:
        self._from = start
        self._document, self._seen = start.document, 0
        self._parts: deque[tuple[int, int, list[int]]] = deque()
        self.length = 0

    @property
    def start(self) -> Cursor:
        """Place of the first token; there must be one."""
        document, token, _ = self._parts[0]
        return Cursor(document=document, token=token)

    def add(self, document: int, ids: list[int]) -> None:
        """Append the next tokens of a document; of the one that reading starts in, those behind the starting point."""
        if document != self._document:
            self._document, self._seen = document, 0
        begin, end = self._seen, self._seen + len(ids)
        self._seen = end
        first = max(begin, self._from.token if document == self._from.document else 0)
        if first < end:
            self._parts.append((document, first, ids[first - begin :]))
            self.length += end - first

    def take(self, count: int) -> list[int]:
        """Remove and return the first `count` tokens."""
        taken: list[int] = []
        while len(taken) < count:
            document, token, ids = self._parts.popleft()
            used = ids[: count - len(taken)]
            taken += used
            if len(used) < len(ids):
                self._parts.appendleft((document, token + len(used), ids[len(used) :]))
        self.length -= count
        return taken
