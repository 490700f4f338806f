"""A dictionary run from its file, block by block: neither matrix is ever in memory whole.

W_enc is read in blocks of rows while the product x_c·W_enc accumulates, then W_dec likewise while x_hat does. What is
held is the rows, their product (n, F), and one block; so n is kept small. Sums are in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saereg.registry.architectures import architecture_of
from saereg.registry.architectures.architecture import Latents, Weights
from saereg.registry.architectures.linear import (
    MATRICES,
    centred,
    decoder_norm,
    needs_decoder_norm,
    unscaled,
    with_output_bias,
)
from saereg.registry.architectures.normalization import normalize
from saereg.registry.files.memory import copied
from saereg.registry.files.tensors import TensorFile
from saereg.registry.readings.recipes import Recipes
from saereg.schemas.artifact_config import ArtifactConfig
from saereg.schemas.recipe import SourceTensor, Step


@dataclass(frozen=True)
class StreamedDictionary:
    """The weights of a dictionary on disk, with its configuration.

    Attributes:
        cfg: configuration.
        recipes: how its tensors are made from the file.
    """

    cfg: ArtifactConfig
    recipes: Recipes

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (f, x_hat) of a few rows, in float64.

        Args:
            x: (n, D), or (n, K, D) for a crosscoder.

        Returns:
            f (n, F), or (n, K, F) for a gate per source; x_hat of the shape of the output.

        Raises:
            OSError: when the file cannot be read.
        """
        latents = architecture_of(self.cfg).latents
        if latents is None:
            return self._run_whole(x)
        vectors = self._vectors()
        x_in, undo = normalize(x.double(), {**vectors, "W_dec": x.new_empty(0).double()}, self.cfg)
        f = self._encode(x_in, vectors, latents)
        x_hat = undo(self._decode(f, vectors))
        if "W_skip" in self.recipes.plan:
            x_hat = x_hat + self._skip(x.double())
        return f, x_hat

    def _run_whole(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run an architecture that needs its matrices whole; to a temporal one the rows are one text, in order."""
        from saereg.registry.checkpoint import Checkpoint
        from saereg.registry.dictionary import Dictionary

        weights = {name: self.recipes.whole(name).double() for name in self.recipes.plan}
        dictionary = Dictionary(Checkpoint(self.cfg, weights, "the streamed weights")).to(dtype=torch.float64)
        x = x.double()
        if architecture_of(self.cfg).context is None:
            f = dictionary.encode(x)
            return f, dictionary.decode(f, x)
        f = dictionary.encode(x[None])
        return f[0], dictionary.decode(f, x[None])[0]

    def _vectors(self) -> Weights:
        vectors = {name: self.recipes.whole(name).double() for name in self.recipes.plan if name not in MATRICES}
        if needs_decoder_norm(self.cfg):
            vectors["decoder_norm"] = decoder_norms(self.recipes, self._norm)
        return vectors

    def _norm(self, block: Tensor) -> Tensor:
        return decoder_norm(copied(block, torch.float64), self.cfg)

    def _encode(self, x_in: Tensor, vectors: Weights, latents: Latents) -> Tensor:
        # sources side by side; rows without sources stay as they are
        x_in = centred(x_in, vectors, self.cfg).flatten(1)
        product = torch.zeros(x_in.shape[0], self.cfg.d_sae, dtype=torch.float64)
        for first, block in _side_by_side(self.recipes).blocks("W_enc"):
            product.addmm_(x_in[:, first : first + len(block)], copied(block, torch.float64))
        return latents(product, vectors, self.cfg)

    def _decode(self, f: Tensor, vectors: Weights) -> Tensor:
        weighted, W_dec = unscaled(f, vectors, self.cfg), self.recipes.entry("W_dec")
        per_source = weighted.dim() == 3
        x_hat = torch.zeros(f.shape[0], *W_dec.shape[1:], dtype=torch.float64)
        for first, block in self.recipes.blocks("W_dec"):
            codes = weighted[..., first : first + len(block)]
            if per_source:
                x_hat += torch.einsum("nkf,fkd->nkd", codes, copied(block, torch.float64))
            else:
                x_hat += (codes @ copied(block, torch.float64).flatten(1)).reshape(-1, *W_dec.shape[1:])
        return with_output_bias(x_hat, vectors, self.cfg)

    def _skip(self, x: Tensor) -> Tensor:
        parts = [x @ copied(block, torch.float64).T for _, block in self.recipes.blocks("W_skip")]
        return torch.cat(parts, dim=1)


def streamed(cfg: ArtifactConfig, file: TensorFile) -> StreamedDictionary:
    """Return the dictionary in a file whose tensors have their canonical names and orientation."""
    plan = {name: SourceTensor(key=name) for name in file.entries}
    return StreamedDictionary(cfg, Recipes({"": file}, plan))


def decoder_norms(recipes: Recipes, norm: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `norm` of every block of decoder rows, joined along the latents."""
    joined: Tensor | None = None
    for first, block in recipes.blocks("W_dec"):
        part = norm(block)
        if joined is None:
            joined = part.new_empty(*part.shape[:-1], recipes.entry("W_dec").shape[0])
        joined[..., first : first + part.shape[-1]] = part
    return torch.empty(0) if joined is None else joined


def _side_by_side(recipes: Recipes) -> Recipes:
    """Return the recipes with W_enc as a matrix: in canonical order, sources stand side by side."""
    recipe = recipes.plan["W_enc"]
    if len(recipes.entry("W_enc").shape) == 2:
        return recipes
    merged = recipe.model_copy(update={"steps": (*recipe.steps, Step(do="merge_first_axes"))})
    return replace(recipes, plan={**recipes.plan, "W_enc": merged})
