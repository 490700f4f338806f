"""Releases on the Hub, read through huggingface_hub: documents first, weights only of the artifact asked for."""

import contextlib
import glob
import logging
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from saereg.errors import PublishError, UsageError
from saereg.registry.hub_progress import bars

PATIENCE = 10.0
"""Seconds that the Hub may stay silent before a request is given up; HF_HUB_DOWNLOAD_TIMEOUT sets another."""

ATTEMPTS = 2
"""Times that one request may go without any answer; the client by itself waits for minutes."""

LONGEST_WAIT = 60
"""Seconds that are waited where the Hub asks for it (429 with Retry-After); it can ask for minutes."""

REASONS = {
    "SilentHubError": "the Hub does not answer",
    "GatedRepoError": "access is restricted; ask for it on the repository's page, and set HF_TOKEN",
    "RepositoryNotFoundError": "no such repository, or no access to it; check the name, or set HF_TOKEN",
    "RevisionNotFoundError": "no such revision",
    "OfflineModeIsEnabled": "not (or only in part) in the local cache, and HF_HUB_OFFLINE is set",
    "ConnectError": "the Hub cannot be reached",
    "ConnectTimeout": "the Hub does not answer",
    "ReadTimeout": "the Hub does not answer",
    "RemoteProtocolError": "the Hub broke off in the middle of an answer",
}
"""Class of what went wrong → what to say."""

STATUSES = {
    401: "the Hub does not know who you are: log in with `hf auth login`, or set HF_TOKEN to a token that is valid",
    403: "this token may not read it: use one that may, or ask for access on the repository's page",
    404: "it is not there, or this token may not see it: check the name, HF_TOKEN and HF_ENDPOINT",
    410: "it is gone",
    429: "too many requests: come back later, or set HF_TOKEN",
}
"""Status of an answer, where the client has no class for it → what to say; others are told by their class of it."""


class SilentHubError(Exception):
    """One request was made ATTEMPTS times and had no answer."""


class BusyHubError(Exception):
    """The Hub asks for a longer wait than anyone would sit through.

    Attributes:
        wait: seconds that it asks for.
    """

    def __init__(self, message: str, wait: float = 0.0) -> None:
        self.wait = wait
        super().__init__(message)


def fetch_documents(repo: str, revision: str | None) -> Path:
    """Download the JSON documents of a release (no weights) and return the local snapshot.

    Raises:
        UsageError: when the name cannot be that of a repository.
        PublishError: when the repository, revision or network is not there.
    """
    return _snapshot(repo, revision, ["*.json"], SHOWN)


def fetch_folder(repo: str, revision: str, folder: str) -> Path:
    """Download the files of one artifact at a resolved commit and return the local snapshot of the release.

    Raises:
        PublishError: when the repository, revision or network is not there.
    """
    return _snapshot(repo, revision, [f"{glob.escape(folder)}/*"])


def fetch_path(repo: str, revision: str, path: str) -> Path:
    """Download one file, or the files of one folder, at a resolved commit and return the snapshot of the release.

    Raises:
        PublishError: when the repository, revision or network is not there.
    """
    but = None if any(fnmatchcase(path, pattern) for pattern in SHOWN) else SHOWN
    return _snapshot(repo, revision, [glob.escape(path), f"{glob.escape(path)}/*", "*.json"], but)


def fetch_shown(repo: str, revision: str) -> Path:
    """Download the documents that are there to be looked at, at a resolved commit; return the snapshot of the release.

    Raises:
        PublishError: when the repository, revision or network is not there.
    """
    return _snapshot(repo, revision, ["figures/*.vl.json", *SHOWN[1:]])


def cached_everything(repo: str, revision: str | None) -> Path:
    """Return the snapshot of a repository in the local cache; the Hub is not asked.

    Raises:
        UsageError: when the name cannot be that of a repository.
        PublishError: when it is not there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with asking(name_of(repo, revision)), contextlib.suppress(LocalEntryNotFoundError):
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    raise PublishError(f"{name_of(repo, revision)}: {REASONS['OfflineModeIsEnabled']}")


SHOWN = ["figures/*", "features.json", "*/features.json"]
"""Documents that are there to be looked at: nothing that a release means depends on them; they may be thousands."""


def _snapshot(repo: str, revision: str | None, patterns: list[str] | None, but: list[str] | None = None) -> Path:
    from huggingface_hub import snapshot_download

    with asking(name_of(repo, revision)):
        found = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=but,
            library_name="saereg",
            tqdm_class=bars(),
        )
    return Path(found)


MODEL_FILES = (
    ("config.json", "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    ("config.json", "pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"),
)
"""What is needed of a repository to run a model: where it has no safetensors, pickles, which are read without code."""


def fetch_model(repo: str, revision: str | None) -> Path:
    """Return the local snapshot of a model, configuration and weights, downloaded where it is not there yet.

    Raises:
        UsageError: when the name cannot be that of a repository, or it holds no weights.
        PublishError: when the repository, revision or network is not there.
    """
    if is_commit(revision) or is_offline():
        known = cached_model(repo, revision)
        if known is not None:
            return known
    for patterns in MODEL_FILES:
        folder = _snapshot(repo, revision, list(patterns))
        if any(any(folder.glob(pattern)) for pattern in patterns[1:3]):
            return folder
    raise UsageError(f"{name_of(repo, revision)} holds neither {MODEL_FILES[0][1]} nor {MODEL_FILES[1][1]}")


def cached_model(repo: str, revision: str | None) -> Path | None:
    """Return the snapshot of a model in the local cache; None when it is not there, or only in part."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    for patterns in MODEL_FILES:
        try:
            found = snapshot_download(repo, revision=revision, allow_patterns=list(patterns), local_files_only=True)
        except (HFValidationError, LocalEntryNotFoundError):
            continue
        if any(any(Path(found).glob(pattern)) for pattern in patterns[1:3]):
            return Path(found)
    return None


def branches(repo: str) -> tuple[str, ...]:
    """Return the names of all branches and tags of a repository.

    Raises:
        UsageError: when the name cannot be that of a repository.
        PublishError: when the repository or network is not there.
    """
    from huggingface_hub import HfApi

    with asking(name_of(repo, None)):
        found = HfApi(library_name="saereg").list_repo_refs(repo)
    return tuple(ref.name for ref in (*found.branches, *found.tags))


def name_of(repo: str, revision: str | None) -> str:
    """Return the reference of a release on the Hub, as a user would write it."""
    return f"hf://{repo}{'@' + revision if revision else ''}"


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit, which no longer moves."""
    return re.fullmatch(r"[0-9a-f]{40}", revision or "") is not None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set: then only what was fetched before is used."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def patience() -> float:
    """Return the seconds that the Hub may stay silent."""
    from huggingface_hub import constants

    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT or PATIENCE)


def client_error() -> type[Exception]:
    """Return what the client's HTTP library raises for an answer that is an error, and for no answer."""
    from huggingface_hub.errors import HfHubHTTPError

    found: type[Exception] = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    return found


def require_address(endpoint: str) -> None:
    """Refuse what cannot be the address of a Hub.

    Raises:
        UsageError: when it is none.
    """
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"HF_ENDPOINT is {endpoint!r}, which is no address: write it like https://hub.example.org")


_ONE_AT_A_TIME = threading.RLock()
"""The limits below are those of the client's one session."""


@contextlib.contextmanager
def asking(name: str) -> Iterator[None]:
    """Ask the Hub in the block, with bounded patience; whatever fails is one line.

    Args:
        name: what is asked for, for the line.

    Raises:
        UsageError: when the name cannot be that of a repository, or HF_ENDPOINT no address.
        PublishError: when the repository, revision or network is not there.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError

    require_address(constants.ENDPOINT)
    try:
        with _ONE_AT_A_TIME, _impatient():
            yield
    except HFValidationError as error:
        raise UsageError(f"{name} is no reference: {first_line(error)}") from error
    except (client_error(), OSError, SilentHubError, BusyHubError) as error:
        raise PublishError(f"{name}: {reason(error)}") from error
    except (ValueError, KeyError) as error:  # a page of a proxy, where JSON was asked for
        raise PublishError(f"{name}: the answer is not that of a Hub; check the network, and HF_ENDPOINT") from error


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Limit how long the Hub client waits for an answer while the block runs, and keep its retries quiet.

    What is answered, though with an error, is retried as the client sees fit.
    """
    limit = patience()
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
        if (wait := wait_asked(response)) > LONGEST_WAIT:
            raise BusyHubError(f"too many requests; the Hub asks to wait {wait:.0f} seconds, or set HF_TOKEN")

    with listening(asked, answered):
        yield


@contextlib.contextmanager
def listening(asked: Callable[[Any], None], answered: Callable[[Any], None]) -> Iterator[None]:
    """Call these on every request and every answer of the Hub client while the block runs; keep its log quiet.

    Args:
        asked: takes the request, before it is sent; it may set its timeouts.
        answered: takes the answer, before the client looks at it; what it raises ends the request.
    """
    from huggingface_hub import get_session

    log, ended = logging.getLogger("huggingface_hub"), contextlib.ExitStack()
    over = threading.Event()

    def listen() -> None:
        if over.is_set():
            return
        session = get_session()
        ended.enter_context(_hooked(session, {"request": asked, "response": answered}))
        ended.enter_context(_when_closed(session, listen))

    level = log.level
    log.setLevel(logging.ERROR)
    with ended:
        ended.callback(log.setLevel, level)
        ended.callback(over.set)
        listen()
        yield


_HOOKING = threading.Lock()
"""The hooks of the one session are read and written whole."""


@contextlib.contextmanager
def _hooked(session: Any, more: dict[str, Callable[[Any], None]]) -> Iterator[None]:  # noqa: ANN401
    with _HOOKING:
        hooks = session.event_hooks
        session.event_hooks = {when: [*those, *([more[when]] if when in more else [])] for when, those in hooks.items()}
    try:
        yield
    finally:  # only ours: another thread may have added its own since, and takes them away itself
        with _HOOKING:
            now = session.event_hooks
            session.event_hooks = {
                when: [one for one in those if one is not more.get(when)] for when, those in now.items()
            }


@contextlib.contextmanager
def _when_closed(session: Any, then: Callable[[], None]) -> Iterator[None]:  # noqa: ANN401
    """Do something when the session is closed in the block because it cannot connect: the client takes a new one."""
    close = session.close

    def closed() -> None:
        close()
        if isinstance(sys.exc_info()[1], client_error()):  # else whoever closes it may hold the lock of sessions
            then()

    session.close = closed
    try:
        yield
    finally:
        session.close = close


def wait_asked(response: Any) -> float:  # noqa: ANN401
    """Return the seconds that an answer 429 or 503 asks to wait before the next request; 0 when it names none."""
    if response.status_code not in (429, 503):
        return 0.0
    after = response.headers.get("Retry-After", "")
    reset = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", response.headers.get("RateLimit", ""))
    return float(reset[1]) if reset else float(after) if after.isdecimal() else 0.0


def reason(error: BaseException) -> str:
    """Return in one line why the Hub could not be read."""
    causes = [error, *([error.__cause__] if error.__cause__ else [])]
    for cause in causes:
        for kind in type(cause).__mro__:
            if kind.__name__ in REASONS:
                return REASONS[kind.__name__]
    answers = (getattr(cause, "response", None) for cause in causes)
    status = next((answer.status_code for answer in answers if answer is not None), None)
    if status in STATUSES:
        return STATUSES[status]
    if isinstance(status, int) and status >= 500:
        return f"the Hub has an error of its own ({status}); run the same command again"
    return first_line(error)


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
