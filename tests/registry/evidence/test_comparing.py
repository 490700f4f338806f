"""A transposed matrix against its source, tile by tile, and memory that does not grow with the file."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from saereg.registry.evidence import comparing
from saereg.registry.files.flat import open_safetensors
from saereg.registry.files.spans import span_of


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.float8_e5m2]),
    tile=st.integers(1, 600),
    run=st.integers(1, 9),
    rows_at_once=st.integers(1, 9),
    columns_at_once=st.integers(1, 9),
    data=st.data(),
)
def test_whatever_the_tiles_a_flipped_bit_is_found_where_it_is(
    rows, columns, dtype, tile, run, rows_at_once, columns_at_once, data
):
    """The first of them, in the order of the export's bytes."""
    W = torch.arange(rows * columns).remainder(7).to(dtype).reshape(rows, columns)
    export = W.T.clone(memory_format=torch.contiguous_format)
    position = data.draw(st.tuples(st.integers(0, columns - 1), st.integers(0, rows - 1)))
    export.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[W.itemsize])[position] ^= 1
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "TILE_BYTES", tile)
        patch.setattr(comparing, "LEAST_RUN", run)
        patch.setattr(comparing, "PATCH_ROWS", rows_at_once)
        patch.setattr(comparing, "PATCH_COLUMNS", columns_at_once)
        save_file({"W": export}, Path(folder, "exported"))
        save_file({"W": W}, Path(folder, "source"))
        both = (span_of(open_safetensors(Path(folder, name)), "W") for name in ("exported", "source"))
        tiled = comparing.Tiled(*both)
        tiled.finish()

    assert (tiled.difference.bitwise, tiled.difference.first) == (False, position[0] * rows + position[1])


LOOK = """
import json, os, re, struct, sys
from pathlib import Path

from saereg.registry.evidence.round_trip import look
from saereg.registry.files.header import read_header
from saereg.schemas.manifest import SourceCheckpoint
from saereg.schemas.recipe import moved, transposed

folder = Path(sys.argv[1])


def sparse(path, shapes):
    position, head = 0, {}
    for name, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, 8 + len(text) + position)


def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


plan = {"W_enc": transposed("W"), "W_dec": moved("W")}
grown = []
for latents in (2048, int(sys.argv[2])):
    sparse(folder / "export", {"W_enc": [2048, latents], "W_dec": [latents, 2048]})
    sparse(folder / "source", {"W": [latents, 2048]})
    source = SourceCheckpoint(path="source", sha256="0" * 64, tensors=plan)
    found = look(folder / "export", read_header(folder / "export"), folder / "source", source)
    assert all(tensor.bitwise for tensor in found.tensors.values()), found
    grown.append(peak())
print(*grown)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process alone is Linux' to tell")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Ten times the tensors, half a gigabyte in all: the tiles are as large, and there are more of them."""
    command = [sys.executable, "-c", LOOK, str(tmp_path), "20000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    small, large = map(int, done.stdout.split())

    assert large - small < 16 * 1024**2
