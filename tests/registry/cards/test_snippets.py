"""The Python blocks of a card: which they are, and what of them is compiled."""

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saereg.registry.cards.card import Card
from saereg.registry.cards.snippet_stage import Known, own_repositories
from saereg.registry.cards.snippets import snippets_of


def snippets(body, mark="python"):
    return snippets_of(Card(f"# Card\n\n```{mark}\n{body}\n```\n"))


GOOD = [
    "import saereg",
    "x = ...",
    "sae = load(..., device='cpu')",
    "def f():\n    ...",
    ">>> 1 + 1\n2",
    ">>> for i in range(2):\n...     i\n...\n0\n1\nand any output (",
    "In [1]: x = 1",
    "!pip install saereg\nimport saereg",
    "%load_ext autoreload\n%autoreload 2\nx = 1",
    "if True:\n    !ls\nx = 1",
    "files = !ls",
    "saereg.open?",
    "%%time\nx = 1",
    "%%bash\nls -la | grep x",
    "await client.get()",
    "    indented = 1\n    more = 2",
    "",
    "x = '\\d'",
    "x[..., 0]",
]


@pytest.mark.parametrize("body", GOOD)
def test_what_a_notebook_understands_is_python(body):
    """Sessions with their output, lines for the shell, gaps, and blocks that are indented."""
    (snippet,) = snippets(body)

    assert snippet.problem is None


BAD = [
    ("x = (1", "'(' was never closed", 1),
    ("x = 1\ny = = 2", "invalid syntax", 2),
    ("def f():\nreturn 1", "expected an indented block after function definition on line 1", 2),
    ("x = 1\n  y = 2", "unexpected indent", 2),
    ("pip install saereg", "invalid syntax", 1),
    (">>> x = (1\n2", "'(' was never closed", 1),
    ("!ls\nx = = 1", "invalid syntax", 2),
    ("-" * 60_000 + "1", None, 1),
    ("(" * 5_000, None, 1),
    ("x = 1\n" * 40_000, "it has 240000 characters", 1),
]


@pytest.mark.parametrize(("body", "problem", "line"), BAD)
def test_what_is_no_python_is_told_with_its_line_of_the_card(body, problem, line):
    """Also what only a compiler with a large stack could read."""
    (snippet,) = snippets(body)

    assert snippet.problem if problem is None else snippet.problem.startswith(problem)
    assert snippet.problem_line == 3 + line


@pytest.mark.parametrize(
    "mark", ["python", "py", "python3", "Python", "pycon", "{python}", "python title=x", "python,no_run"]
)
def test_blocks_are_known_by_their_mark(mark):
    """In the ways that are in use."""
    assert len(snippets("x = = 1", mark)) == 1


@pytest.mark.parametrize("mark", ["", "bash", "json", "text", "pytb", "yaml"])
def test_other_blocks_are_left_alone(mark):
    """What has no mark may be anything."""
    assert snippets("x = = 1", mark) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("```python no-run\nx = 1\n```", "its first line says no-run"),
        ("```python,no_run\nx = 1\n```", "its first line says no-run"),
        ("<!-- saereg: not run -->\n\n```python\nx = 1\n```", "the line before it says that it is not run"),
        ("```python\nx = load(...)\n```", "it leaves something out, written as ..."),
        ("```python\nmodel = ...\n```", "it leaves something out, written as ..."),
        ("```python\n%%bash\nls | x\n```", "%%bash is not Python"),
        ("```python\nx = y[..., 0]\n```", None),
        ("not run\n\n```python\nx = 1\n```", None),
    ],
)
def test_a_block_may_say_that_it_is_not_run(text, why):
    """By its mark, by a comment before it, or because something is left out."""
    (snippet,) = snippets_of(Card(text + "\n"))

    assert snippet.left_out == why


def test_lines_stay_where_they_are():
    """Without prompts and output, in a list, behind a front matter."""
    card = "---\nlicense: mit\n---\n\n- item\n\n  ```pycon\n  >>> a = 1\n  >>> a\n  1\n  >>> b = a\n  ```\n"

    (snippet,) = snippets_of(Card(card))

    assert (snippet.number, snippet.line, snippet.code) == (1, 7, "a = 1\na\n\nb = a")


@given(st.text(alphabet=st.sampled_from("ab=():'\"\\\n\t >.!%?#{}\x00é") | st.characters(), max_size=80))
def test_any_text_is_borne(body):
    """Compiled or told why not, with a line of the card."""
    card = Card(f"```python\n{body}\n```\n")

    for snippet in snippets_of(card):
        assert snippet.problem is None or 1 <= snippet.problem_line <= len(card.lines)


KNOWN = Known("tiny-saes", frozenset({"tiny/model", "tiny/text"}), frozenset({"layer_1/topk"}))


@pytest.mark.parametrize(
    ("code", "own"),
    [
        ('open("hf://org/tiny-saes@v1:layer_1/topk")', {"org/tiny-saes"}),
        ('hf_hub_download("org/tiny-saes", "a/b")\nother("x/y")', {"org/tiny-saes"}),
        ('R = "me/any"\nSAE.from_pretrained(R, "layer_1/topk")', {"me/any"}),
        ('AutoModel.from_pretrained("tiny/model")\nSAE.from_pretrained("me/any", "layer_1/topk")', {"me/any"}),
        ('N = "gpt/two"\nAutoTokenizer.from_pretrained(N)\nSAE.from_pretrained("me/any", "x")', {"me/any"}),
        ('HookedTransformer.from_pretrained("gpt/two")', set()),
        ('load_dataset("some/text")', set()),
        ('open("layer_1/topk")', set()),
        ('open("release/a/b")', set()),
    ],
)
def test_a_release_is_known_by_the_name_that_blocks_use(code, own):
    """That of the manifest; else what is neither a model, a data set nor an artifact."""
    assert own_repositories(snippets(textwrap.dedent(code)), KNOWN) == own
