"""SR0: secrets, private matters, and files of a machine, which nobody meant to publish.

Level layout looks at all names, and into the files outside the folders of artifacts; level header into those inside. No
finding holds any part of a secret, nor a digest of one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from saereg.errors import WeightsError
from saereg.registry.files.header import Header
from saereg.registry.files.leaks import MOST_READ, leaks_in, text_of, unescaped
from saereg.registry.files.private_names import PrivateFile, private_file
from saereg.registry.files.private_text import private_in
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.checks.layout import is_refused
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.report import Finding

CARD_FILE = "README.md"
"""The card of a release."""

MOST_TOLD = 5
"""Findings of one kind of secret in one file; the last one says how many more there are."""

DOCUMENTS = (".json", ".jsonl", ".md", ".yaml", ".yml", ".toml", ".cff")
"""Ends of the files that are looked into when the release is not on this machine, whatever their size."""

ELSEWHERE = 256 * 1024
"""Bytes up to which others are looked into then."""

NO_TEXT = (
    ".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".zip", ".gz", ".xz", ".zst", ".bz2", ".tar", ".7z", ".parquet",
    ".arrow", ".feather", ".mp4", ".woff", ".woff2", ".ttf", ".onnx", ".gguf", ".h5", ".hdf5", ".sqlite", ".db",
)  # fmt: skip
"""Ends of files that are never text."""

SCRIPTS = (".py", ".ipynb", ".sh", ".bash", ".ps1", ".bat", ".r", ".jl", ".js", ".rs", ".cu", ".c", ".cpp")
"""Ends of code that can be read."""

PROGRAMS = (".exe", ".so", ".dll", ".dylib", ".pyc", ".pyd", ".class", ".jar", ".whl", ".egg", ".msi", ".deb", ".rpm")
"""Ends of code that cannot be read."""

_HEAD = 4096
"""Bytes that hold most headers: one read is enough for them."""


def private_contents(release: ReleaseSubject) -> Iterator[Finding]:
    """SR008 and SR014: no secrets and no private matters in the files outside the folders of artifacts."""
    if leaks_in("\n".join(release.files)):
        yield from _secret_names(release)
    for path, artifact in _files(release):
        if artifact is None and not path.endswith(".safetensors"):
            yield from _found_in(path, _text(release, path), None)


def _secret_names(release: ReleaseSubject) -> Iterator[Finding]:
    """Yield the files whose very names hold a secret; findings never show it."""
    for path in release.files:
        for leak in leaks_in(path)[:1]:
            hint = "Rename the file, and withdraw the secret."
            yield finding("SR008", f"the name of a file holds what looks like {leak.kind}", path=path, hint=hint)


def private_contents_of_artifacts(release: ReleaseSubject) -> Iterator[Finding]:
    """SR008 and SR014: no secrets and no private matters in the files of artifacts and in safetensors headers."""
    for path, artifact in _files(release):
        if path.endswith(".safetensors"):
            yield from _found_in(path, _header_text(release, path, artifact), artifact)
        elif artifact is not None:
            text = artifact.config_text[0] if path == artifact.config_path else None
            yield from _found_in(path, text or _text(release, path), artifact)


def _files(release: ReleaseSubject) -> Iterator[tuple[str, ArtifactSubject | None]]:
    """Yield the files that can hold text, each with the artifact whose folder it is in.

    The index is left out: a machine wrote it, of facts that have no place for more.
    """
    folders = {artifact.claim.path: artifact for artifact in release.artifacts}
    for path in release.files:
        if path != INDEX_FILE and not path.lower().endswith(NO_TEXT):
            yield path, _artifact_of(path, folders)


def _artifact_of(path: str, folders: Mapping[str, ArtifactSubject]) -> ArtifactSubject | None:
    folder = path.rpartition("/")[0]
    while folder and folder not in folders:
        folder = folder.rpartition("/")[0]
    return folders.get(folder) if folder else None


def _text(release: ReleaseSubject, path: str) -> str | None:
    """Return the text of a file, or None: it is no text, must go anyway, or is not read from where the release is."""
    if path == MANIFEST_FILE and release.manifest_text:
        return release.manifest_text
    far = release.place.folder is None and release.files[path].size > ELSEWHERE
    if is_refused(path) or (far and not path.lower().endswith(DOCUMENTS)):
        return None
    if "\\" in path:  # it may stand for a name that is no text; SR004 says so
        return None
    return text_of(release.place.start(path, MOST_READ))


def _header_text(release: ReleaseSubject, path: str, artifact: ArtifactSubject | None) -> str | None:
    """Return what the header of a safetensors file says beside its tensors, or None where it says nothing."""
    if artifact is not None and path == artifact.weights_path and artifact.header is not None:
        return _lines(artifact.header)
    if release.place.folder is None:
        return _metadata(release, path)
    start = release.place.start(path, _HEAD)
    length = int.from_bytes(start[:8], "little")
    if 8 + length > len(start) == _HEAD:
        start = release.place.start(path, min(8 + length, MOST_READ))
    header = start[8 : 8 + length]
    return header.decode("utf-8", "replace") if b"__metadata__" in header else None


def _metadata(release: ReleaseSubject, path: str) -> str | None:
    try:
        return _lines(release.place.header(path))
    except WeightsError:
        return None


def _lines(header: Header) -> str:
    return "\n".join(f"{key}: {value}" for key, value in header.metadata.items())


def _found_in(path: str, text: str | None, artifact: ArtifactSubject | None) -> Iterator[Finding]:
    if not text:
        return
    where = _Where(path, text, artifact.claim.id if artifact else None)
    yield from _secrets(where)
    for private in private_in(text, path):
        if path == MANIFEST_FILE and private.kind == "an e-mail address":  # that of an author
            continue
        what = private.kind if private.count == 1 else f"{private.count} {private.plural}"
        yield where.finding("SR014", f"{where.place} holds {what}", private.start, private.kind)


@dataclass(frozen=True)
class _Where:
    """A file that is looked into."""

    path: str
    text: str
    artifact: str | None

    @property
    def place(self) -> str:
        """What to call it in a sentence."""
        name = PurePosixPath(self.path).name
        return f"the header of {name}" if self.path.endswith(".safetensors") else name

    def finding(self, code: str, message: str, start: int, kind: str) -> Finding:
        """Return a finding at an offset; its fingerprint is that of the kind, never of what was found."""
        line, column = None, None
        if not self.path.endswith(".safetensors"):
            line = self.text.count("\n", 0, start) + 1
            column = start - self.text.rfind("\n", 0, start)
        return finding(code, message, path=self.path, artifact=self.artifact, line=line, column=column, found=kind)


def _secrets(where: _Where) -> Iterator[Finding]:
    by_kind: dict[str, list[int]] = {}
    for kind, start in sorted(_places(where.text), key=lambda pair: pair[1]):
        by_kind.setdefault(kind, []).append(start)
    for kind, starts in by_kind.items():
        for number, start in enumerate(starts[:MOST_TOLD], 1):
            more = len(starts) - MOST_TOLD if number == MOST_TOLD else 0
            rest = f", and {more} more of this kind below" if more > 0 else ""
            nth = kind if number == 1 else f"{kind}, no. {number}"
            yield where.finding("SR008", f"{where.place} holds what looks like {kind}{rest}", start, nth)


def _places(text: str) -> set[tuple[str, int]]:
    """Return kind and offset of every secret, written plainly or in escapes."""
    places = {(leak.kind, leak.start) for leak in leaks_in(text)}
    if "\\" in text:
        plain = unescaped(text)
        places |= {(leak.kind, plain.origin(leak.start)) for leak in leaks_in(plain.text)}
    return places


def no_private_files(release: ReleaseSubject) -> Iterator[Finding]:
    """SR015: no credentials and no settings of a machine, by name."""
    found: dict[PrivateFile, int] = {}
    for path in release.files:
        if private := private_file(path):
            found[private] = found.get(private, 0) + 1
    for private, count in found.items():
        if private.is_folder:
            files = "1 file" if count == 1 else f"{count} files"
            yield finding("SR015", f"{private.path} is a folder of {private.what} ({files})", path=private.path)
        else:
            yield finding("SR015", f"{private.path} is by its name {private.what}", path=private.path)


def code_is_mentioned(release: ReleaseSubject) -> Iterator[Finding]:
    """SR016: code that the card does not mention, and programs that nobody can read."""
    code = [path for path in release.files if path.lower().endswith(SCRIPTS + PROGRAMS) and not is_refused(path)]
    card = (release.read_text(CARD_FILE)[0] or "") if code else ""
    for path in code:
        name = PurePosixPath(path).name
        if path.lower().endswith(PROGRAMS):
            yield finding("SR016", f"{path} is a program that cannot be read", path=path)
        elif not re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", card):
            kind = "a notebook" if path.lower().endswith(".ipynb") else "code"
            yield finding("SR016", f"{path} is {kind} that the card does not mention", path=path)
