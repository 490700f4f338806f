"""`saereg plot`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg.cli.options import where_option
from saereg.cli.render.text import next_step, plural, table
from saereg.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from saereg.registry.figures.figure import Drawing
    from saereg.registry.release import Release

FORMS = ("png", "svg", "json", "html")

ENDINGS = {"png": ".png", "svg": ".svg", "json": ".vl.json", "html": ".html"}
"""Form → how files in a folder end."""

SUFFIXES = {".png": "png", ".svg": "svg", ".json": "json", ".html": "html", ".htm": "html"}
"""How a file ends → form."""

FOREIGN = (".gif", ".jpg", ".jpeg", ".pdf", ".webp", ".eps", ".tif", ".tiff")
"""How files of other pictures end; no folder is meant by them."""


@dataclass(frozen=True)
class _Target:
    """Where figures go: one file, or a folder with a file for each figure and form."""

    folder: Path
    file: str | None
    forms: tuple[str, ...]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--release", "target", default=".", show_default=True, help="A folder, or hf://org/repo[@revision].")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A file for one figure, by its suffix; else a folder.  [default: here; from inside the release, beside it]",
)
@click.option("--format", "forms", multiple=True, type=click.Choice(FORMS), help="Repeatable.  [default: png]")
@where_option
@click.option("--list", "listing", is_flag=True, help="List the figures that there are, and what they need.")
def command(
    names: tuple[str, ...],
    target: str,
    output: Path | None,
    forms: tuple[str, ...],
    where: tuple[str, ...],
    listing: bool,
) -> int:
    """Draw figures of a release from its evidence: heatmap, curves, frontier and others.

    NAME is a kind of figure, or one figure of it such as heatmap-l0; without names all are drawn that the release has
    the evidence for. json is a Vega-Lite specification with its data, html a page that needs no network. Of a release
    on the Hub only documents are fetched, so figures from weights and logs are left out.
    """
    if listing:
        _list()
        next_step("saereg plot", *_first(names))
        return ExitCode.CLEAN
    from saereg.registry.catalog.showing import openable
    from saereg.registry.catalog.store import catalog_path
    from saereg.registry.figures.picking import kind_of, pick, restricted
    from saereg.registry.figures.rendering import require_plots
    from saereg.registry.release import open_release

    for name in names:
        kind_of(name)
    require_plots("drawing figures")
    release = restricted(open_release(openable(target, catalog_path())), where)
    place = _place(output, forms, release)
    troubles: list[str] = []
    found = pick(release, names, troubles.append)
    _require_one(place, found.drawings)
    for line in _written(place, found.drawings):
        click.echo(line)
    for line in (*troubles, *found.lacking):
        click.echo(line, err=True)
    if not found.drawings and not names:
        click.echo("nothing to draw: the release has no evidence yet that a figure shows", err=True)
    _next(release, target, bool(found.drawings), where)
    return ExitCode.USAGE if troubles or found.lacking or not found.drawings else ExitCode.CLEAN


def _first(names: Sequence[str]) -> Sequence[str]:
    return names or ("heatmap",)


def _list() -> None:
    from saereg.registry.figures import FIGURES

    click.echo(table(["figure", "shows"], [[name, kind.about] for name, kind in FIGURES.items()]))
    click.echo()
    for kind in FIGURES.values():
        click.echo(kind.needs)


def _place(output: Path | None, forms: Sequence[str], release: "Release") -> _Target:
    """Return where figures go.

    Raises:
        UsageError: when the suffix of a file and --format disagree, or a folder has the name of a file.
    """
    chosen = tuple(dict.fromkeys(forms)) or ("png",)
    if output is None:
        return _Target(_default_folder(release), None, chosen)
    form = SUFFIXES.get(output.suffix.lower())
    if form is None or output.is_dir():
        if output.suffix.lower() in FOREIGN and not output.is_dir():
            raise UsageError(f"{output}: figures are not written as {output.suffix}, but as {', '.join(SUFFIXES)}")
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output} is a file; a figure is written to one that ends in {', '.join(SUFFIXES)}")
        return _Target(output, None, chosen)
    if forms and set(forms) != {form}:
        raise UsageError(f"{output} ends in {output.suffix}, and --format says {', '.join(chosen)}; give one of both")
    return _Target(output.parent, output.name, (form,))


def _default_folder(release: "Release") -> Path:
    """Return this folder; beside the release where this folder is in it: its index names every file that it holds."""
    here, root = Path.cwd(), release.path.resolve()
    if release.repo is None and (here == root or root in here.parents):
        return root.parent / f"{release.manifest.release.name}-figures"
    return Path()


def _require_one(place: _Target, drawings: "Sequence[Drawing]") -> None:
    if place.file is not None and len(drawings) > 1:
        names = [drawing.name for drawing in drawings]
        listed = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
        raise UsageError(f"{plural(len(names), 'figure')} for one file, {place.file}: {listed}; name one, or a folder")


def _written(place: _Target, drawings: "Sequence[Drawing]") -> list[str]:
    """Write every figure in every form; return the paths."""
    from saereg.registry.figures.rendering import page, png, svg
    from saereg.registry.files.atomic import write_bytes_atomically
    from saereg.schemas.document import canonical

    def content(drawing: "Drawing", form: str) -> bytes:
        if form == "png":
            return png(drawing.spec)
        if form == "html":
            return page(drawing.spec, drawing.caption).encode()
        return (svg(drawing.spec) if form == "svg" else canonical(drawing.spec)).encode()

    paths = []
    for drawing in drawings:
        for form in place.forms:
            path = place.folder / (place.file or f"{drawing.name}{ENDINGS[form]}")
            try:
                made = content(drawing, form)
            except ValueError as error:  # of Vega, with its stack behind the first line
                raise UsageError(f"figure {drawing.name} cannot be drawn: {str(error).splitlines()[0]}") from None
            write_bytes_atomically(path, made)
            paths.append(str(path))
    return paths


def _next(release: "Release", target: str, drawn: bool, where: Sequence[str]) -> None:
    if not drawn and release.index is None and release.repo is None:
        next_step("saereg build", target)
    elif not drawn or where:
        next_step("saereg plot --list")
    else:
        next_step("saereg site", target)
