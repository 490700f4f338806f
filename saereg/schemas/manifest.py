"""manifest.json: what the author of a release claims."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from saereg.schemas.document import SCHEMA_FILES, SCHEMA_VERSION, Document, Record, SchemaVersion, Sha256
from saereg.schemas.evaluation import Evaluation
from saereg.schemas.metrics import Claim
from saereg.schemas.names import ArtifactId, Key, ReleasePath, Revision
from saereg.schemas.recipe import SourceTensor
from saereg.schemas.site import BaseModelRef, DatasetRef, Site, TokenPolicy
from saereg.schemas.withdrawal import VERSION, Withdrawal

SCHEMA_URL = f"{SCHEMA_FILES}/manifest-{SCHEMA_VERSION.split('.')[0]}.schema.json"
"""What `$schema` of a manifest of this version says."""

Architecture = Literal[
    "standard",
    "topk",
    "abstopk",
    "batchtopk",
    "matryoshka_batchtopk",
    "jumprelu",
    "gated",
    "matching_pursuit",
    "temporal",
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
    "groupmax",
    "topk_transcoder",
    "topk_skip_transcoder",
    "abstopk_transcoder",
    "abstopk_skip_transcoder",
    "groupmax_transcoder",
    "groupmax_skip_transcoder",
    "batchtopk_transcoder",
    "batchtopk_skip_transcoder",
    "gated_transcoder",
    "gated_skip_transcoder",
]
"""SAELens' own strings, and in the same manner those of what SAELens has not; a crosscoder uses those of its
activation."""

TRANSCODERS = tuple(name for name in get_args(Architecture) if name.endswith("transcoder"))
CROSSCODERS = ("standard", "topk", "batchtopk", "jumprelu", "gated")


class CodeRef(Record):
    """The code that made the release."""

    repository: str = Field(min_length=1)
    """URL of the repository."""
    commit: Revision | None = None
    """Commit."""


class ReleaseInfo(Record):
    """The release as a whole."""

    name: Key
    """Short name, as in a repository id."""
    version: str = Field(pattern=VERSION)
    """Semantic version."""
    title: str = Field(min_length=1)
    """One line for people."""
    license: str = Field(min_length=1)
    """SPDX identifier, lower case as on the Hub."""
    authors: tuple[str, ...] = ()
    """People or groups."""
    description: str | None = None
    """A paragraph."""
    citation: str | None = None
    """BibTeX."""
    code: CodeRef | None = None
    """Training code."""
    sister_releases: tuple[str, ...] = ()
    """References of releases of the same family."""
    derived_from: tuple[str, ...] = ()
    """References of the releases that this one was made from."""


class Sparsity(Record):
    """The sparsity setting of a training run."""

    k: float | None = Field(default=None, gt=0)
    """Active latents per row (average, for BatchTopK)."""
    l1_coefficient: float | None = Field(default=None, ge=0)
    """Coefficient of the L1 penalty."""
    l0_coefficient: float | None = Field(default=None, ge=0)
    """Coefficient of the L0 penalty (JumpReLU)."""
    target_l0: float | None = Field(default=None, gt=0)
    """L0 that training steered to."""


class SourceCheckpoint(Record):
    """The training checkpoint that an artifact was exported from."""

    path: ReleasePath
    """File name, relative to the folder of checkpoints (which is not part of the release)."""
    sha256: Sha256
    """Digest of that file."""
    tensors: dict[str, SourceTensor] = Field(default_factory=dict)
    """Exported tensor → where it comes from."""


class TrainingFacts(Record):
    """How an artifact was trained."""

    tokens: int | None = Field(default=None, ge=0)
    """Token activations seen, counting repetitions."""
    steps: int | None = Field(default=None, ge=0)
    """Optimizer steps."""
    batch_size: int | None = Field(default=None, gt=0)
    """Rows per step."""
    lr: float | None = Field(default=None, gt=0)
    """Peak learning rate."""
    order_seed: int | None = Field(default=None, ge=0)
    """Seed of the order of rows, where it is another than the seed of the artifact."""
    dataset: Key | None = None
    """Key of the data set in the manifest."""
    tool: dict[str, str] = Field(default_factory=dict)
    """Name → version of the training software."""
    log: ReleasePath | None = None
    """Training log in the release (one JSON object a line)."""


class _Artifact(Record):
    """What every artifact has."""

    id: ArtifactId
    """Unique name in the release."""
    path: ReleasePath
    """Folder of its files."""
    architecture: Architecture
    """Architecture, in SAELens' words."""
    d_in: int = Field(gt=0)
    """Width of the input."""
    d_sae: int = Field(gt=0)
    """Number of latents."""
    sparsity: Sparsity = Sparsity()
    """Sparsity setting of its training."""
    seed: int | None = None
    """Random seed of its training."""
    snapshot: str | None = None
    """Which moment of the dictionary's own training, e.g. `50M` or `final`; null when there is only one."""
    variant: str | None = None
    """What else sets it apart, e.g. `raw` or `layernorm`."""
    canonical: bool = False
    """Whether it is the author's pick for its site."""
    tied: bool | None = None
    """Whether `W_dec` is `W_enc` transposed, number for number; null: not said."""
    decoder_norm: Literal["unit", "free"] | None = None
    """`unit` where every decoder direction has norm 1, of a crosscoder over all sources together; null: not said."""
    source_checkpoint: SourceCheckpoint | None = None
    """The checkpoint it was exported from."""
    derived_from: tuple[str, ...] = ()
    """References of the dictionaries that it was made from, such as `hf://org/repo@commit:artifact`."""
    neuronpedia_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")
    """Its id on Neuronpedia: `model/layer-source`."""
    training: TrainingFacts = TrainingFacts()
    """How it was trained."""
    claims: tuple[Claim, ...] = ()
    """Numbers that the author states."""
    expected_failure: str | None = None
    """Why this artifact is shipped although it failed, when it did."""


class SaeArtifact(_Artifact):
    """A sparse autoencoder: it reconstructs what it reads."""

    kind: Literal["sae"]
    """Kind of dictionary."""
    format: Literal["saelens", "saereg"] = "saelens"
    """Layout of its files."""
    site: Key
    """Site it reads and reconstructs."""

    @field_validator("architecture")
    @classmethod
    def _is_an_sae(cls, value: str) -> str:
        if value in TRANSCODERS:
            raise ValueError(f"{value!r} is the architecture of a transcoder; set kind to 'transcoder'")
        return value


class TranscoderArtifact(_Artifact):
    """A transcoder: it reads one site and predicts another."""

    kind: Literal["transcoder"]
    """Kind of dictionary."""
    format: Literal["saelens", "saereg"] = "saelens"
    """Layout of its files."""
    site: Key
    """Site it reads."""
    site_out: Key
    """Site it predicts."""
    d_out: int = Field(gt=0)
    """Width of the output."""

    @field_validator("architecture")
    @classmethod
    def _is_a_transcoder(cls, value: str) -> str:
        if value not in TRANSCODERS:
            raise ValueError(f"{value!r} is no transcoder architecture; choose from {', '.join(TRANSCODERS)}")
        return value


class Sources(Record):
    """What a crosscoder's sources are, in the order of its source axis."""

    axis: Literal["layer", "model", "snapshot"]
    """What changes from source to source."""
    sites: tuple[Key, ...] = ()
    """Site of each source, for axis `layer` or `model`."""
    site: Key | None = None
    """The one site, for axis `snapshot`; its stream is `parameter` for W_U and W_E."""
    steps: tuple[int, ...] = ()
    """Pretraining step of each source, for axis `snapshot`; numbers, in order."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.axis == "snapshot":
            if self.site is None or not self.steps or self.sites:
                raise ValueError("axis 'snapshot' needs `site` and `steps`, and no `sites`")
            if list(self.steps) != sorted(set(self.steps)):
                raise ValueError("`steps` must rise from source to source, as numbers")
        elif not self.sites or self.site is not None or self.steps:
            raise ValueError(f"axis {self.axis!r} needs `sites`, and neither `site` nor `steps`")
        return self

    @property
    def count(self) -> int:
        """Number of sources."""
        return len(self.steps) or len(self.sites)

    @property
    def site_keys(self) -> tuple[str, ...]:
        """Every site that is named."""
        return self.sites or ((self.site,) if self.site else ())


class CrosscoderArtifact(_Artifact):
    """A crosscoder: one code for several sources."""

    kind: Literal["crosscoder"]
    """Kind of dictionary."""
    format: Literal["saereg"] = "saereg"
    """Layout of its files."""
    sources: Sources
    """Layers, models or training snapshots."""

    @field_validator("architecture")
    @classmethod
    def _is_a_crosscoder(cls, value: str) -> str:
        if value not in CROSSCODERS:
            raise ValueError(f"{value!r} is no crosscoder architecture; choose from {', '.join(CROSSCODERS)}")
        return value


Artifact = Annotated[SaeArtifact | TranscoderArtifact | CrosscoderArtifact, Field(discriminator="kind")]
"""One dictionary of a release."""


class CanonicalRule(Record):
    """How the author chose the canonical artifacts."""

    rule: str = Field(min_length=1, max_length=1000)
    """`lowest METRIC`, `highest METRIC`, `best METRIC` or `METRIC closest to NUMBER`, each with ` per FIELD, FIELD`."""


class Manifest(Document):
    """The claims: release metadata and the list of artifacts."""

    schema_url: str | None = Field(default=None, alias="$schema")
    """Where editors find the JSON Schema: the address, or a local copy, of manifest-1.schema.json."""
    schema_version: SchemaVersion = SCHEMA_VERSION
    """Version of this schema."""
    release: ReleaseInfo
    """The release as a whole."""
    base_models: dict[Key, BaseModelRef]
    """Key → base model."""
    datasets: dict[Key, DatasetRef] = Field(default_factory=dict)
    """Key → data set."""
    tokens: TokenPolicy | None = None
    """Which tokens became rows; null for releases of parameter dictionaries."""
    sites: dict[Key, Site]
    """Key → site."""
    evaluations: dict[Key, Evaluation] = Field(default_factory=dict)
    """Key → evaluation data."""
    canonical: CanonicalRule | None = None
    """How canonical artifacts were chosen."""
    withdrawn: tuple[Withdrawal, ...] = ()
    """Published versions, or artifacts of them, that should no longer be used; written by `saereg yank`."""
    artifacts: tuple[Artifact, ...]
    """The dictionaries."""


def sites_of(artifact: SaeArtifact | TranscoderArtifact | CrosscoderArtifact) -> tuple[str, ...]:
    """Return the keys of the sites of an artifact: what it reads, source by source, then what it predicts."""
    if isinstance(artifact, CrosscoderArtifact):
        return artifact.sources.site_keys
    return (artifact.site, artifact.site_out) if isinstance(artifact, TranscoderArtifact) else (artifact.site,)


def identity(artifact: SaeArtifact | TranscoderArtifact | CrosscoderArtifact, manifest: Manifest) -> dict[str, object]:
    """Return the fields that tell an artifact apart from every other in its release.

    Two artifacts with equal identities are two names for what the fields say is one thing.
    """
    sites = sites_of(artifact)
    known = [manifest.sites[key] for key in sites if key in manifest.sites]
    models = {site.model: manifest.base_models.get(site.model) for site in known}
    return {
        "kind": artifact.kind,
        "architecture": artifact.architecture,
        "base_models": tuple(sorted(((m.id, m.revision, m.step) for m in models.values() if m), key=repr)),
        "sites": sites,
        "steps": artifact.sources.steps if isinstance(artifact, CrosscoderArtifact) else (),
        "d_in": artifact.d_in,
        "d_out": artifact.d_out if isinstance(artifact, TranscoderArtifact) else artifact.d_in,
        "d_sae": artifact.d_sae,
        "sparsity": artifact.sparsity,
        "tied": bool(artifact.tied),
        "decoder_norm": artifact.decoder_norm,
        "snapshot": artifact.snapshot,
        "seed": artifact.seed,
        "variant": artifact.variant,
    }
