"""What went wrong with a request, in plain words that say what to do next."""

from dataclasses import dataclass
from typing import Any

from saereg.registry import hub

BUSY = 429
"""Status of an answer that asks to come back later: nothing was done."""

AGAIN = (408, 429, 500, 502, 503, 504)
"""Statuses after which a request that may be repeated is repeated."""

UNSURE = (408, 409, 412, 500, 502, 503, 504)
"""Statuses after which what was asked for may have been done all the same."""

_MISSING_BLOB = "pointed to a file that does not exist"

_SENTENCES = {
    400: "the Hub refuses this: {said}",
    401: "the Hub does not know who you are: log in with `hf auth login`, or set HF_TOKEN to a token with write access",
    402: "the account of {namespace} may not do this without paying: {said}",
    403: "this token may not write to {repo}: give it the role `write`, or of a fine-grained token the permission "
    "`Write access to contents of all repos` for {namespace}{instead}",
    404: "{repo} is not there, or this token may not see it: check the name, HF_TOKEN and HF_ENDPOINT",
    409: "the Hub says that it exists already: {said}",
    410: "{repo} is gone",
    412: "somebody else changed {repo} meanwhile: plan again",
    413: "one request was too large for the Hub: {said}",
    429: "too many requests: {wait}; what was sent is kept, run the same command again",
}

_SPECIAL = (
    (
        403,
        "create_pr",
        "this token may only open pull requests in {repo}: use one that may write{instead}",
    ),
    (403, "storage", "the Hub takes no more bytes of {namespace}: {said}; free some, or ask for more"),
    (403, "gated", "access to {repo} is restricted; ask for it on the repository's page"),
    (403, "rights to create", "this token may not make {repo}: make it on the site first, or use a token that may"),
    (
        400,
        _MISSING_BLOB,
        "the Hub has lost bytes that it had taken; run the same command again, and they are sent anew",
    ),
    (400, "oken", "the Hub found a secret in the files: {said}"),
)
"""Status, a part of what the Hub says, and the better sentence."""


@dataclass(frozen=True)
class Failure:
    """One request that failed.

    Attributes:
        status: of the answer; None when there was none.
        said: what the Hub, or the network, says of it, in one line.
        wait: seconds that the Hub asks to wait.
        reached: whether the request may have reached the Hub.
    """

    status: int | None
    said: str
    wait: float = 0.0
    reached: bool = True

    @property
    def is_not_offered(self) -> bool:
        """Whether the server does not know such requests at all."""
        return self.status in (404, 405, 501)

    @property
    def may_be_repeated(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status is None or self.status in AGAIN

    @property
    def leaves_open(self) -> bool:
        """Whether what was asked for may have been done."""
        return self.reached and (self.status is None or self.status in UNSURE)

    @property
    def lost_bytes(self) -> bool:
        """Whether a commit was refused because bytes that it names are not there."""
        return self.status == 400 and _MISSING_BLOB in self.said

    def sentence(self, repo: str, endpoint: str, instead: str = "") -> str:
        """Return what happened and what to do.

        Args:
            repo: repository that it was about.
            endpoint: address of the Hub.
            instead: what one can do without the right to write.
        """
        words = {"repo": repo, "namespace": repo.partition("/")[0], "said": self.said, "wait": self._come_back()}
        words["instead"] = instead
        if self.status is None:
            return f"{self.said} ({endpoint}); nothing is lost: run the same command again"
        for status, part, sentence in _SPECIAL:
            if status == self.status and part in self.said:
                return sentence.format(**words)
        if self.status >= 500 or self.status == 408:
            return f"the Hub has an error of its own ({self.status}); nothing is lost: run the same command again"
        return _SENTENCES.get(self.status, "the Hub refuses this ({status}): {said}").format(
            status=self.status, **words
        )

    def _come_back(self) -> str:
        return f"come back in {self.wait:.0f} seconds" if self.wait else "come back in an hour"


SETTINGS = {
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set: nothing is asked of the Hub until it is unset",
}
"""Class of an exception → the setting of this machine that is to be mended; to try again is no use."""


def setting_of(error: BaseException) -> str | None:
    """Return which setting of this machine kept a request from being made; None when it is none."""
    causes = (error, error.__cause__)
    return next((SETTINGS[k.__name__] for cause in causes for k in type(cause).__mro__ if k.__name__ in SETTINGS), None)


def failure_of(error: BaseException) -> Failure:
    """Return what an exception of the Hub client, of its Xet client or of the network says.

    hf-xet raises errors of Python itself, and uploads of Git LFS wrap what happened in a RuntimeError.
    """
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and len(causes) < 8:
        causes.append(cause)
    for cause in causes:
        response = getattr(cause, "response", None)
        if response is not None and isinstance(getattr(response, "status_code", None), int):
            return Failure(response.status_code, _said(cause, response), hub.wait_asked(response))
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    reached = kinds.isdisjoint({"ConnectError", "ConnectTimeout"})
    return Failure(None, hub.reason(causes[-1] if len(causes) > 1 else error), reached=reached)


def _said(error: BaseException, response: Any) -> str:  # noqa: ANN401 - httpx.Response, or httpx2.Response
    message = response.headers.get("X-Error-Message") or getattr(error, "server_message", None)
    lines = [line.strip() for line in str(message or error).splitlines() if line.strip()]
    return lines[0][:300] if lines else f"status {response.status_code}"
