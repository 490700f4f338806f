"""Releases made of claims and numbers alone: what figures read, without a weight."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saereg.registry.release import Release
from saereg.schemas.document import canonical
from saereg.schemas.index import Index, IndexArtifact
from saereg.schemas.manifest import Manifest
from saereg.schemas.metrics import Measurement
from saereg.schemas.semantics import Semantics

SEMANTICS = Semantics(pre_encoder_subtraction="none", activation="jumprelu", gate_quantity="pre_activation")

Numbers = Mapping[str, float | tuple[float, tuple[float, ...]]]


def sae(identifier: str, layer: int, **more: Any) -> dict[str, Any]:
    """Return the claim of an SAE at the residual stream of a layer."""
    claim = {"id": identifier, "path": identifier, "kind": "sae", "architecture": "jumprelu", "d_in": 8, "d_sae": 32}
    return claim | {"site": f"residual-{layer}"} | more


def crosscoder(identifier: str, steps: Sequence[int], **more: Any) -> dict[str, Any]:
    """Return the claim of a crosscoder of W_U over snapshots of pretraining."""
    claim = {"id": identifier, "path": identifier, "kind": "crosscoder", "architecture": "jumprelu", "d_in": 8}
    sources = {"axis": "snapshot", "site": "W_U", "steps": list(steps)}
    return claim | {"d_sae": 32, "format": "saereg", "sources": sources} | more


def release(found: Sequence[tuple[dict[str, Any], Numbers]], root: Path = Path("nowhere")) -> Release:
    """Return an open release of (claim, metric → value, perhaps with its values at each source)."""
    layers = sorted({int(claim["site"].rpartition("-")[2]) for claim, _ in found if "site" in claim})
    sites: dict[str, Any] = {f"residual-{n}": {"model": "m", "layer": n, "module": f"layers.{n}"} for n in layers}
    sites |= {"W_U": {"model": "m", "stream": "parameter", "parameter": "W_U"}}
    manifest = Manifest.from_text(
        canonical(
            {
                "schema_version": "1.0",
                "release": {"name": "numbers", "version": "1.0.0", "title": "Numbers", "license": "mit"},
                "base_models": {"m": {"id": "tiny/model"}},
                "sites": sites,
                "artifacts": [claim for claim, _ in found],
            }
        )
    )
    entries = tuple(_evidence(claim, numbers) for claim, numbers in found)
    index = Index(generated_by={"saereg": "0"}, manifest_sha256="0" * 64, files=(), artifacts=entries)
    return Release(root, manifest, index)


def _evidence(claim: dict[str, Any], numbers: Numbers) -> IndexArtifact:
    measured = []
    for metric, value in numbers.items():
        whole, sources = value if isinstance(value, tuple) else (value, ())
        place = claim.get("site", "W_U")
        facts = {
            "evaluation": f"held-out-{place}",
            "data_sha256": hashlib.sha256(place.encode()).hexdigest(),
            "rows": 100,
        }
        fields = {"metric": metric, "value": whole, "per_source": sources, "dtype": "float32", "tool": {"saereg": "0"}}
        measured.append(Measurement.model_validate(facts | fields))
    facts = {"id": claim["id"], "files": (), "tensors": {}, "dtype": "float32", "semantics": SEMANTICS}
    return IndexArtifact(**facts, metrics=tuple(measured))


SNAPSHOTS = {"25M": 25_000_000, "50M": 50_000_000, "100M": 100_000_000, "final": 500_000_000}
"""Snapshot → tokens; in an order in which neither letters nor the manifest sort them."""

ABSENT = ("2/50M", "3/100M")
"""Artifacts that the grid does not have."""


def grid(layers: int = 6, root: Path = Path("nowhere")) -> Release:
    """Return SAEs of some layers at four snapshots; two are missing, and the manifest has them in no order."""
    found = []
    for label in ("final", "100M", "25M", "50M"):
        for layer in range(layers):
            name = f"{layer}/{label}"
            if name not in ABSENT:
                training = {"tokens": SNAPSHOTS[label], "log": f"{name}/training.log"}
                claim = sae(name, layer, snapshot=label, seed=0, training=training)
                ev = 0.9 - 0.01 * layer - 2e6 / SNAPSHOTS[label]
                found.append((claim, {"explained_variance": ev, "l0": 20.0 + layer, "dead_fraction": 0.0}))
    return release(found, root)


def write_log(path: Path, lines: Sequence[object]) -> None:
    """Write a training log: of each line its JSON, of a text the text itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def rows_of(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the data of a specification."""
    (rows,) = spec["datasets"].values()
    return list(rows)


def schema_problems(spec: dict[str, Any]) -> list[str]:
    """Return what altair's own schema of Vega-Lite finds wrong with a specification, of whose data it sees some."""
    import altair as alt

    few = {name: rows[:3] for name, rows in spec["datasets"].items()}
    try:
        alt.Chart.from_dict(spec | {"datasets": few}).to_dict()
    except Exception as error:  # noqa: BLE001 - whatever it says is a problem
        return [str(error)]
    return []
