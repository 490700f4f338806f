"""SR3: whether the files say enough, and nothing that readers would take otherwise."""

import re
from collections.abc import Iterator, Mapping

from saereg.registry.semantics import FOLDED
from saereg.registry.validators.subject import ArtifactSubject, ReleaseSubject
from saereg.schemas.cfg import SaelensConfig
from saereg.schemas.evaluation import ParameterRows
from saereg.schemas.manifest import CrosscoderArtifact, Manifest, TranscoderArtifact, sites_of
from saereg.schemas.report import Finding
from saereg.schemas.schedule import Schedule, parse_schedule
from saereg.schemas.site import BaseModelRef, Site

_TRANSFORMER_LENS = re.compile(r"^(blocks\.\d+\.([a-z0-9_]+\.)*hook_\w+|hook_\w+|ln_final\.hook_\w+)$")
_HIDDEN_STATES = re.compile(r"^hidden_states[.\[]?\s*(?P<index>-?\d+)\]?$")


def base_models_pinned(release: ReleaseSubject) -> Iterator[Finding]:
    """SR301: every base model is pinned to a commit, or to a digest of its weights, or of its matrices step by step."""
    manifest = release.manifest
    for key, model in manifest.base_models.items() if manifest else ():
        if manifest is None or model.revision is not None or model.weights_sha256 is not None:
            continue
        sites = {name: site for name, site in manifest.sites.items() if site.model == key}
        message = f"base model {model.id!r} has neither revision nor weights_sha256"
        if sites and all(site.stream == "parameter" for site in sites.values()):
            unpinned = _unpinned_matrix(manifest, sites)
            if unpinned is None:
                continue
            message += f", and no evaluation has the sha256 of {unpinned}"
        yield release.manifest_finding("SR301", message, f"/base_models/{key}")


def _unpinned_matrix(manifest: Manifest, sites: Mapping[str, Site]) -> str | None:
    """Return which matrix at the sites of a model has no digest; None where all have one.

    Every evaluation of them is to have digests, and every step that a crosscoder reads is to be that of one.
    """
    pinned: set[tuple[str, int]] = set()
    for name, evaluation in manifest.evaluations.items():
        alone = evaluation.site is None and len(manifest.base_models) == 1  # it is of the only model then
        if not isinstance(evaluation, ParameterRows) or not (evaluation.site in sites or alone):
            continue
        if not evaluation.sha256:
            return f"{evaluation.tensor} in {name!r}"
        pinned |= {(evaluation.site or "", step) for step in evaluation.steps}
    every = [artifact.sources for artifact in manifest.artifacts if isinstance(artifact, CrosscoderArtifact)]
    read = [(one.site, step) for one in every for step in one.steps if one.site in sites]
    for site, step in read:
        if site is not None and (site, step) not in pinned:
            return f"{sites[site].parameter} at step {step}"
    bare = sites.keys() - {site for site, _ in pinned}
    return str(sites[min(bare)].parameter) if bare else None


def sites_exist(release: ReleaseSubject) -> Iterator[Finding]:
    """SR302: the layer of every site is in its base model."""
    for key, site, model in _sites(release):
        if site.layer is not None and model.n_layers is not None and site.layer >= model.n_layers:
            message = f"layer {site.layer} of {model.id}, which has layers 0 to {model.n_layers - 1}"
            expected = f"at most {model.n_layers - 1}"
            yield release.manifest_finding("SR302", message, f"/sites/{key}/layer", expected=expected)


def hook_names(release: ReleaseSubject) -> Iterator[Finding]:
    """SR303: hook_name is a TransformerLens name, module is not, and both name one layer."""
    for key, site, _ in _sites(release):
        if site.hook_name and not _TRANSFORMER_LENS.match(site.hook_name):
            message = f"{site.hook_name!r} is no TransformerLens name"
            yield release.manifest_finding("SR303", message, f"/sites/{key}/hook_name", found=site.hook_name)
        elif site.module and _TRANSFORMER_LENS.match(site.module):
            message = f"{site.module!r} is a TransformerLens name, not a module path"
            yield release.manifest_finding("SR303", message, f"/sites/{key}/module", found=site.module)
        elif site.hook_name and site.layer is not None and _layer(site.hook_name) not in (None, site.layer):
            message = f"{site.hook_name!r} is not in layer {site.layer}"
            yield release.manifest_finding("SR303", message, f"/sites/{key}/hook_name", expected=str(site.layer))


def last_hidden_state(release: ReleaseSubject) -> Iterator[Finding]:
    """SR304: no site is said to be hidden_states[n_layers], which is after the final norm, without declaring so."""
    for key, site, model in _sites(release):
        index = site.hidden_states_index
        if index is not None and _after_final_norm(index, site, model):
            message = f"the site reads hidden_states[{index}] of {model.id}, which is after the final norm"
            yield release.manifest_finding(
                "SR304",
                message,
                f"/sites/{key}/hidden_states_index",
                expected=f"the {site.io} of {site.module or 'the last layer'}",
                found=f"transformers hidden_states[{index}]",
            )


def last_hidden_state_in_config(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR304: the same trap, in the hf_hook_name of a configuration."""
    config, manifest = artifact.config, artifact.release.manifest
    if config is None or manifest is None or isinstance(artifact.claim, CrosscoderArtifact):
        return
    match = _HIDDEN_STATES.match(config.metadata.hf_hook_name or "")
    site = manifest.sites.get(artifact.claim.site)
    model = manifest.base_models.get(site.model) if site else None
    if match and site and model and _after_final_norm(int(match["index"]), site, model):
        yield artifact.config_finding(
            "SR304",
            f"the site reads {match.group()}, which is after the final norm",
            "/metadata/hf_hook_name",
            expected=f"the {site.io} of {site.module or 'the last layer'}",
            found=f"transformers hidden_states[{match['index']}]",
        )


def _after_final_norm(index: int, site: Site, model: BaseModelRef) -> bool:
    last = index == -1 or (model.n_layers is not None and index == model.n_layers)
    return last and model.final_norm and not site.post_final_norm


def site_width(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR302: a residual-stream dictionary is as wide as the residual stream."""
    manifest, claim = artifact.release.manifest, artifact.claim
    if manifest is None or isinstance(claim, CrosscoderArtifact):
        return
    widths = [("d_in", claim.site, claim.d_in)]
    widths += [("d_out", claim.site_out, claim.d_out)] if isinstance(claim, TranscoderArtifact) else []
    for name, key, width in widths:
        site = manifest.sites.get(key)
        model = manifest.base_models.get(site.model) if site else None
        if site and model and site.stream == "residual" and model.d_model not in (None, width):
            message = f"{name} = {width}, but the residual stream of {model.id} has width {model.d_model}"
            yield artifact.claim_finding("SR302", message, f"/{name}", expected=str(model.d_model), found=str(width))


def normalization_applied(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR311: the declared normalization is one that readers apply."""
    config = artifact.config
    kind = artifact.semantics.normalization.kind if artifact.semantics is not None else None
    if kind in FOLDED:
        theirs = isinstance(config, SaelensConfig)
        pointer = "/normalize_activations" if theirs else "/semantics/normalization/kind"
        who = (
            "normalize_activations is {!r}, which SAELens does" if theirs else "normalization is {!r}, which readers do"
        )
        message = f"{who.format(kind)} not apply at inference"
        yield artifact.config_finding("SR311", message, pointer, expected="none (folded)", found=kind)


def tokens_stated(release: ReleaseSubject) -> Iterator[Finding]:
    """SR321: a release of activation dictionaries says which tokens became rows."""
    manifest = release.manifest
    if manifest is None or manifest.tokens is not None:
        return
    if any(site.stream != "parameter" for site in manifest.sites.values()):
        yield release.manifest_finding("SR321", "`tokens` is missing", "/tokens")


def contexts_fit(release: ReleaseSubject) -> Iterator[Finding]:
    """SR322: no context is longer than that of the base model."""
    tokens = release.manifest.tokens if release.manifest else None
    if tokens is None:
        return
    stated = [("/tokens/context_size", "context_size", tokens.context_size)]
    stated += [(f"/tokens/buckets/{i}/1", "a bucket", longest) for i, (_, longest) in enumerate(tokens.buckets)]
    models = {site.model: model for _, site, model in _sites(release) if site.stream != "parameter"}
    known = [(model.context_size, model.id) for model in models.values() if model.context_size is not None]
    limit, least = min(known, default=(0, ""))
    for pointer, what, size in stated if known else ():
        if size is not None and size > limit:
            message = f"{what} is {size} tokens, but {least} takes at most {limit}"
            expected = f"at most {limit}"
            yield release.manifest_finding("SR322", message, pointer, expected=expected, found=str(size))


def context_fits(artifact: ArtifactSubject) -> Iterator[Finding]:
    """SR322: the same for the context that a configuration states."""
    config, manifest, claim = artifact.config, artifact.release.manifest, artifact.claim
    if config is None or manifest is None:
        return
    site, size = manifest.sites.get(sites_of(claim)[0]), config.metadata.context_size
    model = manifest.base_models.get(site.model) if site and site.stream != "parameter" else None
    if model is None or model.context_size is None or not isinstance(size, int) or size <= model.context_size:
        return
    message = f"metadata.context_size is {size} tokens, but {model.id} takes at most {model.context_size}"
    expected = f"at most {model.context_size}"
    yield artifact.config_finding("SR322", message, "/metadata/context_size", expected=expected, found=str(size))


def steps_exist(release: ReleaseSubject) -> Iterator[Finding]:
    """SR331: every pretraining step that is named is one that the base model was saved at."""
    manifest = release.manifest
    if manifest is None:
        return
    schedules = {
        key: parse_schedule(model.schedule) for key, model in manifest.base_models.items() if model.schedule is not None
    }
    for key, schedule in schedules.items():
        model = manifest.base_models[key]
        if model.step is not None and model.step not in schedule:
            near, pointer = _near(schedule, model.step), f"/base_models/{key}/step"
            yield release.manifest_finding(
                "SR331", _no_step(str(model.step), model), pointer, expected=near, found=str(model.step)
            )
    for artifact in release.artifacts if schedules else ():
        sources = artifact.claim.sources if isinstance(artifact.claim, CrosscoderArtifact) else None
        site = manifest.sites.get(sources.site or "") if sources else None
        if sources is None or site is None or site.model not in schedules:
            continue
        schedule = schedules[site.model]
        missing = [(i, step) for i, step in enumerate(sources.steps) if step not in schedule]
        if missing:
            position, first = missing[0]
            steps = f"{first} (and {len(missing) - 1} more)" if len(missing) > 1 else str(first)
            message, pointer = _no_step(steps, manifest.base_models[site.model]), f"/sources/steps/{position}"
            expected = _near(schedule, first)
            yield artifact.claim_finding("SR331", message, pointer, expected=expected, found=str(first))


def _no_step(step: str, model: BaseModelRef) -> str:
    return f"{model.id} has no checkpoint of step {step}, by its schedule"


def _near(schedule: Schedule, step: int) -> str:
    return f"{schedule.nearest(step)}, the nearest step"


def _sites(release: ReleaseSubject) -> Iterator[tuple[str, Site, BaseModelRef]]:
    manifest = release.manifest
    for key, site in manifest.sites.items() if manifest else ():
        if manifest and site.model in manifest.base_models:
            yield key, site, manifest.base_models[site.model]


def _layer(hook_name: str) -> int | None:
    match = re.match(r"blocks\.(\d+)\.", hook_name)
    return int(match[1]) if match else None
