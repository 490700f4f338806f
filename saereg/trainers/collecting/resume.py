"""Whether a collection that stands in a folder is the one that is wanted: then it is continued, else refused."""

from pathlib import Path

from saereg.errors import UsageError
from saereg.registry.files.digest import sha256_of
from saereg.schemas.collection import Collection
from saereg.trainers.collecting.shards import COLLECTION_FILE

PROGRESSING = ("rows", "cursor", "texts")
"""Fields of a collection that change while it grows, beside shards and the digest of the text read so far; and whether
the text is kept, which goes on as it was begun."""


def resumed(fresh: Collection, out: Path) -> Collection:
    """Return the collection that stands in the folder, if it is of the same configuration; where none is, `fresh`.

    Raises:
        UsageError: when it is another one, or its shards are damaged.
    """
    path = out / COLLECTION_FILE
    if not path.exists():
        return fresh
    found = Collection.read(path)
    if not found.rows:  # it ended before its first shard: nothing is lost
        return fresh
    if differing := _differences(found, fresh):
        raise UsageError(f"{path} is of another configuration: {differing}; collect into a new folder")
    for site in found.sites.values():
        for shard in site.shards:
            _check_file(out / shard.path, shard.sha256)
    if found.texts is not None:
        _check_file(out / found.texts.vocabulary, found.texts.sha256)
        for shard in found.texts.shards:
            _check_file(out / shard.path, shard.sha256)
    return found


def _check_file(path: Path, sha256: str) -> None:
    if not path.is_file() or sha256_of(path) != sha256:
        raise UsageError(f"{path} is missing or damaged; collect into a new folder")


def _differences(found: Collection, wanted: Collection) -> str | None:
    """Return the first field in which two configurations differ, with both values."""
    left, right = _configuration(found), _configuration(wanted)
    for name in sorted({*left, *right}):
        if left.get(name) != right.get(name):
            return f"{name} is {left.get(name)} there and {right.get(name)} here"
    return None


def _configuration(collection: Collection) -> dict[str, object]:
    """Return the configuration, flat: `model.id` → value."""
    plain = collection.model_dump(mode="json", exclude=set(PROGRESSING))
    for name in ("sha256", "documents"):
        del plain["dataset"][name]
    for site in plain["sites"].values():
        del site["shards"]
    flat: dict[str, object] = {"sites": sorted(plain["sites"])}
    todo = [("", plain)]
    while todo:
        prefix, value = todo.pop()
        for key, entry in value.items():
            if isinstance(entry, dict):
                todo.append((f"{prefix}{key}.", entry))
            else:
                flat[f"{prefix}{key}"] = entry
    return flat
