"""`saereg schema`."""

import click

from saereg.cli.render.text import next_step
from saereg.schemas import export


@click.command()
@click.argument("document", required=False)
def command(document: str | None) -> None:
    """Print the JSON Schema (draft 2020-12) of a document; without a name, list the documents."""
    click.echo(export.schema(document) if document else "\n".join(export.DOCUMENTS), nl=document is None)
    if document:
        next_step(f"saereg schema {document} > {export.path_of(document).name}")
    else:
        next_step("saereg schema", next(iter(export.DOCUMENTS)))
