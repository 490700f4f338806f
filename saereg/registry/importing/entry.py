"""The manifest's entry of one checkpoint of a grid: what its captures say of it, and the site that it belongs to."""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from saereg.errors import FormatError, UsageError
from saereg.registry.draft import References
from saereg.registry.importing.grid import Cell, Grid, said
from saereg.registry.importing.template import Capture, Captures, fill
from saereg.registry.semantics import semantics_of
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.cfg import SaelensMetadata, TranscoderConfig
from saereg.schemas.conversion import Conversion
from saereg.schemas.manifest import SaeArtifact, SourceCheckpoint, Sparsity
from saereg.schemas.names import path_problem
from saereg.schemas.site import BaseModelRef, Site, TokenPolicy

OWN_FIELDS = ("layer", "snapshot", "seed", "k", "l1", "l0", "variant")
"""Captures with a field of their own in the manifest; all others become part of `variant`."""

Stream = Literal["residual", "mlp", "attention", "embedding"]

_LAYER = re.compile(r"blocks\.([0-9]+)\.")


@dataclass(frozen=True)
class Place:
    """What every entry of a grid refers to.

    Attributes:
        model: the base model.
        hook: TransformerLens name, with fields of captures.
        module: path in transformers, with fields of captures.
        stream: what kind of tensor it is.
        io: whether the module's input or output was read.
        tokens: which tokens became rows.
        fields: captures that are the same for all.
        identifier: id of an artifact, with fields of captures; None: made of all captures.
    """

    model: BaseModelRef
    hook: str | None = None
    module: str | None = None
    stream: Stream = "residual"
    io: Literal["input", "output"] = "output"
    tokens: TokenPolicy | None = None
    fields: Captures = field(default_factory=dict)
    identifier: str | None = None

    def captures(self, cell: Cell) -> dict[str, Capture]:
        """Return what is known of a checkpoint."""
        return {**self.fields, **cell.captures}

    def site(self, cell: Cell) -> tuple[str, Site]:
        """Return key and record of the site that a checkpoint belongs to.

        Raises:
            UsageError: when a name has a field that is not captured, or `layer` is no number.
        """
        captures = self.captures(cell)
        hook = fill(self.hook, captures) if self.hook else None
        module = fill(self.module, captures) if self.module else None
        layer = captures.get("layer")
        if layer is None and hook and (found := _LAYER.match(hook)):
            layer = int(found[1])
        if isinstance(layer, str):
            raise UsageError(f"layer {layer!r} is no number; write {{layer:d}} or {{layer:02d}} in the template")
        site = Site(
            model=slug(self.model.id), layer=layer, stream=self.stream, module=module, io=self.io, hook_name=hook
        )
        return slug(hook or module or "site"), site

    def references(self, cell: Cell) -> References:
        """Return what the entry of a checkpoint refers to."""
        key, site = self.site(cell)
        return References({site.model: self.model}, {key: site}, tokens=self.tokens)

    def name(self, cell: Cell) -> str:
        """Return the id of a checkpoint, which is also its folder.

        Raises:
            UsageError: when it is no path that a release can have.
        """
        if self.identifier is not None:
            name = fill(self.identifier, self.captures(cell))
        else:
            name = "/".join(_segment(field, value) for field, value in cell.captures.items())
        if problem := path_problem(name):
            raise UsageError(f"{cell.path} would have the id {name!r}: {problem}; say another with --id")
        return name

    def metadata(self, cell: Cell) -> dict[str, object]:
        """Return what SAELens keeps of where a dictionary belongs."""
        _, site = self.site(cell)
        facts: dict[str, object] = {"model_name": self.model.id, "hook_name": site.hook_name}
        facts |= {"model_revision": self.model.revision} if self.model.revision else {}
        facts |= {"hf_hook_name": site.module} if self.io == "output" else {}
        if self.tokens is not None:
            facts |= {"prepend_bos": self.tokens.bos, "context_size": self.tokens.context_size}
        return {name: value for name, value in facts.items() if value is not None}


def check_place(place: Place, grid: Grid) -> None:
    """Refuse a grid whose entries could not be told apart, before anything is converted.

    Raises:
        UsageError: when two files are one cell, two cells have one id, or the layer is captured and names no site.
    """
    if grid.doubles:
        captures, paths = grid.doubles[0]
        more = f" (and {len(grid.doubles) - 1} more such)" if len(grid.doubles) > 1 else ""
        raise UsageError(
            f"{said(captures)} is there twice, as {' and '.join(paths)}{more}; move one away, or say the width of its "
            "number in the template, as in {layer:02d}"
        )
    names: dict[str, str] = {}
    for cell in grid.cells:
        name = place.name(cell)
        if name in names:
            raise UsageError(f"{names[name]} and {cell.path} would both have the id {name!r}; say another with --id")
        names[name] = cell.path
    sites = {place.site(cell)[0] for cell in grid.cells}
    if len(sites) == 1 and any(part.name == "layer" for part in grid.template.fields) and len(grid.values("layer")) > 1:
        raise UsageError(
            f"every layer would have the site {sites.pop()!r}; write e.g. blocks.{{layer}}.hook_resid_post"
        )


def check_reading(place: Place, cell: Cell, cfg: ArtifactConfig) -> None:
    """Refuse what a grid cannot hold, and captures that contradict what was read.

    Raises:
        FormatError: when it is no SAE.
        UsageError: when a capture contradicts the configuration, or is no number where one is needed.
    """
    kind = "transcoder" if isinstance(cfg, TranscoderConfig) else getattr(cfg, "kind", "sae")
    if kind != "sae":
        raise FormatError(cell.path, f"is a {kind.replace('_', ' ')}; only SAEs can be imported as a grid")
    captures, k = place.captures(cell), semantics_of(cfg).k
    stated = _number(captures, "k")
    if stated is not None and k is not None and stated != k:
        raise UsageError(f"{cell.path} says k = {captures['k']}, but k = {k:g} was given; pass --set k={{k}}")
    _seed(captures), _number(captures, "l1"), _number(captures, "l0")


def artifact(place: Place, cell: Cell, cfg: ArtifactConfig, record: Conversion) -> SaeArtifact:
    """Return the entry of a converted checkpoint."""
    captures, name, k = place.captures(cell), place.name(cell), record.semantics.k
    return SaeArtifact(
        kind="sae",
        id=name,
        path=name,
        architecture=cfg.architecture,  # type: ignore[arg-type]
        d_in=cfg.d_in,
        d_sae=cfg.d_sae,
        format=record.format,  # type: ignore[arg-type]
        site=place.site(cell)[0],
        sparsity=Sparsity(k=k, l1_coefficient=_number(captures, "l1"), l0_coefficient=_number(captures, "l0")),
        seed=_seed(captures),
        snapshot=str(captures["snapshot"]) if "snapshot" in captures else None,
        variant=_variant(place, captures, k),
        source_checkpoint=SourceCheckpoint(path=cell.path, sha256=record.source[0].sha256, tensors=record.plan),
    )


def with_place(cfg: ArtifactConfig, place: Place, cell: Cell) -> ArtifactConfig:
    """Return a configuration that says where its dictionary belongs; its function is the same."""
    known = cfg.metadata.model_dump(exclude_none=True)
    return cfg.model_copy(update={"metadata": SaelensMetadata.of({**known, **place.metadata(cell)})})


def slug(name: str) -> str:
    """Return a name as a key of a document.

    >>> slug("EleutherAI/pythia-70m"), slug("blocks.3.hook_resid_post")
    ('pythia-70m', 'blocks.3.hook_resid_post')
    """
    last = name.rstrip("/").split("/")[-1]
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", last).strip("-._")[:120] or "model"


def used_fields(text: str | None) -> frozenset[str]:
    """Return the fields in a text such as `blocks.{layer}.hook_resid_post`."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(text or "") if name)


def _segment(name: str, value: Capture) -> str:
    """Return a folder's name, e.g. `layer_03`, `seed_0` or `50M`."""
    if not isinstance(value, int):
        return value
    return f"{name}_{value:02d}" if name == "layer" else f"{name}_{value}"


def _number(captures: Captures, name: str) -> float | None:
    if name not in captures:
        return None
    try:
        return float(captures[name])
    except ValueError:
        raise UsageError(f"{name} = {captures[name]!r} is no number; call that field otherwise") from None


def _seed(captures: Captures) -> int | None:
    seed = captures.get("seed")
    if isinstance(seed, str) and not seed.isdecimal():
        raise UsageError(f"seed {seed!r} is no whole number; call that field otherwise")
    return None if seed is None else int(seed)


def _variant(place: Place, captures: Captures, k: float | None) -> str | None:
    """Return `variant` and every capture that has no place of its own, so that no two entries say the same."""
    sites = used_fields(place.hook) | used_fields(place.module)
    shown = {n: v for n, v in captures.items() if n not in sites and n not in OWN_FIELDS}
    shown |= {"k": captures["k"]} if "k" in captures and k is None else {}
    words = [str(captures["variant"])] if "variant" in captures else []
    return "-".join([*words, *(f"{name}_{value}" for name, value in shown.items())]) or None


def parsed_fields(words: Mapping[str, str]) -> dict[str, Capture]:
    """Return captures that were typed: whole numbers as such."""
    return {name: int(value) if value.isdecimal() else value for name, value in words.items()}
