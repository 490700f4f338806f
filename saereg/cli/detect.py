"""`saereg detect`."""

import json
from pathlib import Path
from typing import Any

import click

from saereg.cli.options import settings
from saereg.cli.render.text import next_step, number, shorten, table, visible
from saereg.errors import FormatError, SaeregError
from saereg.registry.conversion.convert import layout_for
from saereg.registry.formats import FORMATS
from saereg.registry.inventory import Found, inventory, try_reading
from saereg.registry.loading import Match, layout_of
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import open_source
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import assumptions

WIDEST = 100
"""Characters of a reason in a table."""


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="What the files do not say; repeat it.")
@click.option("--from", "layout", help="Layout, where several fit or none is recognized.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(path: Path, values: tuple[str, ...], layout: str | None, form: str) -> None:
    """Name the layout of a dictionary and say why, what it means, and what had to be assumed.

    PATH is a weight file, the folder of one dictionary, or a folder of many.
    """
    given = settings(values)
    places = inventory(path) if layout is None else (_named(path, layout),)
    if len(places) > 1:
        click.echo(_many_json(places) if form == "json" else _many(places))
        known = next((p for p in places if len(p.matches) == 1 and not p.matches[0].layout.anybodys), None)
        next_step("saereg detect", known.path if known else places[0].path)
        return
    (place,) = places
    _require_one(place, named=layout is not None)
    match, source = place.matches[0], open_source(place.path)
    reading, problem = try_reading(source, match, Given(dict(given)))
    if form == "json":
        click.echo(json.dumps(_as_json(match, reading, problem), indent=2))
    else:
        click.echo(_as_text(match, reading, problem))
    if reading is not None:
        extra = [word for value in values for word in ("--set", value)]
        to = next((name for name in ("saelens", "saereg") if _refusal(name, reading) is None), "saereg")
        next_step("saereg convert", place.path, "OUT", "--to", to, *extra, *(("--from", layout) if layout else ()))


def _named(path: Path, layout: str) -> Found:
    return Found(path, (Match(layout_of(open_source(path), layout), "named with --from"),))


def _require_one(place: Found, *, named: bool) -> None:
    if place.problem is not None:
        raise FormatError(place.path, place.problem.removeprefix(f"{place.path}: "))
    if len(place.matches) > 1:
        names = [match.layout.name for match in place.matches]
        raise FormatError(place.path, "fits several layouts; say which with --from", names)
    if not named:
        layout_of(open_source(place.path))


def _many(places: tuple[Found, ...]) -> str:
    rows = []
    for place in places:
        names = ", ".join(_name(match) for match in place.matches) or "–"
        why = place.problem or "; ".join(match.because for match in place.matches) or ", ".join(place.keys)
        rows.append((visible(str(place.path)), names, visible(shorten(why, WIDEST))))
    return table(("path", "layout", "because"), rows)


def _name(match: Match) -> str:
    """Return the name of a layout, with a mark where it must be named because anybody's tensors could be so."""
    return f"{match.layout.name}?" if match.layout.anybodys else match.layout.name


def _many_json(places: tuple[Found, ...]) -> str:
    return json.dumps(
        [
            {
                "path": str(place.path),
                "layouts": {match.layout.name: match.because for match in place.matches},
                "sure": len(place.matches) == 1 and not place.matches[0].layout.anybodys,
                "problem": place.problem,
            }
            for place in places
        ],
        indent=2,
    )


def _as_text(match: Match, reading: Reading | None, problem: str | None) -> str:
    lines = [f"{match.layout.name}: {match.because}"]
    if reading is None:
        return "\n".join([*lines, f"not readable yet: {problem}"])
    cfg = reading.cfg
    widths = [("d_in", cfg.d_in), ("d_out", cfg.d_out), ("d_sae", cfg.d_sae)]
    widths += [(name, getattr(cfg, name)) for name in ("n_sources", "n_layers") if hasattr(cfg, name)]
    shown = ", ".join(f"{name} {value:,}" for name, value in widths if (name, value) != ("d_out", cfg.d_in))
    lines += [f"{getattr(cfg, 'kind', 'sae')} {cfg.architecture}, {shown}, {cfg.torch_dtype}", "", _switches(reading)]
    for note in assumptions(cfg):
        lines.append(f"assumed: {note.field} = {visible(note.value)}, because {visible(note.because)}")
    if reading.unsettled is not None:
        lines.append(f"not settled: {reading.unsettled}")
    if reading.left_out:
        lines.append(f"left out: {', '.join(visible(name) for name in reading.left_out)}")
    lines += ["", "can be written as: " + ", ".join(n for n in FORMATS if _refusal(n, reading) is None)]
    for name in ("saelens", "saereg"):
        if why := _refusal(name, reading):
            lines.append(f"not as {name}: {why}")
    return "\n".join(lines)


def _switches(reading: Reading) -> str:
    rules = semantics_of(reading.cfg).model_dump()
    kind = rules.pop("normalization")
    rows = [(name, number(value)) for name, value in rules.items()]
    rows += [(f"normalization.{name}", number(value)) for name, value in kind.items()]
    return table(("switch", "value"), rows)


def _refusal(name: str, reading: Reading) -> str | None:
    """Return why a layout cannot say what was read, or None when it can."""
    try:
        layout_for(name, reading.cfg)
    except SaeregError as error:
        return str(error)
    return None


def _as_json(match: Match, reading: Reading | None, problem: str | None) -> dict[str, Any]:
    if reading is None:
        return {"layout": match.layout.name, "because": match.because, "problem": problem}
    cfg = reading.cfg
    return {
        "layout": match.layout.name,
        "because": match.because,
        "problem": None,
        "architecture": cfg.architecture,
        "d_in": cfg.d_in,
        "d_out": cfg.d_out,
        "d_sae": cfg.d_sae,
        "dtype": cfg.torch_dtype,
        "semantics": semantics_of(cfg).model_dump(mode="json"),
        "assumptions": [note.model_dump() for note in assumptions(cfg)],
        "tensors": {name: recipe.model_dump(mode="json", exclude_none=True) for name, recipe in reading.plan.items()},
        "unsettled": reading.unsettled,
        "left_out": list(reading.left_out),
        "writable": {name: _refusal(name, reading) for name in FORMATS if FORMATS[name].layout is not None},
    }
