"""Memory of a conversion is that of a few blocks, whatever the size and the kind of the files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTE = 1024**2
MOST = 120 * MEGABYTE

MAKE = """
import json, sys
from pathlib import Path

import torch
from safetensors.torch import save_file

F, D, folder = 24_576, 2048, Path(sys.argv[1])
generator = torch.Generator().manual_seed(0)
tensors = {
    "encoder.weight": torch.randn(F, D, generator=generator), "encoder.bias": torch.randn(F, generator=generator),
    "W_dec": torch.randn(F, D, generator=generator), "b_dec": torch.randn(D, generator=generator),
}
for name in ("safetensors", "pt"):
    (folder / name).mkdir()
    cfg = {"d_in": D, "num_latents": F, "expansion_factor": 12, "k": 32, "activation": "topk"}
    cfg |= {"transcode": False, "skip_connection": False, "signed": False}
    (folder / name / "cfg.json").write_text(json.dumps(cfg))
save_file(tensors, folder / "safetensors/sae.safetensors")
torch.save(tensors, folder / "pt/sae.pt")
"""

CONVERT = """
import json, re, sys, threading, time
from pathlib import Path

import numpy, torch

from saereg.registry.conversion.convert import Order, convert
from saereg.registry.evidence import golden, inspection, round_trip, stream
from saereg.registry.files import pickles, streaming


def anonymous(process):
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"RssAnon:\\s+(\\d+) kB", text)
    return int(found[1]) * 1024 if found else 0


def watch():
    while True:
        peaks["self"] = max(peaks["self"], anonymous("self"))
        child = pickles._CHILD._process
        if child is not None:
            peaks["child"] = max(peaks["child"], anonymous(child.pid))
        time.sleep(0.002)


torch.randn(600, 600) @ torch.randn(600, 600)
source, target, layout = sys.argv[1:]
if Path(source, "sae.pt").exists():
    pickles.open_pickle(Path(source, "sae.pt"))
base = {"self": anonymous("self"), "child": anonymous(pickles._CHILD._process.pid) if pickles._CHILD._process else 0}
peaks = dict(base)
threading.Thread(target=watch, daemon=True).start()
convert(Order(Path(source), Path(target), layout))
print(json.dumps({name: peaks[name] - base[name] for name in peaks}))
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """Four hundred megabytes in sparsify's layout, as safetensors and as a pickle."""
    folder = tmp_path_factory.mktemp("large")
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True)
    return folder


def growth(source: Path, target: Path, layout: str) -> dict[str, int]:
    """Return by how many bytes a conversion lets this and the child's own memory grow at most."""
    command = [sys.executable, "-c", CONVERT, str(source), str(target), layout]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory without mapped files is Linux' to tell")
def test_memory_stays_at_a_few_blocks(checkpoints, tmp_path):
    """Encoder transposed on the way there and back, from a mapped pickle, and in all layouts.

    Pages of a mapped file are no memory of the process: the system takes them back when it needs them.
    """
    found = {
        "transposed": growth(checkpoints / "safetensors", tmp_path / "a", "saereg"),
        "transposed back": growth(tmp_path / "a", tmp_path / "b", "sparsify"),
        "from a pickle": growth(checkpoints / "pt", tmp_path / "c", "saereg"),
    }
    assert {name: grown for name, grown in found.items() if max(grown.values()) > MOST} == {}
