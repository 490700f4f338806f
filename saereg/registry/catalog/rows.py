"""What enters a catalogue: plain rows, as every reader makes them and the store keeps them.

A reader makes a `Snapshot` of one source at one commit or digest. Nothing in it is invented: what the source does not
say is None, and what was inferred stands in `assumptions` beside the value.
"""

from dataclasses import dataclass, field
from typing import Literal

from saereg.schemas.metrics import MetricId
from saereg.schemas.report import Finding

SourceKind = Literal["folder", "hub", "saelens", "inventory"]
"""`folder`: a release on this machine. `hub`: one on the Hub. `saelens`: the registry of the installed SAELens.
`inventory`: an index.json or manifest.json of another make, on this machine or the Hub."""

Basis = Literal["measured", "stated"]
"""`measured`: saereg computed it from the weights. `stated`: somebody says so."""

Standing = Literal["verified", "unverified", "foreign"]
"""`verified`: built, and validation found no error. `unverified`: never built, or with errors, which are kept as its
findings. `foreign`: rows of another inventory, which saereg cannot check."""

Relation = Literal["sister", "derived_from", "source_checkpoint"]
"""How a release or artifact hangs together with another."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from.

    Attributes:
        kind: what it is.
        locator: absolute path, `org/repo`, or `sae_lens`; for an inventory on the Hub `hf://org/repo/path`.
        revision: branch, tag or commit that was asked for; empty for the default one, or none.
    """

    kind: SourceKind
    locator: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of one artifact.

    Attributes:
        basis: who says so.
        metric: definition; None where the source gives a number and no definition.
        name: what the source calls it, e.g. `variance_explained`; the definition's id where there is one.
        value: the number.
        evaluation: data it is of, where that is known.
        kind: how it came about, as `Claim.kind`; None for measured ones.
        units: `raw` or `normalized`.
        batch_rows: batch size, for definitions that depend on one.
        rows: rows it was computed on.
        verdict: what the weights say of a stated one: `verified`, `refuted` and so on; None where nobody looked.
    """

    basis: Basis
    metric: MetricId | None
    name: str
    value: float
    evaluation: str | None = None
    kind: str | None = None
    units: str = "raw"
    batch_rows: int | None = None
    rows: int | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class Assumed:
    """A value that stands in a field of an artifact although the source does not say it in so many words.

    Attributes:
        field: which field of `Entry`.
        value: as text.
        because: what it was read from, e.g. `id: blocks.12.hook_resid_pre`.
    """

    field: str
    value: str
    because: str


@dataclass(frozen=True, slots=True)
class Edge:
    """One release or artifact and what it comes from, or belongs with.

    Attributes:
        relation: how.
        target: reference of the other: `hf://org/repo[@revision][:artifact]`, a URL, or a path of a checkpoint.
        artifact: id of the artifact that has it; None for the whole release.
        sha256: digest of the target, where it is a file.
    """

    relation: Relation
    target: str
    artifact: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One artifact. The fields are those of `saereg.registry.query.FIELDS`; what is not said is None.

    Attributes:
        id: name in its release.
        path: folder or file in the release, where it differs from the id.
        weights_sha256: digest of the weight file; of several, of their digests one a line, sorted by path.
        size: bytes of its files.
        model: base model as the source writes it: a repository id, or a TransformerLens name.
        neuronpedia_id: `model/layer-source` on Neuronpedia.
        metrics: its numbers.
        assumptions: which of the fields are inferred.
    """

    id: str
    path: str | None = None
    kind: str | None = None
    architecture: str | None = None
    format: str | None = None
    model: str | None = None
    model_step: int | None = None
    model_revision: str | None = None
    layer: int | None = None
    stream: str | None = None
    module: str | None = None
    hook_name: str | None = None
    parameter: str | None = None
    site: str | None = None
    site_out: str | None = None
    axis: str | None = None
    steps: tuple[int, ...] = ()
    n_sources: int | None = None
    d_in: int | None = None
    d_out: int | None = None
    d_sae: int | None = None
    k: float | None = None
    l1_coefficient: float | None = None
    l0_coefficient: float | None = None
    target_l0: float | None = None
    seed: int | None = None
    snapshot: str | None = None
    variant: str | None = None
    canonical: bool | None = None
    withdrawn: str | None = None
    tokens: int | None = None
    dtype: str | None = None
    weights_sha256: str | None = None
    size: int | None = None
    neuronpedia_id: str | None = None
    metrics: tuple[Metric, ...] = ()
    assumptions: tuple[Assumed, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseRows:
    """One release of a source.

    Attributes:
        name: its name; unique in the source.
        version: semantic version, where it has one.
        repo: Hub repository that holds its weights.
        revision: commit there, where it is pinned.
        folder: absolute path, where it is on this machine.
        standing: how far it can be trusted.
        level: depth of the validation behind `standing`.
        loader: for foreign rows, what reads its files: the loader's name in SAELens, or a layout of ours.
        aliases: (name, id of the artifact) of second names, e.g. (`canonical`, …); names may repeat.
    """

    name: str
    version: str | None = None
    title: str | None = None
    license: str | None = None
    repo: str | None = None
    revision: str | None = None
    folder: str | None = None
    standing: Standing = "foreign"
    level: str | None = None
    withdrawn: str | None = None
    loader: str | None = None
    entries: tuple[Entry, ...] = ()
    edges: tuple[Edge, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All rows of one source, at one commit or digest.

    Attributes:
        source: where they come from.
        pin: commit (40 hex), or sha256 of what was read (64 hex).
        tool: name and version of what made the rows, e.g. `saereg 0.1.0` or `sae-lens 6.54.12`.
        releases: its releases.
    """

    source: Source
    pin: str
    tool: str
    releases: tuple[ReleaseRows, ...]
