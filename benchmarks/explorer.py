"""Measure the page of a release of ten thousand artifacts: its size, its first table, a keystroke in its search.

    python benchmarks/explorer.py [artifacts] [--keep FOLDER]

The release is documents only: its numbers are drawn, its evidence has the shape of a real one (claims, verdicts, golden
vectors, a round trip, eight metrics, four files an artifact). The page is opened in a headless Chromium, which is taken
from SAEREG_CHROMIUM or found by its name; each measure is the median and the worst of several.

Aims, on two idle cores: the page is under 15 MB, its first table stands after 1.5 s, a keystroke takes under 100 ms.
"""

import argparse
import hashlib
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from saereg.publishers.site import make_site
from saereg.registry.files.atomic import write_text_atomically
from saereg.registry.release import open_release
from saereg.schemas.document import canonical
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from tests.browser.chromium import chromium, opened

ARTIFACTS, LOADS = 10_000, 5
WORDS = ("layer_1", "topk", "batchtopk seed1", "jumprelu", "d4096 layer_30", "gated")
AIMS = {"page": "15 MB", "first table": "1,500 ms", "keystroke": "100 ms", "filter": "100 ms"}

FIRST_TABLE = "performance.getEntriesByName('first-table')[0].startTime"
TYPED = """([text]) => {
  const field = document.getElementById('search');
  const took = [];
  for (let i = 1; i <= text.length; i++) {
    const start = performance.now();
    field.value = text.slice(0, i);
    field.dispatchEvent(new Event('input', { bubbles: true }));
    document.body.offsetHeight;
    took.push(performance.now() - start);
  }
  return took;
}"""
"""Sets the search letter by letter, as keys do; each time is until the table has its new layout."""

CHOSEN = """([hash]) => {
  const start = performance.now();
  history.pushState(null, '', hash);
  dispatchEvent(new PopStateEvent('popstate'));
  document.body.offsetHeight;
  return performance.now() - start;
}"""
FILTERS = (
    "#/?f.layer=3",
    "#/?r.l0=20..60",
    "#/?f.architecture=topk&r.explained_variance=0.7..",
    "#/?sort=-l0,layer",
    "#/",
)


def digest(*words: object) -> str:
    """Return a sha256 that is another for other words."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


def artifact(n: int, draw: random.Random) -> tuple[dict, dict]:
    """Return what a manifest and an index say of one artifact."""
    layer, architecture = n % 48, ("topk", "batchtopk", "jumprelu", "standard", "gated")[n // 48 % 5]
    width, seed = 2 ** (11 + n // 240 % 5), n // 1200
    name = f"layer_{layer}/{architecture}/d{width}/seed{seed}"
    ev, l0 = draw.uniform(0.4, 0.98), draw.uniform(8, 400)
    claims = [
        {"metric": "explained_variance", "value": round(ev, 4), "evaluation": f"held-out-{layer}"},
        {"metric": "l0", "value": round(l0, 2), "evaluation": f"held-out-{layer}"},
    ]
    sizes = {
        "cfg.json": 900,
        "golden.safetensors": 41_864,
        "sae_weights.safetensors": width * 8_000,
        "training.log": 9_000,
    }
    roles = {
        "cfg.json": "config",
        "golden.safetensors": "golden",
        "sae_weights.safetensors": "weights",
        "training.log": "log",
    }
    values = {"explained_variance": ev, "fvu": 1 - ev, "mse_per_row": draw.uniform(20, 80), "l0": l0}
    values |= {"mse_per_element": draw.random(), "dead_fraction": draw.uniform(0, 0.4), "ce_recovered": draw.random()}
    return (
        {
            **{"id": name, "path": name, "kind": "sae", "architecture": architecture, "d_in": 1024, "d_sae": width},
            **{"seed": seed, "site": f"residual-{layer}", "claims": claims, "canonical": n % 480 == 0},
            "training": {"tokens": 500_000_000, "steps": 122_000, "lr": 3e-4, "tool": {"sae-lens": "6.54.12"}},
        },
        {
            **{"id": name, "dtype": "float32", "decoder_norm": {"unit": True, "minimum": 1.0, "maximum": 1.0}},
            "files": [
                {"path": f"{name}/{file}", "size": size, "sha256": digest(name, file), "role": roles[file]}
                for file, size in sizes.items()
            ],
            "tensors": {
                "W_dec": {"shape": [width, 1024], "dtype": "F32", "finite": True},
                "W_enc": {"shape": [1024, width], "dtype": "F32", "finite": True},
            },
            "semantics": {"pre_encoder_subtraction": "b_dec", "activation": "topk", "gate_quantity": "pre_activation"},
            "golden": {
                **{"path": f"{name}/golden.safetensors", "made_by": "sae_lens 6.54.12", "rows": 12},
                "replayed": [
                    {"reader": "saereg 0.1.0", "active_sets_equal": True, "max_rel_error": draw.random() * 1e-6}
                ],
            },
            "round_trip": {
                "against": digest(name),
                "tensors": {
                    tensor: {"key": tensor, "operation": "identity", "bitwise": True, "max_abs_diff": 0.0}
                    for tensor in ("W_dec", "W_enc")
                },
            },
            "metrics": [
                {
                    **{"metric": metric, "value": value, "evaluation": f"held-out-{layer}", "dtype": "float32"},
                    **{"data_sha256": digest(layer), "rows": 65_536, "tokens": 65_536, "tool": {"saereg": "0.1.0"}},
                }
                for metric, value in values.items()
            ],
            "verdicts": [{"claim": i, "verdict": "verified", "measured": c["value"]} for i, c in enumerate(claims)],
        },
    )


def synthetic(folder: Path, count: int) -> Path:
    """Write a release of documents only, and return its folder; the same count gives the same."""
    draw = random.Random(0)
    pairs = [artifact(n, draw) for n in range(count)]
    site = {"model": "m", "layer": 0, "module": "model.layers.0", "hook_name": "blocks.0.hook_resid_post"}
    manifest = {
        "schema_version": "1.0",
        "release": {"name": "many", "version": "1.0.0", "title": "Many dictionaries", "license": "mit"},
        "base_models": {"m": {"id": "org/model", "license": "mit", "n_layers": 48, "d_model": 1024}},
        "sites": {
            f"residual-{n}": site
            | {"layer": n, "module": f"model.layers.{n}", "hook_name": f"blocks.{n}.hook_resid_post"}
            for n in range(48)
        },
        "evaluations": {
            f"held-out-{n}": {"source": "activations", "site": f"residual-{n}", "path": f"evaluation/{n}.safetensors"}
            | {"rows": 65_536, "tensor": "x"}
            for n in range(48)
        },
        "artifacts": [claim for claim, _ in pairs],
    }
    text = Manifest.from_text(canonical(manifest)).text()
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / "manifest.json", text)
    index = {
        **{"schema_version": "1.0", "generated_by": {"saereg": "0.1.0"}, "files": []},
        **{"manifest_sha256": hashlib.sha256(text.encode()).hexdigest(), "artifacts": [found for _, found in pairs]},
    }
    write_text_atomically(folder / "index.json", Index.from_text(canonical(index)).text())
    return folder


def told(name: str, values: list[float]) -> None:
    """Print a measure in milliseconds beside its aim."""
    print(f"{name:12} median {statistics.median(values):7.0f} ms   worst {max(values):7.0f} ms   aim {AIMS[name]}")


def main(count: int, folder: Path) -> None:
    """Make the release and its page, open it, print what was measured."""
    start = time.perf_counter()
    release = open_release(synthetic(folder / "release", count))
    made = time.perf_counter()
    page = make_site(release, folder / "page", level="layout")
    took = time.perf_counter() - made
    print(f"{count:,} artifacts; release written and opened in {made - start:.1f} s, its page made in {took:.1f} s")
    print(f"{'page':12} {page.size / 1e6:.1f} MB   aim {AIMS['page']}")
    browser = chromium()
    if browser is None:
        print("no Chromium here: set SAEREG_CHROMIUM to one to measure the page in it")
        return
    first, typed, chosen = [], [], []
    for _ in range(LOADS):
        with opened(browser, folder / "page") as tab:
            first.append(tab.evaluate(FIRST_TABLE))
            typed += [took for word in WORDS for took in tab.evaluate(TYPED, [word])]
            tab.evaluate(TYPED, [" "])
            chosen += [tab.evaluate(CHOSEN, [hash_]) for hash_ in FILTERS]
    told("first table", first)
    told("keystroke", typed)
    told("filter", chosen)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=int, nargs="?", default=ARTIFACTS)
    parser.add_argument("--keep", type=Path, help="leave the release and its page in this folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(given.artifacts, given.keep or Path(scratch))
