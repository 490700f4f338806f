"""`saereg site`."""

from pathlib import Path

import click

from saereg.cli.progress import bar
from saereg.cli.render.text import next_step, plural, size
from saereg.errors import UsageError
from saereg.registry import hub
from saereg.registry.refs import parse_reference


@click.command()
@click.argument("target", metavar="RELEASE")
@click.option(
    "-o",
    "--output",
    "output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the page.  [default: NAME-site here, of the release's name]",
)
@click.option(
    "--place",
    metavar="WHERE",
    help="The release, as code on the page names it: a folder or hf://org/repo.  [default: '.', or RELEASE on the Hub]",
)
@click.option(
    "--level", type=click.Choice(["layout", "header"]), help="Of the findings.  [default: header; layout on the Hub]"
)
@click.option("--features/--no-features", default=True, show_default=True, help="Put feature views on the page.")
@click.option("--force", is_flag=True, help="Take a folder that holds something else; only the two files are replaced.")
@click.option("--inside", is_flag=True, help="Let the page stand in the release itself, whose index does not know it.")
def command(
    target: str,
    output: Path | None,
    place: str | None,
    level: str | None,
    features: bool,
    force: bool,
    inside: bool,
) -> None:
    """Make a page on which one can explore a release: one file, no server, no network.

    DIR/index.html holds everything: table, filters, plots, figures, findings, and a page for each artifact with its
    evidence, its feature view and code that loads it. It opens from the disk, from any web server, and, with the
    README.md beside it, as a static Space of the Hub. RELEASE is a folder, or hf://org/repo[@revision], of which only
    the documents are fetched. The same release gives the same page, byte for byte.
    """
    from saereg.publishers.site import Wanted, make_site
    from saereg.registry.release import open_release

    reference = parse_reference(target)
    if reference.artifact is not None:
        raise UsageError(f"{target}: the page is of a whole release; leave out :{reference.artifact}")
    release = open_release(target)
    named = place or (hub.name_of(release.repo, release.path.name) if release.repo else ".")
    folder = output or Path(f"{release.manifest.release.name}-site")
    with bar("site") as progress:
        made = make_site(
            release,
            folder,
            wanted=Wanted(place=named, features=features),
            level="layout" if level == "layout" else "header" if level else None,
            force=force,
            inside=inside,
            progress=progress,
        )
    counts = made.report.summary
    said = f"{plural(counts.errors, 'error')}, {plural(counts.warnings, 'warning')} at level {made.report.level}"
    click.echo(f"{folder / 'index.html'}: {plural(len(release), 'artifact')}, {size(made.size)}; {said}")
    for line in made.left_out:
        click.echo(line, err=True)
    next_step("python -m webbrowser", (folder / "index.html").absolute().as_uri())
