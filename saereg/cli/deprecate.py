"""`saereg deprecate`."""

from typing import Any

import click

from saereg.cli.withdrawing import arguments, run


@click.command()
@arguments
@click.option("--replace", is_flag=True, help="Also make less of what is yanked: it is not wrong after all.")
def command(target: str, **flags: Any) -> None:  # noqa: ANN401 - one value per flag
    """Mark a published version, or artifacts of it, as superseded: not wrong, but there is something better.

    The mark, with its reason and what to use instead, goes into manifest.json, the card and index.json of TARGET: a
    release folder, or in one commit hf://org/repo[@branch], where @branch is for another one than main. VERSION is the
    manifest's own unless it is given. What is signed is marked in its folder, signed again and published.
    """
    run("deprecated", target, **flags)
