"""The command line: parse, call, render, exit code. Verbs are imported when they are used, so --help is quick."""

import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from saereg import __version__
from saereg.errors import ExitCode, InterruptedRunError, SaeregError, did_you_mean

GROUPS: dict[str, dict[str, str]] = {
    "Make": {
        "init": "Turn a grid of checkpoints into a release.",
        "convert": "Convert a dictionary to another layout, with proof.",
        "build": "Look at every file of a release; write index.json, figures, cards.",
        "plot": "Draw figures of a release from its evidence.",
        "features": "Show latents with what activates them most.",
        "site": "Make a page on which one can explore a release.",
        "upgrade": "Turn documents of an earlier or foreign make into today's.",
    },
    "Check": {
        "detect": "Name the layout of a dictionary and say why.",
        "validate": "Check a release; the exit code says whether it may go out.",
        "metrics": "Recompute metrics, compare claims with them, measure transfer.",
        "rule": "Explain a rule, or list them all.",
        "schema": "Print the JSON Schema of a document.",
    },
    "Ship": {
        "sign": "Sign a release with a private key.",
        "publish": "Put a validated release where readers find it.",
        "verify": "Compare a release on the Hub with its own index.",
        "pull": "Fetch artifacts of a release, compared with its index.",
        "lock": "Pin releases to commits and digests.",
        "yank": "Mark a published version as wrong; nothing is deleted.",
        "deprecate": "Mark a published version as superseded.",
        "hub": "A hub of your own on this machine, to rehearse on.",
    },
    "Query": {
        "ls": "List artifacts: of releases, or of the whole catalogue.",
        "show": "Show one release or one artifact.",
        "load": "Fetch one artifact, compare it with its index, say what it is.",
        "diff": "Say what changed between two releases.",
        "sql": "Ask the catalogue in SQL; nothing can be changed.",
        "coverage": "Which model families have checkpoints, dictionaries, results.",
        "registry": "Fill the catalogue; check and write registries of others.",
    },
    "Train": {
        "train": "Collect activations and train dictionaries.",
        "demo": "The whole journey on real input, offline.",
    },
}
"""Heading → verb → its one line. Each verb is the command `command` in the file of its name."""


INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143
"""What shells call a process that was ended by Ctrl-C, because nobody reads its output any more, or by SIGTERM."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what is half done is removed."""


class Verbs(click.Group):
    """A group whose commands are imported one by one, on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every verb."""
        return [verb for verbs in GROUPS.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"saereg.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the closest verb when there is none of that name."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            guess = did_you_mean(args[0], self.list_commands(ctx))
            ctx.fail(f"no such command {args[0]!r}" + (f"; did you mean {guess!r}?" if guess else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by group, from the literal table: nothing is imported for it."""
        for heading, verbs in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl(list(verbs.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="saereg")
def cli() -> None:
    """Releases of sparse autoencoders, transcoders and crosscoders: made, checked, shipped, queried.

    TARGET is a release folder, hf://org/repo[@revision], or release:artifact_id.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. Every error on purpose is one line; data goes to stdout, the rest to stderr."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.freeze()  # a process that ends soon: see saereg.schemas.garbage
    sys.exit(run(arguments))


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _flush() -> None:
    if sys.stdout is not None:  # it is None where the shell closed it
        sys.stdout.flush()


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        words = list(arguments) if arguments is not None else None
        colour = False if os.environ.get("NO_COLOR") else None
        code = cli.main(args=words, prog_name="saereg", standalone_mode=False, color=colour)
        _flush()
        return int(code or ExitCode.CLEAN)
    except click.exceptions.Abort as error:
        click.echo("stopped", err=True)
        return TERMINATED if isinstance(error.__cause__, Terminated) else INTERRUPTED
    except click.ClickException as error:
        _show(error)
        return int(ExitCode.USAGE)
    except InterruptedRunError as error:
        click.echo(str(error), err=True)
        return 128 + error.signal  # as shells call a process that a signal ended
    except SaeregError as error:
        click.echo(f"error: {error}", err=True)
        return int(error.exit_code)
    except (BrokenPipeError, SystemExit):
        # The reader of our output went away (`| head`), which click answers with an exit of its own. Point stdout
        # elsewhere, so that the exit is silent too; and answer as a process that the system ended for it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        click.echo(f"error: {error.filename or 'file'}: {error.strerror or error}", err=True)
        return int(ExitCode.USAGE)
    except Exception as error:
        if os.environ.get("SAEREG_TRACEBACK"):
            raise
        if _is_out_of_memory(error):
            line = " ".join(str(error).split()).rpartition("DefaultCPUAllocator: ")[2].split(". ")[0].rstrip(".")
            less = "take smaller batches, fewer latents (d_sae), or fewer dictionaries at once"
            click.echo(f"error: out of memory{f' ({line})' if line else ''}; {less}", err=True)
            return int(ExitCode.USAGE)
        kind = type(error).__name__
        click.echo(f"internal error: {kind}: {error} (SAEREG_TRACEBACK=1 shows where; please report it)", err=True)
        return int(ExitCode.INTERNAL)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: Python's, that of a GPU (torch.OutOfMemoryError), or that of torch's CPU allocator."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "CPUAllocator" in str(error)


def _show(error: click.ClickException) -> None:
    """Say what is wrong with the command, and where its help is; without any argument, the help itself."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    message = error.format_message().rstrip(".")
    click.echo(f"error: {message[:1].lower()}{message[1:]}", err=True)
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(f"help: {context.command_path} --help", err=True)
