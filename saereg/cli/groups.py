"""Groups of commands that are imported one by one, on use."""

import importlib
from collections.abc import Mapping

import click


class Commands(click.Group):
    """A group whose commands are the `command` of the files `FILE_NAME` of this package."""

    def __init__(self, *, file: str, commands_table: Mapping[str, str], **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._file, self._table = file, commands_table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in self._table:
            return None
        command = importlib.import_module(f"saereg.cli.{self._file}_{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the literal table: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._table.items()))
