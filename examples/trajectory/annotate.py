"""Say in manifest.json what no trainer can know: what the release is, which run failed, which artifacts are the picks.

The manifest is the author's document. An editor does as well; this is the same as a command that can be repeated.
"""

import json
import sys
from pathlib import Path

RELEASE = {
    "title": "Parameter-trajectory crosscoders of a tiny GPT-NeoX",
    "description": "Snapshot crosscoders on W_U and W_E of a two-layer model, trained from 32 checkpoints of its "
    "pretraining. A miniature: everything in it is made by examples/trajectory in some minutes.",
}

FAILED = "tiny-neox/W_U/architecture-comparison/d256/gated"
WHY = "coefficient 0.75 of the headline times its 32 gates, moved to another loss; gated-retuned has one of its own"

METRIC, NUMBER = "l0_per_source_mean", 18


def annotate(manifest: dict) -> None:
    """Change a manifest: the release, the failure, the rule of the canonical picks and its flags."""
    manifest["release"] |= RELEASE
    manifest["canonical"] = {"rule": f"{METRIC} closest to {NUMBER} per site, d_sae"}
    distances: dict[tuple[str, int], dict[str, float]] = {}
    for artifact in manifest["artifacts"]:
        if artifact["id"] == FAILED:
            artifact["expected_failure"] = WHY
        for claim in artifact["claims"]:
            if claim["metric"] == METRIC:
                group = distances.setdefault((artifact["sources"]["site"], artifact["d_sae"]), {})
                group[artifact["id"]] = abs(claim["value"] - NUMBER)
    picks = {min(found, key=found.__getitem__) for found in distances.values()}
    for artifact in manifest["artifacts"]:
        artifact["canonical"] = artifact["id"] in picks


if __name__ == "__main__":
    path = Path(sys.argv[1]) / "manifest.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    annotate(document)
    path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
