"""`saereg hub`: a hub on this machine."""

import shlex
from pathlib import Path

import click

from saereg.cli.render.text import next_step, size
from saereg.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost")


@click.group()
def command() -> None:
    """Serve a hub of your own on this machine, to rehearse a release on."""


@command.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--allow-remote", is_flag=True, help="Listen on another address than this machine's own.")
@click.option("--no-xet", is_flag=True, help="Be a hub without Xet storage: clients need HF_HUB_DISABLE_XET=1.")
@click.option("--no-pull-requests", is_flag=True, help="Be a hub that has no pull requests.")
@click.option("--no-lock", is_flag=True, help="Be a hub that takes a commit whatever its parent.")
@click.option("--no-tags", is_flag=True, help="Be a hub that has no tags.")
@click.option("--allow-faults", is_flag=True, help="For tests: POST /_faults says which requests fail, and how.")
@click.option("--quiet", "-q", is_flag=True, help="Print the address and nothing else.")
def serve(folder: Path, port: int, host: str, *, allow_remote: bool, quiet: bool, **switches: bool) -> None:
    """Keep repositories in FOLDER and serve them until Ctrl-C.

    Every token that starts with hf_ may write, one with "read" in it may not, one with "propose" in it may only open
    pull requests: this is no place for secrets.
    """
    from saereg.publishers.local_hub import Request, Switches, open_hub

    if host not in LOOPBACK and not allow_remote:
        raise UsageError(f"--host {host}: this hub lets everybody write; add --allow-remote if that is meant")
    allow_faults = switches.pop("allow_faults")
    able = {name.removeprefix("no_"): not off for name, off in switches.items()}
    try:
        server = open_hub(folder, host, port, Switches(**able, allow_faults=allow_faults))
    except OSError as error:
        if error.filename:  # the folder rather than the port
            raise
        raise UsageError(
            f"--port {port}: {error.strerror} on {host}; name another, or 0 for any that is free"
        ) from error

    def log(request: Request) -> None:
        bytes_ = f"{size(request.received)} in, {size(request.sent)} out"
        click.echo(f"{request.status} {request.method} {request.path}  {bytes_}", err=True)

    click.echo(server.url)
    if not quiet:
        server.log = log
        settings = f"HF_ENDPOINT={server.url} HF_TOKEN=hf_local" + (
            " HF_HUB_DISABLE_XET=1" if switches["no_xet"] else ""
        )
        click.echo(f"repositories in {shlex.quote(str(folder))}; stop with Ctrl-C", err=True)
        next_step(f"{settings} saereg publish RELEASE hf://local/rehearsal")
    try:
        server.serve_forever(0.05)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        server.stop()
