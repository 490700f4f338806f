"""What a layout is: how to recognize, read, check and write it. Does not import torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from saereg.errors import FormatError
from saereg.registry.readings.given import Given
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import Source
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.recipe import SourceTensor

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.readings.reference import Codes, Raw


@dataclass(frozen=True)
class Layout:
    """What is to be written for a configuration.

    Attributes:
        cfg: the configuration that the written files mean: the same function, in the words of the layout.
        files: weight file → tensor in it → recipe from canonical names. Its suffix says which kind of file it is:
            `.safetensors`, `.npz` or `.pt`.
        documents: document → text; the last one makes the folder one of this layout.
        metadata: for the header of safetensors.
    """

    cfg: ArtifactConfig
    files: Mapping[str, Mapping[str, SourceTensor]]
    documents: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True)
class About:
    """What `docs/formats.md` says of a layout.

    Attributes:
        title: its name in the field.
        used_by: who publishes in it.
        files: the files, and the tensors in them.
        silent: what its files cannot say.
        assumed: what is taken for granted then.
        saelens: what SAELens does with it.
        source: where the facts are from.
    """

    title: str
    used_by: str
    files: str
    silent: str
    assumed: str
    saelens: str
    source: str


@dataclass(frozen=True)
class Format:
    """One layout.

    Attributes:
        name: as on the command line and in the manifest.
        detect: source → why it is this layout, or None. By the names and shapes of tensors and by what documents say;
            never by a file's name alone.
        read: (source, given) → reading. Says what it had to assume; asks for what must not be assumed.
        about: for the documentation.
        reference: (raw, reading, x) → codes: the publisher's own forward, in the publisher's names and orientation and
            in float64, to compare a reading with; so of the reading it takes only what the caller said. None where
            reading is by the configuration itself.
        anybodys: whether anybody's own tensors have these names too, so that the layout must be named.
        layout: configuration → what to write, raising FormatError with the reason where the layout cannot say it. None
            where the layout is never written.
    """

    name: str
    detect: Callable[[Source], str | None]
    read: Callable[[Source, Given], Reading]
    about: About
    reference: "Callable[[Raw, Reading, Tensor], Codes | None] | None" = None
    layout: Callable[[ArtifactConfig], Layout] | None = None
    anybodys: bool = False


def refuse(name: str, wrong: Mapping[str, bool], what: str = "dictionary") -> None:
    """Refuse to write what a layout has no words for.

    Args:
        name: of the layout.
        wrong: reason → whether it holds.
        what: what messages call it.

    Raises:
        FormatError: with the first reason that holds.
    """
    for why, is_wrong in wrong.items():
        if is_wrong:
            raise FormatError(name, f"cannot say this {what}: {why}; use --to saereg")
