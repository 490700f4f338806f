"""Finding and reading saereg.toml and `[tool.saereg]`."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.errors import DocumentError
from saereg.registry.validators.configuration import find_settings, read_settings
from saereg.registry.validators.grading import grading_of
from saereg.registry.validators.rules import RULES
from saereg.schemas.settings import Settings

DOCUMENT = Path(__file__).parents[3] / "docs/validate.md"


def written(folder: Path, text: str, name: str = "saereg.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def refusal(path: Path) -> str | None:
    """Return why a file is refused, or None where it is read."""
    try:
        read_settings(path)
    except DocumentError as error:
        return str(error)
    return None


@pytest.fixture
def project(tmp_path):
    """A git repository with a release two folders down."""
    (tmp_path / "project/.git").mkdir(parents=True)
    (tmp_path / "project/releases/one").mkdir(parents=True)
    return tmp_path / "project"


def test_the_nearest_file_counts(project):
    """Of the release, else of a folder above it."""
    top = written(project, 'policy = "paper"')
    assert find_settings(project / "releases/one") == top

    near = written(project / "releases/one", 'policy = "ci-fast"')
    assert find_settings(project / "releases/one") == near
    assert find_settings(project / "releases") == top


def test_the_search_ends_at_the_root_of_the_repository(project):
    """What stands above it belongs to something else; .git is a file in a work tree."""
    outside = written(project.parent, 'policy = "paper"')
    assert find_settings(project / "releases/one") is None

    (project / ".git").rmdir()
    (project / ".git").write_text("gitdir: elsewhere\n")
    assert find_settings(project / "releases/one") is None

    (project / ".git").unlink()
    assert find_settings(project / "releases/one") == outside


def test_the_root_of_the_repository_itself_is_looked_at(project):
    """It is the usual place."""
    assert find_settings(project) is None
    assert find_settings(written(project, "").parent) == project / "saereg.toml"


def test_pyproject_counts_only_with_a_table_of_ours(project):
    """One without is passed by, on the way up."""
    written(project / "releases", '[project]\nname = "x"\n[tool.ruff]\n', "pyproject.toml")
    top = written(project, '[tool.saereg]\npolicy = "paper"\n', "pyproject.toml")

    assert find_settings(project / "releases/one") == top
    assert read_settings(top) == Settings(policy="paper")


def test_in_one_folder_saereg_toml_wins(project):
    """Over a table in pyproject.toml."""
    written(project, '[tool.saereg]\npolicy = "paper"\n', "pyproject.toml")
    own = written(project, "")

    assert find_settings(project / "releases/one") == own


def test_a_relative_folder_is_searched_from_where_it_is(project, monkeypatch):
    """`saereg validate .` finds the file above."""
    top = written(project, "")
    monkeypatch.chdir(project / "releases/one")

    assert find_settings(Path()) == top


def test_a_folder_or_pipe_of_that_name_is_no_configuration(project):
    """And is not opened."""
    (project / "releases/saereg.toml").mkdir()
    os.mkfifo(project / "releases/one/saereg.toml")

    assert find_settings(project / "releases/one") is None


def test_an_empty_file_is_every_default(tmp_path):
    """And so is a table without keys."""
    assert read_settings(written(tmp_path, "# nothing yet\n")) == Settings()
    assert read_settings(written(tmp_path, "[tool.saereg]\n", "pyproject.toml")) == Settings()


def test_the_example_of_the_documentation_has_every_key_and_is_read(tmp_path):
    """As saereg.toml, and its rules exist."""
    blocks = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "[[ignore]]" in block]

    settings = read_settings(written(tmp_path, example))

    assert settings.model_fields_set == set(Settings.model_fields)
    assert [entry.model_fields_set for entry in settings.ignore] == [
        {"rules", "artifacts", "reason"},
        {"rules", "paths", "reason"},
    ]
    assert settings.severity == {"SR3": "error", "SR321": "warning"}
    assert settings.tolerances == {"explained_variance": 0.01, "l0": 1.0}
    grading_of(settings, RULES)


REASONS = "'temporary' is no reason; say in a few words why the finding is accepted"

BROKEN = {
    "not toml": ("profile = saelens", "not TOML: Invalid value (at line 1, column 11)"),
    "twice": ('profile = "a"\nprofile = "b"', "not TOML: Cannot overwrite a value (at"),
    "unknown key": ('profil = "base"', "unknown key 'profil', did you mean 'profile'?"),
    "unknown key below": (
        '[[ignore]]\nrules = ["SR003"]\nreason = "they still grow"\npath = ["logs/**"]',
        "unknown key 'path', did you mean 'paths'?",
    ),
    "reason missing": ('[[ignore]]\nrules = ["SR003"]', "the required key 'reason' is missing"),
    "one word": ('[[ignore]]\nrules = ["SR003"]\nreason = "temporary"', REASONS),
    "blank reason": (
        '[[ignore]]\nrules = ["SR003"]\nreason = "          "',
        "'          ' is no reason; say in a few words why the finding is accepted",
    ),
    "no rules": ('[[ignore]]\nrules = []\nreason = "they still grow"', "at least 1 item"),
    "date": ("policy = 2026-01-01", "2026-01-01 is a date that no setting takes"),
    "time below": ("[severity]\nSR3 = 07:32:00", "07:32:00 is a time that no setting takes"),
    "nan": ("[tolerances]\nl0 = nan", "nan is a float that no setting takes"),
    "infinite": ("[tolerances]\nl0 = inf", "inf is a float that no setting takes"),
    "zero tolerance": ("[tolerances]\nl0 = 0", "greater than 0"),
    "boundless": ("[tolerances]\nexplained_variance = 2.0", "a tolerance of 2 for explained_variance lets every"),
    "unknown metric": ("[tolerances]\nev = 0.1", "'explained_variance'"),
    "unknown severity": ('[severity]\nSR3 = "fatal"', "'error', 'warning' or 'note'"),
    "no code": ('select = ["3"]', "should match pattern"),
    "list for text": ('profile = ["base"]', "valid string"),
    "text for list": ('select = "SR3"', "valid array"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_clear_line(tmp_path, name):
    """With the file, the place in it, and what is wrong."""
    text, problem = BROKEN[name]
    path = written(tmp_path, text)

    with pytest.raises(DocumentError) as caught:
        read_settings(path)

    message = str(caught.value)
    assert message.startswith(str(path))
    assert problem in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_the_place_of_a_value_that_toml_alone_has_is_named(tmp_path):
    """By its pointer."""
    with pytest.raises(DocumentError) as caught:
        read_settings(written(tmp_path, '[[ignore]]\nrules = ["SR3"]\nreason = 1979-05-27'))

    assert caught.value.pointer == "/ignore/0/reason"


def test_the_unit_of_an_error_is_not_bounded_by_one(tmp_path):
    """A squared error per row may be in the thousands."""
    settings = read_settings(written(tmp_path, "[tolerances]\nmse_per_row = 25\nl0 = 3\n"))

    assert settings.tolerances == {"mse_per_row": 25.0, "l0": 3.0}


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nsaereg = 3", "[tool]\nsaereg = [1]"])
def test_a_table_that_is_none(tmp_path, text):
    """`tool.saereg` may be anything in a file of somebody else."""
    path = written(tmp_path, text, "pyproject.toml")

    if "saereg" not in text:
        assert find_settings(tmp_path) != path
    else:
        with pytest.raises(DocumentError):
            read_settings(path)


def test_bytes_that_are_no_text_and_numbers_without_end(tmp_path):
    """Refused in one line, as is nesting without end."""
    (tmp_path / "saereg.toml").write_bytes(b'profile = "\xff"')
    texts = ["l0 = " + "9" * 5000, "select = " + "[" * 5000 + "]" * 5000, ".".join(["a"] * 5000) + " = 1"]

    with pytest.raises(DocumentError):
        read_settings(tmp_path / "saereg.toml")
    for text in texts:
        with pytest.raises(DocumentError) as caught:
            read_settings(written(tmp_path, text))
        assert len(str(caught.value)) < 500


@given(st.text())
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    """Never a traceback."""
    path = tmp_path_factory.mktemp("any") / "saereg.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    assert refusal(path) is None or str(path) in refusal(path)


VALUES = st.recursive(
    st.sampled_from(["1", '"SR3"', "nan", "2026-01-01", "true", '"error"']),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    max_leaves=6,
)


@given(st.sampled_from([*Settings.model_fields, "other"]), VALUES)
def test_any_value_of_any_key_is_read_or_refused(tmp_path_factory, key, value):
    """Never a traceback."""
    path = written(tmp_path_factory.mktemp("any"), f"{key} = {value}\n")
    assert refusal(path) is None or "\n" not in refusal(path)


def test_a_number_that_cannot_even_be_shown_is_one_line(tmp_path):
    """Hexadecimal integers have no limit of digits, and decimal ones have."""
    path = tmp_path / "saereg.toml"
    path.write_text(f"profile = 0x{'f' * 4000}\n")

    with pytest.raises(DocumentError, match="an integer of 16000 bits is no setting"):
        read_settings(path)
