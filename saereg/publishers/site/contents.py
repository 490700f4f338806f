"""All that a page holds, before it is HTML: head, table, details in chunks, feature views and figures by themselves."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from saereg import __version__
from saereg.publishers.site.columns import table_of
from saereg.publishers.site.detail import detail_of, finding_of
from saereg.publishers.site.embed import compact, packed
from saereg.publishers.site.files import feature_view, figure_spec, without_empty
from saereg.publishers.site.libraries import NO_PLOTS
from saereg.publishers.site.proof import proof_counts
from saereg.registry.figures.theme import CATEGORIES, DARK_COLOURS, SHAPES
from saereg.registry.release import Release, ReleaseArtifact
from saereg.registry.withdrawal import told
from saereg.schemas.report import Report

Progress = Callable[[str, int, int], None]
"""(what, done, total) → None."""

CHUNK = 100
"""Artifacts whose details are decoded together when the first of them is opened."""

MOST_FINDINGS = 400
"""Findings that the page lists; the counts are of all."""

PICKS = 12
"""Picks that are shown as such; the others are one click away in the table."""

FEATURE_BYTES = 4_000_000
"""Letters that feature views may take in all; those of the picks go first."""

FIGURE_BYTES = 3_000_000
"""Letters that specifications of figures may take in all."""


@dataclass(frozen=True)
class Wanted:
    """What the page shows of a release.

    Attributes:
        place: the release as it stands in code that a reader copies: a folder or `hf://org/repo`.
        features: whether feature views are on the page.
        plots: whether the page has the plots; False without the `plots` extra.
    """

    place: str = "."
    features: bool = True
    plots: bool = True


@dataclass(frozen=True)
class Contents:
    """What stands in the page.

    Attributes:
        head: what is read at once, as JSON.
        parts: name of a part → deflated JSON in base64, decoded when it is looked at.
    """

    head: dict[str, Any]
    parts: dict[str, str] = field(repr=False)


def contents_of(release: Release, report: Report, wanted: Wanted, progress: Progress | None = None) -> Contents:
    """Return all that the page of a release holds; the same release gives the same.

    Args:
        release: an open release; only what its documents and small files say is used.
        report: findings of a validation.
        wanted: what is shown.
        progress: called after each chunk of artifacts.
    """
    of_artifact = defaultdict(list)
    for finding in report.findings:
        if finding.artifact is not None:
            of_artifact[finding.artifact].append(finding)
    counts = {name: len(found) for name, found in of_artifact.items()}
    parts = {"table": packed(compact(table_of(release, counts)))}
    views = _views(release) if wanted.features else {}
    parts |= dict(views.values())
    for start in range(0, len(release), CHUNK):
        chunk = release.artifacts[start : start + CHUNK]
        details = [detail_of(artifact, of_artifact[artifact.id], wanted.place) for artifact in chunk]
        for artifact, detail in zip(chunk, details, strict=True):
            if artifact.id in views:
                detail["features"] = views[artifact.id][0]
        parts[f"details-{start // CHUNK}"] = packed(compact(details))
        if progress:
            progress("artifacts", min(start + CHUNK, len(release)), len(release))
    figures, drawn = _figures(release, wanted)
    head = _head(release, report, wanted, left_out=_left_out(release, wanted, views))
    head |= {"chunk": CHUNK, "figures": figures}
    return Contents(without_empty(head), parts | drawn)


def _views(release: Release) -> dict[str, tuple[str, str]]:
    """Return id → name of the part and the deflated feature view, the picks first, as many as fit into the page."""
    found: dict[str, tuple[str, str]] = {}
    left = FEATURE_BYTES
    for artifact in sorted(release, key=lambda artifact: not artifact.claim.canonical):
        if (view := feature_view(artifact)) is None:
            continue
        text = packed(compact(view))
        if len(text) > left:
            break
        left -= len(text)
        found[artifact.id] = (f"features-{len(found)}", text)
    return found


def _figures(release: Release, wanted: Wanted) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return what the page says of each figure, and the deflated specifications that it has."""
    listed, parts, left = [], {}, FIGURE_BYTES
    for position, figure in enumerate(release.index.figures if release.index and wanted.plots else ()):
        entry = figure.model_dump(mode="json", include={"name", "title", "caption", "alt", "kind"})
        spec = figure_spec(release, figure.spec)
        text = packed(compact(spec)) if spec is not None else None
        if text is not None and len(text) <= left:
            left -= len(text)
            entry["part"] = f"figure-{position}"
            parts[entry["part"]] = text
        else:
            entry["why"] = "too large for this page" if text is not None else "not among the files of this release"
        listed.append(entry)
    return listed, parts


def _head(release: Release, report: Report, wanted: Wanted, left_out: Sequence[str]) -> dict[str, Any]:
    manifest, index = release.manifest, release.index
    info = manifest.release
    files = index.all_files() if index else ()
    dumped = manifest.model_dump(mode="json", include={"base_models", "datasets", "evaluations", "tokens"})
    return {
        "release": info.model_dump(mode="json"),
        **dumped,
        "rule": manifest.canonical.rule if manifest.canonical else None,
        "withdrawn": [told(mark) for mark in manifest.withdrawn],
        "kinds": dict(Counter(artifact.claim.kind for artifact in release)),
        "artifacts": len(release),
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "built": index is not None,
        "made_by": {"saereg": __version__} | (index.generated_by if index else {}),
        "proof": proof_counts(release),
        "picks": _picks(release),
        "floors": index.floors.model_dump(mode="json") if index and index.floors else None,
        "report": _report(report),
        "place": wanted.place,
        "look": {"categories": CATEGORIES, "shapes": SHAPES, "dark": DARK_COLOURS},
        "left_out": list(left_out),
    }


def _picks(release: Release) -> dict[str, Any]:
    """Return the author's picks, and how many there are."""
    chosen = [position for position, artifact in enumerate(release) if artifact.claim.canonical]
    return {"count": len(chosen), "rows": chosen[:PICKS]}


def _report(report: Report) -> dict[str, Any]:
    order = {"error": 0, "warning": 1, "note": 2}
    ranked = sorted(report.findings, key=lambda finding: (bool(finding.ignored), order[finding.severity]))
    summary = report.summary
    return {
        "level": report.level,
        "counts": {"errors": summary.errors, "warnings": summary.warnings, "notes": summary.notes},
        "ignored": summary.ignored,
        "checks": summary.checks,
        "findings": [finding_of(finding) for finding in ranked[:MOST_FINDINGS]],
        "more": max(0, len(ranked) - MOST_FINDINGS),
    }


def _left_out(release: Release, wanted: Wanted, views: Iterable[str]) -> list[str]:
    """Return in words what the page has not, though the release or the program may have it."""
    found = []
    if release.index is None:
        found.append("This release was never built: there is no evidence to show, only what its author states.")
    if not wanted.plots:
        found.append(NO_PLOTS)
    views = set(views)
    if views and (missing := [artifact for artifact in release if _has_view(artifact) and artifact.id not in views]):
        found.append(f"Feature views of {len(missing)} artifacts are in their folders, and not on this page.")
    return found


def _has_view(artifact: ReleaseArtifact) -> bool:
    return any(file.role == "features" for file in artifact.evidence.files) if artifact.evidence else False
