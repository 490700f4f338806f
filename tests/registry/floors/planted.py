"""Releases whose losses follow a law that is known: documents only, for nothing of this reads weights."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saereg.registry.release import Release
from saereg.schemas.document import canonical
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest

SNAPSHOTS = {"50M": 50_000_000, "100M": 100_000_000, "200M": 200_000_000, "400M": 400_000_000}
SNAPSHOTS |= {"800M": 800_000_000, "final": 1_600_000_000}
"""Label → training tokens: six snapshots, of which four are early."""

SEMANTICS = {"pre_encoder_subtraction": "none", "activation": "topk", "gate_quantity": "pre_activation"}
TOOL = {"saereg": "0"}


@dataclass(frozen=True)
class Cell:
    """One artifact: where it stands, and what it loses."""

    layer: int
    snapshot: str | None
    tokens: int | None
    losses: dict[str, float | None]
    d_sae: int = 4096
    k: float = 32.0
    log: str | None = None

    @property
    def id(self) -> str:
        """Its name."""
        return f"layer_{self.layer}/w{self.d_sae}/k{self.k:g}/{self.snapshot or 'only'}"


def law(tokens, floor, scale, exponent):
    """Return L∞ + a·(n / first n)^−b."""
    return floor + scale * (np.asarray(tokens, float) / 50e6) ** -exponent


def layer_law(layer: int) -> tuple[float, float, float]:
    """Return a floor, a scale and an exponent that differ from layer to layer, as in a real model."""
    return 0.10 + 0.012 * layer, 0.2 + 0.004 * layer, 0.55 + 0.25 * np.sin(layer / 3)


def grid(layers: Iterable[int] = range(24), noise: float = 0.002, seed: int = 1) -> list[Cell]:
    """Return layers × six snapshots, each layer with a law of its own."""
    random, cells = np.random.default_rng(seed), []
    for layer in layers:
        losses = law(list(SNAPSHOTS.values()), *layer_law(layer)) * np.exp(noise * random.standard_normal(6))
        cells += [
            Cell(layer, label, tokens, {"fvu": float(loss)})
            for (label, tokens), loss in zip(SNAPSHOTS.items(), losses, strict=True)
        ]
    return cells


def planted(cells: Iterable[Cell], path: Path = Path("planted"), edit: Callable[[dict], None] | None = None) -> Release:
    """Return an open release of some cells."""
    cells = list(cells)
    manifest = {
        "schema_version": "1.0",
        "release": {"name": "planted", "version": "1.0.0", "title": "Planted laws", "license": "mit"},
        "base_models": {"m": {"id": "tiny/model"}},
        "sites": {
            f"residual-{layer}": {"model": "m", "layer": layer, "module": f"model.layers.{layer}"}
            for layer in sorted({cell.layer for cell in cells})
        },
        "artifacts": [_claim(cell) for cell in cells],
    }
    if edit:
        edit(manifest)
    index = {
        "schema_version": "1.0",
        "generated_by": TOOL,
        "manifest_sha256": "0" * 64,
        "files": [],
        "artifacts": [_evidence(cell) for cell in cells],
    }
    return Release(path, Manifest.from_text(canonical(manifest)), Index.from_text(canonical(index)))


def _claim(cell: Cell) -> dict:
    training = {"tokens": cell.tokens} if cell.tokens else {}
    training |= {"log": cell.log} if cell.log else {}
    claim = {
        "id": cell.id,
        "kind": "sae",
        "path": cell.id,
        "architecture": "topk",
        "site": f"residual-{cell.layer}",
        "d_in": 64,
        "d_sae": cell.d_sae,
        "sparsity": {"k": cell.k},
        "training": training,
    }
    return claim | ({"snapshot": cell.snapshot} if cell.snapshot else {})


def _evidence(cell: Cell) -> dict:
    measured = {
        "evaluation": "held-out",
        "data_sha256": "1" * 64,
        "rows": 4096,
        "dtype": "float32",
        "tool": TOOL,
    }
    metrics = [
        measured | {"metric": metric, "value": value} | ({} if value is not None else {"reason": "not defined"})
        for metric, value in {"l0": cell.k, **cell.losses}.items()
    ]
    return {"id": cell.id, "files": [], "tensors": {}, "dtype": "float32", "semantics": SEMANTICS, "metrics": metrics}
