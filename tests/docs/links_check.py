"""Every link of the built guide leads somewhere: `python tests/docs/links_check.py [HTML]`, which `make docs` runs.

Inside the guide every page, file and anchor has to exist; addresses elsewhere are https and well formed, and are not
fetched. Those that lead into the repository on its host are looked up in the tree that lies here.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
HTML = ROOT / "docs/_build/html"
REPOSITORY = "https://github.com/saereg/saereg"

MADE = ("_build", "_generated")
"""Folders of docs that are made and not kept."""

ADDRESS = re.compile(r"https://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::\d+)?(?:[/?#][^\s<>\"]*)?$", re.IGNORECASE)


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[tuple[int, str]] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links and anchors."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)
            elif name in ("href", "src", "data", "poster"):
                self.links.append((self.getpos()[0], value))
            elif name == "srcset":
                self.links += [(self.getpos()[0], part.split()[0]) for part in value.split(",")]


def dead(html: Path) -> Iterator[str]:
    """Yield `page:line: link: why` of every link that leads nowhere."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(html.rglob("*.html"))}
    for path, page in pages.items():
        for line, link in page.links:
            why = _problem(path, link, pages, html)
            if why:
                yield f"{path.relative_to(html.resolve()).as_posix()}:{line}: {link}: {why}"


def _problem(path: Path, link: str, pages: dict[Path, Page], html: Path) -> str | None:
    parts = urlsplit(link)
    if parts.scheme in ("data", "mailto"):
        return None
    if parts.scheme or parts.netloc:
        return _elsewhere(link)
    target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "there is no such file"
    if not target.is_relative_to(html.resolve()):
        return "it leads out of the guide"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "there is no such anchor"
    return None


def _elsewhere(link: str) -> str | None:
    for kind in ("blob", "tree", "edit"):
        start = f"{REPOSITORY}/{kind}/main/"
        if link.startswith(start):
            path = unquote(urlsplit(link.removeprefix(start)).path)
            there = (ROOT / path).exists() and not set(MADE) & set(Path(path).parts)
            return None if there else "the repository has no such file"
    return None if ADDRESS.match(link) else "it is no https address"


def main(arguments: list[str]) -> int:
    """Print what is dead, and count."""
    html = Path(arguments[0]) if arguments else HTML
    found = list(dead(html))
    pages = len(list(html.rglob("*.html")))
    sys.stdout.writelines(f"{line}\n" for line in found)
    if not pages:
        sys.stdout.write(f"{html}: there are no pages; run sphinx-build first\n")
        return 1
    sys.stdout.write(f"{pages} pages, {len(found)} dead links\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
