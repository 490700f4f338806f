"""SR513 and SR605: what the Hub would not take, found before anything is sent.

Sources: the Hub's documentation of storage limits and of the front matter (modelcard.md of hub-docs), refusals that are
quoted in public threads, and for the shape of ids the client's own check.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from saereg.registry.cards.card import CARD_FILE
from saereg.registry.release import INDEX_FILE
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.report import Finding

GB = 1000**3

LARGEST_FILE = 500 * GB
"""Bytes of a file that the Hub takes."""

LARGEST_WITHOUT_XET = 50 * GB
"""Bytes of a file that can be downloaded by plain HTTP."""

MOST_ENTRIES = 10_000
"""Entries of one folder that the Hub takes."""

MOST_FILES = 100_000
"""Files of a repository up to which the Hub works well."""

MOST_PER_KEY = 5
"""Findings of one key."""

_REPOSITORY = re.compile(r"(?:\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)
_LANGUAGE = re.compile(r"[a-z]{2,}(?:-[a-z0-9]+)*")

RESULT = (("task", "type"), ("dataset", "type"), ("dataset", "name"))
METRIC = ("type", "value")
"""What a result and a metric of the model-index cannot do without."""


def sizes_taken(release: ReleaseSubject) -> Iterator[Finding]:
    """SR605: no file is too large, no folder too full, and there are not too many files."""
    for path, entry in release.files.items():
        if entry.size > LARGEST_FILE:
            message = f"{path} has {entry.size / GB:.1f} GB; the Hub takes files of up to {LARGEST_FILE // GB} GB"
            yield finding("SR605", message, path=path)
        elif entry.size > LARGEST_WITHOUT_XET:
            message = f"{path} has {entry.size / GB:.1f} GB; more than {LARGEST_WITHOUT_XET // GB} GB can be downloaded"
            yield _warning(f"{message} with hf-xet alone", path)
    for folder, count in sorted(_entries(release.files).items()):
        if count > MOST_ENTRIES:
            where = f"the folder {folder}" if folder else "the root of the release"
            message = f"{where} has {count:,} entries; the Hub takes {MOST_ENTRIES:,}"
            yield finding("SR605", message, path=folder or INDEX_FILE)
    if len(release.files) > MOST_FILES:
        message = f"there are {len(release.files):,} files; beyond {MOST_FILES:,} the Hub becomes slow"
        yield _warning(message, INDEX_FILE)


def _warning(message: str, path: str) -> Finding:
    return finding("SR605", message, path=path).model_copy(update={"severity": "warning"})


def _entries(paths: Iterable[str]) -> Counter[str]:
    """Return folder → how many files and folders are in it; "" is the root."""
    counts: Counter[str] = Counter()
    known: set[str] = set()
    for path in paths:
        entry = path
        while entry and entry not in known:
            known.add(entry)
            entry = entry.rpartition("/")[0]
            counts[entry] += 1
    return counts


def front_matter_taken(release: ReleaseSubject) -> Iterator[Finding]:
    """SR513: the values of the front matter are such that the Hub accepts a commit with them."""
    card = release.card
    if card is None or card.front_matter.problems:
        return
    for key, problems in KEYS.items():
        if key not in card.front_matter.lines:
            continue
        value = card.front_matter.values.get(key)
        found = ["stands there without a value"] if value is None else islice(problems(value), MOST_PER_KEY)
        for problem in found:
            message = f"the Hub refuses the card: `{key}` {problem}"
            yield finding("SR513", message, path=CARD_FILE, line=card.front_matter.line(key))


def _several(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _repositories(value: object) -> Iterator[str]:
    return (f"has {_shown(one)}, which is no id of a repository" for one in _several(value) if not _is_repository(one))


def _is_repository(value: object) -> bool:
    if not isinstance(value, str) or _REPOSITORY.fullmatch(value) is None:
        return False
    return "--" not in value and ".." not in value and not value.endswith(".git")


def _languages(value: object) -> Iterator[str]:
    """Yield what is wrong; `no` is false for YAML as it is read here, and Norwegian for the Hub."""
    for one in _several(value):
        if one is not False and not (isinstance(one, str) and _LANGUAGE.fullmatch(one)):
            yield f"has {_shown(one)}, which is no code in small letters"


def _tags(value: object) -> Iterator[str]:
    return (f"has {_shown(one)}, which is no text" for one in _several(value) if isinstance(one, dict | list))


def _shown(value: object) -> str:
    """Return a value in few characters: a hostile one is long."""
    if isinstance(value, dict | list) or value is None:
        return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else "an empty entry"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _results(models: object) -> Iterator[str]:
    """Yield what is missing of a model-index; of several the first in each model."""
    if not isinstance(models, list) or not models:
        yield "is no list of models"
        return
    for number, model in enumerate(models):
        if not isinstance(model, dict) or not model.get("name"):
            yield f"has no `name` in model {number}"
        elif not isinstance(model.get("results"), list):
            yield f"has no list of `results` in model {number}"
        else:
            problems = (_wrong_result(result) for result in model["results"])
            found = ((i, problem) for i, problem in enumerate(problems) if problem)
            yield from (f"has no {problem} in result {i} of model {number}" for i, problem in list(found)[:1])


def _wrong_result(result: object) -> str | None:
    """Return what a result lacks, if anything."""
    if not isinstance(result, dict):
        return "keys"
    for part, key in RESULT:
        if not isinstance(result.get(part), dict) or result[part].get(key) is None:
            return f"`{part}.{key}`"
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        return "list of `metrics`"
    for metric in metrics:
        lacking = [key for key in METRIC if not isinstance(metric, dict) or metric.get(key) is None]
        if lacking:
            return f"`metrics.{lacking[0]}`"
    return None


KEYS: Mapping[str, Callable[[object], Iterator[str]]] = {
    "language": _languages,
    "tags": _tags,
    "base_model": _repositories,
    "datasets": _repositories,
    "model-index": _results,
}
"""Key → what is wrong with its value, where it has one; a key that is missing is the business of other rules."""
