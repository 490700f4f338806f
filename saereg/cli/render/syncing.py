"""What became of the sources of a catalogue, for people."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from saereg.cli.render.text import plural, visible

if TYPE_CHECKING:
    from saereg.registry.catalog.sync import Outcome

WORDS = {
    "read": "read",
    "unchanged": "unchanged",
    "left": "left, being offline",
    "failed": "failed",
    "overtaken": "left: another process read it later, or removed it",
}


def line(outcome: "Outcome") -> str:
    """Return one line on one source."""
    from saereg.registry.catalog.sources import name_of

    name = visible(name_of(outcome.source))
    if outcome.problem is not None:
        kept = f" (its {plural(outcome.artifacts, 'artifact')} of before stay)" if outcome.artifacts else ""
        return f"{name}: {visible(outcome.problem).removeprefix(f'{name}: ')}{kept}"
    pin = f" at {short(outcome.pin)}" if outcome.pin else ""
    wrong = f"; {plural(outcome.wrong, 'release')} unverified, with errors" if outcome.wrong else ""
    return f"{name}: {WORDS[outcome.state]}{pin}, {plural(outcome.artifacts, 'artifact')}{wrong}"


def end(outcomes: "Sequence[Outcome]") -> str:
    """Return the sum of all."""
    states = Counter(WORDS[outcome.state].partition(":")[0] for outcome in outcomes)
    told = ", ".join(f"{count} {state}" for state, count in states.items())
    artifacts = sum(outcome.artifacts for outcome in outcomes)
    return f"{plural(len(outcomes), 'source')}{f' ({told})' if told else ''}, {plural(artifacts, 'artifact')}"


def short(pin: str | None) -> str:
    """Return the start of a commit or digest."""
    return pin[:12] if pin else "–"
