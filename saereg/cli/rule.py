"""`saereg rule`."""

import json
import shutil
from collections.abc import Sequence

import click

from saereg.cli.render.rule import listing, markdown, overview, record, text
from saereg.cli.render.text import next_step
from saereg.errors import UsageError, did_you_mean
from saereg.registry.validators.rules.text import Rule, read_rule

FORMATS = ("text", "json", "markdown")


@click.command()
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--plugin", "plugins", multiple=True, metavar="NAME", help="Rules of an installed plugin too; repeat it.")
def command(codes: tuple[str, ...], form: str, plugins: tuple[str, ...]) -> None:
    """Explain rules (SR304), or list a family (SR3) or all of them."""
    from saereg.registry.validators.plugins import book_of

    book = {code: read_rule(rule) for code, rule in book_of(plugins).rules.items()}
    named = [code.strip().upper() for code in codes]
    found = _found(named, book)
    pages = bool(named) and all(code in book for code in named)
    if form == "json":
        click.echo(json.dumps([record(rule) for rule in found], indent=2, ensure_ascii=False))
    elif form == "markdown":
        click.echo("\n".join(map(markdown, found)) if pages else overview(found) + "\n", nl=False)
    elif pages:
        width = shutil.get_terminal_size().columns
        click.echo("\n\n".join(text(rule, width) for rule in found), nl=False)
    else:
        click.echo(listing(found))
    if pages:
        deep = ("--level", found[0].level) if found[0].level in ("weights", "data") else ()
        next_step("saereg validate", "RELEASE", *deep)
    else:
        next_step("saereg rule", found[0].code)


def _found(named: Sequence[str], book: dict[str, Rule]) -> list[Rule]:
    """Return the rules whose codes are named, or begin with what is named, each once.

    Raises:
        UsageError: when no rule is of a name.
    """
    codes: dict[str, None] = {}
    for name in named:
        fitting = [name] if name in book else [code for code in book if name and code.startswith(name)]
        if not fitting:
            guess = did_you_mean(name, book)
            raise UsageError(
                f"unknown rule {name!r}; " + (f"did you mean {guess!r}?" if guess else "`saereg rule` lists them all")
            )
        codes |= dict.fromkeys(fitting)
    return [book[code] for code in (codes if named else book)]
