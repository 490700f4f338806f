"""SR5: the text of the cards: what was read in the wrong encoding, and links and paths that lead nowhere."""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from posixpath import normpath

from saereg.errors import did_you_mean
from saereg.registry.cards.artifact_card import without_generated
from saereg.registry.cards.card import CARD_FILE, MAX_CARD_BYTES, Card
from saereg.registry.cards.inline import Link
from saereg.registry.cards.mojibake import garbled_in
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.report import Finding

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:|^//")
_OWN = re.compile(
    r"^https?://(?:www\.)?(?:huggingface\.co|hf\.co)/[^/]+/(?P<name>[^/]+)/(?:blob|resolve|raw|tree)/main/(?P<path>.*)$"
)
_BRACES = re.compile(r"^[^\s{}$\\'\"]*\{[^\s{}'\":]*(?:\.\.|,)[^\s{}'\":]*\}[^\s$\\'\"]*$")
_FILE = re.compile(r"\.(?:safetensors|json|jsonl|md|pt|pth|bin|npz|yaml|yml|csv|txt|parquet|png|svg|log)$", re.I)
_PLACEHOLDER = re.compile(r"<[\w ./-]+>|…")
_REPOSITORY = re.compile(r"([\w.-]+)/[^/]+$")
_KIND_OF_FILE = re.compile(r"\*\.\w+$")
_WORD = re.compile(r"[^\s|,;()<>\[\]`{}]{1,300}(?:\{[^\s{}]{0,300}\}[^\s|;()<>\[\]`,{}]{0,300})+")


LONGEST_PATH = 1000
"""Characters of what is still taken for a path."""

MOST_PATTERNS = 50
"""Patterns that fit nothing and are told of; each of them is held against every file."""


def cards_of(release: ReleaseSubject) -> Iterator[tuple[str, Card]]:
    """Yield (path, card) of the release's card and of every other .md file."""
    if release.card is not None:
        yield CARD_FILE, release.card
    for path in release.files:
        if path.endswith(".md") and path != CARD_FILE:
            text, _ = release.read_text(path, MAX_CARD_BYTES)
            if text is not None:
                yield path, Card(without_generated(text))


def encoding_kept(release: ReleaseSubject) -> Iterator[Finding]:
    """SR507: no text was read in another encoding than it was written in."""
    for problem in release.read_text(CARD_FILE, MAX_CARD_BYTES)[1]:
        if "UTF-8" in problem.sentence and "order mark" not in problem.sentence:
            yield finding("SR507", f"{CARD_FILE}: {problem.sentence}", path=CARD_FILE, line=problem.line)
    for path, card in cards_of(release):
        if card.text.isascii():
            continue
        seen: set[int] = set()
        for place in garbled_in(_without_code(card)):
            if place.line in seen:
                continue
            seen.add(place.line)
            what = f"{place.found!r} was {place.meant!r} before" if place.meant else "a character was lost (U+FFFD)"
            message = f"{what} the text was read in the wrong encoding" if place.meant else what
            where = {"path": path, "line": place.line, "column": place.column}
            yield finding("SR507", message, expected=place.meant, found=place.found, **where)


def _without_code(card: Card) -> list[str]:
    """Return the lines of a card with code blanked: a token or a tree may be shown there as it is."""
    lines = list(card.lines)
    for block in card.blocks:
        if block.kind in ("fence", "code"):
            lines[block.line - 1 : block.end] = [""] * len(lines[block.line - 1 : block.end])
    return [re.sub(r"`[^`]*`", lambda code: " " * len(code[0]), line) if "`" in line else line for line in lines]


def links_alive(release: ReleaseSubject) -> Iterator[Finding]:
    """SR510: links into the release, and to anchors of the card, lead somewhere; nothing is fetched."""
    tree = _Tree(release)
    for path, card in cards_of(release):
        for link in card.links:
            problem = _dead(link, path, card, tree)
            if problem:
                where = {"path": path, "line": link.line, "found": link.target}
                yield finding("SR510", problem, expected=tree.guess(link.target), **where)


class _Tree:
    """What is in the release, for links."""

    def __init__(self, release: ReleaseSubject) -> None:
        # An index that is not there yet, and files that are indexed and missing, are reported by rules of their own.
        self.files = {*release.files, *release.indexed, MANIFEST_FILE, INDEX_FILE}
        self.folders = _folders(self.files)
        self.name = release.manifest.release.name.casefold() if release.manifest else None

    def has(self, path: str) -> bool:
        return path in self.files or path in self.folders

    def guess(self, target: str) -> str | None:
        bare = target.split("#")[0].split("?")[0]
        near = [
            path for path in self.files if PurePosixPath(path).name.casefold() == PurePosixPath(bare).name.casefold()
        ]
        return near[0] if len(near) == 1 else did_you_mean(bare, self.files) if len(self.files) < 2000 else None


def _folders(paths: Iterable[str]) -> set[str]:
    """Return every folder that one of the files is in, at any depth."""
    found = {"."}
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _dead(link: Link, path: str, card: Card, tree: _Tree) -> str | None:
    """Return why a link leads nowhere, or None."""
    target, base = link.target.strip(), PurePosixPath(path).parent
    own = _OWN.match(target)
    if own and own["name"].casefold() == tree.name:
        target, base = own["path"], PurePosixPath()
    elif _SCHEME.match(target) or target.startswith("/"):
        return None
    if _has_braces(target):
        return None
    place, _, anchor = target.partition("#")
    place = place.partition("?")[0]
    if not place:
        if not anchor and not target:
            return f"the link {link.text!r} leads nowhere"
        known = {name.casefold() for name in card.anchors} | {"", "top"}
        return None if anchor.casefold() in known else f"the card has no heading that #{anchor} names"
    whole = normpath(f"{base}/{place}")
    if whole.startswith("..") or tree.has(whole):
        return None
    what = "the image" if link.kind == "image" else "the link"
    return f"{what} {link.target} leads to no file of the release"


def paths_literal(release: ReleaseSubject) -> Iterator[Finding]:
    """SR511: a path that is given as that of a file is one, with no braces or stars for a shell to fill in."""
    files = "".join(f"/{path}\n" for path in release.files)
    folders = _folders(release.files)
    told = 0
    for path, card in cards_of(release):
        for line, text in _paths(card):
            if told < MOST_PATTERNS and text not in release.files and _is_pattern(text, files, folders):
                told += 1
                message = f"{text} is no path that can be downloaded: a shell would fill it in, the Hub does not"
                yield finding("SR511", message, path=path, line=line, found=text)


def _paths(card: Card) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of what may be a path: code and links, and in tables and paragraphs words with braces."""
    seen: set[tuple[int, str]] = set()
    found = [(code.line, code.text) for code in card.codes]
    found += [(link.line, link.target) for link in card.links if not _SCHEME.match(link.target)]
    for block in card.blocks:
        if block.kind in ("paragraph", "table"):
            for line in block.lines:
                words = _WORD.findall(re.sub(r"`[^`]*`", " ", line.text)) if "{" in line.text else ()
                found += [(line.number, word.rstrip(".:")) for word in words if _FILE.search(word.rstrip(".:"))]
    for place in found:
        if place not in seen and not any(c.isspace() for c in place[1]):
            seen.add(place)
            yield place


def _is_pattern(text: str, files: str, folders: set[str]) -> bool:
    """Whether a text is a path for a shell; a pattern with stars that fits files is one for `hf download --include`."""
    if not ("/" in text or _FILE.search(text)) or _SCHEME.match(text) or _PLACEHOLDER.search(text):
        return False
    if _has_braces(text):
        return not _names_repositories(text, folders)
    if "*" not in text or not re.fullmatch(r"[\w./*?\[\]-]+", text) or not _FILE.search(text):
        return False
    return not _KIND_OF_FILE.match(text) and not _fits(text, files)


def _has_braces(text: str) -> bool:
    """Whether a text has alternatives in braces, as a shell expands them; nothing longer is a path."""
    return len(text) <= LONGEST_PATH and _BRACES.match(text) is not None


def _names_repositories(text: str, folders: set[str]) -> bool:
    """Whether braces stand for several repositories, `org/name-{2b,9b}`, and not for files of this one."""
    owner = _REPOSITORY.match(text)
    return owner is not None and owner[1] not in folders and ".." not in text and not _FILE.search(text)


def _fits(pattern: str, files: str) -> bool:
    """Whether a pattern fits one of the files, seen from the root or from any folder.

    Looked for by its beginning: a card may have a pattern in each of its 10,000 rows.
    """
    start = "/" + re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    at = files.find(start)
    while at >= 0:
        if fnmatchcase(files[at + 1 : files.index("\n", at)], pattern):
            return True
        at = files.find(start, at + 1)
    return False
