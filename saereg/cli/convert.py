"""`saereg convert`."""

import json
from pathlib import Path

import click

from saereg.cli.options import settings
from saereg.cli.render.text import next_step, plural, size, visible
from saereg.schemas.conversion import Conversion


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="LAYOUT", help="Layout to write, e.g. saelens or saereg.")
@click.option("--from", "layout", metavar="LAYOUT", help="Layout to read, where several fit or none is recognized.")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="What the files do not say; repeat it.")
@click.option(
    "--activations",
    type=click.Path(path_type=Path),
    help="Safetensors file with rows `x` of the model, for the golden vectors.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(  # one argument for each option
    source: Path,
    target: Path,
    to: str,
    layout: str | None,
    values: tuple[str, ...],
    activations: Path | None,
    form: str,
) -> None:
    """Convert one dictionary to another layout, with a proof that it computes the same.

    Every tensor is read back and compared with its source; the publisher's own forward, run on the source, is replayed
    on the result; the folder appears when both agree. What was proved is in its conversion.json.
    """
    from saereg.registry.conversion.convert import Order, convert
    from saereg.registry.conversion.rows import read_rows

    rows = read_rows(activations) if activations is not None else None
    record = convert(Order(source, target, to, layout, settings(values), rows))
    click.echo(json.dumps(record.model_dump(mode="json"), indent=2) if form == "json" else _text(record, target))
    next_step("python -c", f"import saereg; print(saereg.load({str(target)!r}))")


def _text(record: Conversion, target: Path) -> str:
    moved = sum(tensor.bitwise for tensor in record.tensors.values())
    computed = [name for name, tensor in record.tensors.items() if not tensor.bitwise]
    total = sum(file.size for file in record.written)
    lines = [f"{record.source_format} → {record.format}: {target}, {size(total)}"]
    lines += [f"assumed: {n.field} = {visible(n.value)}, because {visible(n.because)}" for n in record.assumptions]
    lines.append(f"tensors: {moved} of {len(record.tensors)} moved, bytes equal when read back")
    for name in computed:
        tensor = record.tensors[name]
        lines.append(
            f"  {name}: {tensor.operation} of {tensor.key or 'nothing'}, redone: off by {tensor.max_abs_diff:g}"
        )
    if record.left_out:
        lines.append(f"left out: {', '.join(visible(name) for name in record.left_out)}")
    if record.golden is not None:
        replay = record.golden.replayed[0]
        rows, made_by = plural(record.golden.rows, "row"), visible(record.golden.made_by.split(": ", 1)[-1])
        lines.append(f"golden vectors: {rows} by the {made_by}")
        lines.append(f"  replayed on the result: active sets equal, relative error {replay.max_rel_error:.2g}")
    return "\n".join(lines)
