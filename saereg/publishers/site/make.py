"""From a release to the folder of its page."""

from dataclasses import dataclass
from pathlib import Path

from saereg.errors import UsageError
from saereg.publishers.site.contents import Contents, Progress, Wanted, contents_of
from saereg.publishers.site.embed import packed
from saereg.publishers.site.libraries import Libraries, libraries
from saereg.publishers.site.shell import MARK, page_of, space_card
from saereg.registry import hub
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.files.place import FolderPlace, Place
from saereg.registry.release import Release
from saereg.registry.validators.runner import validate
from saereg.schemas.report import Level, Report

PAGE, CARD = "index.html", "README.md"

OURS = frozenset({PAGE, CARD, ".git", ".gitattributes"})
"""What may stand in the folder of a page that is made again; the last two are of the repository of a Space."""


@dataclass(frozen=True)
class Site:
    """A page that was written.

    Attributes:
        folder: where it is.
        size: bytes of index.html.
        report: the findings that it shows.
        left_out: in words, what it has not.
    """

    folder: Path
    size: int
    report: Report
    left_out: tuple[str, ...]


def make_site(
    release: Release,
    folder: Path,
    *,
    wanted: Wanted | None = None,
    level: Level | None = None,
    force: bool = False,
    inside: bool = False,
    progress: Progress | None = None,
) -> Site:
    """Write the page of a release: index.html, and README.md that makes the folder a static Space of the Hub.

    Args:
        release: an open release, here or on the Hub.
        folder: where the page goes; made where it is not there.
        wanted: what the page shows. Default: everything, its code to be run in the folder of the release.
        level: `layout` or `header`, at which the release is validated. Default: `header` of a folder, `layout` of a
            release on the Hub, of which nothing is fetched but documents.
        force: whether a folder that holds something else is taken; only the two files are replaced.
        inside: whether the page may stand in the release itself, whose index then does not know it.
        progress: called as the work goes on.

    Raises:
        UsageError: when the folder holds something else, or is in the release.
        PublishError: when the Hub does not answer.
        OSError: when the folder cannot be read or written.
    """
    require_free(release, folder, force=force, inside=inside)
    parts = libraries()
    wanted = wanted or Wanted()
    wanted = Wanted(wanted.place, wanted.features, wanted.plots and parts.plots is not None)
    report = validate(_place(release), level or ("header" if release.repo is None else "layout"), progress=progress)
    if release.repo is not None:
        hub.fetch_shown(release.repo, release.path.name)
    contents = contents_of(release, report, wanted, progress)
    text = html_of(contents, parts)
    if not (folder / CARD).exists():
        write_text_atomically(folder / CARD, space_card(release.manifest))
    write_text_atomically(folder / PAGE, text)
    return Site(folder, len(text.encode()), report, tuple(contents.head.get("left_out", ())))


def html_of(contents: Contents, parts: Libraries) -> str:
    """Return the page itself."""
    packs = contents.parts | ({"plots": packed(parts.plots)} if parts.plots else {})
    return page_of(contents.head, packs, parts)


def require_free(release: Release, folder: Path, *, force: bool, inside: bool) -> None:
    """Refuse a folder that holds something else than such a page, or that is a part of the release.

    Raises:
        UsageError: saying what is in the way, and what to do.
        OSError: when the folder cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder with -o")
    root = release.path.resolve()
    if not inside and release.repo is None and folder.resolve().is_relative_to(root):
        raise UsageError(
            f"{folder} is in the release, whose index does not know it; name another folder, or add --inside"
        )
    if force or not folder.is_dir():
        return
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in OURS)
    if others or ((folder / PAGE).exists() and not is_ours(folder / PAGE)):
        what = others[0] if others else PAGE
        raise UsageError(f"{folder} holds {what}, which is no page of saereg; name another folder, or add --force")


def is_ours(page: Path) -> bool:
    """Whether a file is a page of saereg, by the mark at its head."""
    with page.open("rb") as file:
        return MARK.encode() in file.read(2_000)


def _place(release: Release) -> Place:
    if release.repo is None:
        return FolderPlace(release.path)
    from saereg.registry.remote import open_place

    return open_place(f"hf://{release.repo}@{release.path.name}")
