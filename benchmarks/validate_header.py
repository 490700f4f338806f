"""Time `saereg validate --level header` on a release of many artifacts, against a loop that only parses the same files.

    python benchmarks/validate_header.py [artifacts]

Prints artifacts, the best wall time of five runs in seconds, Python's start included, and the ratio to the bare loop:
open every JSON document and safetensors header, parse its JSON, do nothing else.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

RUNS = 5

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


def make(folder: Path, count: int) -> Path:
    """Write a release of `count` TopK dictionaries that differ in their seed, and its index."""
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
    manifest["artifacts"], index["artifacts"] = [], []
    for seed in range(count):
        name = f"layer_1/seed_{seed}"
        shutil.copytree(folder / "topk", release / name)
        manifest["artifacts"].append(claim | {"id": name, "path": name, "seed": seed})
        files = [file | {"path": file["path"].replace("layer_1/topk", name)} for file in evidence["files"]]
        golden = evidence["golden"] | {"path": f"{name}/golden.safetensors"}
        index["artifacts"].append(evidence | {"id": name, "files": files, "golden": golden})
    text = Manifest.from_text(canonical(manifest)).text()
    (release / "manifest.json").write_text(text)
    index["manifest_sha256"] = sha256_text(text)
    (release / "index.json").write_text(Index.from_text(canonical(index)).text())
    return release


def best(*command: str) -> float:
    """Return the best wall time of some runs of a command, in seconds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main(count: int) -> None:
    """Make the release, time both, print one line."""
    with tempfile.TemporaryDirectory() as scratch:
        release = make(Path(scratch), count)
        validated = best("-m", "saereg", "validate", str(release), "--level", "header")
        bare = best("-c", BARE, str(release))
    print(f"{count} artifacts  {validated:.2f} s  {validated / bare:.1f} x a bare loop ({bare:.2f} s)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
