"""The page around its data: one HTML file, and the card of the Space that it can be."""

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from saereg.publishers.site.embed import code_in_script, json_in_script, policy
from saereg.publishers.site.libraries import ASSETS, Libraries, own_code, own_style
from saereg.schemas.manifest import Manifest

if TYPE_CHECKING:
    from jinja2 import Environment

MARK = '<meta name="generator" content="saereg site">'
"""By this line a page is known for one that may be replaced."""


def page_of(head: dict[str, Any], parts: dict[str, str], libraries: Libraries) -> str:
    """Return index.html.

    Args:
        head: what is read at once.
        parts: name → deflated text in base64; `plots` is code, which runs under the policy as it is.
        libraries: what others wrote.
    """
    table = code_in_script(libraries.table) if libraries.table else None
    theme = code_in_script((ASSETS / "first.js").read_text(encoding="utf-8"))
    own = code_in_script(own_code())
    scripts = [code for code in (theme, table, own, libraries.plots) if code is not None]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            mark=MARK,
            policy=policy(scripts),
            title=head["release"]["title"],
            description=head["release"].get("description"),
            count=head.get("artifacts", 0),
            table_style=libraries.table_style,
            style=own_style(),
            head=json_in_script(head),
            parts=parts,
            theme=theme,
            table=table,
            own=own,
        )
    )


def space_card(manifest: Manifest) -> str:
    """Return README.md of a static Space; a JSON text is a text of YAML too, whatever stands in it."""
    info = manifest.release
    lines = [
        f"title: {json.dumps(info.title, ensure_ascii=True)}",
        "sdk: static",
        "app_file: index.html",
        "pinned: false",
        f"license: {json.dumps(info.license, ensure_ascii=True)}",
        f"short_description: {json.dumps('Explore the dictionaries of this release', ensure_ascii=True)}",
    ]
    body = "One page, made by `saereg site` from the documents of a release. It asks no network."
    return "\n".join(["---", *lines, "---", "", body, ""])


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(ASSETS)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
