"""The dictionaries of a transfer matrix, as a user names them: `NAME=REFERENCE`, or REFERENCE."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from saereg.errors import UsageError, WeightsError
from saereg.registry.recompute.chosen import Chosen, Setting, chosen_of
from saereg.registry.recompute.tasks import CHANGED, Place, Stamp
from saereg.registry.release import ReleaseArtifact
from saereg.registry.transfer.matrix import dataset_id
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg_native import CrossLayerConfig
from saereg.schemas.manifest import sites_of
from saereg.schemas.transfer import TransferDictionary

LONGEST_NAME = 300


@dataclass(frozen=True)
class Entrant:
    """A dictionary that is not loaded yet.

    Attributes:
        name: name in the matrix.
        chosen: how the user named it, and what its release says of it.
        cfg: its configuration.
        place: where it is.
    """

    name: str
    chosen: Chosen
    cfg: ArtifactConfig
    place: Place

    @property
    def artifact(self) -> ReleaseArtifact | None:
        """What its release says of it, if it is in one."""
        return self.chosen.artifact

    @cached_property
    def stamp(self) -> Stamp:
        """Its files as they were first looked at, before their digest was taken.

        Raises:
            OSError: when they cannot be read.
        """
        return self.place.stamp()

    @property
    def predicts(self) -> bool:
        """Whether it predicts another site than it reads, so that rows need targets."""
        kind, architecture = getattr(self.cfg, "kind", None), str(self.cfg.architecture)
        return kind == "transcoder" or isinstance(self.cfg, CrossLayerConfig) or architecture.endswith("transcoder")

    def facts(self) -> TransferDictionary:
        """Return what a matrix says of it; its home is not looked for yet.

        Raises:
            WeightsError: when its weights are not those of the index of its release, or changed since they were first
                looked at.
            OSError: when they cannot be read.
        """
        before, weights_sha256 = self.stamp, self.chosen.weights_sha256(self.place)
        if self.place.stamp() != before:
            raise WeightsError(self.name, CHANGED)
        dataset = self.artifact.claim.training.dataset if self.artifact else None
        return TransferDictionary(
            name=self.name,
            reference=readable(self.chosen.name),
            architecture=str(self.cfg.architecture),
            d_in=self.cfg.d_in,
            d_sae=self.cfg.d_sae,
            weights_sha256=weights_sha256,
            dataset=dataset,
            dataset_id=dataset_id(self.artifact.release.manifest, dataset) if self.artifact else None,
            home_because="not looked for",
        )


def entrants_of(word: str, how: Setting, site: str | None = None) -> tuple[Entrant, ...]:
    """Return the dictionaries that one word of the user names.

    Args:
        word: NAME=REFERENCE, or REFERENCE: a release (with all its artifacts), `release:artifact`, or a file or folder
            in any layout.
        how: layout, device and so on.
        site: of a whole release, only the artifacts at this site, or at `site:site_out` as messages name them; where
            none reconstructs it, those that read it.

    Raises:
        UsageError: when a release has artifacts at several sites, or a name is given to several dictionaries.
        SaeregError: when something cannot be opened.
    """
    name, reference = _split(word)
    chosen = chosen_of(reference)
    if not chosen or chosen[0].is_one_of_many:
        chosen = _at_one_site(reference, chosen, site)
    if name is not None and len(chosen) > 1:
        example = f"{name}={chosen[0].name}"
        raise UsageError(f"{word}: {reference} holds {len(chosen)} artifacts; name one: {example}")
    places = [one.place(how) for one in chosen]
    return tuple(
        Entrant(name or _own_name(one), one, place.read().cfg, place) for one, place in zip(chosen, places, strict=True)
    )


def _split(word: str) -> tuple[str | None, str]:
    """Return (name, reference); a name holds no `/` and no `:`, so `runs/lr=0.1` is a path."""
    name, mark, reference = word.partition("=")
    if not mark or not name or set(name) & set("/:") or Path(word).exists():
        return None, word
    if not reference:
        raise UsageError(f"{word}: expected NAME=PATH")
    return name, reference


def _own_name(chosen: Chosen) -> str:
    if chosen.artifact is not None:
        return chosen.artifact.id
    path = Path(chosen.target).absolute()
    return readable(path.stem if path.is_file() else path.name) or readable(chosen.target)


def readable(text: str) -> str:
    """Return a text that can stand in a document: file names may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _sites(chosen: Chosen) -> tuple[str, ...]:
    """Return the keys of the sites that an artifact reads, then of the one that it predicts."""
    if chosen.artifact is None:
        return ()
    return sites_of(chosen.artifact.claim)


def _at_one_site(reference: str, chosen: tuple[Chosen, ...], site: str | None) -> tuple[Chosen, ...]:
    if site is not None:
        known = dict.fromkeys(":".join(_sites(one)) for one in chosen)
        asked = ":".join(key.strip() for key in site.replace("→", ":").split(":"))
        # what reconstructs the site goes before what reads it and predicts another
        exact = tuple(one for one in chosen if ":".join(_sites(one)) == asked)
        chosen = exact or tuple(one for one in chosen if _sites(one)[0] == asked)
        if not chosen:
            raise UsageError(f"{reference} has no artifact at site {site!r}; its sites are {', '.join(known)}")
    kinds = dict.fromkeys(":".join(_sites(one)) for one in chosen)
    if len(kinds) > 1:
        more = "name artifacts, RELEASE:ID" if site else "choose with --site, or name artifacts, RELEASE:ID"
        raise UsageError(f"{reference} holds artifacts at {len(kinds)} sites ({', '.join(kinds)}); {more}")
    if not chosen:
        raise UsageError(f"{reference} holds no artifacts")
    return chosen


def require_once(what: str, names: Sequence[str], how: str) -> None:
    """Refuse names that are there twice, or too long to stand in a table.

    Raises:
        UsageError: naming the first, and how to name it otherwise.
    """
    for at, name in enumerate(names):
        if len(name) > LONGEST_NAME:
            raise UsageError(
                f"{what} {name[:60]!r}…: a name has at most {LONGEST_NAME} characters; give one with {how}"
            )
        if name in names[:at]:
            raise UsageError(f"{what} {name!r} is there twice; give each a name of its own with {how}")
