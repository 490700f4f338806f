"""SR11: ids and paths against each other and against the fields. What they say is only ever compared, never used."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from saereg.registry.files.natural import natural_key
from saereg.registry.naming import Fact, Token, architecture_fits, architectures_of, tokens_of
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.manifest import CrosscoderArtifact, Manifest, sites_of
from saereg.schemas.report import Finding

FIELDS: Mapping[Fact, str] = {
    "layer": "the layer of its site",
    "width": "d_sae",
    "k": "sparsity.k",
    "seed": "seed",
    "l1": "its sparsity coefficient",
    "step": "the step of its base model",
    "sources": "the number of its sources",
    "snapshot": "snapshot",
}
"""What a name states → how its field is called."""

FEW = 3
"""Fewest names in a row whose order says how they were sorted."""


def names_agree(release: ReleaseSubject) -> Iterator[Finding]:
    """SR111: the id and the path of an artifact do not contradict each other."""
    for artifact in release.artifacts:
        claim = artifact.claim
        if claim.id == claim.path:
            continue
        by_id, by_path = tokens_of(claim.id), tokens_of(claim.path)
        for fact, tokens in by_id.items():
            if fact == "snapshot" and claim.snapshot is None:
                continue  # then `410m` at the end is the size of a model
            others = by_path.get(fact, ())
            if others and not any(one.meets(other) for one in tokens for other in others):
                message = f"the id {claim.id!r} says {_texts(tokens)}, the path {claim.path!r} says {_texts(others)}"
                yield artifact.claim_finding("SR111", message, "/path", expected=_texts(tokens), found=_texts(others))


def names_match_fields(release: ReleaseSubject) -> Iterator[Finding]:
    """SR112: what an id or a path says of an artifact is what its fields say."""
    manifest = release.manifest
    if manifest is None:
        return
    # One base model at many steps: a step in a name is that of the model, not of the dictionary's own training.
    snapshots = len({model.step for model in manifest.base_models.values()} - {None}) > 1
    for artifact in release.artifacts:
        claim = artifact.claim
        for key, name in {"/path": claim.path, "/id": claim.id}.items():
            if key == "/path" and claim.path == claim.id:
                continue
            yield from _against_fields(artifact, manifest, key, name, snapshots)


def _against_fields(
    artifact: ArtifactSubject, manifest: Manifest, key: str, name: str, snapshots: bool
) -> Iterator[Finding]:
    where = "id" if key == "/id" else "path"
    for fact, tokens in tokens_of(name).items():
        values = [value for value in _values(fact, artifact, manifest, name, snapshots) if value is not None]
        if values and not any(token.fits(value) for token in tokens for value in values):
            stated = _snapshot_text(artifact) if fact == "snapshot" else " or ".join(f"{v:.12g}" for v in values[:1])
            message = f"the {where} {name!r} says {_texts(tokens)}, but {FIELDS[fact]} is {stated}"
            yield artifact.claim_finding("SR112", message, key, expected=stated, found=_texts(tokens))
    words = architectures_of(name)
    if words and not any(architecture_fits(word, artifact.claim.architecture) for word in words):
        stated = artifact.claim.architecture
        message = f"the {where} {name!r} says {' and '.join(words)}, but architecture is {stated}"
        yield artifact.claim_finding("SR112", message, key, expected=stated, found=" and ".join(words))


def _values(
    fact: Fact, artifact: ArtifactSubject, manifest: Manifest, name: str, snapshots: bool
) -> Sequence[float | None]:
    """Return the numbers that a name may state as a fact, the field itself first; none where no field says it."""
    claim = artifact.claim
    if fact == "layer":
        return _layers(artifact, manifest, name)
    if fact == "step":
        return _steps(artifact, manifest) if snapshots else ()
    if fact == "sources":
        return (claim.sources.count,) if isinstance(claim, CrosscoderArtifact) else ()
    if fact == "snapshot":
        return [next(iter(token.ranges))[0] for token in tokens_of(claim.snapshot or "").get("snapshot", ())]
    if fact == "l1":
        return claim.sparsity.l1_coefficient, claim.sparsity.l0_coefficient
    return {"width": (claim.d_sae, claim.d_in), "k": (claim.sparsity.k,), "seed": (claim.seed,)}[fact]


def _layers(artifact: ArtifactSubject, manifest: Manifest, name: str) -> list[float | None]:
    layers = [manifest.sites[key].layer for key in sites_of(artifact.claim) if key in manifest.sites]
    # What `blocks.8` reads before it is what `blocks.7` wrote.
    shifted = [layer + 1 for layer in layers if layer is not None] if "_pre" in name else []
    return [*layers, *shifted] if None not in layers else []


def _steps(artifact: ArtifactSubject, manifest: Manifest) -> tuple[float | None, ...]:
    claim = artifact.claim
    site = None if isinstance(claim, CrosscoderArtifact) else manifest.sites.get(claim.site)
    model = manifest.base_models.get(site.model) if site else None
    if model is None or model.step is None:
        return ()
    numbers = [float(digits) for digits in re.findall(r"[0-9]{1,15}", claim.snapshot or "")]
    return (model.step, claim.training.steps, *numbers)


def _snapshot_text(artifact: ArtifactSubject) -> str:
    return str(artifact.claim.snapshot)


def _texts(tokens: Sequence[Token]) -> str:
    return " and ".join(dict.fromkeys(token.text for token in tokens))


def natural_order(release: ReleaseSubject) -> Iterator[Finding]:
    """SR114: artifacts that differ by a number are not listed in the order of its digits."""
    names = [artifact.claim.id for artifact in release.artifacts]
    for run, position in misordered(names):
        message = f"{names[position]!r} stands before {names[position + 1]!r}: the ids are sorted as text"
        ordered = sorted((names[i] for i in run), key=natural_key)
        expected = ", ".join(ordered[:FEW]) + (", …" if len(ordered) > FEW else "")
        pointer = f"/artifacts/{position + 1}/id"
        yield release.manifest_finding("SR114", message, pointer, expected=expected, fixable="safe")
        return


def misordered(names: Sequence[str]) -> Iterator[tuple[range, int]]:
    """Yield each stretch of names that is sorted as text, and the place in it where a number falls; or all of them."""
    for run in (range(len(names)), *_runs(names)):
        pair = _sorted_as_text([names[i] for i in run])
        if pair is not None:
            yield run, run[pair]
            if len(run) == len(names):
                return


def _runs(names: Sequence[str]) -> Iterator[range]:
    """Yield each stretch of names that differ in their digits alone."""
    shapes = [re.sub(r"[0-9]+", "0", name) for name in names]
    start = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or shapes[i] != shapes[start]:
            if i - start >= FEW:
                yield range(start, i)
            start = i


def _sorted_as_text(names: Sequence[str]) -> int | None:
    """Return where names that are sorted as text go from a larger number to a smaller one, or None."""
    if len(names) < FEW or any(a > b for a, b in pairwise(names)):
        return None
    wrong = [i for i, (a, b) in enumerate(pairwise(names)) if _falls(a, b)]
    # 100, 20, 3 is sorted as text too, but falls at every step: on purpose.
    return wrong[0] if wrong and len(wrong) < len(names) - 1 else None


def _falls(one: str, other: str) -> bool:
    """Whether two names first differ in a number, and the second has the smaller one."""
    pairs = enumerate(zip(re.split(r"([0-9]+)", one), re.split(r"([0-9]+)", other), strict=False))
    place, a, b = next(((place, a, b) for place, (a, b) in pairs if a != b), (0, "", ""))
    return place % 2 == 1 and int(a) > int(b)
