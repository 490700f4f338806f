"""`saereg init`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from saereg.cli.options import local_folder, settings
from saereg.cli.progress import bar
from saereg.cli.render.grid import grid_text, survey_text, verdict_text
from saereg.cli.render.text import next_step, plural
from saereg.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from saereg.registry.importing.entry import Place
    from saereg.registry.importing.grid import Grid
    from saereg.registry.importing.survey import Survey
    from saereg.schemas.document import Record
    from saereg.schemas.manifest import ReleaseInfo

R = TypeVar("R", bound="Record")

SITE = "blocks.{layer}.hook_resid_post"

NEEDED = {
    "model": ("--model", "ORG/NAME"),
    "site": ("--site", SITE),
    "tokens": ("--tokens", "bos=true|false"),
    "license": ("--license", "LICENSE"),
}
"""What a release needs to be told → how to say it; the site may also be a `--module`."""

REPEATED = ("template", "values", "layout", "to", "model", "revision", "hook", "module", "stream", "io", "tokens",
            "fields", "identifier", "name", "title", "licence")  # fmt: skip
"""Options that the next command has too."""

FLAGS = {"values": "--set", "layout": "--from", "hook": "--site", "fields": "--field", "identifier": "--id",
         "licence": "--license"}  # fmt: skip
"""Option → its flag, where that is another word."""

DEFAULTS = {"to": "saelens", "stream": "residual", "io": "output"}


@click.command()
@click.argument("directory", metavar="DIR")
@click.option("--template", required=True, help="File names, e.g. 'sae_layer{layer:02d}_{snapshot}.pt'.")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="What the files do not say; repeat it.")
@click.option("--from", "layout", metavar="LAYOUT", help="Layout of the files. [default: recognized, else state_dict]")
@click.option("--sample", type=click.Path(path_type=Path), help="Activations `x`, to score what must be given.")
@click.option("--sample-for", metavar="FILE", help="Checkpoint that the sample belongs to. [default: the first]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Release folder to make or go on with.")
@click.option("--to", type=click.Choice(["saelens", "saereg"]), default="saelens", show_default=True)
@click.option("--model", help="Base model on the Hub, e.g. EleutherAI/pythia-410m.")
@click.option("--revision", help="Its commit, 40 digits.")
@click.option("--site", "hook", help=f"TransformerLens name, e.g. '{SITE}'.")
@click.option("--module", help="Path in transformers, e.g. 'gpt_neox.layers.{layer}'.")
@click.option(
    "--stream",
    type=click.Choice(["residual", "mlp", "attention", "embedding"]),
    default="residual",
    show_default=True,
)
@click.option(
    "--io", type=click.Choice(["input", "output"]), default="output", show_default=True, help="Of the module."
)
@click.option("--tokens", multiple=True, metavar="NAME=VALUE", help="Token policy, e.g. bos=false; repeat it.")
@click.option("--field", "fields", multiple=True, metavar="NAME=VALUE", help="What all have, e.g. l1=3e-4; repeat it.")
@click.option("--id", "identifier", help="Ids, e.g. 'layer_{layer:02d}/{snapshot}'. [default: all fields]")
@click.option("--name", help="Name of a new release. [default: its folder]")
@click.option("--title", help="Title of a new release.")
@click.option("--license", "licence", help="Licence of a new release, as on the Hub.")
def command(directory: str, **options: Any) -> None:  # noqa: ANN401 - one value per option
    """Turn a grid of checkpoints into a release.

    Without --out: show which checkpoints are there, what their tensors say, what was inferred, and what must be given.
    With --out: convert each, with a proof that it computes the same, and enter it in manifest.json. What is there is
    kept, so a stopped run goes on.
    """
    from saereg.registry.importing.grid import look
    from saereg.registry.importing.survey import survey
    from saereg.registry.importing.template import parse_template

    grid = look(local_folder(directory), parse_template(options["template"]))
    given = settings(options["values"])
    found = survey(grid, given, options["layout"])
    if options["out"] is not None:
        _make(directory, grid, found, options)
        return
    click.echo(f"{grid_text(grid)}\n\n{survey_text(found)}")
    proposed = _scored(grid, given, options) if options["sample"] is not None else {}
    _name_next(directory, found, options, proposed)


def _scored(grid: "Grid", given: dict[str, str], options: dict[str, Any]) -> dict[str, str]:
    """Score the candidates on the sample and show them; return the switches with a clear winner."""
    from saereg.registry.importing.arbiter import arbitrate
    from saereg.registry.importing.survey import given_of

    wanted = options["sample_for"] or grid.cells[0].path
    cells = [cell for cell in grid.cells if cell.path == wanted]
    if not cells:
        raise UsageError(f"--sample-for {wanted}: no checkpoint of the grid; the first is {grid.cells[0].path}")
    values = given_of(given, cells[0].captures)
    verdict = arbitrate(grid.folder / wanted, values, options["sample"])
    click.echo(f"\n{verdict_text(verdict, wanted)}")
    return dict(verdict.proposed)


def _name_next(directory: str, found: "Survey", options: dict[str, Any], proposed: dict[str, str]) -> None:
    """Name the command that makes the release, with what was said, what is proposed, and what is still missing."""
    words: list[object] = [directory]
    for name in REPEATED:
        flag, value = FLAGS.get(name, f"--{name}"), options[name]
        said = value if isinstance(value, tuple) else () if value in (None, DEFAULTS.get(name)) else (value,)
        words += [word for one in said for word in (flag, one)]
    for name, value in proposed.items():
        words += ["--set", f"{name}={value}"]
    for question in found.questions:
        if question.name not in proposed:
            words += ["--set", str(question).removeprefix("--set ")]
    words += [word for name in _missing(options, exists=False) for word in NEEDED[name]]
    next_step("saereg init", *words, "--out", "RELEASE")


def _make(directory: str, grid: "Grid", found: "Survey", options: dict[str, Any]) -> None:
    """Make the release, or go on with it."""
    from saereg.registry.importing.grid_import import GridImport, import_grid
    from saereg.registry.release import MANIFEST_FILE

    release = options["out"]
    exists = (release / MANIFEST_FILE).is_file()
    lacking = [" ".join(NEEDED[name]) for name in _missing(options, exists=exists)]
    if missing := [*map(str, found.questions), *lacking]:
        raise UsageError(f"neither files nor options say everything; add {' '.join(missing)}")
    order = GridImport(
        grid=grid,
        release=release,
        place=_place(options),
        to=options["to"],
        given=settings(options["values"]),
        layout=options["layout"],
        info=_info(release, options),
    )
    with bar(f"init {release.name}") as progress:
        done = import_grid(order, progress)
    counts = f"{len(done.made)} converted, {len(done.kept)} kept"
    click.echo(f"{release}: {plural(len(grid.cells), 'artifact')}: {counts}")
    for names in done.same_bytes:
        click.echo(f"note: {' and '.join(names)} come from files of the same bytes; is one misnamed?")
    next_step("saereg build", release, "--checkpoints", directory)


def _missing(options: dict[str, Any], *, exists: bool) -> list[str]:
    """Return what a release needs and was not told; one that is there already has said some of it."""
    said = {
        "model": options["model"],
        "site": options["hook"] or options["module"],
        "tokens": options["tokens"] or exists,
        "license": options["licence"] or exists,
    }
    return [name for name in NEEDED if not said[name]]


def _place(options: dict[str, Any]) -> "Place":
    from saereg.registry.importing.entry import Place, parsed_fields
    from saereg.schemas.site import BaseModelRef, TokenPolicy

    tokens = _pairs("--tokens", options["tokens"])
    return Place(
        model=_made(BaseModelRef, "--model, --revision", {"id": options["model"], "revision": options["revision"]}),
        hook=options["hook"],
        module=options["module"],
        stream=options["stream"],
        io=options["io"],
        tokens=_made(TokenPolicy, "--tokens", {name: _plain(name, text) for name, text in tokens.items()})
        if tokens
        else None,
        fields=parsed_fields(_pairs("--field", options["fields"])),
        identifier=options["identifier"],
    )


def _info(release: Path, options: dict[str, Any]) -> "ReleaseInfo | None":
    from saereg.schemas.manifest import ReleaseInfo

    if options["licence"] is None:
        return None
    name = options["name"] or release.absolute().name
    fields = {"name": name, "version": "0.1.0", "title": options["title"] or name, "license": options["licence"]}
    return _made(ReleaseInfo, "--name, --title, --license", fields)


def _pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    try:
        return settings(words)
    except UsageError as error:
        raise UsageError(str(error).replace("--set", option, 1)) from None


def _plain(name: str, text: str) -> object:
    """Return a typed value of a token policy: true, false, a whole number, a list at `excluded`, else a word."""
    if name == "excluded":
        return tuple(word.strip() for word in text.split(","))
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() else text


def _made(kind: "type[R]", options: str, fields: dict[str, Any]) -> "R":
    """Return a record of what was typed.

    Raises:
        UsageError: naming the first field that does not fit.
    """
    unknown = [name for name in fields if name not in kind.model_fields]
    if unknown:
        guess = did_you_mean(unknown[0], kind.model_fields)
        hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(kind.model_fields)}"
        raise UsageError(f"{options}: unknown {unknown[0]!r}; {hint}")
    try:
        return kind(**fields)
    except ValueError as error:  # pydantic's own is one
        problem: Any = error
        first = problem.errors(include_url=False)[0]
        where, what = "/".join(map(str, first["loc"])), str(first["msg"])
        raise UsageError(f"{options}: {where}: {what[:1].lower()}{what[1:]}") from None
