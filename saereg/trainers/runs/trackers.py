"""Runs shown while they go, by wandb or trackio: never needed, and never the reason why a run ends."""

import contextlib
import importlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from saereg.errors import UsageError
from saereg.registry.files.atomic import write_text_atomically
from saereg.schemas.training import Tracker

IDS_FILE = "trackers.json"
"""File beside the checkpoints of a run: name of a member → id of its run in the tracker, as long as it is not over."""


class Tracked:
    """One dictionary, shown by a tracker.

    Args:
        run: the run of wandb or trackio.
    """

    def __init__(self, run: Any) -> None:  # noqa: ANN401
        self._run = run
        self._failed = False
        self._news = self._url()

    def _url(self) -> str | None:
        url = None if getattr(self._run, "offline", False) else getattr(self._run, "url", None)
        return f"shown at {url}" if isinstance(url, str) else None

    def news(self) -> str | None:
        """Return what its user is to know, once."""
        news, self._news = self._news, None
        return news

    def log(self, step: int, facts: Callable[[], Mapping[str, object]]) -> None:
        """Show the facts of a step; a tracker that fails is asked no more."""
        if self._failed:
            return
        try:
            self._run.log(dict(facts()), step=step)
        except Exception as problem:  # noqa: BLE001  # whatever another program does, training goes on
            words = " ".join(str(problem).split())
            self._failed, self._news = True, f"the tracker is left out from step {step} on: {words}"

    def finish(self) -> None:
        """End it."""
        with contextlib.suppress(Exception):
            self._run.finish()


@contextlib.contextmanager
def tracked(
    settings: Mapping[str, Tracker], configurations: Mapping[str, Mapping[str, object]], folder: Path
) -> Iterator[dict[str, Tracked]]:
    """Open the trackers of members, and end them when the block ends.

    A run that was stopped goes on under the id that it had.

    Args:
        settings: name of a member → where it is to be shown; members that are not shown are missing.
        configurations: name of a member → its configuration.
        folder: that of the checkpoints of the run.

    Yields:
        Name of a member → its tracker.

    Raises:
        UsageError: when a tracker is not installed, or cannot begin.
    """
    opened: dict[str, Tracked] = {}
    try:
        for name, setting in settings.items():
            tool, identifier = _tool(setting.tool), _identifier(folder, name)
            try:
                opened[name] = _begin(tool, setting, name, identifier, configurations[name], folder)
            except Exception as problem:  # noqa: BLE001  # its own errors, one class per tool
                line = " ".join(str(problem).split())
                raise UsageError(
                    f"{setting.tool} cannot begin a run: {line}; leave `tracker` out to train without"
                ) from None
        yield opened
    finally:
        for one in opened.values():
            one.finish()


def _tool(name: str) -> ModuleType:
    try:
        return importlib.import_module("wandb") if name == "wandb" else importlib.import_module("trackio")
    except ImportError:
        raise UsageError(f"tracker {name!r} is not installed: pip install {name}, or leave `tracker` out") from None


def _identifier(folder: Path, name: str) -> str:
    """Return the id of a member's run: that of before, or a new one, which is kept."""
    path = folder / IDS_FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if name not in known:
        known[name] = secrets.token_hex(4)
        write_text_atomically(path, json.dumps(known))
    return str(known[name])


def _begin(
    tool: ModuleType, setting: Tracker, name: str, identifier: str, configuration: Mapping[str, object], folder: Path
) -> Tracked:
    title = setting.name or name
    if setting.tool == "trackio":  # a run is its name there
        return Tracked(
            tool.init(project=setting.project, name=f"{title}-{identifier}", config=dict(configuration), resume="allow")
        )
    offline = os.environ.get("WANDB_MODE") == "offline"
    run = tool.init(
        project=setting.project,
        name=title,
        id=identifier,
        config=dict(configuration),
        dir=os.environ.get("WANDB_DIR") or str(folder.parent),
        resume=None if offline else "allow",  # what is offline is joined by its id when it is sent
        reinit="create_new",
        settings=tool.Settings(silent=True, console="off"),
    )
    return Tracked(run)
