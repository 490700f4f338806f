"""Time `saereg validate` on releases of many artifacts, against a loop that only opens and parses the same files.

    python benchmarks/validate_levels.py [level:artifacts ...]     default: layout:1000 header:1000 header:10000

Prints for each: level, artifacts, the best wall time of some runs in seconds, Python's start included, the largest
memory of the process, and the ratio to the bare loop: json.loads of every JSON document and safetensors header.
Targets on two cores: layout of 1,000 artifacts below 1 s, header of 10,000 below 8 s. Nothing is asserted.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

DEFAULT = ("layout:1000", "header:1000", "header:10000")

BARE = """
import json, struct, sys
from pathlib import Path

for path in Path(sys.argv[1]).rglob("*"):
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".safetensors":
        with path.open("rb") as file:
            json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
"""

HEALTHY = {"explained_variance": 0.8, "fvu": 0.2, "dead_fraction": 0.0}
"""Metrics of the artifacts; those of the random weights that they are made from would be findings, one per artifact."""


def make(folder: Path, count: int) -> Path:
    """Write a release of `count` TopK dictionaries that differ in their seed, and its index."""
    from saereg.registry.cards.write import write_card
    from saereg.registry.files.digest import sha256_text
    from saereg.schemas.document import canonical
    from saereg.schemas.index import Index
    from saereg.schemas.manifest import Manifest
    from tests.releases import tiny_release

    release = tiny_release(folder, checkpoints=False)
    manifest, index = (json.loads((release / f"{name}.json").read_text()) for name in ("manifest", "index"))
    claim, evidence = (next(a for a in d["artifacts"] if a["id"] == "layer_1/topk") for d in (manifest, index))
    shutil.move(release / "layer_1/topk", folder / "topk")
    for name in ("layer_1", "W_U"):
        shutil.rmtree(release / name)
    claim.pop("expected_failure", None)
    manifest["artifacts"], index["artifacts"] = [], []
    for seed in range(count):
        name = f"layer_1/seed_{seed}"
        shutil.copytree(folder / "topk", release / name)
        manifest["artifacts"].append(claim | {"id": name, "path": name, "seed": seed, "claims": []})
        index["artifacts"].append(_evidence(evidence, release, name, seed))
    document = Manifest.from_text(canonical(manifest))
    (release / "manifest.json").write_text(document.text())
    index["manifest_sha256"] = sha256_text(document.text())
    index.pop("provenance")  # of the release that this one was made from
    write_card(release, document, Index.from_text(canonical(index)))
    card = (release / "README.md").read_bytes()
    for file in index["files"]:
        if file["path"] == "README.md":
            file["size"], file["sha256"] = len(card), hashlib.sha256(card).hexdigest()
    (release / "index.json").write_text(Index.from_text(canonical(index)).text())
    return release


def _evidence(template: dict, release: Path, name: str, seed: int) -> dict:
    """Return the index entry of an artifact, whose weights are made to differ from all others."""
    weights = release / name / "sae_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4:-1] = seed.to_bytes(3, "little")
    weights.write_bytes(content)
    files = [file | {"path": file["path"].replace("layer_1/topk", name)} for file in template["files"]]
    next(f for f in files if f["role"] == "weights")["sha256"] = hashlib.sha256(content).hexdigest()
    valued = (m for m in template["metrics"] if "value" in m)  # a density has none on so few rows
    metrics = [m | {"value": HEALTHY.get(m["metric"], m["value"]) + seed * 1e-6} for m in valued]
    golden = template["golden"] | {"path": f"{name}/golden.safetensors"}
    return template | {"id": name, "files": files, "golden": golden, "metrics": metrics, "verdicts": []}


def best(runs: int, *command: str) -> tuple[float, float]:
    """Return the best wall time of some runs of a command in seconds, and the most memory of any in megabytes."""
    times, memory = [], 0
    for _ in range(runs):
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = process.stdout.read() if process.stdout else b""
        _, status, used = os.wait4(process.pid, 0)
        times.append(time.perf_counter() - start)
        memory = max(memory, used.ru_maxrss)
        if status:
            sys.stderr.write(output.decode())
    return min(times), memory / 1024


def main(levels: list[str]) -> None:
    """Make each release once, time both, print a line for each level."""
    for count in sorted({int(level.partition(":")[2]) for level in levels}):
        with tempfile.TemporaryDirectory() as scratch:
            release = make(Path(scratch), count)
            runs = 5 if count <= 1000 else 3
            bare, _ = best(runs, "-c", BARE, str(release))
            for level in (level.partition(":")[0] for level in levels if level.endswith(f":{count}")):
                seconds, memory = best(runs, "-m", "saereg", "validate", str(release), "--level", level)
                ratio = f"{seconds / bare:.1f} x a bare loop ({bare:.2f} s)"
                print(f"{level:6} {count:6} artifacts  {seconds:6.2f} s  {memory:5.0f} MB  {ratio}")


if __name__ == "__main__":
    main(sys.argv[1:] or list(DEFAULT))
