"""What went wrong is one line that says what to do: which right is missing, when to come back."""

import pytest

from saereg.errors import PublishError, UsageError
from saereg.publishers.hub.publisher import HubPublisher
from saereg.publishers.hub.target import HubTarget
from saereg.publishers.hub.words import Failure
from saereg.publishers.local_hub import Fault

RATE = {"RateLimit": '"api";r=0;t=1'}


def refused(repository, root, **wishes) -> str:
    """Publish what cannot be, and return the line."""
    with pytest.raises(PublishError) as raised:
        repository.publish(root, **wishes)
    assert raised.value.exit_code == 4
    text = str(raised.value)
    assert "\n" not in text
    assert "http" not in text.replace(repository.hub.url, "")
    assert text.startswith(f"hf://{repository.name}: cannot ")
    return text.removeprefix(f"hf://{repository.name}: ")


def test_without_a_token_one_is_asked_to_log_in(repository, settled, monkeypatch, tmp_path):
    """Planning needs none."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert repository.plan(settled).hub.creates == "repository"
    assert refused(repository, settled) == (
        "cannot make the repository: the Hub does not know who you are: log in with `hf auth login`, or set HF_TOKEN "
        "to a token with write access"
    )


def test_a_token_that_may_only_read_says_what_is_missing(repository, settled, monkeypatch):
    """Whether the repository is there or not; nothing is sent."""
    monkeypatch.setenv("HF_TOKEN", "hf_readonly")
    why = (
        f"this token may not write to {repository.name}: give it the role `write`, or of a fine-grained token the "
        "permission `Write access to contents of all repos` for org; or publish with --pr, which needs less"
    )
    assert refused(repository, settled).startswith("cannot make the repository: this token may not ")
    repository.api.create_repo(repository.name)
    assert repository.plan(settled).hub.commits == 1
    assert refused(repository, settled) == f"cannot ask for write access: {why}"
    assert repository.tree() == {}


def test_a_token_that_is_none_is_said_to_be_unknown(repository, settled, monkeypatch):
    """As one that was revoked."""
    monkeypatch.setenv("HF_TOKEN", "secret-of-another-site")
    text = refused(repository, settled)
    assert "the Hub does not know who you are" in text
    assert "secret" not in text


def test_a_private_repository_of_somebody_else_is_not_there(repository, settled, monkeypatch):
    """The Hub does not tell the two apart."""
    repository.api.create_repo(repository.name, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    repository.hub.faults.append(Fault("auth", status=404, count=-1))
    assert refused(repository, settled) == (
        f"cannot ask for write access: {repository.name} is not there, or this token may not see it: check the name, "
        "HF_TOKEN and HF_ENDPOINT"
    )


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("commit", status=413, message="Payload too large"), "cannot commit: one request was too large"),
        (Fault("commit", status=403, message="pass `create_pr=1`"), "may only open pull requests"),
        (
            Fault("preupload", status=403, message="Private repository storage limit reached"),
            "takes no more bytes of org",
        ),
        (Fault("create", status=402, message="Upgrade to PRO"), "may not do this without paying: Upgrade to PRO"),
        (Fault("commit", status=400, message="Token found in README.md"), "found a secret in the files: Token found"),
        (Fault("auth", status=500, count=-1), "the Hub has an error of its own (500); nothing is lost: run the same"),
        (Fault("commit", status=418, message="I am a teapot"), "the Hub refuses this (418): I am a teapot"),
        (
            Fault("commit", status=400, message="first line\n\nsecond"),
            "cannot commit: the Hub refuses this: first line",
        ),
        (
            Fault("create", status=403, message="You don't have the rights to create a model"),
            "make it on the site first",
        ),
    ],
    ids=["too large", "pull requests only", "storage", "payment", "secret", "server", "unknown", "lines", "namespace"],
)
def test_each_answer_has_its_sentence(repository, settled, fault, words):
    """And nothing is published."""
    repository.hub.faults.append(fault)
    assert words in refused(repository, settled)
    repository.hub.faults.clear()
    assert not repository.api.repo_exists(repository.name) or repository.tree() == {}


def test_a_busy_hub_is_waited_for_as_long_as_it_asks(repository, settled, monkeypatch):
    """The line says so meanwhile."""
    said: list[str] = []
    repository.hub.faults.append(Fault("auth", status=429, headers=RATE))

    receipt = repository.publish(settled, tell=said.append)

    assert said == ["the Hub is busy and asks to wait 1 s"]
    assert receipt.hub.retries == 1


def test_a_hub_that_asks_for_too_long_a_wait_is_left(repository, settled):
    """With when to come back."""
    repository.hub.faults.append(Fault("auth", status=429, headers={"Retry-After": "3000"}))
    assert refused(repository, settled) == (
        "cannot ask for write access: too many requests: come back in 3000 seconds; what was sent is kept, run the "
        "same command again"
    )


def test_a_hub_that_is_always_busy_is_left_in_the_end(repository, settled, monkeypatch):
    """An hour, the window of commits, is what is named where the Hub names no time."""
    repository.hub.faults.append(Fault("auth", status=429, count=-1))
    assert "too many requests: come back in an hour" in refused(repository, settled)


def test_a_hub_that_is_not_there(settled, repository):
    """Nobody answers."""
    publisher = HubPublisher(HubTarget("org/name", endpoint="http://127.0.0.1:9"))
    with pytest.raises(PublishError) as raised:
        publisher.plan(settled, repository.report_of(settled))
    assert str(raised.value) == (
        "hf://org/name: cannot look at the repository: the Hub cannot be reached (http://127.0.0.1:9); nothing is "
        "lost: run the same command again"
    )


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_what_leaves_open_whether_it_happened(status):
    """Of these a caller looks at the repository; of a refusal it need not."""
    assert Failure(status, "").leaves_open
    assert Failure(status, "").may_be_repeated
    assert not Failure(403, "").leaves_open
    assert not Failure(None, "", reached=False).leaves_open


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9", "localhost", "http://[::1", "http://x:y", "ftp://x", "https://"])
def test_an_address_that_is_none_is_refused(endpoint):
    """To try again would be no use."""
    with pytest.raises(UsageError) as raised:
        HubPublisher(HubTarget("org/name", endpoint=endpoint))
    said = f"HF_ENDPOINT is {endpoint!r}, which is no address: write it like https://hub.example.org"
    assert str(raised.value) == said


def test_nothing_is_asked_offline(settled, repository, monkeypatch):
    """HF_HUB_OFFLINE is an order."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set: nothing is asked of the Hub until it is unset"):
        repository.plan(settled)
    assert repository.asked() == []
