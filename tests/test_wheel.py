"""The built wheel in an empty environment with nothing but what it declares: an undeclared import fails here."""

import json
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from saereg.schemas.export import DOCUMENTS, path_of
from tests.releases import tiny_release

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without a network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", str(out), str(ROOT)], check=True, timeout=120)
    (built,) = out.glob("saereg-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of an environment that holds the wheel and the closure of its base dependencies."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (metadata,) = packages.glob("saereg-*.dist-info/METADATA")
    declared = re.findall(r"^Requires-Dist: (.*)$", metadata.read_text(encoding="utf-8"), re.MULTILINE)
    for name in _closure(declared):
        _link(name, packages)
    return home / "bin/python"


def _closure(declared: list[str]) -> set[str]:
    """Return the names of all distributions that requirements ask for, directly or not, without any extra of ours."""
    pending = [(Requirement(text), "") for text in declared]
    seen: set[tuple[str, str]] = set()
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (requirement.name.lower(), wanted) not in seen:
                seen.add((requirement.name.lower(), wanted))
                needs = distribution(requirement.name).requires or []
                pending += [(Requirement(text), wanted) for text in needs]
    return {name for name, _ in seen}


def _link(name: str, packages: Path) -> None:
    """Make one installed distribution available."""
    for file in distribution(name).files or []:
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        place = packages / file
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(Path(str(file.locate())))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a built release in `release`; made with torch, read without."""
    folder = tmp_path_factory.mktemp("place")
    tiny_release(folder, checkpoints=False)
    return folder


@pytest.fixture
def saereg(python, place):
    """Run a command in the empty environment."""

    def run(*words: str) -> subprocess.CompletedProcess:
        return _run(python, place, "-m", "saereg", *words)

    return run


def _run(python: Path, place: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(python), "-I", *words], cwd=place, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_wheel_holds_one_package_its_licence_and_every_schema(wheel):
    """Nothing at the top level but saereg; no tests."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"saereg", f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info"}
    assert {f"saereg/schemas/json/{path_of(name).name}" for name in DOCUMENTS} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name or name.endswith(".pyc")]


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    """And is the same."""
    archive = zipfile.ZipFile(wheel)
    ours = {
        path.relative_to(ROOT).as_posix()
        for kind in ("py", "j2", "yaml", "js", "css")
        for path in (ROOT / "saereg").rglob(f"*.{kind}")
    }
    assert ours == {name for name in archive.namelist() if name.endswith((".py", ".j2", ".yaml", ".js", ".css"))}


def test_both_commands_are_declared(wheel):
    """`saereg`, and `hf saereg` through its extension mechanism."""
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert archive.read(name).decode().split("\n\n")[0].splitlines()[1:] == [
        "hf-saereg = saereg.cli:main",
        "saereg = saereg.cli:main",
    ]


@pytest.mark.parametrize("module", ["torch", "numpy", "transformers", "sae_lens", "pytest", "tests", "hatchling"])
def test_the_environment_is_empty(python, place, module):
    """Otherwise the tests below would prove nothing."""
    answer = _run(python, place, "-c", f"import {module}")
    assert answer.returncode == 1
    assert f"No module named '{module}'" in answer.stderr


def test_every_declared_library_can_be_imported(python, place):
    """No declaration that cannot be met."""
    code = "import click, pydantic, jsonschema, huggingface_hub, safetensors, jinja2, yaml"
    assert _run(python, place, "-c", code).stderr == ""


def test_help_validate_and_query_work_without_torch(saereg):
    """Layout and header levels, and everything that reads JSON."""
    assert saereg("--help").returncode == 0
    validated = saereg("validate", "release", "--level", "header")
    assert (validated.returncode, validated.stderr) == (0, "next: saereg validate release --level weights\n")
    listed = saereg("ls", "release", "--where", "kind = sae", "--format", "ids")
    assert (listed.returncode, listed.stdout) == (0, "layer_1/topk\nlayer_1/jumprelu\n")
    assert "round trip" not in saereg("show", "release").stdout
    assert "golden vectors" in saereg("show", "release:layer_1/topk").stdout
    assert saereg("schema", "manifest").returncode == saereg("rule", "SR421").returncode == 0


def test_the_coverage_table_is_made_without_torch_and_without_a_catalogue(saereg):
    """Its facts are in the wheel."""
    answer = saereg("coverage", "--format", "csv", "--columns", "checkpoints", "--catalog", "none.sqlite")
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    answer = saereg("coverage", "--format", "csv", "--columns", "checkpoints")
    assert "Pythia,pythia,checkpoints,yes,154 steps,checkpoints-schedule,true," in answer.stdout


def test_the_public_interface_works_without_torch(python, place):
    """Open, find, best, validate."""
    code = (
        "import saereg; r = saereg.open('release'); a = r.find(kind='sae', l0__lt=64).best('explained_variance');"
        "print(a.id, len(saereg.find(['release', 'release'], layer=1)), saereg.validate('release').errors)"
    )
    answer = _run(python, place, "-c", code)
    assert (answer.stdout, answer.stderr) == ("layer_1/topk 6 ()\n", "")


def test_a_page_is_made_without_torch_and_without_plots(saereg, place):
    """A line says what it lacks."""
    made = saereg("site", "release", "-o", "page")
    assert made.returncode == 0
    assert (place / "page/index.html").is_file()
    assert "Plots are left out of this page: it was made without saereg[plots]." in made.stderr
    shutil.rmtree(place / "page")


def test_publishing_works_without_torch_and_says_how_deep_it_looked(saereg, place):
    """The second time it changes nothing."""
    first = saereg("publish", "release", "dir:out")
    assert first.returncode == 0
    note = "note: validating at level header; level weights needs pip install 'saereg[torch]'\n"
    assert first.stderr == note + "next: saereg ls out\n"
    assert "validated at level header: 0 errors" in first.stdout
    second = saereg("publish", "release", "dir:out", "--format", "json")
    assert json.loads(second.stdout)["changed"] is False
    shutil.rmtree(place / "out")


LACKING = [
    ("validate release --level weights", "validating at level weights needs", "torch"),
    ("validate release --level data", "validating at level data needs", "torch"),
    ("build release", "building an index needs", "torch"),
    ("publish release dir:out --level weights", "validating at level weights needs", "torch"),
    (
        "train collect --model m --text builtin:prose --site residual:1 --out c --rows 9",
        "running a model needs",
        "train",
    ),
    (
        "train sae --collection c --site s --release r --license mit --id a "
        "--architecture topk --k 3 --d-sae 9 --tokens 9",
        "training needs",
        "train",
    ),
    ("demo --out demo-out", "the demo needs", "demo"),
    ("features release:layer_1/topk", "encoding rows needs", "torch"),
    ("plot frontier --release release -o f.svg", "drawing figures needs", "plots"),
]


@pytest.mark.parametrize(("words", "what", "extra"), LACKING)
def test_a_verb_that_needs_an_extra_names_it(saereg, place, words, what, extra):
    """One line, exit 2, nothing written."""
    answer = saereg(*words.split())
    assert (answer.returncode, answer.stdout) == (2, ""), answer.stderr
    assert answer.stderr.startswith(f"error: {what} ")
    assert answer.stderr.endswith(f"which is not installed: pip install 'saereg[{extra}]'\n")
    assert answer.stderr.count("\n") == 1
    assert sorted(path.name for path in place.iterdir()) == ["release"]


def test_loading_without_torch_names_the_extra(python, place):
    """Also from Python."""
    answer = _run(python, place, "-c", "import saereg; saereg.load('release:layer_1/topk')")
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("saereg.errors.MissingExtraError: loading a dictionary needs ")
    assert last.endswith(", which is not installed: pip install 'saereg[torch]'")
