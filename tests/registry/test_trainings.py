"""Snapshots of one training, how far each was trained, and logs of any make."""

import json

import pytest

from saereg.registry.release import open_release
from saereg.registry.trainings import first_key, labelled_number, log_lines, log_path, logged
from tests.releases import tiny_release


@pytest.mark.parametrize(
    ("label", "number"),
    [("50M", 5e7), ("1.5b", 1.5e9), ("tokens_300K", 3e5), ("step1000", 1e3), ("final", None), ("9e9", None)],
)
def test_the_number_in_the_name_of_a_snapshot(label, number):
    """Tokens and steps are read from the names that people give; a word is no number."""
    assert labelled_number(label) == number


def test_only_finite_numbers_of_objects_are_read(tmp_path):
    """Lists, text, truths, infinity and whole numbers beyond any float are passed over; the line is not lost."""
    lines = ["[1]", "no", "{", '{"a": 1, "b": true, "c": Infinity, "d": "x"}', '{"a": 1' + "0" * 400 + ', "e": 2}']
    (tmp_path / "log").write_text("\n".join(lines) + "\n")
    found = list(log_lines(tmp_path / "log"))
    assert found == [{"a": 1.0}, {"e": 2.0}]
    assert first_key(found, ("b", "e", "a")) == "e"
    assert first_key(found, ("a",), least=2) is None


def test_a_log_behind_a_link_out_of_the_release_is_not_read(tmp_path):
    """Numbers of a file elsewhere on the machine would be published with the figure."""
    root = tiny_release(tmp_path / "made")
    artifact = next(iter(open_release(root)))
    own = root / artifact.claim.path / "training.log"
    own.write_text(json.dumps({"tokens": 1}) + "\n")
    assert log_path(artifact) == own
    assert [one.id for one, _ in logged(open_release(root))] == [artifact.id]
    own.rename(tmp_path / "elsewhere.log")
    own.symlink_to(tmp_path / "elsewhere.log")
    assert log_path(artifact) is None
