"""Which version the changes demand, and whether the new one says as much."""

from collections.abc import Collection, Sequence
from typing import Literal

from saereg.registry.differences.rules import RULES, highest
from saereg.registry.semver import Step, is_prerelease, order, raised, reaches
from saereg.schemas.difference import Advice, ChangeKind, Level

_IN_PLACE = frozenset(
    {"withdrawal_added", "withdrawal_removed", "withdrawal_changed", "document_added", "document_changed"}
)
"""Kinds of changes that marks of withdrawal bring with them; these are set on a published version, in its place."""

Standing = Literal["later", "equal", "earlier"]
"""Where a version stands beside the one before."""

_MARKS = frozenset({"withdrawal_added", "withdrawal_removed", "withdrawal_changed"})


def advice(
    old: str, new: str, kinds: Collection[ChangeKind], overwritten: Sequence[str] = (), *, is_complete: bool = True
) -> Advice:
    """Return what changes demand of a version.

    Args:
        old: version before.
        new: version now.
        kinds: kinds of all changes.
        overwritten: artifacts of which the weights changed.
        is_complete: whether all that could change was compared.
    """
    level = highest(kinds)
    because = tuple(kind for kind in RULES if kind in kinds and RULES[kind].level == level)
    least = _least(old, level)
    before, now = order(old), order(new)
    where: Standing = "equal" if before == now else "later" if now > before else "earlier"
    marks_alone = where == "equal" and bool(_MARKS & set(kinds)) and set(kinds) <= _IN_PLACE
    fits = where != "earlier" and (least is None or marks_alone or (where == "later" and reaches(new, least)))
    lost = tuple(overwritten) if where == "equal" else ()
    said = _sentence((old, new), (level, least), because, where, fits=fits)
    return Advice(
        level=level,
        because=because if level != "none" else (),
        least=least,
        order=where,
        fits=fits,
        is_complete=is_complete,
        overwritten=lost,
        sentence=said if is_complete else f"{said}; without index.json on both sides they may demand more",
    )


def _least(old: str, level: Level) -> str | None:
    """Return the lowest finished version that says a level; after a pre-release that is the version it leads to.

    A pre-release promises nothing, so that any later version does after it.
    """
    if level == "none":
        return None
    if is_prerelease(old):
        return ".".join(map(str, order(old)[0]))
    step: Step = level
    return raised(old, step)


def _sentence(
    versions: tuple[str, str],
    demand: tuple[Level, str | None],
    because: Sequence[ChangeKind],
    where: str,
    *,
    fits: bool,
) -> str:
    (old, new), (level, least) = versions, demand
    if where == "earlier":
        return f"{new} comes before {old}: the new release is the older one"
    if level == "none":
        return f"nothing changed, which demands no new version; the new release says {new}"
    words = ", ".join(dict.fromkeys(RULES[kind].words for kind in because))
    demanded = f"a version later than {old}" if is_prerelease(old) else f"{least} ({level}: {words})"
    if fits and where == "equal":
        return f"only marks of withdrawal changed, which are set on {new} in its place"
    return f"the new release says {new}, the changes demand {demanded}" + ("" if not fits else ": it fits")
