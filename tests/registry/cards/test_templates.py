"""Templates of a user: they take the place of saereg's, say where they fail, and cannot hang the tool."""

import shutil

import pytest

from saereg.errors import UsageError
from saereg.registry.build import build
from saereg.registry.cards import template_runner
from saereg.registry.cards.blocks import parts_of, replaced
from saereg.registry.cards.card import Card
from saereg.registry.cards.skeleton import first_card
from saereg.registry.cards.templating import rendered
from saereg.registry.cards.write import write_card
from saereg.registry.validators.runner import validate
from saereg.schemas.index import Index
from saereg.schemas.manifest import Manifest
from tests.releases import tiny_release


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_release(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def documents(root) -> tuple[Manifest, Index]:
    return Manifest.read(root / "manifest.json"), Index.read(root / "index.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder, so that one process serves all tests of this file."""
    place = tmp_path_factory.mktemp("templates")
    (place / "parts").mkdir()
    yield place
    template_runner._end_all()


@pytest.fixture
def templates(folder):
    yield folder
    for path in folder.rglob("*.j2"):
        path.unlink()


PART = "<!-- saereg:begin inventory -->\nold\n<!-- saereg:end inventory -->\n"


def test_a_part_of_a_user_is_marked_and_kept_by_whoever_has_not_the_template(documents, templates):
    """It is theirs until the word is taken out of the mark again."""
    (templates / "parts/inventory.md.j2").write_text(
        "{% for a in manifest.artifacts %}\n* {{ a.id | code }}\n{% endfor %}\n"
    )

    mine = replaced(PART, *documents, templates=templates)

    assert mine.startswith("<!-- saereg:begin inventory custom -->\n\n* `layer_1/topk`\n* `layer_1/jumprelu`\n")
    assert replaced(mine, *documents, templates=templates) == mine
    assert replaced(mine, *documents) == mine
    given_back = replaced(mine.replace(" custom -->", " -->"), *documents)
    assert "| id |" in given_back
    assert "custom" not in given_back


def test_numbers_in_a_part_of_a_user_are_held_against_the_index(root, documents, templates, tmp_path):
    """Its text is not compared with ours, its tables are, like those that an author wrote."""
    copy = tmp_path / "release"
    shutil.copytree(root, copy)
    table = "| id | L0 (`l0`) |\n|---|---|\n| layer_1/topk | {} |\n"
    found = {}
    for number in ("2.917", "7.5"):
        (templates / "parts/inventory.md.j2").write_text(table.format(number))
        (copy / "README.md").write_text((root / "README.md").read_text() + PART)
        write_card(copy, *documents, templates)
        found[number] = [(f.code, f.found) for f in validate(copy).findings if f.code.startswith("SR50")]

    assert found == {"2.917": [], "7.5": [("SR508", "7.5")]}


def test_the_skeleton_and_a_file_that_others_include_are_the_users(documents, templates):
    """What is not in the folder is saereg's."""
    (templates / "card.md.j2").write_text(
        '{% include "head.md.j2" %}\n\n<!-- saereg:begin evidence -->\n<!-- saereg:end evidence -->\n'
    )
    (templates / "head.md.j2").write_text("# {{ title }} of {{ manifest.release.name }}")

    card = Card(first_card(*documents, templates))

    assert [heading.text for heading in card.headings] == ["Tiny dictionaries of tiny-saes", "Evidence"]
    assert [part.custom for part in parts_of(card)[0]] == [False]
    assert card.front_matter.values["license"] == "mit"


def test_the_warning_of_what_is_withdrawn_is_never_a_users(documents, templates):
    """Nobody can template it away."""
    from saereg.registry.withdrawal import withdraw
    from saereg.schemas.withdrawal import Withdrawal

    manifest, index = documents
    (templates / "parts/withdrawn.md.j2").write_text("all is well\n")
    mark = Withdrawal.made(version="1.0.0", kind="yanked", reason="wrong hook", date="2026-01-02")

    card = replaced("# T\n", withdraw(manifest, mark), index, templates=templates)

    assert "wrong hook" in card
    assert "all is well" not in card


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("ok\n{{ nothing.there }}\n", 2, "'nothing' is undefined"),
        ("ok\n\n{% for %}\n", 3, "Expected"),
        ("a\n{{ 1 / 0 }}\n", 2, "ZeroDivisionError"),
        ('a\n\n\n{% include "gone.j2" %}\n', 4, "there is no template 'gone.j2'"),
        ("{{ ''.__class__.__mro__ }}\n", 1, "unsafe"),
        ("a\n{{ title | no_such_filter }}\n", 2, "no_such_filter"),
    ],
)
def test_a_template_that_fails_is_one_line_with_its_file_and_line(templates, source, line, words):
    """Whatever it does; the next one is rendered all the same."""
    (templates / "x.j2").write_text(source)

    with pytest.raises(UsageError) as told:
        rendered("x.j2", templates, title="T")

    assert f"{templates / 'x.j2'}:{line}: " in str(told.value)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_a_template_that_is_no_text_is_one_line_too(templates):
    """With its file."""
    (templates / "x.j2").write_bytes(b"\xff\xfe")

    with pytest.raises(UsageError, match=r"x\.j2.*UnicodeDecodeError"):
        rendered("x.j2", templates)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "took more"),
        ("{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "writes more than 4 MiB"),
        ("{{ 'x' * 9999999999 }}", "memory"),
        ("{% set x = namespace(v='a') %}{% for a in range(60) %}{% set x.v = x.v ~ x.v %}{% endfor %}", "memory|more"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
    ],
)  # fmt: skip
def test_a_template_that_would_never_end_or_fill_the_machine_is_stopped(templates, monkeypatch, source, words):
    """Time, memory and length are bounded; the next template has a fresh process."""
    monkeypatch.setattr(template_runner, "SECONDS", 1.0)
    (templates / "x.j2").write_text(source)
    with pytest.raises(UsageError, match=words):
        rendered("x.j2", templates)
    (templates / "x.j2").write_text("{{ 1 + 1 }}")
    monkeypatch.setattr(template_runner, "SECONDS", 20.0)
    assert rendered("x.j2", templates) == "2"


def test_a_card_is_as_it_was_when_a_template_fails(root, documents, templates, tmp_path):
    """Nothing is half written, and a folder that is not there is said."""
    copy = tmp_path / "release"
    shutil.copytree(root, copy)
    (copy / "README.md").write_text(PART)
    (templates / "parts/inventory.md.j2").write_text("{{ nothing }}")

    with pytest.raises(UsageError, match=r"inventory\.md\.j2:1"):
        write_card(copy, *documents, templates)
    with pytest.raises(UsageError, match="no folder of templates"):
        write_card(copy, *documents, tmp_path / "gone")

    assert (copy / "README.md").read_text() == PART


def test_building_with_a_template_and_without_it_gives_no_finding(root, templates, tmp_path):
    """Through the front door: the part stays, the digests are right."""
    from saereg.registry.presenting import Presentation

    copy = tmp_path / "release"
    shutil.copytree(root, copy)
    (copy / "README.md").unlink()
    (templates / "parts/licences.md.j2").write_text("## Terms\n\nAs {{ licence }} says.\n")

    build(copy, presentation=Presentation(figures=False, features=False, cards=False, templates=templates))
    card = (copy / "README.md").read_text()
    build(copy)

    assert "<!-- saereg:begin licences custom -->\n\n## Terms\n\nAs mit says.\n" in card
    assert (copy / "README.md").read_text() == card
    assert validate(copy).findings == ()
