"""Releases for the checks of pages: one with everything, one whose every word is an attack, one without evidence."""

import hashlib
import json
from pathlib import Path

from saereg.registry.flat_fields import weights_digest
from saereg.registry.release import open_release
from saereg.schemas.features import FeatureView
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from tests.releases import tiny_release

ATTACK = "</script><script>globalThis.pwned=1</script><img src=x onerror=pwned=2><!-- \u2028 \"'`${pwned=3}` \u202eevil"
"""Ends a script, opens one, loads a picture, opens a comment, breaks lines and strings, turns the direction."""

TOKENS = [" the", " cat", " sat", "\n", " on", " a", " mat", "."]


def features(artifact: str, weights: str | None, token: str = " cat") -> str:
    """Return a feature view of three latents of some weights."""
    words = [token if word == " cat" else word for word in TOKENS]
    activations = [0.0, 4.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.0]
    latent = {
        **{"frequency": 0.25, "mean_active": 2.0, "maximum": 4.0, "decoder_norms": [1.0]},
        "histogram": {"edges": [0.0, 1.0, 2.0, 4.0], "counts": [9, 4, 1]},
        "contexts": [{"row": 3, "activation": 4.0, "tokens": words, "activations": activations, "peak": 1}],
        "promoted": [{"token": token, "value": 3.25}],
        "suppressed": [{"token": " dog", "value": -2.5}],
    }
    view = {
        **{"schema_version": "1.0", "generated_by": {"saereg": "0.1.0"}, "artifact": artifact},
        **{"weights_sha256": weights, "evaluation": "layer-1", "data_sha256": "1" * 64, "rows": 12},
        **{"chosen": "random", "seed": 7, "readout": "logits", "latents": [latent | {"index": n} for n in (1, 4, 8)]},
    }
    return FeatureView.from_text(json.dumps(view), "features.json").text()


def figure(values: list[dict], **more: object) -> dict:
    """Return a specification of points."""
    encoding = {axis: {"field": axis, "type": "quantitative"} for axis in ("x", "y")}
    return {"title": "Points", "data": {"values": values}, "mark": "point", "encoding": encoding} | more


def adorned(folder: Path, word: str | None = None, spec: dict | None = None) -> Path:
    """Return the tiny release with feature views, a figure and loss floors; a word takes the place of its texts."""
    release = tiny_release(folder)
    index = json.loads((release / "index.json").read_text())
    digests = {artifact.id: weights_digest(artifact.evidence) for artifact in open_release(release)}
    said = word or "The error falls with L0."
    for entry in index["artifacts"]:
        view = features(entry["id"], digests[entry["id"]], word or " cat")
        _add(release, f"{entry['id']}/features.json", view, "features", entry["files"])
    drawn = json.dumps(spec or figure([{"x": n, "y": n * n} for n in range(9)]))
    for end, content in (("vl.json", drawn), ("png", "png"), ("svg", "svg")):
        _add(release, f"figures/points.{end}", content, "figure", index["files"])
    paths = {"spec": "figures/points.vl.json", "png": "figures/points.png", "svg": "figures/points.svg"}
    index["figures"] = [{"name": "points", "kind": "frontier", "title": said, "caption": said, "alt": said} | paths]
    index["floors"] = floors(said)
    (release / "index.json").write_text(Index.from_text(json.dumps(index), "index.json").text())
    return release


def floors(said: str) -> dict:
    """Return two fits, one of which is not identified."""
    fit = {"tokens": [1e6, 2e6, 4e6], "values": [0.5, 0.4, 0.35], "fitted": 2}
    floor = {"value": 0.29, "interval": {"low": 0.27, "high": 0.31}}
    return {
        **{"metric": "fvu", "basis": "measured", "level": 0.9, "resamples": 200, "seed": 0},
        "fits": [
            fit | {"series": "layer 1", "floor": floor, "exponent": floor, "identified": True, "relative_error": 0.02},
            fit | {"series": said, "identified": False, "reason": said},
        ],
    }


def _add(release: Path, path: str, text: str, role: str, files: list) -> None:
    (release / path).parent.mkdir(parents=True, exist_ok=True)
    (release / path).write_text(text)
    content = text.encode()
    files.append({"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "role": role})
    files.sort(key=lambda file: file["path"])


def hostile(folder: Path) -> Path:
    """Return a release in which every free text is the attack, and a figure that would load from elsewhere."""
    elsewhere = figure(
        [],
        data={"url": "https://example.com/rows.json"},
        usermeta={"embedOptions": {"loader": {"http": {}}, "actions": True, "ast": False}},
        description=ATTACK,
    )
    release = adorned(folder, ATTACK, elsewhere)
    manifest = json.loads((release / "manifest.json").read_text())
    manifest["release"] |= {"title": ATTACK, "description": ATTACK, "citation": ATTACK, "authors": [ATTACK]}
    manifest["release"] |= {"sister_releases": ["javascript:pwned=4"], "code": {"repository": "javascript:pwned=5"}}
    for model in manifest["base_models"].values():
        model["license"] = ATTACK
    for artifact in manifest["artifacts"]:
        artifact |= {"snapshot": ATTACK, "variant": ATTACK, "expected_failure": ATTACK, "derived_from": [ATTACK]}
    for site in manifest["sites"].values():
        site["reason"] = ATTACK
    (release / "manifest.json").write_text(Manifest.from_text(json.dumps(manifest), "manifest.json").text())
    return release


def unbuilt(folder: Path) -> Path:
    """Return a release that was never built."""
    release = tiny_release(folder, built=False)
    assert open_release(release).index is None
    return release
