"""A small release that is worth registering: dictionaries that reconstruct, a failure, transcoders and a crosscoder."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from saereg.registry.build import build
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.conversion.write import write_checkpoint
from saereg.registry.dictionary import Dictionary
from saereg.registry.evidence.golden_file import write_golden
from saereg.schemas.artifact_config import parse_config
from saereg.schemas.document import canonical
from saereg.schemas.manifest import SCHEMA_URL, Manifest
from tests.releases import CARD, CROSSCODER, MARKER, golden_of, random_weights

D, F, ROWS = 4, 10, 40

SAES = {"layer_10/jump": 10, "layer_2/jump": 2, "layer_2/failed": 2, "layer_3/exact": 3}
"""SAE → layer whose residual stream it reads; not in the order in which people count."""

TRANSCODERS = {"mlp/layer_1": 1, "mlp/layer_0": 0}

REVISION = "0123456789abcdef0123456789abcdef01234567"


def config(identifier: str):
    """Return the configuration of a dictionary."""
    raw = {"d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu"}
    raw |= {"normalize_activations": "none", "reshape_activations": "none", "apply_b_dec_to_input": False}
    metadata = {"sae_lens_version": "6.54.12", "model_name": "tiny-model", "prepend_bos": False, "context_size": 16}
    if identifier in TRANSCODERS:
        block = f"blocks.{TRANSCODERS[identifier]}"
        metadata |= {"hook_name": f"{block}.hook_mlp_in", "hook_name_out": f"{block}.hook_mlp_out"}
        raw |= {"architecture": "transcoder", "d_out": D}
    else:
        metadata |= {"hook_name": f"blocks.{SAES[identifier]}.hook_resid_post"}
        raw |= {"architecture": "jumprelu" if "jump" in identifier else "standard"}
    return parse_config(canonical(raw | {"metadata": metadata}))


def weights(identifier: str, cfg) -> dict[str, torch.Tensor]:
    """Return weights that give each direction of the input back, by what is above a threshold."""
    if identifier in TRANSCODERS or "failed" in identifier:
        return random_weights(cfg, 3 + TRANSCODERS.get(identifier, 5))
    found = {name: torch.zeros(spec.shape) for name, spec in cfg.tensors().items()}
    both = torch.cat([torch.eye(D), -torch.eye(D)], dim=1)
    found["W_enc"][:, : 2 * D] = both
    found["W_dec"][: 2 * D] = both.T
    if "threshold" in found:
        found["threshold"] += 0.3 if "layer_2" in identifier else 0.6
    return found


def artifact(identifier: str) -> dict:
    """Return the entry of a dictionary in the manifest."""
    common = {"id": identifier, "path": identifier, "d_in": D, "d_sae": F, "seed": 0}
    if identifier in TRANSCODERS:
        layer = TRANSCODERS[identifier]
        sites = {"site": f"mlp-in-{layer}", "site_out": f"mlp-out-{layer}", "d_out": D}
        return common | sites | {"kind": "transcoder", "architecture": "transcoder"}
    if identifier == "cross":
        facts = {"kind": "crosscoder", "architecture": "jumprelu", "format": "saereg"}
        return common | facts | {"sources": CROSSCODER["sources"]}
    common |= {"kind": "sae", "architecture": "jumprelu" if "jump" in identifier else "standard"}
    common |= {"expected_failure": "it was stopped\tearly."} if "failed" in identifier else {}
    common |= {"neuronpedia_id": "tiny-model/2-res-tt"} if identifier == "layer_2/jump" else {}
    return common | {"site": f"block-{SAES[identifier]}"}


def manifest() -> dict:
    """Return the manifest."""
    sites: dict = {"W_U": {"model": "tiny", "stream": "parameter", "parameter": "W_U"}}
    for layer in sorted(set(SAES.values())):
        facts = {"layer": layer, "module": f"model.layers.{layer}", "hook_name": f"blocks.{layer}.hook_resid_post"}
        sites[f"block-{layer}"] = {"model": "tiny", "hidden_states_index": layer + 1} | facts
    for layer in TRANSCODERS.values():
        for io, side in (("input", "in"), ("output", "out")):
            facts = {"module": f"model.layers.{layer}.mlp", "io": io, "hook_name": f"blocks.{layer}.hook_mlp_{side}"}
            sites[f"mlp-{side}-{layer}"] = {"model": "tiny", "layer": layer, "stream": "mlp"} | facts
    base = {"id": "tiny/tiny-model", "revision": REVISION, "n_layers": 12, "d_model": D}
    return {
        "$schema": SCHEMA_URL,
        "schema_version": "1.0",
        "release": {
            "name": "good-ones",
            "version": "1.0.0",
            "title": "Good dictionaries",
            "license": "mit",
            "authors": ["Ann"],
        },
        "base_models": {"tiny": base},
        "tokens": {"bos": False, "separator": "eos", "excluded": ["bos"], "context_size": 16},
        "datasets": {"text": {"id": "tiny/text"}},
        "sites": sites,
        "evaluations": {
            f"held-out-{layer}": {
                "source": "activations",
                "path": "evaluation/rows.safetensors",
                "rows": ROWS,
                "site": f"block-{layer}",
            }
            for layer in sorted(set(SAES.values()))
        },
        "artifacts": [artifact(identifier) for identifier in (*SAES, *TRANSCODERS, "cross")],
    }


def good_release(folder: Path) -> Path:
    """Write the release."""
    rows = torch.randn(ROWS, D, generator=torch.Generator().manual_seed(1))
    (folder / "evaluation").mkdir(parents=True)
    save_file({"x": rows}, folder / "evaluation/rows.safetensors")
    for identifier in (*SAES, *TRANSCODERS):
        cfg = config(identifier)
        checkpoint = Checkpoint(cfg, weights(identifier, cfg))
        write_checkpoint(checkpoint, folder / identifier, "saelens")
        write_golden(folder / identifier / "golden.safetensors", golden_of(Dictionary(checkpoint), rows[:5]))
    cfg = parse_config(canonical(CROSSCODER))
    checkpoint = Checkpoint(cfg, random_weights(cfg, 4))
    write_checkpoint(checkpoint, folder / "cross", "saereg")
    x = torch.randn(5, CROSSCODER["n_sources"], D, generator=torch.Generator().manual_seed(2))
    write_golden(folder / "cross/golden.safetensors", golden_of(Dictionary(checkpoint), x))
    (folder / "manifest.json").write_text(Manifest.from_text(canonical(manifest())).text())
    (folder / "README.md").write_text(CARD.replace("tiny/model", "tiny/tiny-model"))
    (folder / "config.json").write_text(MARKER)
    build(folder)
    return folder


def edit(release: Path, change) -> None:
    """Change a manifest, and build again."""
    path = release / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(Manifest.from_text(canonical(raw)).text())
    build(release)
