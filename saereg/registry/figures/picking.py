"""Which figures somebody asks for, and of which artifacts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from saereg.errors import UnknownNameError, UsageError
from saereg.registry.figures import FIGURES
from saereg.registry.figures.figure import Drawing
from saereg.registry.figures.write import drawn
from saereg.registry.query import Selection, meeting
from saereg.registry.release import Release


@dataclass(frozen=True)
class Picked:
    """What was asked for.

    Attributes:
        drawings: the figures, in the order in which they were asked for.
        lacking: a line for each name of which there is nothing, which says what it needs.
    """

    drawings: tuple[Drawing, ...]
    lacking: tuple[str, ...]


def kind_of(name: str) -> str:
    """Return the kind that a name stands for: its own, or that of one of its figures, such as `heatmap-l0`.

    Raises:
        UnknownNameError: when it is neither, with the closest kind.
    """
    if name in FIGURES:
        return name
    kinds = [kind for kind in FIGURES if name.startswith(f"{kind}-")]
    if not kinds:
        raise UnknownNameError("figure", name, FIGURES)
    return max(kinds, key=len)


def pick(release: Release, names: Sequence[str], failed: Callable[[str], None]) -> Picked:
    """Draw figures by name; without names all that the release has the evidence for.

    Args:
        release: the release.
        names: kinds, or single figures of them.
        failed: told of what could not be drawn, in one line.

    Raises:
        UnknownNameError: for a name that no figure has.
    """
    kinds = {name: kind_of(name) for name in names or FIGURES}
    made: dict[str, list[Drawing]] = {}
    drawings: dict[str, Drawing] = {}
    lacking = []
    for name, kind in kinds.items():
        if kind not in made:
            made[kind] = list(drawn(release, [FIGURES[kind]], failed))
        found = [drawing for drawing in made[kind] if name in (kind, drawing.name)]
        drawings |= {drawing.name: drawing for drawing in found}
        if not found and made[kind]:
            raise UnknownNameError("figure", name, [kind, *(drawing.name for drawing in made[kind])])
        if not found and names:
            lacking.append(f"nothing to draw: {FIGURES[kind].needs}")
    return Picked(tuple(drawings.values()), tuple(lacking))


def restricted(release: Release, conditions: Sequence[str]) -> Release:
    """Return a release with the artifacts only that meet conditions such as `l0 < 64`.

    Raises:
        UsageError: when one is no condition, or no artifact meets them.
        UnknownNameError: when a field does not exist.
    """
    if not conditions:
        return release
    kept = {artifact.id for artifact in meeting(Selection(release.artifacts), conditions)}
    if not kept:
        raise UsageError(f"none of the {len(release)} artifacts meets {' and '.join(conditions)}")
    claims = tuple(claim for claim in release.manifest.artifacts if claim.id in kept)
    return replace(release, manifest=release.manifest.model_copy(update={"artifacts": claims}))
