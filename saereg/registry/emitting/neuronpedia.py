"""A stub of what Neuronpedia needs for a new source set, with the facts of a release; what it does not say is null.

Neuronpedia publishes no schema for a submission. The names used here are those of the rows that its own exports have
and of the arguments of its own scripts, at commit ebb8426f of `hijohnnylin/neuronpedia`:

- `utils/neuronpedia-utils/neuronpedia_utils/db_models/{model,source_release,source_set,source}.py`: the rows;
- `utils/neuronpedia-utils/neuronpedia_utils/convert-saedashboard-to-neuronpedia-export.py`: which of them are filled,
  how a source is called (`LAYER-SET`), which hooks there are, and the arguments under `dashboard`;
- `apps/webapp/app/api/source-set/new/route.tsx`: what a name and a description may be.

Of fields that only Neuronpedia can know (creators' accounts, defaults of its pages) there are none.
"""

import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from saereg.errors import UsageError
from saereg.registry.emitting.emitted import Emitted, Wishes, first_few
from saereg.registry.emitting.subject import Subject, not_here, require_some, sorted_out, taken_back
from saereg.registry.files.names import WEIGHTS_FILES
from saereg.registry.files.natural import natural_key
from saereg.registry.release import ReleaseArtifact
from saereg.schemas.manifest import CrosscoderArtifact
from saereg.schemas.site import Site

SHAPE = "hijohnnylin/neuronpedia@ebb8426fc550ad5d1f76d52c271a624af3c08a57"

HOOKS = (
    "hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_mlp_in", "hook_mlp_out", "hook_attn_in",
    "hook_attn_out", "hook_z",
)  # fmt: skip
"""Hooks that its script knows (`HOOK_POINT_TYPE_CHOICES`)."""

STREAMS = {"residual": "Residual Stream", "mlp": "MLP", "attention": "Attention", "embedding": "Embedding"}
"""Stream → how its descriptions call it, as in `Residual Stream - 16k`."""

LONGEST_DESCRIPTION = 128

_SET_NAME = re.compile(r"[a-z0-9]|[a-z](?:-?[a-z0-9])+")
"""What its form takes; sets made in other ways may have capitals, dots and underscores too."""

_HOOK = re.compile(r"blocks\.(\d+)\.(?:attn\.)?(hook_\w+)")

_ID = re.compile(r"(?P<model>[^/]+)/(?P<layer>\d+)-(?P<set>.+)")


def emit(subject: Subject, wishes: Wishes) -> Emitted:
    """Return the stub as JSON.

    Raises:
        UsageError: when Neuronpedia can have none of its artifacts, or an id that is stated does not fit its artifact.
    """
    taken, left = sorted_out(subject, wishes.where, (_another_kind, taken_back, _another_place, not_here))
    require_some(taken, left, subject, "Neuronpedia")
    _require_fitting_ids(taken)
    grouped = _grouped(taken)
    nameless = [key[2] for key, _ in grouped if not key[1]]
    if wishes.name is not None and len(nameless) > 1:
        here = f"{len(nameless)}: {first_few(nameless)}"
        raise UsageError(f"--name is the name of one set; here are {here}; choose one with --where")
    sets = [_Set(subject, wishes, key, members) for key, members in grouped]
    document = {
        "shape": SHAPE,
        "release": _release(subject),
        "models": list({json.dumps(s.model_row()): s.model_row() for s in sets}.values()),
        "sourceSets": [s.set_row() for s in sets],
        "sources": [row for s in sets for row in s.source_rows()],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return Emitted(text, len(taken), left, (*_asked(document), *(note for s in sets for note in s.notes())))


def _another_kind(artifact: ReleaseArtifact) -> str | None:
    return "a crosscoder has no layer of its own" if isinstance(artifact.claim, CrosscoderArtifact) else None


def _another_place(artifact: ReleaseArtifact) -> str | None:
    hook = _HOOK.fullmatch(artifact.fields["hook_name"] or "")
    if hook is None or hook[2] not in HOOKS:
        return f"its hook is {artifact.fields['hook_name'] or 'not said'}; Neuronpedia has {', '.join(HOOKS)}"
    return None


def _hook(artifact: ReleaseArtifact) -> tuple[int, str]:
    hook = _HOOK.fullmatch(artifact.fields["hook_name"])
    assert hook is not None  # noqa: S101  # one without was left out
    return int(hook[1]), hook[2]


def _require_fitting_ids(taken: Iterable[ReleaseArtifact]) -> None:
    """Refuse an id whose layer is another than the artifact's, and one that two artifacts have."""
    seen: dict[str, str] = {}
    for artifact in taken:
        stated = artifact.claim.neuronpedia_id
        if stated is None:
            continue
        parts, (layer, _) = _ID.fullmatch(stated), _hook(artifact)
        if parts is None or int(parts["layer"]) != layer:
            raise UsageError(f"{artifact.id}: neuronpedia_id {stated} is not MODEL/{layer}-SET, as its layer asks for")
        if stated in seen:
            raise UsageError(f"{seen[stated]} and {artifact.id} have one neuronpedia_id, {stated}")
        seen[stated] = artifact.id


def _grouped(taken: Iterable[ReleaseArtifact]) -> list[tuple[tuple[str, ...], list[ReleaseArtifact]]]:
    """Return the sets: what has one name on Neuronpedia; without a name, one model, place and width."""

    def key(artifact: ReleaseArtifact) -> tuple[str, ...]:
        parts = _ID.fullmatch(artifact.claim.neuronpedia_id or "")
        if parts is not None:
            return artifact.fields["model"], parts["model"], parts["set"]
        return artifact.fields["model"], "", _description(artifact)

    ordered = sorted(taken, key=lambda a: (key(a), _hook(a)[0], natural_key(a.id)))
    return [(found, list(members)) for found, members in groupby(ordered, key)]


def _site(artifact: ReleaseArtifact) -> Site:
    return artifact.release.manifest.sites[artifact.fields["site"]]


def _description(artifact: ReleaseArtifact) -> str:
    d_sae = artifact.fields["d_sae"]
    width = f"{d_sae // 1024}k" if d_sae % 1024 == 0 else str(d_sae)
    kind = " Transcoder" if artifact.claim.kind == "transcoder" else ""
    return f"{STREAMS[_site(artifact).stream]}{kind} - {width}"[:LONGEST_DESCRIPTION]


def _release(subject: Subject) -> dict[str, Any]:
    info = subject.release.manifest.release
    creator = ", ".join(info.authors) or None
    urls = [subject.url, *([info.code.repository] if info.code else [])]
    return {
        "name": info.name,
        "description": info.title,
        "descriptionShort": info.title,
        "urls": urls,
        "creatorName": creator,
        "creatorNameShort": creator,
        "creatorEmail": None,
    }


class _Set:
    """One source set: what is the same in all its sources."""

    def __init__(self, subject: Subject, wishes: Wishes, key: tuple[str, ...], members: list[ReleaseArtifact]) -> None:
        self.subject, self.members = subject, members
        named = bool(key[1])
        self.model = key[1] if named else wishes.model
        self.name = key[2] if named else wishes.name
        self._own = named
        layers = [_hook(artifact)[0] for artifact in members]
        if self.name is not None and len(set(layers)) < len(layers):
            twice = next(layer for layer in layers if layers.count(layer) > 1)
            raise UsageError(f"source set {self.name} would have layer {twice} twice; choose artifacts with --where")

    def model_row(self) -> dict[str, Any]:
        """Return the row of the base model, which Neuronpedia may have already."""
        base = self.subject.release.manifest.base_models[_site(self.members[0]).model]
        on_hub = base.revision is not None
        return {
            "id": self.model,
            "layers": base.n_layers,
            "dimension": base.d_model,
            "owner": base.id.partition("/")[0] if "/" in base.id else None,
            "website": f"https://huggingface.co/{base.id}" if on_hub else None,
        }

    def set_row(self) -> dict[str, Any]:
        """Return the row of the set."""
        release = _release(self.subject)
        return {
            "modelId": self.model,
            "name": self.name,
            "description": " / ".join(dict.fromkeys(map(_description, self.members)))[:LONGEST_DESCRIPTION],
            "releaseName": release["name"],
            "creatorName": release["creatorName"],
            "urls": release["urls"],
        }

    def source_rows(self) -> list[dict[str, Any]]:
        """Return the row of each source."""
        return [self._source(artifact) for artifact in self.members]

    def _source(self, artifact: ReleaseArtifact) -> dict[str, Any]:
        (layer, hook), manifest = _hook(artifact), artifact.release.manifest
        data = manifest.datasets.get(artifact.claim.training.dataset or "")
        tokens, path = manifest.tokens, artifact.claim.path
        return {
            "id": f"{layer}-{self.name}" if self.name else None,
            "modelId": self.model,
            "setName": self.name,
            "hfRepoId": self.subject.repo,
            "hfFolderId": path,
            "dataset": data.id if data else None,
            "num_prompts": None,
            "num_tokens_in_prompt": tokens.context_size if tokens else None,
            "dashboard": {
                "layer-num": layer,
                "hook-point": hook,
                "hf-weights-path": f"{path}/{WEIGHTS_FILES[artifact.claim.format]}",
                "source-dtype": artifact.evidence.dtype if artifact.evidence else None,
                "zero-out-bos-token": "bos" in tokens.excluded if tokens else None,
            },
            "artifact": {
                "id": artifact.id,
                "revision": self.subject.revision,
                "d_in": artifact.fields["d_in"],
                "d_sae": artifact.fields["d_sae"],
                "hook_name": artifact.fields["hook_name"],
            },
        }

    def notes(self) -> list[str]:
        """Return what its form would not take."""
        if self.name is None or self._own or (_SET_NAME.fullmatch(self.name) and self.name != "neurons"):
            return []
        return [f"Neuronpedia's form takes lower-case letters, digits and single hyphens; {self.name} has others"]


ASKED = {
    "release": ("creatorName",),
    "models": ("id", "layers", "owner"),
    "sourceSets": ("modelId", "name"),
    "sources": ("dataset", "num_prompts", "num_tokens_in_prompt"),
}
"""Part of the document → fields that Neuronpedia's scripts ask for."""

OPTIONS = {"name": "--name", "modelId": "--model-name", "id": "--model-name"}


def _asked(document: dict[str, Any]) -> list[str]:
    """Return a line for each field that is null and that Neuronpedia asks for."""
    lines = []
    for part, fields in ASKED.items():
        rows = document[part] if isinstance(document[part], list) else [document[part]]
        for name in fields:
            missing = sum(row[name] is None for row in rows)
            if missing:
                of = f" of {missing} of {len(rows)}" if len(rows) > 1 else ""
                hint = f" ({OPTIONS[name]} says it)" if name in OPTIONS else ""
                lines.append(f"Neuronpedia will ask for {part}.{name}{of}{hint}")
    return lines
