"""A first card for a release that has none: the author adds to it, saereg keeps its generated parts up to date."""

import json

from saereg.registry.cards.blocks import replaced
from saereg.registry.cards.front_matter import completed, expected
from saereg.registry.files.natural import natural_key
from saereg.schemas.index import Index
from saereg.schemas.manifest import Artifact, Manifest

MARKER_FILE = "config.json"
"""File at the root whose downloads the Hub counts."""

QUERY_FILES = frozenset({"config.json", "config.yaml", "hyperparams.yaml", "params.json", "meta.yaml"})
"""Files at the root by whose downloads the Hub counts those of a repository whose library has no rule of its own."""

NAMES = {"sae": ("sparse autoencoder", "sparse autoencoders"), "transcoder": ("transcoder", "transcoders"),
         "crosscoder": ("crosscoder", "crosscoders")}  # fmt: skip


def first_card(manifest: Manifest, index: Index) -> str:
    """Return a card that says what the manifest and the index say."""
    return replaced(skeleton(manifest), manifest, index)


def skeleton(manifest: Manifest) -> str:
    """Return a card whose generated parts are still empty."""
    release = manifest.release
    sections = [
        f"# {release.title}",
        _paragraph(manifest),
        "## Dictionaries",
        "<!-- saereg:begin inventory -->\n<!-- saereg:end inventory -->",
        "Every file with its size and sha256 is in [index.json](index.json), what the author claims is in "
        "[manifest.json](manifest.json).",
        *(_usage(manifest) if manifest.artifacts else ()),
        f"## Licence\n\n{release.license}",
        *([f"## Citation\n\n{_fenced(release.citation.strip(), 'bibtex')}"] if release.citation else ()),
    ]
    return completed("\n\n".join(sections) + "\n", manifest)


def marker(manifest: Manifest) -> str:
    """Return the text of the file by which downloads are counted."""
    values = {"library_name": expected(manifest).library_name or "saereg", "manifest": "manifest.json"}
    return json.dumps(values) + "\n"


def _paragraph(manifest: Manifest) -> str:
    counts = []
    for kind, (one, many) in NAMES.items():
        number = sum(artifact.kind == kind for artifact in manifest.artifacts)
        if number:
            counts.append(f"{number} {one if number == 1 else many}")
    models = ", ".join(dict.fromkeys(f"`{model.id}`" for model in manifest.base_models.values()))
    what = " and ".join([", ".join(counts[:-1]), counts[-1]] if len(counts) > 1 else counts) or "Dictionaries"
    sentence = f"{what} of {models}." if models else f"{what}."
    return f"{manifest.release.description.strip()}\n\n{sentence}" if manifest.release.description else sentence


def _usage(manifest: Manifest) -> list[str]:
    ranked = sorted(manifest.artifacts, key=lambda artifact: (not artifact.canonical, natural_key(artifact.id)))
    ours = f"""
import saereg

release = "."  # this folder, or hf://organization/repository
dictionary = saereg.load(f"{{release}}:{ranked[0].id}")
# x_hat = dictionary(x), f = dictionary.encode(x)
"""
    sections = ["## Use", _fenced(ours.strip(), "python")]
    theirs = next((artifact for artifact in ranked if artifact.format == "saelens"), None)
    if theirs is not None:
        sections += ["With SAELens, from this folder:", _fenced(_saelens(theirs), "python")]
    return sections


def _saelens(artifact: Artifact) -> str:
    return f'from sae_lens import SAE\n\nsae = SAE.load_from_disk("{artifact.path}")'


def _fenced(text: str, language: str) -> str:
    mark = "```"
    while mark in text:
        mark += "`"
    return f"{mark}{language}\n{text}\n{mark}"
