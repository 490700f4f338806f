"""`files`: every file of the release but the card; of a large release, what there is of each kind."""

from saereg.registry.cards.card import CARD_FILE
from saereg.registry.cards.marking import code, counted
from saereg.registry.cards.view import Values, View, grouped
from saereg.registry.files.natural import natural_key

MOST_FILES = 2_000
"""Files that are listed one by one; of more the card would be too large."""


def values(view: View) -> Values:
    """Return a table of the files."""
    files = sorted((f for f in view.index.all_files() if f.path != CARD_FILE), key=lambda file: natural_key(file.path))
    total = f"{counted(len(files), 'file')}, {sum(file.size for file in files):,} bytes"
    if len(files) <= MOST_FILES:
        rows = [[code(f.path), f"{f.size:,}", f"`{f.sha256[:12]}`"] for f in files]
        return {"files": {"header": ["path", "bytes", "sha256"], "rows": rows}, "listed": True, "total": total}
    groups = grouped(files, lambda file: file.role)
    rows = [[role, f"{len(found):,}", f"{sum(f.size for f in found):,}"] for role, found in sorted(groups.items())]
    return {"files": {"header": ["kind", "files", "bytes"], "rows": rows}, "listed": False, "total": total}
