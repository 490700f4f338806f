"""Where the weights of a base model are on this machine, and what a folder says of the commit that it holds."""

import json
import math
import re
import time
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from saereg.errors import PublishError, UsageError
from saereg.registry import hub
from saereg.registry.models.model import WEIGHT_FILES, digest_of, stamp_of, weight_files

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?", re.ASCII)
"""`org/name`, or a plain name such as `gpt2`; never a path."""

REMEMBERED = 60.0
"""Seconds for which a model that could not be fetched is not asked for again: every dictionary of a release asks."""

_FAILED: dict[tuple[str, str | None], tuple[float, str]] = {}
"""(repository, revision) → when it could not be fetched, and why."""


def folder_of(name: str, given: str | None, revision: str | None) -> Path:
    """Return the folder with a model.

    What a manifest names is looked for among installed packages and in the cache of the Hub, and is never a path:
    a release would choose with it what of its own, or of the user's, is loaded.

    Args:
        name: id of the model in a manifest.
        given: folder, or repository id on the Hub, that the user names; only such a repository is ever downloaded.
        revision: commit.

    Raises:
        UsageError: when it is not there; the line names no path of this machine.
    """
    if given is None:
        return _named(name, revision)
    if not given.startswith("hf://"):
        folder = Path(given.removeprefix("file://")).expanduser()
        if folder.is_dir():
            return folder.absolute()
    repository = given.removeprefix("hf://")
    if not REPOSITORY.fullmatch(repository):
        raise UsageError("what was given is neither a folder nor a repository id")
    return _fetched(repository, revision)


def commit_of(folder: Path) -> str | None:
    """Return the commit of a repository that a folder holds, where something tells.

    That is its name in the cache of the Hub, or what the Hub's client writes beside files that it downloads into a
    folder: of every file the commit, and of weights their SHA-256.

    Raises:
        OSError: when a file cannot be read.
    """
    if hub.is_commit(folder.name):
        return folder.name
    commits = set()
    for file in (folder / "config.json", *weight_files(folder)):
        try:
            said = folder / ".cache" / "huggingface" / "download" / f"{file.name}.metadata"
            commit, etag = said.read_text(encoding="utf-8").splitlines()[:2]
        except (OSError, ValueError):
            return None
        if re.fullmatch(r"[0-9a-f]{64}", etag) and etag != digest_of(stamp_of((file,))):
            return None
        commits.add(commit)
    return commits.pop() if len(commits) == 1 else None


def check_own(folder: Path) -> None:
    """Find a model that is all in its folder.

    Raises:
        UsageError: when it lacks something, or its weights are elsewhere.
        OSError: when a file cannot be read.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise UsageError("the folder holds no config.json")
    if not weight_files(folder):
        raise UsageError(f"the folder holds no weights ({WEIGHT_FILES[0]})")
    if (folder / "adapter_config.json").is_file():
        raise UsageError("the folder holds an adapter (adapter_config.json): merge it into its model")
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise UsageError("its config.json is no JSON") from None
    if not isinstance(said, dict) or said.get("transformers_weights"):
        raise UsageError("its config.json is that of no model, or names other weights (transformers_weights)")


def _named(name: str, revision: str | None) -> Path:
    if not REPOSITORY.fullmatch(name):
        raise UsageError("its id is no repository id: expected org/name")
    found = _installed(name) or hub.cached_model(name, revision)
    if found is None:
        raise UsageError("it is not in the cache of the Hub")
    return found


def _fetched(repository: str, revision: str | None) -> Path:
    """Fetch a model once; of one that could not be had, that is said again for a while without asking."""
    when, why = _FAILED.get((repository, revision), (-math.inf, ""))
    if time.monotonic() - when < REMEMBERED:
        raise UsageError(why)
    try:
        return _downloaded(repository, revision)
    except PublishError as problem:
        _FAILED[repository, revision] = time.monotonic(), str(problem)
        raise UsageError(str(problem)) from None


@lru_cache(maxsize=32)
def _downloaded(repository: str, revision: str | None) -> Path:
    return hub.fetch_model(repository, revision)


def _installed(name: str) -> Path | None:
    """Return the folder with a model in an installed distribution, if a model's id names one."""
    try:
        files = metadata.distribution(name).files if "/" not in name else None
    except metadata.PackageNotFoundError:
        return None
    for file in files or ():
        folder = Path(str(file.locate())).parent
        if file.name == "config.json" and weight_files(folder):
            return folder
    return None
