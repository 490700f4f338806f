"""The corpora of a transfer matrix: rows under a name, from a specification or from the evaluations of releases."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from saereg.errors import UsageError, WeightsError
from saereg.registry.metrics.sources.opening import Surroundings, open_rows
from saereg.registry.metrics.sources.spec import absolute, rows_of_spec
from saereg.registry.recompute.choosing import evaluations_of
from saereg.registry.recompute.chosen import Setting
from saereg.registry.recompute.tasks import CHANGED, Stamp, stamp_of_rows
from saereg.registry.release import Release
from saereg.registry.semantics import row_shape, semantics_of
from saereg.registry.transfer.entrants import Entrant, readable
from saereg.registry.transfer.matrix import dataset_id
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.evaluation import Evaluation
from saereg.schemas.transfer import TransferCorpus

if TYPE_CHECKING:
    from saereg.registry.metrics.sources.rows import Rows

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,119}")
"""The name of a corpus stands in measurements, where the key of an evaluation stands."""


@dataclass(frozen=True)
class Corpus:
    """Rows under a name.

    Attributes:
        name: name in the matrix.
        reference: how the user named it.
        rows: the rows.
        are_tokens: whether each row is a token.
        dataset: key of the data set that they are from, as a release says.
        dataset_id: id of that data set.
    """

    name: str
    reference: str
    rows: "Rows"
    are_tokens: bool = False
    dataset: str | None = None
    dataset_id: str | None = None

    @cached_property
    def stamp(self) -> Stamp:
        """Files of the rows as they were first looked at, before their digest was taken.

        Raises:
            OSError: when they cannot be read.
        """
        return stamp_of_rows(self.rows)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the rows.

        Raises:
            WeightsError: when they changed since they were first looked at.
            OSError: when they cannot be read.
        """
        before, found = self.stamp, self.rows.digest()
        if stamp_of_rows(self.rows) != before:
            raise WeightsError(self.rows.name, CHANGED)
        return found

    def facts(self) -> TransferCorpus:
        """Return what a matrix says of it.

        Raises:
            WeightsError: when it holds no rows.
        """
        if not self.rows.rows:
            raise WeightsError(self.rows.name, "holds no rows")
        return TransferCorpus(
            name=self.name,
            reference=readable(self.reference),
            rows=self.rows.rows,
            data_sha256=self.digest,
            excluded=self.rows.excluded,
            dataset=self.dataset,
            dataset_id=self.dataset_id,
        )


def require_fit(entrants: Sequence[Entrant], corpus: Corpus) -> None:
    """Refuse dictionaries that cannot be measured on a corpus, by their configuration and the first row alone.

    Raises:
        WeightsError: when the rows have another shape, or there are no targets for it, or targets that it ignores.
        OSError: when the rows cannot be read.
    """
    x, target = corpus.rows.read(0, 1)
    for entrant in entrants:
        _require_fit(entrant, corpus, tuple(x.shape[1:]), tuple(target.shape[1:]))


def _require_fit(entrant: Entrant, corpus: Corpus, found: tuple[int, ...], predicted: tuple[int, ...]) -> None:
    wanted = row_shape(entrant.cfg)
    where, who = f"corpus {corpus.name}", f"dictionary {entrant.name}"
    if found != wanted and not _fits_unrolled(entrant.cfg, found):
        raise WeightsError(where, f"has rows of {_shape(found)}, but {who} reads {_shape(wanted)}")
    if entrant.predicts != corpus.rows.has_target:
        said = "has no targets, but" if entrant.predicts else "has targets, but"
        does = "predicts another site than it reads" if entrant.predicts else "reconstructs what it reads"
        raise WeightsError(where, f"{said} {who} {does}")
    wanted_out = (*wanted[:-1], entrant.cfg.d_out)
    if entrant.predicts and predicted != wanted_out:
        raise WeightsError(where, f"has targets of {_shape(predicted)}, but {who} predicts {_shape(wanted_out)}")


def _fits_unrolled(cfg: ArtifactConfig, shape: tuple[int, ...]) -> bool:
    """Whether rows are (heads, width) of a `hook_z` dictionary, or (positions, d_in) of a temporal one."""
    if len(shape) != 2:
        return False
    if cfg.architecture == "temporal":
        return shape[1] == cfg.d_in
    return semantics_of(cfg).reshape == "hook_z" and shape[0] * shape[1] == cfg.d_in


def _shape(shape: Sequence[int]) -> str:
    return f"width {shape[0]}" if len(shape) == 1 else f"shape {tuple(shape)}"


def corpora_of_releases(entrants: Sequence[Entrant], how: Setting) -> tuple[Corpus, ...]:
    """Return the evaluations of the releases that some dictionaries are in, of those that are for them.

    Raises:
        UsageError: when two releases call different rows by one name, or there are none.
        SaeregError: when rows cannot be opened.
    """
    found: dict[str, Corpus] = {}
    known: set[tuple[str, str]] = set()
    for entrant in entrants:
        for corpus in _of_release(entrant, how, known):
            first = found.setdefault(corpus.name, corpus)
            if first.digest != corpus.digest:
                both = f"{first.reference} and {corpus.reference}"
                raise UsageError(f"{both} are different rows of one name; name them with --data NAME=FILE")
    if not found:
        raise UsageError("no corpus: no release has an evaluation for the dictionaries; say --data NAME=FILE")
    return tuple(found.values())


def _of_release(entrant: Entrant, how: Setting, known: set[tuple[str, str]]) -> Iterator[Corpus]:
    """Yield the evaluations for a dictionary that are not known yet."""
    if entrant.artifact is None:
        return
    release, shape = entrant.artifact.release, row_shape(entrant.cfg)
    found = evaluations_of(entrant.artifact.claim, release.manifest, release.path, shape)
    for name in release.manifest.evaluations:  # in its order, not with this dictionary's home first: others share them
        if name in found and (str(release.path), name) not in known:
            evaluation = found[name]
            known.add((str(release.path), name))
            root = release.fetched(evaluation).absolute()
            around = Surroundings(root, release.manifest, shape, models=how.models, device=how.device)
            yield _evaluation(release, name, open_rows(evaluation, around), evaluation)


def _evaluation(release: Release, name: str, rows: "Rows", evaluation: Evaluation) -> Corpus:
    manifest = release.manifest
    site = manifest.sites.get(evaluation.site or "")
    return Corpus(
        name=name,
        reference=f"{release.path}: evaluation {name}",
        rows=rows,
        are_tokens=site is not None and site.stream != "parameter",
        dataset=evaluation.dataset,
        dataset_id=dataset_id(manifest, evaluation.dataset),
    )


def corpus_of(word: str, shape: tuple[int, ...], how: Setting) -> Corpus:
    """Return the rows that `NAME=SPEC` names.

    Args:
        word: what the user said.
        shape: shape of one row that the dictionaries read.
        how: where models are.

    Raises:
        UsageError: when it has no name.
        SaeregError: when the rows cannot be opened.
    """
    name, mark, spec = word.partition("=")
    if not mark or not name or not spec:
        raise UsageError(f"--data {word}: expected NAME=FILE")
    if not _NAME.fullmatch(name):
        raise UsageError(f"corpus {name!r}: a name is letters, digits, `_`, `-` and `.`, and at most 120 of them")
    return Corpus(name, spec, rows_of_spec(absolute(spec), shape, models=how.models))
