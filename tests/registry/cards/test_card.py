"""A card is read as Markdown readers read it, and any text at all is read without an exception."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from saereg.registry.cards.card import Card
from saereg.registry.cards.inline import plain
from saereg.registry.cards.markdown import DEEPEST, blocks_of, lines_of, whole_lines_of

READER = MarkdownIt("commonmark").enable("table")

PIECES = (
    "```", "~~~", "```python", "````", "- ", "* ", "1. ", "> ", "  ", "    ", "# ", "## h #", "a", "text b",
    "| a | b |", "|---|---|", "| 1 | 2 |", "", "---", "===", "<div>", "</div>", "<!-- c -->", "[a](b.md)",
    "![i](p.png)", "`c`", "`[x](y)`", "***", "  b",
)  # fmt: skip


def read(text: str) -> tuple[list, list, list, list]:
    """Return fences, headings, tables and link targets as the reference reader has them."""
    tokens = READER.parse(text)
    fences = [(t.info.split()[:1], t.content.rstrip(), t.map[0] + 1) for t in tokens if t.type == "fence"]
    headings = [(int(t.tag[1]), t.map[0] + 1) for t in tokens if t.type == "heading_open"]
    tables = [t.map[0] + 1 for t in tokens if t.type == "table_open"]
    targets: list[str] = []
    waiting = list(tokens)
    while waiting:
        token = waiting.pop(0)
        waiting += token.children or []
        if token.type in ("link_open", "image") and token.info != "auto":
            targets.append(unquote(token.attrs["href" if token.type == "link_open" else "src"]))
    return fences, headings, tables, sorted(targets)


def ours(text: str) -> tuple[list, list, list, list]:
    card = Card(text)
    fences = [(fence.language.split(), fence.text.rstrip(), fence.line) for fence in card.fences]
    headings = [(heading.level, heading.line) for heading in card.headings]
    targets = sorted(link.target for link in card.links if link.kind != "html")
    return fences, headings, [table.line for table in card.tables], targets


DOCUMENTS = [
    "# One\n\nTwo\n===\n\n```python\nx = 1\n```\n",
    "- item\n\n  ```py\n  if x:\n      y\n  ```\n- other\n\n      indented code\n",
    "1. a\n   ```\n   b\n   ```\n2. c\n",
    "> quote\n> ```sh\n> ls\n> ```\n",
    "~~~text\n```\n~~~\n````\n```\n````\n",
    "| a | b |\n|---|:-:|\n| `x\\|y` | [l](m.md) |\n| only |\n\ntext\n",
    "text\n| a | b |\n| - | - |\n| 1 | 2 |\n> quote\n",
    "[![badge](b.svg)](https://x.y) and ![i](<p q.png> 'title') and [r][ref] and [Ref]\n\n[ref]: to/file.md \"t\"\n",
    "`[no](link)` \\[no](x) [yes](a(b)c.md) [percent](a%20b.md)\n",
    "<details>\n\n[in](side.md)\n\n</details>\n\n<!-- [no](comment.md) -->\n",
    "```\nnever closed\n# no heading\n",
    "Setext\nof two lines\n---\n\n***\n\ntext\n    no code\n",
]


@pytest.mark.parametrize("text", DOCUMENTS)
def test_a_document_is_read_as_markdown_it_reads_it(text):
    """Fences with language and text, headings, tables and links, and their lines."""
    assert ours(text) == read(text)


@settings(max_examples=300)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=2).map("".join), max_size=8))
def test_almost_any_mixture_of_marks_is_read_as_markdown_it_reads_it(lines):
    """Fences alone: what is code must never be taken for text, nor text for code."""
    text = "\n".join(lines)
    if text.lstrip().startswith("---") or re.search(r"(-|\*|1\.|>) *(\n|$)", text) or "<div>" in text:
        return  # a front matter, and empty items and raw HTML, which no card of ours needs

    assert ours(text)[0] == read(text)[0]


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("a1 `~#|-[]()<>!*_\\:\"'\n\r\t{}.=\u00e9"), max_size=200))
@example("---\n? [a]\n: b\n---\n")
@example("---\na: 2024-13-45\n---\n")
@example("---\n- [\n---\n" + "[" * 3000)
def test_any_text_is_read_and_lines_are_those_of_the_file(text):
    """No exception, and every line is one of the file, with what is said to stand there."""
    card = Card(text)

    for fence in card.fences:
        assert re.search(r"`{3}|~{3}", card.lines[fence.line - 1])
        assert fence.line <= fence.end <= len(card.lines)
    for table in card.tables:
        assert "|" in card.lines[table.line - 1]
        for row in table.rows:
            assert len(row.cells) == len(table.header)
            assert card.lines[row.line - 1].strip()
    for link in card.links:
        assert any(mark in card.lines[link.line - 1] for mark in "[<")
    for code in card.codes:
        assert "`" in card.lines[code.line - 1]
    assert all(1 <= problem.line <= len(card.lines) for problem in card.front_matter.problems)


def test_html_links_images_and_anchors_are_found():
    """With their lines, and not inside comments."""
    card = Card(
        '<p>\n<img src="a.png">\n<a name="here" href=b.md>b</a>\n</p>\n\nx <a href="c.md">c</a> <!-- <a href=no> -->\n'
    )

    assert [(link.target, link.line) for link in card.links] == [("a.png", 2), ("b.md", 3), ("c.md", 6)]
    assert "here" in card.anchors


def test_headings_have_the_anchors_that_the_hub_gives_them():
    """Small letters, no marks, and a number where another has the same."""
    card = Card("# What `k` is, in *SAELens*!\n## Use\n## Use\n")

    assert [heading.anchor for heading in card.headings] == ["what-k-is-in-saelens", "use", "use-1"]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [("**0.74**", "0.74"), ("[`a/b_c`](x.md)", "a/b_c"), ("layer_1_x", "layer_1_x"), ("_it_", "it"), ("a\\_b", "a_b")],
)
def test_a_cell_is_what_a_reader_sees(raw, shown):
    """Without marks; underscores in names stay."""
    assert plain(raw) == shown


FRONT = [
    ("---\nlicense: mit\n", "the front matter is not closed by a line `---`", 1),
    ("---\nlicense: mit\nlicense: mit\n---\n", "the key 'license' stands twice", 3),
    ("---\na:\n  b: 1\n  b: 2\n---\n", "the key 'b' stands twice", 4),
    ("---\n- mit\n---\n", "the front matter is no list of `key: value` lines", 2),
    ("---\na: b: c\n---\n", "the front matter is not YAML: mapping values are not allowed here", 2),
    ("---\na: !!int ''\n---\n", "the front matter is not YAML: a value is not of the tag (!!…) before it", 2),
    ("---\na:\n\t- b\n---\n", "a line of the front matter is indented by a tab; YAML takes spaces alone", 3),
]


@pytest.mark.parametrize(("text", "sentence", "line"), FRONT)
def test_what_is_wrong_with_a_front_matter_is_said_with_its_line(text, sentence, line):
    """Problems are values."""
    (problem,) = Card(text).front_matter.problems

    assert (problem.sentence, problem.line) == (sentence, line)


@pytest.mark.parametrize(
    "front",
    [
        "a: &a [*a]\n",
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)),
    ],
)
def test_aliases_that_lead_to_no_end_are_a_problem(front):
    """In themselves, or in more values than anybody could compare."""
    (problem,) = Card(f"---\n{front}---\n").front_matter.problems

    assert problem.sentence == "the aliases of the front matter make more than 100000 values"


def test_an_alias_is_read_as_what_it_stands_for():
    """As YAML says."""
    front = Card("---\na: &a [1, 2]\nb: [*a, *a]\n---\n").front_matter

    assert (front.values["b"], front.problems) == ([[1, 2], [1, 2]], ())


def test_no_tag_of_yaml_is_executed(tmp_path):
    """A tag is a problem, whatever it asks for."""
    front = Card(f"---\na: !!python/object/apply:pathlib.Path.touch [{tmp_path}/x]\n---\n").front_matter

    assert front.problems
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_body_starts_after_the_front_matter(end):
    """Its lines are counted on, whatever the line ends."""
    card = Card(end.join(["---", "license: mit", "---", "", "# Title", "", "```py", "x", "```", ""]))

    assert card.front_matter.values == {"license": "mit"}
    assert card.front_matter.line("license") == 2
    assert (card.headings[0].line, card.fences[0].line, card.fences[0].text) == (5, 7, "x")


def test_marks_inside_one_another_are_looked_into_to_a_depth():
    """A line of marks alone would else take time that grows with the square of its length."""
    (block,) = blocks_of(["> " * (DEEPEST + 900) + "x"])

    assert (block.kind, block.text.count(">")) == ("paragraph", 900)


def test_whole_lines_are_the_text():
    """With whatever ends them, and as many as there are lines."""
    text = "a\r\nb\rc\n\n\fd\u2028e\x85f"

    assert whole_lines_of(text) == ["a\r\n", "b\r", "c\n", "\n", "\fd\u2028e\x85f"]
    assert [line.rstrip("\r\n") for line in whole_lines_of(text)] == lines_of(text)
    assert whole_lines_of("a\n") == ["a\n"]


@pytest.mark.parametrize("text", ["<!--", "{", "<a ", "[", "`{a,", "> ", "](", "*"])
def test_what_is_opened_and_never_closed_is_read_once(text):
    """A card of 200 kB of one mark: each place is looked at once, and not to the end of the file from every one."""
    card = Card("# T\n\n" + text * (200_000 // len(text)) + "\n")

    assert card.links == ()
    assert card.tables == ()


@pytest.mark.parametrize("brackets", ["[" * 20_000, "[" * 9_000 + "]" * 9_000, "{a: " * 101 + "}" * 101])
def test_brackets_of_a_front_matter_that_are_nested_too_deeply_are_one_problem(brackets):
    """Thousands of them are not even handed to the parser."""
    card = Card(f"---\nx: {brackets}\n---\n\n# T\n")

    sentences = [problem.sentence for problem in card.front_matter.problems]
    assert sentences == ["the front matter opens more than 100 brackets inside each other"]


def test_a_front_matter_may_open_many_brackets_one_after_the_other():
    """Depth counts, not number."""
    card = Card("---\nx: [" + "[1], " * 500 + "[2]]\n---\n")

    assert (card.front_matter.problems, len(card.front_matter.values["x"])) == ((), 501)
