"""SR702: rows whose file is not in its repository. One listing per repository, whatever the number of its rows."""

from collections.abc import Callable, Iterable, Iterator

from saereg.errors import NothingToValidateError, PublishError, UsageError
from saereg.registry.federation.directory import Directory, ListedRelease, Row, rows_of
from saereg.registry.remote import open_repository
from saereg.registry.validators.findings import finding
from saereg.schemas.report import Finding

Progress = Callable[[str, int, int], object]
"""What is asked, how many were, of how many."""

BROKEN_OFF = 3
"""Repositories in a row that cannot be asked, after which nothing more is: then the Hub is not there at all."""


def vanished(directory: Directory, progress: Progress | None = None) -> Iterator[Finding]:
    """Yield the rows whose file is not in its repository at its newest commit, and repositories that are not there.

    Raises:
        PublishError: when the Hub cannot be reached.
    """
    by_repo: dict[str, list[tuple[ListedRelease, Row]]] = {}
    for release in directory.seen:
        by_repo.setdefault(release.repo_id, []).extend((release, row) for row in release.rows)
    failed = 0
    for number, (repo, rows) in enumerate(by_repo.items(), 1):
        if progress is not None:
            progress(repo, number, len(by_repo))
        try:
            commit, paths = _listed(repo)
        except (UsageError, NothingToValidateError, PublishError) as error:
            failed += isinstance(error, PublishError)
            if failed == BROKEN_OFF and number == BROKEN_OFF:
                raise
            yield _gone(directory, rows, repo, str(error))
            continue
        yield from _missing(directory, rows, paths, f"{repo}@{commit[:12]}")


def _listed(repo: str) -> tuple[str, frozenset[str]]:
    """Return the newest commit of a repository, and every file and folder of it."""
    place = open_repository(repo, None)
    files = [entry.path for entry in place.entries()]
    return place.revision, frozenset(files) | frozenset(_folders(files))


def _folders(files: Iterable[str]) -> Iterator[str]:
    for path in files:
        parts = path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            yield "/".join(parts[:count])


def _missing(
    directory: Directory, rows: list[tuple[ListedRelease, Row]], paths: frozenset[str], where: str
) -> Iterator[Finding]:
    for release, row in rows:
        if not any(name in paths for name in _names(release, row)):
            message = f"{where} has no {row.path}, which {release.name}:{row.id} names"
            yield finding(
                "SR702",
                message,
                path=directory.path.name,
                line=row.lines.get("path", row.line),
                artifact=f"{release.name}:{row.id}",
                found=row.path,
            )


def _names(release: ListedRelease, row: Row) -> Iterator[str]:
    """Yield what may lie in a repository for a path: some loaders make other names of it (SAELens 6.54.12)."""
    yield row.path.strip("/")
    if release.conversion_func == "mntss_clt_layer_transcoder":
        yield f"W_enc_{row.path}.safetensors"
    if release.conversion_func == "gemma_3":
        yield f"{row.path}.safetensors"


def _gone(directory: Directory, rows: list[tuple[ListedRelease, Row]], repo: str, why: str) -> Finding:
    release = rows[0][0]
    named = f"{repo or 'a repository without a name'}, which {rows_of(len(rows))} of the registry name"
    message = f"{named}, cannot be listed: {why}"
    return finding("SR702", message, path=directory.path.name, line=release.line, artifact=release.name, found=repo)
