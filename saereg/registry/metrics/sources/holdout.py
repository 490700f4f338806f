"""Make a held-out evaluation: a few rows of a larger source, stored in the release and declared in its manifest."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError, WeightsError
from saereg.registry.files.atomic import write_bytes_atomically, write_text_atomically
from saereg.registry.files.names import CONFIG_FILE
from saereg.registry.metrics.sources.rows_text import text_bytes
from saereg.registry.metrics.sources.spec import rows_of_spec
from saereg.registry.metrics.sources.texts import text_path
from saereg.registry.release import MANIFEST_FILE
from saereg.registry.semantics import row_shape
from saereg.schemas import jsonedit, jsontext
from saereg.schemas.artifact_config import read_config
from saereg.schemas.evaluation import ActivationRows, Preprocess
from saereg.schemas.manifest import CrosscoderArtifact, Manifest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from saereg.registry.metrics.sources.rows import Rows

FOLDER = "evaluation"
"""Folder of a release in which evaluations are."""

MOST_ROWS = 65_536
"""Most rows that are stored without being asked for by number: an evaluation in a release is a small one."""

SPAN_ROWS, GAP_ROWS = 1024, 64
"""Most rows that are read at once, and how far apart two that are wanted may be to be read together."""


@dataclass(frozen=True)
class HeldOut:
    """What is to be made.

    Attributes:
        name: key of the evaluation in the manifest.
        spec: where the rows come from, as in `rows_of_spec`.
        rows: how many; None: as many as the manifest declares, or all.
        seed: seed of the choice.
        site: key of the site they were collected at; None: as declared, or the only one there is.
        models: key of a base model → folder or repository, for sources that need one.
    """

    name: str
    spec: str
    rows: int | None = None
    seed: int = 0
    site: str | None = None
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def option(self) -> str:
        """What a user wrote, for messages."""
        return f"--evaluation {self.name}={self.spec}"


@dataclass(frozen=True)
class Made:
    """What came of one.

    Attributes:
        name: key of the evaluation in the manifest.
        file: where its rows are.
        is_new: whether something was written: the rows, or what the manifest says of them.
    """

    name: str
    file: Path
    is_new: bool


def hold_out(root: Path, *wanted: HeldOut) -> tuple[Made, ...]:
    """Store the rows and declare the evaluations; of those that are as they should be, nothing is written.

    All of them are looked at before the first file is written: either all are made, or none is.

    Args:
        root: release folder with a manifest.json.
        wanted: what to make.

    Raises:
        UsageError: when the release has another evaluation of that name, or there are too few rows.
        DocumentError: when the manifest or a configuration does not fit.
        WeightsError: when no dictionary at the site reads such rows, or one is not finite.
        OSError: when a file cannot be read or written.
    """
    path = root / MANIFEST_FILE
    if not path.is_file():
        raise UsageError(f"{root} holds no {MANIFEST_FILE}; a trainer writes one, or write it by hand")
    Manifest.read(path)  # whose problems are those of the file, and not of what is made
    first = text = jsontext.decode(path.read_bytes())
    contents: dict[Path, bytes] = {}
    made: list[Made] = []
    for one in wanted:
        file, files, changed = _planned(root, text, one)
        for place, content in files.items():
            if contents.setdefault(place, content) != content:
                raise UsageError(f"{one.option}: another --evaluation writes other rows to {place}; give another name")
        made.append(Made(one.name, file, is_new=changed != text or not all(map(_stands, files, files.values()))))
        text = changed
    for file, content in contents.items():
        if not _stands(file, content):
            write_bytes_atomically(file, content)
    if text != first:
        write_text_atomically(path, text)
    return tuple(made)


def _stands(file: Path, content: bytes) -> bool:
    """Whether a file is as it would be written. Only texts can differ: other rows are refused before."""
    return file.is_file() and file.read_bytes() == content


def _planned(root: Path, text: str, wanted: HeldOut) -> tuple[Path, dict[Path, bytes], str]:
    """Return the file of the rows, what is in it and in that of their text, and the manifest with the evaluation."""
    path = root / MANIFEST_FILE
    manifest = Manifest.from_text(text, path)
    declared = _declared(manifest, wanted)
    site = _site(manifest, wanted, declared)
    rows = _rows(root, manifest, wanted, site)
    record = _record(wanted, rows, site, declared)
    changed = _edited(text, manifest, wanted, record, declared)
    Manifest.from_text(changed, path)
    picked = chosen(rows.rows, record.rows, wanted.seed)
    content = _content(rows, record, wanted, picked)
    file = root / record.path
    files = {file: content}
    beside = text_bytes(rows, picked, hashlib.sha256(content).hexdigest(), manifest, wanted.models)
    if beside is not None:
        files[root / str(text_path(record))] = beside
    if file.exists() and (not file.is_file() or file.read_bytes() != content):
        raise UsageError(f"{wanted.option}: {file} is there and holds other rows; give another name, or remove it")
    return file, files, changed


def _declared(manifest: Manifest, wanted: HeldOut) -> ActivationRows | None:
    """Return what the manifest says of the evaluation already."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}", wanted.name):
        raise UsageError(f"{wanted.option}: a name is made of letters, digits, '_', '-' and '.'")
    found = manifest.evaluations.get(wanted.name)
    if found is None:
        return None
    if not isinstance(found, ActivationRows):
        raise UsageError(f"{wanted.option}: the manifest has one of that name, of {found.source}; give another name")
    for what, declared, asked in (("rows", found.rows, wanted.rows), ("site", found.site, wanted.site)):
        if asked is not None and declared != asked:
            raise UsageError(
                f"{wanted.option}: the manifest declares {what} {declared}, not {asked}; give another name"
            )
    if not found.path.endswith(".safetensors"):
        raise UsageError(f"{wanted.option}: the manifest declares {found.path}; only a .safetensors file is made")
    return found


def _site(manifest: Manifest, wanted: HeldOut, declared: ActivationRows | None) -> str:
    """Return the key of the site that the rows are of."""
    given = wanted.site or (declared.site if declared else None)
    read = sorted({key for claim in manifest.artifacts for key in _sites(claim)})
    if given is not None:
        if given not in read:
            raise UsageError(f"{wanted.option}: no artifact reads site {given!r}; choose from {', '.join(read)}")
        return given
    if len(read) != 1:
        raise UsageError(f"{wanted.option}: at which site? Add --site KEY, one of {', '.join(read) or 'none'}")
    return read[0]


def _sites(claim: object) -> tuple[str, ...]:
    if isinstance(claim, CrosscoderArtifact):
        return claim.sources.site_keys
    site: str = getattr(claim, "site")  # noqa: B009  # of both other kinds
    return (site,)


def _rows(root: Path, manifest: Manifest, wanted: HeldOut, site: str) -> "Rows":
    """Open the source; where dictionaries at the site read rows of several shapes, as the first that fits."""
    claims = [claim for claim in manifest.artifacts if site in _sites(claim)]
    shapes = dict.fromkeys(row_shape(read_config(root / claim.path / CONFIG_FILE)) for claim in claims)
    if len(shapes) > 1 and wanted.spec.startswith("synthetic:") and "shape=" not in wanted.spec:
        many = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise UsageError(f"{wanted.option}: rows of which shape? Add shape=, one of {many}")
    problem: WeightsError | None = None
    for shape in shapes:
        try:
            rows = rows_of_spec(wanted.spec, shape, models=wanted.models, manifest=manifest)
            rows.read(0, 1)
            return rows
        except WeightsError as error:
            problem = problem or error
        except UsageError as error:  # the option of other commands
            said = f"--data {wanted.spec}: "
            if not str(error).startswith(said):
                raise
            raise UsageError(f"{wanted.option}: {str(error).removeprefix(said)}") from None
    assert problem is not None  # noqa: S101  # a site that is read has a dictionary
    raise problem


def _record(wanted: HeldOut, rows: "Rows", site: str, declared: ActivationRows | None) -> ActivationRows:
    count = wanted.rows or (declared.rows if declared else rows.rows)
    if count > rows.rows:
        raise UsageError(f"{wanted.option}: {count} rows are wanted, but the source has {rows.rows}")
    if wanted.rows is None and count > MOST_ROWS:
        raise UsageError(f"{wanted.option}: the source has {rows.rows} rows; say how many with --rows")
    origin = rows.digest()
    if declared is not None:
        if declared.origin not in (None, origin):
            raise UsageError(f"{wanted.option}: the manifest says that its rows are of another source (`origin`)")
        if (declared.target is not None) != rows.has_target:
            held = "has no targets" if declared.target is not None else "has targets"
            raise UsageError(f"{wanted.option}: the source {held}, other than the manifest declares")
        return declared.model_copy(update={"origin": origin})
    source = getattr(rows, "evaluation", None)
    preprocess: Preprocess = getattr(source, "preprocess", "none")
    return ActivationRows(
        source="activations",
        path=f"{FOLDER}/{wanted.name}.safetensors",
        rows=count,
        site=site,
        target="target" if rows.has_target else None,
        excluded=rows.excluded,
        preprocess=preprocess,
        origin=origin,
    )


def _edited(
    text: str, manifest: Manifest, wanted: HeldOut, record: ActivationRows, declared: ActivationRows | None
) -> str:
    """Return the text of the manifest with the record in it; all the rest stays as it was written."""
    pointer = f"/evaluations/{wanted.name}"
    if declared is not None:
        return text if declared.origin else jsonedit.inserted(text, f"{pointer}/origin", record.origin)
    value: dict[str, jsontext.JsonValue] = record.model_dump(mode="json", exclude_defaults=True)
    value = dict(sorted({"source": "activations", **value}.items()))
    raw = jsontext.parse(text)
    if isinstance(raw, dict) and "evaluations" in raw:
        return jsonedit.inserted(text, pointer, value)
    return jsonedit.inserted(text, "/evaluations", {wanted.name: value})


def _content(rows: "Rows", record: ActivationRows, wanted: HeldOut, picked: "np.ndarray") -> bytes:
    """Return the bytes of the file."""
    from safetensors.torch import save

    x, target = _gathered(rows, picked)
    tensors = {record.tensor: x}
    if record.target is not None:
        tensors[record.target] = target
    # one key alone: the library writes several in an order that changes from call to call
    metadata = {"rows": f"{record.rows} of {rows.rows} rows, seed {wanted.seed}"}
    return bytes(save(tensors, metadata=metadata))


def chosen(total: int, count: int, seed: int) -> "np.ndarray":
    """Return the numbers of the rows that are drawn: without replacement, in their order in the source, (count,).

    numpy's `Generator(Philox(seed))` draws them. Rows of sequences are drawn as whole sequences.
    """
    import numpy as np

    if count == total:
        return np.arange(total)
    generator = np.random.Generator(np.random.Philox(seed))
    return np.sort(generator.choice(total, count, replace=False, shuffle=False))


def _gathered(rows: "Rows", picked: "np.ndarray") -> "tuple[Tensor, Tensor]":
    import torch

    pieces: list[tuple[Tensor, Tensor]] = []
    for span in _spans(picked.tolist()):
        x, target = rows.read(span[0], span[-1] + 1 - span[0])
        inside = torch.tensor(span) - span[0]
        for tensor in (x, target):
            _check_finite(rows, tensor, span[0])
        pieces.append((x[inside], target[inside]))
    return torch.cat([x for x, _ in pieces]), torch.cat([target for _, target in pieces])


def _check_finite(rows: "Rows", block: "Tensor", first: int) -> None:
    finite = block.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        raise WeightsError(rows.name, f"row {first + int((~finite).int().argmax())} is not finite")


def _spans(picked: Sequence[int]) -> Iterator[list[int]]:
    """Yield rows in order, together those that are better read together."""
    span: list[int] = []
    for number in picked:
        if span and (number - span[-1] > GAP_ROWS or number - span[0] >= SPAN_ROWS):
            yield span
            span = []
        span.append(number)
    yield span
