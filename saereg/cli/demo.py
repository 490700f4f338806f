"""`saereg demo`."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import click

from saereg.cli.progress import Report, bar
from saereg.cli.render.context import Context
from saereg.cli.render.plain import as_text
from saereg.cli.render.text import number, table
from saereg.errors import ExitCode


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo-out"), show_default=True)
@click.option("--seed", default=0, show_default=True, help="Same seed, same bytes (on one machine).")
def command(out: Path, seed: int) -> int:
    """The whole journey on real input, offline: collect, train, build, validate, publish, query, load.

    A real 22M-parameter transformer reads real text; the release ends up in OUT/release.
    """
    from saereg.demo import Demo

    demo, steps = Demo(out, seed), _Steps(9)
    demo.check()
    with steps("collect activations") as progress:
        steps.say(demo.collect(progress))
    with steps("train and export") as progress:
        steps.say(demo.train(progress))
    with steps("build the evidence") as progress:
        steps.say(demo.build(progress))
    with steps("validate at level data") as progress:
        report = demo.validate(progress)
        steps.say(as_text(report, Context(root=demo.release)).strip())
    if report.errors:
        return int(ExitCode.FINDINGS)
    with steps("make a page of it") as progress:
        steps.say(demo.explore(progress))
    with steps("publish to a folder") as progress:
        steps.say(demo.publish(report, progress))
    with steps("publish to a hub on this machine"):
        steps.say(demo.publish_to_hub())
    agree = True
    with steps("reopen with SAELens from that hub"):
        for found in demo.compare():
            agree = agree and found.active_sets_equal and found.max_rel_error < 1e-5
            sets = "same active latents" if found.active_sets_equal else "OTHER active latents"
            steps.say(
                f"{found.artifact}: {found.rows} rows, {sets}, reconstructions differ by {found.max_rel_error:.1e}"
            )
    with steps("query"):
        steps.say(_listed(demo.release))
    _where_next(demo.release)
    return int(ExitCode.CLEAN if agree else ExitCode.FINDINGS)


class _Steps:
    """Numbered headings with the time that each step took."""

    def __init__(self, total: int) -> None:
        self.total, self.number = total, 0
        self.said: list[str] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[Report]:
        """Run a step under a progress bar; print its heading and what was said when it is done."""
        self.number, self.said = self.number + 1, []
        heading, started = f"{self.number}/{self.total} {name}", time.monotonic()
        with bar(heading) as progress:
            yield progress
        click.secho(f"{heading} ({time.monotonic() - started:.0f} s)", bold=True)
        click.echo("".join(f"    {line}\n" for text in self.said for line in text.splitlines()), nl=False)

    def say(self, text: str) -> None:
        """Keep a line for when the step is done."""
        self.said.append(text)


def _listed(release: Path) -> str:
    from saereg.registry.release import open_release

    fields = ("architecture", "layer", "d_in", "d_sae", "k", "explained_variance", "l0", "dead_fraction", "canonical")
    rows = [[a.id, *(number(a.fields[name]) for name in fields)] for a in open_release(release)]
    return table(["artifact", *fields], rows)


def _where_next(release: Path) -> None:
    first = "layer_2/topk_32"
    lines = (
        ("look at it", f"saereg show {release}:{first}"),
        ("its latents", f"saereg features {release}:{first}"),
        ("query it", f"saereg ls {release} --where 'ev > 0.5' --sort l0"),
        ("check it", f"saereg validate {release} --level data"),
        ("load it", f"python -c \"import saereg; print(saereg.load('{release}:{first}'))\""),
    )
    click.echo("\nwhere to look next", err=True)
    for what, line in lines:
        click.echo(f"  {what:<11} {line}", err=True)
