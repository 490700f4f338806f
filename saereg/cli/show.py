"""`saereg show`."""

import json
from pathlib import Path

import click

from saereg.cli.options import catalog_option
from saereg.cli.render.catalogued import catalogued_json, catalogued_text
from saereg.cli.render.claims import verdict_text
from saereg.cli.render.graph import GRAPHS
from saereg.cli.render.text import next_step, number, plural, size, table, visible
from saereg.errors import DocumentError, UsageError
from saereg.registry.catalog.lineage import graph_of
from saereg.registry.catalog.showing import shown
from saereg.registry.catalog.store import catalog_path
from saereg.registry.claims.fits import setting
from saereg.registry.conditions.fields import DESCRIBING
from saereg.registry.refs import parse_reference
from saereg.registry.release import MANIFEST_FILE, Release, ReleaseArtifact, open_artifact, open_release
from saereg.registry.withdrawal import told
from saereg.schemas.index import IndexArtifact
from saereg.schemas.metrics import Claim, Verdict
from saereg.schemas.provenance import Provenance

ELSEWHERE = (
    "id", "reference", "release", "release_name", "version", "license", "path", "model_name", "dtype", "weights_sha256",
    "size", "neuronpedia_id", "repo", "folder",
)  # fmt: skip
"""Fields of an artifact that `show` does not list among those that describe it."""


@click.command()
@click.argument("target")
@click.option("--format", "form", type=click.Choice(["text", "json", "mermaid"]), default="text", show_default=True)
@click.option("--graph", is_flag=True, help="Show sisters, what it was made from, and what was made from it.")
@click.option("--depth", type=click.IntRange(1, 20), default=3, show_default=True, help="Steps of --graph.")
@catalog_option
def command(target: str, form: str, graph: bool, depth: int, catalog: Path | None) -> None:
    """Show one release, or one artifact (release:artifact_id or its folder): claims, evidence, semantics.

    TARGET may also be a name that the catalogue knows: name[@version][:artifact], org/repo@latest, …:canonical. Of an
    artifact of another make, what the catalogue has: stated and assumed values, and their source.
    """
    own = ("--catalog", catalog) if catalog else ()
    if graph:
        click.echo(GRAPHS[form](graph_of(target, depth, catalog or catalog_path())), nl=False)
        next_step("saereg show", target, *own)
        return
    if form == "mermaid":
        raise UsageError("--format mermaid draws a graph; add --graph")
    found = shown(target, catalog or catalog_path())
    if not isinstance(found, str):
        click.echo(catalogued_json(found) if form == "json" else catalogued_text(found), nl=False)
        next_step("saereg load", found[0].reference, *own)
        return
    target = found
    release = _release(target)
    if release is not None:
        click.echo(release.manifest.text() if form == "json" else _release_text(release), nl=False)
        next_step("saereg ls" if release.index else "saereg build", target)
        return
    artifact = open_artifact(target)
    click.echo(
        json.dumps(_artifact_json(artifact), indent=2) + "\n" if form == "json" else _artifact_text(artifact), nl=False
    )
    if artifact.pull_command is not None:
        next_step(artifact.pull_command)
        return
    code = f"import saereg; print(saereg.load({target!r}))"
    next_step("python -c", code) if set(code) & set('"$`!\\') else next_step(f'python -c "{code}"')


def _release(target: str) -> Release | None:
    """Return the release that a target names, or None when it names one artifact."""
    reference = parse_reference(target)
    if reference.artifact is not None:
        return None
    try:
        if reference.folder is not None and not (reference.folder / MANIFEST_FILE).is_file():
            open_artifact(target)
            return None
    except DocumentError:
        raise  # the release around it cannot be read: that is what is wrong
    except UsageError:
        pass
    return open_release(target)


def _release_text(release: Release) -> str:
    info, manifest = release.manifest.release, release.manifest
    models = ", ".join(f"{m.id}{'@' + m.revision[:8] if m.revision else ''}" for m in manifest.base_models.values())
    rows = [
        *(("withdrawn", told(mark)) for mark in manifest.withdrawn),
        ("title", info.title),
        ("licence", info.license),
        ("authors", ", ".join(info.authors) or "–"),
        ("base models", models or "–"),
        ("data sets", ", ".join(d.id for d in manifest.datasets.values()) or "–"),
        ("artifacts", str(len(release))),
        ("sites", ", ".join(manifest.sites)),
        ("evaluations", ", ".join(f"{n} ({e.rows} rows)" for n, e in manifest.evaluations.items()) or "–"),
        *(("sister", target) for target in info.sister_releases),
        *(("derived from", target) for target in info.derived_from),
    ]
    if release.index:
        files = release.index.all_files()
        rows.append(("files", f"{plural(len(files), 'file')}, {size(sum(f.size for f in files))}"))
        rows += _made_from(release.index.provenance) if release.index.provenance else []
    else:
        rows.append(("evidence", "none yet: saereg build"))
    return f"{info.name} {info.version}\n" + _rows(rows)


def _made_from(provenance: Provenance) -> list[tuple[str, str]]:
    """Return what the release was made from, beside the models and data sets that are shown already."""
    code, checkpoints = provenance.code, provenance.source_checkpoints
    tools = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in provenance.tools.items())
    rows = [("code", f"{code.repository}{'@' + code.commit[:8] if code.commit else ''}")] if code else []
    rows += [("made with", tools)] if tools else []
    rows += [("settings", f"sha256 {provenance.configuration_sha256[:16]}")]
    files = f"{plural(checkpoints.count, 'file')}, sha256 {checkpoints.sha256[:16]}" if checkpoints else ""
    return rows + ([("checkpoints", files)] if files else [])


def _artifact_text(artifact: ReleaseArtifact) -> str:
    fields = {n: v for n, v in artifact.fields.items() if v is not None and v is not False and v != ()}
    rows = [(name, number(value)) for name, value in fields.items() if name in DESCRIBING and name not in ELSEWHERE]
    rows += [("neuronpedia", artifact.claim.neuronpedia_id)] if artifact.claim.neuronpedia_id else []
    rows += [("derived from", target) for target in artifact.claim.derived_from]
    if artifact.withdrawn:
        rows = [("withdrawn", told(artifact.withdrawn)), *(row for row in rows if row[0] != "withdrawn")]
    text = f"{artifact.id}\n" + _rows(rows)
    return text + (_evidence_text(artifact, artifact.evidence) if artifact.evidence else "no evidence: saereg build\n")


def _evidence_text(artifact: ReleaseArtifact, evidence: IndexArtifact) -> str:
    switches = evidence.semantics.model_dump(mode="json", exclude_none=True)
    switches |= {f"normalization.{k}": v for k, v in switches.pop("normalization").items()}
    parts = ["\nsemantics\n" + _rows([(name, number(value)) for name, value in switches.items()])]
    if evidence.assumptions:
        rows = [(a.field, f"{a.value} ({a.because})") for a in evidence.assumptions]
        parts.append("\nassumptions\n" + _rows(rows))
    if evidence.metrics:
        rows3 = [[setting(m), number(m.value), m.evaluation, str(m.rows)] for m in evidence.metrics]
        parts.append("\nmeasured\n" + table(["metric", "value", "evaluation", "rows"], rows3) + "\n")
    if artifact.claim.claims:
        judged = [(artifact.claim.claims[verdict.claim], verdict) for verdict in evidence.verdicts]
        rows4 = [[setting(claim), number(claim.value), *_verdict(claim, verdict)] for claim, verdict in judged]
        parts.append("\nclaimed\n" + table(["metric", "value", "verdict", "why"], rows4) + "\n")
    return "".join(parts) + _proof_text(evidence)


def _verdict(claim: Claim, verdict: Verdict) -> tuple[str, str]:
    """Return a verdict in a few words, and why."""
    unknown = verdict.verdict == "not_verifiable"  # whose few words are the reason
    return "not verifiable" if unknown else verdict_text(claim, verdict), visible(verdict.why or "")


def _proof_text(evidence: IndexArtifact) -> str:
    rows: list[tuple[str, str]] = []
    if evidence.round_trip:
        tensors = evidence.round_trip.tensors
        exact = sum(t.bitwise for t in tensors.values())
        worst = max((t.max_abs_diff for t in tensors.values()), default=0.0)
        rows.append(("round trip", f"{exact} of {len(tensors)} tensors moved bitwise, max_abs_diff {worst:g}"))
    if evidence.golden:
        replays = "; ".join(f"{r.reader}: error {r.max_rel_error:.2g}" for r in evidence.golden.replayed)
        rows.append(("golden vectors", f"{evidence.golden.rows} rows by {evidence.golden.made_by}; {replays}"))
    return "\nproof\n" + _rows(rows) if rows else ""


def _artifact_json(artifact: ReleaseArtifact) -> dict[str, object]:
    evidence = artifact.evidence.model_dump(mode="json") if artifact.evidence else None
    return {"claim": artifact.claim.model_dump(mode="json"), "evidence": evidence, "fields": artifact.fields}


def _rows(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "".join(f"  {name.ljust(width)}  {visible(value)}\n" for name, value in rows)
