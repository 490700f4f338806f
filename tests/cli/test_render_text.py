"""A report on the terminal: what is meant is marked, what repeats itself is counted, nothing moves the cursor."""

import json
import os
from dataclasses import replace
from itertools import pairwise

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.cli.render.context import Context
from saereg.cli.render.plain import as_text
from saereg.registry.validators.rules import RULES, rule
from saereg.schemas.jsontext import place_of
from tests.cli.reports import ORDINARY, finding, hostile, report


def text(of, context=Context()) -> str:  # noqa: B008 - frozen
    return click.unstyle(as_text(of, context))


def meant(shown: str) -> str:
    """Return what the caret line marks in the line above it."""
    above, marks = next((a, b) for a, b in pairwise(shown.split("\n")) if "^" in b)
    return above[marks.index("^") : marks.rindex("^") + 1]


def quoted(folder, source: str, pointer: str) -> str:
    (folder / "x.json").write_text(source)
    line, column = place_of(source, pointer)
    found = finding(path="x.json", line=line, column=column, pointer=pointer)
    return text(report(found), Context(folder))


MEANT = {
    "a key and its number": ('{\n  "a": 1,\n  "k": 300,\n  "b": 2\n}', "/k", '"k": 300'),
    "a key and its text": ('{"a": {"name": "x, y: \\"z\\"", "b": 1}}', "/a/name", '"name": "x, y: \\"z\\""'),
    "a key alone, before a list": ('{\n\t"steps": [1, 2]\n}', "/steps", '"steps"'),
    "an entry of a list": ('{"steps": [100, 20, 3]}', "/steps/1", "20"),
    "a key that stands before under another": ('{"x": {"k": 1}, "k": 2}', "/k", '"k": 2'),
    "a key with a character of two columns": ('{"🙂": 1, "é": 2}', "/é", '"é": 2'),
    "the parent of what is absent": ('{\n  "a": {"b": 1}\n}', "/a/c", '"a"'),
}


@pytest.mark.parametrize("name", MEANT)
def test_the_caret_marks_what_is_meant(tmp_path, name):
    """By its column, on the line it stands on."""
    source, pointer, expected = MEANT[name]
    assert meant(quoted(tmp_path, source, pointer)) == expected


def test_a_document_of_one_long_line_is_cut_around_what_is_meant(tmp_path):
    """Weights pasted into JSON, minified."""
    source = json.dumps({"w": list(range(5000)), "k": 300, "v": list(range(5000))})
    shown = quoted(tmp_path, source, "/k")
    assert meant(shown) == '"k": 300'
    assert max(len(line) for line in shown.splitlines()) < 200
    assert shown.count("…") == 2


def test_a_finding_has_place_problem_and_remedy():
    """In this order."""
    assert text(ORDINARY).split("\n\n")[0].splitlines() == [
        "a/cfg.json:3:5  error SR304  the site is after the final norm",
        "   expected  x    found  y",
        "   fix  mend it   (saereg rule SR304)",
    ]


def many(count: int, **fields: object):
    return report(*(finding("SR301", artifact=f"layer_{n:03}", **fields) for n in range(count)))


def test_the_same_of_many_artifacts_is_shown_for_three():
    """The others are counted, and --verbose shows them."""
    short, full = text(many(144)), text(many(144), Context(verbose=True))
    assert short.count("error SR301") == 3
    assert "\n… and 141 more of SR301 (--verbose shows all)\n" in short
    assert "144 errors" in short
    assert full.count("error SR301") == 144
    assert "more of" not in full


def test_four_are_shown_because_one_more_line_would_say_less():
    """And so are all findings of one artifact."""
    assert text(many(4)).count("error SR301") == 4
    of_one = report(*(finding("SR102", artifact="a", path="a/cfg.json", line=n) for n in range(1, 30)))
    assert text(of_one).count("error SR102") == 29


def test_rules_are_folded_one_by_one():
    """Each where its own third stands, and a rare one is not lost among them."""
    mixed = [finding("SR301", artifact=f"a{n}") for n in range(9)] + [finding("SR003", path="x")]
    mixed += [finding("SR423", artifact=f"a{n}") for n in range(6)]
    blocks = [line for line in text(report(*mixed)).splitlines() if line]
    assert [line.split("  ")[1] if "  " in line else line for line in blocks[:-1]] == [
        *["error SR301"] * 3,
        "… and 6 more of SR301 (--verbose shows all)",
        "error SR003",
        *["error SR423"] * 3,
        "… and 3 more of SR423 (--verbose shows all)",
    ]


def test_no_more_than_wanted_are_shown():
    """The rest is counted, folded ones included."""
    shown = text(many(144), Context(most=2))
    assert shown.count("error SR301") == 2
    assert "… and 142 more findings (--max-findings 2)" in shown
    assert "error SR301" not in text(many(3), Context(most=0))


def test_ignored_findings_are_counted_and_listed_only_on_demand():
    """With the reason, and the file that holds it; an ignore of nothing is named."""
    context = Context(settings="saereg.toml")
    short, full = text(ORDINARY, context), text(ORDINARY, replace(context, verbose=True))
    assert "SR301" not in short
    assert "1 error, 1 warning, 1 note (1 ignored: see saereg.toml)\nconfiguration: saereg.toml\n" in short
    assert "\nunused ignore: SR4 in logs/**\n" in short
    assert "   ignored  the fork is ours\n" in full


def test_quiet_is_the_counts_alone():
    """And what was not checked, for a clean count would say too much."""
    lines = text(ORDINARY, Context(quiet=True)).splitlines()
    assert lines[0].startswith("tiny-saes 1.0.0: 4 artifacts, level header, 90 checks: ")
    assert [line.split(":")[0] for line in lines[1:]] == ["unused ignore", "not checked"]


def test_a_line_that_holds_a_secret_is_never_shown(tmp_path):
    """Neither by the rule that found it, nor by any other that means the same line; nor by a rule nobody knows."""
    (tmp_path / "cfg.json").write_text('{\n  "token": "s3cret",\n  "k": 1\n}')
    rules = {code: rule(code) for code in RULES}
    rules["SR102"] = replace(rules["SR102"], shows_source=False)
    context = Context(tmp_path, rules=rules)
    found = [finding(code, path="cfg.json", line=2, column=3, pointer="/token") for code in ("SR102", "SR103")]
    assert "s3cret" not in text(report(*found), context)
    assert "s3cret" in text(report(found[1]), context)
    assert "s3cret" not in text(report(finding("ACME001", path="cfg.json", line=2)), context)


def test_nothing_outside_the_release_is_read(tmp_path):
    """A report may come from anywhere, and a name in it may lead anywhere."""
    root = tmp_path / "release"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("s3cret\n")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(root / "pipe.txt")
    (root / "odd.txt").write_bytes(b"\xff\n")
    names = ["../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "pipe.txt", "odd.txt", "gone.txt", "\0", "."]
    for name in names:
        shown = text(report(finding(path=name, line=1)), Context(root))
        assert "s3cret" not in shown, name
        assert " | " not in shown, name


def test_a_line_that_is_no_longer_there_is_not_shown(tmp_path):
    """The file may have changed since a report was written."""
    (tmp_path / "x.json").write_text("{}")
    for place in ({"line": 9}, {"line": 1, "column": 99}):
        assert "error SR304" in text(report(finding(path="x.json", **place)), Context(tmp_path))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_text_moves_the_cursor(words):
    """Whatever stands in names and messages: line breaks and printable characters alone reach the terminal."""
    shown = text(hostile(words), Context(verbose=True))
    assert all(line.isprintable() for line in shown.split("\n"))


def test_a_source_line_does_not_move_the_cursor(tmp_path):
    """Neither."""
    (tmp_path / "x.md").write_text("a\x1b[31mb\u202ec\td\n")
    shown = text(report(finding(path="x.md", line=1)), Context(tmp_path))
    assert "   1 | a\\x1b[31mb\\u202ec    d\n" in shown
    assert len(meant(shown)) == len("a\\x1b[31mb\\u202ec    d")
