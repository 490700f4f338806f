"""Versions of a release for the reliability figures: tiny weights, real evidence, all weights new in each version."""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

LARGE, SMALL = 68, 3
"""Artifacts: 68 are 209 files, of which 208 change in each version, more than one commit carries; 3 are 14 and 13."""

WIDE = 600_000
"""Latents of the first artifact, whose 24 MB are hashed before they are sent, and go in parts by Git LFS."""


@dataclass(frozen=True)
class Version:
    """One version on disk.

    Attributes:
        root: release folder.
        version: such as 1.3.0.
        report: file with its validation.
        files: path → [bytes, sha256, git's id] of all that must be published.
    """

    root: str
    version: str
    report: str
    files: dict[str, list]


def make(folder: Path, count: int, artifacts: int, base: int = 0) -> list[Version]:
    """Write several versions of a release, each with other weights, golden vectors and evaluation rows."""
    return [_make(folder / f"v1.{base + number}.0", base + number, artifacts) for number in range(count)]


def write_list(versions: list[Version], file: Path) -> Path:
    """Write what other processes need to know of the versions."""
    file.write_text(json.dumps([asdict(one) for one in versions]))
    return file


def read_list(file: Path) -> list[Version]:
    """Read that."""
    return [Version(**one) for one in json.loads(file.read_text())]


def _make(root: Path, number: int, count: int) -> Version:
    import torch
    from safetensors.torch import save_file

    from saereg.registry.build import build
    from saereg.registry.checkpoint import Checkpoint
    from saereg.registry.conversion.write import write_checkpoint
    from saereg.registry.dictionary import Dictionary
    from saereg.registry.evidence.golden_file import write_golden
    from saereg.schemas.artifact_config import parse_config
    from saereg.schemas.document import canonical
    from saereg.schemas.manifest import Manifest
    from tests import releases as tiny

    generator = torch.Generator().manual_seed(number)
    rows = torch.randn(tiny.ROWS, tiny.D_IN, generator=generator)
    (root / "evaluation").mkdir(parents=True)
    y = torch.randn(tiny.ROWS, tiny.D_OUT, generator=generator)
    save_file({"x": rows, "y": y}, root / "evaluation/layer-1.safetensors")
    artifacts = []
    for position in range(count):
        kind = "layer_1/jumprelu" if position else "layer_1/topk"
        identifier = f"{kind}-{position:03}"
        size = WIDE if position == 0 else tiny.D_SAE
        text = tiny.config_text(kind).replace(f'"d_sae": {tiny.D_SAE}', f'"d_sae": {size}')
        cfg = parse_config(text.replace('"6.54.12"', f'"6.54.{number}"'))
        checkpoint = Checkpoint(cfg, tiny.random_weights(cfg, 1000 * number + position))
        write_checkpoint(checkpoint, root / identifier, "saelens")
        write_golden(root / identifier / "golden.safetensors", tiny.golden_of(Dictionary(checkpoint), rows[:5]))
        own = {"id": identifier, "path": identifier, "seed": position, "d_sae": size, "claims": []}
        artifacts.append(tiny._artifact(kind, None) | own)
    manifest = tiny._manifest(artifacts)
    manifest["release"]["version"] = f"1.{number}.0"
    manifest["evaluations"] = {"held-out": manifest["evaluations"]["held-out"]}
    manifest["sites"] = {"block-1": manifest["sites"]["block-1"]}
    (root / "manifest.json").write_text(Manifest.from_text(canonical(manifest)).text())
    (root / "README.md").write_text(tiny.CARD + f"\nVersion 1.{number}.0.\n")
    (root / "config.json").write_text(tiny.MARKER)
    build(root)
    return Version(str(root), f"1.{number}.0", str(_report(root, number)), _files(root))


def _report(root: Path, number: int) -> Path:
    from saereg.registry.validators.runner import validate

    report = validate(root, "weights")
    if report.errors:
        raise SystemExit(f"{root}: {report.errors[0]}")
    kept = root.with_suffix(f".{number}.report.json")
    kept.write_text(report.text())
    return kept


def _files(root: Path) -> dict[str, list]:
    found = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        raw = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
        found[path.relative_to(root).as_posix()] = [len(raw), hashlib.sha256(raw).hexdigest(), git]
    return found
