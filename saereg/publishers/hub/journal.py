"""What a publish under way leaves on this machine, so that the next run goes on where a killed one stopped.

The repository itself says what has arrived; the journal only keeps what the repository cannot tell cheaply: which pull
request is ours, and that one was about to be opened. Losing it loses nothing but time.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from saereg.errors import PublishError
from saereg.publishers.hub.target import HubTarget
from saereg.registry.files.atomic import alone, write_text_atomically
from saereg.registry.files.digest import sha256_text
from saereg.registry.files.state import state_folder

FOLDER = "publishing"


@dataclass(frozen=True)
class Entry:
    """What is known of the publish under way.

    Attributes:
        plan: its digest.
        opening: whether a pull request for it was about to be opened.
        pull_request: its number.
    """

    plan: str
    opening: bool = False
    pull_request: int | None = None


class Journal:
    """The journal of one branch of one repository. Where it cannot be written, it keeps nothing."""

    def __init__(self, target: HubTarget, endpoint: str) -> None:
        name = sha256_text("\n".join((endpoint, target.repo, target.branch)))[:24]
        self._file = state_folder() / FOLDER / f"{name}.json"
        self._target = target

    @property
    def entry(self) -> Entry | None:
        """What a run before this one left, or None."""
        try:
            return Entry(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, entry: Entry) -> None:
        """Keep what is known now."""
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomically(self._file, json.dumps(asdict(entry), sort_keys=True) + "\n")

    def note(self, **more: bool | int) -> None:
        """Keep more of the run that is under way."""
        if (entry := self.entry) is not None:
            self.write(replace(entry, **more))  # type: ignore[arg-type]

    def close(self) -> None:
        """Forget the run: it is done."""
        with contextlib.suppress(OSError):
            self._file.unlink()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes of this machine from publishing to the same branch while the block runs.

        Raises:
            PublishError: when one does.
        """
        with alone(self._lock_file()) as mine:
            if not mine:
                raise PublishError(
                    f"{self._target.name}: another saereg on this machine is publishing there; let it end"
                )
            yield

    def _lock_file(self) -> Path:
        return self._file.with_suffix(".lock")
