"""What tests of the catalogue share: a tiny release in a catalogue of its own."""

import json
import shutil
from pathlib import Path

import saereg
from saereg.registry.catalog import store, writing
from saereg.registry.catalog.readers.release import snapshot
from saereg.registry.catalog.rows import Source


def put(catalog: Path, folder: Path) -> None:
    """Put a release folder into a catalogue as the sync does, without asking whether it changed."""
    report = saereg.validate(folder, "layout")
    rows = snapshot(saereg.open(folder), report, Source("folder", str(folder)), str(report.release_digest))
    with store.changing(catalog) as connection:
        writing.write(connection, rows)


def variant(release: Path, folder: Path, artifact: dict | None = None, **facts: object) -> Path:
    """Copy a release under another name and other facts; its index no longer belongs to it and goes.

    Args:
        release: what is copied.
        folder: where to.
        artifact: facts of its first artifact that are other ones.
        facts: those of `release` in its manifest.
    """
    shutil.copytree(release, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["release"] |= facts
    manifest["artifacts"][0] |= artifact or {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "index.json").unlink()
    return folder
