"""What runs of every kind share: ids that stay apart, and held-out rows that are written once."""

import os

import pytest
import torch
from safetensors.torch import load_file

from saereg.errors import UsageError
from saereg.trainers.runs.configs import check_apart
from saereg.trainers.runs.disk import remove_leftovers
from saereg.trainers.runs.held_out import write_held_out


@pytest.mark.parametrize("ids", [("a", "b", "a"), ("a/b", "a"), ("a", "c", "a/b/c")])
def test_an_id_in_the_folder_of_another_is_refused(ids):
    """`a/final` may be the end of the run `a`, or a run of its own: its files would be overwritten."""
    with pytest.raises(UsageError, match=f"the ids '{ids[0]}' and '{ids[-1]}' lie in one folder"):
        check_apart(ids)


@pytest.mark.parametrize(
    "one", ["evaluation", "Evaluation/a", "manifest.json", "index.json/a", "readme.md", "model.sig"]
)
def test_an_id_at_the_place_of_files_of_the_release_is_refused(one):
    with pytest.raises(UsageError, match="which a release has itself; give another id"):
        check_apart(["a", one])


def test_ids_that_differ_by_capitals_are_refused_and_those_that_stand_may_be_done_again():
    with pytest.raises(UsageError, match="the ids 'a/B' and 'A/b' differ only by capitals; give another id"):
        check_apart(["a/B", "A/b"])
    with pytest.raises(UsageError, match="the ids 'btk' and 'btk/x' lie in one folder"):
        check_apart(["btk/x"], ["btk"])
    check_apart(["btk", "btk-x"], ["btk"])


def test_ids_that_only_begin_alike_are_apart():
    check_apart(["a", "ab", "b/a", "b/ab", "b-a/a"])


def test_held_out_rows_are_written_once_and_others_are_refused(tmp_path):
    path, rows = tmp_path / "evaluation/held-out.safetensors", torch.arange(12.0).reshape(3, 4)
    write_held_out(path, {"x": rows, "target": rows.T})
    before = path.stat().st_mtime_ns
    write_held_out(path, {"x": rows, "target": rows.T})
    assert path.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"holds other rows; give this evaluation another name with evaluation.name$"):
        write_held_out(path, {"x": rows + 1, "target": rows.T})
    assert torch.equal(load_file(path)["target"], rows.T)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_runs_side_by_side_write_one_file_of_held_out_rows(tmp_path):
    """Processes of a sweep: none takes away what another is writing, and all end."""
    path, rows = tmp_path / "held-out.safetensors", {"x": torch.ones(500, 40)}
    children = []
    for _ in range(4):
        if not (child := os.fork()):
            code = 1
            try:
                for _ in range(20):
                    write_held_out(path, rows)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0, 0]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_what_a_killed_run_was_writing_there_is_removed(tmp_path):
    (tmp_path / ".held-out.safetensors.999999999.tmp").touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
