"""`saereg schema`."""

import click

from saereg.schemas import export


@click.command()
@click.argument("document", required=False)
def command(document: str | None) -> None:
    """Print the JSON Schema (draft 2020-12) of a document; without a name, list the documents."""
    click.echo(export.schema(document) if document else "\n".join(export.DOCUMENTS), nl=document is None)
