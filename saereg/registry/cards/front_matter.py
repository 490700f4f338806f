"""What the front matter of a card should say of a release, and a card with that added."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from saereg.registry.cards.licenses import hub_license
from saereg.registry.cards.markdown import whole_lines_of
from saereg.registry.cards.yaml_head import FrontMatter, read_front_matter
from saereg.schemas.manifest import Manifest

__all__ = ["RELATION", "Expected", "FrontMatter", "completed", "expected", "is_hub_id", "read_front_matter"]

RELATION = "adapter"
"""The one of the Hub's relations that fits: weights that are attached to a base model, which stays as it is.

The others (`finetune`, `quantized`, `merge`) say that the repository holds a language model of its own.
"""

KINDS = {"sae": "sparse-autoencoder", "transcoder": "transcoder", "crosscoder": "crosscoder"}
"""Kind of artifact → tag."""

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_PLAIN = re.compile(r"^[A-Za-z][\w./-]*$")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


@dataclass(frozen=True)
class Expected:
    """What a manifest says of the keys of the front matter.

    Attributes:
        library_name: `saelens` where SAELens opens every artifact, else `saereg`; None where there is no artifact.
        license: identifier on the Hub's list, or None where the manifest's licence is not on it.
        license_name: the manifest's licence.
        base_model: Hub ids.
        datasets: Hub ids of the texts that activations were taken from.
        tags: what people search for.
    """

    library_name: str | None
    license: str | None
    license_name: str
    base_model: tuple[str, ...]
    datasets: tuple[str, ...]
    tags: tuple[str, ...]


def expected(manifest: Manifest) -> Expected:
    """Return what the front matter of a release's card should say."""
    formats = {artifact.format for artifact in manifest.artifacts}
    kinds = [tag for kind, tag in KINDS.items() if kind in {artifact.kind for artifact in manifest.artifacts}]
    activations = any(site.stream != "parameter" for site in manifest.sites.values())
    datasets = dict.fromkeys(
        dataset.id
        for dataset in manifest.datasets.values()
        if is_hub_id(dataset.id) and (dataset.revision or not dataset.sha256)  # a digest is that of files elsewhere
    )
    return Expected(
        library_name=("saelens" if formats == {"saelens"} else "saereg") if formats else None,
        license=hub_license(manifest.release.license),
        license_name=manifest.release.license,
        base_model=tuple(dict.fromkeys(m.id for m in manifest.base_models.values() if is_hub_id(m.id))),
        datasets=tuple(datasets) if activations else (),
        tags=(*kinds, "mechanistic-interpretability", "saereg"),
    )


def is_hub_id(name: str) -> bool:
    """Whether a name is that of a repository, `organization/name`: others may be packages or files."""
    return _HUB_ID.match(name) is not None and len(name) <= 96


def completed(text: str, manifest: Manifest) -> str:
    """Return a card with the keys that its front matter lacks; what stands there is not touched.

    A front matter that cannot be read, or that lines cannot be added to, is left as it is.
    """
    before = read_front_matter(text)
    missing = _missing(before, manifest)
    if before.problems or not missing:
        return text
    newline = "\r\n" if "\r\n" in text[:1000] else "\n"
    added = "".join(line + newline for line in missing)
    if not before.present:
        return f"---{newline}{added}---{newline}{newline}{text}"
    at = sum(map(len, whole_lines_of(text)[: before.end - 1]))
    result = text[:at] + added + text[at:]
    after = read_front_matter(result)
    kept = all(after.values.get(key) == value for key, value in before.values.items())
    return result if kept and not after.problems else text


def _missing(found: FrontMatter, manifest: Manifest) -> list[str]:
    """Return the lines of the keys that are not there."""
    wanted = expected(manifest)
    license_name = {} if wanted.license else {"license_name": wanted.license_name}
    values: dict[str, str | tuple[str, ...] | None] = {
        "library_name": wanted.library_name,
        "license": wanted.license or "other",
        **license_name,
        "base_model": wanted.base_model[0] if len(wanted.base_model) == 1 else wanted.base_model,
        "base_model_relation": RELATION if wanted.base_model or "base_model" in found.values else None,
        "datasets": wanted.datasets,
        "tags": wanted.tags,
    }
    if "license" in found.values:
        values.pop("license_name", None)
    absent = {key: v for key, v in values.items() if found.values.get(key) in (None, "", []) and key not in found.lines}
    return lines_of_keys({key: value for key, value in absent.items() if value})


def lines_of_keys(values: Mapping[str, str | tuple[str, ...]]) -> list[str]:
    """Return the lines of YAML of keys that hold a text or several."""
    lines: list[str] = []
    for key, value in values.items():
        lines += (
            [f"{key}: {_scalar(value)}"] if isinstance(value, str) else [f"{key}:", *(f"- {_scalar(v)}" for v in value)]
        )
    return lines


def _scalar(value: str) -> str:
    """Return a text as YAML, in quotes where it could be read as something else; what cannot be seen as its number."""
    if _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
