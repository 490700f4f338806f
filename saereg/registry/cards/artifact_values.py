"""What the card of one artifact shows, worked out from its claim and its evidence; a template makes Markdown of it."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from saereg.registry.cards.artifact_words import NAMES, sentences
from saereg.registry.cards.capture import capture
from saereg.registry.cards.front_matter import is_hub_id
from saereg.registry.cards.marking import ABSENT, code, codes, fenced, joined, link, short, text
from saereg.registry.cards.recipes import recipes
from saereg.registry.cards.view import KINDS, METRICS_PAGE, Values, filled, place_in_words, sparsity_of
from saereg.registry.files.names import ARTIFACT_CARD_FILE
from saereg.registry.flat_fields import headline
from saereg.schemas.evaluation import Evaluation
from saereg.schemas.features import Context, FeatureView, LatentView
from saereg.schemas.index import IndexArtifact, IndexFile
from saereg.schemas.manifest import Artifact, CrosscoderArtifact, Manifest, sites_of
from saereg.schemas.metrics import Claim, Measurement, Verdict

MOST_SITES, MOST_LATENTS, MOST_STEPS = 40, 10, 40
"""Most sites of a crosscoder, latents and steps that a card lists; the manifest and the feature view have them all."""

AROUND = 8
"""Tokens of a context that are shown on each side of its strongest one."""

HEADLINES = {
    "explained_variance": "explained variance",
    "l0": "L0",
    "l0_per_source_mean": "L0 per source",
    "ce_recovered": "loss recovered",
}
"""Metrics that stand at the top of the card, and how they are called there."""

VERDICTS = {
    "verified": "verified",
    "differs": "**differs**",
    "matches_another": "**another definition**",
    "not_verifiable": "not verifiable",
}
"""Verdict → its words in a cell."""

MADE = {
    "recomputed": "of the released weights",
    "training_running_mean": "running mean of training",
    "training_window": "last window of training",
    "last_batch": "last batch of training",
}
"""How a stated number came about → its words in a cell."""


def values(
    claim: Artifact, manifest: Manifest, evidence: IndexArtifact | None, features: FeatureView | None = None
) -> Values:
    """Return what the template of an artifact's card can name; texts are Markdown already.

    Args:
        claim: its entry in the manifest.
        manifest: the claims.
        evidence: its entry in the index; what that says of the card itself is not looked at.
        features: its feature view, where it has one of these weights.
    """
    measured = evidence.metrics if evidence else ()
    return {
        "id": code(claim.id),
        "what": _what(claim, manifest, evidence),
        "failure": text(claim.expected_failure) if claim.expected_failure else None,
        "root": "../" * len(PurePosixPath(claim.path).parts) + ARTIFACT_CARD_FILE,
        "release": text(manifest.release.title),
        "version": text(manifest.release.version),
        "identity": {"header": ["field", "value"], "rows": list(map(list, _identity(claim, manifest, evidence)))},
        "sites": _sites(claim, manifest, evidence),
        "sources": _sources(claim, manifest),
        "sentences": sentences(evidence.semantics, claim) if evidence else [],
        "assumptions": _assumptions(evidence),
        "metrics": _metrics(measured),
        "undefined": [
            f"{code(m.metric)} ({text(m.reason or 'not defined on this data')})" for m in measured if m.value is None
        ],
        "metrics_page": METRICS_PAGE,
        "data": _data(measured),
        "claims": _claims(claim, evidence),
        "proof": list(_proof(claim, evidence)),
        "training": {"header": ["field", "value"], "rows": list(map(list, _training(claim, manifest)))},
        "features": _features(features, claim),
        "recipes": [
            {"library": r.library, "code": fenced(r.code, "python"), "note": r.note}
            for r in recipes(claim, manifest, evidence)
        ],
        "files": _files(claim, evidence.files if evidence else ()),
    }


def _what(claim: Artifact, manifest: Manifest, evidence: IndexArtifact | None) -> str:
    """Return the sentence that says what it is."""
    named = NAMES[evidence.semantics.activation] if evidence else claim.architecture
    where = text(place_in_words(claim, manifest))
    models = {manifest.sites[key].model: None for key in sites_of(claim) if key in manifest.sites}
    ids = {manifest.base_models[key].id: None for key in models if key in manifest.base_models}
    of = f" of {joined([_model(name) for name in list(ids)[:3]])}" if ids else ""
    several = f"{claim.sources.count} × " if isinstance(claim, CrosscoderArtifact) else ""
    d_out = f", {claim.d_out:,} numbers out" if claim.kind == "transcoder" else ""
    article = "An" if named[:1] in "AaEeIiOo" else "A"
    widths = f"{several}{claim.d_in:,} numbers in, {claim.d_sae:,} latents{d_out}"
    return f"{article} {text(named)} {KINDS[claim.kind][0]}{of}, {where}: {widths}."


def _model(name: str) -> str:
    return link(code(name), f"https://huggingface.co/{name}") if is_hub_id(name) else code(name)


def _identity(claim: Artifact, manifest: Manifest, evidence: IndexArtifact | None) -> Iterator[tuple[str, str]]:
    yield "kind", claim.kind
    yield "architecture", code(claim.architecture)
    yield "layout", code(claim.format)
    keys = sites_of(claim)
    yield ("site" if len(keys) == 1 else "sites"), " → ".join(map(code, keys)) if len(keys) < 3 else codes(keys)
    widths = [("d_in", claim.d_in), ("d_sae", claim.d_sae)]
    widths += [("d_out", claim.d_out)] if claim.kind == "transcoder" else []
    if isinstance(claim, CrosscoderArtifact):
        widths.insert(0, ("n_sources", claim.sources.count))
    for name, width in widths:
        yield name, f"{width:,}"
    if sparsity_of(claim) != ABSENT:
        yield "sparsity setting", sparsity_of(claim)
    if evidence is not None:
        yield "type", evidence.dtype
    yield from _said(claim)
    for name, measurement in (headline(evidence.metrics) if evidence else {}).items():
        if name in HEADLINES and measurement.value is not None:
            yield f"{HEADLINES[name]} ({code(name)})", f"{measurement.value:.4g}"
    yield "licence", text(manifest.release.license)


def _said(claim: Artifact) -> Iterator[tuple[str, str]]:
    """Yield what an author may say of an artifact, where it is said."""
    stated = {"seed": claim.seed, "snapshot": claim.snapshot, "variant": claim.variant}
    stated |= {"decoder norm": claim.decoder_norm, "tied": "yes" if claim.tied else None}
    for name, value in (stated | {"canonical": "yes" if claim.canonical else None}).items():
        if value is not None:
            yield name, text(value)
    if claim.neuronpedia_id:
        yield "Neuronpedia", link(code(claim.neuronpedia_id), f"https://www.neuronpedia.org/{claim.neuronpedia_id}")
    if claim.derived_from:
        yield "derived from", codes(claim.derived_from)


def _evaluation_of(key: str, manifest: Manifest, evidence: IndexArtifact | None) -> Evaluation | None:
    """Return the evaluation of a site that the artifact was measured on: of several it says what its rows are."""
    names = [measurement.evaluation for measurement in evidence.metrics] if evidence else []
    found = (manifest.evaluations.get(name) for name in dict.fromkeys(names))
    return next((one for one in found if one is not None and one.site == key), None)


def _sites(claim: Artifact, manifest: Manifest, evidence: IndexArtifact | None) -> list[Values]:
    """Return how the rows of a site are captured; of several sources of one kind only those of the first."""
    keys = sites_of(claim)
    words = {0: "reads", 1: "predicts"} if claim.kind == "transcoder" else {0: "reads"}
    found: list[Values] = []
    for position, verb in words.items():
        if position < len(keys) and keys[position] in manifest.sites:
            key = keys[position]
            said, source = capture(key, manifest, _evaluation_of(key, manifest, evidence))
            snippet = fenced(source, "python") if source else None
            found.append({"key": code(key), "verb": verb, "words": said, "code": snippet})
    return found


def _sources(claim: Artifact, manifest: Manifest) -> Values | None:
    """Return what the sources of a crosscoder are, in their order."""
    if not isinstance(claim, CrosscoderArtifact):
        return None
    sources = claim.sources
    if sources.steps:
        shown = ", ".join(str(step) for step in sources.steps[:MOST_STEPS])
        more = len(sources.steps) - MOST_STEPS
        return {"axis": sources.axis, "steps": shown + (f" and {more:,} more" if more > 0 else ""), "table": None}
    rows = []
    for position, key in enumerate(sources.sites[:MOST_SITES]):
        site = manifest.sites.get(key)
        model = manifest.base_models.get(site.model) if site else None
        module = code(site.module or site.hook_name or "") if site else ABSENT
        rows.append([str(position), code(key), code(model.id) if model else ABSENT, module])
    more = max(len(sources.sites) - MOST_SITES, 0)
    table = {"header": ["source", "site", "model", "module"], "rows": rows}
    return {"axis": sources.axis, "steps": None, "table": table, "more": more}


def _assumptions(evidence: IndexArtifact | None) -> Values | None:
    if evidence is None or not evidence.assumptions:
        return None
    rows = [[code(a.field), code(a.value), text(a.because)] for a in evidence.assumptions]
    return {"header": ["not said by the files", "assumed", "because"], "rows": rows}


def _metrics(measured: Sequence[Measurement]) -> Values | None:
    """Return the table of what was measured; columns in which nothing stands are left out."""
    rows = [
        [
            code(m.metric) + _manner(m),
            f"{m.value:.6g}",
            _range(m.minimum, m.maximum),
            _range(*_bounds(m.per_source)),
            f"±{m.tolerance:.2g}",
            code(m.evaluation),
        ]
        for m in measured
        if m.value is not None
    ]
    if not rows:
        return None
    header = ["metric", "value", "over rows", "over sources", "tolerance", "evaluation"]
    if len({row[-1] for row in rows}) == 1:  # which the sentence below names
        header, rows = header[:-1], [row[:-1] for row in rows]
    return filled(header, rows)


def _manner(m: Measurement) -> str:
    """Return what else a definition needs."""
    said = [f"{m.units} units"] if m.units != "raw" else []
    said += [f"batches of {m.batch_rows:,}"] if m.batch_rows else []
    said += [f"{m.ablation} ablation"] if m.ablation else []
    return f", {', '.join(said)}" if said else ""


def _bounds(numbers: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [number for number in numbers if number is not None]
    return (min(known), max(known)) if known else (None, None)


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ABSENT
    return short(low) if low == high else f"{short(low)} to {short(high)}"


def _data(measured: Sequence[Measurement]) -> list[str]:
    """Return one sentence on each data set that was measured on."""
    found: dict[tuple[object, ...], None] = {}
    for m in measured:
        found[m.evaluation, m.rows, m.data_sha256, m.dtype, m.excluded] = None
    sentences_ = []
    for name, rows, digest, dtype, excluded in found:
        left_out = (
            f", without {joined([code(t) for t in excluded])}" if isinstance(excluded, tuple) and excluded else ""
        )
        sentences_.append(f"{code(name)}: {rows:,} rows{left_out}, in {dtype}, data sha256 {code(str(digest)[:16])}.")
    return sentences_


def _claims(claim: Artifact, evidence: IndexArtifact | None) -> Values | None:
    if not claim.claims:
        return None
    verdicts = {verdict.claim: verdict for verdict in evidence.verdicts} if evidence else {}
    rows = [_claim_row(stated, verdicts.get(position)) for position, stated in enumerate(claim.claims)]
    return filled(["stated", "value", "how it came about", "verdict", "measured", "why"], rows)


def _claim_row(stated: Claim, verdict: Verdict | None) -> list[str]:
    manner = f", {stated.units} units" if stated.units != "raw" else ""
    manner += f", batches of {stated.batch_rows:,}" if stated.batch_rows else ""
    where = f" on {code(stated.evaluation)}" if stated.evaluation else ""
    matches = f"it is {code(verdict.matches)}" if verdict and verdict.matches else ""
    why = "; ".join(part for part in (text(verdict.why) if verdict and verdict.why else "", matches) if part)
    measured = f"{verdict.measured:.6g}" if verdict and verdict.measured is not None else ABSENT
    said = VERDICTS[verdict.verdict] if verdict else "not judged"
    return [
        code(stated.metric) + manner + where,
        f"{stated.value:.10g}",
        MADE[stated.kind],
        said,
        measured,
        why or ABSENT,
    ]


def _proof(claim: Artifact, evidence: IndexArtifact | None) -> Iterator[str]:
    """Yield one sentence on each thing that proves the files to be what their author made."""
    if evidence is None:
        return
    golden = evidence.golden
    if golden is not None:
        yield (
            f"Golden vectors: {golden.rows:,} rows with the latents and reconstructions of {text(golden.made_by)}, in "
            f"{code(PurePosixPath(golden.path).name)}."
        )
        for replay in golden.replayed:
            same = "the same latents active" if replay.active_sets_equal else "**other latents active**"
            yield f"Replayed by {text(replay.reader)}: {same}, relative error at most {replay.max_rel_error:.1e}."
    if evidence.round_trip is not None:
        tensors = evidence.round_trip.tensors.values()
        exact = sum(tensor.bitwise for tensor in tensors)
        folded = f", {len(tensors) - exact} of {len(tensors)} tensors folded" if exact < len(tensors) else ""
        largest = max((tensor.max_abs_diff for tensor in tensors), default=0.0)
        source = code(evidence.round_trip.against[:16])
        yield f"Compared with the checkpoint of sha256 {source}{folded}: largest difference {largest:.2g}."
    elif claim.source_checkpoint is not None:
        yield f"Exported from a checkpoint of sha256 {code(claim.source_checkpoint.sha256[:16])}, not at hand here."
    if evidence.decoder_norm is not None:
        norm = evidence.decoder_norm
        bounds = "all 1" if norm.unit else f"{short(norm.minimum)} to {short(norm.maximum)}"
        yield f"Norms of the decoder directions: {bounds}."


def _training(claim: Artifact, manifest: Manifest) -> Iterator[tuple[str, str]]:
    facts = claim.training
    numbers = {"rows seen": facts.tokens, "steps": facts.steps, "rows per step": facts.batch_size}
    for name, number in numbers.items():
        if number is not None:
            yield name, f"{number:,}"
    if facts.lr is not None:
        yield "peak learning rate", f"{facts.lr:g}"
    if facts.order_seed is not None:
        yield "seed of the order of rows", str(facts.order_seed)
    if facts.dataset is not None:
        data = manifest.datasets.get(facts.dataset)
        shown = code(data.id) if data else code(facts.dataset)
        pinned = f", commit {code(data.revision[:12])}" if data and data.revision else ""
        yield "data set", shown + pinned
    if facts.tool:
        yield "software", text(", ".join(f"{name} {version}" for name, version in sorted(facts.tool.items())))
    if facts.log is not None:
        base = "../" * len(PurePosixPath(claim.path).parts)
        own = facts.log.removeprefix(f"{claim.path}/")
        yield "log", link(code(PurePosixPath(facts.log).name), own if own != facts.log else base + facts.log)


def _features(view: FeatureView | None, claim: Artifact) -> Values | None:
    """Return a few latents with the context or the entries of the vocabulary that say most of them."""
    if view is None or not view.latents:
        return None
    told = [latent for latent in view.latents if latent.contexts or latent.promoted] or list(view.latents)
    rows = [_latent_row(latent) for latent in told[:MOST_LATENTS]]
    header = [
        "latent",
        "active in",
        "largest",
        "strongest context",
        "raises" if view.readout == "logits" else "strongest rows",
    ]
    return {
        "table": filled(header, rows),
        "count": f"{len(view.latents):,}",
        "of": f"{claim.d_sae:,}",
        "rows": f"{view.rows:,}",
        "evaluation": code(view.evaluation),
        "notes": [_sentence(note) for note in (view.readout_note, view.text_note) if note],
        "shown": min(len(told), MOST_LATENTS),
    }


def _sentence(note: str) -> str:
    shown = text(note[:1].upper() + note[1:])
    return shown if shown.endswith((".", "!", "?")) else f"{shown}."


def _latent_row(latent: LatentView) -> list[str]:
    entries = ", ".join(code(entry.token) for entry in latent.promoted[:5]) or ABSENT
    context = _context(latent.contexts[0]) if latent.contexts else ABSENT
    share = f"{latent.frequency:.2%}" if latent.frequency else "0"
    return [f"{latent.index:,}", share, short(latent.maximum), context, entries]


def _context(context: Context) -> str:
    """Return a piece of text as code, its strongest token in bold: so no character of it means anything."""
    if not context.tokens:
        return f"row {context.row:,}"
    peak = context.peak if context.peak is not None else 0
    before = "".join(context.tokens[max(peak - AROUND, 0) : peak])
    behind = "".join(context.tokens[peak + 1 : peak + 1 + AROUND])
    parts = [code(before), f"**{code(context.tokens[peak])}**", code(behind)]
    return " ".join(part for part in parts if part != ABSENT)


def _files(claim: Artifact, files: Sequence[IndexFile]) -> Values | None:
    """Return the table of its files; the card cannot hold its own digest."""
    rows = []
    for file in sorted(files, key=lambda file: file.path):
        name = file.path.removeprefix(f"{claim.path}/")
        if name != ARTIFACT_CARD_FILE:
            rows.append([link(code(name), name), file.role, f"{file.size:,}", code(file.sha256)])
    return {"header": ["file", "role", "bytes", "sha256"], "rows": rows} if rows else None
