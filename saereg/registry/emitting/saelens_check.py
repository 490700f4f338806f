"""What the parser of the installed SAELens makes of entries, and whether they clash with those it has."""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from saereg.errors import MissingExtraError, UsageError
from saereg.registry.emitting import saelens_child
from saereg.registry.emitting.emitted import Emitted, first_few
from saereg.registry.emitting.saelens_yaml import FILE

PARSER = "loading/pretrained_saes_directory.py"

SECONDS = 300
"""Time for the parser: its file of 44,000 lines takes it some seconds."""

_KEY = re.compile(r"^(?P<quote>[\"']?)(?P<key>[A-Za-z0-9][^:\"'\n]*)(?P=quote):", re.M)
"""A release in its file: what stands at the beginning of a line."""

MAPS: dict[str, tuple[str, object]] = {
    "saes_map": ("path", None),
    "expected_l0": ("l0", 0.0),
    "expected_var_explained": ("variance_explained", 1.0),
    "neuronpedia_id": ("neuronpedia", None),
}
"""Map of the parser's → key of a row, and what the parser takes where it is absent."""


def require_understood(emitted: Emitted) -> str:
    """Let SAELens' own parser read its registry together with the new entries, and compare.

    Returns:
        One line on what was compared.

    Raises:
        MissingExtraError: when SAELens is not installed.
        UsageError: when a name or the folder of an artifact is there already, or something was understood otherwise.
    """
    package = _package()
    installed = (package / FILE).read_text(encoding="utf-8")
    if not installed.endswith("\n"):
        installed += "\n"
    _require_new_names(installed, emitted)
    with tempfile.TemporaryDirectory(prefix="saereg-") as scratch:
        (Path(scratch) / FILE).write_text(installed + emitted.text, encoding="utf-8")
        understood = _parsed(package / PARSER, Path(scratch))
        problems = [*_differences(emitted, understood), *_clashes(emitted, understood)]
        problems += _found_by_lint(emitted, Path(scratch))
    if problems:
        raise UsageError(f"--check: {first_few(problems, 3)}")
    releases = f"{len(emitted.rows)} release{'' if len(emitted.rows) == 1 else 's'}"
    read = f"SAELens' own parser read {emitted.count} rows in {releases}, as they are meant"
    return f"{read}; saereg registry check finds no error in them"


def _package() -> Path:
    spec = importlib.util.find_spec("sae_lens")
    if spec is None or spec.origin is None:
        raise MissingExtraError("--check", "train", "sae-lens")
    package = Path(spec.origin).parent
    for name in (FILE, PARSER):
        if not (package / name).is_file():
            raise UsageError(f"--check: the installed SAELens has no {name}; expected one like 6.54")
    return package


def _require_new_names(installed: str, emitted: Emitted) -> None:
    """Refuse a name that the registry has: of two equal ones the parser would silently take the later."""
    there = {match["key"] for match in _KEY.finditer(installed)}
    if taken := sorted(there & emitted.rows.keys()):
        raise UsageError(f"SAELens has a release called {first_few(taken)} already; choose another with --name")


def _parsed(parser: Path, folder: Path) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-s", "-P", "-B", saelens_child.__file__, str(parser), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError(f"SAELens' parser did not end within {SECONDS} seconds") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise UsageError(f"SAELens' parser refuses the entries: {said[-1] if said else 'it ended without a word'}")
    result: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return result


def _found_by_lint(emitted: Emitted, scratch: Path) -> list[str]:
    """Return the errors that `saereg registry check` finds in the new entries alone."""
    from saereg.registry.federation.directory import read_directory
    from saereg.registry.federation.report import lint

    file = scratch / "entry.yaml"
    file.write_text(emitted.text, encoding="utf-8")
    return [f"{finding.code}: {finding.message}" for finding in lint(read_directory(file)).errors]


def _differences(emitted: Emitted, understood: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield every value that the parser takes for another one than was meant."""
    for name, entry in emitted.rows.items():
        found = understood.get(name)
        if found is None:
            yield f"release {name} is not there"
            continue
        for key in ("repo_id", "model", "conversion_func"):
            if found[key] != entry[key]:
                yield f"{name}: {key} is {found[key]!r} instead of {entry[key]!r}"
        rows: list[dict[str, Any]] = entry["saes"]  # type: ignore[assignment]
        for field, (key, default) in MAPS.items():
            meant = {row["id"]: row.get(key, default) for row in rows}
            if found[field] != meant:
                other = [i for i in meant if found[field].get(i) != meant[i]]
                yield f"{name}: {key} of {first_few(map(str, other))} is understood otherwise"
        if found["norm_scaling_factor"]:
            yield f"{name}: there is a norm_scaling_factor"


def _clashes(emitted: Emitted, understood: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield every folder of an artifact that another release of the registry has already."""
    repos = {entry["repo_id"] for entry in emitted.rows.values()}
    there = {
        (found["repo_id"], path): name
        for name, found in understood.items()
        if name not in emitted.rows and found["repo_id"] in repos
        for path in found["saes_map"].values()
    }
    for entry in emitted.rows.values():
        for row in entry["saes"]:  # type: ignore[attr-defined]
            other = there.get((entry["repo_id"], row["path"]))
            if other is not None:
                yield f"{row['path']} of {entry['repo_id']} is in its release {other} already"
