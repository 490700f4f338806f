"""`saereg registry`: a group whose commands are imported one by one, on use."""

import click

from saereg.cli.groups import Commands

COMMANDS = {
    "add": "Put releases, repositories, SAELens' registry or foreign inventories into the catalogue.",
    "sync": "Read again what changed since.",
    "list": "List the sources of the catalogue.",
    "remove": "Take a source out of the catalogue.",
    "check": "Lint the registry of the installed SAELens.",
    "emit": "Write what another registry needs: saelens-yaml, neuronpedia, circuit-tracer.",
}
"""Command → its one line. Each is the command `command` in the file `registry_NAME`."""


@click.group(cls=Commands, file="registry", commands_table=COMMANDS)
def command() -> None:
    """Fill the catalogue of releases; check and write the registries of others."""
