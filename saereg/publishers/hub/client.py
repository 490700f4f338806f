"""What a publisher asks of one repository; `asking.py` says how requests are made."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload
from urllib.parse import quote

from saereg import __version__
from saereg.errors import PublishError
from saereg.publishers.hub.asking import COMMIT, LEAST_RATE, PAUSE, TRIES, WRITE, Asker, within
from saereg.publishers.hub.state import Tree, tree_of
from saereg.publishers.hub.target import HubTarget
from saereg.publishers.publisher import Tell


@dataclass(frozen=True)
class PullRequest:
    """One pull request.

    Attributes:
        number: its number.
        status: `draft`, `open`, `closed` or `merged`.
        author: name of the account that opened it.
    """

    number: int
    status: str
    author: str


@dataclass(frozen=True)
class Refs:
    """What names commits of a repository.

    Attributes:
        branches: branch → its head.
        tags: tag → its commit.
    """

    branches: dict[str, str]
    tags: dict[str, str]


class Client(Asker):
    """What a publisher asks of one repository."""

    def __init__(self, target: HubTarget, tell: Tell | None = None) -> None:
        from huggingface_hub import HfApi

        self._api = HfApi(endpoint=target.endpoint, library_name="saereg", library_version=__version__)
        super().__init__(target, str(self._api.endpoint), tell or (lambda line: None))

    def head(self, revision: str) -> str | None:
        """Return the commit of a branch; None when there is no such branch, or no such repository.

        Raises:
            PublishError: when the Hub cannot be asked.
        """
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        def ask() -> str | None:
            try:
                return str(self._api.repo_info(self.target.repo, revision=revision).sha)
            except GatedRepoError:
                raise
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None

        return self.ask("look at the repository", ask)

    def is_public(self) -> bool:
        """Whether anybody can read the repository.

        Raises:
            PublishError: when the Hub cannot be asked.
        """
        return self.ask("look at the repository", lambda: self._api.repo_info(self.target.repo).private is False)

    def appeared(self, revision: str) -> str:
        """Return the commit of a branch or pull request that has just been made; it may not be seen at once.

        Raises:
            PublishError: when it does not appear, or the Hub cannot be asked.
        """
        for look in range(TRIES):
            if (head := self.head(revision)) is not None:
                return head
            time.sleep(PAUSE * 2**look)
        raise PublishError(f"{self.target.name}: {revision} was made, but is not there; run the same command again")

    def tree(self, revision: str, *, whole: bool = False) -> Tree:
        """Return what a commit holds.

        Args:
            revision: the commit.
            whole: whether files that are no part of any release are in it too.

        Raises:
            PublishError: when the Hub cannot be asked.
        """
        from huggingface_hub.errors import EntryNotFoundError

        def ask() -> Tree:
            try:
                return tree_of(
                    self._api.list_repo_tree(self.target.repo, recursive=True, revision=revision), whole=whole
                )
            except EntryNotFoundError:  # a commit without a single file
                return {}

        return self.ask("list the files", ask)

    def refs(self) -> Refs:
        """Return the branches and tags.

        Raises:
            PublishError: when the Hub cannot be asked.
        """
        found = self.ask("list the branches and tags", lambda: self._api.list_repo_refs(self.target.repo))
        tables = ({ref.name: str(ref.target_commit) for ref in refs} for refs in (found.branches, found.tags))
        return Refs(*tables)

    def tags(self) -> dict[str, str]:
        """Return tag → commit; raises what `refs` raises."""
        return self.refs().tags

    def read(self, path: str, revision: str, size: int) -> bytes:
        """Return the bytes of a small file at a commit.

        Raises:
            PublishError: when the Hub cannot be asked.
        """
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(self.target.repo, path, revision=revision, endpoint=self.endpoint)
        headers = build_hf_headers(library_name="saereg", library_version=__version__)

        def ask() -> bytes:
            response = get_session().get(url, headers=headers, follow_redirects=True)
            hf_raise_for_status(response)
            return bytes(response.content[: size + 1])

        return self.ask(f"read {path}", ask)

    def history(self, revision: str) -> list[tuple[str, str]]:
        """Return (commit, title and message) of the last commits of a branch, the newest first: one page of them.

        Raises:
            PublishError: when the Hub cannot be asked.
        """
        raw = self._get(f"commits/{quote(revision, safe='')}", "read the history")
        try:
            return [(str(one["id"]), f"{one['title']}\n{one.get('message') or ''}") for one in json.loads(raw)]
        except (ValueError, TypeError, KeyError):
            raise PublishError(
                f"{self.target.name}: cannot read the history: the answer is not that of a Hub"
            ) from None

    def require_write(self) -> None:
        """Ask whether this token may write to the repository; a server that cannot be asked will say so later.

        Raises:
            PublishError: when it may not.
        """
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        def ask() -> None:
            try:
                self._api.auth_check(self.target.repo, write=True)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError as error:
                if error.response is None or error.response.status_code != 404:
                    raise
                self.tell(f"{self.endpoint} does not say beforehand whether this token may write")

        self.ask("ask for write access", ask)

    def check_card(self, text: str) -> None:
        """Have the Hub check the metadata of a card before anything is sent.

        Raises:
            PublishError: when it refuses it, or cannot be asked.
        """

        def ask() -> str | None:
            try:
                self._api._validate_yaml(text, repo_type="model")
            except ValueError as error:
                return " ".join(str(error).split())
            return None

        problem = self.ask("check the card", ask)
        if problem:
            raise PublishError(f"README.md: the Hub refuses its metadata: {problem}")

    def offers(self, route: str) -> bool:
        """Whether the Hub answers a request about the repository at all: how one finds out what it can do.

        Args:
            route: what stands after `/api/models/org/name/`.

        Raises:
            PublishError: when it cannot be asked.
        """
        return self._get(route, "ask what the Hub can do", missing=(404, 405, 501)) is not None

    def make_repository(self, *, private: bool) -> None:
        """Make the repository; it may be there already.

        Raises:
            PublishError: when it may not be made.
        """
        self.ask(
            "make the repository",
            lambda: self._api.create_repo(self.target.repo, private=private or None, exist_ok=True),
        )

    def make_branch(self, revision: str) -> None:
        """Make the branch at a commit; it may be there already.

        Raises:
            PublishError: when it may not be made.
        """
        branch = self.target.branch
        self.ask(
            f"make the branch {branch}",
            lambda: self._api.create_branch(self.target.repo, branch=branch, revision=revision, exist_ok=True),
        )

    def send(self, additions: Sequence[Any], revision: str, jobs: int) -> None:
        """Send the bytes of files that a later commit will name. May be repeated: what is there is not sent again.

        Args:
            additions: operations of the Hub client.
            revision: branch that they will be committed to.
            jobs: files at a time.

        Raises:
            PublishError: when the Hub does not take them.
        """
        longest = WRITE + sum(addition.upload_info.size for addition in additions) / LEAST_RATE

        def send() -> None:
            self._api.preupload_lfs_files(
                self.target.repo,
                additions=additions,
                revision=revision,
                num_threads=jobs,
                free_memory=True,  # of what has arrived; small files that travel in the commit are kept
                gitignore_content="",  # else one that lies on the Hub would silently keep files out
            )

        self.ask("send files", lambda: within(longest, send), patience=WRITE)

    def commit(self, operations: Sequence[Any], revision: str, base: str, title: str, description: str) -> str:
        """Make one commit on top of `base` and return it.

        Raises:
            UnsureError: when the reply leaves open whether it was made; 412 is among these replies, because a client or
                a proxy may have sent it twice.
            MissingBytesError: when bytes must be sent again.
            PublishError: when the Hub refuses.
        """

        def send() -> str:
            made = self._api.create_commit(
                self.target.repo,
                operations,
                commit_message=title,
                commit_description=description,
                revision=revision,
                parent_commit=base,
            )
            return str(made.oid)

        return self.ask("commit", send, safe=False, patience=COMMIT)

    def pull_requests(self, title: str) -> list[PullRequest]:
        """Return the pull requests with a title, the newest first.

        Raises:
            PublishError: when the Hub cannot be asked.
        """

        def ask() -> list[PullRequest]:
            found = self._api.get_repo_discussions(self.target.repo, discussion_type="pull_request")
            ours = (PullRequest(one.num, one.status, one.author) for one in found if one.title == title)
            return sorted(ours, key=lambda one: -one.number)

        return self.ask("list the pull requests", ask)

    def open_pull_request(self, title: str, description: str) -> int:
        """Open a pull request and return its number.

        Raises:
            UnsureError: when the reply leaves open whether it was opened.
            PublishError: when it may not be opened.
        """

        def send() -> int:
            made = self._api.create_pull_request(self.target.repo, title=title, description=description)
            return int(made.num)

        return self.ask("open a pull request", send, safe=False)

    def me(self) -> str:
        """Return the name of the account that the token is of.

        Raises:
            PublishError: when the Hub does not say.
        """
        return str(self.ask("ask who this is", lambda: self._api.whoami(cache=True))["name"])

    def set_status(self, number: int, status: str, comment: str | None = None) -> None:
        """Open a draft of a pull request for merging, or close it; it may be so already.

        Raises:
            PublishError: when it may not be done.
        """
        self.ask(
            f"mark pull request {number} as {status}",
            lambda: self._api.change_discussion_status(self.target.repo, number, status, comment=comment),
        )

    def merge(self, number: int, comment: str) -> None:
        """Merge a pull request.

        Raises:
            UnsureError: when the reply leaves open whether it was merged.
            PublishError: when the Hub refuses.
        """
        self.ask(
            f"merge pull request {number}",
            lambda: self._api.merge_pull_request(self.target.repo, number, comment=comment),
            safe=False,
            patience=COMMIT,
        )

    def tag(self, name: str, revision: str, message: str) -> None:
        """Tag a commit.

        Raises:
            UnsureError: when the reply leaves open whether it was made; an answer that there is one is among these.
            PublishError: when it may not be made.
        """

        def send() -> None:
            self._api.create_tag(self.target.repo, tag=name, revision=revision, tag_message=message)

        self.ask(f"make the tag {name}", send, safe=False)

    @overload
    def _get(self, route: str, what: str) -> bytes: ...

    @overload
    def _get(self, route: str, what: str, missing: tuple[int, ...]) -> bytes | None: ...

    def _get(self, route: str, what: str, missing: tuple[int, ...] = ()) -> bytes | None:
        """Return the first page of what the Hub answers about the repository; None for one of some statuses."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = f"{self.endpoint}/api/models/{self.target.repo}/{route}"
        headers = build_hf_headers(library_name="saereg", library_version=__version__)

        def ask() -> bytes | None:
            response = get_session().get(url, headers=headers)
            if response.status_code in missing:
                return None
            if missing and response.status_code in (401, 403):  # there it is, for those who may
                return b""
            hf_raise_for_status(response)
            return bytes(response.content)

        return self.ask(what, ask)
