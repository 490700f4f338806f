"""The documents say what the code does: examples parse, names exist, links lead somewhere."""

import importlib.util
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest

from saereg.cli import GROUPS
from saereg.cli.render.rule import markdown
from saereg.registry.architectures import ARCHITECTURES
from saereg.registry.formats import FORMATS
from saereg.registry.metrics.definitions import BATCH_MEANS, DEFINITIONS, FOREIGN, FOREIGN_PER_SOURCE, PER_SOURCE
from saereg.registry.validators.rules import RULES, rule
from saereg.schemas.manifest import Architecture, Manifest
from saereg.schemas.metrics import BATCHED, MetricId
from saereg.schemas.recipe import ARGUMENTS, Operation
from saereg.schemas.semantics import Activation, Normalization, Preprocessing, Semantics

ROOT = Path(__file__).parent.parent

MADE = ("_build", "_generated")
"""Folders of docs that `make docs` makes."""

DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if not set(MADE) & set(path.parts)
)  # fmt: skip

FENCED = re.compile(r"^(`{3,})\w*\n.*?^\1$", re.MULTILINE | re.DOTALL)
"""A block of code."""


def text_of(name: str) -> str:
    """Return a document."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_refers_to_exists(document):
    """Links, files of the repository, verbs and rules."""
    text = document.read_text(encoding="utf-8")
    code, prose = "\n".join(match[0] for match in FENCED.finditer(text)), FENCED.sub("", text)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert "://" in link or (document.parent / link).exists(), link
    for path in re.findall(r"`((?:saereg|tests|docs)/[\w./]+)`", text):
        made = set(MADE) & set(Path(path).parts)
        assert made or (ROOT / path).exists() or "NAME" in path or "FAMILY" in path or "VERB" in path, path
    verbs = {verb for group in GROUPS.values() for verb in group}
    for verb in re.findall(r"(?m)`saereg ([a-z]+)\b", prose) + re.findall(r"(?m)^saereg ([a-z]+)\b", code):
        assert verb in verbs, verb
    for named in re.findall(r"\bSR\d{3}\b", text):
        assert named in RULES, named


def test_the_example_of_a_manifest_is_one():
    """Strictly."""
    (example,) = re.findall(r"```json\n(.*?)```", text_of("docs/manifest.md"), re.DOTALL)
    manifest = Manifest.from_text(example, "docs/manifest.md")
    assert manifest.artifacts[0].sparsity.k == 64


def test_every_metric_has_its_formula_and_only_computed_ones_are_called_so():
    """In one of three tables; which of them average over batches is said."""
    text = text_of("docs/metrics.md")
    canon, model, others = (
        dict(re.findall(r"^\| `(\w+)` (.*)\|$", part, re.MULTILINE))
        for part in re.split("^## (?:With a model|Definitions of others|Claims)$", text, flags=re.MULTILINE)[:3]
    )
    losses = {name for name in get_args(MetricId) if name.startswith("ce_")}
    assert set(canon) == {*DEFINITIONS, *PER_SOURCE}
    assert set(model) == losses - set(BATCHED)
    assert set(others) == {*FOREIGN, *FOREIGN_PER_SOURCE, *BATCH_MEANS, *(losses & set(BATCHED))}
    assert set(get_args(MetricId)) == {*canon, *model, *others}
    assert {name for name, row in others.items() if row.endswith("| yes ")} == set(BATCHED)


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


@pytest.fixture(scope="module")
def generate():
    """The program that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_as_the_code_says(generate):
    """`make docs` writes it: pages of formats, validation and rules."""
    assert [path.relative_to(ROOT).as_posix() for path in generate.out_of_date()] == []
    assert sorted(path.stem for path in ROOT.glob("docs/rules/SR*.md")) == sorted(RULES)
    for name in FORMATS:
        assert f"### {name}\n" in text_of("docs/formats.md")


def test_a_page_that_is_old_missing_or_left_over_is_noticed(generate, tmp_path):
    """And nothing else is."""
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", docs, ignore=shutil.ignore_patterns(*MADE))
    for path, text in generate.pages(docs).items():
        path.write_text(text, encoding="utf-8")
    assert [path.stem for path in generate.out_of_date(docs) if path.stem in RULES] == []

    (docs / "rules/SR005.md").unlink()
    (docs / "rules/SR009.md").write_text("# SR009\n")
    (docs / "rules/SR999.md").write_text("# SR999\n")
    validate_page = docs / "validate.md"
    validate_page.write_text(validate_page.read_text(encoding="utf-8").replace("`paper`", "`papers`"))

    assert [path.name for path in generate.out_of_date(docs)] == ["SR005.md", "SR009.md", "SR999.md", "validate.md"]


@pytest.mark.parametrize("code", RULES)
def test_the_page_of_a_rule_is_clean_markdown(code):
    """Headings, fences and code spans are closed, examples in JSON are JSON, nothing vanishes as a tag."""
    page = markdown(rule(code))
    outside = FENCED.sub("(example)", page)

    assert "```" not in outside
    assert outside.count("`") % 2 == 0
    prose = re.sub(r"`[^`]*`", "", outside)
    assert not re.search(r"<[A-Za-z/!]", prose), "a tag"
    assert not re.search(r"(?<![\w*])[*_]\w", prose), "an emphasis that opens"
    assert [line for line in page.splitlines() if line != line.rstrip()] == []
    assert "\n\n\n" not in outside
    headings = re.findall(r"(?m)^#+ (.*)$", outside)
    wanted = ["What it looks at", "Why it matters", "Bad", "Good", "How to fix", "How to silence"]
    assert headings[0].startswith(f"{code}: ")
    assert headings[1:7] == wanted


def test_every_place_in_a_page_that_is_linked_exists():
    """`page.md#heading`, and links within a page."""
    for document in DOCUMENTS:
        for page, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text(encoding="utf-8")):
            target = document.parent / page if page else document
            headings = re.findall(r"(?m)^#+ (.*)$", target.read_text(encoding="utf-8"))
            anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{document.name}: {page}#{anchor}"
