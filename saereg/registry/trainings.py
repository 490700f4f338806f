"""Which artifacts are snapshots of one training, how far each was trained, and what the log of the training says.

A log is one JSON object a line, of any make; of it only finite numbers are read, and what is odd is passed over.
"""

import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from saereg.registry.files.names import LOG_FILE
from saereg.registry.release import Release, ReleaseArtifact
from saereg.schemas.manifest import identity
from saereg.schemas.training import token_count

MOST_BYTES = 64 << 20
"""Bytes of a log that are read; the rest is not."""

LONGEST_LINE = 1 << 16
"""Bytes of a line that is parsed."""

MOST_LINES = 100_000
"""Lines of a log that are kept."""

_LABEL = re.compile(r"(?:step|tokens?)?[_-]?(\d{1,15}(?:\.\d{1,9})?[kKmMbB]?)")


def training_of(artifact: ReleaseArtifact) -> tuple[tuple[str, object], ...]:
    """Return what the snapshots of one training have in common: all that tells artifacts apart but the snapshot."""
    same = identity(artifact.claim, artifact.release.manifest)
    return tuple((name, value) for name, value in same.items() if name != "snapshot")


def tokens_of(artifact: ReleaseArtifact) -> float | None:
    """Return the training tokens of an artifact: stated, of its steps, or what its snapshot is called; or None."""
    facts = artifact.claim.training
    if facts.tokens:
        return float(facts.tokens)
    if facts.steps and facts.batch_size:
        return float(facts.steps * facts.batch_size)
    label = artifact.claim.snapshot or ""
    return None if label.startswith("step") else labelled_number(label) or None


def labelled_number(label: str) -> float | None:
    """Return the number in the name of a snapshot, such as `50M`, `tokens_300K` or `step1000`; None in any other."""
    match = _LABEL.fullmatch(label)
    counted = token_count(match[1].upper()) if match else None
    return float(counted) if isinstance(counted, int | float) else None


def log_path(artifact: ReleaseArtifact) -> Path | None:
    """Return the training log of an artifact; None where it is not on this machine, or a link leads out of the release.

    Of a release on the Hub none: only documents are fetched of it.
    """
    release, claim = artifact.release, artifact.claim
    if release.repo is not None:
        return None
    path = release.path / (claim.training.log or f"{claim.path}/{LOG_FILE}")
    return path if path.is_file() and path.resolve().is_relative_to(release.path.resolve()) else None


def logged(release: Release) -> list[tuple[ReleaseArtifact, Path]]:
    """Return (artifact, log) of each training whose log is here: the last of its snapshots, whose log has all of it."""
    last: dict[Hashable, tuple[float, ReleaseArtifact, Path]] = {}
    for artifact in release:
        if (path := log_path(artifact)) is None:
            continue
        key = artifact.id if artifact.claim.snapshot is None else training_of(artifact)
        far = math.inf if artifact.claim.snapshot == "final" else tokens_of(artifact) or 0.0
        if key not in last or far >= last[key][0]:
            last[key] = (far, artifact, path)
    paths = {path: artifact for _, artifact, path in reversed(last.values())}  # of several with one log, the first
    return [(artifact, path) for _, artifact, path in last.values() if paths[path] is artifact]


def log_lines(path: Path) -> list[dict[str, float]]:
    """Return the finite numbers of each line of a log that is a JSON object.

    Of very many lines every second one is kept, or every fourth, and so on, and the last one: a curve needs no more,
    and memory does not grow with the log.

    Raises:
        OSError: when the file cannot be read.
    """
    kept: list[dict[str, float]] = []
    step, last = 1, None
    for number, text in enumerate(_texts(path)):
        last = None if number % step == 0 else text
        if last is not None or (line := _parsed(text)) is None:
            continue
        kept.append(line)
        if len(kept) > MOST_LINES:
            kept, step = kept[::2], 2 * step
    end = _parsed(last) if last is not None else None
    return kept if end is None else [*kept, end]


def _texts(path: Path) -> Iterator[bytes]:
    """Yield the lines that may be JSON objects."""
    left = MOST_BYTES
    with path.open("rb") as file:
        while left > 0 and (line := file.readline(LONGEST_LINE)):
            left -= len(line)
            if line.lstrip().startswith(b"{"):
                yield line


def _parsed(text: bytes) -> dict[str, float] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _numbers(value) if isinstance(value, dict) else None


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    return {name: number for name, value in line.items() if (number := _finite(value)) is not None}


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON has whole numbers of any length
        return None
    return number if math.isfinite(number) else None


def first_key(lines: Sequence[Mapping[str, float]], keys: Sequence[str], least: int = 1) -> str | None:
    """Return the first of some keys that at least so many lines have."""
    return next((key for key in keys if sum(key in line for line in lines) >= least), None)
