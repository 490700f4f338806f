"""SR425: evaluations are there, and of a shape that the dictionaries measured on them read."""

from collections.abc import Iterator

from saereg.errors import WeightsError
from saereg.registry.files.header import TensorEntry
from saereg.registry.files.natural import natural_key
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.evaluation import ActivationRows, Evaluation, ParameterRows, SyntheticRows, TokenRows
from saereg.schemas.manifest import CrosscoderArtifact
from saereg.schemas.report import Finding

CONTEXTS = ("tokens", "lengths")
"""Tensors of a file of tokens."""


def evaluations_fit(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR425: the evaluations that claims and measurements refer to are there, as declared."""
    manifest = artifact.release.manifest
    names = {claim.evaluation for claim in artifact.claim.claims if claim.evaluation}
    names |= {m.evaluation for m in artifact.evidence.metrics} if artifact.evidence else set()
    for name in sorted(names & set(manifest.evaluations if manifest else ())):
        if manifest is not None:
            yield from _problems(artifact, name, manifest.evaluations[name])


def _problems(artifact: ArtifactSubject, name: str, evaluation: Evaluation) -> Iterator[Finding]:
    if twice := _done_twice(artifact, evaluation):
        message = f"rows of evaluation {name!r} are {twice} already, and {artifact.claim.id} does it again"
        found = evaluation.preprocess
        yield _declared(artifact, message, f"/evaluations/{name}/preprocess", "none, or folded weights", found)
    if isinstance(evaluation, ActivationRows | TokenRows):
        yield from _stored(artifact, evaluation)
        return
    pointer = f"/evaluations/{name}"
    if isinstance(evaluation, ParameterRows):
        sources = artifact.claim.sources.count if isinstance(artifact.claim, CrosscoderArtifact) else 1
        if len(evaluation.steps) != sources:
            message = f"evaluation {name!r} has {len(evaluation.steps)} snapshots, {artifact.claim.id} reads {sources}"
            yield _declared(artifact, message, f"{pointer}/steps", str(sources), str(len(evaluation.steps)))
    elif evaluation.shape is not None or _leaves_open(artifact):
        yield from _generated(artifact, name, evaluation)


def _done_twice(artifact: ArtifactSubject, evaluation: Evaluation) -> str:
    """Return what is done to rows before the dictionary sees them and again by its own statistics; "" for nothing."""
    kind = artifact.semantics.normalization.kind if artifact.semantics else "none"
    parts = {"center": "centred", "scale": "scaled"}
    own = parts.keys() & set(kind.split("_")) if kind in ("center", "scale", "center_scale") else set()
    return " and ".join(parts[part] for part in evaluation.preprocess.split("_") if part in own)


def _declared(artifact: ArtifactSubject, message: str, pointer: str, expected: str, found: str) -> Finding:
    return artifact.release.manifest_finding(
        "SR425", message, pointer, artifact=artifact.claim.id, expected=expected, found=found
    )


def _leaves_open(artifact: ArtifactSubject) -> bool:
    """Whether the configuration does not say of what shape a row is."""
    rules = artifact.semantics
    return artifact.claim.architecture == "temporal" or (rules is not None and rules.reshape == "hook_z")


def _generated(artifact: ArtifactSubject, name: str, evaluation: SyntheticRows) -> Iterator[Finding]:
    shape = (evaluation.rows, *(evaluation.shape or (artifact.claim.d_in,)))
    if len(shape) == 2 and _leaves_open(artifact):
        message = f"evaluation {name!r} does not say of what shape its rows are; add `shape`"
        expected = "(positions, d_in)" if artifact.claim.architecture == "temporal" else "(heads, width)"
        yield _declared(artifact, message, f"/evaluations/{name}", expected, "no `shape`")
    elif missed := _shape_missed(shape, evaluation.rows, artifact):
        message = f"evaluation {name!r} has rows {shape}, but {artifact.claim.id} reads {missed}"
        yield _declared(artifact, message, f"/evaluations/{name}/shape", missed, str(shape))


def _stored(artifact: ArtifactSubject, evaluation: ActivationRows | TokenRows) -> Iterator[Finding]:
    release, path = artifact.release, evaluation.path
    files = files_of(release, path)
    if not files:
        if path not in release.indexed:  # else SR002 says so
            yield artifact.finding("SR425", f"{path} is missing", path=path)
        return
    headers: dict[str, dict[str, TensorEntry]] = {}
    for file in files:
        try:
            headers[file] = release.evaluation_tensors(file)
        except WeightsError as error:
            yield artifact.finding("SR425", str(error), path=file)
            return
    if isinstance(evaluation, TokenRows):
        yield from _tokens(artifact, files[0], headers[files[0]])
        return
    expected, shown = _missed(artifact, evaluation, headers)
    if expected:
        message = f"{path} holds {shown}, but {expected} is declared"
        yield artifact.finding("SR425", message, path=path, expected=expected, found=shown)


def files_of(release: ReleaseSubject, path: str) -> tuple[str, ...]:
    """Return the files that a path of an evaluation stands for: itself, or the shards in it in their order."""
    if path in release.files:
        return (path,)
    inside = (f for f in release.files if f.rpartition("/")[0] == path and f.endswith(".safetensors"))
    return tuple(sorted(inside, key=natural_key))


def _tokens(artifact: ArtifactSubject, path: str, tensors: dict[str, TensorEntry]) -> Iterator[Finding]:
    for name in CONTEXTS:
        if name not in tensors or len(tensors[name].shape) != 1 or not tensors[name].dtype.startswith(("I", "U")):
            shown = f"{tensors[name].dtype} {tensors[name].shape}" if name in tensors else ", ".join(tensors)
            message = f"{path} holds {shown}; `tokens` and `lengths` are needed, integers along one axis"
            expected = f"{name}: integers along one axis"
            yield artifact.finding("SR425", message, path=path, expected=expected, found=shown)
            return


def _missed(
    artifact: ArtifactSubject, evaluation: ActivationRows, headers: dict[str, dict[str, TensorEntry]]
) -> tuple[str, str]:
    """Return what is expected and what is there; empty when it fits."""
    name, shapes = evaluation.tensor, set()
    total, tensors = 0, {}
    for tensors in headers.values():
        if name not in tensors or not tensors[name].shape:
            break
        total += tensors[name].shape[0]
        shapes.add(tensors[name].shape[1:])
    else:
        found = (total, *shapes.pop()) if len(shapes) == 1 else None
        missed = _shape_missed(found, evaluation.rows, artifact)
        held = f"{name} {found}" if found is not None else f"{name} of several shapes"
        return (f"{name} {missed}", held) if missed else ("", "")
    there = f"{name} {tensors[name].shape}" if name in tensors else ", ".join(tensors)
    return f"{name} {_shape_missed(None, evaluation.rows, artifact)}", there


def _shape_missed(found: tuple[int, ...] | None, rows: int, artifact: ArtifactSubject) -> str | None:
    """Return the shape that a tensor of inputs should have for this artifact, or None when it has it."""
    claim, rules = artifact.claim, artifact.semantics
    if rules is not None and rules.reshape == "hook_z":
        fits = found is not None and len(found) == 3 and found[0] == rows and found[1] * found[2] == claim.d_in
        return None if fits else f"({rows}, heads, width) with heads × width = {claim.d_in}"
    if not found or found[0] != rows or found[-1] != claim.d_in:
        return f"({rows}, …, {claim.d_in})"
    sources = (claim.sources.count,) if isinstance(claim, CrosscoderArtifact) else ()
    shape = (rows, *sources, claim.d_in)
    return None if found == shape or claim.architecture == "temporal" else str(shape)
