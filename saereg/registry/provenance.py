"""Work out what a release was made from. Nothing is asked of this machine, so anybody gets the same from the files."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from saereg.registry.files.digest import sha256_text
from saereg.registry.files.names import CONFIG_FILE
from saereg.registry.files.natural import natural_key
from saereg.schemas.index import IndexArtifact
from saereg.schemas.jsontext import compact
from saereg.schemas.manifest import Artifact, Manifest
from saereg.schemas.provenance import CheckpointSet, DatasetPin, ModelPin, Provenance


def provenance_of(
    manifest: Manifest, artifacts: Sequence[IndexArtifact], generated_by: Mapping[str, str]
) -> Provenance:
    """Return what a release was made from, as far as its documents say.

    Args:
        manifest: the claims.
        artifacts: the evidence on them, for the digests of their configurations.
        generated_by: name → version of the software that built the index.
    """
    return Provenance(
        code=manifest.release.code,
        configuration_sha256=_configuration(manifest.artifacts, artifacts),
        base_models={
            key: ModelPin(id=m.id, revision=m.revision, step=m.step, weights_sha256=m.weights_sha256)
            for key, m in manifest.base_models.items()
        },
        datasets={
            key: DatasetPin(id=d.id, config=d.config, split=d.split, revision=d.revision, sha256=d.sha256)
            for key, d in manifest.datasets.items()
        },
        source_checkpoints=_checkpoints(manifest.artifacts),
        tools=_tools([*(claim.training.tool for claim in manifest.artifacts), generated_by]),
    )


def _configuration(claims: Iterable[Artifact], artifacts: Iterable[IndexArtifact]) -> str:
    """Return one digest over every configuration and what the author says of its training."""
    digests = {file.path: file.sha256 for entry in artifacts for file in entry.files if file.role == "config"}
    lines = []
    for claim in sorted(claims, key=lambda claim: claim.id):
        said = claim.model_dump(mode="json", include={"seed", "sparsity", "training"}, exclude_defaults=True)
        lines.append(f"{claim.id}\0{digests.get(f'{claim.path}/{CONFIG_FILE}', '')}\0{compact(said)}\n")
    return sha256_text("".join(lines))


def _checkpoints(claims: Iterable[Artifact]) -> CheckpointSet | None:
    """Return the source checkpoints as a whole; several artifacts may come from one file."""
    files = {(source.path, source.sha256) for claim in claims if (source := claim.source_checkpoint)}
    if not files:
        return None
    text = "".join(f"{path}\0{sha256}\n" for path, sha256 in sorted(files))
    return CheckpointSet(count=len(files), sha256=sha256_text(text))


def _tools(named: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return every version of every tool; parts of one release are often trained months apart."""
    found: dict[str, set[str]] = defaultdict(set)
    for versions in named:
        for name, version in versions.items():
            found[name].add(version)
    return {name: tuple(sorted(found[name], key=natural_key)) for name in sorted(found)}
