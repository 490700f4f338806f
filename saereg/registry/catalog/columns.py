"""Fields as SQL. Every text of a statement comes from the tables here; what users write becomes parameters only."""

from saereg.registry.catalog.headline import STANDS_FOR, UNDEFINED
from saereg.registry.conditions.fields import Basis

_OF_RELEASE = ("version", "standing", "license", "loader", "repo", "folder")
_OF_SOURCE = ("pin", "synced")

COLUMNS: dict[str, str] = {
    "reference": "(coalesce(r.repo || '@' || r.revision, 'hf://' || r.repo, r.folder, r.name) || ':' ||"
    " iif(r.standing = 'foreign', coalesce(a.path, a.id), a.id))",
    "release": "(CASE WHEN r.version IS NOT NULL THEN r.name || ' ' || r.version ELSE r.name END)",
    "release_name": "r.name",
    **{name: f"r.{name}" for name in _OF_RELEASE},
    "path": "coalesce(a.path, a.id)",
    "revision": "a.model_revision",
    "withdrawn": "coalesce(a.withdrawn, r.withdrawn)",
    "source_kind": "s.kind",
    "source": "s.locator",
    **{name: f"s.{name}" for name in _OF_SOURCE},
    **{
        name: f"a.{name}"
        for name in (
            "id", "kind", "architecture", "format", "model", "model_name", "model_step", "layer", "stream", "module",
            "hook_name", "parameter", "site", "site_out", "axis", "steps", "n_sources", "d_in", "d_out", "d_sae", "k",
            "l1_coefficient", "l0_coefficient", "target_l0", "seed", "snapshot", "variant", "canonical", "tokens",
            "dtype", "weights_sha256", "size", "neuronpedia_id",
        )
    },
}  # fmt: skip
"""Field that is no number of quality → its SQL over `artifact a`, `release r` and `source s`; those of the view
`artifacts` by the same names."""


def column(field: str, basis: Basis | None) -> str:
    """Return the SQL of a field.

    Args:
        field: its full name.
        basis: whose numbers are meant.
    """
    if field in COLUMNS:
        return COLUMNS[field]
    name, _, end = field.rpartition("_")
    if end not in ("basis", "definition") or name not in STANDS_FOR:
        name, end = field, ""
    if name in STANDS_FOR and basis != "stated":
        plain = f"a.{field}"
        return plain if basis is None else f"(CASE WHEN a.{name}_basis = 'measured' THEN {plain} END)"
    return _picked(name, basis, {"": "value", "basis": "basis", "definition": "metric"}[end])


def _picked(name: str, basis: Basis | None, wanted: str) -> str:
    """Return the SQL of the number that `saereg.registry.catalog.headline.pick` takes."""
    defined = STANDS_FOR.get(name, (name,))
    ranks = " ".join(f"WHEN m.metric = '{one}' THEN {n}" for n, one in enumerate(defined))
    which = f"m.metric IN ({', '.join(_quoted(defined))})"
    if name in UNDEFINED:
        which = f"({which} OR (m.metric IS NULL AND m.name IN ({', '.join(_quoted(UNDEFINED[name]))})))"
    if basis is not None:
        which += f" AND m.basis = '{basis}'"
    order = f"m.basis = 'stated', coalesce(m.kind, 'recomputed') <> 'recomputed', CASE {ranks} ELSE {len(defined)} END"
    return (
        f"(SELECT m.{wanted} FROM metric m WHERE m.artifact = a.key AND {which}"
        f" ORDER BY {order}, m.units <> 'raw', m.position LIMIT 1)"
    )


def _quoted(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"'{name}'" for name in names)
