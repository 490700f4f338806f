"""`saereg upgrade`."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saereg.cli.render.text import next_step, plural, shorten, table, visible

if TYPE_CHECKING:
    from saereg.registry.upgrading.account import Upgraded
    from saereg.registry.upgrading.given import Given
    from saereg.registry.upgrading.upgrade import Plan

MOST_LINES, WIDEST = 24, 48
"""Lines of a table, and characters of one of its cells; `--format json` has all."""


@click.command()
@click.argument("target", default=".", type=click.Path(path_type=Path))
@click.option("--diff", "only_diff", is_flag=True, help="Show what would be written, as a diff; write nothing.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.  [default: in place]"
)
@click.option("--name", help="Name of the release.  [default: what it says, else its folder]")
@click.option("--title", help="Title of the release.")
@click.option("--license", "licence", help="Licence of the release, as on the Hub.")
@click.option("--version", help="Version of the release.  [default: what it says, else 0.1.0]")
@click.option(
    "--model", "models", multiple=True, metavar="[WORD=]ORG/NAME", help="Base model; of WORD, or of the rest."
)
@click.option("--site", help="TransformerLens name, e.g. 'blocks.{layer}.hook_resid_post'.")
@click.option("--module", help="Path in transformers, e.g. 'model.layers.{layer}'.")
@click.option("--stream", type=click.Choice(["residual", "mlp", "attention", "embedding"]), help="Kind of that tensor.")
@click.option("--tokens", multiple=True, metavar="NAME=VALUE", help="Token policy, e.g. bos=false; repeat it.")
@click.option("--set", "settings", multiple=True, metavar="[PATTERN:]FIELD=VALUE", help="What rows do not say; repeat.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME=DEFINITION", help="Definition of a number; repeat it."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(target: Path, **options: Any) -> None:  # noqa: ANN401 - one value per option
    """Turn documents of an earlier version, or of another make, into those of today.

    TARGET is a folder or a document: a release of saereg, or a bare index.json or manifest.json that lists dictionaries
    in a shape of its own. The original is kept beside the result as NAME.foreign.json. What found no place in the
    manifest is listed, and so is what was inferred.
    """
    from saereg.registry.upgrading.upgrade import apply, plan

    given = _given(options)
    found = plan(target, given, options["out"])
    if not options["only_diff"]:
        apply(found)
    if options["form"] == "json":
        click.echo(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
    elif options["only_diff"]:
        click.echo(visible_lines(found.diff()), nl=False)
    _tell(found, options)


def _given(options: dict[str, Any]) -> "Given":
    from saereg.registry.upgrading.given import Given, parse_metrics, parse_models, parse_settings, parse_tokens

    names = {"name": "name", "title": "title", "license": "licence", "version": "version"}
    model, models = parse_models(options["models"])
    return Given(
        release={key: options[option] for key, option in names.items() if options[option] is not None},
        models=models,
        model=model,
        site=options["site"],
        module=options["module"],
        stream=options["stream"],
        settings=parse_settings(options["settings"]),
        metrics=parse_metrics(options["metrics"]),
        tokens=parse_tokens(options["tokens"]),
    )


def visible_lines(text: str) -> str:
    """Return a text of several lines without characters that would move the cursor."""
    return "".join(f"{visible(line)}\n" for line in text.splitlines())


def _tell(found: "Plan", options: dict[str, Any]) -> None:
    """Say what was done, what could not be placed and what was assumed: on stderr where stdout has other things."""
    aside = options["only_diff"] or options["form"] == "json"
    if not found.writes and not found.removes:
        click.echo(f"{', '.join(map(str, found.checked))}: nothing to do, it is of today's make", err=aside)
        return
    for write in found.writes:
        click.echo(f"{'would write' if options['only_diff'] else 'wrote'} {write.path}", err=aside)
    for path in found.removes:
        click.echo(f"{'would move' if options['only_diff'] else 'moved'} {path}: its copy is above", err=aside)
    if found.upgraded is not None and options["form"] == "text":
        click.echo(_account(found.upgraded), err=aside)
    if not options["only_diff"]:
        next_step("saereg validate", found.writes[-1].path.parent if found.writes else found.checked[0].parent)


def _account(upgraded: "Upgraded") -> str:
    """Return the tables of what could not be placed and of what the inventory does not say."""
    parts = [f"{plural(len(upgraded.moved), 'value')} placed, {len(upgraded.unplaced)} not placed"]
    groups: dict[tuple[str, str], list[tuple[str, object]]] = defaultdict(list)
    for one in upgraded.unplaced:
        groups[one.leaf.keys[-1] if one.leaf.keys else "", one.why].append((one.leaf.pointer, one.leaf.value))
    if groups:
        rows = [
            (at[0][0], key, str(len(at)), _cell(at[0][1]), shorten(visible(why), 90))
            for (key, why), at in groups.items()
        ]
        parts += ["\nnot placed, and kept in the original:", _table(("where", "key", "values", "first", "why"), rows)]
    assumed: dict[tuple[str, str], list[tuple[str, object, str]]] = defaultdict(list)
    for fact in upgraded.supposed:
        field = fact.pointer.rpartition("/")[2]
        assumed[field, fact.because.partition(":")[0]].append((fact.pointer, fact.value, fact.because))
    if assumed:
        lines = [(at[0][0], str(len(at)), _cell(at[0][1]), shorten(visible(at[0][2]), 90)) for at in assumed.values()]
        parts += ["\nnot said in so many words:", _table(("where", "values", "first", "because"), lines)]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    more = f"\n… and {len(rows) - MOST_LINES} more: --format json" if len(rows) > MOST_LINES else ""
    return table(head, [[visible(cell) for cell in row] for row in rows[:MOST_LINES]]) + more


def _cell(value: object) -> str:
    return shorten(visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)), WIDEST)


def _as_json(found: "Plan") -> dict[str, Any]:
    upgraded = found.upgraded
    document: dict[str, Any] = {
        "written": [str(write.path) for write in found.writes],
        "moved": [str(path) for path in found.removes],
        "steps": [{"to": link.to, "what": link.what} for link in found.links],
    }
    if upgraded is not None:
        document |= {
            "manifest": upgraded.document,
            "placed": [
                {"from": one.leaf.pointer, "value": one.leaf.value, "to": one.pointer, "became": one.became}
                for one in upgraded.moved
            ],
            "unplaced": [
                {"from": one.leaf.pointer, "value": one.leaf.value, "why": one.why} for one in upgraded.unplaced
            ],
            "assumed": [{"at": one.pointer, "value": one.value, "because": one.because} for one in upgraded.supposed],
        }
    return document
