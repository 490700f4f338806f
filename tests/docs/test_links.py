"""No Markdown file of the repository has a dead link: files and anchors exist, as GitHub and the guide see them."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from saereg.cli import GROUPS
from saereg.registry.validators.rules import RULES
from saereg.registry.validators.rules.text import DOCS as RULE_PAGES
from tests.docs.links_check import ADDRESS, MADE, dead

ROOT = Path(__file__).parents[2]

PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    if not set(MADE) & set(path.parts)
)  # fmt: skip

FENCED = re.compile(r"^ *(`{3,}).*?^ *\1`*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HREF = re.compile(r"<(?:a|img)\s[^>]*(?:href|src)=\"([^\"]+)\"")


@cache
def prose(path: Path) -> str:
    """Return a page without blocks of code."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found) | frozenset(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", prose(path)))


def problems(path: Path) -> list[str]:
    """Return the dead links of a page."""
    text = CODE.sub("", prose(path))
    return [f"{link}: {why}" for link in LINK.findall(text) + HREF.findall(text) if (why := problem(path, link))]


def problem(path: Path, link: str) -> str | None:
    """Return why a link is dead, or None."""
    if re.match(r"[a-z]+:", link):
        return None if link.startswith("mailto:") or ADDRESS.match(link) else "no https address"
    file, _, anchor = link.partition("#")
    target = (path.parent / unquote(file)).resolve() if file else path
    if not target.exists() or not target.is_relative_to(ROOT):
        return "no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return "no such anchor"
    return None


def test_no_page_has_a_dead_link():
    """To files, anchors and addresses."""
    assert [f"{path.relative_to(ROOT)}: {line}" for path in PAGES for line in problems(path)] == []


def test_a_dead_link_is_found(tmp_path, monkeypatch):
    """Of each kind; code is no link, and an anchor is what GitHub makes of a heading."""
    monkeypatch.setattr("tests.docs.test_links.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` heading, & more\n\n# Twice\n\n# Twice\n\n[a](#a-b-heading--more) [b](#twice-1) `[c](c.md)`\n"
        "[d](d.md) [e](#e) [f](http://x.org) ![g](g.png) [h](https://x.org/a) [i](../i.md)\n"
        '```\n[j](j.md)\n```\n<a href="k.md">k</a>\n'
    )
    assert problems(page) == [
        "d.md: no such file", "#e: no such anchor", "http://x.org: no https address", "g.png: no such file",
        "../i.md: no such file", "k.md: no such file",
    ]  # fmt: skip


def test_the_pages_that_the_tool_names_exist():
    """Every rule prints the address of its page."""
    assert RULE_PAGES == "https://github.com/saereg/saereg/blob/main/docs/rules"
    for code in RULES:
        assert (ROOT / f"docs/rules/{code}.md").is_file(), code


def test_every_page_is_in_the_tree_of_the_guide():
    """A page that no list of pages names cannot be found by reading on."""
    named = set()
    for path in ROOT.glob("docs/**/*.md"):
        for body in re.findall(
            r"^```\{toctree\}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            lines = [line for line in body.splitlines() if line and not line.startswith(":")]
            named |= {(path.parent / f"{line}.md").resolve() for line in lines}
    listed = {path for path in PAGES if path.parent.name in ("rules", "adr")}  # appended while the guide is built
    pages = {path for path in PAGES if path.is_relative_to(ROOT / "docs")} - listed
    assert sorted(path.name for path in pages - named - {ROOT / "docs/index.md"}) == []
    assert sorted(path.name for path in named if not path.exists() and "*" not in path.name) == []


def test_a_dead_link_of_a_built_page_is_found(tmp_path):
    """Pages, anchors, images, files of the repository, and what is no https."""
    (tmp_path / "b.html").write_text('<h1 id="there">B</h1>')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there"></a><a href="b.html#not"></a><img src="c.png"><a href="#d"></a>\n'
        '<a href="https://github.com/saereg/saereg/blob/main/README.md"></a>'
        '<a href="https://github.com/saereg/saereg/blob/main/e.md"></a><a href="http://x.org"></a>'
        '<a href="../../f.html"></a>'
    )
    assert [line.split(": ")[1] for line in dead(tmp_path)] == [
        "b.html#not", "c.png", "#d", "https://github.com/saereg/saereg/blob/main/e.md", "http://x.org", "../../f.html",
    ]  # fmt: skip


def test_every_verb_is_in_the_table_of_the_guide():
    """By hand nothing is kept; `python docs/generate.py` writes it."""
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    for verbs in GROUPS.values():
        for verb in verbs:
            assert f"| `saereg {verb}` |" in page
