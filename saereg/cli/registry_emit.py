"""`saereg registry emit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.options import again, where_option
from saereg.cli.render.text import next_step, plural, table, visible
from saereg.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from saereg.registry.emitting import Emitted, Subject

SAELENS, NEURONPEDIA, CIRCUIT_TRACER = "saelens-yaml", "neuronpedia", "circuit-tracer"

BY_HAND = {
    SAELENS: "append it to sae_lens/pretrained_saes.yaml in a branch of SAELens, and open a pull request",
    NEURONPEDIA: "fill in what Neuronpedia will ask for, and send it to them",
    CIRCUIT_TRACER: "put it as config.yaml at the root of {repo}",
}
"""Kind → what is left to do."""

ONLY_FOR = {"--check": SAELENS, "--pull-request": SAELENS, "--files": CIRCUIT_TRACER}
"""Option → the one kind that has it."""


OPTIONS = (
    click.option("--repo", metavar="ORG/NAME[@COMMIT]", help="Repository that has, or will have, the files."),
    click.option("--name", help="What the other registry shall call it."),
    click.option("--model-name", help="What the other registry calls the base model."),
    where_option,
    click.option("--files", type=click.Path(path_type=Path, file_okay=False), help="Root of the converted files."),
    click.option("--check", is_flag=True, help="Let the parser of the installed SAELens read it, and compare."),
    click.option("--pull-request", is_flag=True, help="Write title and text of a pull request, with the evidence."),
    click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="File instead of stdout."),
)
"""Every option, in the order of the help."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for; each field is the option of its name."""

    repo: str | None
    name: str | None
    model_name: str | None
    where: tuple[str, ...]
    files: Path | None
    check: bool
    pull_request: bool
    out: Path | None

    def again(self) -> tuple[str, ...]:
        """Return the options to say again."""
        said = {"--repo": self.repo, "--name": self.name, "--model-name": self.model_name, "--where": self.where}
        return again(said)


def _options(command: Any) -> Any:  # noqa: ANN401 - a decorator of click
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("kind", required=False)
@click.argument("target", required=False)
@_options
def command(kind: str | None, target: str | None, **flags: Any) -> None:  # noqa: ANN401 - one value per option
    """Write what another registry needs from a release: KIND is saelens-yaml, neuronpedia or circuit-tracer.

    Numbers are those that saereg measured; what nobody measured or stated is absent. Artifacts that the other registry
    cannot have are named on stderr, each with the reason. Without KIND, the kinds are listed.
    """
    from saereg.registry.catalog.showing import openable
    from saereg.registry.catalog.store import catalog_path
    from saereg.registry.emitting import EMITTERS, Wishes
    from saereg.registry.emitting.subject import open_subject

    wanted = Wanted(**flags)
    if kind is None:
        click.echo(table(("kind", "writes", "needs"), [(k, e.what, e.when) for k, e in EMITTERS.items()]))
        next_step("saereg registry emit saelens-yaml", ".", "--repo", "org/name")
        return
    if kind not in EMITTERS:
        raise UnknownNameError("kind", kind, EMITTERS)
    _require_its_own(kind, wanted)
    if target is None:
        raise click.UsageError("missing argument 'TARGET'", click.get_current_context())
    subject = open_subject(openable(target, catalog_path()), wanted.repo)
    if wanted.out is not None:
        _spare(kind, wanted.out, subject)
    wishes = Wishes(wanted.where, wanted.name, wanted.model_name, wanted.files)
    emitted = EMITTERS[kind].emit(subject, wishes)
    _finish(wanted, subject, emitted)
    _name_next(kind, wanted, subject)


def _require_its_own(kind: str, wanted: Wanted) -> None:
    given = {"--check": wanted.check, "--pull-request": wanted.pull_request, "--files": wanted.files is not None}
    for option, is_given in given.items():
        if is_given and ONLY_FOR[option] != kind:
            raise UsageError(f"{option} belongs to {ONLY_FOR[option]}, not to {kind}")


def _spare(kind: str, out: Path, subject: "Subject") -> None:
    """Refuse to write over a file of the release, or over a registry that has the releases of others.

    What an earlier call wrote into the release may be written again: to the index that is a file of no role.
    """
    from saereg.registry.emitting.saelens_yaml import FILE
    from saereg.registry.release import INDEX_FILE, MANIFEST_FILE

    if kind == SAELENS and out.name == FILE and out.exists():
        raise UsageError(f"{out} has the releases of others; write to stdout and append it: >> {out}")
    index, root = subject.release.index, subject.release.path.resolve()
    if subject.release.repo is not None or index is None or not out.resolve().is_relative_to(root):
        return
    listed = [*index.files, *(file for artifact in index.artifacts for file in artifact.files)]
    own = {MANIFEST_FILE, INDEX_FILE, *(file.path for file in listed if file.role != "other")}
    if out.resolve().relative_to(root).as_posix() in own:
        raise UsageError(f"{out} is a file of the release itself; give it another name")


def _finish(wanted: Wanted, subject: "Subject", emitted: "Emitted") -> None:
    """Check, write and say what was left out; when the check fails nothing is written."""
    checked, text = None, emitted.text
    if wanted.check:
        from saereg.registry.emitting.saelens_check import require_understood

        checked = require_understood(emitted)
    if wanted.pull_request:
        from saereg.registry.emitting.saelens_pull_request import pull_request

        text = pull_request(subject, emitted, checked)
    if wanted.out is None:
        click.echo(text, nl=False)
    else:
        from saereg.registry.files.atomic import write_text_atomically

        write_text_atomically(wanted.out, text)
        click.echo(f"{wanted.out}: {plural(emitted.count, 'artifact')}", err=True)
    for one in emitted.left_out:
        click.echo(f"left out: {visible(one.id)}: {visible(one.why)}", err=True)
    for note in [*emitted.notes, *([checked] if checked else [])]:
        click.echo(f"note: {visible(note)}", err=True)


def _name_next(kind: str, wanted: Wanted, subject: "Subject") -> None:
    """Name the next step; who is to do it may be a person."""
    folder = subject.release.path if subject.release.repo is None else None
    if wanted.out is not None and folder is not None and wanted.out.resolve().is_relative_to(folder.resolve()):
        next_step("saereg build", subject.target)  # a new file of the release: the index has to name it
    elif kind == SAELENS and not wanted.check:
        next_step("saereg registry emit", kind, subject.target, *wanted.again(), "--check", "--pull-request")
    else:
        click.echo(f"next: {BY_HAND[kind].format(repo=subject.repo)}", err=True)
