"""The pages of the command line and of the documents say all that the code says, twice the same."""

import importlib.util
import json
import re
from pathlib import Path

import click
import pytest

from saereg.cli import GROUPS
from saereg.schemas.export import DOCUMENTS
from saereg.schemas.export import generate as schema

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate():
    """The program that writes them."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generate) -> dict[str, str]:
    """Path → page."""
    return generate.reference()


def leaves(command: click.Command):
    """Yield a command and those below it."""
    yield command
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from leaves(below)


def test_there_is_a_page_for_every_verb_and_every_document(pages):
    """And no other."""
    verbs = {f"cli/{verb}.md" for group in GROUPS.values() for verb in group}
    assert set(pages) == verbs | {f"schemas/{name}.md" for name in DOCUMENTS}


@pytest.mark.parametrize("verb", ["publish", "metrics", "train", "lock"])
def test_the_page_of_a_verb_has_every_option(pages, verb):
    """Of its commands too, each with the words of its help."""
    command = importlib.import_module(f"saereg.cli.{verb}").command
    page = pages[f"cli/{verb}.md"]
    for below in (c for c in leaves(command) if not hasattr(c, "lazy")):
        for parameter in below.params:
            if isinstance(parameter, click.Option) and not parameter.hidden and "--help" not in parameter.opts:
                assert re.search(rf"^```\{{option\}} .*{re.escape(parameter.opts[-1])}\b", page, re.MULTILINE), (
                    parameter
                )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_page_of_a_document_has_every_field_and_every_link_leads_to_a_record(pages, name):
    """As its JSON Schema has them."""
    page = pages[f"schemas/{name}.md"]
    root = json.loads(schema(name))
    for record in [root, *root.get("$defs", {}).values()]:
        for field in record.get("properties", {}):
            assert f"| `{field}`" in page, field
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings
    assert all(line.count("|") - line.count("\\|") == 4 for line in page.splitlines() if line.startswith("| `"))


def test_the_pages_are_written_once_and_what_is_left_over_goes(generate, pages, tmp_path):
    """What is the same keeps its time."""
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli/gone.md").write_text("# gone\n")
    generate.write_reference(pages, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.md")}
    generate.write_reference(pages, tmp_path)

    assert {path.relative_to(tmp_path).as_posix() for path in before} == set(pages)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.md")} == before
    assert all((tmp_path / name).read_text() == text for name, text in pages.items())


def test_text_of_the_code_is_no_markdown(generate):
    """But its `code` is."""
    prose = generate.generate_cli.prose
    assert prose("a <b> *c* `d_e` [f] g_h {i}") == r"a \<b\> \*c\* `d_e` \[f\] g\_h \{i\}"
