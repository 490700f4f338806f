"""`limitations`: what is wrong, not known or not there, as far as the documents show it."""

from collections import Counter

from saereg.registry.cards.marking import code, codes, counted, short, text
from saereg.registry.cards.parts.metrics import by_reason
from saereg.registry.cards.parts.semantics import listed
from saereg.registry.cards.view import Values, View, grouped
from saereg.registry.withdrawal import standing
from saereg.schemas.manifest import Artifact

MOST_ROWS = 30
"""Reasons that are named."""

MANY_DEAD = 0.5
"""Share of latents that no row of the evaluation makes active above which an artifact is named."""


def values(view: View) -> Values | None:
    """Return the list; None where there is nothing to say, as without artifacts."""
    if not view.claims:
        return None
    found: Values = {
        "failures": _by(view, [(c, c.expected_failure) for c in view.claims if c.expected_failure]),
        "withdrawn": _by(view, [(c, mark) for c in view.claims if (mark := _mark(view, c))]),
        "useless": _useless(view),
        "dead": _dead(view),
        "assumptions": sum(len(entry.assumptions) for entry in view.index.artifacts),
        "unverifiable": sum(count for _, count in by_reason(view)),
        "differing": sum(v.verdict == "differs" for entry in view.index.artifacts for v in entry.verdicts),
        "absent": _absent(view),
    }
    return found if any(found.values()) else None


def _mark(view: View, claim: Artifact) -> str | None:
    mark = standing(view.manifest, view.manifest.release.version, claim.id)
    return f"{mark.kind} on {mark.date}: {mark.reason}" if mark else None


def _by(view: View, pairs: list[tuple[Artifact, str]]) -> list[Values]:
    groups = grouped(pairs, lambda pair: pair[1])
    return [
        {"artifacts": listed([claim.id for claim, _ in members], view), "reason": text(reason).rstrip(".")}
        for reason, members in list(groups.items())[:MOST_ROWS]
    ]


def _useless(view: View) -> Values | None:
    """Return the artifacts that reconstruct their evaluation worse than its mean does."""
    known = [(value, name) for name, found in view.measured.items() if (value := found.get("explained_variance"))]
    bad = sorted((value, name) for value, name in known if value < 0)
    if not bad:
        return None
    return {"count": len(bad), "worst": short(bad[0][0]), "example": view.name(bad[0][1])}


def _dead(view: View) -> Values | None:
    """Return the artifacts of which most latents are never active on their evaluation."""
    shares = [
        (name, found["dead_fraction"])
        for name, found in view.measured.items()
        if found.get("dead_fraction") is not None
    ]
    many = sorted((share, name) for name, share in shares if share is not None and share > MANY_DEAD)
    if not many:
        return None
    return {"count": len(many), "worst": f"{many[-1][0] * 100:.0f} %", "example": view.name(many[-1][1])}


def _absent(view: View) -> list[str]:
    """Return sentences on what the documents do not have, in Markdown."""
    manifest, entries = view.manifest, [view.evidence.get(claim.id) for claim in view.claims]
    said = []
    loose = [code(m.id) for m in manifest.base_models.values() if not m.revision and not m.weights_sha256]
    if loose:
        said.append(f"No revision or digest pins {codes_of(loose)}: the weights behind the name may change.")
    free = [code(d.id) for d in manifest.datasets.values() if not d.revision and not d.sha256]
    if free:
        said.append(f"No revision or digest pins the text {codes_of(free)}.")
    unmeasured = [
        c.id
        for c, e in zip(view.claims, entries, strict=True)
        if e is None or not any(m.value is not None for m in e.metrics)
    ]
    if unmeasured:
        said.append(f"Nothing was measured of {counted(len(unmeasured), 'artifact')}: {codes(unmeasured)}.")
    ungolden = [c.id for c, e in zip(view.claims, entries, strict=True) if e is None or e.golden is None]
    if ungolden:
        said.append(
            f"{counted(len(ungolden), 'artifact')} {'ships' if len(ungolden) == 1 else 'ship'} no golden vectors."
        )
    rows = Counter(m.rows for e in entries if e for m in e.metrics)
    if rows and max(rows) < 100_000:
        said.append(
            f"No evaluation has more than {max(rows):,} rows: how rare the rarest latents are cannot be seen in so few."
        )
    activations = any(site.stream != "parameter" for site in manifest.sites.values())
    if activations and not any(found.get("ce_recovered") is not None for found in view.measured.values()):
        said.append("The loss of the base model with a reconstruction in place was not measured.")
    return said


def codes_of(names: list[str]) -> str:
    """Return the first of some names that are Markdown already."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
