"""Write the generated parts of the documentation: `python docs/generate.py [--check]`."""

import sys
from pathlib import Path

from saereg.registry.formats import FORMATS
from saereg.registry.readings.format import Format

FORMATS_PAGE = Path(__file__).parent / "formats.md"


def overview() -> str:
    """Return the table of all layouts."""
    lines = ["| layout | used by | recognized by | written |", "|---|---|---|---|"]
    for layout in FORMATS.values():
        written = "yes" if layout.layout is not None else "no"
        link = f"[`{layout.name}`](#{layout.name})"
        lines.append(f"| {link} | {layout.about.used_by} | {_sentence(layout)} | {written} |")
    return "\n".join(lines)


def layouts() -> str:
    """Return one section for each layout."""
    return "\n\n".join(_section(layout) for layout in FORMATS.values())


def _section(layout: Format) -> str:
    about = layout.about
    facts = [
        ("What it is", about.files),
        ("What it cannot say", about.silent),
        ("What is assumed", about.assumed),
        ("What SAELens does with it", about.saelens),
    ]
    body = "\n".join(f"- *{name}:* {_capital(text)}" for name, text in facts)
    body += f"\n- *Source:* {' '.join(about.source.split()).rstrip('.')}."
    return f"### {layout.name}\n\n{about.title}.\n\n{body}"


def _sentence(layout: Format) -> str:
    """Return the first sentence of what its detection says of itself."""
    text = " ".join((layout.detect.__doc__ or "").split())
    return text.split(". ")[0].rstrip(".")


def _capital(text: str) -> str:
    text = " ".join(text.split())
    return (text if text[:1] in "`<" else text[:1].upper() + text[1:]).rstrip(".") + "."


def page(text: str) -> str:
    """Return the page with its generated parts as they must be."""
    for name, make in (("overview", overview), ("layouts", layouts)):
        start, end = f"<!-- generated: {name} -->", "<!-- end -->"
        head, _, rest = text.partition(start)
        _, _, tail = rest.partition(end)
        text = f"{head}{start}\n{make()}\n{end}{tail}"
    return text


def main() -> int:
    """Write the page, or say that it is out of date."""
    found = FORMATS_PAGE.read_text(encoding="utf-8")
    wanted = page(found)
    if "--check" in sys.argv[1:]:
        if found != wanted:
            sys.stderr.write("docs/formats.md is out of date; run `make docs`\n")
        return int(found != wanted)
    FORMATS_PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
