"""`saereg rule`: pages in the terminal, lists, and data."""

import json
import re

import pytest
from click import unstyle

from saereg.cli.render.rule import markdown, text
from saereg.registry.validators.rules import FAMILIES, RULES, rule
from saereg.registry.validators.rules.text import RuleText, read_rule


def test_without_a_code_all_rules_are_listed(saereg):
    """In the order of the codes, with severity, level, family and problem."""
    answer = saereg("rule")

    head, *rows = answer.out.splitlines()
    assert answer.code == 0
    assert head.split() == ["code", "severity", "level", "family", "problem"]
    assert [row.split()[0] for row in rows] == list(RULES)
    assert any(re.fullmatch(r"SR005 +error +layout +layout +a pickle is in the release", row) for row in rows)
    assert answer.next == f"saereg rule {next(iter(RULES))}"


def test_a_family_is_listed(saereg):
    """By the beginning of its codes, in small letters too."""
    answer = saereg("rule", "sr3")

    assert [row.split()[0] for row in answer.out.splitlines()[1:]] == [code for code in RULES if code.startswith("SR3")]


def test_families_and_codes_together_are_listed_once(saereg):
    """In the order in which they are named."""
    answer = saereg("rule", "SR415", "SR41", "SR005")

    codes = [row.split()[0] for row in answer.out.splitlines()[1:]]
    assert codes[0] == "SR415"
    assert codes[-1] == "SR005"
    assert len(codes) == len(set(codes)) == 1 + len([code for code in RULES if code.startswith("SR41")])


def test_a_page_has_every_part(saereg):
    """Title, facts, what, why, bad, good, fix, silence, and what profiles do with it."""
    answer = saereg("rule", "sr423")

    lines = answer.out.splitlines()
    assert answer.code == 0
    assert lines[0] == "SR423: no golden vectors"
    assert lines[1].startswith("warning · from level header · ")
    parts = ["what it looks at", "why it matters", "how to fix", "how to silence", "profiles and policies"]
    assert [line for line in lines if line in parts] == parts
    assert "bad: layer_6/topk_64/" in lines
    assert "good: layer_6/topk_64/" in lines
    assert "    golden.safetensors" in lines
    assert '    rules = ["SR423"]' in lines
    assert "  Policy `paper` makes it an error." in lines
    assert answer.next == "saereg validate RELEASE"


def test_the_next_step_looks_at_the_rule(saereg):
    """At the level from which on it is found."""
    assert saereg("rule", "SR421").next == "saereg validate RELEASE --level weights"


def test_what_may_not_be_silenced_has_no_example_of_it(saereg):
    """But says that, and why."""
    answer = saereg("rule", "SR005")

    assert "Its errors can neither be ignored nor graded down, for the reason above." in answer.out
    assert "[[ignore]]" not in answer.out
    assert "[[ignore]]" in saereg("rule", "SR103").out


def test_several_codes_give_several_pages(saereg):
    """One after the other."""
    answer = saereg("rule", "SR005", "SR001", "SR005")

    assert re.findall(r"(?m)^(SR\d{3}): ", answer.out) == ["SR005", "SR001"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("SR0O5", "unknown rule 'SR0O5'; did you mean 'SR005'?"),
        ("XY", "unknown rule 'XY'; `saereg rule` lists them all"),
        ("", "unknown rule ''; `saereg rule` lists them all"),
    ],
)
def test_an_unknown_code_is_refused(saereg, word, sentence):
    """With the close one, and exit code 2."""
    answer = saereg("rule", "SR001", word)

    assert answer.code == 2
    assert answer.out == ""
    assert re.sub(r"'SR\d{3}'\?", "'SR005'?", answer.err) == f"error: {sentence}\n"


@pytest.mark.parametrize("width", [40, 80, 300])
def test_prose_is_wrapped_and_examples_are_not(width):
    """To the terminal, and never beyond 100 columns."""
    for code in RULES:
        found = rule(code)
        lines = unstyle(text(found, width)).splitlines()
        prose = [line for line in lines if not line.startswith(("    ", "bad: ", "good: "))]
        words = max((len(word) for word in f"{found.what} {found.why} {found.fix}".split()), default=0)
        assert max(map(len, prose)) <= max(min(width, 100), words + 2), code
        for example in (found.bad, found.good):
            assert all(f"    {line}".rstrip() in lines for line in example.text.splitlines())


def test_colours_are_for_terminals_alone(process):
    """A pipe gets plain text."""
    answer = process("rule", "SR005")

    assert "\x1b" not in answer.out
    assert answer.out.startswith("SR005: a pickle is in the release\n")


def test_a_narrow_terminal_gets_narrow_lines(process):
    """The width is that of the terminal."""
    lines = process("rule", "SR005", COLUMNS="60").out.splitlines()

    assert max(len(line) for line in lines if not line.startswith("    ")) <= 60


def test_data_has_one_object_for_each_rule(saereg):
    """With every part of its page."""
    listed = json.loads(saereg("rule", "--format", "json").out)
    (one,) = json.loads(saereg("rule", "SR103", "--format", "json").out)

    assert [entry["code"] for entry in listed] == list(RULES)
    assert one in listed
    assert (one["severity"], one["also"], one["level"]) == ("error", ["warning"], "layout")
    assert (one["silenceable"], one["family"]) == (False, "documents")
    assert one["bad"]["file"] == "cfg.json"
    assert "normalise_activations" in one["bad"]["text"]
    assert one["url"] == "https://github.com/saereg/saereg/blob/main/docs/rules/SR103.md"
    (found,) = json.loads(saereg("rule", "SR423", "--format", "json").out)
    assert found["changes"] == [
        {"kind": "policy", "name": "hub-public", "severity": "error", "reason": None},
        {"kind": "policy", "name": "paper", "severity": "error", "reason": None},
    ]


def test_markdown_is_the_page_of_the_documentation(saereg):
    """For one code, and the tables for a family."""
    assert saereg("rule", "SR005", "--format", "markdown").out == markdown(rule("SR005"))
    tables = saereg("rule", "SR0", "--format", "markdown").out
    assert tables.startswith(f"## SR0: {FAMILIES['SR0']}\n\n| rule |")
    assert tables.count("\n| [SR0") == len([code for code in RULES if code.startswith("SR0")])


def test_an_example_is_called_json_only_where_it_is():
    """Or a part of it; what shows a mistake in JSON would be marked all over."""
    page = markdown(rule("SR100"))

    assert page.count("```text\n{") == page.count("```json\n{") == 1
    assert page.index("```text\n{") < page.index("## Good") < page.index("```json\n{")


@pytest.mark.parametrize("code", RULES)
def test_the_hint_of_a_finding_is_one_sentence(code):
    """It stands beside every finding; the rest of the fix is on the page."""
    hint = rule(code).hint

    assert hint.endswith(".")
    assert len(hint) < 180
    assert rule(code).fix.startswith(hint)


class ACME001(RuleText):
    """A title with | and more.

    Why: For `reasons`.

    Fix: Do it. Then do more.

    Bad: README.md (of the release)
        ```json
        {}
        ```

    Good: README.md
        nothing
    """

    severity = "note"
    level = "data"


def test_an_example_may_hold_a_fence():
    """The one around it is longer; a part that is missing has no heading."""
    page = markdown(read_rule(ACME001))

    assert "## Bad\n\n`README.md` (of the release):\n\n````markdown\n```json\n{}\n```\n````\n" in page
    assert "## What it looks at" not in page
    assert read_rule(ACME001).hint == "Do it."
    assert read_rule(ACME001).url is None


def test_rules_of_a_plugin_that_is_not_installed(saereg):
    """One line."""
    answer = saereg("rule", "--plugin", "acme")

    assert answer.code == 2
    assert answer.err.startswith("error: unknown plugin 'acme'; ")
