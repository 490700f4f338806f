"""Time the streamed, transposing write of a conversion against the same done in memory by the safetensors library.

    python benchmarks/convert_stream.py [latents] [inputs]

Both read an encoder (latents, inputs) in float32 and write it transposed, in one run and alternating: `load_file`,
`.T.contiguous()`, `save_file` here; blocks, hashed and looked at on their way, there. Prints the best of three runs of
each in GB of tensor per second, the ratio, the same without transposing, and how fast this machine hashes: the streamed
write cannot be faster than that.
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from safetensors.torch import load_file, save_file

from saereg.registry.evidence.inspection import Observer
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.streaming import write_safetensors
from saereg.registry.readings.recipes import Recipes
from saereg.schemas.recipe import SourceTensor, moved, transposed

RUNS = 3


def stream(source: Path, target: Path, recipe: SourceTensor) -> None:
    """Write what a recipe gives, block by block."""
    recipes = Recipes({"": open_safetensors(source)}, {"W_enc": recipe})
    entries = {"W_enc": recipes.entry("W_enc")}
    write_safetensors(target, entries, recipes.blocks, see=Observer({"W_enc": entries["W_enc"].shape}).see)


def in_memory(source: Path, target: Path, recipe: SourceTensor) -> None:
    """Load, transpose and save with the library; the digest that a release needs is not part of it."""
    weight = load_file(source)["encoder.weight"]
    save_file({"W_enc": weight.T.contiguous() if recipe.steps else weight}, target)


def seconds(work: Callable[[], None]) -> float:
    """Return the wall time of some work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def hash_rate() -> float:
    """Return how many GB of memory SHA-256 takes in a second."""
    block = bytes(256 * 1024**2)
    return len(block) / 1e9 / min(seconds(lambda: hashlib.sha256(block).digest()) for _ in range(RUNS))


def main(latents: int, inputs: int) -> None:
    """Make the encoder, time both ways of writing it, print a table."""
    size = latents * inputs * 4 / 1e9
    print(f"encoder ({latents}, {inputs}), {size:.2f} GB; SHA-256 {hash_rate():.2f} GB/s")
    print(f"{'':12}{'streamed':>12}{'in memory':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "source.safetensors", Path(scratch) / "target.safetensors"
        save_file({"encoder.weight": torch.randn(latents, inputs)}, source)
        for name, recipe in (("transposed", transposed("encoder.weight")), ("moved", moved("encoder.weight"))):
            ours, theirs = [], []
            for _ in range(RUNS):
                theirs.append(seconds(partial(in_memory, source, target, recipe)))
                target.unlink()
                ours.append(seconds(partial(stream, source, target, recipe)))
                target.unlink()
            rates = size / min(ours), size / min(theirs)
            print(f"{name:12}{rates[0]:>7.2f} GB/s{rates[1]:>7.2f} GB/s{rates[0] / rates[1]:>8.2f}")


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:3]) if len(sys.argv) > 2 else (65_536, 4096)))
