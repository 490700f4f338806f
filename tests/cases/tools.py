"""Tools to plant a defect in a copy of the tiny release, or something that looks like one and is none."""

import base64
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from saereg.errors import DocumentError
from saereg.registry.build import build
from saereg.registry.cards.artifact_card import write_artifact_card
from saereg.registry.evidence.golden_file import write_golden
from saereg.registry.files.digest import sha256_of, sha256_text
from saereg.registry.loading import load_path
from saereg.registry.provenance import provenance_of
from saereg.registry.release import open_release
from saereg.registry.signature import PREDICATE, is_signed
from saereg.registry.validators.options import Options
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from saereg.schemas.report import Level
from saereg.schemas.settings import Settings
from tests.releases import golden_of

TOPK, JUMP, TRANS = "layer_1/topk", "layer_1/jumprelu", "layer_1/transcoder"


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON document in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def reindex(root: Path) -> None:
    """Bring sizes and digests of the index up to date, and nothing else: as if it had been built with the defect."""

    def change(index: dict) -> None:
        files = [*index["files"], *(f for artifact in index["artifacts"] for f in artifact["files"])]
        for file in files:
            path = root / file["path"]
            if path.is_file():
                file["size"], file["sha256"] = path.stat().st_size, sha256_of(path)
        index["manifest_sha256"] = sha256_text((root / "manifest.json").read_text())
        _remake_provenance(root, index)

    edit(root / "index.json", change)


def _remake_provenance(root: Path, index: dict) -> None:
    """Bring the provenance up to date, where manifest and index can be read at all."""
    try:
        claims, found = Manifest.read(root / "manifest.json"), Index.from_text(json.dumps(index))
    except DocumentError:
        return
    provenance = provenance_of(claims, found.artifacts, found.generated_by)
    index["provenance"] = provenance.model_dump(mode="json", exclude_none=True)


def bundle(root: Path) -> str:
    """Return a bundle that lists the files of a release as a signature does; its signature is none."""
    found = Index.read(root / "index.json")
    digests = {file.path: file.sha256 for file in found.all_files() if is_signed(file.path)}
    digests |= {name: sha256_of(root / name) for name in ("manifest.json", "index.json")}
    resources = [{"name": name, "algorithm": "sha256", "digest": digests[name]} for name in sorted(digests)]
    predicate = {"serialization": {"method": "files", "hash_type": "sha256"}, "resources": resources}
    statement = {"_type": "https://in-toto.io/Statement/v1", "predicateType": PREDICATE, "predicate": predicate}
    envelope = {
        "payload": base64.b64encode(json.dumps(statement).encode()).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": "AAAA"}],
    }
    material = {"publicKey": {"hint": "0" * 64}, "tlogEntries": []}
    return json.dumps({"verificationMaterial": material, "dsseEnvelope": envelope})


def write_cards(root: Path) -> None:
    """Give every artifact the card that saereg writes of it, and an index that lists them."""
    release = open_release(root)
    for artifact in release:
        if artifact.evidence is not None:
            write_artifact_card(root, artifact.claim, release.manifest, artifact.evidence)
    build(root)


def manifest(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Return a defect in the manifest."""

    def plant(root: Path) -> None:
        edit(root / "manifest.json", change)
        reindex(root)

    return plant


def config(artifact: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Return a defect in a cfg.json."""

    def plant(root: Path) -> None:
        edit(root / artifact / "cfg.json", change)
        reindex(root)

    return plant


def index(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Return a defect in the index."""
    return lambda root: edit(root / "index.json", change)


def text(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a defect in the text of a document."""

    def plant(root: Path) -> None:
        before = (root / path).read_text()
        if old not in before:
            raise ValueError(f"{old!r} is not in {path}")
        (root / path).write_text(before.replace(old, new, 1))
        if path != "index.json":
            reindex(root)

    return plant


def tensors(
    artifact: str, change: Callable[[dict], object], *, golden: bool = False, file: str = "sae_weights.safetensors"
) -> Callable[[Path], None]:
    """Return a defect in the weights; with `golden`, vectors are made anew so that only the defect itself shows."""

    def plant(root: Path) -> None:
        path = root / artifact / file
        weights = {name: tensor.clone() for name, tensor in load_file(path).items()}
        change(weights)
        save_file(weights, path)
        if golden:
            rows = load_file(root / artifact / "golden.safetensors")["x"]
            write_golden(root / artifact / "golden.safetensors", golden_of(load_path(root / artifact), rows))
            build(root)
        else:
            reindex(root)

    return plant


def raw_weights(artifact: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a defect in the bytes of a weight file."""

    def plant(root: Path) -> None:
        path = root / artifact / "sae_weights.safetensors"
        path.write_bytes(change(path.read_bytes()))
        reindex(root)

    return plant


def header(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    """Return a change of a safetensors header."""

    def apply(raw: bytes) -> bytes:
        length = struct.unpack("<Q", raw[:8])[0]
        value = json.loads(raw[8 : 8 + length])
        change(value)
        new = json.dumps(value).encode()
        return struct.pack("<Q", len(new)) + new + raw[8 + length :]

    return apply


def only(*identifiers: str) -> Callable[[Path], None]:
    """Return a plant that takes every other artifact out of the release, with the sites and evaluations it needed."""

    def plant(root: Path) -> None:
        def change(m: dict) -> None:
            for entry in m["artifacts"]:
                if entry["id"] not in identifiers:
                    shutil.rmtree(root / entry["path"])
            m["artifacts"] = [entry for entry in m["artifacts"] if entry["id"] in identifiers]
            used = {entry.get("site") or entry["sources"]["site"] for entry in m["artifacts"]}
            used |= {entry["site_out"] for entry in m["artifacts"] if "site_out" in entry}
            m["sites"] = {key: site for key, site in m["sites"].items() if key in used}
            m["evaluations"] = {key: e for key, e in m["evaluations"].items() if e["site"] in used}

        edit(root / "manifest.json", change)
        used = {e["path"] for e in json.loads((root / "manifest.json").read_text())["evaluations"].values()}
        for path in (root / "evaluation").iterdir():
            if path.relative_to(root).as_posix() not in used:
                path.unlink()
        build(root)

    return plant


def renamed(old: str, new: str) -> Callable[[Path], None]:
    """Return a plant that gives an artifact another id and folder, where its own would contradict what is planted."""

    def plant(root: Path) -> None:
        (root / old).rename(root / new)
        edit(root / "manifest.json", lambda m: artifact_of(m, old).update(id=new, path=new))
        build(root)

    return plant


def artifact_of(document: dict, identifier: str) -> dict:
    """Return the entry of an artifact."""
    return next(entry for entry in document["artifacts"] if entry["id"] == identifier)


@dataclass(frozen=True)
class Case:
    """One planted case.

    Attributes:
        code: the rule it is about.
        plant: changes a copy of the tiny release in place.
        level: level of the validation.
        checkpoints: whether source checkpoints stand beside the release.
        passes: whether nothing at all must be found: something that looks like the defect and is none.
        options: options of the validation.
        settings: configuration of the validation.
    """

    code: str
    plant: Callable[[Path], object]
    level: Level = "header"
    checkpoints: bool = False
    passes: bool = False
    options: Options | None = None
    settings: Settings | None = None


def claim(metric: str, value: float, **more: object) -> Callable[[dict], object]:
    claim = {"metric": metric, "value": value, "evaluation": "held-out"} | more
    return lambda m: artifact_of(m, JUMP).update(claims=[claim])


def metric_of(document: dict, identifier: str, metric: str) -> dict:
    return next(entry for entry in artifact_of(document, identifier)["metrics"] if entry["metric"] == metric)
