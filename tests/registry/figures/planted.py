"""Releases whose latents do what a test says: a manifest in memory, and files of small tensors."""

import csv
import io
from pathlib import Path

import torch

from saereg.registry.features.latents import Latents, write_latents
from saereg.registry.files.blocks import write_tensors
from saereg.registry.release import Release
from saereg.schemas.document import canonical
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest

SHA = "0" * 64


def sae(name: str, d_in: int = 6, d_sae: int = 8, **facts) -> dict:
    """Return the entry of an SAE in a manifest."""
    entry = {"id": name, "path": name, "kind": "sae", "architecture": "standard", "site": "block"}
    return entry | {"d_in": d_in, "d_sae": d_sae} | facts


def crosscoder(name: str, steps: tuple[int, ...] = (), sites: int = 0, d_sae: int = 8, **facts) -> dict:
    """Return the entry of a crosscoder over snapshots, or over layers."""
    sources = {"axis": "snapshot", "site": "W_U", "steps": list(steps)}
    if sites:
        sources = {"axis": "layer", "sites": [f"layer-{n}" for n in range(sites)]}
    entry = {"id": name, "path": name, "kind": "crosscoder", "architecture": "jumprelu", "sources": sources}
    return entry | {"d_in": 6, "d_sae": d_sae} | facts


def release(root: Path, entries: list[dict], index: Index | None = None, **parts) -> Release:
    """Return an open release of these artifacts; their folders are made, and empty."""
    block = {"model": "tiny", "layer": 1, "module": "model.layers.1", "hook_name": "blocks.1.hook_resid_post"}
    layers = {f"layer-{n}": block | {"layer": n, "module": f"model.layers.{n}"} for n in range(40)}
    manifest = {
        "schema_version": "1.0",
        "release": {"name": "planted", "version": "1.0.0", "title": "Planted", "license": "mit"},
        "base_models": {"tiny": {"id": "tiny/model"}},
        "sites": {"block": block, "W_U": {"model": "tiny", "stream": "parameter", "parameter": "W_U"}} | layers,
        "artifacts": entries,
    } | parts
    for entry in entries:
        (root / entry["path"]).mkdir(parents=True, exist_ok=True)
    return Release(root, Manifest.from_text(canonical(manifest)), index)


def count(folder: Path, fired: torch.Tensor, rows: int, total: torch.Tensor | None = None) -> None:
    """Write the statistics of latents: fired (S, F), and the sums of their activations."""
    total = fired.double() if total is None else total
    maximum = total.float() / fired.clamp_min(1)
    write_latents(folder / "latents.safetensors", Latents(fired, total, maximum, rows, "held-out", SHA, SHA))


def decoder(folder: Path, W_dec: torch.Tensor) -> None:
    """Write a decoder (F, D) or (F, K, D) as the weights of an artifact, in the file of its layout."""
    name = "sae_weights.safetensors" if W_dec.dim() == 2 else "weights.safetensors"
    write_tensors(folder / name, {"W_dec": W_dec.contiguous()})


def rows_of(spec: dict) -> list[dict]:
    """Return every row of a specification in the order of its charts, as Vega reads them."""
    return [row for text, kinds in _data(spec, spec.get("datasets", {})) for row in _parsed(text, kinds)]


def _data(part, datasets: dict):
    """Yield the text of every data set, and the types of its columns."""
    if isinstance(part, dict):
        data = part.get("data") or {}
        if data:
            yield datasets[data["name"]] if "name" in data else data["values"], data["format"]["parse"]
        for key, value in part.items():
            if key not in ("data", "datasets"):
                yield from _data(value, datasets)
    elif isinstance(part, list):
        for value in part:
            yield from _data(value, datasets)


def _parsed(text: str, kinds: dict[str, str]) -> list[dict]:
    read = {"number": lambda cell: float(cell) if cell else None, "boolean": lambda cell: cell == "true", "string": str}
    return [{name: read[kinds[name]](cell) for name, cell in row.items()} for row in csv.DictReader(io.StringIO(text))]
