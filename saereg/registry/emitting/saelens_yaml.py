"""The entry of a release in SAELens' `pretrained_saes.yaml`, as a pull request there needs it.

Source: SAELens 6.54.12, `pretrained_saes.yaml` and `loading/pretrained_saes_directory.py`. Its habits, and what is
made of them here:

- A release is one base model and one kind of place in it (`gpt2-small-res-jb`, `pythia-70m-deduped-mlp-sm`,
  `gemma-2-2b-res-matryoshka-dc`), so a release of ours becomes as many as it has of those.
- Its name is model, place, and who made it; words that the name of our release has already are not said twice.
- `model` is sometimes a name of TransformerLens (`gemma-2-2b`), sometimes a repository id
  (`meta-llama/Llama-3.1-8B`). Here it is `metadata.model_name` of the cfg.json files, which is what SAELens hands to
  whoever loads the model, where all of them say the same; else the repository id of the manifest.
- `l0` has at most one decimal, `variance_explained` at most three. Both are the measured ones, or absent.
"""

import math
import re
from collections.abc import Iterable
from itertools import groupby

import yaml

from saereg.errors import UsageError
from saereg.registry.emitting.emitted import Emitted, Wishes, first_few
from saereg.registry.emitting.subject import Reason, Subject, not_here, require_some, sorted_out, taken_back
from saereg.registry.files.natural import natural_key
from saereg.registry.release import ReleaseArtifact
from saereg.schemas.artifact_config import is_training
from saereg.schemas.cfg import INFERENCE, SaelensConfig
from saereg.schemas.manifest import CrosscoderArtifact
from saereg.schemas.site import BaseModelRef, Site

FILE = "pretrained_saes.yaml"

PLACES = {"residual": "res", "mlp": "mlp", "attention": "att", "embedding": "emb"}
"""Stream → how SAELens' names call it."""

TRANSCODERS = "transcoders"

NOT_FOLDED = ("expected_average_only_in", "covariance_whitening")
"""What may be done to inputs before a dictionary sees them that `SAE.from_pretrained` leaves undone."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Group = tuple[str, str]
"""Key of the base model, and the place in it."""


def emit(subject: Subject, wishes: Wishes) -> Emitted:
    """Return the entries of a release.

    Raises:
        UsageError: when SAELens can have none of its artifacts, or the name is none.
    """
    taken, left = sorted_out(subject, wishes.where, REASONS)
    require_some(taken, left, subject, "SAELens")
    groups = _groups(subject, taken)
    names = _names(subject, groups, wishes.name)
    document: dict[str, dict[str, object]] = {}
    notes: list[str] = []
    for group, members in groups.items():
        name, model = names[group], wishes.model or _model(subject, group[0], members, notes)
        document[name] = _entry(subject, model, subject.release.manifest.base_models[group[0]], members)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=math.inf)
    notes += _notes(subject, document)
    return Emitted(text, len(taken), left, tuple(notes), document)


def _site(artifact: ReleaseArtifact) -> Site | None:
    return artifact.release.manifest.sites.get(getattr(artifact.claim, "site", ""))


def _another_kind(artifact: ReleaseArtifact) -> str | None:
    if isinstance(artifact.claim, CrosscoderArtifact):
        return "SAELens has no crosscoders"
    if artifact.claim.format != "saelens":
        return f"its layout is {artifact.claim.format!r}; saereg convert --to saelens writes the other, where it can"
    return None


def _another_config(artifact: ReleaseArtifact) -> str | None:
    cfg = artifact.cfg
    if not isinstance(cfg, SaelensConfig):
        return "its cfg.json is not one of SAELens"
    if is_training(cfg) or type(cfg) not in INFERENCE.values():
        return f"SAELens loads no {cfg.architecture} for inference"
    if cfg.normalize_activations in NOT_FOLDED:
        scaled = f"its inputs are scaled ({cfg.normalize_activations}), which SAELens leaves undone"
        return f"{scaled}; saereg convert folds the scale into the weights"
    return None


def _another_place(artifact: ReleaseArtifact) -> str | None:
    site = _site(artifact)
    if site is None:
        return "the manifest does not say where it reads"
    if site.stream == "parameter":
        return f"it reads the parameter {site.parameter}, no activations"
    if site.post_final_norm:
        return "it reads what comes after the final norm, for which SAELens has no hook"
    return None


REASONS: tuple[Reason, ...] = (taken_back, _another_kind, _another_place, not_here, _another_config)


def _groups(subject: Subject, taken: Iterable[ReleaseArtifact]) -> dict[Group, list[ReleaseArtifact]]:
    def group(artifact: ReleaseArtifact) -> Group:
        site = _site(artifact)
        assert site is not None  # noqa: S101  # one without was left out
        place = TRANSCODERS if artifact.claim.kind == "transcoder" else PLACES[site.stream]
        return site.model, place

    keys = list(subject.release.manifest.base_models)
    ordered = sorted(taken, key=lambda a: (keys.index(group(a)[0]), group(a)[1], natural_key(a.id)))
    return {key: list(members) for key, members in groupby(ordered, group)}


def _names(subject: Subject, groups: Iterable[Group], wish: str | None) -> dict[Group, str]:
    """Return what each release is called: `--name` as it is for the only one, and before the place for several."""
    all_groups = list(groups)
    if wish is not None and _NAME.fullmatch(wish) is None:
        raise UsageError(f"--name {wish!r}: expected letters, digits, '.', '_' and '-'")
    if wish is not None and len(all_groups) == 1:
        return {all_groups[0]: wish}
    several = len({key for key, _ in all_groups}) > 1
    models = subject.release.manifest.base_models
    found = {}
    for key, place in all_groups:
        model = _short(models[key]) if several or wish is None else ""
        found[key, place] = _name(model, place, wish or subject.release.manifest.release.name)
    if len(set(found.values())) < len(found):  # two revisions of one model
        return {(key, place): f"{name}-{key}".lower() for (key, place), name in found.items()}
    return found


def _short(model: BaseModelRef) -> str:
    last = re.sub(r"[^a-z0-9._-]+", "-", model.id.rpartition("/")[2].lower()).strip("-._")
    return last if model.step is None else f"{last}-step{model.step}"


def _name(model: str, place: str, release: str) -> str:
    words = release.lower()
    if model and model not in words:
        return f"{model}-{words}" if _has(words, place) else f"{model}-{place}-{words}"
    return words if _has(words, place) else f"{words}-{place}"


def _has(words: str, place: str) -> bool:
    parts = re.split(r"[-_.]", words)
    return place in parts or place.rstrip("s") in parts


def _model(subject: Subject, key: str, members: Iterable[ReleaseArtifact], notes: list[str]) -> str:
    said = {_config(artifact).metadata.model_name for artifact in members}
    base = subject.release.manifest.base_models[key].id
    if len(said) == 1 and None not in said:
        return str(next(iter(said)))
    if len(said) > 1:
        notes.append(f"cfg.json files name the model {first_few(sorted(map(str, said)))}; model is {base}")
    return base


def _config(artifact: ReleaseArtifact) -> SaelensConfig:
    cfg = artifact.cfg
    assert isinstance(cfg, SaelensConfig)  # noqa: S101  # another one was left out
    return cfg


def _entry(subject: Subject, model: str, base: BaseModelRef, members: Iterable[ReleaseArtifact]) -> dict[str, object]:
    entry: dict[str, object] = {"conversion_func": None}
    if base.revision is not None:  # a commit, so the id is one of the Hub
        entry["links"] = {"model": f"https://huggingface.co/{base.id}"}
    entry |= {"model": model, "repo_id": subject.repo}
    return entry | {"saes": [row(artifact) for artifact in members]}


def row(artifact: ReleaseArtifact) -> dict[str, object]:
    """Return the row of one artifact; what is not measured, or not stated, is not in it."""
    found: dict[str, object] = {"id": artifact.id, "path": artifact.claim.path}
    l0, explained = artifact.metrics.get("l0"), artifact.metrics.get("explained_variance")
    if l0 is not None and l0 > 0:
        found["l0"] = rounded_l0(l0)
    if explained is not None and (shown := rounded_share(explained)) is not None:
        found["variance_explained"] = shown
    if artifact.claim.neuronpedia_id is not None:
        found["neuronpedia"] = artifact.claim.neuronpedia_id
    return found


def rounded_l0(value: float) -> float:
    """Return a count with one decimal; one below 0.1 keeps two digits: 0.0 is what SAELens says of unknown ones."""
    return round(value, 1) if value >= 0.1 else float(f"{value:.2g}")


def rounded_share(value: float) -> float | None:
    """Return a share with three decimals, never rounded up to 1; None for 1 itself.

    1.00 is what SAELens says where nothing is known, so whoever reads it there cannot know that it was measured.
    """
    if value >= 1:
        return None
    return min(round(value, 3), 0.999) + 0.0  # a small negative one is 0.0, not -0.0


def _notes(subject: Subject, document: dict[str, dict[str, object]]) -> list[str]:
    rows: list[dict[str, object]] = [r for entry in document.values() for r in entry["saes"]]  # type: ignore[attr-defined]
    notes = []
    without = {name: [str(r["id"]) for r in rows if name not in r] for name in ("l0", "variance_explained")}
    defaults = {"l0": "0.00", "variance_explained": "1.00"}
    for name, ids in without.items():
        if ids:
            notes.append(f"no {name} for {first_few(ids)}; SAELens will answer {defaults[name]} there, its default")
    if subject.revision is not None:
        notes.append(f"SAELens always reads the newest commit of {subject.repo}: its yaml has no revision")
    return notes
