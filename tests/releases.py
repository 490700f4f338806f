"""A tiny real release, made from random weights: two SAEs, a transcoder and a crosscoder, with all their evidence."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from saereg.registry.build import build
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.evidence.golden_file import GoldenVectors, sparse_golden, write_golden
from saereg.registry.files.digest import sha256_of
from saereg.schemas.artifact_config import parse_config
from saereg.schemas.document import canonical
from saereg.schemas.manifest import SCHEMA_URL, Manifest

D_IN, D_OUT, D_SAE, K_SOURCES, ROWS = 4, 3, 10, 2, 12

CROSSCODER_EV = -11.09

METADATA = {
    "sae_lens_version": "6.54.12",
    "model_name": "tiny/model",
    "hook_name": "blocks.1.hook_resid_post",
    "hf_hook_name": "model.layers.1",
    "prepend_bos": False,
    "context_size": 16,
    "dataset_path": "tiny/text",
}

CONFIGS = {
    "layer_1/topk": {
        "architecture": "topk",
        "k": 3,
        "apply_b_dec_to_input": True,
        "rescale_acts_by_decoder_norm": False,
    },
    "layer_1/jumprelu": {"architecture": "jumprelu", "apply_b_dec_to_input": False},
    "layer_1/transcoder": {"architecture": "transcoder", "apply_b_dec_to_input": False, "d_out": D_OUT},
}

CROSSCODER = {
    "kind": "crosscoder",
    "architecture": "jumprelu",
    "sources": {"axis": "snapshot", "site": "W_U", "steps": [0, 1000]},
    "input": {"kind": "parameters", "parameter": "W_U"},
    "n_sources": K_SOURCES,
    "d_in": D_IN,
    "d_sae": D_SAE,
    "dtype": "float32",
    "bias_reduction": "shared",
    "gate": "per_source",
    "code_norm": "per_source_norm",
    "statistics": {"preprocess": "center_scale", "inverted_on_output": True},
}

CARD = """---
library_name: saereg
license: mit
base_model: tiny/model
base_model_relation: adapter
datasets:
- tiny/text
tags:
- sparse-autoencoder
- transcoder
- crosscoder
- mechanistic-interpretability
- saereg
---

# Tiny dictionaries

Two sparse autoencoders, a transcoder and a crosscoder of `tiny/model`, made from random weights. What the author
claims of them is in [manifest.json](manifest.json).

## Use

```python
import saereg

release = saereg.open(".")  # this folder, or hf://organization/repository
names = [artifact.id for artifact in release]
```

MIT.
"""

MARKER = '{"library_name": "saereg", "manifest": "manifest.json"}\n'
"""config.json at the root: the file by whose downloads the Hub counts."""


def config_text(identifier: str) -> str:
    """Return the canonical cfg.json of one of the artifacts."""
    if identifier == "W_U/cross-snapshot-2":
        return parse_config(canonical(CROSSCODER)).text()
    raw = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu", "metadata": METADATA}
    raw |= {"normalize_activations": "none", "reshape_activations": "none"} | CONFIGS[identifier]
    return parse_config(canonical(raw)).text()


def random_weights(cfg, seed: int) -> dict[str, torch.Tensor]:
    """Return weights that hide no mistake: non-square, non-unit decoder norms, non-zero biases."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, spec in cfg.tensors().items():
        tensor = torch.randn(spec.shape, generator=generator) * (0.7 if name.startswith("W") else 0.3)
        weights[name] = tensor.abs() + 0.1 if name in ("threshold", "input_scale") else tensor
    return weights


def golden_of(dictionary: Dictionary, x: torch.Tensor) -> GoldenVectors:
    """Return golden vectors of a dictionary on some rows."""
    return sparse_golden(x, dictionary.encode(x), dictionary(x), "tests: saereg.registry.dictionary")


def tiny_release(root: Path, *, checkpoints: bool = True, built: bool = True) -> Path:
    """Write a tiny valid release to `root/release` (with source checkpoints beside it) and return its folder."""
    release = root / "release"
    generator = torch.Generator().manual_seed(7)
    rows = torch.randn(ROWS, D_IN, generator=generator)
    (release / "evaluation").mkdir(parents=True)
    save_file(
        {"x": rows, "y": torch.randn(ROWS, D_OUT, generator=generator)}, release / "evaluation/layer-1.safetensors"
    )
    save_file({"x": torch.randn(ROWS, K_SOURCES, D_IN, generator=generator)}, release / "evaluation/W_U.safetensors")
    artifacts = []
    for seed, identifier in enumerate([*CONFIGS, "W_U/cross-snapshot-2"]):
        cfg = parse_config(config_text(identifier))
        checkpoint = Checkpoint(cfg, random_weights(cfg, seed))
        layout = "saereg" if identifier.startswith("W_U") else "saelens"
        write_checkpoint(checkpoint, release / identifier, layout)
        x = rows if layout == "saelens" else torch.randn(5, K_SOURCES, D_IN, generator=generator)
        write_golden(release / identifier / "golden.safetensors", golden_of(Dictionary(checkpoint), x[:5]))
        source = _source(root, identifier, checkpoint) if checkpoints and identifier == "layer_1/topk" else None
        artifacts.append(_artifact(identifier, source))
    (release / "manifest.json").write_text(Manifest.from_text(canonical(_manifest(artifacts))).text())
    (release / "README.md").write_text(CARD)
    (release / "config.json").write_text(MARKER)
    if built:
        build(release)
    return release


def _source(root: Path, identifier: str, checkpoint: Checkpoint) -> dict:
    path = f"{identifier}/source.safetensors"
    (root / "checkpoints" / path).parent.mkdir(parents=True, exist_ok=True)
    weights = checkpoint.weights
    tensors = {
        "encoder.weight": weights["W_enc"].T.contiguous(),
        "b_enc": weights["b_enc"],
        "W_dec": weights["W_dec"],
        "b_dec": weights["b_dec"],
    }
    save_file(tensors, root / "checkpoints" / path)
    plan = {name: {"key": name} for name in ("b_enc", "W_dec", "b_dec")}
    plan["W_enc"] = {"key": "encoder.weight", "steps": [{"do": "transpose"}]}
    return {"path": path, "sha256": sha256_of(root / "checkpoints" / path), "tensors": plan}


def _artifact(identifier: str, source: dict | None) -> dict:
    common = {"id": identifier, "path": identifier, "d_in": D_IN, "d_sae": D_SAE, "seed": 0}
    common |= {"expected_failure": "its weights are random"}
    common |= {"source_checkpoint": source} if source else {}
    if identifier.startswith("W_U"):
        return common | {
            "kind": "crosscoder",
            "architecture": "jumprelu",
            "sources": CROSSCODER["sources"],
            "sparsity": {"l1_coefficient": 0.3},
            "claims": [{"metric": "explained_variance", "value": CROSSCODER_EV, "evaluation": "vocabulary"}],
            "format": "saereg",
        }
    architecture = CONFIGS[identifier]["architecture"]
    common |= {"architecture": architecture, "site": "block-1"}
    if architecture == "transcoder":
        return common | {"kind": "transcoder", "site_out": "block-1-mlp", "d_out": D_OUT}
    claims = [{"metric": "l0", "value": 3.0, "evaluation": "held-out"}] if architecture == "topk" else []
    sparsity = {"k": 3.0} if architecture == "topk" else {"l0_coefficient": 1.0}
    return common | {"kind": "sae", "claims": claims, "sparsity": sparsity}


def _manifest(artifacts: list[dict]) -> dict:
    site = {"model": "tiny", "layer": 1, "module": "model.layers.1", "io": "output"}
    return {
        "$schema": SCHEMA_URL,
        "schema_version": "1.0",
        "release": {"name": "tiny-saes", "version": "1.0.0", "title": "Tiny dictionaries", "license": "mit"},
        "base_models": {
            "tiny": {
                "id": "tiny/model",
                "revision": "0123456789abcdef0123456789abcdef01234567",
                "n_layers": 4,
                "d_model": D_IN,
            }
        },
        "tokens": {"bos": False, "separator": "eos", "excluded": ["pad"], "context_size": 16},
        "datasets": {"text": {"id": "tiny/text"}},
        "sites": {
            "block-1": site | {"hook_name": "blocks.1.hook_resid_post", "hidden_states_index": 2},
            "block-1-mlp": site
            | {"module": "model.layers.1.mlp", "stream": "mlp", "hook_name": "blocks.1.hook_mlp_out"},
            "W_U": {"model": "tiny", "stream": "parameter", "parameter": "W_U"},
        },
        "evaluations": {
            "held-out": {
                "source": "activations",
                "path": "evaluation/layer-1.safetensors",
                "rows": ROWS,
                "site": "block-1",
            },
            "held-out-mlp": {
                "source": "activations",
                "path": "evaluation/layer-1.safetensors",
                "target": "y",
                "rows": ROWS,
                "site": "block-1",
            },
            "vocabulary": {"source": "activations", "path": "evaluation/W_U.safetensors", "rows": ROWS, "site": "W_U"},
        },
        "artifacts": artifacts,
    }
