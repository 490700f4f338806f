"""The transfer study at a tiny size: every dictionary is best on the corpus that it was trained on."""

import importlib.util
import random
import re
import sys
from pathlib import Path

import pytest

from tests.tiny_models import WORDS, save_neox

SCRIPT = Path(__file__).parent.parent.parent / "examples" / "transfer" / "transfer.py"


@pytest.fixture(scope="module")
def transfer():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("examples_transfer", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_texts(folder: Path, words: list[str]) -> str:
    folder.mkdir()
    chance = random.Random(0)
    for number in range(40):
        (folder / f"{number:02d}.txt").write_text(" ".join(chance.choices(words, k=60)))
    return str(folder)


def test_the_study_ends_with_a_matrix_in_which_home_is_best(transfer, tmp_path, capsys):
    model = save_neox(tmp_path / "tiny-neox")
    texts = {
        "low": write_texts(tmp_path / "low", WORDS[:20]),
        "high": write_texts(tmp_path / "high", WORDS[20:]),
    }
    study = transfer.Study(
        tmp_path / "out",
        model=str(model),
        site="mlp:1",
        texts=texts,
        tokens=1024,
        held_out=256,
        passes=6,
        dictionaries={"baseline": (48, 0.4), "sparser": (32, 2.0)},
        batch_size=64,
        context_size=16,
    )
    transfer.run(study)
    said = capsys.readouterr()
    assert "4 artifacts, no findings at level data" in said.err
    names = ["low/baseline", "low/sparser", "high/baseline", "high/sparser"]
    for table, better in (("mse_per_element", min), ("explained_variance", max), ("fvu", min)):
        lines = said.out.split(f"\n{table}  ")[-1] if table != "mse_per_element" else said.out
        for name in names:
            cells = re.search(rf"^{name} +(\S+) +(\S+)$", lines, re.MULTILINE).groups()
            home = next(cell for cell in cells if cell.endswith("*"))
            assert better(cells, key=lambda cell: float(cell.rstrip("*"))) == home, (table, name)
    table = said.out.split("\nl1_norm  ")[1].split("\n\n")[0]
    l1 = dict(re.findall(r"^(\S+/\S+) +(\S+?)\*? +\S+$", table, re.MULTILINE))
    assert list(l1) == names
    assert float(l1["low/sparser"]) < float(l1["low/baseline"])
    assert re.search(r"mse_per_element ×  explained_variance ±  +l0 ±  l1_norm ×  +fvu ×", said.out)
