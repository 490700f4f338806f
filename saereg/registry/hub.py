"""Releases on the Hub, read through huggingface_hub: documents first, weights only of the artifact asked for."""

import contextlib
import glob
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saereg.errors import PublishError, UsageError

PATIENCE = 10.0
"""Seconds that the Hub may stay silent before a request is given up; HF_HUB_DOWNLOAD_TIMEOUT sets another."""

ATTEMPTS = 2
"""Times that one request may go without any answer; the client by itself waits for minutes."""

REASONS = {
    "SilentHubError": "the Hub does not answer",
    "GatedRepoError": "access is restricted; ask for it on the repository's page, and set HF_TOKEN",
    "RepositoryNotFoundError": "no such repository, or no access to it; check the name, or set HF_TOKEN",
    "RevisionNotFoundError": "no such revision",
    "OfflineModeIsEnabled": "not (or only in part) in the local cache, and HF_HUB_OFFLINE is set",
    "ConnectError": "the Hub cannot be reached",
    "ConnectTimeout": "the Hub does not answer",
    "ReadTimeout": "the Hub does not answer",
}
"""Class of what went wrong → what to say."""


class SilentHubError(Exception):
    """One request was made ATTEMPTS times and had no answer."""


def fetch_documents(repo: str, revision: str | None) -> Path:
    """Download the JSON documents of a release (no weights) and return the local snapshot.

    Raises:
        UsageError: when the name cannot be that of a repository.
        PublishError: when the repository, revision or network is not there.
    """
    return _snapshot(repo, revision, ["*.json"])


def fetch_folder(repo: str, revision: str, folder: str) -> Path:
    """Download the files of one artifact at a resolved commit and return the local snapshot of the release.

    Raises:
        PublishError: when the repository, revision or network is not there.
    """
    return _snapshot(repo, revision, [f"{glob.escape(folder)}/*", "*.json"])


def _snapshot(repo: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = f"hf://{repo}{'@' + revision if revision else ''}"
    transport = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    try:
        with _impatient():
            found = snapshot_download(
                repo, revision=revision, allow_patterns=patterns, library_name="saereg", tqdm_class=_bar()
            )
    except HFValidationError as error:
        raise UsageError(f"{name} is no reference: {_first_line(error)}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, SilentHubError, transport) as error:
        raise PublishError(f"{name}: {_reason(error)}") from error
    return Path(found)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Limit how long the Hub client waits for an answer while the block runs, and keep its retries quiet.

    What is answered, though with an error, is retried as the client sees fit.
    """
    from huggingface_hub import constants, get_session

    limit = float(constants.HF_HUB_DOWNLOAD_TIMEOUT or PATIENCE)
    unanswered: Counter[tuple[str, str]] = Counter()

    def asked(request: Any) -> None:  # noqa: ANN401 - httpx.Request, or httpx2.Request since version 2
        key = (request.method, str(request.url))
        unanswered[key] += 1
        if unanswered[key] > ATTEMPTS:
            raise SilentHubError
        limits = request.extensions.get("timeout", {})
        steps = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {step: min(limits.get(step) or limit, limit) for step in steps}

    def answered(response: Any) -> None:  # noqa: ANN401
        del unanswered[(response.request.method, str(response.request.url))]

    session, log = get_session(), logging.getLogger("huggingface_hub")
    hooks, level = session.event_hooks, log.level
    session.event_hooks = {"request": [*hooks["request"], asked], "response": [*hooks["response"], answered]}
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        session.event_hooks = hooks
        log.setLevel(level)


def _bar() -> Any:  # noqa: ANN401 - a progress bar class of the Hub client, or None for its own
    """Return the class of progress bars: its own on a terminal, none elsewhere."""
    if sys.stderr.isatty():
        return None
    from huggingface_hub.utils import tqdm

    class Silent(tqdm):  # type: ignore[misc]
        """A bar that is not shown."""

        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(*arguments, **options | {"disable": True})

    return Silent


def _reason(error: BaseException) -> str:
    """Return in one line why the Hub could not be read."""
    causes = [error, *([error.__cause__] if error.__cause__ else [])]
    for cause in causes:
        for kind in type(cause).__mro__:
            if kind.__name__ in REASONS:
                return REASONS[kind.__name__]
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
