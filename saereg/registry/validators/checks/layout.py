"""SR0: which files are there, and whether they are those that were indexed.

Level layout looks at names, sizes and links, and opens a file only for its first bytes, which tell a pickle; digests
are computed at levels header (small files) and weights (large ones).
"""

import json
from collections import Counter
from collections.abc import Iterator

from saereg.registry.files.digest import sha256_text
from saereg.registry.files.names import SIGNATURE_FILE
from saereg.registry.files.private_names import private_file
from saereg.registry.files.roles import role_of
from saereg.registry.provenance import provenance_of
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.findings import finding
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.index import Index, IndexFile, Role
from saereg.schemas.manifest import Manifest
from saereg.schemas.names import one_name, path_problem
from saereg.schemas.report import Finding

PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".bin", ".dill", ".npy", ".npz"})
"""Suffixes of formats that are, or can hold, pickles."""

TRAINING_NAMES = (
    "trainer_state",
    "optimizer",
    "lr_scheduler",
    "activation_scaler",
    "activations_store_state",
)
"""Beginnings of the names under which trainers keep their own state."""

_BESIDE = frozenset({MANIFEST_FILE, INDEX_FILE, SIGNATURE_FILE})
"""Files at the root that stand beside the index and not in it."""

SMALL = 1024 * 1024
"""Files up to this size are hashed at level header; larger ones at level weights."""


def artifacts_listed(release: ReleaseSubject) -> Iterator[Finding]:
    """SR001: the manifest lists at least one artifact."""
    if release.manifest is not None and not release.manifest.artifacts:
        yield release.manifest_finding("SR001", "`artifacts` is empty", "/artifacts")


def index_present(release: ReleaseSubject) -> Iterator[Finding]:
    """SR011 and SR012: there is an index, and it belongs to this manifest."""
    if INDEX_FILE not in release.files:
        yield finding("SR011", f"there is no {INDEX_FILE}", path=INDEX_FILE)
    elif release.index is not None and release.manifest is not None:
        expected, found = release.index.manifest_sha256, sha256_text(release.manifest_text)
        if expected != found:
            message = "the manifest has changed since the index was built"
            digests = {"expected": expected, "found": found, "fixable": "unsafe"}
            yield finding("SR012", message, path=INDEX_FILE, pointer="/manifest_sha256", **digests)
        else:
            yield from _provenance(release.index, release.manifest)


def _provenance(index: Index, manifest: Manifest) -> Iterator[Finding]:
    """SR012: what the index says that the release was made from follows from the manifest and the configurations."""
    recorded = index.provenance
    listed = [{entry.id for entry in document.artifacts} for document in (index, manifest)]
    if recorded is None or listed[0] != listed[1]:  # of a saereg that wrote none; or SR115 says it
        return
    wanted = provenance_of(manifest, index.artifacts, index.generated_by)
    for name in type(wanted).model_fields:
        if getattr(recorded, name) != getattr(wanted, name):
            message = f"`{name}` of the provenance does not follow from manifest and index"
            yield finding("SR012", message, path=INDEX_FILE, pointer=f"/provenance/{name}", fixable="unsafe")


def same_artifacts(release: ReleaseSubject) -> Iterator[Finding]:
    """SR115: manifest and index list the same artifacts."""
    if release.index is None or release.manifest is None:
        return
    claimed, found = ({a.id for a in document.artifacts} for document in (release.manifest, release.index))
    for artifact in sorted(claimed - found):
        yield finding("SR115", f"{artifact!r} is not in the index", path=INDEX_FILE, artifact=artifact)
    for artifact in sorted(found - claimed):
        yield finding("SR115", f"{artifact!r} is not in the manifest", path=INDEX_FILE, artifact=artifact)


def indexed_files(release: ReleaseSubject) -> Iterator[Finding]:
    """SR002, SR003 and SR009: every indexed file is there with its size, and no other file is."""
    if release.index is None:
        return
    indexed = [(file, artifact) for file, artifact in _indexed(release) if file.path not in release.absent]
    for file, artifact in indexed:
        entry, path = release.files.get(file.path), file.path
        if entry is None:
            yield finding("SR002", f"{path} is in the index but not in the release", path=path, artifact=artifact)
        elif entry.size != file.size:
            message = f"{path} has {entry.size} bytes, the index says {file.size}"
            sizes = {"expected": str(file.size), "found": str(entry.size), "fixable": _mendable(file.role, known=True)}
            yield finding("SR009", message, path=path, artifact=artifact, **sizes)
    for path in sorted(set(release.files) - {file.path for file, _ in indexed} - _BESIDE):
        if not is_refused(path) and not path_problem(path) and not _is_hidden_pickle(release, path):
            fixable = _mendable(role_of(path), known=False)
            yield finding("SR003", f"{path} is not in the index", path=path, fixable=fixable)


def _indexed(release: ReleaseSubject) -> Iterator[tuple[IndexFile, str | None]]:
    """Yield every indexed file with the artifact it belongs to."""
    if release.index is not None:
        yield from ((file, None) for file in release.index.files)
        yield from ((file, artifact.id) for artifact in release.index.artifacts for file in artifact.files)


def small_files_unaltered(release: ReleaseSubject) -> Iterator[Finding]:
    """SR009: small files have the sha256 of the index; all files, where that is asked for."""
    yield from _altered(release, large=False)
    if release.options.hash_all:
        yield from _altered(release, large=True, weights=True)


def large_files_unaltered(release: ReleaseSubject) -> Iterator[Finding]:
    """SR009: large files have the sha256 of the index; weight files are hashed while their values are read."""
    yield from _altered(release, large=True)


def _altered(release: ReleaseSubject, *, large: bool, weights: bool = False) -> Iterator[Finding]:
    compared = []
    for file, artifact in _indexed(release):
        entry = release.files.get(file.path)
        if entry is None or entry.size != file.size or (entry.size > SMALL) is not large:
            continue
        if weights or not large or file.role != "weights":
            compared.append((file, artifact))
    if large:
        release.hash_ahead({file.path: file.size for file, _ in compared})
    for file, artifact in compared:
        digest = release.sha256(file.path)
        if digest != file.sha256:
            message = f"{file.path} was altered since the index was built"
            digests = {"expected": file.sha256, "found": digest, "fixable": _mendable(file.role, known=True)}
            yield finding("SR009", message, path=file.path, artifact=artifact, **digests)


def _mendable(role: Role, *, known: bool) -> str | None:
    """Whether a digest may simply be taken anew: of files that nothing was measured on or proved from.

    Cards and logs are edited and grow; any other file that changed since it was indexed may also be damaged.
    """
    if role in ("card", "log") or (role == "other" and not known):
        return "safe"
    return "unsafe" if role == "other" else None


def portable_names(release: ReleaseSubject) -> Iterator[Finding]:
    """SR004: file names mean the same on every machine, and do not differ by case alone."""
    folded = Counter(entry.path.casefold() for entry in release.entries)
    composed = Counter(one_name(entry.path) for entry in release.entries)
    folders = {one_name(folder): folder for entry in release.entries for folder in _folders(entry.path)}
    for entry in release.entries:
        if problem := path_problem(entry.path):
            yield finding("SR004", f"the name {json.dumps(entry.path)} is not portable: {problem}", path=entry.path)
        elif folded[entry.path.casefold()] > 1:
            message = f"{entry.path} differs from another file by case alone; on some machines they are one"
            yield finding("SR004", message, path=entry.path)
        elif composed[one_name(entry.path)] > 1:
            message = f"{json.dumps(entry.path)} and another file are one name, written in two ways in Unicode"
            yield finding("SR004", f"{message}; on some machines they are one file", path=entry.path)
        elif folder := folders.get(one_name(entry.path)):
            message = f"the file {json.dumps(entry.path)} has the name of the folder {json.dumps(folder)}"
            yield finding("SR004", f"{message}; on some machines they cannot both be there", path=entry.path)


def _folders(path: str) -> Iterator[str]:
    """Yield the folders that a path is in, the innermost first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def links_and_specials(release: ReleaseSubject) -> Iterator[Finding]:
    """SR010 and SR013: nothing but regular files, and links that stay inside."""
    for entry in release.entries:
        if entry.kind == "escape":
            yield finding("SR010", f"{entry.path} is a link that leads out of the release, or nowhere", path=entry.path)
        elif entry.kind == "special":
            yield finding("SR013", f"{entry.path} is no regular file", path=entry.path)
        elif entry.kind == "closed":
            yield finding("SR013", f"{entry.path} is a folder that cannot be listed", path=entry.path)


def no_pickles(release: ReleaseSubject) -> Iterator[Finding]:
    """SR005: no pickles, by suffix or by their first bytes."""
    parsed = {MANIFEST_FILE, INDEX_FILE, *(artifact.config_path for artifact in release.artifacts)}
    for path in release.files:
        if path not in parsed and (_is_pickle(path) or _is_hidden_pickle(release, path)):
            yield finding("SR005", f"{path} is, or can hold, a pickle", path=path)


def no_training_state(release: ReleaseSubject) -> Iterator[Finding]:
    """SR006: no optimizer, scheduler or data-loader state."""
    for path in release.files:
        if _name(path).startswith(TRAINING_NAMES) and not _is_pickle(path):
            yield finding("SR006", f"{path} is the state of a training run", path=path)


def artifact_files(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR002: the configuration and the weights of an artifact are there, indexed or not."""
    indexed = {file.path for file in artifact.evidence.files} if artifact.evidence else set()
    for path in (artifact.config_path, artifact.weights_path):
        if path not in artifact.release.files and path not in indexed:
            yield artifact.claim_finding("SR002", f"{path} is missing", "/path", found="no such file")


def _is_pickle(path: str) -> bool:
    stem, dot, suffix = _name(path).rpartition(".")
    return bool(stem) and dot + suffix in PICKLE_SUFFIXES


def _name(path: str) -> str:
    return path.rpartition("/")[2].lower()


def is_refused(path: str) -> bool:
    """Whether another rule already says that this file must go, or it is of a conversion that was killed."""
    if ".tmp" in path and any(part.startswith(".") and part.endswith(".tmp") for part in path.split("/")):
        return True
    training = _name(path).startswith(TRAINING_NAMES)
    return _is_pickle(path) or training or private_file(path) is not None


def _is_hidden_pickle(release: ReleaseSubject, path: str) -> bool:
    """Recognize pickle protocol 2 and later (0x80 n), and torch's zip archives of them, under any name.

    A safetensors file may start with the same two bytes, by the length of its header; its own check reads that.
    """
    if path.lower().endswith(".safetensors"):
        return False
    try:
        start = release.place.start(path, 4)
    except OSError:
        return False
    return (start[:1] == b"\x80" and len(start) > 1 and 2 <= start[1] <= 5) or start == b"PK\x03\x04"
