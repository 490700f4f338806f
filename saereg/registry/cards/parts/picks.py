"""`summary` and `canonical`: what most readers want, by the author's rule or by one that is said."""

from collections.abc import Sequence

from saereg.errors import UsageError
from saereg.registry.candidates import candidate
from saereg.registry.canonical import Choice, Rule, choices, parse_rule
from saereg.registry.cards.marking import ABSENT, code, decimals, short, text
from saereg.registry.cards.view import METRICS_PAGE, Values, View, place_in_words, sparsity_of
from saereg.registry.files.natural import natural_key
from saereg.schemas.manifest import Artifact

MOST_WANTED = 12
"""Rows of the summary: what is longer is an inventory."""

MOST_PICKS = 200
"""Rows of the table of picks."""

BY_SITE = Rule("explained_variance", "highest", per=("kind", "site"))
"""What stands in the summary where the author picked none."""


def summary(view: View) -> Values | None:
    """Return the picks of the author, or else the best of each site; None where nothing is known of any."""
    picks, basis = [claim for claim in view.claims if claim.canonical and view.usable(claim)], "flagged"
    rule = rule_of(view)
    if not picks:
        basis = "rule" if rule else "site"
        picks = _chosen(view, rule or BY_SITE)
    if not picks:
        return None
    loss = any(view.fields[claim.id]["ce_recovered"] is not None for claim in picks)
    source = any(view.fields[claim.id]["l0_per_source_mean"] is not None for claim in picks)
    header = ["for", "dictionary", "architecture", "d_sae", "sparsity", "EV (`explained_variance`)"]
    header.append("L0 (`l0`, per source `l0_per_source_mean`)" if source else "L0 (`l0`)")
    header += ["loss recovered (`ce_recovered`)"] if loss else []
    rows = [_wanted_row(claim, view, loss=loss) for claim in picks[:MOST_WANTED]]
    return {
        "picks": {"header": header, "rows": rows},
        "basis": basis,
        "rule": rule_words(rule) if rule else None,
        "more": len(picks) - len(rows),
        "data": view.measured_on(picks[:MOST_WANTED]),
        "metrics_page": METRICS_PAGE,
    }


def _wanted_row(claim: Artifact, view: View, *, loss: bool) -> list[str]:
    fields = view.fields[claim.id]
    l0 = decimals(fields["l0"], 1)
    if fields["l0"] is None and fields["l0_per_source_mean"] is not None:
        l0 = f"{fields['l0_per_source_mean']:.1f} per source"
    words = place_in_words(claim, view.manifest)
    row = [text(words[:1].upper() + words[1:]), view.name(claim.id), code(claim.architecture), f"{claim.d_sae:,}"]
    row += [sparsity_of(claim), decimals(fields["explained_variance"], 4), l0]
    return row + ([decimals(fields["ce_recovered"], 4)] if loss else [])


def _chosen(view: View, rule: Rule) -> list[Artifact]:
    """Return whom a rule chooses in each group, of several that tie the first."""
    best = {min(choice.best, key=natural_key) for choice in choices_of(view, rule) if choice.best}
    return [claim for claim in view.claims if claim.id in best]


def rule_of(view: View) -> Rule | None:
    """Return the author's rule, or None where there is none that can be evaluated."""
    if view.manifest.canonical is None:
        return None
    try:
        return parse_rule(view.manifest.canonical.rule)
    except UsageError:  # SR433 tells the author
        return None


def choices_of(view: View, rule: Rule) -> tuple[Choice, ...]:
    """Return what a rule says of each group of the artifacts that a reader may be sent to."""
    pool = [claim for claim in view.claims if view.usable(claim)]
    return choices(rule, [candidate(c, view.evidence.get(c.id), view.manifest, rule.metric) for c in pool])


def rule_words(rule: Rule) -> str:
    """Return a rule as a sentence for people, in Markdown."""
    what = f"`{rule.metric}`"
    how = f"whose {what} is closest to {rule.target:g}" if rule.aim == "closest" else f"with the {rule.aim} {what}"
    if not rule.per:
        return f"of all dictionaries the one {how}"
    names = [f"`{name}`" for name in rule.per]
    shared = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"of the dictionaries that share their {shared} the one {how}"


def canonical(view: View) -> Values | None:
    """Return the picks with the number that decided; None where the author made none."""
    declared = view.manifest.canonical
    flagged = [claim for claim in view.claims if claim.canonical]
    if declared is None and not flagged:
        return None
    rule = rule_of(view)
    found = choices_of(view, rule) if rule else ()
    header, rows = _pick_rows(flagged, rule, found, view)
    return {
        "stated": declared.rule if declared else None,
        "rule": rule_words(rule) if rule else None,
        "picks": {"header": header, "rows": rows[:MOST_PICKS]},
        "count": len(flagged),
        "more": max(len(rows) - MOST_PICKS, 0),
        "measured": sorted({choice.basis for choice in found if choice.basis}),
    }


def _pick_rows(
    flagged: Sequence[Artifact], rule: Rule | None, found: Sequence[Choice], view: View
) -> tuple[list[str], list[list[str]]]:
    if rule is None:
        rows = [[text(place_in_words(claim, view.manifest)), view.name(claim.id)] for claim in flagged]
        return ["for", "pick"], rows
    groups = {name: choice for choice in found for name in choice.flagged}
    names = [name for name in rule.per if any(name in choice.group for choice in found)]
    header, rows = [*(code(name) for name in names), "pick", f"`{rule.metric}`", "chosen from"], []
    for claim in flagged:
        choice = groups.get(claim.id)
        value = choice.values.get(claim.id) if choice else None
        shown = [text(choice.group[name]) if choice else ABSENT for name in names]
        rows.append([*shown, view.name(claim.id), short(value), f"{len(choice.values):,}" if choice else ABSENT])
    return header, rows
