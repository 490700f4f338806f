"""SAELens loads what was published to a hub, by the names under which it is listed there."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.publishers.local_hub import local_hub
from saereg.registry.loading import load_path
from tests.reading_hub import Client

READ = """
import os
from safetensors.torch import load_file, save_file
from sae_lens import SAE

x = load_file(os.environ["ROWS"])["x"]
found = {}
for identifier in os.environ["IDS"].split():
    sae = SAE.from_pretrained("org/tiny", identifier)
    found[identifier] = sae.decode(sae.encode(x)).detach()
save_file(found, os.environ["FOUND"])
"""

IDS = ("layer_1/topk", "layer_1/jumprelu")


@pytest.mark.slow
def test_saelens_loads_what_was_published(versions, tmp_path):
    """Two processes know the address of a hub alone: one publishes, in the other SAELens computes the same."""
    release = versions[0]
    x = torch.randn(64, load_path(release / IDS[0]).cfg.d_in, generator=torch.Generator().manual_seed(3))
    save_file({"x": x}, tmp_path / "x.safetensors")
    client = Client(tmp_path / "home")
    with local_hub(tmp_path / "hub") as hub:
        words = ("publish", str(release), "hf://org/tiny", "--level", "header", "--format", "json")
        done = client.saereg(hub.url, *words, HF_TOKEN="hf_write")
        assert done.returncode == 0, done.stderr
        files = {"ROWS": str(tmp_path / "x.safetensors"), "FOUND": str(tmp_path / "y.safetensors")}
        read = client.python(hub.url, READ, IDS=" ".join(IDS), **files)
        assert read.returncode == 0, read.stderr

    found = load_file(tmp_path / "y.safetensors")
    assert json.loads(done.stdout)["changed"]
    for identifier in IDS:
        with torch.no_grad():
            ours = load_path(release / identifier)(x)
        assert torch.allclose(found[identifier], ours, rtol=0, atol=1e-6), identifier
    assert Path(tmp_path / "home/hub/models--org--tiny").is_dir()
