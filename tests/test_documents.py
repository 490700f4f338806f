"""The documents say what the code does: examples parse, names exist, links lead somewhere."""

import importlib.util
import re
from pathlib import Path
from typing import get_args

import pytest

from saereg.cli import GROUPS
from saereg.registry.architectures import ARCHITECTURES
from saereg.registry.formats import FORMATS
from saereg.registry.metrics.definitions import DEFINITIONS, PER_SOURCE
from saereg.registry.validators.rules import RULES
from saereg.schemas.manifest import Architecture, Manifest
from saereg.schemas.metrics import MetricId
from saereg.schemas.recipe import ARGUMENTS, Operation
from saereg.schemas.semantics import Activation, Normalization, Preprocessing, Semantics

ROOT = Path(__file__).parent.parent

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def text_of(name: str) -> str:
    """Return a document."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_refers_to_exists(document):
    """Links, files of the repository, verbs and rules."""
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in link or (document.parent / link).exists(), link
    for path in re.findall(r"`((?:saereg|tests|docs)/[\w./]+)`", text):
        assert (ROOT / path).exists() or "NAME" in path or "FAMILY" in path or "VERB" in path, path
    verbs = {verb for group in GROUPS.values() for verb in group}
    for verb in re.findall(r"(?m)(?:`|^)saereg ([a-z]+)\b", text):
        assert verb in verbs, verb
    for code in re.findall(r"\bSR\d{3}\b", text):
        assert code in RULES, code


def test_the_example_of_a_manifest_is_one():
    """Strictly."""
    (example,) = re.findall(r"```json\n(.*?)```", text_of("docs/manifest.md"), re.DOTALL)
    manifest = Manifest.from_text(example, "docs/manifest.md")
    assert manifest.artifacts[0].sparsity.k == 64


def test_every_metric_has_its_formula_and_only_computed_ones_are_called_so():
    """In one of two tables."""
    computed, named = text_of("docs/metrics.md").split("## Named, not computed")
    ids = set(DEFINITIONS) | set(PER_SOURCE)
    assert set(re.findall(r"^\| `(\w+)` \|", computed, re.MULTILINE)) == ids
    assert set(re.findall(r"^\| `(\w+)` \|", named, re.MULTILINE)) == set(get_args(MetricId)) - ids


def test_every_switch_architecture_and_normalization_is_explained():
    """By its name."""
    text = text_of("docs/semantics.md")
    switches = set(Semantics.model_fields) - {"normalization"}
    switches |= {f"normalization.{name}" for name in Normalization.model_fields}
    assert switches == set(re.findall(r"^\| `([\w.]+)` \|", text.split("## Architectures")[0], re.MULTILINE))
    names = (*ARCHITECTURES, *get_args(Architecture), *get_args(Activation), *get_args(Preprocessing))
    for name in names:
        assert f"`{name}`" in text + text_of("docs/formats.md"), name


def test_every_step_of_a_recipe_is_explained():
    """By its name, its arguments beside it."""
    rows = [line.split("|") for line in text_of("docs/manifest.md").splitlines() if line.startswith("| `")]
    explained = {name: set(re.findall(r"`(\w+)`", row[2])) for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    for name in get_args(Operation):
        assert set(ARGUMENTS.get(name, ())) <= explained.get(name, {None}), name


def test_every_target_of_make_that_a_document_names_exists():
    """`make check` and the others."""
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?m)(?:`|^ {0,4})make ([a-z-]+)", document.read_text(encoding="utf-8")))
        assert named <= targets, document


def test_the_generated_parts_of_the_page_of_formats_are_as_the_code_says():
    """`make docs` writes them."""
    place = ROOT / "docs/generate.py"
    spec = importlib.util.spec_from_file_location("generate", place)
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    formats_page = text_of("docs/formats.md")
    assert generate.page(formats_page) == formats_page
    for name in FORMATS:
        assert f"### {name}\n" in formats_page
