"""How texts and data of a stranger are put into a page so that a browser never runs them."""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable

ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""What would end a script element (`</script`), open a comment in it (`<!--`), or end a line of JavaScript → the same
for a reader of JSON. The letters can only stand inside strings of JSON."""

LEVEL = 9
"""Of compression: the page is made once and read often."""


def compact(value: object) -> str:
    """Return JSON without spaces; absent and empty entries of objects are left to the caller.

    Raises:
        ValueError: for NaN or infinity, which JSON does not have.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def json_in_script(value: object) -> str:
    """Return JSON that can stand in a script element: no sequence in it means anything to an HTML parser."""
    text = compact(value)
    for letter, escape in ESCAPES.items():
        text = text.replace(letter, escape)
    return text


def packed(text: str) -> str:
    """Return a text deflated (RFC 1950), in base64: letters that mean nothing to an HTML parser.

    The same text gives the same letters; a lone surrogate, which JSON allows and UTF-8 does not, becomes `?`.
    """
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"), LEVEL)).decode("ascii")


def code_in_script(code: str) -> str:
    """Return JavaScript that can stand in a script element.

    In code, `</script` and `<!--` only stand in strings and regular expressions, where a backslash changes nothing.
    """
    return code.replace("</script", "<\\/script").replace("</SCRIPT", "<\\/SCRIPT").replace("<!--", "<\\!--")


def source_hash(code: str) -> str:
    """Return what a Content-Security-Policy calls a script with this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode('ascii')}'"


def policy(scripts: Iterable[str]) -> str:
    """Return a Content-Security-Policy under which only these scripts run, and nothing is asked of any network.

    Styles of elements may be inline, because the table and the plots set them; with no source of any kind allowed, a
    style sheet fetches nothing either. Pictures are data in the page.
    """
    allowed = " ".join(source_hash(code) for code in scripts)
    rules = ("default-src 'none'", f"script-src {allowed}", "style-src 'unsafe-inline'", "img-src data: blob:")
    return "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))
