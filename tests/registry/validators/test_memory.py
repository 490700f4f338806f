"""What a validation costs: memory of one tensor at most, and no torch where no weights are read."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.releases import tiny_release

MEGABYTE = 1024**2

MAKE = """
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from saereg.registry.build import build
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.files.digest import sha256_of
from saereg.registry.evidence.golden_file import write_golden
from saereg.schemas.artifact_config import parse_config
from saereg.schemas.document import canonical
from saereg.schemas.manifest import Manifest
from tests.releases import METADATA, _manifest, golden_of, random_weights

D_IN, D_SAE = 1024, 24_576
release = Path(sys.argv[1]) / "release"
artifacts = []
for seed, (name, more) in enumerate({"topk": {"k": 32}, "jumprelu": {}, "standard": {}}.items()):
    raw = {"architecture": name, "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    cfg = parse_config(canonical(raw | {"metadata": METADATA, "apply_b_dec_to_input": True} | more))
    weights = random_weights(cfg, seed)
    if name == "jumprelu":
        weights["threshold"] += 15
    if name == "standard":
        weights["b_enc"] -= 30
    write_checkpoint(Checkpoint(cfg, weights), release / name, "saelens")
    x = torch.randn(8, D_IN, generator=torch.Generator().manual_seed(9))
    write_golden(release / name / "golden.safetensors", golden_of(Dictionary(Checkpoint(cfg, weights)), x))
    artifact = {"id": name, "path": name, "d_in": D_IN, "d_sae": D_SAE, "kind": "sae", "site": "block-1"}
    artifacts.append(artifact | {"architecture": name, "sparsity": {"k": 32.0} if name == "topk" else {}})
    if name == "topk":
        source = Path(sys.argv[1]) / "checkpoints/topk.safetensors"
        source.parent.mkdir()
        moved = {name: weights[name] for name in ("W_dec", "b_enc", "b_dec")}
        save_file({"encoder.weight": weights["W_enc"].T.contiguous(), **moved}, source)
        plan = {name: {"key": name} for name in moved}
        plan["W_enc"] = {"key": "encoder.weight", "steps": [{"do": "transpose"}]}
        artifacts[-1]["source_checkpoint"] = {"path": source.name, "sha256": sha256_of(source), "tensors": plan}
manifest = _manifest(artifacts)
manifest["base_models"]["tiny"]["d_model"] = D_IN
manifest["evaluations"] = {}
(release / "manifest.json").write_text(Manifest.from_text(canonical(manifest)).text())
build(release)
"""

BARE = """
import re
from pathlib import Path

import numpy
import torch

torch.randn(8, 8) @ torch.randn(8, 8)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""

VALIDATE = """
import re
import sys
from pathlib import Path

from saereg.registry.validators.runner import validate

report = validate(Path(sys.argv[1]) / "release", "weights")
# not ru_maxrss: a process started by another inherits the peak of that one
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(len(report.findings), len(report.summary.skipped), peak)
"""


def run(code: str, *arguments: object) -> str:
    """Run some code in an interpreter of its own and return what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process alone is Linux' to tell")
def test_memory_stays_below_the_largest_tensor_and_300_megabytes(tmp_path):
    """With three artifacts of 200 MB each, finite values, golden vectors and a transposed round trip included.

    The 300 MB are mostly torch itself, of whose libraries a system maps more or less: on some that alone is 300. So
    what the size of a release adds is held against one tensor, too: a tiny release validated in the same way is the
    measure of all the rest, and no tensor is ever in memory whole.
    """
    run(MAKE, tmp_path)
    tiny_release(tmp_path / "tiny")
    largest = 1024 * 24_576 * 4

    bare = int(run(BARE)) * 1024
    *_, tiny = map(int, run(VALIDATE, tmp_path / "tiny").split())
    findings, skipped, kilobytes = map(int, run(VALIDATE, tmp_path).split())

    assert (findings, skipped) == (0, 0)
    assert kilobytes * 1024 < largest + max(300 * MEGABYTE, bare + 64 * MEGABYTE)
    assert (kilobytes - tiny) * 1024 < largest


HEAVY = ("torch", "numpy", "safetensors", "transformers", "sae_lens", "pandas", "huggingface_hub", "jsonschema")

LIGHT = {
    "import saereg": "import saereg",
    "validate at level layout": "import saereg; assert not saereg.validate(release, 'layout').findings",
    "validate at level header": "import saereg; assert not saereg.validate(release, 'header').findings",
    "open": "import saereg; assert len(saereg.open(release)) == 4",
    "find and sort": "import saereg; assert saereg.find(release, kind='sae').sort('-l0').best('ev').id",
    "read a configuration": "import saereg; assert saereg.open(release)['layer_1/topk'].cfg.k == 3",
    "import the publishers": "import saereg.publishers, saereg.api",
    "list": "from saereg.cli import run; assert run(['ls', release]) == 0",
    "show": "from saereg.cli import run; assert run(['show', release]) == 0",
    "compare": "from saereg.cli import run; assert run(['metrics', 'compare', release, '--recorded']) == 0",
    "validate on the command line": "from saereg.cli import run; assert run(['validate', release]) == 0",
}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("light"))


@pytest.mark.parametrize("name", LIGHT)
def test_what_reads_no_weights_imports_no_torch(release, name):
    """Nor anything else that takes seconds to import or that a base installation lacks."""
    code = f"import sys\nrelease = sys.argv[1]\n{LIGHT[name]}\nimport json\nprint(json.dumps(sorted(sys.modules)))"

    modules = json.loads(run(code, release).splitlines()[-1])

    assert [module for module in HEAVY if module in modules] == []


def test_publishing_at_level_header_imports_no_torch(release, tmp_path):
    """A release whose index was built elsewhere can be published from a machine without torch."""
    code = """
    import json, sys
    import saereg
    receipt = saereg.publish(sys.argv[1], f"dir:{sys.argv[2]}", level="header")
    assert receipt.changed
    print(json.dumps(sorted(sys.modules)))
    """

    modules = json.loads(run(code, release, tmp_path / "published").splitlines()[-1])

    assert [module for module in HEAVY if module in modules] == []
