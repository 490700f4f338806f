"""The pages of the command line, from click's own declarations: what `--help` says, one page per verb."""

import importlib
import inspect
import re
from collections.abc import Iterator

import click

from saereg.cli import GROUPS, cli

FENCE = "```"

ENVIRONMENT = click.Context(cli, info_name="saereg")


def table() -> str:
    """Return the table of all verbs, for a page that is read without the others too."""
    lines = ["| | verb | |", "|---|---|---|"]
    for heading, verbs in GROUPS.items():
        for i, (verb, line) in enumerate(verbs.items()):
            lines.append(f"| {'' if i else heading} | `saereg {verb}` | {prose(line)} |")
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Return name → text of every page."""
    verbs = [verb for group in GROUPS.values() for verb in group]
    return {f"cli/{verb}.md": page(verb) for verb in verbs}


def page(verb: str) -> str:
    """Return the page of a verb; its commands are sections of it."""
    command = importlib.import_module(f"saereg.cli.{verb}").command
    context = click.Context(command, info_name=verb, parent=ENVIRONMENT)
    return "\n".join(_lines(command, context, 1)).rstrip() + "\n"


def _lines(command: click.Command, context: click.Context, depth: int) -> Iterator[str]:
    path = context.command_path
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    yield from (f"{'#' * depth} {path}", "")
    yield from (f"{FENCE}{{program}} {path}", FENCE, "", f"{FENCE}console", f"$ {usage}", FENCE, "")
    yield from (_text(command.help or ""), "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None and "--help" not in parameter.opts:
            yield from _option(*record)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from _lines(below, click.Context(below, info_name=name, parent=context), depth + 1)


def _option(names: str, text: str) -> Iterator[str]:
    # "-d, --data NAME=SPEC" and "--tied / --untied" are what Sphinx wants separated by commas
    yield from (f"{FENCE}{{option}} {names.replace(' / ', ', ')}", "", prose(text) or "–", FENCE, "")


def _text(text: str) -> str:
    """Return the paragraphs of a help text as Markdown; blocks that click does not wrap stay as they are."""
    parts = []
    for part in inspect.cleandoc(text.split("\f")[0]).split("\n\n"):
        if part.startswith("\b"):
            parts.append(f"{FENCE}text\n{part.removeprefix(chr(8)).strip(chr(10))}\n{FENCE}")
        else:
            parts.append(prose(" ".join(part.split())))
    return "\n\n".join(parts)


def prose(text: str) -> str:
    """Return a text in which only `code` is Markdown."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_<>\[\]{}#|])", r"\\\1", p) for p in pieces)
