"""An artifact of another make, as the catalogue has it: what is stated, what is assumed, and by whom."""

import dataclasses
import json
from collections.abc import Sequence

from saereg.cli.render.text import number, table, visible
from saereg.registry.catalog.artifact import CatalogArtifact
from saereg.registry.conditions.fields import DESCRIBING

ELSEWHERE = (
    "id", "reference", "release", "release_name", "version", "standing", "folder", "model_name", "source_kind",
    "source", "pin", "synced",
)  # fmt: skip
"""Fields that the other lines say."""


def catalogued_text(artifacts: Sequence[CatalogArtifact]) -> str:
    """Return artifacts for people, one below the other."""
    return "\n".join(_one(artifact) for artifact in artifacts)


def catalogued_json(artifacts: Sequence[CatalogArtifact]) -> str:
    """Return artifacts as a JSON list: fields, numbers, assumptions and source of each."""
    found = [
        {
            "fields": artifact.fields,
            "metrics": [dataclasses.asdict(metric) for metric in artifact.metrics],
            "assumptions": [dataclasses.asdict(assumed) for assumed in artifact.assumptions],
            "source": artifact.source._asdict(),
        }
        for artifact in artifacts
    ]
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _one(artifact: CatalogArtifact) -> str:
    fields, source = artifact.fields, artifact.source
    rows = [
        ("release", f"{fields['release']} ({fields['standing']}: nothing was checked against weights)"),
        ("source", f"{source.locator}{f' at {source.pin[:12]}' if source.pin else ''}, read {source.synced}"),
    ]
    assumed = {one.field for one in artifact.assumptions}
    for name, value in fields.items():
        is_said = value is not None and value is not False and value != ()
        if name in DESCRIBING and name not in ELSEWHERE and is_said:
            rows.append((name, number(value) + (" (assumed)" if name in assumed else "")))
    width = max(len(name) for name, _ in rows)
    parts = [f"{visible(artifact.reference)}\n"]
    parts += [f"  {name.ljust(width)}  {visible(value)}\n" for name, value in rows]
    if artifact.metrics:
        cells = [[visible(m.name), number(m.value), m.basis, m.metric or "–"] for m in artifact.metrics]
        parts.append("\nnumbers\n" + table(["name", "value", "basis", "definition"], cells) + "\n")
    if artifact.assumptions:
        cells = [[one.field, visible(str(one.value)), visible(one.because)] for one in artifact.assumptions]
        parts.append("\nassumptions\n" + table(["field", "value", "because"], cells) + "\n")
    return "".join(parts)
