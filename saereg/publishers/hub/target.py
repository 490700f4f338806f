"""Where a release goes on the Hub, and what the user wishes of it."""

import re
from dataclasses import dataclass

from saereg.errors import UsageError
from saereg.registry.hub import is_commit
from saereg.registry.refs import Reference, parse_reference

BRANCH = "main"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True)
class HubTarget:
    """A branch of a repository.

    Attributes:
        repo: `org/name`.
        branch: branch that readers read.
        endpoint: address of the Hub; None: HF_ENDPOINT, or huggingface.co.
    """

    repo: str
    branch: str = BRANCH
    endpoint: str | None = None

    @property
    def name(self) -> str:
        """How it is written."""
        return f"hf://{self.repo}" + ("" if self.branch == BRANCH else f"@{self.branch}")


def parse_target(text: str, branch: str | None = None) -> HubTarget:
    """Return what `hf://org/repo[@branch]` names.

    Args:
        text: the target.
        branch: branch that was named by an option.

    Raises:
        UsageError: when it names no repository, or a branch twice.
    """
    try:
        reference = parse_reference(text.rstrip("/"))
    except UsageError:
        reference = Reference()
    if reference.repo is None or reference.artifact is not None:
        raise UsageError(f"{text!r} is no repository; write hf://org/repo[@branch]")
    if reference.revision and branch and reference.revision != branch:
        raise UsageError(f"{text} and --branch {branch} name two branches; leave one of them out")
    named = reference.revision or branch or BRANCH
    if named.startswith("refs/"):
        raise UsageError(f"{text}: {named} is no branch; to propose a release, publish to the branch with --pr")
    if is_commit(named):
        raise UsageError(f"{text}: {named[:8]} is a commit, which never moves; name a branch")
    if not _NAME.fullmatch(named) or ".." in named or named.endswith((".", "/", ".lock")):
        raise UsageError(f"{text}: {named!r} is no name for a branch; use letters, digits and . _ - /")
    return HubTarget(reference.repo, named)
