"""Whatever stands in a release folder: findings, never a traceback; nothing runs, nothing hangs, nothing is touched."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saereg.registry.evidence.golden_file import write_golden
from saereg.registry.files.digest import sha256_of
from saereg.registry.validators.runner import validate
from tests.cases.tools import artifact_of, edit, reindex
from tests.releases import tiny_release

TOPK, JUMP, CROSS = "layer_1/topk", "layer_1/jumprelu", "W_U/cross-snapshot-2"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("pristine"), checkpoints=False)


@pytest.fixture
def release(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "release"))


def findings(release: Path, level: str = "header") -> list[tuple[str, str | None, str]]:
    return [(f.code, f.path, f.message) for f in validate(release, level).findings]


def codes(release: Path, level: str = "header") -> set[str]:
    return {code for code, _, _ in findings(release, level)}


def change_header(path: Path, change) -> None:
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    value = json.loads(raw[8 : 8 + length])
    change(value)
    text = json.dumps(value).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def snapshot(folder: Path) -> dict[str, object]:
    """Return path → (type and mode, size, time of change, bytes) of everything below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


# --- weight files -----------------------------------------------------------------------------------------------------

HEADERS = {
    "empty file": (b"", "0 bytes are too few for a safetensors file"),
    "seven bytes": (b"\0" * 7, "7 bytes are too few for a safetensors file"),
    "header longer than the file": (
        struct.pack("<Q", 100) + b"{}",
        "its header claims 100 bytes, but the file has 10: truncated, or not safetensors",
    ),
    "header of 2^64 - 1 bytes": (
        b"\xff" * 16,
        "its header claims 18446744073709551615 bytes, but the file has 16: truncated, or not safetensors",
    ),
    "header is a list": (struct.pack("<Q", 2) + b"[]", "the safetensors header is not a JSON object"),
    "header twice the same tensor": (
        struct.pack("<Q", 12) + b'{"a":1,"a":2',
        "the safetensors header cannot be read: not JSON: Expecting ',' delimiter (column 13)",
    ),
    "duplicate tensor": (
        struct.pack("<Q", 13) + b'{"a":1,"a":2}',
        "the safetensors header cannot be read: the key 'a' stands twice in one object",
    ),
    "not UTF-8": (
        struct.pack("<Q", 4) + b'{"\xff"',
        "the safetensors header cannot be read: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte",
    ),
    "nested 5000 deep": (
        struct.pack("<Q", 10_000) + b"[" * 5_000 + b"]" * 5_000,
        "the safetensors header cannot be read: nested too deeply to be read",
    ),
    "half a surrogate": (
        struct.pack("<Q", 12) + rb'{"\ud800":0}',
        "the safetensors header cannot be read: half of a surrogate pair (\\ud800) is no character",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_none_is_a_finding(release, name):
    """SR200 says what is wrong with the first bytes, and nothing is allocated for what they claim."""
    raw, problem = HEADERS[name]
    (release / TOPK / "sae_weights.safetensors").write_bytes(raw)
    reindex(release)

    assert findings(release, "weights") == [
        ("SR200", f"{TOPK}/sae_weights.safetensors", f"sae_weights.safetensors: {problem}")
    ]


ENTRIES = {
    "offsets past the end": {"dtype": "F32", "shape": [10], "data_offsets": [2**40, 2**40 + 40]},
    "negative offset": {"dtype": "F32", "shape": [10], "data_offsets": [-40, 0]},
    "reversed offsets": {"dtype": "F32", "shape": [10], "data_offsets": [40, 0]},
    "negative shape": {"dtype": "F32", "shape": [-10], "data_offsets": [0, 40]},
    "shape that overflows": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 40]},
    "shape that overflows around an empty axis": {"dtype": "F32", "shape": [2**62, 4, 0], "data_offsets": [0, 0]},
    "fractional shape": {"dtype": "F32", "shape": [10.0], "data_offsets": [0, 40]},
    "boolean shape": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
    "unknown type": {"dtype": "Q4", "shape": [10], "data_offsets": [0, 40]},
    "type that is a list": {"dtype": ["F32"], "shape": [10], "data_offsets": [0, 40]},
    "no shape": {"dtype": "F32", "data_offsets": [0, 40]},
    "not an object": 7,
    "three offsets": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40, 80]},
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_cannot_be_is_a_finding(release, name):
    """SR200 names the tensor whose entry lies."""
    change_header(release / TOPK / "sae_weights.safetensors", lambda header: header.update(b_enc=ENTRIES[name]))
    reindex(release)

    (finding,) = findings(release, "weights")

    assert finding[:2] == ("SR200", f"{TOPK}/sae_weights.safetensors")
    assert "b_enc" in finding[2] or "the tensors end" in finding[2]


@pytest.mark.parametrize("shape", [(), (13,)])
def test_an_evaluation_of_another_shape_is_a_finding(release, shape):
    """SR425 also for a scalar, which has no rows to count."""
    save_file({"x": torch.zeros(shape)}, release / "evaluation/layer-1.safetensors")
    reindex(release)

    assert codes(release) == {"SR425"}
    assert codes(release, "data") == {"SR425"}


def test_an_evaluation_with_an_axis_too_many_is_a_finding(release):
    """Its metrics would be those of a crosscoder."""
    save_file({"x": torch.zeros(12, 1, 4), "y": torch.zeros(12, 3)}, release / "evaluation/layer-1.safetensors")
    reindex(release)

    found = {message for _, _, message in findings(release)}

    assert found == {"evaluation/layer-1.safetensors holds x (12, 1, 4), but x (12, 4) is declared"}


@pytest.mark.parametrize("shape", [(12, 2, 2), (12, 4)])
def test_an_evaluation_of_heads_has_an_axis_of_heads(release, shape):
    """A dictionary with `hook_z` reshaping reads nothing else, so the switch is found where it does not belong."""
    edit(release / JUMP / "cfg.json", lambda cfg: cfg.update(reshape_activations="hook_z"))
    edit(release / "manifest.json", lambda m: m["artifacts"].__setitem__(slice(None), [artifact_of(m, JUMP)]))
    save_file({"x": torch.zeros(shape), "y": torch.zeros(12, 3)}, release / "evaluation/layer-1.safetensors")
    edit(release / "index.json", lambda i: i["artifacts"].__setitem__(slice(None), [artifact_of(i, JUMP)]))
    reindex(release)

    found = [message for code, _, message in findings(release) if code == "SR425"]

    wanted = "x (12, heads, width) with heads × width = 4"
    expected = [f"evaluation/layer-1.safetensors holds x (12, 4), but {wanted} is declared"]
    assert found == (expected if len(shape) == 2 else [])


def test_an_evaluation_that_was_never_there_is_a_finding(release):
    """Though no index names it."""
    edit(release / "manifest.json", lambda m: m["evaluations"]["held-out"].update(path="evaluation/none.safetensors"))
    reindex(release)

    assert ("SR425", "evaluation/none.safetensors", "evaluation/none.safetensors is missing") in findings(release)


GOLDEN = {
    "no rows": {"x": (0, 4), "active": (0, 3), "activations": (0, 3), "x_hat": (0, 4)},
    "other output width": {"x_hat": (5, 3)},
    "output of width one": {"x_hat": (5, 1)},
    "other input width": {"x": (5, 3)},
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_vectors_of_another_shape_are_a_finding(release, name):
    """SR420: they are not compared by broadcasting, and not with a crash."""
    tensors = load_file(release / TOPK / "golden.safetensors")
    tensors |= {key: tensors[key].new_zeros(shape) for key, shape in GOLDEN[name].items()}
    _golden(release / TOPK, tensors)
    reindex(release)

    assert codes(release, "weights") == {"SR420"}


def test_a_golden_latent_beyond_the_dictionary_is_a_finding(release):
    """SR420 names the latent, also where a crosscoder's sources share one code."""
    edit(release / CROSS / "cfg.json", lambda cfg: cfg.update(gate="shared", code_norm="none"))
    tensors = load_file(release / CROSS / "golden.safetensors")
    tensors["active"] = torch.full_like(tensors["active"], 10)
    _golden(release / CROSS, tensors)
    reindex(release)

    (finding,) = findings(release, "weights")

    assert finding == ("SR420", f"{CROSS}/golden.safetensors", "golden.safetensors: active: latent 10 of 10")


def _golden(folder: Path, tensors: dict) -> None:
    from saereg.registry.evidence.golden_file import GoldenVectors

    write_golden(folder / "golden.safetensors", GoldenVectors(**tensors, made_by="test"))


# --- documents --------------------------------------------------------------------------------------------------------

DOCUMENTS = {
    "empty": (b"", "SR100", "not JSON: Expecting value (column 1)"),
    "a list": (b"[]", "SR102", "input should be an object"),
    "deep": (b"[" * 100_000, "SR100", "nested too deeply to be read"),
    "rather deep": (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "SR100", "nested too deeply to be read"),
    "UTF-16": ("{}".encode("utf-16"), "SR100", "byte 0 is not UTF-8"),
    "NUL bytes": (b"\0\0\0\0", "SR100", "not JSON: Expecting value (column 1)"),
    "NaN": (b'{"d_in": NaN}', "SR100", "NaN is not JSON; use null and say why"),
    "minus infinity": (b'{"d_in": -Infinity}', "SR100", "-Infinity is not JSON; use null and say why"),
    "duplicate": (b'{"d_in": 4, "d_in": 5}', "SR100", "the key 'd_in' stands twice in one object"),
    "10^4000": (
        b'{"d_in": 1' + b"0" * 4000 + b"}",
        "SR100",
        "an integer of 4001 digits; 64 bits hold any number of a release",
    ),
}


@pytest.mark.parametrize("path", ["manifest.json", "index.json", f"{TOPK}/cfg.json"])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_is_none_is_a_finding(release, name, path):
    """Manifest, index and configuration are refused in the same words."""
    raw, code, message = DOCUMENTS[name]
    (release / path).write_bytes(raw)
    if path.endswith("cfg.json"):
        reindex(release)
    if name == "a list" and path.endswith("cfg.json"):
        code, message = "SR101", "the required key 'architecture' is missing"

    assert (code, path, message) in findings(release)


def test_a_schema_version_in_a_configuration_is_an_unknown_key(release):
    """SR104 speaks of the documents that have versions; cfg.json has none."""
    edit(release / JUMP / "cfg.json", lambda cfg: cfg.update(schema_version="2.0"))
    reindex(release)

    assert findings(release) == [("SR103", f"{JUMP}/cfg.json", "unknown key 'schema_version'")]


def test_a_schema_version_of_thousands_of_digits_is_a_finding(release):
    """Python refuses to read such a number; the pattern refuses it first."""
    edit(release / "manifest.json", lambda manifest: manifest.update(schema_version="1." + "9" * 5000))
    reindex(release)

    assert codes(release) == {"SR104"}


@pytest.mark.parametrize(
    "change",
    [
        {"k": 2**62},
        {"k": 10**30},
        {"d_in": 2**62},
        {"d_sae": 2**63 - 1},
        {"d_in": 2**70},
        {"architecture": "temporal", "n_attn_layers": 2**40},
        {"architecture": ["topk"]},
        {"architecture": {"topk": 1}},
        {"metadata": []},
        {"metadata": {"seqpos_slice": {}, "exclude_special_tokens": "yes"}},
    ],
)
def test_a_configuration_of_odd_values_is_a_finding(release, change):
    """No number is large enough to overflow, to loop or to fill the memory."""
    edit(release / TOPK / "cfg.json", lambda cfg: cfg.update(change))
    reindex(release)

    assert codes(release, "weights") & {"SR100", "SR101", "SR102", "SR103", "SR201", "SR211", "SR212", "SR215"}


TIMES_NORM = {"do": "times", "vector": "decoder_norm", "axis": 0}


@pytest.mark.parametrize(
    "source",
    [
        {"tensors": {"W_enc": {"key": "W_enc", "steps": [TIMES_NORM]}}},
        {"tensors": {"W_enc": {"key": "W_enc", "steps": [{"do": "cast", "to": "float16"}]}}},
        {"tensors": {"threshold": {"key": "counts", "steps": [{"do": "exp"}]}}},
        {"tensors": {"b_enc": {"key": "counts", "steps": [{"do": "exp"}]}}},
        {"tensors": {"b_enc": {"key": "cube", "steps": [{"do": "transpose"}]}}},
        {"tensors": {"b_enc": {"key": "cube", "steps": [{"do": "take", "axis": 7, "index": 2**60}]}}},
        {"tensors": {"b_enc": {"key": "cube", "steps": [{"do": "squeeze", "axis": 0}]}}},
        {"tensors": {"W_enc": {"key": "W_enc", "steps": [TIMES_NORM]}, "W_dec": {"key": "b_enc"}}},
        {"tensors": {"W_enc": {"key": "nothing"}}},
        {"tensors": {"nothing": {"key": "W_enc"}}},
        {"tensors": {"b_enc": {"key": "b_enc", "file": "../../secrets"}}},
        {"tensors": {"b_enc": {"key": "b_dec"}}},
        {"tensors": {"b_enc": {"key": "b_dec", "steps": [{"do": "broadcast", "shape": [10]}]}}},
        {"tensors": {"b_enc": {"key": "b_dec", "steps": [{"do": "broadcast", "shape": [2**62]}]}}},
        {"tensors": {"b_enc": {"key": "one", "steps": [{"do": "broadcast", "shape": [2**62]}]}}},
        {"tensors": {"b_enc": {"key": "one", "steps": [{"do": "broadcast", "shape": [-1]}]}}},
        {"tensors": {"b_enc": {"key": None}}},
        {"tensors": {"b_dec": {"key": "b_dec", "steps": [TIMES_NORM]}, "W_dec": {"key": "W_dec"}}},
    ],
)
def test_an_export_that_cannot_be_redone_is_a_finding(release, source):
    """SR422 says why the operation of the manifest cannot be repeated."""
    checkpoint = release.parent / "checkpoints/source.safetensors"
    checkpoint.parent.mkdir()
    weights = load_file(release / TOPK / "sae_weights.safetensors")
    odd = {"cube": torch.zeros(2, 3, 4), "counts": torch.ones(10, dtype=torch.int64), "one": torch.ones(())}
    save_file(weights | odd, checkpoint)
    source |= {"path": "source.safetensors", "sha256": sha256_of(checkpoint)}
    edit(release / "manifest.json", lambda manifest: artifact_of(manifest, TOPK).update(source_checkpoint=source))
    reindex(release)

    assert codes(release, "weights") == {"SR422"}


STEPS = {
    "unknown operation": ({"do": "rotate"}, "SR102"),
    "unknown argument": ({"do": "transpose", "axes": [1, 0]}, "SR103"),
    "unknown type": ({"do": "cast", "to": "float8"}, "SR102"),
    "argument left out": ({"do": "scale"}, "SR102"),
    "argument too many": ({"do": "exp", "by": 2.0}, "SR102"),
    "axis below zero": ({"do": "squeeze", "axis": -1}, "SR102"),
    "no operation": ({"by": 2.0}, "SR101"),
    "a word": ("transpose", "SR102"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_names_its_operation_and_what_that_takes(release, name):
    """What the schema does not know is refused before anything is compared."""
    step, code = STEPS[name]
    tensors = {"W_enc": {"key": "W_enc", "steps": [step]}}
    source = {"path": "source.safetensors", "sha256": "0" * 64, "tensors": tensors}
    edit(release / "manifest.json", lambda manifest: artifact_of(manifest, TOPK).update(source_checkpoint=source))
    reindex(release)

    assert codes(release, "weights") == {code}


@pytest.mark.parametrize("path", ["/etc/passwd", "../secrets", "C:\\secrets", "9" * 400])
def test_a_source_checkpoint_stays_in_its_folder(release, path):
    """A manifest cannot have files hashed that lie elsewhere on the machine."""
    source = {"path": path, "sha256": "0" * 64}
    edit(release / "manifest.json", lambda manifest: artifact_of(manifest, TOPK).update(source_checkpoint=source))
    reindex(release)

    assert codes(release, "weights") == {"SR004"}


# --- size -------------------------------------------------------------------------------------------------------------


def run_validate(release: Path, *arguments: str, timeout: float) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "saereg", "validate", str(release), "--format", "json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


ENTRY = '{"id": "a", "path": "a", "kind": "sae", "architecture": "topk", "d_in": 4, "d_sae": 9, "site": "s"}'

INVENTORIES = {
    "artifacts": '"artifacts": [' + ",".join([ENTRY] * 10**6) + "]",
    "sites": '"sites": {' + ",".join(f'"s{i}": {{}}' for i in range(10**6)) + "}",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", INVENTORIES)
def test_a_manifest_of_a_million_entries_is_one_finding(release, name):
    """It is answered within seconds, with exit code 1: a million errors help nobody."""
    (release / "manifest.json").write_text("{" + INVENTORIES[name] + "}")

    done = run_validate(release, timeout=20)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    first = json.loads(done.stdout)["findings"][0]
    assert first["message"] == f"1000000 entries in '{name}'; 20000 is the most in one release, split it"


def test_a_configuration_of_300_megabytes_is_not_read(release):
    """The size alone is enough to refuse it; the file is sparse, and reading it would take memory."""
    os.truncate(release / JUMP / "cfg.json", 300 * 1024**2)
    edit(release / "index.json", lambda index: _resize(index, f"{JUMP}/cfg.json", 300 * 1024**2))

    (finding,) = [f for f in findings(release) if f[0] == "SR100"]

    assert finding[2] == f"the file has {300 * 1024**2} bytes; at most {4 * 1024**2} are read"


def _resize(index: dict, path: str, size: int) -> None:
    for artifact in index["artifacts"]:
        for file in artifact["files"]:
            if file["path"] == path:
                file["size"] = size


# --- names, links, specials -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a//b", "./a", "a\\b", "C:/a", "a\x00b", "layer 1", ""])
def test_a_path_that_is_not_portable_is_a_finding(release, path):
    """The line of the manifest is given, and the path is not opened."""
    edit(release / "manifest.json", lambda manifest: artifact_of(manifest, JUMP).update(path=path))
    reindex(release)

    report = validate(release)

    assert [(f.code, f.pointer) for f in report.findings] == [("SR004" if path else "SR102", "/artifacts/1/path")]
    assert report.findings[0].line


@pytest.mark.parametrize("target", ["file", "folder", "nothing", "itself"])
@pytest.mark.parametrize(
    "place", [f"{JUMP}/sae_weights.safetensors", f"{JUMP}/cfg.json", "manifest.json", "index.json"]
)
def test_a_link_out_of_the_release_is_never_followed(release, place, target):
    """SR010, whatever the link stands for: even documents are not read through it."""
    outside = release.parent / "outside"
    outside.mkdir()
    shutil.copy(release / place, outside / "file")
    (release / place).unlink()
    to = {"file": outside / "file", "folder": outside, "nothing": outside / "x", "itself": release / place}[target]
    (release / place).symlink_to(to)
    if place == "manifest.json" and target != "file":
        return  # no file, so no release: see test_runner

    assert ("SR010", place, f"{place} is a link that leads out of the release, or nowhere") in findings(release)


def test_a_name_that_is_no_text_is_a_finding(release):
    """Bytes that are not UTF-8 are shown escaped, and the file is left alone."""
    with open(os.fsencode(release) + b"/layer_1/\xff.md", "wb") as file:
        file.write(b"x")

    assert codes(release) == {"SR004"}


def test_names_that_differ_by_case_alone_are_findings(release):
    """On some machines they are one file."""
    (release / "readme.md").write_text("again\n")

    assert [f[0] for f in findings(release)].count("SR004") == 2


def test_a_file_with_the_name_of_a_folder_is_a_finding(release):
    """`LAYER_1` and `layer_1/…` cannot both be there on some machines; nor can a device of Windows."""
    (release / "LAYER_1").write_text("x\n")
    (release / "nul.txt").write_text("x\n")

    sentences = [f[-1] for f in findings(release) if f[0] == "SR004"]
    assert len(sentences) == 2
    assert any('the file "LAYER_1" has the name of the folder "layer_1"' in sentence for sentence in sentences)


def test_two_spellings_of_one_name_are_findings(release):
    """An é of one character and one of two look the same, and are one file on some machines."""
    for name in ("caf\u00e9.md", "cafe\u0301.md", "CAFE\u0301.md"):
        (release / name).write_text("x")

    sentences = [message for code, _, message in findings(release) if code == "SR004"]

    assert len(sentences) == 3
    assert sum("are one name, written in two ways in Unicode" in sentence for sentence in sentences) == 1
    assert sum("by case alone" in sentence for sentence in sentences) == 2


def test_a_very_long_path_is_a_finding(release):
    """The deepest folders that a system allows are listed without a traceback."""
    deep = os.open(release, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=deep)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)

    ((code, _, message),) = findings(release)

    assert code == "SR013"
    assert message.endswith("/" + "d" * 200 + " is a folder that cannot be listed")


@pytest.mark.parametrize(
    "place", [f"{TOPK}/pipe", f"{TOPK}/pipe.dat", f"{TOPK}/cfg.json", "index.json", "manifest.json"]
)
def test_a_pipe_never_blocks(release, place):
    """Reading a pipe without a writer would wait for ever; validation ends within seconds."""
    (release / place).unlink(missing_ok=True)
    os.mkfifo(release / place)

    done = run_validate(release, timeout=30)

    assert done.returncode == (5 if place == "manifest.json" else 1)
    if place != "manifest.json":
        assert "SR013" in {finding["code"] for finding in json.loads(done.stdout)["findings"]}


def test_a_card_that_is_too_large_to_be_read_is_a_finding(release):
    """Else no rule about cards would find anything in it."""
    os.truncate(release / "README.md", 30_000_000)

    assert "SR512" in {code for code, _, _ in findings(release)}


def test_a_file_that_may_not_be_read_is_named_by_its_path(pristine):
    """And the hint is to make it readable."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        release = Path(shutil.copytree(pristine, Path(scratch) / "release"))
        for path in release.rglob("*.safetensors"):
            path.chmod(0o644)
        (release / "layer_1/topk/cfg.json").chmod(0)
        validate(pristine)  # every module is imported before privileges are dropped
        try:
            if os.geteuid() == 0:
                os.seteuid(65534)
            found = validate(release).findings
        finally:
            os.seteuid(os.getuid())
        denied = {(f.path, f.hint) for f in found if f.message.startswith("cfg.json cannot be read")}
        assert denied == {("layer_1/topk/cfg.json", "Make it readable.")}


@pytest.mark.parametrize("folder", ["layer_1", "layer_1/topk"])
def test_a_folder_that_may_not_be_listed_is_a_finding(pristine, folder):
    """Its files count as missing; the rest of the report stands."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        release = Path(shutil.copytree(pristine, Path(scratch) / "release"))
        (release / folder).chmod(0)
        validate(pristine)  # every module is imported before privileges are dropped
        try:
            if os.geteuid() == 0:
                os.seteuid(65534)
            found = findings(release)
        finally:
            os.seteuid(os.getuid())
        assert ("SR013", folder, f"{folder} is a folder that cannot be listed") in found
        assert {code for code, _, _ in found} == {"SR002", "SR013", "SR423"}


# --- code -------------------------------------------------------------------------------------------------------------


class Payload:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["weights.pt", "layer_1/topk/x.bin", "x.dat", "golden", "notes.txt", "x.json"])
def test_a_pickle_is_found_and_never_loaded(release, name, protocol):
    """SR005 by suffix or by the first bytes; its payload would leave a mark, and there is none."""
    mark = release.parent / "the pickle ran"
    (release / name).write_bytes(pickle.dumps(Payload(mark), protocol=protocol))

    assert findings(release, "data") == [("SR005", name, f"{name} is, or can hold, a pickle")]
    assert not mark.exists()


@pytest.mark.parametrize("name", ["sae_weights.safetensors", "golden.safetensors", "cfg.json"])
def test_a_pickle_under_the_name_of_a_file_that_is_read_never_runs(release, name):
    """It does not parse, and that is all that happens."""
    mark = release.parent / "the pickle ran"
    (release / TOPK / name).write_bytes(pickle.dumps(Payload(mark)))
    reindex(release)

    assert codes(release, "data") & {"SR200", "SR420", "SR100"}
    assert not mark.exists()


@pytest.mark.parametrize("level", ["layout", "header", "weights", "data"])
def test_nothing_is_changed_inside_or_beside_the_release(release, level):
    """The same files with the same bytes and times stand there after a validation, also of a bad release."""
    (release / TOPK / "optimizer_state.pt").write_bytes(b"x")
    (release / "link").symlink_to(release.parent)
    (release.parent / "neighbour.json").write_text("{")
    before = snapshot(release.parent)

    validate(release, level)

    assert snapshot(release.parent) == before
