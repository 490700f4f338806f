"""Cases of the rules in `rules/layout.py`."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import torch

from saereg.registry.build import build
from tests.cases.tools import JUMP, TOPK, Case, artifact_of, bundle, edit, index, manifest, reindex


def _no_artifacts(root: Path) -> None:
    for folder in ("layer_1", "W_U"):
        shutil.rmtree(root / folder)
    edit(root / "manifest.json", lambda m: m.update(artifacts=[]))
    edit(root / "index.json", lambda i: i.update(artifacts=[]))
    reindex(root)


def _flip_last_byte(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


def _rewrite(root: Path, old: str, new: str) -> None:
    card = root / "README.md"
    card.write_text(card.read_text().replace(old, new, 1))


def _one_artifact(root: Path) -> None:
    for folder in (JUMP, "layer_1/transcoder", "W_U"):
        shutil.rmtree(root / folder)
    edit(root / "manifest.json", lambda m: m.update(artifacts=[artifact_of(m, TOPK)]))
    build(root)


def _added(name: str, content: str) -> Callable[[Path], None]:
    """Return a change that adds a file and indexes it."""

    def plant(root: Path) -> None:
        (root / name).write_text(content)
        build(root)

    return plant


def _like_a_pickle(root: Path) -> None:
    """Pad the header of the weights to 0x0480 bytes: the file then begins with 0x80 0x04, as pickles do."""
    path = root / JUMP / "sae_weights.safetensors"
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    path.write_bytes(struct.pack("<Q", 0x0480) + raw[8 : 8 + length].ljust(0x0480) + raw[8 + length :])
    _added("abbreviations", "PK: primary key\n")(root)


def _reworded_card(root: Path) -> None:
    """The card has as many bytes as before, and the index was built after the change."""
    card = root / "README.md"
    card.write_text(card.read_text().replace("tiny", "tinY", 1))
    build(root)


def _on_one_line(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text())) + "\n")


def _link_inside(root: Path) -> None:
    (root / "layer_1/data.json").symlink_to("../manifest.json")
    build(root)


def _signed_and(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a plant that signs the release, and then changes it."""

    def plant(root: Path) -> None:
        (root / "model.sig").write_text(bundle(root))
        change(root)

    return plant


def _better(index: dict) -> None:
    """Better errors than were measured, in the evidence alone."""
    for artifact in index["artifacts"]:
        for metric in artifact.get("metrics", ()):
            if metric["metric"] == "mse_per_row":
                metric["value"] = 0.01


def _card_left_out(root: Path) -> None:
    """A card more in the index than in the signature."""
    _added("layer_1/topk/README.md", "Top k of layer 1.\n")(root)
    (root / "model.sig").write_text(bundle(root))


CASES: dict[str, Case] = {
    "no_artifacts": Case("SR001", _no_artifacts),
    "indexed_file_missing": Case("SR002", lambda root: (root / "README.md").unlink()),
    "weights_missing": Case("SR002", lambda root: (root / JUMP / "sae_weights.safetensors").unlink()),
    "file_not_in_index": Case("SR003", lambda root: (root / "notes.txt").write_text("later\n")),
    "path_leaves_release": Case("SR004", manifest(lambda m: artifact_of(m, JUMP).update(path="../elsewhere"))),
    "name_with_brace": Case("SR004", lambda root: (root / "seed{0..4}.md").write_text("x")),
    "absolute_path": Case("SR004", manifest(lambda m: m["evaluations"]["held-out"].update(path="/etc/passwd"))),
    "pickle": Case("SR005", lambda root: torch.save({"a": torch.zeros(1)}, root / JUMP / "checkpoint.pt")),
    "pickle_in_disguise": Case("SR005", lambda root: (root / "cache").write_bytes(b"\x80\x04\x95\x00.")),
    "trainer_state": Case("SR006", lambda root: (root / JUMP / "activation_scaler.json").write_text("{}\n")),
    "altered_card": Case("SR009", lambda root: _rewrite(root, "# Tiny", "# tinY")),
    "altered_weights": Case("SR009", lambda root: _flip_last_byte(root / TOPK / "sae_weights.safetensors")),
    "grown_file": Case("SR009", lambda root: _rewrite(root, "# Tiny", "# Tiny, and more")),
    "link_out_of_release": Case("SR010", lambda root: (root / "secrets").symlink_to("/etc/hostname")),
    "index_missing": Case("SR011", lambda root: (root / "index.json").unlink()),
    "index_out_of_date": Case(
        "SR012", lambda root: edit(root / "manifest.json", lambda m: m["release"].update(title="T"))
    ),
    "provenance_of_another": Case(
        "SR012", index(lambda i: i["provenance"]["base_models"]["tiny"].update(revision="0" * 40))
    ),
    "evidence_edited_after_signing": Case("SR017", _signed_and(index(_better))),
    "built_again_after_signing": Case("SR017", _signed_and(_reworded_card)),
    "changed_after_signing": Case("SR017", _signed_and(manifest(lambda m: m["release"].update(title="T")))),
    "added_after_signing": Case("SR017", _signed_and(_added("results.csv", "ev\n0.7\n"))),
    "signature_of_nothing": Case("SR017", lambda root: (root / "model.sig").write_text("signed by me\n")),
    "card_that_nobody_signed": Case("SR017", _card_left_out, passes=True),
    "one_artifact": Case("SR001", _one_artifact, passes=True),
    "checkpoint_not_shipped": Case(
        "SR002", lambda root: shutil.rmtree(root.parent / "checkpoints"), checkpoints=True, passes=True
    ),
    "file_of_the_project_around": Case("SR003", lambda root: (root / ".gitignore").write_text("wandb\n"), passes=True),
    "name_with_two_dots": Case("SR004", _added("seed_0..4+notes.txt", "x"), passes=True),
    "begins_like_a_pickle": Case("SR005", _like_a_pickle, passes=True),
    "about_the_optimizer": Case("SR006", _added("about_the_optimizer.txt", "Adam\n"), passes=True),
    "altered_and_built_again": Case("SR009", _reworded_card, passes=True),
    "link_inside_release": Case("SR010", _link_inside, passes=True),
    "index_on_one_line": Case("SR011", lambda root: _on_one_line(root / "index.json"), passes=True),
    "manifest_changed_and_indexed": Case("SR012", manifest(lambda m: m["release"].update(title="T")), passes=True),
    "empty_file": Case("SR013", _added("layer_1/stream", ""), passes=True),
}
"""Name of the folder → what is planted, the code it is about, and whether it must be found."""
