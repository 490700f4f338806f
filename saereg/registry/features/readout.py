"""What a latent writes: its decoder direction times the unembedding of the model (nostalgebraist 2020, "logit lens").

Logits are those of a small step along the direction: of what stands between the site and the unembedding only the gain
of the final norm is folded in, and the mean that a LayerNorm takes off. The norm's division by the size of the whole
residual stream, the same for all entries, is left out, and so are later layers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saereg.errors import DataUnavailableError, SaeregError
from saereg.registry.files.opening import open_tensors
from saereg.registry.metrics.sources.checkpoints import find_tensor, place_of
from saereg.registry.model_checkpoint import Checkpoint, local_checkpoint
from saereg.schemas.manifest import CrosscoderArtifact

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.registry.release import ReleaseArtifact
    from saereg.schemas.manifest import Artifact, Manifest
    from saereg.schemas.site import Site

UNEMBEDDING = ("lm_head.weight", "embed_out.weight", "output_layer.weight", "transformer.ff_out.weight")
"""Ends of names of W_U, (vocabulary, d_model): Llama, OLMo, Qwen, Gemma; GPT-NeoX; ChatGLM; OLMo's own."""

EMBEDDING = ("embed_in.weight", "embed_tokens.weight", "wte.weight")
"""Ends of names of W_E, which is W_U too where both are tied: GPT-NeoX; Llama, OPT; GPT-2."""

CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Ends of the names of architectures that have an unembedding."""

NORMS: Mapping[str, tuple[str, bool, bool]] = {
    "gpt_neox": ("final_layer_norm.weight", True, False),
    "gpt2": ("ln_f.weight", True, False),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "olmo2", "phi3"), ("model.norm.weight", False, False)),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), ("model.norm.weight", False, True)),
}
"""Kind of model → (end of the name of the final norm's gain, whether the mean is taken off before, whether the gain is
1 + the weight). Of others nothing is folded in."""

BLOCK_BYTES = 32 * 1024**2
"""Bytes of the unembedding that are read at once."""

SHOWN = 10
"""Entries that are shown on each side."""


@dataclass(frozen=True)
class Readout:
    """Entries of the vocabulary with the largest and the smallest logits.

    Attributes:
        largest: (entry, logit) of each latent, the largest first.
        smallest: the same, the smallest first.
        note: what the numbers leave out.
    """

    largest: Sequence[Sequence[tuple[int, float]]]
    smallest: Sequence[Sequence[tuple[int, float]]]
    note: str


def model_of(artifact: "ReleaseArtifact", models: Mapping[str, str]) -> str:
    """Return the key of the model whose vocabulary a dictionary's latents can be read out in.

    Raises:
        DataUnavailableError: when they cannot; with the reason.
    """
    manifest, claim = artifact.release.manifest, artifact.claim
    site = _output(claim, manifest)
    if site.stream == "parameter":
        raise DataUnavailableError("the dictionary is of a parameter, and writes to no residual stream")
    if site.io != "output" or (site.hook_name or "").endswith((".hook_z", ".hook_q", ".hook_k", ".hook_v")):
        raise DataUnavailableError("its site does not write to the residual stream as it is")
    width = manifest.base_models[site.model].d_model
    found = getattr(claim, "d_out", None) or claim.d_in
    if width is not None and width != found:
        raise DataUnavailableError(f"its outputs have width {found}, the residual stream {width}")
    if site.model not in models:
        raise DataUnavailableError(f"the unembedding is not at hand; give --model {site.model}=FOLDER")
    return site.model


def _output(claim: "Artifact", manifest: "Manifest") -> "Site":
    if isinstance(claim, CrosscoderArtifact):
        raise DataUnavailableError("a crosscoder writes to several sources, and not to one residual stream")
    return manifest.sites[getattr(claim, "site_out", None) or claim.site]


def logits(artifact: "ReleaseArtifact", directions: "Tensor", models: Mapping[str, str]) -> Readout:
    """Return what latents do to the logits of the model.

    Args:
        artifact: the dictionary.
        directions: decoder rows of N latents, (N, d_model).
        models: key of a base model → folder.

    Raises:
        DataUnavailableError: when the unembedding is not at hand, or there is none; with the reason.
        OSError: when it cannot be read.
    """
    folder = _folder(models[model_of(artifact, models)])
    try:
        checkpoint = local_checkpoint(folder)
        name = unembedding(checkpoint)
        site = _output(artifact.claim, artifact.release.manifest)
        folded, note = (
            (directions.double(), _NO_NORM) if site.post_final_norm else _folded(folder, checkpoint, directions)
        )
        largest, smallest = _extremes(_blocks(folder, name, directions.shape[1]), folded)
    except DataUnavailableError as error:
        raise DataUnavailableError(error.why) from None
    except SaeregError as error:
        raise DataUnavailableError(f"the unembedding cannot be read: {str(error).splitlines()[0]}") from None
    return Readout(largest, smallest, note)


_NO_NORM = "decoder direction times W_U: the site is behind the final norm"


def _folder(model: str) -> Path:
    folder, repo = place_of(model, "--model KEY=FOLDER")
    if folder is None:
        raise DataUnavailableError(f"logits need the weights in a folder; fetch {repo}, and give --model KEY=FOLDER")
    return folder


def unembedding(checkpoint: Checkpoint) -> str:
    """Return the name of W_U in a checkpoint.

    Raises:
        DataUnavailableError: when the model has none.
    """
    own = _ending(UNEMBEDDING, checkpoint.names)
    if own is not None:
        return own
    tied = _ending(EMBEDDING, checkpoint.names)
    classes = checkpoint.config.get("architectures")
    named = [str(one) for one in classes] if isinstance(classes, list) else []
    if tied is None or not any(one.endswith(CAUSAL) for one in named):
        raise DataUnavailableError("the model has no unembedding: it predicts no tokens")
    if checkpoint.config.get("tie_word_embeddings") is False:
        raise DataUnavailableError("the checkpoint holds no unembedding, and says that it is not the embedding")
    return tied


def _ending(ends: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for end in ends for name in names if name == end or name.endswith(f".{end}")), None)


def _folded(folder: Path, checkpoint: Checkpoint, directions: "Tensor") -> "tuple[Tensor, str]":
    """Return directions as the unembedding reads them, float64, and what that leaves out."""
    kind = str(checkpoint.config.get("model_type"))
    end, centred, beyond_one = NORMS.get(kind, ("", False, False))
    name = _ending((end,), checkpoint.names) if end else None
    wide = directions.double()
    if name is None:
        return wide, "decoder direction times W_U; later layers and the final norm are left out"
    gain = open_tensors(find_tensor(folder, name, "--model KEY=FOLDER")).box(name, ((0, wide.shape[1]),)).double()
    if centred:
        wide = wide - wide.mean(1, keepdim=True)
    note = (
        "decoder direction times W_U, with the gain of the final norm folded in; later layers, and the norm's division"
    )
    return wide * (gain + 1 if beyond_one else gain), f"{note} by the size of the residual stream, are left out"


def _blocks(folder: Path, name: str, width: int) -> "Iterator[tuple[int, Tensor]]":
    """Yield (first entry, rows of W_U) in float64."""
    file = open_tensors(find_tensor(folder, name, "--model KEY=FOLDER"))
    shape = file.entries[name].shape
    if len(shape) != 2 or shape[1] != width:
        raise DataUnavailableError(f"the unembedding has shape {shape}; directions have width {width}")
    step = max(1, BLOCK_BYTES // (8 * width))
    for first in range(0, shape[0], step):
        yield first, file.box(name, ((first, min(shape[0], first + step)), (0, width))).double()


def _extremes(
    blocks: "Iterator[tuple[int, Tensor]]", directions: "Tensor"
) -> tuple[list[list[tuple[int, float]]], list[list[tuple[int, float]]]]:
    """Return the largest and the smallest logits of each direction; of equal ones those of smaller entries."""
    import torch

    held: dict[bool, tuple[Tensor, Tensor]] = {}
    for first, rows in blocks:
        found = directions @ rows.T
        numbers = torch.arange(first, first + len(rows)).expand(len(directions), -1)
        for descending in (True, False):
            values, entries = found, numbers
            if descending in held:
                values = torch.cat([held[descending][0], values], 1)
                entries = torch.cat([held[descending][1], entries], 1)
            order = values.argsort(dim=1, descending=descending, stable=True)[:, :SHOWN]
            held[descending] = values.gather(1, order), entries.gather(1, order)
    pairs = [
        [list(zip(e, v, strict=True)) for v, e in zip(values.tolist(), entries.tolist(), strict=True)]
        for values, entries in (held[True], held[False])
    ]
    return pairs[0], pairs[1]
