"""A rule as its page: in Markdown for the documentation, in text for the terminal, as data for other programs."""

import re
import textwrap
from collections.abc import Iterable, Iterator

import click

from saereg.cli.render.text import table
from saereg.registry.validators.profiles import Change, changes_of
from saereg.registry.validators.rules import FAMILIES
from saereg.registry.validators.rules.text import Example, Rule
from saereg.schemas import jsontext

LANGUAGES = {".json": "json", ".md": "markdown", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".py": "python"}
"""Suffix of an example → language of its code fence; all others are text."""

FIXES = {
    None: "mended by hand",
    "safe": "some findings are mended by `saereg validate --fix`",
    "unsafe": "some findings are mended by `saereg validate --unsafe-fixes`",
}
"""How a rule is fixable, in words."""

LIGHTER = {"error": "warning", "warning": "note", "note": "error"}
"""Severity → the one that the example of a configuration gives instead."""

WIDEST = 100
"""Longest line of a page in the terminal."""


def family_of(code: str) -> str:
    """Return what the rules of a family are about."""
    return FAMILIES.get(code[:3], "third party")


def facts(rule: Rule) -> str:
    """Return the line of facts under the title."""
    also = f" (some findings: {', '.join(rule.also)})" if rule.also else ""
    silenced = "may be silenced" if rule.silenceable else "its errors may not be silenced"
    return f"{rule.severity}{also} · from level {rule.level} · {FIXES[rule.fixable]} · {silenced}"


def configuration(rule: Rule) -> str:
    """Return the parts of a saereg.toml that silence a rule or grade it otherwise."""
    return "\n".join(
        (
            "[[ignore]]",
            f'rules = ["{rule.code}"]',
            'paths = ["**"]  # better only some files; artifacts = ["layer_6/*"] names artifacts',
            'reason = "why this is known and accepted, in a few words"',
            "",
            "# or instead:",
            "[severity]",
            f'{rule.code} = "{LIGHTER[(*rule.also, rule.severity)[0]]}"',
        )
    )


def silencing(rule: Rule) -> tuple[str, str | None]:
    """Return the sentence on how a rule is silenced, and the part of a saereg.toml where there is one."""
    if rule.silenceable:
        return "In saereg.toml; what is ignored stays in the report, with its reason and counted apart:", (
            configuration(rule)
        )
    sentence = "Its errors can neither be ignored nor graded down, for the reason above."
    if not rule.also:
        return sentence, None
    lighter = " and ".join(f"{severity}s" for severity in rule.also)
    return f"{sentence} Its {lighter} can be, in saereg.toml:", configuration(rule)


def changes(rule: Rule) -> tuple[str, ...]:
    """Return one sentence for each profile and policy that grades the rule otherwise."""
    return tuple(
        f"{change.kind.capitalize()} `{change.name}` {_does(change)}."
        for change in changes_of(rule.code)
        if change.reason or change.severity != rule.severity
    )


def _does(change: Change) -> str:
    if change.reason:
        return f"ignores it: {change.reason.partition(' (profile ')[0]}"
    article = "an" if change.severity == "error" else "a"
    return f"makes it {article} {change.severity}"


def record(rule: Rule) -> dict[str, object]:
    """Return a rule as plain data."""
    return {
        "code": rule.code,
        "title": rule.title,
        "family": family_of(rule.code),
        "severity": rule.severity,
        "also": list(rule.also),
        "level": rule.level,
        "fixable": rule.fixable,
        "silenceable": rule.silenceable,
        "what": rule.what,
        "why": rule.why,
        "fix": rule.fix,
        "bad": {"file": rule.bad.file, "text": rule.bad.text},
        "good": {"file": rule.good.file, "text": rule.good.text},
        "changes": [
            {"kind": change.kind, "name": change.name, "severity": change.severity, "reason": change.reason}
            for change in changes_of(rule.code)
        ],
        "url": rule.url,
    }


def markdown(rule: Rule) -> str:
    """Return the page of a rule."""
    sentence, snippet = silencing(rule)
    parts = [
        f"# {rule.code}: {rule.title}",
        _capital(facts(rule)) + ".",
        *_section("What it looks at", rule.what),
        *_section("Why it matters", rule.why),
        *_example("Bad", rule.bad),
        *_example("Good", rule.good),
        *_section("How to fix", rule.fix),
        *_section("How to silence", sentence),
        *([_fenced(snippet, "toml")] if snippet else []),
        *_section("Profiles and policies", "\n".join(f"- {line}" for line in changes(rule))),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", _filled(text)] if text else []


def _filled(text: str, width: int = 110) -> str:
    """Return prose in lines of a bearable length; lists stay as they are."""
    wrapped = (p if p.startswith("- ") else "\n".join(_wrapped(p, width)) for p in text.split("\n\n"))
    return "\n\n".join(wrapped)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _example(title: str, example: Example) -> list[str]:
    if not example.text:
        return []
    name, comma, remark = re.split(r"(,?)(?: |$)", example.file, maxsplit=1)
    return [
        f"## {title}",
        f"`{name}`{comma}{' ' + remark if remark else ''}:",
        _fenced(example.text, _language(name, example)),
    ]


def _language(name: str, example: Example) -> str:
    """Return the language of an example by its file, but none for JSON that is none: it would be marked as wrong."""
    suffix = re.search(r"\.\w+$", name)
    language = LANGUAGES.get(suffix[0], "text") if suffix else "text"
    return language if language != "json" or _is_json(example.text) else "text"


def _is_json(text: str) -> bool:
    """Whether a text is JSON, or a part of an object."""
    for candidate in (text, "{" + text.rstrip().rstrip(",") + "}"):
        try:
            jsontext.parse(candidate)
        except jsontext.JsonError:
            continue
        return True
    return False


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def listing(rules: Iterable[Rule]) -> str:
    """Return the table of rules for the terminal."""
    head = ("code", "severity", "level", "family", "problem")
    return table(head, [[rule.code, rule.severity, rule.level, family_of(rule.code), rule.title] for rule in rules])


def overview(rules: Iterable[Rule]) -> str:
    """Return the tables of rules in Markdown, one for each family, with links to their pages."""
    families: dict[str, list[Rule]] = {}
    for rule in rules:
        families.setdefault(rule.code[:3], []).append(rule)
    head = "| rule | severity | level | fix | problem |\n|---|---|---|---|---|"
    return "\n\n".join(
        f"## {prefix}: {family_of(prefix)}\n\n{head}\n" + "\n".join(_row(rule) for rule in members)
        for prefix, members in families.items()
    )


def _row(rule: Rule) -> str:
    code = f"[{rule.code}]({rule.code}.md)" if rule.code[:3] in FAMILIES else rule.code
    severity = ", ".join((rule.severity, *rule.also))
    title = rule.title.replace("|", r"\|")
    return f"| {code} | {severity} | {rule.level} | {rule.fixable or '–'} | {title} |"


def text(rule: Rule, width: int) -> str:
    """Return the page of a rule for a terminal of that many columns; examples are never wrapped."""
    width = max(40, min(width, WIDEST))
    sentence, snippet = silencing(rule)
    blocks = [
        *(click.style(line, bold=True) for line in _wrapped(f"{rule.code}: {rule.title}", width)),
        *_wrapped(facts(rule), width),
        "",
        *_prose("what it looks at", rule.what, width),
        *_prose("why it matters", rule.why, width),
        *_code("bad", rule.bad),
        *_code("good", rule.good),
        *_prose("how to fix", rule.fix, width),
        *_prose("how to silence", sentence, width),
        *([*_indented(snippet), ""] if snippet else []),
        *_prose("profiles and policies", "\n\n".join(changes(rule)), width),
    ]
    return "\n".join(blocks).rstrip() + "\n"


def _prose(title: str, prose: str, width: int) -> Iterator[str]:
    if not prose:
        return
    yield click.style(title, bold=True)
    for paragraph in prose.split("\n\n"):
        yield from (f"  {line}" for line in _wrapped(paragraph, width - 2))
    yield ""


def _code(title: str, example: Example) -> Iterator[str]:
    if example.text:
        yield f"{click.style(title, bold=True)}: {example.file}"
        yield from _indented(example.text)
        yield ""


def _indented(code: str) -> list[str]:
    return [f"    {line}".rstrip() for line in code.splitlines()]
