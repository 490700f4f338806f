"""What `saereg validate` does for --fix, --unsafe-fixes and --diff."""

from pathlib import Path

import click

from saereg.cli.flags import Flags
from saereg.cli.render.context import Context
from saereg.cli.render.text import plural
from saereg.errors import UsageError
from saereg.registry.fixing.apply import Fixes, Validate, plan_fixes, write_fixes
from saereg.schemas.report import Report


def mended(root: Path | None, report: Report, validate: Validate, flags: Flags, select: tuple[str, ...] = ()) -> Fixes:
    """Return what is mended, written already unless it is only to be shown.

    Raises:
        UsageError: when the release is not on this machine, or changed meanwhile.
        OSError: when a file cannot be written.
    """
    if root is None:
        raise UsageError("--fix, --unsafe-fixes and --diff need the release on this machine; download it first")
    try:
        fixes = plan_fixes(root, report, validate, unsafe=flags.unsafe_fixes, select=select)
    except PermissionError as error:
        where = root.resolve().parent
        raise UsageError(f"fixes are proved on a copy beside the release, and {where} may not be written") from error
    if fixes.changed and not fixes.problem and not flags.diff:
        try:
            write_fixes(root, fixes)
        except ValueError as error:
            raise UsageError(str(error)) from None
    return fixes


def say(fixes: Fixes, flags: Flags) -> None:
    """Say on stderr what was mended, would be, or could not be."""
    if fixes.problem:
        click.echo(f"nothing {'would be' if flags.diff else 'was'} mended: {fixes.problem}", err=True)
        return
    codes = ", ".join(sorted({finding.code for finding in fixes.fixed}))
    what = f"{plural(len(fixes.fixed), 'finding')} in {plural(len(fixes.changed), 'file')}"
    if fixes.changed:
        click.echo(f"{'would mend' if flags.diff else 'mended'} {what}: {codes}", err=True)
    else:
        more = "" if flags.unsafe_fixes else "; --unsafe-fixes also mends what changes a statement"
        click.echo(f"nothing to mend{more}", err=True)


def shown_diff(fixes: Fixes, report: Report, context: Context) -> str:
    """Return the changes as a patch, without the files in which a line may not be shown."""
    secret = frozenset(f.path for f in report.findings if f.path and not context.shows_source(f))
    notes = [
        f"# {path}: not shown, a finding there is about a secret\n" for path in sorted(secret & set(fixes.changed))
    ]
    return "".join(notes) + fixes.diff(without=secret)
