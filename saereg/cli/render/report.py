"""The formats of a validation report."""

from saereg.cli.render.context import Renderer
from saereg.cli.render.documents import as_json, as_jsonl
from saereg.cli.render.github import as_github
from saereg.cli.render.html import as_html
from saereg.cli.render.junit import as_junit
from saereg.cli.render.markdown import as_markdown
from saereg.cli.render.plain import as_text
from saereg.cli.render.sarif import as_sarif

RENDERERS: dict[str, Renderer] = {
    "text": as_text,
    "json": as_json,
    "jsonl": as_jsonl,
    "sarif": as_sarif,
    "junit": as_junit,
    "github": as_github,
    "markdown": as_markdown,
    "html": as_html,
}
"""Format → renderer."""
