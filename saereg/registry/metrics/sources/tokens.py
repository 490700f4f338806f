"""Rows that a language model computes from stored tokens."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import UsageError, WeightsError
from saereg.registry.files.digest import sha256_of
from saereg.registry.metrics.sources.contexts import ContextFile
from saereg.registry.metrics.sources.shapes import check_regular
from saereg.registry.models.batched import at_places
from saereg.registry.models.hooks import Place
from saereg.registry.models.pinned import ONE_AT_A_TIME, PinnedModel
from saereg.registry.models.sites import locate
from saereg.schemas.evaluation import TokenRows
from saereg.schemas.site import Site

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.metrics.sources.opening import Surroundings
    from saereg.registry.models.model import LoadedModel

WINDOW_TOKENS = 8192
"""Tokens that are computed together: the contexts that begin in each stretch of so many, fewer for several sites.

Windows do not depend on which rows are asked for, so a row has the same digits whoever reads it, and they are long
enough that contexts of like lengths find each other.
"""

LEAST_WINDOW_TOKENS = 512
"""Where there are many sites."""


def open_tokens(evaluation: TokenRows, around: "Surroundings") -> "ModelRows":
    """Return the rows of an evaluation; nothing is read yet.

    Raises:
        WeightsError: when the manifest lacks a site, a site is that of a parameter, or rows are to be preprocessed.
    """
    path, manifest = around.root / evaluation.path, around.manifest
    keys = (*(evaluation.sites or (evaluation.site or "",)), *((evaluation.site_out,) if evaluation.site_out else ()))
    for key in keys:
        if key not in manifest.sites:
            raise WeightsError(path.name, f"the manifest has no site {key!r}")
        if manifest.sites[key].stream == "parameter":
            raise WeightsError(path.name, f"site {key!r} is a parameter: no tokens give its rows")
        if manifest.sites[key].model not in manifest.base_models:
            raise WeightsError(path.name, f"the manifest has no base model {manifest.sites[key].model!r}")
    if evaluation.preprocess != "none":
        said = f"rows computed from tokens cannot have `preprocess` {evaluation.preprocess!r}"
        raise WeightsError(path.name, f"{said}: store them, as an evaluation of activations")
    sites = [manifest.sites[key] for key in keys]
    target = sites.pop() if evaluation.site_out else None
    models = {
        key: PinnedModel(key, ref, around.models.get(key), evaluation.model_dtype, around.device)
        for key, ref in manifest.base_models.items()
        if key in {site.model for site in (*sites, *((target,) if target else ()))}
    }
    return ModelRows(path, evaluation, tuple(sites), target, models, around.digests.get(evaluation.path))


@dataclass(frozen=True)
class ModelRows:
    """Rows (n, D), or (n, K, D) with K sites, in the order of the tokens and in the type the model runs in.

    Attributes:
        path: file of contexts.
        evaluation: what the manifest says of them.
        places: the site of each source (one, unless for a crosscoder).
        target: the site of the targets, for a transcoder.
        models: base models of the sites, by key.
        sha256: digest of the file, where it is known already.
    """

    path: Path
    evaluation: TokenRows
    places: tuple[Site, ...]
    target: Site | None
    models: Mapping[str, PinnedModel]
    sha256: str | None = None
    _window: "dict[int, tuple[Tensor, Tensor]]" = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, object]:
        """Leave behind what was computed: another process computes it again."""
        names = ("path", "evaluation", "places", "target", "models", "sha256")
        return {name: self.__dict__[name] for name in names} | {"_window": {}}

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    @property
    def rows(self) -> int:
        """Rows, as the manifest says."""
        return self.evaluation.rows

    @property
    def excluded(self) -> tuple[str, ...]:
        """Tokens that become no rows."""
        return self.evaluation.excluded

    @property
    def has_target(self) -> bool:
        """Whether targets are those of another site."""
        return self.target is not None

    @cached_property
    def file(self) -> ContextFile:
        """The contexts, found to be what the manifest says.

        Raises:
            WeightsError: when they are not.
        """
        file = ContextFile(self.path)
        if file.rows != self.rows:
            said = f"{file.rows} tokens become rows, the manifest says {self.rows}"
            raise WeightsError(self.name, said, "kept" if file.masked else "tokens")
        leaves_out = file.rows < int(file.ends[-1])
        if leaves_out != bool(self.excluded):
            dropped = "leaves tokens out" if leaves_out else "leaves no token out"
            said = f"names {', '.join(self.excluded)}" if self.excluded else "names none"
            raise WeightsError(self.name, f"the file {dropped}, `excluded` of the evaluation {said}", "kept")
        return file

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file of contexts; a model is loaded once, and found to be the one that is meant."""
        return (self.path,)

    @property
    def identities(self) -> tuple[str, ...]:
        """What tells the models from others.

        Raises:
            DataUnavailableError: when one is not on this machine, or may be another than the manifest pins.
            WeightsError: when it is another.
        """
        return tuple(model.identity for model in self.models.values())

    def digest(self) -> str:
        """Return the SHA-256 of what decides the rows: the file, weights and configuration of the models, sites, type.

        Of the models what was found here is taken, whatever commit the manifest names.

        Raises:
            DataUnavailableError: when a model is not on this machine, or may be another than the manifest pins.
            WeightsError: when it is another.
        """
        if self.sha256 is None:
            check_regular(self.path)
        sites = (*self.places, *((self.target,) if self.target else ()))
        said = {
            "tokens": self.sha256 or sha256_of(self.path),
            "sites": [[self.models[site.model].identity, site.module, site.io] for site in sites],
            "target": self.target is not None,
            "excluded": self.excluded,
            "dtype": self.evaluation.model_dtype,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def model(self, key: str) -> "LoadedModel":
        """Return a base model, found to be able to read the contexts.

        Raises:
            DataUnavailableError: when it is not on this machine.
            WeightsError: when its weights are others, or a context is too long or has an id that it has not.
        """
        loaded = self.models[key].load()
        if key not in self._read_by:
            longest = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
            self.file.check_ids(loaded.model.get_input_embeddings().weight.shape[0], longest, loaded.ref.id)
            self._read_by.add(key)
        return loaded

    @cached_property
    def _read_by(self) -> set[str]:
        return set()

    def place(self, site: Site) -> Place:
        """Return where a site is in its model.

        Raises:
            WeightsError: when the model has no such module.
        """
        try:
            found = Place.of(site, site.hook_name or site.model)
            return Place(locate(found.module, self.model(site.model)), found.io)
        except UsageError as problem:
            if type(problem) is not UsageError:
                raise
            raise WeightsError(self.name, str(problem)) from None

    def shaped(self, x: "Tensor", site: Site) -> "Tensor":
        """Return rows (n, width) as a dictionary reads them: (n, heads, width) where the site is a `hook_z`."""
        if not (site.hook_name or "").endswith(".hook_z"):
            return x
        heads = self.model(site.model).model.config.get_text_config().num_attention_heads
        return x.reshape(len(x), heads, -1)

    def read(self, first: int, count: int) -> "tuple[Tensor, Tensor]":
        """Return (inputs, targets) of some rows; the windows that they lie in are computed, the last one is kept."""
        import torch

        file, pieces = self.file, []
        begin = int(torch.searchsorted(file.row_ends, first, right=True))
        last = int(torch.searchsorted(file.row_ends, first + count, right=False)) if count else begin
        windows = sorted({self._window_of(context) for context in range(begin, min(last + 1, file.contexts))})
        for window in windows:
            at, x, target = self._rows_of(window)
            span = slice(max(0, first - at), max(0, first + count - at))
            pieces.append((x[span], target[span]))
        inputs, targets = ([piece[i] for piece in pieces] for i in (0, 1))
        x = torch.cat(inputs) if len(inputs) > 1 else inputs[0]
        if self.target is None:
            return x, x
        return x, torch.cat(targets) if len(targets) > 1 else targets[0]

    @property
    def _window_tokens(self) -> int:
        return max(LEAST_WINDOW_TOKENS, WINDOW_TOKENS // (len(self.places) + (self.target is not None)))

    def _window_of(self, context: int) -> int:
        return int(self.file.ends[context] - self.file.lengths[context]) // self._window_tokens

    def _rows_of(self, window: int) -> "tuple[int, Tensor, Tensor]":
        """Return (first row, inputs, targets) of a window."""
        import torch

        file, tokens = self.file, self._window_tokens
        starts = file.ends - file.lengths
        first, last = (int(at) for at in torch.searchsorted(starts, torch.tensor([0, 1]) * tokens + window * tokens))
        with ONE_AT_A_TIME:
            held = self._window.get(window)
            if held is None:
                self._window.clear()
                held = self._window[window] = self._computed(first, last)
        return int(file.row_ends[first - 1]) if first else 0, *held

    def _computed(self, first: int, last: int) -> "tuple[Tensor, Tensor]":
        """Return inputs and targets of the kept tokens of some contexts."""
        import torch

        contexts, kept = self.file.read(first, last)
        sites = (*self.places, *((self.target,) if self.target else ()))
        at = [(site.model, self.place(site)) for site in sites]
        found: dict[tuple[str, Place], Tensor] = {}
        for key in dict.fromkeys(key for key, _ in at):
            places = tuple(place for of, place in at if of == key)
            held = _forward(self.model(key), places, contexts, self.name)
            for place in places:
                found[key, place] = torch.cat([one[place][mask] for one, mask in zip(held, kept, strict=True)])
        rows = [self.shaped(found[which], site) for which, site in zip(at, sites, strict=True)]
        target = rows.pop() if self.target else None
        if len({one.shape for one in rows}) > 1:
            raise WeightsError(self.name, f"the sites have widths {', '.join(str(one.shape[-1]) for one in rows)}")
        x = torch.stack(rows, 1) if self.evaluation.sites else rows[0]
        return x, x if target is None else target


def _forward(
    loaded: "LoadedModel", places: tuple[Place, ...], contexts: "list[Tensor]", name: str
) -> "list[dict[Place, Tensor]]":
    try:
        return at_places(loaded, places, contexts)
    except UsageError as problem:
        raise WeightsError(name, str(problem)) from None
    except IndexError as problem:  # positions that some models count otherwise than their configuration says
        longest = max(len(context) for context in contexts)
        raise WeightsError(name, f"{loaded.ref.id} cannot read contexts of {longest} tokens: {problem}") from None
