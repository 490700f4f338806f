"""A place in which the blocks of a card find the release: a folder to work in, and a cache of the Hub that holds it.

Files of up to a megabyte are copied, larger ones linked. Nothing in it is needed afterwards.
"""

import ast
import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saereg.registry.cards.snippets import Snippet
from saereg.registry.files.folder import scan

COPIED = 1024 * 1024
"""Files up to this size are copied."""

MOST_NAMES = 300
"""Texts of the blocks that are made revisions of the release: any of them may be one."""

_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*\Z")
_REFERENCE = re.compile(r"hf://([\w][\w.-]*/[\w][\w.-]*)(?:@([^:\s]+?))?(?:[:/].*)?\Z", re.DOTALL)
_REVISION = re.compile(r"[\w][\w./-]{0,100}\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_OTHERS = re.compile(
    r"(?i)auto(model|tokenizer|config|processor)|tokenizer|hooked|load_dataset|pipeline|languagemodel|nnsight"
)
"""Calls whose first argument is a model or a data set, never a release of dictionaries."""


@dataclass(frozen=True)
class Known:
    """What the manifest says of names.

    Attributes:
        release: name of the release.
        foreign: repositories of base models and data sets.
        inner: ids and folders of artifacts, which look like repositories.
    """

    release: str
    foreign: frozenset[str]
    inner: frozenset[str]


@dataclass(frozen=True)
class Stage:
    """The place.

    Attributes:
        scratch: the folder that is removed afterwards; blocks may write in it and nowhere else.
        work: the folder in which they run.
        hub: HF_HOME.
        own: repositories by which they ask for the release.
    """

    scratch: Path
    work: Path
    hub: Path
    own: frozenset[str]


def make_stage(scratch: Path, root: Path, snippets: Sequence[Snippet], known: Known) -> Stage:
    """Lay out the release for its blocks.

    Args:
        scratch: an empty folder.
        root: the release.
        snippets: its blocks.
        known: names of the manifest.
    """
    texts = _texts(snippets)
    own = own_repositories(snippets, known)
    stage = Stage(scratch, scratch / "work", scratch / "huggingface", own)
    for folder in (stage.work, stage.hub, scratch / "home", scratch / "tmp"):
        folder.mkdir()
    _copy(root, stage.work)
    for name in {root.resolve().name, known.release}:
        # by its own name only where a block uses that: a link in it is no part of a release
        used = any(text == name or text.startswith((f"{name}/", f"{name}:", f"./{name}")) for text in texts)
        if used and not os.path.lexists(stage.work / name):
            (stage.work / name).symlink_to(".", target_is_directory=True)
    revisions = [text for text in texts if _REVISION.match(text)]
    revisions += [match[2] for text in texts if (match := _REFERENCE.match(text)) and match[2]]
    for repository in own:
        _cache(stage, root, repository, revisions[:MOST_NAMES])
    return stage


def own_repositories(snippets: Sequence[Snippet], known: Known) -> frozenset[str]:
    """Return the repositories of the Hub by which blocks ask for the release itself.

    Those of its name; where there is none, all that look like a repository and are not known to be something else.
    """
    texts = _texts(snippets)
    references = {match[1] for text in texts if (match := _REFERENCE.match(text))}
    plain = {text for text in texts if _REPOSITORY.match(text)}
    candidates = (references | plain) - known.foreign - known.inner
    named = {text for text in candidates if text.split("/")[1].lower() == known.release.lower()}
    if named:
        return frozenset(named)
    return frozenset(candidates - _asked_of_others(snippets))


def _texts(snippets: Sequence[Snippet]) -> list[str]:
    """Return the string literals of the blocks, each once, in their order."""
    found: dict[str, None] = {}
    for node in _nodes(snippets):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 300:
            found[node.value] = None
    return list(found)


def _nodes(snippets: Sequence[Snippet]) -> Iterator[ast.AST]:
    for snippet in snippets:
        if snippet.problem is None and snippet.code:
            flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            yield from ast.walk(compile(snippet.code, "<block>", "exec", flags, dont_inherit=True))


def _asked_of_others(snippets: Sequence[Snippet]) -> set[str]:
    """Return the texts, also by way of a name, that are given to loaders of models and data sets."""
    names: dict[str, str] = {}
    calls: list[ast.Call] = []
    for node in _nodes(snippets):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            names |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.Call) and _OTHERS.search(ast.unparse(node.func)):
            calls.append(node)
    found = set()
    for call in calls:
        for value in (*call.args, *(keyword.value for keyword in call.keywords)):
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.add(value.value)
            elif isinstance(value, ast.Name) and value.id in names:
                found.add(names[value.id])
    return found


def _copy(root: Path, target: Path) -> None:
    """Lay out the files of the release: small ones as copies, large ones as links."""
    real = root.resolve()
    for entry in scan(root):
        if entry.kind != "file":
            continue
        place = target / entry.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.size <= COPIED:
            shutil.copyfile(real / entry.path, place)
        else:
            place.symlink_to(real / entry.path)


def _cache(stage: Stage, root: Path, repository: str, revisions: Sequence[str]) -> None:
    """Write the release into the cache as the Hub's client would have: as main, and as all that may be a revision."""
    folder = stage.hub / "hub" / f"models--{repository.replace('/', '--')}"
    commit = hashlib.sha1(repository.encode(), usedforsecurity=False).hexdigest()
    _copy(root, folder / "snapshots" / commit)
    for revision in dict.fromkeys(["main", *revisions]):
        with contextlib.suppress(OSError, ValueError):  # no name of a file, or one of them is the folder of another
            if _COMMIT.match(revision):
                (folder / "snapshots" / revision).symlink_to(commit, target_is_directory=True)
            elif ".." not in revision:
                reference = folder / "refs" / revision
                reference.parent.mkdir(parents=True, exist_ok=True)
                reference.write_text(commit)


def state_of(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return path → size, time of change and inode of every file, to see afterwards that nothing was touched."""
    found = {}
    for entry in scan(root):
        with contextlib.suppress(OSError):
            status = os.lstat(root / entry.path)
            found[entry.path] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found
