"""`saereg train collect`: run a model over text and keep the activations of some sites, row by row the same tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from saereg.errors import UsageError
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.models.batched import padded
from saereg.registry.models.hooks import run_at
from saereg.registry.models.model import LoadedModel, ModelSource, load_model
from saereg.registry.models.sites import ResolvedSite, describe, probe, resolve
from saereg.schemas.collection import CollectedSite, Collection, Cursor
from saereg.schemas.site import DatasetRef
from saereg.trainers.collecting.buckets import Bucket, Limits, Plan, plan_of
from saereg.trainers.collecting.corpus import Corpus
from saereg.trainers.collecting.documents import Fields, Rendering
from saereg.trainers.collecting.packing import Batch, Cut, Framing, batches, framing
from saereg.trainers.collecting.resume import resumed
from saereg.trainers.collecting.shards import COLLECTION_FILE, ShardBuffer, remove_leftovers
from saereg.trainers.collecting.snapshots import PARAMETERS_FILE
from saereg.trainers.collecting.text import TextBuffer, write_pieces
from saereg.trainers.runs.device import device_of

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        model: local folder or repository id.
        corpus: names of corpora, see `saereg.trainers.collecting.corpus`.
        sites: specifications, see `saereg.registry.models.sites.resolve`.
        out: folder of the collection.
        rows: rows per site, one per token.
        context_size: tokens per context, special tokens included.
        batch_contexts: contexts per forward pass at most.
        dtype: type in which activations are stored.
        shard_rows: rows per shard; one shard per site is held in memory.
        device: `auto`, or a torch device.
        bos: whether to prepend BOS where the tokenizer does not.
        revision: commit of the model on the Hub.
        model_name: id of the model in the release; None: its own.
        model_license: licence of the weights.
        model_dtype: type in which the model runs.
        batch_tokens: tokens per forward pass at most, padding included; None: any number.
        buckets: (shortest, longest) of lengths that contexts are drawn from, instead of `context_size`.
        seed: seed of the lengths.
        columns: columns of rows that hold the text; the first that a row has is taken.
        rendering: how a conversation becomes text; None: there are none.
    """

    model: str
    corpus: Sequence[str]
    sites: Sequence[str]
    out: Path
    rows: int
    context_size: int = 128
    batch_contexts: int = 32
    dtype: Literal["float16", "float32"] = "float32"
    shard_rows: int = 65536
    device: str = "cpu"
    bos: bool = False
    revision: str | None = None
    model_name: str | None = None
    model_license: str | None = None
    model_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_tokens: int | None = None
    buckets: Sequence[Bucket] = ()
    seed: int = 0
    columns: Sequence[str] = ("text",)
    rendering: Rendering | None = None


def collect(config: CollectConfig, progress: Progress | None = None) -> Collection:
    """Collect activations; a run that was stopped goes on where it was, and ends with the same bytes.

    Args:
        config: what to collect.
        progress: called after each batch with (rows so far, rows in all).

    Returns:
        The finished collection, as `collection.json` in `config.out` says.

    Raises:
        MissingExtraError: without the `train` extra.
        UsageError: when the model, a site or the corpus cannot be used, the corpus is too short, a value does not fit
            the stored type, or the folder holds a collection of another configuration.
    """
    _check(config)
    corpus = Corpus(config.corpus, Fields(tuple(config.columns), config.rendering))
    run = _prepare(config, corpus.ref())
    if run.collection.cursor is None:
        return run.collection
    return _Collector(run, config).run(corpus, progress)


def _check(config: CollectConfig) -> None:
    if not config.sites:
        raise UsageError("no sites: give at least one, such as residual:2")
    if (config.out / PARAMETERS_FILE).exists():
        raise UsageError(f"{config.out} holds snapshots of a parameter ({PARAMETERS_FILE}); collect into a new folder")
    for name in ("rows", "batch_contexts", "batch_tokens", "shard_rows", "context_size"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise UsageError(f"{name.replace('_', ' ')} must be at least 1, not {value}")


@dataclass(frozen=True)
class _Run:
    """What is fixed during a run."""

    loaded: LoadedModel
    sites: tuple[ResolvedSite, ...]
    frame: Framing
    plan: Plan
    collection: Collection
    widths: dict[str, int] = field(default_factory=dict)


def _prepare(config: CollectConfig, dataset: DatasetRef) -> _Run:
    source = ModelSource(
        config.model,
        config.revision,
        config.model_name,
        config.model_license,
        config.model_dtype,
        device_of(config.device, "running a model"),
    )
    loaded = load_model(source)
    loaded.model.config.get_text_config().use_cache = False  # nothing is generated: keys and values need no memory
    frame = framing(loaded, Cut(config.context_size, config.buckets, config.seed), bos=config.bos)
    plan = plan_of(frame.policy, Limits(config.batch_contexts, config.batch_tokens))
    sites = tuple({site.key: site for site in (resolve(spec, loaded) for spec in config.sites)}.values())
    seen = probe(loaded, sites)
    widths = {site.key: int(seen.at(site).shape[-1]) for site in sites}
    fresh = Collection(
        model=loaded.ref.model_copy(update={"final_norm": seen.final_norm}),
        dataset=dataset,
        tokens=frame.policy,
        batch_contexts=config.batch_contexts,
        batch_tokens=config.batch_tokens,
        model_dtype=config.model_dtype,
        shard_rows=config.shard_rows,
        sites={s.key: CollectedSite(site=describe(s, loaded, seen), d_in=widths[s.key]) for s in sites},
        dtype=config.dtype,
        target_rows=config.rows,
        cursor=Cursor(),
        tool={name: metadata.version(name) for name in ("saereg", "torch", "transformers")},
    )
    found = resumed(fresh, Path(config.out))
    if not found.rows:
        found = found.model_copy(update={"texts": write_pieces(Path(config.out), loaded.tokenizer)})
    return _Run(loaded, sites, frame, plan, found, widths)


class _Collector:
    """A collection in progress."""

    def __init__(self, run: _Run, config: CollectConfig) -> None:
        self._run, self._out = run, Path(config.out)
        self._collection = run.collection
        rows = min(config.shard_rows, config.rows)
        self._buffer = ShardBuffer(self._out, run.widths, config.dtype, rows, run.collection.rows)
        self._text = TextBuffer(self._out) if run.collection.texts is not None else None

    def run(self, corpus: Corpus, progress: Progress | None) -> Collection:
        """Run the batches that are left."""
        begun, frame = self._collection, self._run.frame
        remove_leftovers(self._out)
        self._save(begun)
        texts = corpus.read(begun.dataset if begun.dataset.documents else None)
        start = begun.cursor or Cursor()
        skip = start.stored
        tokenizer = self._run.loaded.tokenizer
        for batch in batches(texts, tokenizer, frame, start=start, plan=self._run.plan):
            self._add(batch, corpus, skip)
            skip = 0
            if progress:
                progress(self._rows, begun.target_rows)
            if self._rows == begun.target_rows:
                return self._collection
        raise UsageError(
            f"the corpus ends after {self._rows} rows of {begun.target_rows}: ask for fewer rows, or add text"
        )

    @property
    def _rows(self) -> int:
        return self._buffer.finished + self._buffer.filled

    def _add(self, batch: Batch, corpus: Corpus, skip: int) -> None:
        """Run one batch and store its rows; `skip` of them are in finished shards already."""
        rows = self._forward(batch)
        available, first = len(next(iter(rows.values()))), self._rows - skip
        while skip < available and self._rows < self._collection.target_rows:
            count = min(available - skip, self._buffer.space, self._collection.target_rows - self._rows)
            self._buffer.add({key: tensor[skip : skip + count] for key, tensor in rows.items()})
            if self._text is not None:
                self._text.add(batch.contexts, self._run.frame.special, first, range(skip, skip + count))
            skip += count
            if self._buffer.space == 0 or self._rows == self._collection.target_rows:
                self._flush(batch.start.model_copy(update={"stored": skip}), corpus)

    def _forward(self, batch: Batch) -> "dict[str, Tensor]":
        """Return site key → activations (rows, width) of the tokens that are neither special nor padding."""
        import torch

        device = self._run.loaded.device
        ragged = padded([torch.tensor(context) for context in batch.contexts], range(len(batch.contexts)))
        present = ragged.present.bool()
        special = torch.tensor(sorted(self._run.frame.special), dtype=ragged.ids.dtype)
        keep = (present & ~torch.isin(ragged.ids, special)).to(device)
        inputs = {"input_ids": ragged.ids.to(device)}  # without padding, no mask: kernels without one are quicker
        if not bool(present.all()):
            inputs["attention_mask"] = ragged.present.to(device)
        found, _ = run_at(self._run.loaded.model, (site.place for site in self._run.sites), inputs, stop=True)
        return {site.key: found[site.place][keep].cpu() for site in self._run.sites}

    def _flush(self, cursor: Cursor, corpus: Corpus) -> None:
        text = self._collection.texts
        if text is not None and self._text is not None:
            shard = self._text.flush(len(text.shards), self._buffer.filled)
            text = text.model_copy(update={"shards": (*text.shards, shard)})
        shards = self._buffer.flush()
        sites = {
            key: site.model_copy(update={"shards": (*site.shards, shards[key])})
            for key, site in self._collection.sites.items()
        }
        complete = self._buffer.finished == self._collection.target_rows
        changed = {
            "sites": sites,
            "texts": text,
            "rows": self._buffer.finished,
            "dataset": corpus.ref(),
            "cursor": None if complete else cursor,
        }
        self._save(self._collection.model_copy(update=changed))

    def _save(self, collection: Collection) -> None:
        self._collection = collection
        write_text_atomically(self._out / COLLECTION_FILE, collection.text())
