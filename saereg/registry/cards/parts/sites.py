"""`sites`: where every dictionary reads, and the code that captures exactly that tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from saereg.registry.cards.capture import capture
from saereg.registry.cards.front_matter import is_hub_id
from saereg.registry.cards.marking import ABSENT, code, codes, counted, fenced, text
from saereg.registry.cards.view import STREAMS, Values, View, grouped
from saereg.registry.files.natural import natural_key
from saereg.schemas.evaluation import ParameterRows
from saereg.schemas.manifest import Manifest, sites_of
from saereg.schemas.site import BaseModelRef, Site

MOST_ROWS = 200
"""Sites in the table."""

MOST_FLAT = 30
"""Sites and base models that stand in the open; of more the tables are folded."""

MOST_RECIPES = 6
"""Blocks of code: one for each base model and way of reading it."""


@dataclass(frozen=True)
class _Place:
    """A site with what belongs to it."""

    key: str
    site: Site
    model: BaseModelRef


def values(view: View) -> Values | None:
    """Return the table of sites and one recipe for each base model and way of reading; None where there is no site."""
    uses: dict[str, int] = {}
    for claim in view.claims:
        for key in dict.fromkeys(sites_of(claim)):
            uses[key] = uses.get(key, 0) + 1
    manifest = view.manifest
    places = [
        _Place(key, site, manifest.base_models[site.model])
        for key, site in sorted(manifest.sites.items(), key=lambda item: natural_key(item[0]))
        if site.model in manifest.base_models
    ]
    if not places:
        return None
    recipes = grouped(places, lambda place: (place.site.model, place.site.stream == "parameter", place.site.io))
    return {
        "models": _models(manifest, {place.site.model for place in places}),
        "table": _table(places, uses),
        "more": max(len(places) - MOST_ROWS, 0),
        "layers": any(place.site.layer is not None and place.site.stream == "residual" for place in places),
        "traps": _traps(places),
        "folded": max(len(places), len(manifest.base_models)) > MOST_FLAT,
        "notes": _notes(places),
        "recipes": [found for some in list(recipes.values())[:MOST_RECIPES] if (found := _recipe(some, view))],
    }


def _models(manifest: Manifest, keys: set[str]) -> Values:
    """Return the base models, with what pins each of them."""
    header = ["model", "revision", "step", "layers", "d_model"]
    rows = []
    for key, model in manifest.base_models.items():
        if key not in keys:
            continue
        pin = model.revision or (f"sha256 {model.weights_sha256[:12]}" if model.weights_sha256 else None)
        numbers = (model.step, model.n_layers, model.d_model)
        rows.append(
            [code(model.id), code(pin) if pin else "not pinned", *(ABSENT if n is None else f"{n:,}" for n in numbers)]
        )
    return {"header": header, "rows": rows[:MOST_ROWS]}


def _table(places: Sequence[_Place], uses: dict[str, int]) -> Values:
    """Return one row per site; columns in which nothing stands are left out."""
    header = [
        "site",
        "model",
        "stream",
        "layer",
        "module",
        "taken",
        "`hook_name`",
        "`hidden_states`",
        "tensor",
        "used by",
    ]
    rows = []
    for place in places[:MOST_ROWS]:
        site = place.site
        index = site.hidden_states_index
        activations = site.stream != "parameter"
        row = [
            code(place.key),
            code(site.model),
            STREAMS[site.stream],
            ABSENT if site.layer is None else str(site.layer),
        ]
        row += [code(site.module or ""), site.io if activations else ABSENT, code(site.hook_name or "")]
        row += [ABSENT if index is None else f"`[{index}]`", code(site.parameter or ""), f"{uses.get(place.key, 0):,}"]
        rows.append(row)
    kept = [i for i in range(len(header)) if any(row[i] != ABSENT for row in rows)]
    if len({place.site.model for place in places}) == 1:
        kept.remove(1)
    return {"header": [header[i] for i in kept], "rows": [[row[i] for i in kept] for row in rows]}


Trap = Literal["after", "last", "same"]
"""`after`: the site is behind the final norm on purpose. `last`: it is what the last layer gives, and
`hidden_states[-1]` is not. `same`: it is the last layer's of a model that has no norm behind it."""


def trap_of(site: Site, model: BaseModelRef) -> Trap | None:
    """Return what must be said of a site and `hidden_states[-1]`; None where nothing must."""
    if site.stream != "residual":
        return None
    if site.post_final_norm:
        return "after"
    if model.n_layers is None or site.layer != model.n_layers - 1 or site.io != "output":
        return None
    return "last" if model.final_norm else "same"


def _traps(places: Sequence[_Place]) -> list[Values]:
    """Return the traps, each once for all sites that it is at."""
    found = grouped(places, lambda place: (trap_of(place.site, place.model), place.model.n_layers))
    return [
        {"kind": kind, "layers": layers, "sites": codes([place.key for place in members], 4), "count": len(members)}
        for (kind, layers), members in found.items()
        if kind is not None
    ]


def _notes(places: Sequence[_Place]) -> list[Values]:
    """Return the reasons that authors give, each once."""
    groups = grouped((place for place in places if place.site.reason), lambda place: place.site.reason or "")
    return [
        {"sites": codes([p.key for p in members], 4), "reason": text(reason).rstrip(".")}
        for reason, members in groups.items()
    ]


def _recipe(places: Sequence[_Place], view: View) -> Values | None:
    """Return code for the first of some sites that differ in nothing but a name in it."""
    first, others = places[0], places[1:]
    source = capture(first.key, view.manifest, _longest(first.key, view))[1]
    if source is None:
        return None
    return {
        "site": code(first.key),
        "others": codes([place.key for place in others], 8) if others else None,
        "parameter": first.site.stream == "parameter",
        "code": fenced(source, "python"),
        "hub": is_hub_id(first.model.id),
        "model": code(first.model.id),
        "preprocess": _preprocess([place.key for place in places], view),
    }


def _longest(key: str, view: View) -> ParameterRows | None:
    """Return the evaluation that takes a parameter tensor at the most snapshots."""
    found = [e for e in view.manifest.evaluations.values() if isinstance(e, ParameterRows) and e.site == key]
    return max(found, key=lambda e: len(e.steps), default=None)


def _preprocess(keys: Sequence[str], view: View) -> list[str]:
    """Return what happens to the rows of these sites before the encoder, in words."""
    wanted = set(keys)
    kinds: dict[tuple[str, str], int] = {}
    for claim in view.claims:
        entry = view.evidence.get(claim.id)
        if entry is not None and wanted & set(sites_of(claim)) and entry.semantics.normalization.kind != "none":
            found = entry.semantics.normalization
            kinds[found.kind, found.statistics] = kinds.get((found.kind, found.statistics), 0) + 1
    said = [
        f"{counted(count, 'dictionary does', 'dictionaries do')} `{kind}` with what is {_held(statistics)}: "
        f"give {'it' if count == 1 else 'them'} the rows as they are."
        for (kind, statistics), count in kinds.items()
    ]
    prepared = sorted({e.preprocess for e in view.manifest.evaluations.values() if e.site in wanted} - {"none"})
    return said + [
        f"The rows of its evaluations went through `{name}` before any dictionary saw them." for name in prepared
    ]


def _held(statistics: str) -> str:
    return {"per_row": "worked out of each row", "stored": "stored in the files"}.get(statistics, "not in its files")
