"""`saereg load`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg import api
from saereg.cli.options import catalog_option, settings
from saereg.cli.render.text import next_step, visible

if TYPE_CHECKING:
    from saereg.registry.catalog.loading import Loaded


@click.command()
@click.argument("target")
@click.option("--device", default="cpu", show_default=True, help="Torch device: cpu, cuda, mps.")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="What files of other layouts do not say.")
@click.option("--from", "layout", metavar="LAYOUT", help="Layout of a path, where several fit or none is recognized.")
@click.option("--saelens", is_flag=True, help="Try that SAELens makes an object of it, too.")
@catalog_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    target: str,
    device: str,
    given: tuple[str, ...],
    layout: str | None,
    saelens: bool,
    catalog: Path | None,
    form: str,
) -> None:
    """Fetch one artifact into the cache, compare it with its index, load it, and say what it is.

    TARGET is org/repo@revision:artifact, release:artifact, name[@version]:artifact of the catalogue, or a path.
    """
    said = settings(given) or None
    loaded = api.fetch(target, device, given=said, layout=layout, catalog=catalog)
    facts = _facts(loaded)
    if saelens:
        facts["saelens"] = type(loaded.dictionary.to_saelens()).__name__
    if form == "json":
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        width = max(map(len, facts))
        click.echo("\n".join(f"{name.ljust(width)}  {visible(str(value))}" for name, value in facts.items()))
    more = "".join(f", {name}={value!r}" for name, value in (("given", said), ("layout", layout)) if value)
    code = f"import saereg; dictionary = saereg.load({loaded.reference!r}{more})"
    next_step("python -c", code) if set(code) & set('"$`!\\') else next_step(f'python -c "{code}"')


def _facts(loaded: "Loaded") -> dict[str, object]:
    dictionary, cfg = loaded.dictionary, loaded.dictionary.cfg
    return {
        "reference": loaded.reference,
        "path": str(loaded.path),
        "compared with": loaded.compared,
        "dictionary": repr(dictionary),
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "tensors": ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in dictionary.weights.items()),
    }
