"""SR2 and SR4 at level weights: finite values, thresholds, golden vectors, round trip. Read in blocks."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from saereg.errors import WeightsError
from saereg.registry.files.names import CONVERSION_FILE
from saereg.registry.validators.checks.layout import SMALL
from saereg.registry.validators.subject import MAX_CONFIG_BYTES, ArtifactSubject
from saereg.schemas.cfg import SaelensConfig
from saereg.schemas.conversion import Conversion
from saereg.schemas.document import check_text
from saereg.schemas.report import Finding


def weights_sound(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR009, SR203, SR213 and SR214, in one pass over the file: digest, finiteness, thresholds, decoder norms."""
    found, path = artifact.inspection, artifact.weights_path
    if found is None:
        return
    indexed = {file.path: file for file in artifact.evidence.files} if artifact.evidence else {}
    if path in indexed and indexed[path].size > SMALL and indexed[path].sha256 != found.sha256:
        message = f"{path} was altered since the index was built"
        yield artifact.finding("SR009", message, path=path, expected=indexed[path].sha256, found=found.sha256)
    for name, position in sorted(found.first_bad.items()):
        message = f"{name} holds a value that is not finite, first at {list(position)}"
        yield artifact.finding("SR203", message, path=path, found=f"{name}{list(position)}")
    if "threshold" in found.negative:
        message = "threshold holds negative values; −1 often marks one that was never set"
        yield artifact.finding("SR213", message, path=path, expected="at least 0")
    if found.zero_directions:
        message = f"{found.zero_directions} of {artifact.claim.d_sae} decoder directions have norm 0"
        yield artifact.finding("SR214", message, path=path)


def golden_present(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR423: there are golden vectors."""
    if artifact.golden_path not in artifact.release.files:
        yield artifact.claim_finding("SR423", f"{artifact.golden_path} is missing", "/path")


def golden_replays(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR420 and SR421: the released files compute what the source of the weights computed."""
    from saereg.registry.evidence.golden import replay
    from saereg.registry.evidence.golden_file import MAX_REL_ERROR
    from saereg.registry.evidence.stream import streamed
    from saereg.registry.files.flat import open_safetensors

    header, config = artifact.header, artifact.config
    if header is None or config is None or artifact.golden_path not in artifact.release.files:
        return
    root = artifact.release.root
    try:
        replayed = replay(streamed(config, open_safetensors(root / artifact.weights_path)), root / artifact.golden_path)
    except WeightsError as error:
        yield artifact.finding("SR420", str(error), path=artifact.golden_path)
        return
    if replayed.agrees(config.torch_dtype):
        return
    record, limit = replayed.replay, MAX_REL_ERROR[config.torch_dtype]
    off = record.max_rel_error
    if not record.active_sets_equal:
        row, latent = replayed.differing[0]
        what = f"latent {latent} differs in row {row}, and x_hat is off by up to {off:.3g}"
    elif off > limit:
        what = f"row {replayed.worst_row} is off by {off:.3g}"
    else:
        off = replayed.activation_error
        what = f"x_hat agrees, but the activations are off by up to {off:.3g}"
    yield artifact.finding(
        "SR421",
        f"the golden vectors do not replay: {what} (relative)",
        path=artifact.golden_path,
        expected=f"equal active sets, error at most {limit:g}",
        found=f"{len(replayed.differing)} differing latents or more, error {off:.3g}",
        hint=_golden_hint(artifact),
    )


def _golden_hint(artifact: ArtifactSubject) -> str | None:
    config = artifact.config
    if not isinstance(config, SaelensConfig):
        return None
    other = "false" if config.apply_b_dec_to_input else "true"
    return f"try the switches of cfg.json: apply_b_dec_to_input {other}, normalize_activations, threshold units"


def source_agrees(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR422 and SR424: the weights are what the manifest says was made of the source checkpoint."""
    from saereg.registry.evidence.round_trip import disagreements

    found, looked = artifact.checkpoint, artifact.looked
    if found is None or looked is None:
        return
    source = found[1]
    digest = artifact.release.sha256_of_checkpoint(source.path)
    if digest != source.sha256:
        message = f"{source.path} is not the checkpoint of the manifest"
        yield artifact.claim_finding(
            "SR424", message, "/source_checkpoint/sha256", expected=source.sha256, found=digest
        )
        return
    try:
        compared = looked.round_trip(source)
    except WeightsError as error:
        yield artifact.claim_finding("SR422", str(error), "/source_checkpoint")
        return
    if compared is None:
        return
    wrong = disagreements(compared.tensors, source.tensors, looked.inspection.largest, looked.first)
    for name, what in wrong.items():
        message = f"{name} is not {source.tensors[name].key} of {source.path}: {what}"
        difference = f"{compared.tensors[name].max_abs_diff:.3g}"
        yield artifact.finding("SR422", message, path=artifact.weights_path, expected="0.0", found=difference)


def conversion_agrees(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR426: a conversion.json is of the weights beside it."""
    path = f"{artifact.claim.path}/{CONVERSION_FILE}"
    if path not in artifact.release.files or artifact.inspection is None:
        return
    text, problems = artifact.release.read_text(path, MAX_CONFIG_BYTES)
    record, problems = check_text(Conversion, text) if text is not None else (None, problems)
    if record is None:
        yield artifact.finding("SR426", f"{CONVERSION_FILE} cannot be read: {problems[0].sentence}", path=path)
        return
    name, found = PurePosixPath(artifact.weights_path).name, artifact.inspection.sha256
    proved = {file.name: file.sha256 for file in record.written}
    if proved.get(name) != found:
        message = f"{CONVERSION_FILE} proves something of other weights than {name}"
        yield artifact.finding("SR426", message, path=path, expected=found, found=proved.get(name, "another file"))
