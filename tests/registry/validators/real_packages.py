"""Miniatures of public releases that are packed for SAELens: as in `real_releases`, with cards of another kind."""

from pathlib import Path

from tests.registry.validators.real_releases import REVISION, WIDTH, head, saelens, write

OLMO = "allenai/Olmo-3-7B-Think"

PACKAGE = (
    ("layer_07/width_131k/topk_64_raw", 7, 131072, 64, "none", 0.274970, True),
    ("layer_07/width_163k/topk_64_layernorm", 7, 163840, 64, "layer_norm", 0.277127, False),
    ("layer_15/width_163k/topk_64_raw", 15, 163840, 64, "none", 0.303301, True),
    ("layer_15/width_163k/topk_64_layernorm", 15, 163840, 64, "layer_norm", 0.304524, False),
    ("layer_23/width_163k/topk_64_raw", 23, 163840, 64, "none", 0.343949, False),
    ("layer_23/width_163k/topk_128_raw", 23, 163840, 128, "none", 0.329776, True),
    ("layer_31/width_163k/topk_128_raw", 31, 163840, 128, "none", 0.326502, True),
)
"""Id, layer, width, k, normalization, final normalized MSE of training, canonical."""

PACKAGE_TEXT = """# OLMo-3-7B-Think Sparse Autoencoders

This repository contains sparse autoencoders (SAEs) trained on post-layer residual stream activations from
[`allenai/Olmo-3-7B-Think`](https://huggingface.co/allenai/Olmo-3-7B-Think).

Each folder is packaged for SAELens with `cfg.json` and `sae_weights.safetensors`. The original training checkpoints
included optimizer state; this release contains inference-only weights.

## Model Details

- Base model: `allenai/Olmo-3-7B-Think`
- Activation type: post-layer residual stream
- Hook convention: layer `L` uses {hook}
- Collection context length: mixed-length chunks up to 8192 tokens
- Training data source: Dolma `v1_6-sample` plus Dolci-Instruct-SFT text
- Architecture: tied TopK sparse autoencoder

## Recommended SAEs

- `layer_07/width_131k/topk_64_raw`
- `layer_15/width_163k/topk_64_raw`
- `layer_23/width_163k/topk_128_raw`
- `layer_31/width_163k/topk_128_raw`

## All Included SAEs

| SAE id | layer | width | k | norm | final normalized MSE | canonical |
|---|---:|---:|---:|---|---:|---|
{rows}

The layernorm variants use SAELens runtime `normalize_activations="layer_norm"`. Final normalized MSE is the running
mean of training, `nmse_uncentred_row`.

## SAELens Usage

```python
from sae_lens import SAE

repo_id = "dams2005/olmo-3-7b-think-saes"
sae_id = "layer_31/width_163k/topk_128_raw"
sae = SAE.from_pretrained(repo_id, sae_id, device="cuda", dtype="float32")
```

## Hugging Face Transformers Usage

```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from sae_lens import SAE

model_id = "allenai/Olmo-3-7B-Think"
layer = {layer}
sae_id = "{sae_id}"

tokenizer = AutoTokenizer.from_pretrained(model_id)
model = AutoModelForCausalLM.from_pretrained(
    model_id,
    dtype=torch.bfloat16,
    device_map="auto",
)
sae = SAE.from_pretrained("dams2005/olmo-3-7b-think-saes", sae_id, device="cuda")

tokens = tokenizer("The Eiffel Tower is in", return_tensors="pt").to(model.device)
with torch.no_grad():
    outputs = model(**tokens, output_hidden_states=True)
    acts = outputs.hidden_states[layer + 1].to("cuda").float()
    feature_acts = sae.encode(acts)
    recons = sae.decode(feature_acts)
```

`hidden_states[0]` is the embedding output, so layer `L` activations are `hidden_states[L + 1]`{exception}.

## Files

- `manifest.json`: machine-readable list of included SAEs and training metrics
- `*/cfg.json`: SAELens config for each SAE
- `*/sae_weights.safetensors`: SAELens weights for each SAE
"""


def package_release(root: Path, *, honest: bool = True) -> Path:
    """Seven SAEs packed for SAELens; not honest: with the recipe that reads the last layer behind the final norm."""
    artifacts, configs, rows = [], {}, []
    for name, layer, d_sae, k, norm, nmse, canonical_ in PACKAGE:
        module = f"model.layers.{layer}"
        norms = {"normalize_activations": norm, "rescale_acts_by_decoder_norm": False, "apply_b_dec_to_input": True}
        raw = saelens("topk", d_sae, f"blocks.{layer}.hook_resid_post", module, OLMO, k=k, **norms)
        configs[name] = raw | {"d_in": 2}
        claim = {"metric": "nmse_uncentred_row", "value": nmse, "kind": "training_running_mean"}
        artifacts.append(
            {"id": name, "path": name, "kind": "sae", "architecture": "topk", "d_in": 2, "d_sae": d_sae}
            | {"site": f"layer-{layer}", "sparsity": {"k": k}, "variant": norm, "canonical": canonical_}
            | {"claims": [claim]}
        )
        rows.append(f"| `{name}` | {layer} | {d_sae} | {k} | {norm} | {nmse:.6f} | {'yes' if canonical_ else ''} |")
    manifest = {
        "release": {"name": "olmo-3-7b-think-saes", "version": "1.0.0", "title": "OLMo-3-7B-Think Sparse Autoencoders"}
        | {"license": "apache-2.0"},
        "base_models": {"olmo": {"id": OLMO, "revision": REVISION, "n_layers": 32, "d_model": 2}},
        "tokens": {
            "bos": False,
            "separator": "eos",
            "excluded": ["pad"],
            "packing": "mixed",
            "buckets": [[512, 2048], [3500, 5000], [7000, 8192]],
        },
        "datasets": {"dolma": {"id": "allenai/dolma"}, "dolci": {"id": "allenai/Dolci-Instruct-SFT"}},
        "sites": {
            f"layer-{layer}": {
                "model": "olmo",
                "layer": layer,
                "module": f"model.layers.{layer}",
                "hook_name": f"blocks.{layer}.hook_resid_post",
                "hidden_states_index": layer + 1 if layer < 31 else None,
            }
            for layer in (7, 15, 23, 31)
        },
        "canonical": {"rule": "lowest nmse_uncentred_row per layer"},
        "artifacts": artifacts,
    }
    hook = "`outputs.hidden_states[L + 1]` from Hugging Face Transformers"
    if honest:
        hook += ", except the last: a hook on `model.layers.31`"
    recipe = {"layer": 31, "sae_id": PACKAGE[-1][0]} if not honest else {"layer": 23, "sae_id": PACKAGE[-2][0]}
    text = PACKAGE_TEXT.format(
        rows="\n".join(rows), hook=hook, exception=", except of the last" if honest else "", **recipe
    )
    front = head([OLMO], "apache-2.0", ["allenai/dolma", "allenai/Dolci-Instruct-SFT"])
    return write(root, manifest, configs, front + text)


DOMAINS_TEXT = """# Sparse autoencoders of Pythia-70M for prose and code

Two SAEs, one trained on prose (A: WikiText-2) and one on code (B: CPython, Flask and NumPy), layer 3, MLP output.

| Train | Eval | MSE | R² | Avg L0 |
|---|---|---|---|---|
| A | A | 0.001241 | 0.9911 | 619.65 |
| A | B | 0.005195 | 0.9681 | 589.16 |
| B | A | 0.024533 | 0.8244 | 563.66 |
| B | B | 0.010940 | 0.9329 | 595.80 |

Generalization degradation ratios: A→B / A→A MSE: 4.19x; B→A / B→B MSE: 2.24x. Numbers are `mse_per_element`,
`explained_variance` and `l0`.

Note: MPS training can have minor run-to-run variation even with fixed seeds.
"""


def domains_release(root: Path) -> Path:
    """An SAE of prose and one of code, with the transfer between them."""
    model, artifacts, configs = "EleutherAI/pythia-70m-deduped", [], {}
    figures = {"prose": (0.001241, 0.9911, 619.65), "code": (0.010940, 0.9329, 595.80)}
    for seed, (name, (mse, r2, l0)) in enumerate(figures.items()):
        configs[name] = saelens("standard", 1024, "blocks.3.hook_mlp_out", "gpt_neox.layers.3.mlp", model)
        pairs = {"mse_per_element": mse, "explained_variance": r2, "l0": l0}
        artifacts.append(
            {"id": name, "path": name, "kind": "sae", "architecture": "standard", "d_in": WIDTH, "d_sae": 1024}
            | {"site": "mlp", "variant": name, "seed": seed, "sparsity": {"l1_coefficient": 1e-3}}
            | {"claims": [{"metric": m, "value": v, "kind": "training_window"} for m, v in pairs.items()]}
        )
    site = {"model": "pythia", "layer": 3, "stream": "mlp", "module": "gpt_neox.layers.3.mlp"}
    manifest = {
        "release": {"name": "pythia-70m-prose-code", "version": "1.0.0", "title": "Prose and code", "license": "mit"},
        "base_models": {"pythia": {"id": model, "revision": REVISION, "n_layers": 6, "d_model": 512}},
        "tokens": {"bos": False},
        "datasets": {"wiki": {"id": "Salesforce/wikitext"}, "code": {"id": "CPython, Flask and NumPy"}},
        "sites": {"mlp": site | {"hook_name": "blocks.3.hook_mlp_out"}},
        "artifacts": artifacts,
    }
    return write(root, manifest, configs, head([model], "mit", ["Salesforce/wikitext"]) + DOMAINS_TEXT)


SCOPE = (
    ("layer_20/width_16k/average_l0_71", 71.0, False),
    ("layer_20/width_16k/average_l0_139", 139.0, False),
    ("layer_20/width_16k/canonical", 105.0, True),
)
"""Id, L0, canonical."""


def scope_release(root: Path) -> Path:
    """JumpReLU SAEs named by their L0, as one large suite names them; the canonical one under a name of its own."""
    model, artifacts, configs = "google/gemma-2-2b", [], {}
    for name, l0, pick in SCOPE:
        configs[name] = saelens("jumprelu", 16384, "blocks.20.hook_resid_post", "model.layers.20", model) | {"d_in": 2}
        artifacts.append(
            {"id": name, "path": name, "kind": "sae", "architecture": "jumprelu", "d_in": 2, "d_sae": 16384}
            | {"site": "layer-20", "canonical": pick, "sparsity": {"target_l0": l0}}
            | {"claims": [{"metric": "l0", "value": l0, "kind": "training_window"}]}
        )
    site = {"model": "gemma", "layer": 20, "module": "model.layers.20", "hook_name": "blocks.20.hook_resid_post"}
    manifest = {
        "release": {"name": "scope-2b-pt-res", "version": "1.0.0", "title": "Gemma Scope", "license": "cc-by-4.0"},
        "base_models": {"gemma": {"id": model, "revision": REVISION, "n_layers": 26, "d_model": 2}},
        "tokens": {"bos": True, "excluded": ["bos"]},
        "datasets": {"pile": {"id": "monology/pile-uncopyrighted"}},
        "sites": {"layer-20": site},
        "canonical": {"rule": "l0 closest to 100 per layer, d_sae"},
        "artifacts": artifacts,
    }
    card = "# Gemma Scope\n\nJumpReLU SAEs; the canonical one has the L0 closest to 100 (`l0`).\n"
    return write(root, manifest, configs, head([model], "cc-by-4.0", ["monology/pile-uncopyrighted"]) + card)
