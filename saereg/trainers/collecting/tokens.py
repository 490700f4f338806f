"""`saereg train tokens`: text, cut into contexts as for collecting, kept as token ids for an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from saereg.errors import UsageError
from saereg.registry.metrics.sources.contexts import write_contexts
from saereg.registry.models.model import ModelSource, load_model
from saereg.schemas.collection import Cursor
from saereg.trainers.collecting.buckets import Bucket, Limits, plan_of
from saereg.trainers.collecting.corpus import Corpus
from saereg.trainers.collecting.documents import Fields, Rendering
from saereg.trainers.collecting.packing import Cut, batches, framing

SPECIAL = ("bos", "eos", "sep", "cls", "pad", "unk", "mask")
"""Tokens that a tokenizer has by name; `special` is all that it has, `first` the first of each context."""


@dataclass(frozen=True)
class TokensConfig:
    """What to keep.

    Attributes:
        model: local folder or repository id; only its tokenizer and configuration are loaded.
        corpus: names of corpora, see `saereg.trainers.collecting.corpus`.
        out: file to write.
        contexts: how many.
        context_size: tokens per context, special tokens included.
        bos: whether to prepend BOS where the tokenizer does not.
        excluded: names of tokens that become no rows; `none` for no token.
        revision: commit of the model on the Hub.
        buckets: (shortest, longest) of lengths that contexts are drawn from, instead of `context_size`.
        seed: seed of the lengths.
        columns: columns of rows that hold the text; the first that a row has is taken.
        rendering: how a conversation becomes text; None: there are none.
    """

    model: str
    corpus: Sequence[str]
    out: Path
    contexts: int
    context_size: int = 128
    bos: bool = False
    excluded: Sequence[str] = ("special",)
    revision: str | None = None
    buckets: Sequence[Bucket] = ()
    seed: int = 0
    columns: Sequence[str] = ("text",)
    rendering: Rendering | None = None


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        rows: tokens that become rows.
        tokens: all tokens.
        excluded: names of those left out, as a manifest has them; none where nothing was left out.
    """

    rows: int
    tokens: int
    excluded: tuple[str, ...]

    def evaluation(self, name: str) -> dict[str, object]:
        """Return what a manifest says of the file, but for its site."""
        excluded = {"excluded": list(self.excluded)} if self.excluded else {}
        return {"source": "tokens", "path": f"evaluation/{name}", "rows": self.rows, "site": "SITE"} | excluded


def write_tokens(config: TokensConfig) -> Written:
    """Write the first contexts of a corpus; tokens behind them are dropped.

    Raises:
        MissingExtraError: without the `train` extra.
        UsageError: when the tokenizer or the corpus cannot be used, or the corpus is too short.
        OSError: when the file cannot be written.
    """
    loaded = load_model(ModelSource(config.model, config.revision, name=config.model, weights=False))
    frame = framing(loaded, Cut(config.context_size, config.buckets, config.seed), bos=config.bos)
    dropped = excluded_ids(loaded.tokenizer, config.excluded)
    texts = Corpus(config.corpus, Fields(tuple(config.columns), config.rendering)).read()
    found = batches(texts, loaded.tokenizer, frame, start=Cursor(), plan=plan_of(frame.policy, Limits(1)))
    contexts = [batch.contexts[0] for batch in islice(found, config.contexts)]
    if len(contexts) < config.contexts:
        raise UsageError(
            f"the corpus ends after {len(contexts)} contexts of {config.contexts}: ask for fewer, or add text"
        )
    rows = write_contexts(config.out, contexts, dropped=dropped, first_dropped="first" in config.excluded)
    tokens = sum(map(len, contexts))
    return Written(rows, tokens, tuple(config.excluded) if rows < tokens else ())


def excluded_ids(tokenizer: Any, names: Sequence[str]) -> frozenset[int]:  # noqa: ANN401
    """Return the ids of named tokens.

    Raises:
        UsageError: when there is no such name, or the tokenizer has no such token.
    """
    found: set[int] = set()
    for name in names:
        if name == "special":
            found |= set(tokenizer.all_special_ids)
        elif name in SPECIAL:
            token = getattr(tokenizer, f"{name}_token_id")
            if token is None:
                raise UsageError(f"the tokenizer has no token {name!r} to leave out")
            found.add(token)
        elif name not in ("first", "none"):
            raise UsageError(f"token {name!r}: write {', '.join(SPECIAL)}, special, first or none")
    return frozenset(found)
