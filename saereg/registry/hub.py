"""Releases on the Hub, read through huggingface_hub: documents first, weights only of the artifact asked for."""

from pathlib import Path

from saereg.errors import PublishError


def fetch_documents(repo: str, revision: str | None) -> Path:
    """Download the JSON documents of a release (no weights) and return the local snapshot.

    Raises:
        PublishError: when the repository, revision or network is not there.
    """
    return _snapshot(repo, revision, ["*.json", "**/*.json"])


def fetch_folder(repo: str, revision: str, folder: str) -> Path:
    """Download the files of one artifact at a resolved commit and return the local snapshot of the release."""
    return _snapshot(repo, revision, [f"{folder}/*", "*.json"])


def _snapshot(repo: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, library_name="saereg"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise PublishError(f"hf://{repo}{'@' + revision if revision else ''}: {first}") from error
