"""`saereg metrics`: a group whose commands are imported one by one, on use."""

import importlib

import click

COMMANDS = {
    "compare": "Say of every claim whether the weights bear it out, and under which definition.",
    "recompute": "Compute every metric of one or many dictionaries from their weights.",
    "transfer": "Measure every dictionary on every corpus: a matrix, and what is lost between them.",
}
"""Command → its one line. Each is the command `command` in the file `metrics_NAME`."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"saereg.cli.metrics_{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the literal table: nothing is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands)
def command() -> None:
    """Recompute metrics from weights, compare them with what is claimed, measure transfer."""
