"""SR2: the configuration against the header of the weight file. No weights are read."""

from collections.abc import Iterator
from typing import Any

from saereg.registry.files.header import TensorEntry
from saereg.registry.validators.subject import ArtifactSubject
from saereg.schemas.cfg import INFERENCE, TensorSpec
from saereg.schemas.cfg_native import DictionaryConfig
from saereg.schemas.report import Finding


def header_sound(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR200: the header can be read, and its entries tile the file."""
    problem = artifact.checked_header[1]
    if problem is not None:
        yield artifact.finding("SR200", problem, path=artifact.weights_path)


def architecture_matches(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR211 and SR202: the tensors are those of the architecture."""
    config, header = artifact.config, artifact.header
    if config is None or header is None:
        return
    expected, found = config.tensors(), set(header.tensors)
    missing, extra = set(expected) - found, found - set(expected)
    if not missing and not extra:
        return
    theirs = not isinstance(config, DictionaryConfig)  # our own dialect has switches, and no name to choose instead
    others = [name for name in _with_tensors(found) if name != config.architecture] if theirs else []
    if others:
        message = f"architecture is {config.architecture!r}, but the tensors are those of {' or '.join(others)}"
        yield artifact.config_finding("SR211", message, "/architecture", expected=", ".join(others))
        return
    for name in sorted(missing):
        message = f"{name} is missing; {config.architecture} needs it"
        yield artifact.finding("SR202", message, path=artifact.weights_path, expected=_text(expected[name]))
    for name in sorted(extra):
        state = " (optimizer state?)" if "exp_avg" in name or "optim" in name else ""
        message = f"{name} is no tensor of {config.architecture}{state}"
        yield artifact.finding("SR202", message, path=artifact.weights_path, found=name)


def _with_tensors(found: set[str]) -> list[str]:
    """Return the SAELens architectures whose tensor names are exactly these (temporal is too varied to name)."""
    smallest: dict[str, Any] = {"d_in": 1, "d_sae": 1, "d_out": 1}
    names = {
        name: set(model.model_construct(None, **smallest).tensors())
        for name, model in INFERENCE.items()
        if name != "temporal"
    }
    return sorted(name for name, tensors in names.items() if tensors == found)


def shapes_match(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR201: every tensor has the shape that the configuration implies."""
    for name, spec, entry in _pairs(artifact):
        if entry.shape != spec.shape:
            transposed = " (transposed?)" if entry.shape == spec.shape[::-1] else ""
            message = f"{name} has shape {entry.shape}, the configuration implies {spec.shape}{transposed}"
            yield artifact.finding(
                "SR201", message, path=artifact.weights_path, expected=str(spec.shape), found=str(entry.shape)
            )


def dtypes_match(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR204 and SR213: every tensor has the declared type, and is of floating point."""
    config = artifact.config
    for name, spec, entry in _pairs(artifact):
        declared = spec.dtype or (config.torch_dtype if config else "")
        if entry.torch_dtype != declared:
            message = f"{name} is {entry.torch_dtype} in the file, cfg.json declares {declared}"
            code = "SR213" if name == "threshold" and not entry.dtype.startswith(("F", "BF")) else "SR204"
            types = {"expected": declared, "found": entry.torch_dtype}
            fixable = "unsafe" if code == "SR204" else None
            yield artifact.finding(code, message, path=artifact.weights_path, fixable=fixable, **types)


def _pairs(artifact: ArtifactSubject) -> "Iterator[tuple[str, TensorSpec, TensorEntry]]":
    if artifact.config is None or artifact.header is None:
        return
    for name, spec in artifact.config.tensors().items():
        if name in artifact.header.tensors:
            yield name, spec, artifact.header.tensors[name]


def k_in_range(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR212: k is at most the number of latents."""
    config = artifact.config
    for key in ("k", "kval_topk"):
        k = getattr(config, key, None)
        if config is not None and k is not None and k > config.d_sae:
            message = f"{key} = {k:g}, but there are only {config.d_sae} latents"
            most = f"at most {config.d_sae}"
            yield artifact.config_finding("SR212", message, f"/{key}", expected=most, found=f"{k:g}")


def _text(spec: TensorSpec) -> str:
    return f"{spec.dtype or 'any float'} {spec.shape}"
