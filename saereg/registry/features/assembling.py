"""A feature view put together: what was counted, seen, read and read out of chosen latents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from saereg import __version__
from saereg.errors import DataUnavailableError
from saereg.registry.features.choosing import Choice
from saereg.registry.features.looking import DIGITS, Close, activations_at, look
from saereg.registry.features.readout import Readout, logits, model_of
from saereg.registry.features.text import Text, text_of
from saereg.registry.metrics.sources.tokenizers import pieces_of_model
from saereg.registry.models.pieces import shown_all
from saereg.registry.semantics import semantics_of
from saereg.schemas.features import ActivationHistogram, Context, FeatureView, LatentView, ReadoutEntry

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.features.counting import Encoded
    from saereg.registry.features.latents import Latents
    from saereg.registry.features.opening import Means, Opened
    from saereg.registry.metrics.sources.texts import Window


@dataclass(frozen=True, eq=False)
class Subject:
    """An artifact whose latents were counted.

    Attributes:
        opened: the artifact and its rows.
        encoded: its active latents.
        latents: their statistics.
        means: models and device.
    """

    opened: "Opened"
    encoded: "Encoded"
    latents: "Latents"
    means: "Means"


def number(value: float) -> float:
    """Return a number of as many digits as are written down: the last ones differ from machine to machine."""
    return float(f"{value:.{DIGITS}g}")


def numbers(values: "Tensor") -> tuple[float, ...]:
    """Return numbers of as many digits as are written down."""
    return tuple(map(number, values.tolist()))


def assembled(subject: Subject, choice: Choice, most: int) -> FeatureView:
    """Return the view.

    Args:
        subject: the artifact.
        choice: which latents are in it.
        most: contexts of each, and entries of a vocabulary.

    Raises:
        UsageError: for a latent that there is not.
        WeightsError: when the file of the text is damaged.
        OSError: when a file cannot be read.
    """
    import torch

    opened, latents = subject.opened, subject.latents
    chosen = choice.of(latents)
    close = look(subject.encoded, latents, chosen, most)
    text = text_of(opened, subject.means.models)
    norms, directions = decoder_of(subject.encoded, chosen)
    seen = _Seen.of(subject, close, text)
    out = _Writing.of(subject, directions, text)
    views = [
        _latent(place, close, latents, norms).model_copy(update=seen.of_latent(place) | out.of_latent(place))
        for place in range(len(chosen))
    ]
    total = opened.rows.rows
    return FeatureView(
        generated_by={"saereg": __version__, "torch": str(torch.__version__)},
        artifact=opened.artifact.id,
        weights_sha256=latents.weights_sha256,
        evaluation=latents.evaluation,
        data_sha256=latents.data_sha256,
        rows=latents.rows,
        rows_in_all=total if total > subject.encoded.limit else None,
        chosen=choice.how,
        seed=None if choice.how == "given" else choice.seed,
        readout=out.kind,
        readout_note=out.note,
        text_note=text.note,
        latents=tuple(views),
    )


def decoder_of(encoded: "Encoded", chosen: Sequence[int]) -> "tuple[Tensor, Tensor]":
    """Return what a unit of each latent writes: (norms (N, K), directions (N, …)), float64.

    Of a dictionary across layers, whose decoder has an axis more, both are empty.
    """
    import torch

    from saereg.registry.kernels.encoding import config_of, decoder_rows

    cfg = config_of(encoded.runner)
    rows = decoder_rows(encoded.runner, chosen)
    if rows is None:
        return torch.zeros(len(chosen), 0), torch.zeros(len(chosen), 0)
    rows = rows.double()
    norms = rows.reshape(len(rows), -1, rows.shape[-1]).norm(dim=-1)
    if rows.dim() == 2 and semantics_of(cfg).latents_scaled_by_decoder_norm:
        rows = rows / norms.clamp_min(1e-300)
    return norms, rows


def _latent(place: int, close: Close, latents: "Latents", norms: "Tensor") -> LatentView:
    index, fired = int(close.chosen[place]), int(close.fired[place])
    frequencies = latents.frequency[:, index]
    return LatentView(
        index=index,
        frequency=number(fired / max(close.rows, 1)),
        per_source=numbers(frequencies) if len(frequencies) > 1 else (),
        mean_active=number(float(close.total[place]) / fired) if fired else None,
        maximum=number(float(latents.maximum[:, index].max())) if fired else None,
        decoder_norms=numbers(norms[place]),
        histogram=_histogram(close.edges[place], close.counts[place]),
    )


def _histogram(edges: "Tensor", counts: "Tensor") -> ActivationHistogram | None:
    bounds = numbers(edges)
    if any(left >= right for left, right in pairwise(bounds)):
        return None
    return ActivationHistogram(edges=bounds, counts=tuple(counts.tolist()))


@dataclass(frozen=True, eq=False)
class _Seen:
    """Rows in which latents are most active, with the text around them.

    Attributes:
        close: the rows.
        text: the text.
        windows: row → the text around it.
        keys: `place × rows + row`, rising, of all activations that are shown.
        values: those activations at each source, (S, m).
    """

    close: Close
    text: Text
    windows: "Mapping[int, Window | None]"
    keys: "Tensor"
    values: "Tensor"

    @classmethod
    def of(cls, subject: Subject, close: Close, text: Text) -> "_Seen":
        """Read the text, and look up the activations in it."""
        import torch

        tops = [[row for row in rows if row >= 0] for rows in close.top.tolist()]
        windows = {row: text.window(row) for row in sorted({row for rows in tops for row in rows})}
        around = {row: (row, *(window.rows if window else ())) for row, window in windows.items()}
        wanted = {
            place * close.rows + near
            for place, rows in enumerate(tops)
            for row in rows
            for near in around[row]
            if 0 <= near < close.rows
        }
        keys = torch.tensor(sorted(wanted), dtype=torch.int64)
        shape = tuple(subject.latents.fired.shape)
        values = activations_at(subject.encoded, close.chosen, keys, close.rows, (shape[0], shape[1]))
        return cls(close, text, windows, keys, values)

    def _at(self, place: int, row: int) -> "Tensor":
        """Return the activation of a latent at a row, at each source, (S,)."""
        import torch

        if not 0 <= row < self.close.rows:
            return torch.zeros(len(self.values))
        return self.values[:, int(torch.searchsorted(self.keys, place * self.close.rows + row))]

    def of_latent(self, place: int) -> dict[str, object]:
        """Return the contexts of a latent, or, where rows are entries of a vocabulary, those."""
        pairs = zip(self.close.top[place].tolist(), self.close.values[place].tolist(), strict=True)
        rows = [(row, value) for row, value in pairs if row >= 0]
        if self.text.is_vocabulary:
            return {"promoted": tuple(self._entry(place, row, value) for row, value in rows)}
        return {"contexts": tuple(self._context(place, row, value) for row, value in rows)}

    def _at_sources(self, place: int, row: int) -> tuple[float, ...]:
        return numbers(self._at(place, row)) if len(self.values) > 1 else ()

    def _entry(self, place: int, row: int, value: float) -> ReadoutEntry:
        return ReadoutEntry(
            token=self.text.label(row), value=number(value), row=row, at_sources=self._at_sources(place, row)
        )

    def _context(self, place: int, row: int, value: float) -> Context:
        window, at_sources = self.windows[row], self._at_sources(place, row)
        if window is None:
            return Context(row=row, activation=number(value), at_sources=at_sources)
        return Context(
            row=row,
            activation=number(value),
            at_sources=at_sources,
            tokens=self.text.labels(window.tokens),
            activations=tuple(number(_largest(self._at(place, near))) for near in window.rows),
            peak=window.peak,
        )


def _largest(values: "Tensor") -> float:
    """Return the largest of the activations at all sources, by size."""
    return float(values[int(values.abs().argmax())])


@dataclass(frozen=True)
class _Writing:
    """What latents write.

    Attributes:
        kind: `logits`, `vocabulary` or `none`.
        note: what it leaves out, or why there is none.
        found: the logits.
        pieces: text of the vocabulary.
    """

    kind: Literal["logits", "vocabulary", "none"]
    note: str | None
    found: Readout | None = None
    pieces: Sequence[bytes] = ()

    @classmethod
    def of(cls, subject: Subject, directions: "Tensor", text: Text) -> "_Writing":
        """Read out latents, where they can be."""
        if text.is_vocabulary:
            note = "rows are entries of the vocabulary; those with the largest activations"
            return cls("vocabulary", note)
        artifact, models = subject.opened.artifact, subject.means.models
        try:
            found = logits(artifact, directions, models)
        except DataUnavailableError as error:
            return cls("none", error.why)
        key = model_of(artifact, models)
        try:
            pieces = pieces_of_model(models[key], artifact.release.manifest.base_models[key])
        except DataUnavailableError as error:
            return cls("logits", f"{found.note}; entries are shown by their ids: {error.why}", found)
        return cls("logits", found.note, found, pieces)

    def of_latent(self, place: int) -> dict[str, object]:
        """Return the entries that a latent promotes and suppresses."""
        if self.found is None:
            return {}
        return {
            "promoted": self._entries(self.found.largest[place]),
            "suppressed": self._entries(self.found.smallest[place]),
        }

    def _entries(self, found: Sequence[tuple[int, float]]) -> tuple[ReadoutEntry, ...]:
        labels = shown_all(self.pieces, [entry for entry, _ in found])
        return tuple(
            ReadoutEntry(token=label, value=number(value), row=entry)
            for label, (entry, value) in zip(labels, found, strict=True)
        )
