"""`saereg sign`."""

import os
from pathlib import Path

import click

from saereg.cli.options import local_folder
from saereg.cli.render.text import next_step, plural, size
from saereg.errors import UsageError


@click.command()
@click.argument("target")
@click.option(
    "--key", type=click.Path(path_type=Path), required=True, help="Private key, P-256, P-384 or P-521, a PEM file."
)
@click.option("--password-env", metavar="NAME", help="Environment variable with the password of the key.")
@click.option("--jobs", type=click.IntRange(1), help="Threads that hash files [default: up to 8].")
def command(target: str, key: Path, password_env: str | None, jobs: int | None) -> None:
    """Sign a release: write model.sig, a Sigstore bundle over the digests of its files.

    Signed are manifest.json, index.json and every file of the index but cards; do it last, after `saereg build`. What
    changes the index, as `saereg build` or `saereg yank`, makes the signature stale: sign again. Nothing is sent
    anywhere. Files that have not changed since they were last hashed on this machine are not read again.
    """
    from saereg.publishers.signing.sign import sign_release

    done = sign_release(local_folder(target), key, _password(password_env), jobs)
    what = f"{plural(done.files, 'file')}, {size(done.bytes)}"
    said = f"signed {what}" if done.changed else f"is there, of this key and of these {what}; nothing is written"
    click.echo(f"{done.path.name}: {said}\nkey: sha256 {done.key}")
    next_step("saereg publish", target, "hf://ORG/NAME", "--require-signature", "--public-key", "PUBLIC.pem")


def _password(name: str | None) -> bytes | None:
    """Return the password in an environment variable; it is never an argument, which other users of a machine see."""
    if name is None:
        return None
    if not (password := os.environ.get(name)):
        raise UsageError(f"--password-env {name}: there is no such environment variable, or it is empty")
    return os.fsencode(password)
