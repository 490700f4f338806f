"""Rows of releases that do not exist, as many as are wanted: what `benchmarks/registry.py` fills catalogues with.

Every release is made on its own, so that a million artifacts are never in memory at once. The numbers hang together as
those of real sweeps do: wider dictionaries and more active latents explain more.
"""

import hashlib
import math
import random
from collections.abc import Iterator
from pathlib import Path

from saereg.registry.catalog.rows import Edge, Entry, Metric, ReleaseRows, Snapshot, Source
from saereg.registry.catalog.store import changing
from saereg.registry.catalog.writing import write

MODELS, LAYERS = 50, 32
SIZES = (70, 160, 410, 1000, 1400, 2000, 2800, 6900, 9000, 12000)
FAMILIES = ("pythia", "gemma", "llama", "olmo", "bloom")
WIDTHS = (4096, 16384, 32768, 65536, 131072)
KINDS = (("sae", "jumprelu"), ("sae", "topk"), ("sae", "batchtopk"), ("transcoder", "jumprelu"), ("crosscoder", "topk"))
STREAMS = ("resid_post", "mlp_out", "attn_out")
STATED = 3
"""One in so many has two numbers that its author states, beside the two that are measured."""


def model(number: int) -> str:
    """Return the id of one of the base models."""
    family, size = FAMILIES[number % len(FAMILIES)], SIZES[number // len(FAMILIES) % len(SIZES)]
    return f"{family}-labs/{family.capitalize()}-{size}m"


def entry(chance: random.Random, release: int, number: int) -> Entry:
    """Return one artifact of a grid over layers, places, widths and sparsities."""
    layer, rest = number % LAYERS, number // LAYERS
    stream, rest = STREAMS[rest % len(STREAMS)], rest // len(STREAMS)
    d_sae, level = WIDTHS[rest % len(WIDTHS)], rest // len(WIDTHS)
    kind, architecture = KINDS[release % len(KINDS)]
    base, d_in = model(release % MODELS), 512 * (1 + release % 8)
    l0 = round(8 * 1.35 ** (level % 21) * chance.uniform(0.8, 1.25), 4)
    explained = round(1 - 0.9 / (1 + math.log1p(l0) * math.log2(d_sae) / 18) - abs(chance.gauss(0, 0.06)), 6)
    metrics = [Metric("measured", "l0", "l0", l0, "held_out", rows=100_000)]
    metrics.append(Metric("measured", "explained_variance", "explained_variance", explained, "held_out", rows=100_000))
    if number % STATED == 0:
        metrics.append(Metric("stated", "l0", "l0", round(l0, 1), "held_out", "recomputed", verdict="verified"))
        metrics.append(Metric("stated", None, "ce_loss_score", round(chance.uniform(0.7, 1), 4)))
    name = f"layer_{layer}/{stream}/width_{d_sae // 1024}k/l0_{level}"
    return Entry(
        id=name, kind=kind, architecture=architecture, format="saelens", model=base, layer=layer, stream=stream,
        hook_name=f"blocks.{layer}.hook_{stream}", site=f"{stream}_{layer}", d_in=d_in, d_out=d_in, d_sae=d_sae,
        k=float(2 ** (level % 9)) if architecture.endswith("topk") else None, seed=level // 21,
        canonical=level == 10, tokens=500_000_000, dtype="float32",
        weights_sha256=hashlib.sha256(f"{release}/{name}".encode()).hexdigest(), size=8 * d_in * d_sae,
        metrics=tuple(metrics),
    )  # fmt: skip


def snapshot(release: int, artifacts: int) -> Snapshot:
    """Return one release on the Hub; the same number gives the same rows."""
    chance = random.Random(release)
    commit = hashlib.sha1(str(release).encode()).hexdigest()
    repo = f"lab-{release % 17}/{model(release % MODELS).rpartition('/')[2].lower()}-dictionaries-{release}"
    entries = tuple(entry(chance, release, number) for number in range(artifacts))
    edges = (Edge("sister", f"hf://lab-{release % 17}/sister-{release}"),)
    aliases = tuple(("canonical", one.id) for one in entries if one.canonical)
    name = repo.rpartition("/")[2]
    rows = ReleaseRows(
        name=name, version="1.0.0", title=name, license="mit", repo=repo, revision=commit, standing="verified",
        level="weights", entries=entries, edges=edges, aliases=aliases,
    )  # fmt: skip
    return Snapshot(Source("hub", repo), commit, "saereg 0.1.0", (rows,))


def snapshots(releases: int, artifacts: int) -> Iterator[Snapshot]:
    """Yield releases one after the other."""
    return (snapshot(number, artifacts) for number in range(releases))


def fill(path: Path, releases: int, artifacts: int) -> None:
    """Write a catalogue, one transaction per release as `saereg registry sync` does."""
    for rows in snapshots(releases, artifacts):
        with changing(path) as connection:
            write(connection, rows)
