"""A manifest with tiny models, sites in them, and evaluations of tokens."""

from pathlib import Path

import torch

from saereg.registry.metrics.sources.contexts import write_contexts
from saereg.registry.metrics.sources.opening import Surroundings, open_rows
from saereg.registry.metrics.sources.tokens import ModelRows
from saereg.schemas.document import canonical
from saereg.schemas.manifest import Manifest

BOS, SEP = 1, 3
LENGTHS = (3, 40, 1, 17, 18, 9, 40, 2, 33, 12, 26, 7)
LAYER = {"neox": "layers.1", "bert": "encoder.layer.1", "roberta": "encoder.layer.1", "gemma": "layers.1"}


def contexts_of(lengths=LENGTHS, seed: int = 0) -> list[list[int]]:
    """Return contexts that begin with BOS, of words and a few separators."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randint(2, 60, (length,), generator=generator).tolist() for length in lengths]
    return [[BOS, *context[1:]] for context in found]


def manifest_of(evaluation: dict[str, object], **sites: dict[str, object]) -> Manifest:
    """Return a manifest with one evaluation, `held-out`, and a site at layer 1 of each kind of model."""
    usual = {kind: {"model": kind, "module": module, "layer": 1} for kind, module in LAYER.items()}
    return Manifest.from_text(
        canonical(
            {
                "release": {"name": "r", "version": "0.1.0", "title": "R", "license": "mit"},
                "base_models": {kind: {"id": f"tiny/{kind}"} for kind in LAYER},
                "sites": usual | sites,
                "evaluations": {
                    "held-out": {"source": "tokens", "path": "evaluation/tokens.safetensors", **evaluation}
                },
                "artifacts": [],
            }
        ),
        "manifest.json",
    )


def token_rows(
    root: Path, tiny, contexts=None, *, dropped=(), first_dropped=False, sites=None, keys=None, **evaluation
) -> ModelRows:
    """Write contexts into a release folder and open them as rows at layer 1 of the tiny NeoX, or where it is said."""
    path = root / "evaluation" / "tokens.safetensors"
    rows = write_contexts(path, contexts or contexts_of(), dropped=dropped, first_dropped=first_dropped)
    excluded = {"excluded": ["special"]} if dropped or first_dropped else {}
    at = {"sites": keys} if keys else {"site": "neox"}
    manifest = manifest_of({"rows": rows, **at, **excluded, **evaluation}, **(sites or {}))
    models = {kind: str(tiny(kind)) for kind in _named(manifest)}
    found = open_rows(manifest.evaluations["held-out"], Surroundings(root, manifest, (16,), models=models))
    assert isinstance(found, ModelRows)
    return found


def _named(manifest: Manifest) -> set[str]:
    evaluation = manifest.evaluations["held-out"]
    keys = {evaluation.site, getattr(evaluation, "site_out", None), *getattr(evaluation, "sites", ())} - {None}
    return {manifest.sites[key].model for key in keys if key in manifest.sites}
