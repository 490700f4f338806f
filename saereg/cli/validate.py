"""`saereg validate`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg.cli.flags import Flags, Output, outputs, settings_of, validation_flags
from saereg.cli.options import local_folder, models, require_known_models
from saereg.cli.progress import bar
from saereg.cli.render.context import Context, prefix_of
from saereg.cli.render.report import RENDERERS
from saereg.cli.render.text import next_step
from saereg.errors import ExitCode, SaeregError, UsageError
from saereg.registry.files.place import FolderPlace, Place
from saereg.registry.files.roles import role_of
from saereg.registry.refs import Reference, parse_reference
from saereg.registry.release import INDEX_FILE, MANIFEST_FILE
from saereg.registry.validators.rules.text import Rule, read_rule
from saereg.schemas.report import LEVELS, SEVERITIES, Finding, Report, read_report
from saereg.schemas.settings import Settings

if TYPE_CHECKING:
    from saereg.registry.fixing.apply import Fixes
    from saereg.registry.validators.options import Options

LOCAL_LEVELS = LEVELS[2:]
"""Levels that read weights, and so need the release on this machine."""


DOCUMENTS = (MANIFEST_FILE, INDEX_FILE, "README.md")
"""Files of a release that no report may replace, as little as those that artifacts consist of."""


@dataclass(frozen=True)
class Subject:
    """What is looked at: the words of the user, what they refer to, and the configuration for it."""

    target: str
    reference: Reference
    settings: Settings
    called: str | None

    @property
    def root(self) -> Path | None:
        """Its folder, or None when it is on the Hub."""
        return self.reference.folder


@click.command()
@click.argument("target", required=False)
@validation_flags
def command(target: str | None, flags: Flags) -> int:
    """Check a release: a folder, or hf://org/repo[@revision], of which documents and headers alone are fetched.

    Levels: layout (names, documents) < header (configurations, safetensors headers) < weights (values, golden vectors,
    round trip) < data (metrics recomputed). Exit code 0: clean; 1: findings; 5: nothing to validate.
    """
    wanted = outputs(flags.formats, tuple(RENDERERS))
    if flags.load is not None:
        report, context = _loaded(target, flags.load, flags)
        _spare(context.root, wanted)
    elif target is None:
        raise click.UsageError("missing argument 'TARGET'", click.get_current_context())
    else:
        subject = _subject(target, flags)
        _spare(subject.root, wanted)
        report, context = _validated(subject, flags)
    fixes = None
    if flags.mends:
        fixes, report = _mended(target, report, context, flags)
        wanted = tuple(output for output in wanted if output.path or not flags.diff)
    write_reports(report, context, wanted)
    grave = [finding for finding in report.findings if context.fails(finding)]
    if fixes is not None and (fixes.problem or (flags.diff and fixes.changed)):
        return int(ExitCode.CLEAN if flags.exit_zero else ExitCode.FINDINGS)
    _name_next(target, report, grave, flags)
    return int(ExitCode.FINDINGS if grave and not flags.exit_zero else ExitCode.CLEAN)


def _subject(target: str, flags: Flags) -> Subject:
    """Return what a target means, together with the configuration for it."""
    reference = parse_reference(target)
    root = local_folder(target) if reference.repo is None else None
    return Subject(target, reference, *settings_of(flags, root))


def _spare(root: Path | None, wanted: tuple[Output, ...]) -> None:
    """Refuse to write a report over a file of the release that it is about."""
    for path in (output.path for output in wanted):
        if root is None or path is None or not path.resolve().is_relative_to(root.resolve()):
            continue
        name = path.resolve().relative_to(root.resolve()).as_posix()
        if name in DOCUMENTS or role_of(name) not in ("card", "other") or path.suffix == ".safetensors":
            raise UsageError(f"{path} is a file of the release; give the report another name")


def _validated(subject: Subject, flags: Flags) -> tuple[Report, Context]:
    """Validate a release, here or on the Hub."""
    if flags.checkpoints is not None and not flags.checkpoints.is_dir():
        raise UsageError(f"--checkpoints {flags.checkpoints} is not a folder")
    if flags.models and subject.root is not None:
        _require_known_models(subject.root, flags)
    place = _place(subject, flags)
    keep = _keeper(subject, flags)
    report = _report(subject.root or place, subject.settings, flags)
    keep(report)
    return report, _context(place.folder, subject, flags)


def _keeper(subject: Subject, flags: Flags) -> Callable[[Report], object]:
    """Return what keeps the report for `saereg publish`; this command always looks anew."""
    deep = flags.level in LOCAL_LEVELS or (flags.level is None and subject.settings.policy is not None)
    if subject.root is None or flags.mends or not deep:
        return lambda report: None
    from saereg.registry.validators.remembered import fingerprint, remember

    root, before = subject.root, fingerprint(subject.root, subject.settings, _options(flags))
    return lambda report: remember(root, report, before)


def _require_known_models(root: Path, flags: Flags) -> None:
    """Refuse a model that no evaluation needs; of a manifest that cannot be read the report says what is wrong."""
    from saereg.schemas.manifest import Manifest

    try:
        manifest = Manifest.read(root / MANIFEST_FILE)
    except (SaeregError, OSError):
        return
    require_known_models(models(flags.models), [manifest])


def _report(place: Path | Place, settings: Settings, flags: Flags) -> Report:
    from saereg.registry.validators.runner import validate

    with bar(f"validate {place.name}") as progress:
        return validate(place, flags.level, options=_options(flags), settings=settings, progress=progress)


def _options(flags: Flags) -> "Options":
    from saereg.registry.validators.options import Options

    return Options(
        checkpoints=flags.checkpoints,
        models=models(flags.models),
        device=flags.device,
        run_snippets=flags.run_snippets,
        hash_all=flags.hash_all,
        jobs=flags.threads,
    )


def _mended(target: str | None, report: Report, context: Context, flags: Flags) -> "tuple[Fixes, Report]":
    """Mend a release and return what was done and its report now; with --diff, show it and leave all as it is."""
    from saereg.cli.mending import mended, say, shown_diff

    if flags.load is not None or target is None:
        raise UsageError("--fix, --unsafe-fixes and --diff validate anew; they do not go with --load")
    settings = _subject(target, flags).settings
    every = settings.model_copy(update={"select": ()})  # a fix of a selected rule may break one that is not
    before = _report(context.root, every, flags) if settings.select and context.root else report
    fixes = mended(context.root, before, lambda folder: _report(folder, every, flags), flags, settings.select)
    say(fixes, flags)
    if flags.diff and not fixes.problem:
        click.echo(shown_diff(fixes, before, context), nl=False)
    if flags.diff or fixes.problem or not fixes.changed:
        return fixes, report
    return fixes, _report(context.root, settings, flags) if settings.select and context.root else fixes.report


def _place(subject: Subject, flags: Flags) -> Place:
    if subject.root is not None:
        return FolderPlace(subject.root)
    if flags.level in LOCAL_LEVELS or flags.run_snippets or flags.mends:
        what = "--fix" if flags.mends else "--run-snippets" if flags.run_snippets else f"level {flags.level}"
        get = _download(subject.reference, mended=bool(flags.mends))
        raise UsageError(f"{what} needs the whole release: {get}, and validate that folder")
    from saereg.registry.remote import open_place

    return open_place(subject.target)


def _download(reference: Reference, *, mended: bool = False) -> str:
    """Return what fetches a whole release; what is to be mended `saereg pull` may well refuse, or leave out."""
    if not mended:
        revision = f"@{reference.revision}" if reference.revision else ""
        return f"saereg pull hf://{reference.repo}{revision} --all --with-evaluations"
    revision = f" --revision {reference.revision}" if reference.revision else ""
    return f"hf download {reference.repo}{revision} --local-dir {str(reference.repo).split('/')[-1]}"


def _loaded(target: str | None, path: Path, flags: Flags) -> tuple[Report, Context]:
    """Read a report instead of validating; a target only lends its source lines."""
    from saereg.schemas import jsontext

    if flag := flags.without_effect_on_a_report:
        raise UsageError(f"{flag} chooses what is found, and --load shows what was found: leave one of them out")
    try:
        report = read_report(jsontext.decode(path.read_bytes()), path)
    except jsontext.JsonError as problem:
        raise UsageError(f"{path}: no report of `saereg validate`: {problem.problem}") from None
    if flags.level not in (None, report.level):
        raise UsageError(f"{path} is a report of level {report.level}; --level does not change it")
    reference = parse_reference(target) if target else Reference()
    root = local_folder(target) if target and reference.repo is None else None
    subject = Subject(target or "", reference, Settings(plugins=flags.plugin), None)
    return report, _context(root, subject, flags)


def _context(root: Path | None, subject: Subject, flags: Flags) -> Context:
    from saereg.registry.validators.plugins import book_of

    rules: Mapping[str, Rule] = {
        code: read_rule(rule) for code, rule in book_of(subject.settings.plugins).rules.items()
    }
    return Context(
        root=root,
        repository=subject.reference.repo,
        prefix=prefix_of(root) if root is not None and subject.reference.repo is None else "",
        rules=rules,
        settings=subject.called,
        fail_on=flags.failing,
        verbose=flags.verbose,
        quiet=flags.quiet,
        most=flags.max_findings,
    )


def write_reports(report: Report, context: Context, wanted: tuple[Output, ...]) -> None:
    """Render every format before the first is written: either all are there, or none is."""
    texts = [(output, RENDERERS[output.form](report, context)) for output in wanted]
    for output, text in texts:
        if output.path is None:
            click.echo(text, nl=False)
        else:
            _write_file(output.path, click.unstyle(text) if output.form == "text" else text)
            click.echo(f"report: {output.path}", err=True)


def _write_file(path: Path, text: str) -> None:
    from saereg.registry.files.atomic import write_text_atomically

    try:
        if path.exists() and not path.is_file():  # a pipe or a device is written to, and not replaced
            path.write_text(text, encoding="utf-8")
        else:
            write_text_atomically(path, text)
    except OSError as error:  # that of a full disk names no file
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from error


def _name_next(target: str | None, report: Report, grave: list[Finding], flags: Flags) -> None:
    """Name the next command: the gravest rule, a deeper level, or publishing."""
    reference = parse_reference(target) if target else None
    deeper = LEVELS[min(LEVELS.index(report.level) + 1, len(LEVELS) - 1)]
    if grave:
        next_step("saereg rule", min(grave, key=lambda finding: SEVERITIES.index(finding.severity)).code)
    elif reference is not None and reference.repo is not None and deeper in LOCAL_LEVELS:
        next_step(_download(reference))
    elif report.level != deeper or report.selected:
        whole = flags if report.level != deeper else replace(flags, select=())
        next_step("saereg validate", target or "RELEASE", "--level", deeper, *whole.again())
    else:
        words = (("--policy", flags.policy), ("--config", flags.config), ("--isolated", flags.isolated or None))
        said = [word for flag, value in words if value for word in ((flag,) if value is True else (flag, value))]
        next_step("saereg publish", target or "RELEASE", "hf://ORG/NAME", "--dry-run", *said)
