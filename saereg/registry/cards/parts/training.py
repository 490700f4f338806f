"""`training`: how the dictionaries were trained, those with equal facts in one row."""

from collections.abc import Mapping, Sequence

from saereg.registry.cards.marking import ABSENT, code, link, short, text
from saereg.registry.cards.parts.semantics import listed
from saereg.registry.cards.view import Values, View, filled, grouped, is_address
from saereg.schemas.manifest import Artifact, TrainingFacts

MOST_ROWS = 60
"""Rows of the table."""

FACTS = {
    "tokens": "tokens",
    "steps": "steps",
    "batch_size": "batch size",
    "lr": "learning rate",
    "order_seed": "order seed",
}
"""Number of `training` → its header."""


def values(view: View) -> Values | None:
    """Return groups of equal facts; None where nothing is said."""
    told = [claim for claim in view.claims if claim.training != TrainingFacts()]
    release, provenance = view.manifest.release, view.index.provenance
    if not told and release.code is None:
        return None
    groups = grouped(told, _facts)
    source = provenance.source_checkpoints if provenance else None
    return {
        "groups": _table(groups, view),
        "more": max(len(groups) - MOST_ROWS, 0),
        "silent": len(view.claims) - len(told),
        "code": _code(view),
        "tools": _tools(provenance.tools if provenance else {}),
        "logs": sum(claim.training.log is not None for claim in told),
        "checkpoints": {"count": source.count, "sha256": code(source.sha256[:12])} if source else None,
        "seeds": short(len({claim.seed for claim in view.claims if claim.seed is not None})),
    }


def _facts(claim: Artifact) -> tuple[object, ...]:
    training = claim.training
    numbers = tuple(getattr(training, name) for name in FACTS)
    return (*numbers, training.dataset, tuple(sorted(training.tool.items())))


def _table(groups: Mapping[tuple[object, ...], Sequence[Artifact]], view: View) -> Values:
    rows = []
    for key, members in list(groups.items())[:MOST_ROWS]:
        *numbers, dataset, tools = key
        assert isinstance(tools, tuple)  # noqa: S101 - as `_facts` makes it
        cells = [ABSENT if n is None else f"{n:g}" if isinstance(n, float) else f"{n:,}" for n in numbers]
        software = ", ".join(f"{text(name)} {text(version)}" for name, version in tools) or ABSENT
        ids = listed([claim.id for claim in members], view)
        seeds = sorted({claim.seed for claim in members if claim.seed is not None})
        rows.append([ids, f"{len(members):,}", *cells, _seeds(seeds), code(dataset) if dataset else ABSENT, software])
    header = ["artifacts", "count", *FACTS.values(), "seeds", "data set", "software"]
    return filled(header, rows)


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > 3 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds[:5])) + (" …" if len(seeds) > 5 else "") if seeds else ABSENT


def _code(view: View) -> str | None:
    """Return where the training code is, in Markdown."""
    found = view.manifest.release.code
    if found is None:
        return None
    place = link(text(found.repository), found.repository) if is_address(found.repository) else code(found.repository)
    return f"{place} at commit {code(found.commit[:12])}" if found.commit else f"{place}, no commit is named"


def _tools(tools: Mapping[str, Sequence[str]]) -> str | None:
    """Return the software with its versions, in Markdown."""
    return ", ".join(f"{text(name)} {text(' and '.join(versions))}" for name, versions in tools.items()) or None
