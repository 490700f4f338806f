"""How Sphinx makes the guide: `make docs`. Nothing is fetched while it is built, or while it is read."""

import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.transforms import Transform
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx

from saereg import __version__

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))

REPOSITORY = "https://github.com/saereg/saereg"

project = "saereg"
author = "The saereg authors"
copyright = "The saereg authors, MIT licence"
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

if not (DOCS / "_generated").is_dir():
    raise SystemExit("docs/_generated is not there: run python docs/generate.py first, or make docs")

# Markdown as GitHub reads it too: the same anchors of headings, and quotes as they are written.
myst_heading_anchors = 5
myst_enable_extensions = ["deflist", "fieldlist"]
smartquotes = False
highlight_language = "none"
suppress_warnings = [
    "misc.highlighting_failure",
    "myst.header",
]  # excerpts of JSON with an ellipsis; a page of one part

# Docstrings are Google's form, with Markdown's `code`.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes are listed in the class and not, a second time, after it
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

nitpicky = True
# Types of the standard library, of torch and pydantic have no index offline; records are in the pages of the documents;
# the others are what the insides of a selection and a dictionary are made of.
nitpick_ignore_regex = [
    ("py:.*", r"(?!saereg\.).*"),
    ("py:.*", r"saereg\.schemas\..*"),
    ("py:.*", r"saereg\.registry\.(checkpoint|conditions|found|catalog\.(artifact|compiling))\..*"),
]

html_theme = "furo"
html_title = f"saereg {__version__}"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_favicon = "_static/mark.svg"
html_copy_source = False
html_show_sphinx = False
html_show_sourcelink = False
html_theme_options = {
    "light_logo": "logo-light.svg",
    "dark_logo": "logo-dark.svg",
    "sidebar_hide_name": True,
    "top_of_page_buttons": [],  # to see or edit the source: that of generated pages is no file of the repository
    "footer_icons": [{"name": "Repository", "url": REPOSITORY, "html": "repository", "class": "repository"}],
    "light_css_variables": {
        "color-brand-primary": "#0b5d8a",
        "color-brand-content": "#0b5d8a",
        "color-brand-visited": "#6a4c93",
        "color-api-name": "#0b5d8a",
        "color-api-pre-name": "#4b6472",
        "font-stack": "Inter, 'Segoe UI', system-ui, -apple-system, 'Helvetica Neue', Arial, sans-serif",
        "font-stack--monospace": "'JetBrains Mono', 'SFMono-Regular', Menlo, Consolas, 'Liberation Mono', monospace",
    },
    "dark_css_variables": {
        "color-brand-primary": "#6fc3ee",
        "color-brand-content": "#6fc3ee",
        "color-brand-visited": "#c7a8e8",
        "color-api-name": "#6fc3ee",
        "color-api-pre-name": "#9fb3c1",
    },
}

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
copybutton_only_copy_prompt_lines = True

RULE = re.compile(r"rules/SR\d+$")
"""Pages that a table lists, and no tree: a hundred entries beside every page would hide all the others."""


def add_tree(app: Sphinx, docname: str, source: list[str]) -> None:
    """Say of the pages of a folder where they belong; on GitHub the folder is the list, so the Markdown does not."""
    if RULE.match(docname):
        source[0] = f"---\norphan: true\n---\n\n{source[0]}"
    elif docname == "decisions":
        source[0] += "\n```{toctree}\n:glob:\n:titlesonly:\n\nadr/*\n```\n"


class RepositoryLinks(Transform):
    """Links to files and folders that are in the repository and in no page lead to the repository."""

    default_priority = 999

    def apply(self) -> None:
        """Replace what MyST takes for a download, for an unknown page or for a name."""
        for kind in (download_reference, pending_xref):
            for node in list(self.document.findall(kind)):
                if node.get("reftype") == "myst" and (address := self._address(node)):
                    link = nodes.reference(refuri=address, internal=False)
                    link += node.children
                    node.replace_self(link)

    def _address(self, node: nodes.Element) -> str | None:
        """Return the address of a file outside of the pages, or of a folder; None of anything else."""
        target = (DOCS / f"{node['refdoc']}.md").parent / node["reftarget"].partition("#")[0]
        if node.get("refdomain") == "doc" and not target.suffix:
            target = target.with_name(f"{target.name}.md")  # a name of a page, of which MyST takes the suffix off
        target = target.resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return None
        if target.is_relative_to(DOCS) and not target.is_dir():
            return None
        kind = "tree" if target.is_dir() else "blob"
        return f"{REPOSITORY}/{kind}/main/{target.relative_to(ROOT).as_posix()}"


def as_rest(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Let `code` and indented examples of docstrings be read as Markdown has them."""
    for i, line in enumerate(lines):
        lines[i] = re.sub(r"(?<![`:])`([^`]+)`(?!`)", r"``\1``", line)
        begins = line.startswith("    ") and i and not lines[i - 1].strip()
        above = next((j for j in range(i - 1, -1, -1) if lines[j].strip()), None)
        if begins and above is not None and not lines[above].startswith(("    ", "..", ":")):
            text = lines[above].rstrip()
            lines[above] = text + (":" if text.endswith(":") else " ::")
    if what in ("attribute", "data", "property") and lines:
        lines.insert(0, "")  # or else what stands before a colon in the first line is taken for its type


def setup(app: Sphinx) -> dict[str, bool]:
    """Say what belongs to the guide alone."""
    app.connect("source-read", add_tree)
    app.connect("autodoc-process-docstring", as_rest, priority=400)
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
