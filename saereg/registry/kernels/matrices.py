"""The two big matrices of a dictionary, slab of latents by slab: from memory, or from a file that is never read whole.

On a CPU, products of bfloat16 and float16 are 8 to 15 times slower than those of float32, so there slabs are made
float32 as they are used: the results then differ from those of the dictionary by its own rounding, and are the better
ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from saereg.registry.architectures.linear import decoder_norm, needs_decoder_norm
from saereg.registry.dictionary import Dictionary
from saereg.registry.files.tensors import full_box
from saereg.registry.readings.recipes import STRIDED, Recipes
from saereg.schemas.artifact_config import ArtifactConfig

NORM_SLAB_BYTES = 64 * 1024**2
"""Bytes of the decoder rows whose norms are taken at once."""


class Matrices(Protocol):
    """A dictionary's tensors. Shapes: W = d_in, or n_sources · d_in; F = d_sae; O = d_out, or n_sources · d_in."""

    @property
    def cfg(self) -> ArtifactConfig:
        """Configuration."""

    @property
    def dtype(self) -> torch.dtype:
        """Type in which products run."""

    @property
    def device(self) -> torch.device:
        """Where they run."""

    @property
    def are_copied(self) -> bool:
        """Whether every slab is made anew, and costs memory of its own."""

    @property
    def vectors(self) -> Mapping[str, Tensor]:
        """Every tensor but W_enc and W_dec; with `decoder_norm` where the architecture needs it."""

    def products(self, x: Tensor) -> Tensor | None:
        """Return x·W_enc (n, F) of rows (n, W) where W_enc is better read in rows; None where in slabs of columns."""

    def encoder(self, first: int, stop: int) -> Tensor:
        """Return columns of W_enc, (W, stop − first)."""

    def decoder(self, first: int, stop: int) -> Tensor:
        """Return rows of W_dec, (stop − first, O)."""


@dataclass(frozen=True)
class Loaded:
    """The matrices of a dictionary in memory.

    Attributes:
        dictionary: the dictionary.
    """

    dictionary: Dictionary

    @property
    def cfg(self) -> ArtifactConfig:
        """Configuration."""
        return self.dictionary.cfg

    @property
    def dtype(self) -> torch.dtype:
        """Type in which products run."""
        return fast_dtype(self.dictionary.dtype, self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.dictionary.device

    @property
    def are_copied(self) -> bool:
        """Whether they are of another type than products run in."""
        return self.dtype != self.dictionary.dtype

    @cached_property
    def vectors(self) -> Mapping[str, Tensor]:
        """Every tensor but W_enc and W_dec."""
        weights = self.dictionary.weights
        return _vectors(self, {name: weights[name] for name in weights if name not in ("W_enc", "W_dec")})

    def products(self, x: Tensor) -> None:
        """Return nothing: columns are at hand."""

    def encoder(self, first: int, stop: int) -> Tensor:
        """Return columns of W_enc."""
        return self.dictionary.weights["W_enc"][..., first:stop].flatten(0, -2).to(self.dtype)

    def decoder(self, first: int, stop: int) -> Tensor:
        """Return rows of W_dec."""
        return self.dictionary.weights["W_dec"][first:stop].flatten(1).to(self.dtype)


@dataclass(frozen=True)
class Stored:
    """The matrices of a dictionary in its files; slabs are read box by box, whatever the layout.

    Attributes:
        cfg: configuration.
        recipes: how its tensors are made from the files.
        dictionary_dtype: type that the weights are used in.
        device: where products run.
        block_bytes: bytes of the rows of W_enc that are read at once.
    """

    cfg: ArtifactConfig
    recipes: Recipes
    dictionary_dtype: torch.dtype
    device: torch.device
    block_bytes: int = 128 * 1024**2

    @property
    def dtype(self) -> torch.dtype:
        """Type in which products run."""
        return fast_dtype(self.dictionary_dtype, self.device)

    @property
    def are_copied(self) -> bool:
        """Always."""
        return True

    @cached_property
    def vectors(self) -> Mapping[str, Tensor]:
        """Every tensor but W_enc and W_dec."""
        names = [name for name in self.recipes.plan if name not in ("W_enc", "W_dec")]
        fixed = {name for name, spec in self.cfg.tensors().items() if spec.dtype is not None}
        fixed -= set(getattr(self.cfg, "dtypes", {}))
        found = {name: self.recipes.whole(name).to(self.device) for name in names}
        return _vectors(self, {n: t if n in fixed else t.to(self.dictionary_dtype) for n, t in found.items()})

    @property
    def in_rows(self) -> bool:
        """Whether the file holds the rows of W_enc together, and not its columns."""
        return not any(step.do in STRIDED for step in self.recipes.plan["W_enc"].steps)

    def products(self, x: Tensor) -> Tensor | None:
        """Return x·W_enc, summed over blocks of rows of W_enc: a file that is not in memory is read in order.

        Columns would be read in pieces of some kilobytes, five times slower from a disk.
        """
        if not self.in_rows:
            return None
        *sources, inputs, latents = self.recipes.entry("W_enc").shape
        step = max(1, self.block_bytes // (latents * self.dtype.itemsize))
        total = x.new_zeros(len(x), latents)
        for source in range(math.prod(sources)):
            axis = ((source, source + 1),) if sources else ()
            for first in range(0, inputs, step):
                stop = min(inputs, first + step)
                block = self._used(self.recipes.box("W_enc", (*axis, (first, stop), (0, latents)))).flatten(0, -2)
                total.addmm_(x[:, source * inputs + first : source * inputs + stop], block)
                del block  # before the next one is read
        return total

    def encoder(self, first: int, stop: int) -> Tensor:
        """Return columns of W_enc."""
        shape = self.recipes.entry("W_enc").shape
        return self._used(self.recipes.box("W_enc", (*full_box(shape[:-1]), (first, stop))).flatten(0, -2))

    def decoder(self, first: int, stop: int) -> Tensor:
        """Return rows of W_dec."""
        shape = self.recipes.entry("W_dec").shape
        return self._used(self.recipes.box("W_dec", ((first, stop), *full_box(shape[1:]))).flatten(1))

    def _used(self, slab: Tensor) -> Tensor:
        """Return a slab as the dictionary would use it: rounded to its type first, if it is stored in a wider one."""
        return slab.to(self.device).to(self.dictionary_dtype).to(self.dtype)


def fast_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the type in which products of a dictionary's weights run: float32 for narrower ones on a CPU."""
    return torch.promote_types(dtype, torch.float32) if device.type == "cpu" else dtype


def _vectors(matrices: Matrices, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return vectors, and W_skip, in the type of the products; statistics are float32 and stay it."""
    statistics = ("input_mean", "input_scale")
    vectors = {n: t if n in statistics else t.to(matrices.dtype) for n, t in tensors.items()}
    if needs_decoder_norm(matrices.cfg):
        vectors["decoder_norm"] = _decoder_norms(matrices)
    return vectors


def _decoder_norms(matrices: Matrices) -> Tensor:
    cfg, parts = matrices.cfg, []
    shape = cfg.tensors()["W_dec"].shape
    row = matrices.dtype.itemsize
    for size in shape[1:]:
        row *= size
    step = max(1, NORM_SLAB_BYTES // row)
    for first in range(0, cfg.d_sae, step):
        rows = matrices.decoder(first, min(cfg.d_sae, first + step))
        parts.append(decoder_norm(rows.reshape(len(rows), *shape[1:]), cfg))
    return torch.cat(parts, dim=-1)
