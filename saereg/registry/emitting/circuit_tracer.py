"""The `config.yaml` of a set of transcoders for circuit-tracer: one transcoder for each layer, from 0 on.

circuit-tracer reads neither layout of our releases, so the files are those that `saereg convert --to circuit_tracer`
wrote. Each is compared, tensor by tensor, with the transcoder of the release that it was converted from.

Source: circuit-tracer 0.5.0, `utils/hf_utils.py` (`load_transcoders`, `resolve_transcoder_paths`, `parse_hf_uri`) and
`transcoder/single_layer_transcoder.py` (`load_transcoder_set`, `TranscoderSet`).
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import yaml

from saereg.errors import FormatError, UsageError, WeightsError
from saereg.registry.emitting.emitted import Emitted, Wishes, first_few
from saereg.registry.emitting.subject import Subject, not_here, require_some, sorted_out, taken_back
from saereg.registry.files.blocks import require_torch
from saereg.registry.formats.circuit_tracer import NAME as LAYOUT
from saereg.registry.formats.circuit_tracer import SET
from saereg.registry.readings.format import Layout
from saereg.registry.release import ReleaseArtifact

HOOKS = ("feature_input_hook", "feature_output_hook")

TAKEN_FOR_ANOTHER = "gemma-scope-2"
"""Part of a repository's name by which circuit-tracer reads its files in another layout."""

_HOOK = re.compile(r"blocks\.(\d+)\.(.+)")


def emit(subject: Subject, wishes: Wishes) -> Emitted:
    """Return the config.yaml of the transcoders of a release.

    Raises:
        UsageError: when layers are missing or there twice, when they are no set, or when files were not converted yet.
        WeightsError: when a converted file is not the transcoder of the release.
        MissingExtraError: without the `torch` extra, which comparing them needs.
    """
    require_torch("comparing converted transcoders")
    taken, left = sorted_out(subject, wishes.where, (_another_kind, taken_back, not_here, _unsayable))
    require_some(taken, left, subject, "circuit-tracer")
    layers = _by_layer(taken)
    _require_whole(layers, left)
    shared = _shared(layers)
    files = _files(subject, layers, wishes.files)
    for layer, file in files.items():
        _require_same(layers[layer], file)
    root = wishes.files or subject.release.path
    document = {
        "model_name": wishes.model or shared["model_name"],
        "model_kind": SET,
        **{key: shared[key] for key in HOOKS},
        "scan": wishes.name or (f"{subject.repo}@{subject.revision}" if subject.revision else subject.repo),
        "transcoders": [_uri(subject, file.relative_to(root).as_posix()) for file in files.values()],
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=float("inf"))
    return Emitted(text, len(files), left, tuple(_notes(subject, layers)))


def _another_kind(artifact: ReleaseArtifact) -> str | None:
    return (
        None if artifact.claim.kind == "transcoder" else f"its kind is {artifact.claim.kind}, and a set has transcoders"
    )


def _layout(artifact: ReleaseArtifact) -> Layout:
    from saereg.registry.conversion.convert import layout_for

    return layout_for(LAYOUT, artifact.cfg)


def _unsayable(artifact: ReleaseArtifact) -> str | None:
    try:
        _layout(artifact)
    except FormatError as error:
        return str(error)
    return None if _layer(artifact) is not None else "its hook names no layer"


def _layer(artifact: ReleaseArtifact) -> int | None:
    found = _HOOK.fullmatch(artifact.cfg.metadata.hook_name or "")
    return int(found[1]) if found else None


def _by_layer(taken: Sequence[ReleaseArtifact]) -> dict[int, ReleaseArtifact]:
    found: dict[int, ReleaseArtifact] = {}
    for artifact in taken:
        layer = _layer(artifact)
        assert layer is not None  # noqa: S101  # one without was left out
        if layer in found:
            two = f"{found[layer].id} and {artifact.id}"
            raise UsageError(f"layer {layer} has {two}, and a set takes one; choose with --where, e.g. 'd_sae = 16384'")
        found[layer] = artifact
    return dict(sorted(found.items()))


def _require_whole(layers: Mapping[int, ReleaseArtifact], left: Sequence[object]) -> None:
    """Refuse a set with gaps: circuit-tracer asserts layers 0 to the last one."""
    missing = [str(layer) for layer in range(max(layers) + 1) if layer not in layers]
    if missing:
        why = f" ({len(left)} artifacts were left out)" if left else ""
        raise UsageError(
            f"circuit-tracer needs a transcoder for each layer from 0 to {max(layers)}; missing: "
            f"layer {first_few(missing)}{why}"
        )


def _shared(layers: Mapping[int, ReleaseArtifact]) -> dict[str, str]:
    """Return what all transcoders of a set have to have in common."""
    found: dict[str, dict[str, str]] = {}
    for artifact in layers.values():
        facts, cfg = artifact.fields, artifact.cfg
        hooks = [_HOOK.fullmatch(str(name)) for name in (cfg.metadata.hook_name, cfg.metadata.hook_name_out)]
        own = {key: hook[2] if hook else "" for key, hook in zip(HOOKS, hooks, strict=True)}
        own |= {"d_sae": str(facts["d_sae"]), "base model": f"{facts['model']}@{facts['revision']}"}
        own |= {"model_name": cfg.metadata.model_name or facts["model"]}
        for key, value in own.items():
            found.setdefault(key, {}).setdefault(value, artifact.id)
    for key, values in found.items():
        if len(values) > 1:
            each = first_few(f"{value} ({example})" for value, example in values.items())
            raise UsageError(f"a set of circuit-tracer has one {key}; here are {each}; choose with --where")
    return {key: next(iter(values)) for key, values in found.items()}


def _files(subject: Subject, layers: Mapping[int, ReleaseArtifact], given: Path | None) -> dict[int, Path]:
    """Return layer → its converted file.

    Raises:
        UsageError: with the commands that make them, when some are not there.
    """
    root = given or subject.release.path
    if subject.release.repo is not None and given is None:
        raise UsageError(f"{subject.target}: the converted files are compared here; name a copy of them with --files")
    if not root.is_dir():
        raise UsageError(f"--files {root} is not a folder")
    found, missing = {}, []
    for layer, artifact in layers.items():
        name = f"layer_{layer}.safetensors"
        there = sorted(root.rglob(name))
        if len(there) > 1:
            raise UsageError(f"{root} has {name} {len(there)} times; name the folder of one set with --files")
        if there:
            found[layer] = there[0]
        else:
            target = root / LAYOUT / f"layer_{layer}"
            words = ("saereg", "convert", artifact.folder, target, "--to", LAYOUT)
            missing.append(" ".join(shlex.quote(str(word)) for word in words))
    if missing:
        many = f"{len(missing)} of {len(layers)} transcoders are not in the layout of circuit-tracer"
        raise UsageError(f"{many}; convert them first: {' && '.join(missing)}")
    return found


def _require_same(artifact: ReleaseArtifact, file: Path) -> None:
    """Refuse a file that is not, number for number, what converting the artifact gives."""
    from saereg.registry.conversion.write import recipes_for
    from saereg.registry.evidence.round_trip import compare_with_recipes
    from saereg.registry.files.opening import open_tensors
    from saereg.registry.formats import FORMATS
    from saereg.registry.readings.given import Given
    from saereg.registry.readings.source import open_source

    source = artifact.local()
    reading = FORMATS[source.claim.format].read(open_source(source.folder), Given())
    ((_, plan),) = _layout(source).files.items()
    recipes, converted = recipes_for(reading, plan), open_tensors(file)
    if set(converted.entries) != set(recipes.plan):
        raise WeightsError(file, f"holds {first_few(sorted(converted.entries))}; convert {artifact.id} again")
    for name, how in compare_with_recipes(converted, recipes).items():
        if not how.bitwise and how.max_abs_diff != 0:
            raise WeightsError(file, f"is not that of {artifact.id}; convert it again", name)


def _uri(subject: Subject, path: str) -> str:
    """Return a file as circuit-tracer names one: the path as it is, and the revision as a query."""
    revision = f"?revision={quote(subject.revision, safe='')}" if subject.revision else ""
    return f"hf://{subject.repo}/{path}{revision}"


def _notes(subject: Subject, layers: Mapping[int, ReleaseArtifact]) -> list[str]:
    notes, first = [], next(iter(layers.values()))
    site = subject.release.manifest.sites[first.fields["site"]]
    depth = subject.release.manifest.base_models[site.model].n_layers
    if depth is not None and depth != len(layers):
        notes.append(f"the model has {depth} layers and the set {len(layers)}: circuit-tracer replaces them all")
    if subject.revision is None:
        notes.append(f"nothing is pinned; --repo {subject.repo}@COMMIT pins every file")
    if TAKEN_FOR_ANOTHER in subject.repo:
        notes.append(
            f"circuit-tracer reads sets of a repository whose name has {TAKEN_FOR_ANOTHER!r} in another layout: put "
            "config.yaml into one of another name"
        )
    return notes
