"""Plant one defect in each of many copies of a tiny release: `make golden` rewrites every case folder.

A case is `tests/cases/<schema version>/<one defect>/` with `release/` (and `checkpoints/` where the defect needs them)
and `report.json`, the findings that `saereg validate` must give: all of the one code.
"""

import json
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from saereg.registry.build import build  # noqa: E402
from saereg.registry.conversion.convert import Order, convert  # noqa: E402
from saereg.registry.evidence.golden_file import write_golden  # noqa: E402
from saereg.registry.files.digest import sha256_of, sha256_text  # noqa: E402
from saereg.registry.loading import load_path  # noqa: E402
from saereg.registry.validators.runner import validate  # noqa: E402
from tests.releases import golden_of, tiny_release  # noqa: E402

TOPK, JUMP, TRANS = "layer_1/topk", "layer_1/jumprelu", "layer_1/transcoder"


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON document in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=2) + "\n")


def reindex(root: Path) -> None:
    """Bring sizes and digests of the index up to date, and nothing else: as if it had been built with the defect."""

    def change(index: dict) -> None:
        files = [*index["files"], *(f for artifact in index["artifacts"] for f in artifact["files"])]
        for file in files:
            path = root / file["path"]
            if path.is_file():
                file["size"], file["sha256"] = path.stat().st_size, sha256_of(path)
        index["manifest_sha256"] = sha256_text((root / "manifest.json").read_text())

    edit(root / "index.json", change)


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


def artifact_of(document: dict, identifier: str) -> dict:
    """Return the entry of an artifact."""
    return next(entry for entry in document["artifacts"] if entry["id"] == identifier)


def _rescale(weights: dict) -> None:
    """Double every latent and halve its decoder direction: x_hat stays what it was, to the last bit."""
    for name in ("W_enc", "b_enc", "threshold"):
        weights[name] *= 2
    weights["W_dec"] /= 2


def _no_artifacts(root: Path) -> None:
    for folder in ("layer_1", "W_U"):
        shutil.rmtree(root / folder)
    edit(root / "manifest.json", lambda m: m.update(artifacts=[]))
    edit(root / "index.json", lambda i: i.update(artifacts=[]))
    reindex(root)


def _second_identity(root: Path) -> None:
    shutil.copytree(root / JUMP, root / "layer_1/jumprelu_again")
    edit(
        root / "manifest.json",
        lambda m: m["artifacts"].append(
            artifact_of(m, JUMP) | {"id": "layer_1/jumprelu_again", "path": "layer_1/jumprelu_again"}
        ),
    )
    build(root)


def _altered_source(root: Path) -> None:
    """The checkpoint is the one that the manifest names, but one value of it was not exported."""
    path = root.parent / "checkpoints" / TOPK / "source.safetensors"
    weights = load_file(path)
    weights["W_dec"][0, 0] += 1e-3
    save_file(weights, path)
    edit(root / "manifest.json", lambda m: artifact_of(m, TOPK)["source_checkpoint"].update(sha256=sha256_of(path)))
    reindex(root)


def _other_source(root: Path) -> None:
    path = root.parent / "checkpoints" / TOPK / "source.safetensors"
    save_file(load_file(path) | {"extra": torch.zeros(1)}, path)


def _other_conversion(root: Path) -> None:
    """A record of a conversion that is right but for the digest of what was written."""
    with tempfile.TemporaryDirectory() as place:
        record = convert(Order(root / JUMP, Path(place) / "converted", "saelens"))
    other = record.written[0].model_copy(update={"sha256": "0" * 64})
    (root / JUMP / "conversion.json").write_text(record.model_copy(update={"written": (other,)}).text())
    build(root)


def _training_config(cfg: dict) -> None:
    cfg.update(decoder_init_norm=0.1)


def _transpose(weights: dict) -> None:
    weights["W_enc"] = weights["W_enc"].T.contiguous()


def _claim(metric: str, value: float, **more: object) -> Callable[[dict], object]:
    claim = {"metric": metric, "value": value, "evaluation": "held-out"} | more
    return lambda m: artifact_of(m, JUMP).update(claims=[claim])


@dataclass(frozen=True)
class Case:
    """One planted defect."""

    code: str
    plant: Callable[[Path], object]
    level: str = "header"
    checkpoints: bool = False


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
    "altered_card": Case("SR009", lambda root: (root / "README.md").write_text("# tinY\n")),
    "altered_weights": Case("SR009", lambda root: _flip_last_byte(root / TOPK / "sae_weights.safetensors")),
    "grown_file": Case("SR009", lambda root: (root / "README.md").write_text("# tiny, and more\n")),
    "link_out_of_release": Case("SR010", lambda root: (root / "secrets").symlink_to("/etc/hostname")),
    "index_missing": Case("SR011", lambda root: (root / "index.json").unlink()),
    "index_out_of_date": Case(
        "SR012", lambda root: edit(root / "manifest.json", lambda m: m["release"].update(title="T"))
    ),
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
    "identity_not_unique": Case("SR110", _second_identity),
    "unknown_site": Case("SR113", manifest(lambda m: artifact_of(m, JUMP).update(site="block-2"))),
    "unknown_base_model": Case("SR113", manifest(lambda m: m["sites"]["W_U"].update(model="tinny"))),
    "artifact_without_evidence": Case("SR115", index(lambda i: i["files"].extend(i["artifacts"].pop(1)["files"]))),
    "metadata_without_version": Case("SR121", config(JUMP, lambda c: c["metadata"].pop("sae_lens_version"))),
    "training_config": Case("SR122", config(TOPK, _training_config)),
    "truncated_weights": Case("SR200", raw_weights(TOPK, lambda raw: raw[:-16])),
    "oversized_weights": Case("SR200", raw_weights(TOPK, lambda raw: raw + b"\0" * 64)),
    "header_larger_than_file": Case("SR200", raw_weights(TOPK, lambda raw: struct.pack("<Q", 2**62) + raw[8:])),
    "offsets_past_end": Case(
        "SR200",
        raw_weights(TOPK, header(lambda h: h["b_enc"].update(shape=[1000], data_offsets=[10**6, 10**6 + 4000]))),
    ),
    "overlapping_tensors": Case("SR200", raw_weights(TOPK, header(lambda h: h["W_enc"].update(data_offsets=[0, 160])))),
    "weights_are_no_safetensors": Case("SR200", raw_weights(TOPK, lambda raw: b"PK")),
    "transposed_encoder": Case("SR201", tensors(TOPK, _transpose)),
    "missing_tensor": Case("SR202", tensors(TOPK, lambda w: w.pop("b_enc"))),
    "optimizer_tensor": Case("SR202", tensors(TOPK, lambda w: w.update({"exp_avg.W_enc": torch.zeros(2)}))),
    "nan_weight": Case("SR203", tensors(TOPK, lambda w: w["W_dec"][9, 1].fill_(torch.inf)), "weights"),
    "declared_bfloat16": Case("SR204", config(JUMP, lambda c: c.update(dtype="bfloat16"))),
    "jumprelu_called_standard": Case(
        "SR211",
        lambda root: (
            config(JUMP, lambda c: c.update(architecture="standard"))(root),
            manifest(lambda m: artifact_of(m, JUMP).update(architecture="standard"))(root),
        ),
    ),
    "k_beyond_dictionary": Case(
        "SR212",
        lambda root: (
            config(TOPK, lambda c: c.update(k=400))(root),
            manifest(lambda m: artifact_of(m, TOPK)["sparsity"].update(k=400.0))(root),
        ),
    ),
    "threshold_never_set": Case("SR213", tensors(JUMP, lambda w: w["threshold"].fill_(-1.0), golden=True), "weights"),
    "dead_decoder_rows": Case("SR214", tensors(JUMP, lambda w: w["W_dec"][2].zero_(), golden=True), "weights"),
    "width_disagrees": Case("SR215", manifest(lambda m: artifact_of(m, JUMP).update(d_sae=12))),
    "base_model_not_pinned": Case("SR301", manifest(lambda m: m["base_models"]["tiny"].pop("revision"))),
    "layer_not_in_model": Case(
        "SR302",
        manifest(lambda m: m["sites"]["block-1-mlp"].update(layer=4, hook_name="blocks.4.hook_mlp_out")),
    ),
    "residual_of_other_width": Case("SR302", manifest(lambda m: m["base_models"]["tiny"].update(d_model=5))),
    "module_path_as_hook_name": Case(
        "SR303", manifest(lambda m: m["sites"]["block-1"].update(hook_name="model.layers.1"))
    ),
    "last_hidden_state": Case(
        "SR304",
        manifest(
            lambda m: m["sites"]["block-1"].update(
                layer=3, hidden_states_index=4, hook_name="blocks.3.hook_resid_post", module="model.layers.3"
            )
        ),
    ),
    "last_hidden_state_in_config": Case(
        "SR304", config(JUMP, lambda c: c["metadata"].update(hf_hook_name="hidden_states.4"))
    ),
    "normalization_not_applied": Case(
        "SR311", config(JUMP, lambda c: c.update(normalize_activations="expected_average_only_in"))
    ),
    "no_token_policy": Case("SR321", manifest(lambda m: m.pop("tokens"))),
    "explained_variance_above_one": Case("SR402", manifest(_claim("explained_variance", 1.2))),
    "wrong_explained_variance": Case("SR411", manifest(_claim("explained_variance", 0.71))),
    "wrong_l0": Case("SR412", manifest(_claim("l0", 9.0))),
    "wrong_dead_fraction": Case("SR414", manifest(_claim("dead_fraction", 0.5))),
    "more_active_than_k": Case("SR413", index(lambda i: _metric(i, TOPK, "l0").update(maximum=5.0))),
    "training_figure": Case("SR415", manifest(_claim("nmse_uncentred_row", 0.3265, kind="training_running_mean"))),
    "measurement_not_reproduced": Case("SR416", index(lambda i: _metric(i, JUMP, "fvu").update(value=0.5)), "data"),
    "golden_unreadable": Case("SR420", lambda root: _plain_golden(root, TOPK), "weights"),
    "latents_rescaled": Case("SR421", tensors(JUMP, _rescale), "weights"),
    "wrong_subtraction_switch": Case("SR421", config(TOPK, lambda c: c.update(apply_b_dec_to_input=False)), "weights"),
    "weights_not_of_checkpoint": Case("SR422", _altered_source, "weights", checkpoints=True),
    "golden_missing": Case("SR423", lambda root: ((root / JUMP / "golden.safetensors").unlink(), build(root))),
    "other_checkpoint": Case("SR424", _other_source, "weights", checkpoints=True),
    "conversion_of_other_weights": Case("SR426", _other_conversion, "weights"),
    "evaluation_of_other_size": Case("SR425", manifest(lambda m: m["evaluations"]["held-out-mlp"].update(rows=13))),
}
"""Name of the folder → what is planted, and the one code that must be found."""


def _metric(document: dict, identifier: str, metric: str) -> dict:
    return next(entry for entry in artifact_of(document, identifier)["metrics"] if entry["metric"] == metric)


def _flip_last_byte(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


def _prepend(root: Path, path: str, mark: bytes) -> None:
    (root / path).write_bytes(mark + (root / path).read_bytes())
    reindex(root)


def _plain_golden(root: Path, artifact: str) -> None:
    path = root / artifact / "golden.safetensors"
    save_file(load_file(path), path)
    reindex(root)


def main(folder: Path) -> None:
    """Write every case folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            root = tiny_release(Path(scratch), checkpoints=case.checkpoints)
            case.plant(root)
            report = validate(root, case.level)
            place = folder / name
            shutil.copytree(scratch, place, symlinks=True)
        findings = [
            finding.model_dump(exclude={"origin", "fingerprint"}, exclude_none=True) for finding in report.findings
        ]
        (place / "report.json").write_text(
            json.dumps({"code": case.code, "level": case.level, "findings": findings}, indent=2) + "\n"
        )
        codes = sorted({finding.code for finding in report.findings})
        if codes != [case.code]:
            sys.stderr.write(f"{name}: planted {case.code}, found {codes}\n")


if __name__ == "__main__":
    main(HERE / "1")
