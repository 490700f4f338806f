"""Transfer: bars of the release's own evidence, or of a matrix that it ships."""

import pytest

from saereg.errors import DocumentError
from saereg.registry.figures import matrices, transfer
from saereg.registry.transfer.matrix import transfer_matrix
from saereg.schemas.index import Index, IndexArtifact, IndexFile
from saereg.schemas.metrics import Measurement
from saereg.schemas.transfer import TransferCorpus, TransferDictionary
from tests.registry.figures.evidence import SEMANTICS
from tests.registry.figures.planted import release, rows_of, sae

CORPORA = {"prose": "a" * 64, "code": "b" * 64}

NUMBERS = {("p", "prose"): (0.9, 0.1), ("p", "code"): (0.6, 0.4), ("c", "prose"): (0.7, 0.3), ("c", "code"): (0.8, 0.2)}
"""(dictionary, corpus) → explained variance, FVU."""

HOME = {"p": "prose", "c": "code"}


def measured(dictionary: str, corpus: str) -> list[Measurement]:
    """Return the numbers of a cell."""
    facts = {"evaluation": corpus, "data_sha256": CORPORA[corpus], "rows": 100, "dtype": "float32", "tool": {}}
    pairs = zip(("explained_variance", "fvu"), NUMBERS[dictionary, corpus], strict=True)
    return [Measurement(metric=metric, value=value, **facts) for metric, value in pairs]


def opened(root, *, away: bool = True):
    """Return a release of two dictionaries, each trained on one of two data sets."""
    entries = [sae(name, training={"dataset": HOME[name]}) for name in HOME]
    artifacts = []
    for name, digest in (("p", "1" * 64), ("c", "2" * 64)):
        metrics = [m for corpus in CORPORA if away or corpus == HOME[name] for m in measured(name, corpus)]
        files = (IndexFile(path=f"{name}/sae_weights.safetensors", size=1, sha256=digest, role="weights"),)
        facts = {"id": name, "files": files, "tensors": {}, "dtype": "float32", "semantics": SEMANTICS}
        artifacts.append(IndexArtifact(**facts, metrics=tuple(metrics)))
    index = Index(generated_by={"saereg": "0"}, manifest_sha256="0" * 64, files=(), artifacts=tuple(artifacts))
    rows = {"source": "activations", "rows": 100, "site": "block"}
    evaluations = {name: rows | {"path": f"evaluation/{name}.safetensors", "dataset": name} for name in CORPORA}
    datasets = {name: {"id": f"text/{name}"} for name in CORPORA}
    return release(root, entries, index, evaluations=evaluations, datasets=datasets)


def matrix(dictionaries: dict[str, str], corpora: dict[str, str]):
    """Return a transfer matrix with these digests."""
    facts = {"reference": "there", "architecture": "standard", "d_in": 6, "d_sae": 8, "home_because": "said"}
    rows = [TransferDictionary(name=n, weights_sha256=d, home=HOME.get(n), **facts) for n, d in dictionaries.items()]
    columns = [TransferCorpus(name=n, reference="there", rows=100, data_sha256=d) for n, d in corpora.items()]
    cells = {
        (d, c): measured("p" if d == "p" else "c", c if c in CORPORA else "code") for d in dictionaries for c in corpora
    }
    return transfer_matrix(rows, columns, cells)


def bars(drawing) -> dict:
    """Return (dictionary, corpus) → (value, home, words) of the first panel."""
    first = drawing.spec["vconcat"][0] | {"datasets": drawing.spec["datasets"]}
    return {(r["dictionary"], r["corpus"]): (r["value"], r["home"], r["words"]) for r in rows_of(first)}


EXPECTED = {
    ("p", "prose"): (0.9, True, "home"),
    ("p", "code"): (0.6, False, "−0.3"),
    ("c", "prose"): (0.7, False, "−0.1"),
    ("c", "code"): (0.8, True, "home"),
}


def test_bars_come_from_the_evaluations_of_the_release(tmp_path):
    """What was trained on one data set and measured on both; the FVU as a ratio."""
    (drawing,) = transfer.draw(opened(tmp_path))
    assert bars(drawing) == EXPECTED
    words = [row["words"] for row in rows_of(drawing.spec["vconcat"][1] | {"datasets": drawing.spec["datasets"]})]
    assert sorted(set(words)) == ["1.50×", "4.00×", "home"]
    assert "code (100 rows) and prose (100 rows)" in drawing.caption
    assert drawing.alt == "explained variance of 2 dictionaries: at home from 0.8 to 0.9, away from 0.6 to 0.7."


def test_a_matrix_that_the_release_ships_stands_before_them(tmp_path):
    """Under the ids of the release, whatever the matrix calls its dictionaries; strangers are left out, and named."""
    found = opened(tmp_path, away=False)
    (tmp_path / "analysis").mkdir()
    whole = matrix({"p": "1" * 64, "c": "2" * 64, "stranger": "3" * 64}, CORPORA | {"elsewhere": "c" * 64})
    (tmp_path / matrices.TRANSFER_FILE).write_text(whole.text())
    (drawing,) = transfer.draw(found)
    assert bars(drawing) == EXPECTED
    assert "From analysis/transfer.json." in drawing.caption
    assert "Left out, as the release does not name them: stranger and elsewhere." in drawing.caption


def test_a_matrix_of_other_weights_is_not_shown(tmp_path):
    """A release that was trained again does not show the numbers of before."""
    found = opened(tmp_path, away=False)
    (tmp_path / "analysis").mkdir()
    (tmp_path / matrices.TRANSFER_FILE).write_text(matrix({"p": "9" * 64}, CORPORA).text())
    assert transfer.draw(found) == ()


def test_a_file_that_is_no_matrix_is_one_line(tmp_path):
    """It names the file."""
    found = opened(tmp_path)
    (tmp_path / "analysis").mkdir()
    (tmp_path / matrices.TRANSFER_FILE).write_text("{}")
    with pytest.raises(DocumentError, match=r"transfer\.json"):
        transfer.draw(found)


def test_nothing_is_drawn_where_nothing_left_home(tmp_path):
    """One evaluation per dictionary is no transfer."""
    assert transfer.draw(opened(tmp_path, away=False)) == ()
