"""From a path to something one can call: which layout it is in, what it means, and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import FormatError, UnknownNameError, UsageError
from saereg.registry.checkpoint import Checkpoint
from saereg.registry.files.blocks import require_torch
from saereg.registry.formats import FORMATS, state_dict
from saereg.registry.readings.format import Format
from saereg.registry.readings.given import Given, Value
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import Source, open_source

if TYPE_CHECKING:
    from saereg.registry.dictionary import Dictionary


@dataclass(frozen=True)
class Match:
    """A layout that a path is in.

    Attributes:
        layout: the layout.
        because: what tells so.
    """

    layout: Format
    because: str


def matches(source: Source) -> tuple[Match, ...]:
    """Return every layout that a source is in, in the order of the table.

    Raises:
        DocumentError: when a document beside the weights does not parse.
        WeightsError: when a weight file is damaged, or a pickle that asks to run code.
    """
    found = ((layout, layout.detect(source)) for layout in FORMATS.values())
    return tuple(Match(layout, because) for layout, because in found if because is not None)


def detect(path: Path) -> tuple[str, ...]:
    """Return the names of the layouts that a file or folder is in; none when there is nothing that can be read."""
    return tuple(match.layout.name for match in matches(open_source(path)))


def layout_of(source: Source, name: str | None = None) -> Format:
    """Return the one layout that a source is in, or the named one.

    Raises:
        UnknownNameError: when there is no layout of that name.
        FormatError: when the source is in no known layout, or in several.
    """
    if name is not None:
        if name not in FORMATS:
            raise UnknownNameError("layout", name, FORMATS)
        return FORMATS[name]
    found = matches(source)
    if len(found) == 1 and not found[0].layout.anybodys:
        return found[0].layout
    if len(found) == 1:
        candidates = (found[0].layout.name, state_dict.NAME)
        problem = "its tensors have names that anybody may have given them, and no document says what they mean"
        raise FormatError(source.path, f"{problem}; say which with --from", candidates)
    if found:
        raise FormatError(source.path, "fits several layouts; say which with --from", [m.layout.name for m in found])
    if len(source.names) > 1:
        raise FormatError(source.path, f"holds {len(source.names)} weight files; name one", source.names[:12])
    if not source.names:
        problem = "holds no weight file that saereg reads; saereg detect lists what lies below it"
        raise FormatError(source.path, problem)
    keys = ", ".join(sorted(source.keys)[:12])
    alone = "" if source.has_documents else ", and no document beside them says what they mean"
    instead = f"; if you know what they mean, say it with --from {state_dict.NAME}"
    raise FormatError(source.path, f"in no layout that saereg knows; its tensors are {keys}{alone}{instead}")


def read(path: Path, given: Mapping[str, Value] | None = None, layout: str | None = None) -> Reading:
    """Read what a file or folder means, without loading weights.

    Args:
        path: weight file, or the folder of one dictionary.
        given: what the files do not say, by the names that errors ask for.
        layout: name of the layout, where several fit.

    Raises:
        FormatError: when the layout is not known, or something is not said and must not be guessed.
        WeightsError: when the tensors do not fit what the documents say.
        DocumentError: when a document does not parse or fit.
        UsageError: when a given value is not asked for, or does not fit.
    """
    source = open_source(path)
    values = Given(dict(given or {}))
    reading = layout_of(source, layout).read(source, values)
    values.check_used()
    return reading


def read_checkpoint(
    path: Path, device: str = "cpu", layout: str | None = None, given: Mapping[str, Value] | None = None
) -> Checkpoint:
    """Read and load: configuration and tensors in canonical names and orientation. Raises what `read` raises."""
    require_torch("reading weights")
    return read(path, given, layout).checkpoint(device)


def load_path(
    path: Path,
    device: str = "cpu",
    layout: str | None = None,
    given: Mapping[str, Value] | None = None,
    *,
    as_library: bool = False,
) -> "Dictionary":
    """Load the dictionary in a file or folder.

    Args:
        path: weight file, or the folder of one dictionary.
        device: torch device.
        layout: name of the layout, where several fit.
        given: what the files do not say.
        as_library: whether to go on, as the layout's own library does, where something that decides the function is
            said nowhere or weights are not finite; of releases the validators report it.

    Raises:
        FormatError: when it is said nowhere.
        WeightsError: when a weight is NaN or infinite.
        UsageError: when there is no such device.
        SaeregError: whatever `read` raises.
    """
    require_torch("loading a dictionary")
    require_device(device)
    from saereg.registry.dictionary import Dictionary

    reading = read(path, given, layout)
    if reading.unsettled is not None and not as_library:
        raise FormatError(path, reading.unsettled)
    checkpoint = reading.checkpoint(device)
    if not as_library and device != "meta":
        reading.require_finite(checkpoint)
    return Dictionary(checkpoint)


def require_device(device: str) -> None:
    """Try a device before any weights are read; torch says in many ways that there is none.

    Raises:
        UsageError: when there is no such device.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise UsageError(f"device {str(device)!r} cannot be used on this machine: {why}") from None
