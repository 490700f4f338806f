"""A manifest and an index of three artifacts as plain values, to be changed and compared; no weights, no torch."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

from saereg.registry.differences.compare import compared
from saereg.registry.differences.numbers import Tolerances
from saereg.schemas.difference import Difference
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest

Mutation = Callable[[dict, dict], object]
"""Changes a manifest and an index."""

IDS = ("layer_1/a", "layer_1/b", "layer_2/c")


def _digest(text: str) -> str:
    return (text.encode().hex() + "0" * 64)[:64]


def _artifact(position: int, name: str) -> dict:
    return {
        "id": name, "path": name, "kind": "sae", "architecture": "topk", "d_in": 4, "d_sae": 8, "site": "one",
        "seed": position, "sparsity": {"k": 2.0}, "canonical": position == 0,
        "claims": [{"metric": "l0", "value": 2.0, "evaluation": "held-out"}],
    }  # fmt: skip


def _evidence(name: str) -> dict:
    def file(path: str, role: str) -> dict:
        return {"path": f"{name}/{path}", "size": 9, "sha256": _digest(f"{role[:3]}{name}"), "role": role}

    def measured(metric: str, value: float) -> dict:
        return {
            "metric": metric, "value": value, "evaluation": "held-out", "data_sha256": "a" * 64, "rows": 12,
            "dtype": "float32", "tolerance": 1e-6, "tool": {"saereg": "1.0"},
        }  # fmt: skip

    return {
        "id": name,
        "files": [
            file("sae_weights.safetensors", "weights"),
            file("cfg.json", "config"),
            file("golden.safetensors", "golden"),
        ],
        "tensors": {"W_enc": {"shape": [4, 8], "dtype": "F32", "finite": True}},
        "dtype": "float32",
        "semantics": {"pre_encoder_subtraction": "none", "activation": "topk", "gate_quantity": "pre_activation"},
        "metrics": [measured("l0", 2.0), measured("explained_variance", 0.9)],
        "verdicts": [{"claim": 0, "verdict": "verified", "measured": 2.0}],
    }


def base() -> tuple[dict, dict]:
    """Return fresh plain values of both documents."""
    site = {"model": "tiny", "layer": 1, "module": "model.layers.1"}
    manifest = {
        "release": {"name": "tiny", "version": "1.0.0", "title": "Tiny", "license": "mit"},
        "base_models": {"tiny": {"id": "tiny/model", "revision": "0" * 40}},
        "sites": {"one": site, "two": site | {"layer": 2}},
        "evaluations": {"held-out": {"source": "activations", "path": "rows.safetensors", "rows": 12}},
        "artifacts": [_artifact(position, name) for position, name in enumerate(IDS)],
    }
    index = {
        "generated_by": {"saereg": "1.0"},
        "manifest_sha256": "b" * 64,
        "files": [{"path": "README.md", "size": 5, "sha256": "c" * 64, "role": "card"}],
        "artifacts": [_evidence(name) for name in IDS],
    }
    return manifest, index


def documents(*mutations: Mutation) -> tuple[Manifest, Index]:
    """Return both documents, checked, after some changes."""
    manifest, index = copy.deepcopy(base())
    for mutation in mutations:
        mutation(manifest, index)
    return Manifest.from_text(json.dumps(manifest)), Index.from_text(json.dumps(index))


def after(*mutations: Mutation, tolerances: Tolerances | None = None) -> Difference:
    """Return what some changes of the documents make."""
    return compared(documents(), documents(*mutations), tolerances or Tolerances())


def kinds(difference: Difference) -> set[str]:
    """Return the kinds of changes in a difference."""
    return set(difference.counts)


def version(text: str) -> Mutation:
    """Return the change of the version."""
    return lambda manifest, index: manifest["release"].update(version=text)


def claim(position: int, **fields: object) -> Mutation:
    """Return a change of the entry of an artifact in the manifest."""
    return lambda manifest, index: manifest["artifacts"][position].update(fields)


def evidence(position: int, **fields: object) -> Mutation:
    """Return a change of the entry of an artifact in the index."""
    return lambda manifest, index: index["artifacts"][position].update(fields)


def renamed(position: int, name: str, *, moved: bool = False) -> Mutation:
    """Return the renaming of an artifact, with its folder if that moves too."""

    def mutation(manifest: dict, index: dict) -> None:
        entry, found = manifest["artifacts"][position], index["artifacts"][position]
        if moved:
            for file in found["files"]:
                file["path"] = file["path"].replace(entry["path"], name)
            entry["path"] = name
        entry["id"] = found["id"] = name

    return mutation


def removed(position: int) -> Mutation:
    """Return the removal of an artifact."""
    return lambda manifest, index: (manifest["artifacts"].pop(position), index["artifacts"].pop(position))


def bytes_of(position: int, file: int, digest: str) -> Mutation:
    """Return a change of the digest of a file of an artifact."""
    return lambda manifest, index: index["artifacts"][position]["files"][file].update(sha256=digest * 64)


def measured(position: int, metric: int, **fields: object) -> Mutation:
    """Return a change of a measured number."""
    return lambda manifest, index: index["artifacts"][position]["metrics"][metric].update(fields)


def write(folder: Path, *mutations: Mutation, built: bool = True) -> Path:
    """Write both documents into a folder, or the manifest alone."""
    from saereg.registry.files.digest import sha256_text

    manifest, index = documents(*mutations)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest.text(), newline="")
    if built:
        index = index.model_copy(update={"manifest_sha256": sha256_text(manifest.text())})
        (folder / "index.json").write_text(index.text(), newline="")
    return folder
