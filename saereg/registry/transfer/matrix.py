"""Transfer: how well a dictionary does on a corpus that it was not trained on.

Every dictionary is measured on every corpus, and each cell is set against the cell of the same dictionary at home, the
corpus that it was trained on.

Errors are compared by their ratio, away / home. For the mean squared error that ratio mixes two things,

    MSE_away / MSE_home = (FVU_away / FVU_home) · (Var_away / Var_home),

how much less of the variance the dictionary explains, and how much more variance the other corpus has. Only the
first is a property of the dictionary, so only the ratio of FVUs compares corpora of different variance. Both are given:
studies print the MSE. L1 is compared by its ratio too, in which one scale of all latents cancels. What is left, R²
(explained variance) and L0, is compared by its difference, away − home.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from saereg import __version__
from saereg.errors import UnknownNameError, UsageError
from saereg.schemas.manifest import Manifest
from saereg.schemas.metrics import Measurement, MetricId
from saereg.schemas.transfer import Degradation, TransferCell, TransferCorpus, TransferDictionary, TransferMatrix

COMPARED: dict[MetricId, Literal["ratio", "difference"]] = {
    "explained_variance": "difference",
    "fvu": "ratio",
    "mse_per_row": "ratio",
    "mse_per_element": "ratio",
    "l0": "difference",
    "l0_per_source_mean": "difference",
    "l0_any_source": "difference",
    "l1_norm": "ratio",
    "l1_norm_per_source_mean": "ratio",
    "dead_fraction": "difference",
}
"""Metric → how it is compared with the one at home."""

BESIDE: tuple[MetricId, ...] = ("l1_norm", "l1_norm_per_source_mean")
"""Definitions of others that every cell has beside the canon: studies of transfer print them."""

Cells = Mapping[tuple[str, str], Sequence[Measurement]]
"""(name of a dictionary, name of a corpus) → what was measured."""


def require_homes(
    dictionaries: Sequence[TransferDictionary], corpora: Sequence[TransferCorpus], said: Mapping[str, str]
) -> None:
    """Refuse a home that is said of what is not there.

    Raises:
        UnknownNameError: when there is no such dictionary, or no such corpus.
    """
    for name, corpus in said.items():
        if name not in (known := [d.name for d in dictionaries]):
            raise UnknownNameError("dictionary", name, known)
        if corpus not in (known := [c.name for c in corpora]):
            raise UnknownNameError("corpus", corpus, known)


def dataset_id(manifest: Manifest, key: str | None) -> str | None:
    """Return the id of a data set with its configuration; splits of one data set are the same corpus."""
    found = manifest.datasets.get(key or "")
    return None if found is None else f"{found.id}/{found.config}" if found.config else found.id


def at_home(
    dictionary: TransferDictionary, corpora: Sequence[TransferCorpus], said: Mapping[str, str]
) -> TransferDictionary:
    """Return a dictionary with its home among some corpora, and what tells so.

    In this order: what is said, a corpus of the dictionary's own name, the one corpus of the data set that its release
    says it was trained on, a corpus named like the key of that data set.

    Args:
        dictionary: the dictionary.
        corpora: the corpora.
        said: name of a dictionary → name of its home.
    """
    home, because = _home(dictionary, corpora, said)
    return dictionary.model_copy(update={"home": home, "home_because": because})


def _home(
    dictionary: TransferDictionary, corpora: Sequence[TransferCorpus], said: Mapping[str, str]
) -> tuple[str | None, str]:
    names = [corpus.name for corpus in corpora]
    if dictionary.name in said:
        return said[dictionary.name], "said on the command line"
    if dictionary.name in names:
        return dictionary.name, "it has the name of the corpus"
    if dictionary.dataset is None:
        return None, f"nothing says which corpus it was trained on; say --home {dictionary.name}=CORPUS"
    same = [c.name for c in corpora if c.dataset_id is not None and c.dataset_id == dictionary.dataset_id]
    if len(same) == 1:
        return same[0], f"its release says that it was trained on {dictionary.dataset_id}, which these rows are from"
    if same:
        several = f"trained on {dictionary.dataset_id}, which the rows of {', '.join(same)} are from"
        return None, f"{several}; say --home {dictionary.name}=CORPUS"
    if dictionary.dataset in names:
        return dictionary.dataset, f"its release says that it was trained on {dictionary.dataset!r}"
    return (
        None,
        f"trained on {dictionary.dataset!r}, which no corpus is said to be; say --home {dictionary.name}=CORPUS",
    )


def transfer_matrix(
    dictionaries: Sequence[TransferDictionary], corpora: Sequence[TransferCorpus], found: Cells
) -> TransferMatrix:
    """Return the matrix, in the order of its dictionaries and corpora.

    Args:
        dictionaries: rows, each with its home if there is one.
        corpora: columns.
        found: the measurements of every cell.

    Raises:
        UsageError: when a name is there twice, or a cell is missing.
    """
    for what, names in (("dictionary", [d.name for d in dictionaries]), ("corpus", [c.name for c in corpora])):
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"{what} {twice!r} is there twice")
    cells = []
    for dictionary in dictionaries:
        for corpus in corpora:
            if (dictionary.name, corpus.name) not in found:
                raise UsageError(f"dictionary {dictionary.name!r} was not measured on corpus {corpus.name!r}")
            cells.append(_cell(dictionary, corpus.name, found))
    return TransferMatrix(
        generated_by={"saereg": __version__},
        dictionaries=tuple(dictionaries),
        corpora=tuple(corpora),
        cells=tuple(cells),
    )


def _cell(dictionary: TransferDictionary, corpus: str, found: Cells) -> TransferCell:
    here, home = found[dictionary.name, corpus], dictionary.home
    lost = () if home in (None, corpus) else _degradations(here, found[dictionary.name, str(home)])
    return TransferCell(
        dictionary=dictionary.name,
        corpus=corpus,
        at_home=corpus == home,
        measurements=tuple(here),
        degradation=lost,
    )


def _degradations(away: Sequence[Measurement], home: Sequence[Measurement]) -> tuple[Degradation, ...]:
    there = {m.metric: m for m in home if m.units == "raw" and m.batch_rows is None}
    return tuple(
        _degradation(m, there[m.metric])
        for m in away
        if m.units == "raw" and m.batch_rows is None and m.metric in COMPARED and m.metric in there
    )


def _degradation(away: Measurement, home: Measurement) -> Degradation:
    kind = COMPARED[away.metric]
    value, reason = _compared(away, home, kind)
    return Degradation(metric=away.metric, kind=kind, value=value, reason=reason)


def _compared(away: Measurement, home: Measurement, kind: str) -> tuple[float | None, str | None]:
    if away.value is None or home.value is None:
        empty = away if away.value is None else home
        return None, f"on {empty.evaluation}: {empty.reason or 'there is no value'}"
    if kind == "difference":
        if away.metric == "dead_fraction" and away.rows != home.rows:
            return None, f"it falls with the number of rows, and there are {away.rows} against {home.rows}"
        value = away.value - home.value
    elif home.value == 0:
        what = "L1" if home.metric in BESIDE else "error"
        return None, f"the {what} at home, on {home.evaluation}, is 0"
    else:
        value = away.value / home.value
    return (value, None) if math.isfinite(value) else (None, "it is larger than float64 can hold")
