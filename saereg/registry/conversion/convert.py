"""Convert one dictionary, prove that it is the same, and only then let it appear."""

import contextlib
import glob
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from saereg import __version__
from saereg.errors import FormatError, UnknownNameError, UsageError, WeightsError
from saereg.registry.conversion.proof import compare_bytes, golden_proof, read_back
from saereg.registry.conversion.write import Written, write_layout
from saereg.registry.files.atomic import is_running, write_text_atomically
from saereg.registry.files.blocks import require_torch
from saereg.registry.files.digest import sha256_of
from saereg.registry.files.names import CONVERSION_FILE
from saereg.registry.formats import FORMATS
from saereg.registry.formats.native import to_native
from saereg.registry.loading import layout_of
from saereg.registry.readings.format import Format, Layout
from saereg.registry.readings.given import Given, Value
from saereg.registry.readings.reading import Reading
from saereg.registry.readings.source import Source, open_source
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig, assumptions
from saereg.schemas.conversion import Conversion, ConvertedFile

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Order:
    """What is to be converted, and how.

    Attributes:
        source: weight file or folder of one dictionary.
        target: folder that is to be made; it must not exist, or be empty.
        to: layout to write.
        layout: layout to read, where several fit.
        given: what the files do not say.
        activations: rows (n, d_in) of the model to add to the golden inputs.
    """

    source: Path
    target: Path
    to: str
    layout: str | None = None
    given: Mapping[str, Value] = field(default_factory=dict)
    activations: "Tensor | None" = None


def convert(order: Order) -> Conversion:
    """Convert, prove, and let the folder appear.

    The proof: every tensor, read back, has the bytes that its recipe gives; the publisher's own forward, run on the
    source, is replayed on the result; and what was written reads as what was to be written.

    Raises:
        FormatError: when the source is in no known layout or in several, or the target layout cannot say it.
        WeightsError: when a tensor does not fit or is not finite, or a part of the proof fails.
        UsageError: when the target exists, or a given value is not asked for.
    """
    require_torch("converting weights")
    _require_free(order.target)
    source, values = open_source(order.source), Given(dict(order.given))
    layout = layout_of(source, order.layout)
    reading = layout.read(source, values)
    values.check_used()
    if reading.unsettled is not None:
        raise FormatError(order.source, reading.unsettled)
    wanted = layout_for(order.to, reading.cfg)
    with _appearing(order.target) as temporary:
        written = write_layout(reading, wanted, temporary)
        _require_finite(written, reading)
        task = _Task(order, source, layout, reading, wanted)
        record = _proved(task, written, temporary)
        write_text_atomically(temporary / CONVERSION_FILE, record.text())
    return record


def layout_for(name: str, cfg: ArtifactConfig) -> Layout:
    """Return what a layout writes for a configuration. No weights are looked at.

    Raises:
        UnknownNameError: when there is no such layout.
        FormatError: when it is only read, or cannot say this dictionary.
    """
    if name not in FORMATS:
        raise UnknownNameError("layout", name, FORMATS)
    writer = FORMATS[name].layout
    if writer is None:
        writable = [known.name for known in FORMATS.values() if known.layout is not None]
        raise FormatError(name, "this layout is read and never written; choose another", writable)
    return writer(cfg if name == "saelens" else to_native(cfg))


@dataclass(frozen=True)
class _Task:
    """An order, understood."""

    order: Order
    source: Source
    layout: Format
    reading: Reading
    wanted: Layout


def _proved(task: _Task, written: Mapping[str, Written], folder: Path) -> Conversion:
    import torch

    order, layout, reading = task.order, task.layout, task.reading
    tensors = compare_bytes(written, folder)
    again = read_back(FORMATS[order.to], reading, task.wanted, folder)
    golden = golden_proof(layout, reading, again, folder, order.activations, task.source)
    prefix = len(written) > 1
    return Conversion(
        generated_by={"saereg": __version__, "torch": str(torch.__version__)},
        source_format=layout.name,
        source=tuple(_file(Path(str(file.path))) for _, file in sorted(reading.files.items())),
        format=order.to,
        written=tuple(
            ConvertedFile(name=name, size=(folder / name).stat().st_size, sha256=part.inspection.sha256)
            for name, part in written.items()
        ),
        semantics=semantics_of(reading.cfg),
        assumptions=assumptions(reading.cfg),
        plan={
            f"{name}: {tensor}" if prefix else tensor: recipe
            for name, part in written.items()
            for tensor, recipe in part.recipes.plan.items()
        },
        tensors=tensors,
        left_out=reading.left_out,
        golden=golden,
    )


def _file(path: Path) -> ConvertedFile:
    return ConvertedFile(name=path.name, size=path.stat().st_size, sha256=sha256_of(path))


def _require_free(target: Path) -> None:
    if target.is_symlink():
        raise UsageError(f"{target} is a link; name a folder that does not exist")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists; name a folder that does not, or remove it first")


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Give a folder beside the target to fill, which becomes the target when all went well, and vanishes otherwise.

    Raises:
        OSError: with the name that the caller knows, when the target cannot be written.
    """
    place = Path(os.path.abspath(target))  # a relative one may have no name, such as `.`
    made = [folder for folder in place.parents if not folder.exists()]
    _remove_stale(place)
    temporary = place.with_name(f".{place.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    done = False
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if place.is_dir():
            place.rmdir()
        temporary.replace(place)
        done = True
    except OSError as error:
        name = Path(str(error.filename or ""))
        if not name.is_relative_to(temporary):
            raise
        raise OSError(error.errno, error.strerror, str(target / name.relative_to(temporary))) from error
    finally:
        if not done:
            shutil.rmtree(temporary, ignore_errors=True)
            for folder in made:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _remove_stale(place: Path) -> None:
    """Remove what a run for the same target left that was killed and could not do so itself."""
    for stale in place.parent.glob(f".{glob.escape(place.name)}.*-*.tmp"):
        process = stale.name.removeprefix(f".{place.name}.").partition("-")[0]
        if process.isdigit() and not is_running(int(process)):
            shutil.rmtree(stale, ignore_errors=True)


def _require_finite(written: Mapping[str, Written], reading: Reading) -> None:
    for part in written.values():
        for name, position in part.inspection.first_bad.items():
            recipe = part.recipes.plan[name]
            where = f"{reading.source}: {recipe.key}" if recipe.key else reading.source
            raise WeightsError(where, f"a value at {position} of {name} is not finite; no reader could use it")
