"""A release as the parts of a card look at it: what is asked for often, worked out once."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from saereg.registry.cards.marking import ABSENT, code, link
from saereg.registry.files.names import ARTIFACT_CARD_FILE
from saereg.registry.files.natural import natural_key
from saereg.registry.flat_fields import fields_of, headline
from saereg.registry.withdrawal import standing
from saereg.schemas.index import Index, IndexArtifact
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, Manifest, Sparsity, sites_of

Values = dict[str, object]
"""What a template is given: texts, numbers, lists and mappings."""

DOCS = "https://github.com/saereg/saereg/blob/main/docs"
"""Where the pages are that explain a card."""

METRICS_PAGE = f"{DOCS}/metrics.md"

LINKED = 2_000
"""Artifacts of a release up to which each id in a table is a link: of more the card would be too large."""

KINDS = {
    "sae": ("sparse autoencoder", "sparse autoencoders"),
    "transcoder": ("transcoder", "transcoders"),
    "crosscoder": ("crosscoder", "crosscoders"),
}
"""Kind → what one and several are called."""

STREAMS = {
    "residual": "residual stream",
    "mlp": "MLP",
    "attention": "attention",
    "embedding": "embedding",
    "parameter": "parameters",
}
"""Stream of a site → its name for readers."""

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, eq=False)
class View:
    """A release.

    Attributes:
        manifest: the claims.
        index: the evidence; what it says of the card itself is not looked at.
    """

    manifest: Manifest
    index: Index

    @cached_property
    def claims(self) -> tuple[Artifact, ...]:
        """Every artifact, in natural order of the ids."""
        return tuple(sorted(self.manifest.artifacts, key=lambda claim: natural_key(claim.id)))

    @cached_property
    def evidence(self) -> dict[str, IndexArtifact]:
        """Id → evidence."""
        return {entry.id: entry for entry in self.index.artifacts}

    @cached_property
    def measured(self) -> dict[str, dict[str, float | None]]:
        """Id → metric → value in raw units, of the first evaluation that has it."""
        return {
            entry.id: {name: m.value for name, m in headline(entry.metrics).items()} for entry in self.index.artifacts
        }

    def measured_on(self, claims: Iterable[Artifact]) -> str:
        """Return on what the numbers of a table were measured, for the middle of a sentence; Markdown."""
        ids = {claim.id for claim in claims}
        numbers = [headline(entry.metrics) for name, entry in self.evidence.items() if name in ids]
        used = {m.evaluation for found in numbers for m in found.values() if m.metric in ("explained_variance", "l0")}
        if len(used) < 2:
            return f", on {code(used.pop())}" if used else ""
        return ", each on the first evaluation in its card"

    @cached_property
    def fields(self) -> dict[str, dict[str, Any]]:
        """Id → the flat fields of an artifact, its measured numbers among them."""
        found = {}
        for claim in self.claims:
            found[claim.id] = fields_of(claim, self.manifest, self.measured.get(claim.id, {}))
        return found

    @cached_property
    def linked(self) -> Mapping[str, str]:
        """Id → path of the card of an artifact, of those that have one."""
        if len(self.claims) > LINKED:
            return {}
        cards = {file.path for entry in self.index.artifacts for file in entry.files if file.role == "card"}
        paths = {claim.id: f"{claim.path}/{ARTIFACT_CARD_FILE}" for claim in self.claims}
        return {name: path for name, path in paths.items() if path in cards}

    def name(self, identifier: str) -> str:
        """Return the id of an artifact as code, with a link to its card where it has one."""
        path = self.linked.get(identifier)
        return link(code(identifier), path) if path else code(identifier)

    def usable(self, claim: Artifact) -> bool:
        """Whether a reader may be sent to an artifact: it is neither declared a failure nor taken back."""
        return (
            claim.expected_failure is None and standing(self.manifest, self.manifest.release.version, claim.id) is None
        )


def sparsity_of(claim: Artifact) -> str:
    """Return the sparsity setting of an artifact for a cell."""
    names = {"l1_coefficient": "l1", "l0_coefficient": "l0 penalty", "target_l0": "target L0"}
    found = [
        f"{names.get(n, n)} {value:g}"
        for n in Sparsity.model_fields
        if (value := getattr(claim.sparsity, n)) is not None
    ]
    return ", ".join(found) or ABSENT


def site_cell(claim: Artifact) -> str:
    """Return the sites of an artifact for a cell."""
    keys = sites_of(claim)
    arrow = " → " if claim.kind == "transcoder" else ", "
    return arrow.join(keys) if len(keys) < 5 else f"{keys[0]} … {keys[-1]} ({len(keys)} sites)"


def place_in_words(claim: Artifact, manifest: Manifest) -> str:
    """Return where an artifact reads, as plain text for people: `layer 2, residual stream`."""
    keys = sites_of(claim)
    words = [_site_words(key, manifest) for key in keys]
    if isinstance(claim, CrosscoderArtifact):
        steps = claim.sources.steps
        if len(steps) == 1:
            return f"{words[0]} at step {steps[0]:,}"
        if steps:
            return f"{words[0]} at {len(steps)} snapshots, step {steps[0]:,} to {steps[-1]:,}"
        return f"{words[0]} to {words[-1]}, {len(words)} {claim.sources.axis}s" if words else claim.id
    return " → ".join(words)


def _site_words(key: str, manifest: Manifest) -> str:
    site = manifest.sites.get(key)
    if site is None:
        return key
    model = manifest.base_models.get(site.model)
    step = f" at step {model.step:,}" if model and model.step is not None else ""
    what = site.parameter if site.stream == "parameter" and site.parameter else STREAMS[site.stream]
    side = f"{what} input" if site.io == "input" and site.stream != "parameter" else what
    where = f"layer {site.layer}, {side}" if site.layer is not None else side
    several = len({m.id for m in manifest.base_models.values()}) > 1 and model is not None
    return f"{where}{step}" + (f" of {model.id}" if several and model else "")


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return key → items, in the order in which the keys appear."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def filled(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Values:
    """Return a table without the columns in which nothing stands."""
    kept = [i for i in range(len(header)) if any(row[i] != ABSENT for row in rows)]
    return {"header": [header[i] for i in kept], "rows": [[row[i] for i in kept] for row in rows]}


def is_address(text: str) -> bool:
    """Whether a text is an address that a card may link to."""
    return text.startswith(("https://", "http://")) and not any(c.isspace() or c in "<>\"'`" for c in text)
