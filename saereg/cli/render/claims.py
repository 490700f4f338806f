"""Claims and their verdicts as text, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from saereg.cli.render.text import plural, table, visible
from saereg.registry.claims.fits import setting
from saereg.registry.claims.judge import correction
from saereg.schemas.metrics import BATCHED, Claim, Verdict

HEAD = ("artifact", "metric", "claimed", "measured", "verdict")
CSV_HEAD = (
    "release", "artifact", "claim", "metric", "batch_rows", "units", "evaluation", "kind", "claimed", "measured",
    "verdict", "matches", "matches_value", "matches_batch_rows", "matches_units", "why",
)  # fmt: skip
ORDER = ("verified", "differs", "matches_another", "not_verifiable")
"""Verdicts, in the order in which they are counted."""


@dataclass(frozen=True)
class Line:
    """One claim and its verdict.

    Attributes:
        release: how the user named the release.
        artifact: id of the artifact.
        claim: the claim.
        verdict: what came of it.
    """

    release: str
    artifact: str
    claim: Claim
    verdict: Verdict

    @property
    def where(self) -> str:
        """The reference of the artifact."""
        return f"{self.release}:{self.artifact}"


def verdict_text(claim: Claim, verdict: Verdict) -> str:
    """Return a verdict in a few words: which definition a number follows, by how much it differs, or why nobody knows.

    Args:
        claim: the claim.
        verdict: the verdict.
    """
    if verdict.verdict == "matches_another":
        return f"matches {_matched(claim, verdict)}, not {setting(claim)}"
    if verdict.verdict == "differs" and verdict.measured is not None:
        return f"differs by {abs(verdict.measured - claim.value):.2g}"
    if verdict.verdict == "not_verifiable" and verdict.why:
        return f"not verifiable: {verdict.why}"
    return verdict.verdict.replace("_", " ")


def _matched(claim: Claim, verdict: Verdict) -> str:
    change = correction(claim, verdict)
    units = verdict.matches_units or claim.units
    update = {"metric": verdict.matches, "batch_rows": verdict.matches_batch_rows, "units": units}
    return ("1 − " if "value" in change else "") + setting(claim.model_copy(update=update))


def claims_text(lines: Sequence[Line], *, several: bool) -> str:
    """Return a table of claims, the changes that would make some of them true, and the counts.

    Args:
        lines: the claims.
        several: whether they are of several releases.
    """
    rows = [
        [
            visible(line.where if several else line.artifact),
            setting(line.claim),
            f"{line.claim.value:.10g}",
            "–" if line.verdict.measured is None else f"{line.verdict.measured:.6g}",
            visible(verdict_text(line.claim, line.verdict)),
        ]
        for line in lines
    ]
    changes = [
        f"  {visible(line.where if several else line.artifact)} claim {line.verdict.claim}: {json.dumps(change)}"
        for line in lines
        if (change := correction(line.claim, line.verdict))
    ]
    parts = [table(HEAD, rows), ""]
    parts += ["to state these numbers for what they are:", *changes, ""] if changes else []
    return "\n".join([*parts, counts(lines)])


def counts(lines: Sequence[Line]) -> str:
    """Return how many claims there are of each verdict."""
    verdicts = [line.verdict.verdict for line in lines]
    said = [f"{verdicts.count(v)} {v.replace('_', ' ')}" for v in ORDER if v in verdicts]
    return f"{plural(len(lines), 'claim')}: {', '.join(said)}"


def claims_json(lines: Sequence[Line]) -> str:
    """Return claims and verdicts as one JSON document; `change` has the fields that would make a claim true."""
    return json.dumps(
        [
            {
                "release": line.release,
                "artifact": line.artifact,
                "claim": line.claim.model_dump(mode="json", exclude_none=True),
                "verdict": line.verdict.model_dump(mode="json", exclude_none=True),
            }
            | ({"change": change} if (change := correction(line.claim, line.verdict)) else {})
            for line in lines
        ],
        indent=2,
        ensure_ascii=False,
    )


def claims_csv(lines: Sequence[Line]) -> str:
    """Return one line per claim, with every digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for line in lines:
        claim, verdict = line.claim, line.verdict
        batch_rows = claim.batch_rows if claim.metric in BATCHED else None
        values = (
            line.release, line.artifact, verdict.claim, claim.metric, batch_rows, claim.units, claim.evaluation,
            claim.kind, claim.value, verdict.measured, verdict.verdict, verdict.matches, verdict.matches_value,
            verdict.matches_batch_rows, verdict.matches_units, verdict.why,
        )  # fmt: skip
        writer.writerow(["" if value is None else value for value in values])
    return text.getvalue()
