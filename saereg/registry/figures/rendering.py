"""From a specification to pictures and to a page, by vl-convert: the same Vega as in a browser, without one."""

import html
import json
import re
import struct
import zlib
from functools import cache

from saereg.errors import MissingExtraError
from saereg.registry.figures.figure import Spec

SCALE = 2.0
"""Pixels of a picture for one of the page: sharp on screens of double density."""

LEAST_WIDTH = 690
"""Pixels of the page that a picture is wide at least, paper on the right where the figure is narrower.

A card shows a picture as wide as it is or as its column, so a narrow one at double density would stand in it enlarged,
with larger letters than its neighbours.
"""

PAPER = "white"
"""What is under a picture, which cannot know the page that it will stand on."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: "Liberation Sans", Arial, Helvetica, sans-serif; margin: 2rem auto; max-width: 52rem;
  padding: 0 1rem; background: #fff; color: #1f2328 }}
figure {{ margin: 0; overflow-x: auto }}
figcaption {{ margin-top: 1rem; line-height: 1.5; color: #3d444d }}
</style>
</head>
<body>
<figure><div id="figure" role="img" aria-label="{title}"></div><figcaption>{caption}</figcaption></figure>
<script>{bundle}</script>
<script>
const options = {{renderer: "svg", actions: {{export: true, source: false, compiled: false, editor: false}}}};
vegaEmbed("#figure", {spec}, options).catch(console.error);
</script>
</body>
</html>
"""
"""A page with one figure; nothing is fetched for it."""

SNIPPET = "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;"
"""What the bundle leaves for the scripts of a page."""

PNG_START = b"\x89PNG\r\n\x1a\n"

SHEET = re.compile(
    r' width="([0-9]+)" height="([0-9]+)" viewBox="0 0 \1 \2"><rect width="\1" height="\2" fill="white"/>'
)
"""The size of a picture and its paper, as Vega writes them at its start."""

NUMBERED = re.compile(r'(id="|="url\(#)(clip|gradient_)([0-9]+)(?=["\)])')
"""Names that Vega gives to parts of a picture by counting through all pictures that a process has drawn."""


def require_plots(what: str) -> None:
    """Raise MissingExtraError unless figures can be drawn here."""
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(what, "plots", error.name or "altair") from None


def pictures(spec: Spec) -> tuple[bytes, str]:
    """Return both pictures of a figure, PNG and SVG; Vega, which takes the time, runs once.

    Raises:
        ValueError: when Vega cannot draw it.
    """
    drawn = svg(spec)
    return _pixels(drawn), drawn


def png(spec: Spec) -> bytes:
    """Return a picture of twice the density of the page.

    Raises:
        ValueError: when Vega cannot draw it.
    """
    return _pixels(svg(spec))


def _pixels(drawn: str) -> bytes:
    import vl_convert

    return compressed(vl_convert.svg_to_png(drawn, scale=SCALE))


def compressed(picture: bytes) -> bytes:
    """Return a PNG with the same pixels in a third of the bytes: vl-convert packs them quickly, not well.

    Only the image data are packed again (PNG specification, second edition, 5: a chunk is its length, its name, its
    data, and a CRC of the last two).
    """
    chunks, packed, place = [], b"", len(PNG_START)
    while place < len(picture):
        (length,) = struct.unpack(">I", picture[place : place + 4])
        name, data = picture[place + 4 : place + 8], picture[place + 8 : place + 8 + length]
        chunks.append((name, data))
        packed += data if name == b"IDAT" else b""
        place += 12 + length
    pixels = zlib.compress(zlib.decompress(packed), 6)
    head, tail = chunks[0], [chunk for chunk in chunks[1:] if chunk[0] != b"IDAT"]
    return PNG_START + b"".join(_chunk(*chunk) for chunk in (head, *tail[:-1], (b"IDAT", pixels), tail[-1]))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def svg(spec: Spec) -> str:
    """Return a picture that can be enlarged; the same whatever was drawn before.

    Raises:
        ValueError: when Vega cannot draw it.
    """
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(_on_paper(spec), _vega_lite(spec.get("$schema", "")), allowed_base_urls=[])
    order: dict[str, int] = {}

    def renamed(match: re.Match[str]) -> str:
        before, kind, number = match.groups()
        return f"{before}{kind}{order.setdefault(kind + number, len(order) + 1)}"

    return _widened(NUMBERED.sub(renamed, drawn))


def _widened(drawn: str) -> str:
    """Return a picture with paper on its right where it is narrower than `LEAST_WIDTH`."""

    def sheet(match: re.Match[str]) -> str:
        wide, high = max(int(match[1]), LEAST_WIDTH), match[2]
        size = f'width="{wide}" height="{high}"'
        return f' {size} viewBox="0 0 {wide} {high}"><rect {size} fill="{PAPER}"/>'

    return SHEET.sub(sheet, drawn, count=1)


def page(spec: Spec, caption: str = "") -> str:
    """Return a page on which a figure can be pointed at and enlarged; it needs no network."""
    title = spec.get("title", {}).get("text", "Figure")
    # A text of the data that ends the script would be read as a part of the page
    data = json.dumps(spec, sort_keys=True, allow_nan=False).replace("<", "\\u003c")
    return PAGE.format(title=html.escape(title), caption=html.escape(caption), bundle=bundle(), spec=data)


@cache
def bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script for a page, as vl-convert carries them."""
    import vl_convert

    script: str = vl_convert.javascript_bundle(SNIPPET)
    return script.replace("</script", "<\\/script")


def _on_paper(spec: Spec) -> Spec:
    return {**spec, "background": PAPER}


def _vega_lite(schema: str) -> str | None:
    """Return the version that a specification was written for, where vl-convert has it; None: its newest."""
    import vl_convert

    found = re.search(r"/v([0-9]+\.[0-9]+)", schema)
    return found[1] if found and found[1] in vl_convert.get_vegalite_versions() else None
