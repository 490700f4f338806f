"""The sources of a catalogue, with what was counted of each."""

from pathlib import Path

from saereg.registry.catalog.rows import Source
from saereg.registry.catalog.sources import name_of
from saereg.registry.catalog.store import reading

_QUERY = """
SELECT s.kind, s.locator, s.revision, s.pin, s.tool, s.synced, s.checked, s.problem,
    (SELECT count(*) FROM release r WHERE r.source = s.id) AS releases,
    (SELECT count(*) FROM release r JOIN artifact a ON a.release = r.id WHERE r.source = s.id) AS artifacts,
    (SELECT count(*) FROM release r WHERE r.source = s.id AND r.standing = 'verified') AS verified,
    (SELECT count(*) FROM release r WHERE r.source = s.id AND r.standing = 'unverified') AS unverified,
    (SELECT count(*) FROM release r WHERE r.source = s.id AND r.standing = 'foreign') AS "foreign"
FROM source s ORDER BY s.kind, s.locator, s.revision
"""


def listed(path: Path) -> list[dict[str, str | int | None]]:
    """Return one record per source, as `saereg registry list --format json` prints them.

    Args:
        path: the catalogue.

    Raises:
        UsageError: when there is none, or it cannot be read.
    """
    with reading(path) as connection:
        cursor = connection.execute(_QUERY)
        names = [column[0] for column in cursor.description]
        records = [dict(zip(names, row, strict=True)) for row in cursor]
    for record in records:
        record["source"] = name_of(Source(record["kind"], record["locator"], record["revision"]))
    return records
