"""The options of commands that read text: what is read, where in rows it stands, and how long contexts are."""

from collections.abc import Callable

import click


def _buckets(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    from saereg.trainers.collecting.buckets import parse_bucket

    return tuple(map(parse_bucket, values))


OPTIONS = (
    click.option(
        "--text",
        "corpus",
        multiple=True,
        required=True,
        metavar="NAME",
        help="Text file, folder, .jsonl, .parquet, each also as .gz but Parquet; hf:org/name[@revision][:config]"
        "[:split]; builtin:prose or builtin:code. Several are read one after the other.",
    ),
    click.option(
        "--text-column",
        "columns",
        multiple=True,
        default=("text",),
        show_default=True,
        help="Column of rows that holds the text; of several, the first that a row has.",
    ),
    click.option(
        "--render",
        "rendering",
        type=click.Choice(["contents", "roles"]),
        help="How a list of messages becomes text: their contents with a blank line between, or with roles before.",
    ),
    click.option(
        "--context-size",
        default=128,
        show_default=True,
        type=click.IntRange(min=2),
        help="Tokens per context, special ones included.",
    ),
    click.option(
        "--bucket",
        "buckets",
        multiple=True,
        metavar="SHORTEST:LONGEST",
        callback=_buckets,
        help="Draw lengths of contexts from this bucket, instead of --context-size; give several.",
    ),
    click.option("--seed", default=0, show_default=True, type=int, help="Seed of the lengths drawn from buckets."),
    click.option("--bos", is_flag=True, help="Prepend BOS where the tokenizer does not."),
)


def text_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add them to a command."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function
