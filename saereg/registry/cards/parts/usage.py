"""`usage`: how one of the dictionaries is loaded, with every library that can."""

from collections.abc import Sequence

from saereg.registry.cards.marking import code, fenced
from saereg.registry.cards.recipes import literal, recipes
from saereg.registry.cards.view import KINDS, Values, View
from saereg.registry.files.natural import natural_key
from saereg.schemas.manifest import Artifact


def values(view: View) -> Values | None:
    """Return the recipes of the first pick of each kind of dictionary; None where there is no artifact."""
    chosen = examples(view)
    if not chosen:
        return None
    return {
        "release": view.manifest.release.name,
        "examples": [_example(claim, view, several=len(chosen) > 1) for claim in chosen],
        "find": fenced(_find(chosen[0], view), "python"),
    }


def examples(view: View) -> list[Artifact]:
    """Return one artifact of each kind: a canonical one that may be used, else one that may be used, else any."""

    def rank(claim: Artifact) -> tuple[object, ...]:
        return (not view.usable(claim), not claim.canonical, natural_key(claim.id))

    kinds: Sequence[str] = tuple(KINDS)
    best = [min((c for c in view.claims if c.kind == kind), key=rank, default=None) for kind in kinds]
    return [claim for claim in best if claim is not None]


def _example(claim: Artifact, view: View, *, several: bool) -> Values:
    found = recipes(claim, view.manifest, view.evidence.get(claim.id))
    return {
        "title": f"A {KINDS[claim.kind][0]}" if several else None,
        "id": code(claim.id),
        "recipes": [{"library": r.library, "note": r.note, "code": fenced(r.code, "python")} for r in found],
    }


def _find(claim: Artifact, view: View) -> str:
    """Return code that finds artifacts by their fields."""
    fields = view.fields[claim.id]
    names = [name for name in ("layer", "architecture", "snapshot") if fields[name] is not None]
    known = [name for name in ("explained_variance", "l0", "l0_per_source_mean") if fields.get(name) is not None]
    shown = "".join(f', artifact.fields["{name}"]' for name in known)
    conditions = ", ".join(f"{name}={_value(fields[name])}" for name in ("kind", *names[:2]))
    return "\n".join(
        [
            "import saereg",
            "",
            'release = saereg.open(".")  # this folder, or "hf://organization/repository"',
            f"for artifact in release.find({conditions}):",
            f"    print(artifact.id{shown})",
        ]
    )


def _value(value: object) -> str:
    return literal(value) if isinstance(value, str) else repr(value)
