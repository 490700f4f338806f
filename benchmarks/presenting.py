"""Time the cards and figures of a release of 75 artifacts, in all and figure by figure, beside vl-convert alone.

    python benchmarks/presenting.py [--layers 15] [--snapshots 5] [--folder FOLDER] [--json FILE]

The release is made first: real dictionaries of random directions, small (16 → 64 latents), with held-out rows, a
training log of 500 lines each, and all evidence; the time of that is told and is no part of the result. Then cards,
figures and loss floors are made as `saereg build` makes them, and once more of the finished release. For every figure
stands the time of finding its data and making its specification, that of both pictures, and what vl-convert takes for
the same two pictures when it is called with nothing around it: the limit.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from safetensors.torch import save_file

from saereg.registry.build import build
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.figures import FIGURES
from saereg.registry.figures.rendering import pictures
from saereg.registry.presenting import Presentation, present
from saereg.registry.release import open_release
from saereg.schemas.artifact_config import parse_config
from saereg.schemas.document import canonical
from saereg.schemas.manifest import Manifest

TARGET = 20.0
"""Seconds for cards and figures of 75 artifacts."""

D_IN, D_SAE, ROWS, LINES = 16, 64, 256, 500

T = TypeVar("T")


@dataclass
class Timed:
    """Seconds of one figure."""

    name: str
    specification: float
    pictures: float
    limit: float
    spec_bytes: int


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return how long something takes, and what it returns."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def make(root: Path, layers: int, snapshots: int) -> Path:
    """Write the release and return its folder."""
    release = root / "release"
    generator = torch.Generator().manual_seed(0)
    (release / "evaluation").mkdir(parents=True)
    artifacts = []
    for layer in range(layers):
        rows = torch.randn(ROWS, D_IN, generator=generator)
        save_file({"x": rows}, release / f"evaluation/layer-{layer}.safetensors")
        for n in range(snapshots):
            artifacts.append(artifact(release, layer, n, generator))
    (release / "manifest.json").write_text(Manifest.from_text(canonical(manifest(layers, artifacts))).text())
    return release


def artifact(release: Path, layer: int, n: int, generator: torch.Generator) -> dict[str, Any]:
    """Write one dictionary with its log, and return its claim."""
    tokens, name = 10_000_000 * 2**n, f"layer_{layer:02d}/{10 * 2**n}M"
    raw = {"architecture": "jumprelu", "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    raw |= {"apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none"}
    raw |= {
        "metadata": {"sae_lens_version": "6.54.12", "model_name": "m", "hook_name": f"blocks.{layer}.hook_resid_post"}
    }
    cfg = parse_config(canonical(raw))
    weights = {}
    for key, spec in cfg.tensors().items():
        weights[key] = torch.randn(spec.shape, generator=generator) * (0.25 if key.startswith("W") else 0.1)
    weights["threshold"] = weights["threshold"].abs() + 0.05 * (n + 1)
    write_checkpoint(Checkpoint(cfg, weights), release / name, "saelens")
    with (release / name / "training.log").open("w") as log:
        for line in range(1, LINES + 1):
            seen = tokens * line // LINES
            left = 0.1 + 0.01 * layer + 0.4 * (seen / 1e6) ** -0.5 + 0.01 * math.sin(line)
            facts = {"step": line, "tokens": seen, "mse_loss": 16 * left, "explained_variance": 1 - left}
            log.write(json.dumps(facts | {"l0": 10 + 100 * (seen / 1e6) ** -0.5, "dead_fraction": 0.0}) + "\n")
    claim = {"id": name, "path": name, "kind": "sae", "architecture": "jumprelu", "d_in": D_IN, "d_sae": D_SAE}
    claim |= {"site": f"residual-{layer}", "snapshot": f"{10 * 2**n}M", "seed": 0}
    return claim | {"training": {"tokens": tokens, "log": f"{name}/training.log"}}


def manifest(layers: int, artifacts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the claims."""
    site = {"model": "m", "io": "output"}
    rows = {"source": "activations", "rows": ROWS}
    return {
        "schema_version": "1.0",
        "release": {"name": "seventy-five", "version": "1.0.0", "title": "Seventy-five", "license": "mit"},
        "base_models": {"m": {"id": "tiny/model", "n_layers": layers, "d_model": D_IN}},
        "sites": {
            f"residual-{n}": site | {"layer": n, "module": f"layers.{n}", "hook_name": f"blocks.{n}.hook_resid_post"}
            for n in range(layers)
        },
        "evaluations": {
            f"held-out-{n}": rows | {"path": f"evaluation/layer-{n}.safetensors", "site": f"residual-{n}"}
            for n in range(layers)
        },
        "artifacts": artifacts,
    }


def figures(root: Path) -> list[Timed]:
    """Return the times of every figure of a built release."""
    import vl_convert

    found = []
    for kind in FIGURES.values():
        release = open_release(root)  # without what an earlier figure had found
        seconds, drawings = timed(lambda kind=kind, release=release: kind.draw(release))
        for drawing in drawings:
            spec = drawing.spec
            drawn, _ = timed(lambda spec=spec: pictures(spec))
            limit, _ = timed(
                lambda spec=spec: (vl_convert.vegalite_to_png(spec, scale=2), vl_convert.vegalite_to_svg(spec))
            )
            found.append(Timed(drawing.name, seconds / len(drawings), drawn, limit, len(canonical(spec))))
    return found


def measured(folder: Path, layers: int, snapshots: int) -> dict[str, Any]:
    """Make the release, present it twice, and return all seconds."""
    root = make(folder, layers, snapshots)
    evidence, index = timed(lambda: build(root))
    release = open_release(root)
    wanted = Presentation(features=False, note=lambda line: print(line, file=sys.stderr))
    parts = {
        "cards": replace(wanted, figures=False),
        "figures and floors": replace(wanted, cards=False),
        "again, all of it": wanted,
    }
    seconds = {name: timed(lambda w=w: present(root, release.manifest, index, w, None))[0] for name, w in parts.items()}
    return {"artifacts": len(release), "evidence": evidence, **seconds, "figures": [vars(one) for one in figures(root)]}


def told(found: dict[str, Any]) -> str:
    """Return the result for people."""
    whole = found["cards"] + found["figures and floors"]
    lines = [
        f"{found['artifacts']} artifacts; evidence {found['evidence']:.1f} s, not counted",
        f"cards {found['cards']:.2f} s, figures and floors {found['figures and floors']:.2f} s: "
        f"{whole:.2f} s of {TARGET:.0f} s; once more {found['again, all of it']:.2f} s",
        "",
        "| figure | specification s | pictures s | vl-convert alone s | pictures to the limit | kB |",
        "|---|---|---|---|---|---|",
    ]
    for one in found["figures"]:
        ratio = one["pictures"] / one["limit"]
        lines.append(
            f"| {one['name']} | {one['specification']:.3f} | {one['pictures']:.3f} | {one['limit']:.3f} | {ratio:.2f} "
            f"| {one['spec_bytes'] / 1000:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=15)
    parser.add_argument("--snapshots", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, help="where the release is made, to look at it; default: a temporary one"
    )
    parser.add_argument("--json", type=Path, help="write all seconds here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = measured(options.folder or Path(temporary), options.layers, options.snapshots)
    print(told(found))
    if options.json:
        options.json.write_text(canonical(found))


if __name__ == "__main__":
    main()
