"""The parts of the page that others wrote: the table of itables and the plots of vl-convert, as installed here."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"

MODULES = (
    *("dom", "data", "state", "theme", "filters", "columns", "table", "plain_table", "vega", "plots"),
    *("overview", "figures", "findings", "about", "features", "evidence", "artifact", "explorer", "main"),
)
"""Our own modules, each after those that it imports: the page has them as one."""

_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class) )", re.MULTILINE)
_DEFAULT = re.compile(r"export\{[^}]*?\b([\w$]+) as default\b[^}]*\};?")

EXPORT = "window.vegaEmbed = vegaEmbed;"
"""What the bundle of plots gives the page: Vega and Vega-Lite are used through it alone."""

NO_PLOTS = "Plots are left out of this page: it was made without saereg[plots]."


@dataclass(frozen=True)
class Libraries:
    """What the page is built of.

    Attributes:
        table: code of DataTables, which sets `DataTable` of the window; None where itables is not installed.
        table_style: its style sheet.
        plots: code of Vega, Vega-Lite and Vega-Embed; None where vl-convert is not installed.
        versions: name → version of what is in the page.
    """

    table: str | None
    table_style: str
    plots: str | None
    versions: dict[str, str]


@cache
def libraries() -> Libraries:
    """Return the libraries that are installed here; without the `plots` extra there are none."""
    table, style, versions = None, "", {}
    try:
        import itables
    except ImportError:
        pass
    else:
        folder = Path(str(itables.__file__)).parent / "html"
        table = as_global((folder / "dt_bundle.js").read_text(encoding="utf-8"), "DataTable")
        style = (folder / "dt_bundle.css").read_text(encoding="utf-8")
        versions["itables"] = str(itables.__version__)
    plots = None
    try:
        import vl_convert
    except ImportError:
        pass
    else:
        plots = vl_convert.javascript_bundle(EXPORT)
        versions["vl-convert"] = version("vl-convert-python")
    return Libraries(table, style, plots, versions)


def as_global(module: str, name: str) -> str:
    """Return a bundled module whose default export becomes a property of the window: a page imports from no file.

    Raises:
        ValueError: when the module does not end in one list of exports with a default.
    """
    fitting = _DEFAULT.findall(module)
    if len(fitting) != 1:
        raise ValueError(f"the module exports {len(fitting)} defaults, not one")
    return _DEFAULT.sub(lambda found: f"globalThis.{name}={found.group(1)};", module)


@cache
def own_code() -> str:
    """Return our own modules as one: imports between them go, exports become plain declarations."""
    parts = ((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in MODULES)
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)


@cache
def own_style() -> str:
    """Return our own style sheet."""
    return (ASSETS / "page.css").read_text(encoding="utf-8")
