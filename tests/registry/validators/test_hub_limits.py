"""SR605: what is larger than the Hub takes, made of files that take no room."""

import os
from pathlib import Path

import pytest

from saereg.registry.files.folder import Entry
from saereg.registry.files.place import FolderPlace
from saereg.registry.validators.checks.hub import GB, MOST_ENTRIES, MOST_FILES, sizes_taken
from saereg.registry.validators.runner import validate
from saereg.registry.validators.subject import ReleaseSubject
from saereg.schemas.report import Finding
from saereg.schemas.settings import Settings
from tests.releases import tiny_release

ONLY = Settings(select=("SR605",))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """Read only."""
    return tiny_release(tmp_path_factory.mktemp("limits"), checkpoints=False)


class Many(FolderPlace):
    """A release with more files than this machine should have."""

    def __init__(self, folder: Path, more: list[Entry]) -> None:
        super().__init__(folder)
        self.more = more

    def entries(self) -> tuple[Entry, ...]:
        return (*super().entries(), *self.more)


def found(place: FolderPlace | Path) -> list[Finding]:
    if isinstance(place, Path):
        return list(validate(place, "layout", settings=ONLY).findings)
    return list(sizes_taken(ReleaseSubject(place)))  # other checks take long on so many files


SIZES = [
    (50 * GB, None, None),
    (50 * GB + 1, "warning", "big.txt has 50.0 GB; more than 50 GB can be downloaded with hf-xet alone"),
    (500 * GB, "warning", "big.txt has 500.0 GB; more than 50 GB can be downloaded with hf-xet alone"),
    (501 * GB, "error", "big.txt has 501.0 GB; the Hub takes files of up to 500 GB"),
]


@pytest.mark.parametrize(("size", "severity", "message"), SIZES)
def test_a_file_that_is_too_large_is_found_by_its_size_alone(tmp_path, size, severity, message):
    """A file with a hole of that size, which is never read."""
    release = tiny_release(tmp_path, checkpoints=False)
    (release / "big.txt").touch()
    try:
        os.truncate(release / "big.txt", size)
    except OSError:
        pytest.skip("this file system has no files of such a size")
    if severity is None:
        assert found(release) == []
        return
    (finding,) = found(release)
    assert (finding.severity, finding.message, finding.path) == (severity, message, "big.txt")
    assert finding.hint


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_a_folder_with_too_many_entries_is_an_error(original, kind):
    """Files and folders count alike, those of other folders not."""
    below = "/cfg.json" if kind == "folders" else ""
    more = [Entry(f"saes/{i}{below}", 1, "file") for i in range(MOST_ENTRIES)]
    assert found(Many(original, more)) == []

    (finding,) = found(Many(original, [*more, Entry("saes/one/more", 1, "file")]))
    assert (finding.severity, finding.path) == ("error", "saes")
    assert finding.message == "the folder saes has 10,001 entries; the Hub takes 10,000"


def test_the_root_counts_as_a_folder(original):
    """Its finding names the index, which lists the files."""
    (finding,) = found(Many(original, [Entry(f"{i}.txt", 1, "file") for i in range(MOST_ENTRIES)]))
    assert (finding.severity, finding.path) == ("error", "index.json")
    assert finding.message.startswith("the root of the release has 10,0")


def test_very_many_files_are_a_warning(original):
    """However well they are put into folders."""
    more = [Entry(f"layer_{i % 100}/{i}/cfg.json", 1, "file") for i in range(MOST_FILES)]
    (finding,) = found(Many(original, more))
    assert (finding.severity, finding.path) == ("warning", "index.json")
    count = len(FolderPlace(original).entries()) + MOST_FILES
    assert finding.message == f"there are {count:,} files; beyond 100,000 the Hub becomes slow"


HOSTILE = [
    ("base_model: {id: tiny/model}", "`base_model` has a mapping, which is no id of a repository"),
    ("datasets: [~, [x]]", "`datasets` has an empty entry, which is no id of a repository"),
    (f"datasets: '{'x' * 500}'", f"`datasets` has '{'x' * 76}…, which is no id of a repository"),
    ("datasets: https://huggingface.co/datasets/c4", "'https://huggingface.co/datasets/c4'"),
    ("datasets: 2024", "`datasets` has 2024, which is no id of a repository"),
    ("language: {en: 1}", "`language` has a mapping, which is no code in small letters"),
    ("tags: [[a]]", "`tags` has a list, which is no text"),
    ("model-index: []", "`model-index` is no list of models"),
    ("model-index: [1]", "`model-index` has no `name` in model 0"),
    ("model-index: [{name: a}]", "`model-index` has no list of `results` in model 0"),
    ("model-index: [{name: a, results: [1]}]", "`model-index` has no keys in result 0 of model 0"),
    ("model-index: [{name: a, results: [{task: 1}]}]", "has no `task.type` in result 0 of model 0"),
]


@pytest.mark.parametrize(("line", "message"), HOSTILE)
def test_no_value_of_the_front_matter_is_too_odd_to_be_named(original, line, message):
    """SR513: of any type and length, in one short sentence."""
    found = _refusals(original, line)
    assert any(message in sentence for sentence in found)
    assert len(found) <= 2
    assert max(map(len, found)) < 200


def test_of_many_wrong_values_a_few_are_named(original):
    """A front matter may hold a hundred thousand."""
    assert len(_refusals(original, f"datasets: [{', '.join(f'a {i}' for i in range(3000))}]")) == 5


def _refusals(original: Path, line: str) -> list[str]:
    place = Carded(original, f"---\n{line}\n---\n# Tiny\n")
    report = validate(place, "layout", settings=Settings(select=("SR513",)))
    return [finding.message for finding in report.findings]


class Carded(FolderPlace):
    """A release with another card."""

    def __init__(self, folder: Path, card: str) -> None:
        super().__init__(folder)
        self.card = card.encode()

    def read(self, path: str) -> bytes:
        return self.card if path == "README.md" else super().read(path)
