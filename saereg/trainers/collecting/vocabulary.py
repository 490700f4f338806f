"""What W_U and W_E are called in checkpoints: told from the names of the tensors, not from the class of the model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saereg.errors import UsageError, did_you_mean
from saereg.registry.files.shard_index import ENDS
from saereg.registry.model_checkpoint import Checkpoint

UNEMBEDDING = (
    "lm_head.weight",
    "embed_out.weight",
    "output_layer.weight",
    "transformer.ff_out.weight",
    "cls.predictions.decoder.weight",
)
"""Ends of names of W_U, (vocabulary, d_model): Llama, OLMo, Qwen, Gemma; GPT-NeoX; ChatGLM; OLMo's own; BERT."""

EMBEDDING = (
    "embed_in.weight",
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "backbone.embeddings.weight",
    "backbone.embedding.weight",
    "shared.weight",
)
"""Ends of names of W_E, (vocabulary, d_model): GPT-NeoX; Llama, OLMo, OPT; GPT-2; Bloom, Falcon, BERT; InternLM; Mamba
(two); T5."""

ENDINGS = {"W_U": UNEMBEDDING, "W_E": EMBEDDING}
"""What the field calls a matrix → ends of its name."""


@dataclass(frozen=True)
class Found:
    """A tensor of a checkpoint.

    Attributes:
        tensor: its name.
        tied: whether it is both W_U and W_E.
    """

    tensor: str
    tied: bool = False


def resolve(parameter: str, checkpoint: Checkpoint, where: str, tensor: str | None = None) -> Found:
    """Find the tensor that W_U, W_E or its own name denotes.

    A checkpoint without a W_U holds one matrix for both, unless its configuration says otherwise: then it has no head.

    Args:
        parameter: `W_U`, `W_E`, or the name of a tensor.
        checkpoint: what the checkpoint says of itself.
        where: its name, for messages.
        tensor: name of the tensor, where it is known.

    Raises:
        UsageError: when there is no such tensor, or several may be meant.
    """
    names = checkpoint.names
    if tensor is not None or parameter not in ENDINGS:
        return Found(_present(tensor or parameter, names, where))
    if not names:
        raise UsageError(f"{where} is a pickle, which does not list its names: give that of {parameter} by --tensor")
    own, other = (_matching(ENDINGS[name], names) for name in (parameter, "W_E" if parameter == "W_U" else "W_U"))
    tied = checkpoint.config.get("tie_word_embeddings")
    if parameter == "W_U" and not own and other:
        if tied is False:
            raise UsageError(f"{where} has no W_U: a model without a head, whose config.json says that it is not tied")
        return Found(_only(parameter, other, where), tied=True)
    if not own:
        raise UsageError(f"{where}: none of its tensors is known as {parameter}; name it by --tensor; {_ends(names)}")
    return Found(_only(parameter, own, where), tied=parameter == "W_E" and not other and tied is True)


def _present(tensor: str, names: Sequence[str], where: str) -> str:
    if names and tensor not in names:
        guess = did_you_mean(tensor, names)
        raise UsageError(f"{where} has no tensor {tensor!r}; {f'did you mean {guess!r}?' if guess else _ends(names)}")
    return tensor


def _matching(endings: Iterable[str], names: Iterable[str]) -> list[str]:
    return [name for name in names if any(name == end or name.endswith(f".{end}") for end in endings)]


def _only(parameter: str, found: list[str], where: str) -> str:
    if len(found) > 1:
        raise UsageError(f"{where}: {', '.join(found)} may be {parameter}; say which by --tensor")
    return found[0]


def _ends(names: Iterable[str]) -> str:
    listed = [name for name in names if any(part in name.lower() for part in ENDS)][:4]
    return f"it holds {', '.join(listed)}" if listed else "it holds no tensor that is called like a vocabulary"
