"""SR2: what the manifest claims of encoder and decoder, and whether a layout has words for the function."""

import re
from collections.abc import Iterator

from saereg.errors import DocumentError, FormatError
from saereg.registry.validators.subject import ArtifactSubject
from saereg.schemas.report import Finding
from saereg.schemas.semantics import DecoderNorm

_BEFORE = re.compile(r"^cannot say this [^:]*: ")
"""How a writer begins its refusal."""


def tied_as_claimed(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR205: the decoder is the encoder transposed where the manifest says so, and is not where it says not."""
    claimed, path = artifact.claim.tied, artifact.weights_path
    if claimed is None or artifact.config is None or artifact.header is None:
        return
    if "W_enc" not in artifact.config.tensors():
        if not claimed and "W_dec" in artifact.config.tensors():
            message = f"tied is claimed to be false, but {artifact.config.architecture} has no encoder of its own"
            yield artifact.claim_finding("SR205", message, "/tied", expected="true", found="false")
        return
    if not {"W_enc", "W_dec"} <= artifact.header.tensors.keys():
        return
    same, what = _tied(artifact)
    if claimed and not same:
        message = f"tied is claimed, but W_dec of {path} is not W_enc transposed: {what}"
        yield artifact.claim_finding("SR205", message, "/tied", expected="the same numbers", found=what)
    elif same and not claimed:
        message = f"tied is claimed to be false, but W_dec of {path} is W_enc transposed, every number of it"
        yield artifact.claim_finding("SR205", message, "/tied", expected="true", found="false")


def _tied(artifact: ArtifactSubject) -> tuple[bool, str]:
    """Return whether the weights are tied, and in words what keeps them from being so."""
    from saereg.registry.evidence.tied import compare_tied
    from saereg.registry.files.flat import open_safetensors

    tie = compare_tied(open_safetensors(artifact.release.root / artifact.weights_path))
    if not tie.comparable:
        return False, f"transposed and side by side they are {tie.shapes[0]} and {tie.shapes[1]}"
    if tie.max_abs_diff == 0:
        return tie.bitwise, "they differ in signs of zeros alone"
    return tie.bitwise, f"they differ by up to {tie.max_abs_diff:.3g}"


def recorded_decoder_norm(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR217: the decoder norms that the index records are those that are claimed."""
    yield from _not_unit(artifact, artifact.evidence.decoder_norm if artifact.evidence else None)


def decoder_norm_as_claimed(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR217: the decoder norms of the released weights are those that are claimed."""
    yield from _not_unit(artifact, artifact.inspection.decoder_norm if artifact.inspection else None)


def _not_unit(artifact: ArtifactSubject, norms: DecoderNorm | None) -> Iterator[Finding]:
    if artifact.claim.decoder_norm == "unit" and norms is not None and not norms.unit:
        found = f"{norms.minimum:.4g} to {norms.maximum:.4g}"
        message = f"decoder_norm is claimed to be unit, but the norms are {found}"
        yield artifact.claim_finding("SR217", message, "/decoder_norm", expected="1 to within 0.001", found=found)


def expressible(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR216: every artifact can be said in the layouts that the profile asks for."""
    config = artifact.config
    for layout in artifact.release.options.layouts if config is not None else ():
        refusal = None if artifact.claim.format == layout or config is None else _refusal(layout, artifact)
        if refusal is not None:
            message = f"it cannot be written in the layout {layout!r}: {refusal}"
            yield artifact.finding("SR216", message, path=artifact.config_path, expected=layout)


def _refusal(layout: str, artifact: ArtifactSubject) -> str | None:
    """Return why a layout has no words for an artifact, in those of its writer; no weights are looked at."""
    from saereg.registry.conversion.convert import layout_for

    try:
        if artifact.config is not None:
            layout_for(layout, artifact.config)
    except FormatError as error:
        reason = _BEFORE.sub("", str(error).removeprefix(f"{error.path}: "))
        return reason.partition("; use --to ")[0]
    except DocumentError:
        return None  # a setting that no dictionary can have, such as k > d_sae, has a rule of its own
    return None
