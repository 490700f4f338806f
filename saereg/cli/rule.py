"""`saereg rule`."""

import click

from saereg.cli.render.text import next_step, table
from saereg.registry.validators.rules import FAMILIES, RULES, rule


@click.command()
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Explain a rule, or list them all."""
    if code is None:
        rows = [[entry.code, entry.severity, FAMILIES[entry.code[:3]], entry.title] for entry in RULES.values()]
        click.echo(table(["code", "severity", "family", "problem"], rows))
        next_step("saereg rule", next(iter(RULES)))
        return
    found = rule(code)
    click.echo(f"{found.code} ({found.severity}, {FAMILIES[found.code[:3]]}): {found.title}\n")
    click.echo(f"why  {found.why}\nfix  {found.fix}")
    next_step("saereg validate RELEASE")
