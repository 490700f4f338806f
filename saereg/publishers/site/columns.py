"""The rows of the table, field by field: what a page of ten thousand artifacts can hold and search quickly."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from saereg.publishers.site.proof import golden_word, verdict_word
from saereg.registry.conditions.fields import FIELDS, KINDS, METRICS, SMALLER_IS_BETTER, Kind
from saereg.registry.files.natural import natural_key
from saereg.registry.release import Release, ReleaseArtifact

LEFT_OUT = frozenset(
    {
        *("reference", "release", "release_name", "version", "license", "standing", "loader", "repo", "folder", "path"),
        *("source_kind", "source", "pin", "synced", "weights_sha256", "neuronpedia_id", "model_name"),
        *("explained_variance_basis", "l0_basis", "explained_variance_definition", "l0_definition", "steps"),
    }
)
"""Fields that say the same of every artifact of a release, the folder of this machine, or what only details show."""

CHECKS: Mapping[str, Kind] = {"step": "whole", "claims": "text", "golden": "text", "findings": "whole"}
"""Columns that a page adds: the step of a dictionary of one snapshot, verdicts, replays, number of findings."""

LABELS = {
    "id": "artifact",
    "explained_variance": "EV",
    "l0": "L0",
    "l0_per_source_mean": "L0 per source",
    "l0_any_source": "L0 any source",
    "dead_fraction": "dead",
    "ce_recovered": "CE recovered",
    "d_sae": "d_sae",
    "d_in": "d_in",
    "d_out": "d_out",
    "n_sources": "sources",
    "model_step": "model step",
    "l1_coefficient": "l1",
    "l0_coefficient": "l0 penalty",
    "target_l0": "target L0",
    "hook_name": "hook",
}
"""Field → header, where the name of the field is not the best one."""

FIRST = (
    *("id", "explained_variance", "l0", "dead_fraction", "d_sae", "kind", "architecture", "layer", "site", "step"),
    *("snapshot", "variant", "seed", "canonical", "claims", "golden", "findings", "withdrawn"),
)
"""Columns that are shown at first, in this order; those that say one thing of all artifacts are hidden."""

ALWAYS = frozenset({"id", "explained_variance", "l0", "d_sae"})
"""Columns that are shown even so."""

DIGITS = 7
"""Digits of a number in the table; the page of the artifact has all of them."""


def table_of(release: Release, findings: Mapping[str, int]) -> dict[str, Any]:
    """Return the table as columns: {"rows": N, "columns": [{name, label, kind, shown, values | texts + codes}]}.

    Args:
        release: an open release.
        findings: id of an artifact → how many findings there are of it.
    """
    values = [_row(artifact, findings.get(artifact.id, 0)) for artifact in release]
    found = []
    for name in _order():
        column = [row.get(name) for row in values]
        if any(value is not None for value in column):
            found.append(_column(name, column))
    return {"rows": len(values), "columns": _without_echo(found)}


def _without_echo(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the columns, that of sites hidden where it says of every row what that of layers says already."""
    by_name = {column["name"]: column for column in columns}
    site, layer = by_name.get("site"), by_name.get("layer")
    if site and layer and layer["shown"] and None not in layer["values"]:
        pairs = set(zip(site["codes"], layer["values"], strict=True))
        if len(pairs) == len(site["texts"]) == len(set(layer["values"])):
            site["shown"] = False
    return columns


def _order() -> tuple[str, ...]:
    """Return every column: those that are shown first, then the other metrics, then the rest."""
    rest = [name for name in (*METRICS, *FIELDS) if name not in LEFT_OUT]
    return tuple(dict.fromkeys([*FIRST, *rest]))


def _row(artifact: ReleaseArtifact, findings: int) -> dict[str, Any]:
    steps = artifact.fields.get("steps")
    own = {
        "step": steps[0] if steps and len(steps) == 1 else None,
        "claims": verdict_word(artifact),
        "golden": golden_word(artifact.evidence),
        "findings": findings,
    }
    fields = {name: value for name, value in artifact.fields.items() if name not in LEFT_OUT}
    return fields | own


def _column(name: str, values: Sequence[Any]) -> dict[str, Any]:
    kind = CHECKS.get(name) or KINDS[name]
    different = {value for value in values if value is not None}
    alike = len(values) > 1 and len(different) <= 1 and all(value is not None for value in values)
    shown = name in FIRST and (name in ALWAYS or not alike)
    head: dict[str, Any] = {"name": name, "label": LABELS.get(name, name.replace("_", " ")), "kind": kind}
    head |= {"shown": shown, "metric": name in METRICS, "smaller": name in SMALLER_IS_BETTER}
    if kind in ("number", "whole"):
        return head | {"values": [_number(value) for value in values]}
    return head | _coded(_text(value) for value in values)


def _number(value: Any) -> float | int | None:  # noqa: ANN401 - a field of any type
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _text(value: Any) -> str | None:  # noqa: ANN401 - a field of any type
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value is None else str(value)


def _coded(values: Iterable[str | None]) -> dict[str, Any]:
    """Return texts as numbers into the list of those that differ, in the order in which people count; -1 is none."""
    column = list(values)
    texts = sorted({value for value in column if value is not None}, key=natural_key)
    codes = {text: code for code, text in enumerate(texts)}
    return {"texts": texts, "codes": [-1 if value is None else codes[value] for value in column]}
