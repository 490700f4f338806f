"""`saereg yank`."""

from typing import Any

import click

from saereg.cli.withdrawing import arguments, run


@click.command()
@arguments
def command(target: str, **flags: Any) -> None:  # noqa: ANN401 - one value per flag
    """Mark a published version, or artifacts of it, as wrong; nothing is deleted.

    The mark, with its reason and what to use instead, goes into manifest.json, the card and index.json of TARGET: a
    release folder, or in one commit hf://org/repo[@branch], where @branch is for another one than main. Who asks for
    the version by its name still gets it, and is told. VERSION is the manifest's own unless it is given. What is signed
    is marked in its folder, signed again and published.
    """
    run("yanked", target, **flags)
