"""Cases of the rules in `rules/documents.py`."""

import json
import shutil
from pathlib import Path

from saereg.registry.build import build
from tests.cases.tools import JUMP, TOPK, Case, artifact_of, config, edit, index, manifest, reindex, tensors, text

AGAIN = "layer_1/jumprelu_again"


def _second_identity(root: Path) -> None:
    """A second training run: other weights, and no field that says so."""
    shutil.copytree(root / JUMP, root / AGAIN)
    edit(
        root / "manifest.json",
        lambda m: m["artifacts"].append(artifact_of(m, JUMP) | {"id": AGAIN, "path": AGAIN}),
    )
    tensors(AGAIN, lambda weights: weights["W_enc"].mul_(1.5), golden=True)(root)


def _training_config(cfg: dict) -> None:
    cfg.update(decoder_init_norm=0.1)


def _prepend(root: Path, path: str, mark: bytes) -> None:
    (root / path).write_bytes(mark + (root / path).read_bytes())
    reindex(root)


def _unsorted(root: Path) -> None:
    path = root / "manifest.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(value.items())), indent=2) + "\n")
    reindex(root)


def _another_seed(root: Path) -> None:
    """A second training run, and a field that says so."""
    _second_identity(root)
    edit(root / "manifest.json", lambda m: artifact_of(m, AGAIN).update(seed=1))
    build(root)


def _nested(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


CASES: dict[str, Case] = {
    "duplicate_key": Case("SR100", text("manifest.json", '"seed": 0,', '"seed": 0, "seed": 1,')),
    "nan_in_config": Case("SR100", text(f"{JUMP}/cfg.json", '"context_size": 16', '"context_size": NaN')),
    "comment_in_config": Case("SR100", text(f"{JUMP}/cfg.json", '"d_in": 4,', '"d_in": 4, // width')),
    "byte_order_mark": Case("SR100", lambda root: _prepend(root, f"{JUMP}/cfg.json", b"\xef\xbb\xbf")),
    "required_key_missing": Case("SR101", config(JUMP, lambda c: c.pop("d_sae"))),
    "architecture_missing": Case("SR101", config(JUMP, lambda c: c.pop("architecture"))),
    "topk_without_k": Case("SR101", config(TOPK, lambda c: c.pop("k"))),
    "bad_normalization": Case("SR102", config(JUMP, lambda c: c.update(normalize_activations="layernorm"))),
    "number_as_text": Case("SR102", config(TOPK, lambda c: c.update(k="3"))),
    "negative_width": Case("SR102", manifest(lambda m: artifact_of(m, JUMP).update(d_sae=-10))),
    "steps_sorted_as_text": Case(
        "SR102",
        manifest(lambda m: artifact_of(m, "W_U/cross-snapshot-2")["sources"].update(steps=[1000, 0])),
    ),
    "misspelt_switch": Case(
        "SR103", config(JUMP, lambda c: c.update(normalise_activations=c.pop("normalize_activations")))
    ),
    "misspelt_manifest_key": Case("SR103", manifest(lambda m: m["release"].update(licence="mit"))),
    "misspelt_metadata": Case("SR103", config(JUMP, lambda c: c["metadata"].update(hook_nam="x"))),
    "future_schema": Case("SR104", manifest(lambda m: m.update(schema_version="2.0"))),
    "keys_out_of_order": Case("SR106", _unsorted),
    "lists_keep_their_order": Case(
        "SR106", manifest(lambda m: m["datasets"].update(a={"id": "a"}, Z={"id": "Z"})), passes=True
    ),
    "identity_not_unique": Case("SR110", _second_identity),
    "unknown_site": Case("SR113", manifest(lambda m: artifact_of(m, JUMP).update(site="block-2"))),
    "unknown_base_model": Case("SR113", manifest(lambda m: m["sites"]["W_U"].update(model="tinny"))),
    "artifact_without_evidence": Case("SR115", index(lambda i: i["files"].extend(i["artifacts"].pop(1)["files"]))),
    "metadata_without_version": Case("SR121", config(JUMP, lambda c: c["metadata"].pop("sae_lens_version"))),
    "training_config": Case("SR122", config(TOPK, _training_config)),
    "escaped_pair": Case("SR100", text("manifest.json", "Tiny dictionaries", r"Tiny \ud83d\ude00 \u00e9"), passes=True),
    "deep_but_read": Case("SR100", config(JUMP, lambda c: c["metadata"].update(zipf=_nested(95))), passes=True),
    "optional_key_left_out": Case("SR101", config(JUMP, lambda c: c.pop("device")), passes=True),
    "whole_number_for_a_float": Case(
        "SR102", manifest(lambda m: artifact_of(m, TOPK)["sparsity"].update(k=3)), passes=True
    ),
    "own_metadata_key": Case("SR103", config(JUMP, lambda c: c["metadata"].update(wiki_page="x")), passes=True),
    "second_major_release": Case("SR104", manifest(lambda m: m["release"].update(version="2.0.0")), passes=True),
    "another_seed": Case("SR110", _another_seed, passes=True),
    "dataset_defined": Case(
        "SR113", manifest(lambda m: m["evaluations"]["held-out"].update(dataset="text")), passes=True
    ),
    "other_order": Case("SR115", index(lambda i: i["artifacts"].reverse()), passes=True),
    "older_version": Case("SR121", config(JUMP, lambda c: c["metadata"].update(sae_lens_version="6.0.0")), passes=True),
    "training_version_in_metadata": Case(
        "SR122", config(TOPK, lambda c: c["metadata"].update(sae_lens_training_version="6.54.12")), passes=True
    ),
}
"""Name of the folder → what is planted, and the one code that must be found."""
