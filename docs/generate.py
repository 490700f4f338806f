"""Write the generated parts of the documentation: `python docs/generate.py [--check]`.

Parts that are read on GitHub too are committed, and `--check` says which are out of date. The pages of the command
line and of the documents repeat what the code says, word for word and field by field: they are made for `make docs`
alone, in `docs/_generated`, which git ignores, so that no change of an option is two changes.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from saereg.cli.render.coverage import as_markdown, rules_markdown
from saereg.cli.render.rule import markdown
from saereg.cli.render.rule import overview as table_of_rules
from saereg.registry.coverage.facts import load_facts
from saereg.registry.coverage.rules import listed
from saereg.registry.coverage.table import coverage
from saereg.registry.formats import FORMATS
from saereg.registry.readings.format import Format
from saereg.registry.validators.profiles import POLICIES, PROFILES, Profile
from saereg.registry.validators.rules import RULES
from saereg.registry.validators.rules.text import Rule, read_rule

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # for the files beside this one, also where this one is loaded by its path

import generate_cli  # noqa: E402
import generate_schemas  # noqa: E402

GENERATED = "_generated"


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


def profiles() -> str:
    """Return the table of all profiles and policies."""
    lines = ["| kind | name | for | adds to | asks for | grades |", "|---|---|---|---|---|---|"]
    for kind, table in (("profile", PROFILES), ("policy", POLICIES)):
        for entry in table.values():
            extends = f"`{entry.extends}`" if entry.extends else ""
            lines.append(f"| {kind} | `{entry.name}` | {entry.about} | {extends} | {_asks(entry)} | {_grades(entry)} |")
    return "\n".join(lines)


def _asks(entry: Profile) -> str:
    words = [f"layout `{entry.layout}`"] if entry.layout else []
    words += [f"level `{entry.level}`"] if entry.level else []
    words += [f"a report of level `{entry.at_least}`"] if entry.at_least else []
    return ", ".join(words)


def _grades(entry: Profile) -> str:
    by_severity: dict[str, list[str]] = {}
    for code, severity in entry.severity.items():
        by_severity.setdefault(severity, []).append(_linked(code))
    words = [f"{severity}: {', '.join(codes)}" for severity, codes in by_severity.items()]
    off = ", ".join(f"{_linked(code)} ({reason})" for code, reason in entry.off.items())
    return "; ".join(words + ([f"off: {off}"] if off else []))


def _linked(code: str) -> str:
    return f"[{code}](rules/{code}.md)" if code in RULES else f"`{code}`"


def unsilenced() -> str:
    """Return the list of rules whose errors may not be silenced."""
    rules = (read_rule(rule) for rule in RULES.values())
    lines = (f"- {_linked(rule.code)}: {rule.title}{_lighter(rule)}" for rule in rules if not rule.silenceable)
    return "\n".join(lines)


def _lighter(rule: Rule) -> str:
    return f" (its {' and '.join(f'{severity}s' for severity in rule.also)} may be)" if rule.also else ""


def coverage_rules() -> str:
    """Return the table of the rules that decide a cell of the coverage table."""
    return rules_markdown(listed())


def coverage_table() -> str:
    """Return the coverage table without a catalogue, with its sources."""
    return as_markdown(coverage(load_facts(), None)).rstrip()


PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "formats.md": {"overview": overview, "layouts": layouts},
    "validate.md": {"profiles": profiles, "unsilenced": unsilenced},
    "coverage.md": {"rules": coverage_rules, "table": coverage_table},
    "cli.md": {"verbs": generate_cli.table},
    "documents.md": {"documents": generate_schemas.table},
}
"""Page → name of a generated part → what writes it."""

INTRODUCTION = """# Rules

Every finding of `saereg validate` has the code of a rule, and every rule a page: what is looked at, why it matters,
how to fix it, how to silence it. `saereg rule CODE` prints the same page. A code never changes its meaning. Levels,
severities and configuration: [validate.md](../validate.md).
"""


def page(text: str, parts: Mapping[str, Callable[[], str]] = PARTS["formats.md"]) -> str:
    """Return a page with its generated parts as they must be."""
    for name, make in parts.items():
        start, end = f"<!-- generated: {name} -->", "<!-- end -->"
        head, mark, rest = text.partition(start)
        _, _, tail = rest.partition(end)
        if not mark:
            raise ValueError(f"there is no line {start}")
        text = f"{head}{start}\n{make()}\n{end}{tail}"
    return text


def pages(docs: Path = DOCS) -> dict[Path, str]:
    """Return every page that is generated, or has generated parts, as it must be."""
    found = {docs / name: page((docs / name).read_text(encoding="utf-8"), parts) for name, parts in PARTS.items()}
    rules = [read_rule(rule) for rule in RULES.values()]
    found[docs / "rules/README.md"] = f"{INTRODUCTION}\n{table_of_rules(rules)}\n"
    foot = "\n[All rules](README.md) · [levels, profiles and configuration](../validate.md)\n"
    return found | {docs / f"rules/{rule.code}.md": markdown(rule) + foot for rule in rules}


def out_of_date(docs: Path = DOCS) -> list[Path]:
    """Return the pages that are not as they must be; those that no rule has any more are among them."""
    wanted = pages(docs)
    present = set((docs / "rules").glob("*.md")) | {path for path in wanted if path.is_file()}
    texts = {path: path.read_text(encoding="utf-8") for path in present}
    return sorted(path for path in present | set(wanted) if texts.get(path) != wanted.get(path))


def reference() -> dict[str, str]:
    """Return the pages that are not committed: path under `_generated` → text."""
    return generate_cli.pages() | generate_schemas.pages()


def write_reference(pages: Mapping[str, str], folder: Path) -> None:
    """Write them, and remove what is none of them; what is the same keeps its time, so that Sphinx passes over it."""
    wanted = {folder / name: text for name, text in pages.items()}
    for path in folder.rglob("*"):
        if path not in wanted and path.is_file():
            path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def main() -> int:
    """Write the pages, or say which are out of date."""
    old, wanted = out_of_date(), pages()
    if "--check" in sys.argv[1:]:
        for path in old:
            sys.stderr.write(f"docs/{path.relative_to(DOCS).as_posix()} is out of date; run `make docs`\n")
        return int(bool(old))
    (DOCS / "rules").mkdir(exist_ok=True)
    for path in old:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    write_reference(reference(), DOCS / GENERATED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
