"""`data`: texts with what pins them, which tokens became rows, and the evaluations with their digests."""

from saereg.registry.cards.front_matter import is_hub_id
from saereg.registry.cards.marking import ABSENT, code, joined, link, text
from saereg.registry.cards.view import Values, View, filled
from saereg.registry.files.natural import natural_key
from saereg.schemas.evaluation import ActivationRows, Evaluation, SyntheticRows, TokenRows
from saereg.schemas.site import DatasetRef, TokenPolicy

MOST_FLAT = 12
"""Evaluations that stand in the open; of more the table is folded."""

MOST_ROWS = 200
"""Rows of a table."""

PACKINGS = {
    "none": "One document makes one context.",
    "documents": "Documents were put one after another and cut into contexts.",
    "mixed": "Contexts are of mixed length.",
}

SOURCES = {
    "activations": "stored rows",
    "tokens": "tokens, run through the model",
    "parameters": "rows of a parameter tensor",
    "synthetic": "generated rows",
}


def values(view: View) -> Values | None:
    """Return data sets, token policy and evaluations; None where there are none."""
    manifest = view.manifest
    if not (manifest.datasets or manifest.tokens or manifest.evaluations):
        return None
    rows = _evaluations(view)
    return {
        "datasets": filled(DATASETS, [_dataset(key, ref) for key, ref in list(manifest.datasets.items())[:MOST_ROWS]]),
        "tokens": _policy(manifest.tokens) if manifest.tokens else None,
        "evaluations": filled(EVALUATIONS, rows[:MOST_ROWS]),
        "folded": len(rows) > MOST_FLAT,
        "count": len(rows),
        "more": max(len(rows) - MOST_ROWS, 0),
    }


DATASETS = ("key", "data set", "config", "split", "pinned by", "documents", "columns", "conversations", "licence")
EVALUATIONS = ("evaluation", "what", "rows", "site", "data set", "left out", "preprocess", "from", "sha256 of the data")


def _dataset(key: str, ref: DatasetRef) -> list[str]:
    name = link(code(ref.id), f"https://huggingface.co/datasets/{ref.id}") if is_hub_id(ref.id) else code(ref.id)
    pin = (
        f"commit `{ref.revision[:12]}`" if ref.revision else f"sha256 `{ref.sha256[:12]}`" if ref.sha256 else "nothing"
    )
    columns = ", ".join(map(code, ref.columns or ())) or ABSENT
    documents = ABSENT if ref.documents is None else f"{ref.documents:,}"
    cells = [text(value) if value else ABSENT for value in (ref.config, ref.split)]
    return [
        code(key),
        name,
        *cells,
        pin,
        documents,
        columns,
        ref.rendering or ABSENT,
        text(ref.license) if ref.license else ABSENT,
    ]


def _policy(policy: TokenPolicy) -> list[str]:
    """Return sentences on which tokens became rows."""
    said = [
        "A beginning-of-sequence token stands before each context."
        if policy.bos
        else "No beginning-of-sequence token is put before a context."
    ]
    said.append(PACKINGS[policy.packing])
    if policy.separator != "none":
        said.append(f"Documents are separated by the `{policy.separator}` token.")
    if policy.context_size:
        said.append(f"A context has up to {policy.context_size:,} tokens, special ones included.")
    if policy.buckets:
        lengths = joined([f"{low:,} to {high:,}" for low, high in policy.buckets])
        drawn = f", drawn with seed {policy.seed}" if policy.seed is not None else ""
        said.append(f"Their lengths are of the buckets {lengths} tokens{drawn}.")
    left = joined([code(name) for name in policy.excluded])
    said.append(f"Activations at these tokens were dropped: {left}." if left else "Every token became a row.")
    return said


def _evaluations(view: View) -> list[list[str]]:
    digests: dict[str, str] = {}
    for entry in view.index.artifacts:
        for m in entry.metrics:
            digests.setdefault(m.evaluation, m.data_sha256)
    found = sorted(view.manifest.evaluations.items(), key=lambda item: natural_key(item[0]))
    return [_evaluation(key, one, digests.get(key)) for key, one in found]


def _evaluation(key: str, one: Evaluation, digest: str | None) -> list[str]:
    sites = one.sites if isinstance(one, TokenRows) and one.sites else ((one.site,) if one.site else ())
    place = code(sites[0]) if len(sites) == 1 else f"{len(sites)} sites" if sites else ABSENT
    left = ", ".join(map(code, one.excluded)) or ABSENT
    prepared = ABSENT if one.preprocess == "none" else code(one.preprocess)
    row = [code(key), SOURCES[one.source], f"{one.rows:,}", place, code(one.dataset) if one.dataset else ABSENT]
    return [*row, left, prepared, _origin(one), code(digest[:12]) if digest else "not measured"]


def _origin(one: Evaluation) -> str:
    """Return where the rows come from."""
    if isinstance(one, ActivationRows | TokenRows):
        return link(code(one.path), one.path)
    if isinstance(one, SyntheticRows):
        return f"`{one.distribution}`, seed {one.seed}"
    steps = one.steps
    several = f"{len(steps)} steps, {steps[0]:,} to {steps[-1]:,}"
    return f"{code(one.tensor)} at {several if len(steps) > 1 else f'step {steps[0]:,}'}"
