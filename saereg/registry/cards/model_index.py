"""`model-index` of the front matter: a few numbers of the whole release, as the Hub reads them."""

from collections.abc import Sequence
from statistics import median

from saereg.registry.cards.front_matter import is_hub_id
from saereg.registry.cards.marking import cleaned, counted
from saereg.registry.cards.view import KINDS, View, grouped
from saereg.schemas.manifest import Artifact

METRICS = ("explained_variance", "l0", "l0_per_source_mean", "ce_recovered")
"""Definitions that stand there, in this order."""

MOST_RESULTS = 12
"""Entries: the Hub shows each of them beside the card."""


def model_index(view: View) -> list[dict[str, object]] | None:
    """Return the value of the key: medians over the artifacts of each kind; None where nothing was measured.

    The task is `other`: the Hub has no name for what a dictionary does.
    """
    found = grouped(view.claims, lambda claim: (claim.kind, _text(claim, view)))
    results = []
    for (kind, (name, number)), members in list(found.items())[:MOST_RESULTS]:
        metrics = _metrics(members, view)
        if metrics:
            task = {"type": "other", "name": f"Reconstruction by {counted(len(members), *KINDS[kind])}"}
            results.append({"task": task, "dataset": {"type": number, "name": name}, "metrics": metrics})
    return [{"name": view.manifest.release.name, "results": results}] if results else None


def _metrics(members: Sequence[Artifact], view: View) -> list[dict[str, object]]:
    """Return one entry per definition that one of the artifacts was measured by."""
    entries: list[dict[str, object]] = []
    for metric in METRICS:
        numbers = [n for claim in members if (n := view.measured.get(claim.id, {}).get(metric)) is not None]
        if numbers:
            named = f"{metric}, median of {len(numbers):,}" if len(numbers) > 1 else metric
            entries.append({"type": metric, "value": float(f"{median(numbers):.6g}"), "name": named})
    return entries


def _text(claim: Artifact, view: View) -> tuple[str, str]:
    """Return name and identifier of the data on which an artifact was measured."""
    entry = view.evidence.get(claim.id)
    first = next((m.evaluation for m in entry.metrics), None) if entry else None
    evaluation = view.manifest.evaluations.get(first or "")
    if evaluation is None:
        return "no data", "none"
    dataset = view.manifest.datasets.get(evaluation.dataset or "")
    if dataset is not None:
        number = dataset.id if is_hub_id(dataset.id) else str(evaluation.dataset)
        return _shown(f"held-out rows of {dataset.id}"), number
    site = view.manifest.sites.get(evaluation.site or "")
    if site is not None and site.parameter:
        model = view.manifest.base_models.get(site.model)
        name = f"rows of {site.parameter} of {model.id}" if model else f"rows of {site.parameter}"
        return _shown(name), evaluation.source
    return f"{evaluation.source} shipped with the release", evaluation.source


def _shown(name: str) -> str:
    """Return a name for the page of the Hub, without what could be HTML there."""
    return cleaned(name.replace("<", "").replace(">", ""))[:200]
