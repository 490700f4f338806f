"""What the names of a row say of its SAE: explicit words alone, and nothing where two of them contradict each other."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from saereg.registry.naming import Fact, Token, tokens_of

_HOOK = re.compile(
    r"(?<![A-Za-z0-9])blocks\.[0-9]{1,4}\."
    r"(?:attn\.hook_z|hook_(?:resid_pre|resid_mid|resid_post|mlp_in|mlp_out|attn_in|attn_out))(?![A-Za-z])"
)
"""A hook of TransformerLens, where a name holds it whole."""

_STREAMS = re.compile(
    r"hook_(?P<hook>resid|mlp_out|attn_out|z)(?:_(?:pre|mid|post))?(?![A-Za-z])"
    r"|(?:^|[/_.\-])(?P<folder>resid_post|resid_mid|resid_pre|mlp_out|attn_out)(?![A-Za-z])"
    r"|(?:^|[/_.\-])L[0-9]{1,4}(?P<scope>[RAM])(?![A-Za-z0-9])"
    r"|^(?P<embedding>embedding)(?=/)"
)
"""A place in the model, where a name says it: a hook, a folder of Gemma Scope, `L12R` of Llama Scope."""

_STREAM_OF = {"r": "residual", "m": "mlp", "a": "attention", "z": "attention", "e": "embedding"}
"""First letter of what `_STREAMS` finds → stream."""

_KIND = re.compile(r"(?:^|[/_.\-])(?P<kind>transcoder|crosscoder|clt)s?(?![A-Za-z])")

_SOURCE = re.compile(r"(?P<model>[^/]+)/(?P<layer>[0-9]{1,4}|e)-(?P<source>[^/]+)")
"""An id of Neuronpedia: `gemma-2-2b/0-gemmascope-res-16k`; `e` is the embedding."""

_SOURCE_STREAM = re.compile(r"(?<![a-z])(?P<stream>res|resid|att|attn|mlp)(?![a-z])")
_SOURCE_WIDTH = re.compile(r"(?<![0-9A-Za-z])(?P<width>[0-9]{1,4}[kKmM])(?![0-9A-Za-z])")

LOADED = {
    "gemma_2": "sae",
    "llama_scope": "sae",
    "llama_scope_r1_distill": "sae",
    "dictionary_learning_1": "sae",
    "deepseek_r1": "sae",
    "qwen_scope": "sae",
    "goodfire": "sae",
    "temporal": "sae",
    "connor_rob_hook_z": "sae",
    "gemma_2_transcoder": "transcoder",
    "mwhanna_transcoder": "transcoder",
    "mntss_clt_layer_transcoder": "transcoder",
}
"""Loader → kind of all that it makes: `sae_lens/loading/pretrained_sae_loaders.py` (6.54.12). `gemma_3`, `sparsify` and
SAELens' own layout hold more than one."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one name says.

    Attributes:
        tokens: numbers, by what they are of; several where a name says it several times.
        hook_name: hook of TransformerLens.
        stream: where in the model.
        kind: `transcoder`, `crosscoder` or `clt`.
    """

    tokens: Mapping[Fact, tuple[Token, ...]] = field(default_factory=dict)
    hook_name: str | None = None
    stream: str | None = None
    kind: str | None = None

    def one(self, fact: Fact) -> Token | None:
        """Return the one token of a fact; None where the name has none, or several that differ."""
        found = self.tokens.get(fact, ())
        if len(found) > 1 and any(token.ranges != found[0].ranges for token in found):
            return None
        return found[0] if found else None


@lru_cache(maxsize=65_536)
def said_by(name: str) -> Said:
    """Return what an id or a path says."""
    hook, kind = _HOOK.search(name), _KIND.search(name)
    streams = {_stream(match) for match in _STREAMS.finditer(name)}
    return Said(
        tokens=tokens_of(name),
        hook_name=hook.group() if hook else None,
        stream=streams.pop() if len(streams) == 1 else None,
        kind=kind["kind"] if kind else None,
    )


def _stream(match: re.Match[str]) -> str:
    text = next(part for part in match.groups() if part)
    return _STREAM_OF[text[0].lower()]


@dataclass(frozen=True, slots=True)
class Source:
    """What an id of Neuronpedia says.

    Attributes:
        model: the model, by Neuronpedia's name.
        layer: the layer; None for the embedding.
        stream: where in the model.
        width: number of latents.
    """

    model: str
    layer: int | None
    stream: str | None
    width: Token | None


def source_of(neuronpedia: str) -> Source | None:
    """Return what an id of Neuronpedia says; None where it is in no known form."""
    match = _SOURCE.fullmatch(neuronpedia)
    if match is None:
        return None
    stream, width = _SOURCE_STREAM.search(match["source"]), _SOURCE_WIDTH.findall(match["source"])
    return Source(
        model=match["model"],
        layer=None if match["layer"] == "e" else int(match["layer"]),
        stream=_STREAM_OF[stream["stream"][0]] if stream else None,
        width=said_by(f"width_{width[0]}").one("width") if len(width) == 1 else None,
    )


def layer_of(said: Said) -> int | None:
    """Return the layer that a name states."""
    token = said.one("layer")
    return int(token.ranges[0][0]) if token else None


def width_of(said: Said) -> int | None:
    """Return the number of latents that a name states: written out, or as the one power of two that `16k` can be."""
    token = said.one("width")
    return _width(token) if token else None


MOST = 2**31
"""Latents that no dictionary has: a longer number in a name is something else."""


@lru_cache(maxsize=4096)
def _width(token: Token) -> int | None:
    if all(low == high for low, high in token.ranges):
        return int(token.ranges[0][0]) if len(token.ranges) == 1 and token.ranges[0][0] < MOST else None
    powers = [2**power for power in range(6, 31) if token.fits(2**power)]
    return powers[0] if len(powers) == 1 else None


READ: dict[str, Callable[[Said], int | str | None]] = {
    "layer": layer_of,
    "d_sae": width_of,
    "hook_name": lambda said: said.hook_name,
    "stream": lambda said: said.stream,
}
"""Field of an artifact → what a name says of it."""


def same_model(ours: str, theirs: str) -> bool:
    """Whether two names can be of one model: `meta-llama/Meta-Llama-3-8B-Instruct` and `llama3-8b-it` can."""
    return _plain(ours) == _plain(theirs)


def _plain(model: str) -> str:
    name = re.sub(r"[-_.]instruct$", "-it", model.rpartition("/")[2].lower())
    name = re.sub(r"[-_.](?:pt|base)$", "", name)  # pretrained: what a model is where nothing else is said
    name = re.sub(r"^meta(?=llama)", "", re.sub(r"[^a-z0-9]+", "", name))
    return "gpt2" if name == "gpt2small" else name  # on the Hub it has no size, and TransformerLens takes both
