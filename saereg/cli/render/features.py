"""A feature view for people: one latent behind the other, with the tokens that activate it most."""

from collections.abc import Sequence

import click

from saereg.cli.render.text import number, plural, visible
from saereg.schemas.features import Context, FeatureView, LatentView, ReadoutEntry

BARS = " ▁▂▃▄▅▆▇█"
"""Heights of a histogram in characters: nothing at all, then from one row on."""

WIDTH = 96
"""Characters of a context, about."""

CHOSEN = {"given": "as named", "random": "at random", "strata": "one of each stratum of frequency"}


def view_text(view: FeatureView, d_sae: int) -> str:
    """Return the view as text; bold where a terminal shows it.

    Args:
        view: the view.
        d_sae: latents of the dictionary.
    """
    rows = f"{view.rows} of {view.rows_in_all}" if view.rows_in_all else str(view.rows)
    seed = "" if view.seed is None else f", seed {view.seed}"
    head = f"{view.artifact} on {view.evaluation}, {rows} rows"
    parts = [
        f"{click.style(visible(head), bold=True)}\n{len(view.latents)} of {d_sae} latents, {CHOSEN[view.chosen]}{seed}"
    ]
    parts += [_latent(latent, view) for latent in view.latents]
    notes = [
        ("text", view.text_note),
        (f"readout ({view.readout})" if view.readout != "none" else "no readout", view.readout_note),
    ]
    parts += ["\n".join(f"{what}: {visible(note)}" for what, note in notes if note)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _latent(latent: LatentView, view: FeatureView) -> str:
    head = click.style(f"latent {latent.index}", bold=True)
    if latent.maximum is None:
        return f"{head}  never active"
    facts = [_share(latent.frequency), f"mean {number(latent.mean_active)}", f"max {number(latent.maximum)}"]
    facts += [f"‖W_dec‖ {_range(latent.decoder_norms)}"] if latent.decoder_norms else []
    lines = ["  ".join([head, *facts])]
    if latent.per_source:
        lines.append(f"  at its {plural(len(latent.per_source), 'source')}, first to last  {_bars(latent.per_source)}")
    if latent.histogram is not None:
        edges = latent.histogram.edges
        lines.append(f"  activations  {number(edges[0])} {_bars(latent.histogram.counts)} {number(edges[-1])}")
    lines += [_context(context) for context in latent.contexts]
    if view.readout == "vocabulary":
        lines += [_entry(entry) for entry in latent.promoted]
    elif latent.promoted:
        lines.append(f"  promotes    {_listed(latent.promoted)}")
        lines.append(f"  suppresses  {_listed(latent.suppressed)}")
    return "\n".join(lines)


def _share(frequency: float) -> str:
    return f"active in {100 * frequency:.3g} % of rows"


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def _bars(values: Sequence[float]) -> str:
    """Return a bar of eight heights for each value; nothing stands for 0 alone."""
    most = max(values, default=0)
    if most <= 0:
        return BARS[0] * len(values)
    return "".join(BARS[0] if value <= 0 else BARS[max(1, round(value / most * 8))] for value in values)


def _entry(entry: ReadoutEntry) -> str:
    at = f"  {_bars(entry.at_sources)}" if entry.at_sources else ""
    return f"  {number(entry.value):>8}  {_quoted(entry.token)}{at}"


def _listed(entries: Sequence[ReadoutEntry]) -> str:
    return "  ".join(f"{_quoted(entry.token)} {entry.value:+.3g}" for entry in entries)


def _quoted(token: str) -> str:
    return f"'{visible(token)}'"


def _context(context: Context) -> str:
    value = f"  {number(context.activation):>8}  "
    if context.peak is None:
        return f"{value}row {context.row}"
    before, after = _around(context)
    peak = visible(context.tokens[context.peak])
    word = peak.lstrip(" ") or peak
    space = peak[: len(peak) - len(word)]
    return value + before + space + click.style(f"«{word}»", bold=True) + after


def _around(context: Context) -> tuple[str, str]:
    """Return the text before and behind a peak, as much as fits; two thirds of it before."""
    assert context.peak is not None  # noqa: S101  # whoever asks has looked
    tokens = [visible(token) for token in context.tokens]
    styled = [
        click.style(token, underline=True) if value else token
        for token, value in zip(tokens, context.activations, strict=True)
    ]
    room = WIDTH - len(tokens[context.peak])
    first, used = context.peak, 0
    while first > 0 and used + len(tokens[first - 1]) <= room * 2 // 3:
        first -= 1
        used += len(tokens[first])
    last = context.peak + 1
    while last < len(tokens) and used + len(tokens[last]) <= room:
        used += len(tokens[last])
        last += 1
    return "".join(styled[first : context.peak]), "".join(styled[context.peak + 1 : last])
