"""`saereg verify`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural, size, visible
from saereg.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from saereg.registry.fetching.opening import RemoteRelease
    from saereg.registry.fetching.verifying import Verified

NAMED = 8
"""Files without a signature that are named."""


@click.command()
@click.argument("target")
@click.option(
    "--sample", type=click.IntRange(min=0), default=0, metavar="N", help="Also download N artifacts and run them."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which artifacts are chosen.")
@click.option(
    "--public-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Check model.sig with this public key (PEM), and name what it leaves out; no weights are downloaded for it.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A local copy: small files that are the same there are not fetched.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(target: str, sample: int, seed: int, public_key: Path | None, against: Path | None, form: str) -> int:
    """Compare a release on the Hub with its own index: every file, its size and its sha256, at one commit.

    TARGET is hf://org/repo[@revision]. No weights are downloaded: the Hub lists their digests. Exit code 0: all is
    there; 1: findings; 4: the Hub cannot be asked; 5: no release.
    """
    from saereg.registry.fetching.opening import hub_reference, open_remote
    from saereg.registry.fetching.verifying import Sampling, verify
    from saereg.registry.hub import name_of

    reference = hub_reference(target)
    if reference.artifact is not None:
        raise UsageError(f"{target}: a release is verified as a whole; leave out {reference.artifact}")
    if against is not None and not against.is_dir():
        raise UsageError(f"--against {against} is not a folder")
    remote = open_remote(str(reference.repo), reference.revision)
    with bar("verify") as progress:
        verified = verify(remote, Sampling(sample, seed), against=against, progress=progress)
    signed = ""
    if public_key is not None:
        verified, signed = _with_signature(remote, verified, public_key)
    click.echo(verified.report.text() if form == "json" else _text(remote, verified, signed), nl=False)
    if verified.report.errors:
        next_step("saereg rule", verified.report.errors[0].code)
        return int(ExitCode.FINDINGS)
    # what is taken back is only pulled by exactly its commit
    name = remote.reference if verified.marks else name_of(remote.repo, remote.requested)
    next_step("saereg pull", name, "--all")
    return int(ExitCode.CLEAN)


def _with_signature(remote: "RemoteRelease", verified: "Verified", key: Path) -> "tuple[Verified, str]":
    """Check the signature against the digests of the repository: SR607, and lines on what is signed and what is not."""
    from saereg.errors import SignatureError
    from saereg.publishers.signing.check import check_signature
    from saereg.registry.fetching.verifying import signature_of, with_findings
    from saereg.registry.files.names import SIGNATURE_FILE
    from saereg.registry.validators.findings import finding

    raw, problem, line = signature_of(remote), "", ""
    if raw is None:
        problem = f"there is no {SIGNATURE_FILE}"
    else:
        try:
            checked = check_signature(raw, key, verified.digests)
            problem = "" if checked.complete else checked.sentence
            others = sorted(set(remote.files) - set(checked.covered) - {SIGNATURE_FILE})
            line = f"signed: {plural(len(checked.covered), 'file')}, by the key {checked.key}\n{_unsigned(others)}"
        except SignatureError as error:
            problem = str(error)
    if not problem:
        return with_findings(verified, ()), line
    return with_findings(verified, (finding("SR607", problem, path=SIGNATURE_FILE),)), ""


def _unsigned(paths: list[str]) -> str:
    """Return one line on the files that anybody who may write there can change."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"not signed: {visible(', '.join(paths[:NAMED])) or 'nothing'}{more}"


def _text(remote: "RemoteRelease", verified: "Verified", signed: str) -> str:
    from saereg.cli.render.context import Context
    from saereg.cli.render.plain import as_text

    known = verified.listed + verified.known + verified.fetched
    ways = (
        (verified.listed, "by the digests of the Hub"),
        (verified.known, "by a local copy"),
        (verified.fetched, "fetched"),
        (verified.files - known, "missing or of another size"),
    )
    told = ", ".join(f"{count} {way}" for count, way in ways if count)
    lines = [f"compared {plural(verified.files, 'file')}, {size(verified.bytes)}, beside manifest and index: {told}"]
    for sample in verified.samples:
        rows = f"golden vectors of {plural(sample.rows, 'row')} replayed" if sample.rows else "not replayed"
        wrong = f": {plural(len(sample.findings), 'finding')}" if sample.findings else ""
        lines.append(f"sample {sample.artifact}: {plural(sample.files, 'file')}, {size(sample.bytes)}, {rows}{wrong}")
    lines += [signed] if signed else []
    lines += [f"withdrawn: {mark}" for mark in verified.marks]
    return as_text(verified.report, Context(repository=remote.repo)) + "\n".join(lines) + "\n"
