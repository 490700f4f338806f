"""From `residual:2` to a module of a concrete model, and what is proven about the tensor it gives."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from saereg.errors import UsageError
from saereg.registry.models.hooks import Place, run_at
from saereg.registry.models.model import LoadedModel, slug
from saereg.schemas.site import Site

if TYPE_CHECKING:
    from torch import Tensor

Stream = Literal["residual", "mlp", "attention", "embedding", "parameter"]

CHILDREN: dict[str, tuple[str, ...]] = {
    "mlp": ("mlp", "feed_forward", "feedforward", "ffn", "block_sparse_moe", "output.dense"),
    "attention": ("attention.output.dense", "self_attn", "self_attention", "attention", "attn"),
    "mlp_in": ("mlp", "feed_forward", "feedforward", "ffn", "block_sparse_moe", "intermediate"),
}
"""Stream → submodules of a layer that give it, in order of preference; of `mlp_in`, those that read it.

`attention.output.dense` comes before `attention`: in models like BERT the latter's output already has the residual
added and normalized. For the same reason `output` is never the MLP there, but `output.dense` is.
"""

HOOKS = {"residual": "hook_resid_post", "mlp": "hook_mlp_out", "attention": "hook_attn_out"}
"""Stream → TransformerLens' name in `blocks.L`."""

PROBE_TEXT = "The quick brown fox jumps over the lazy dog."
LEAST_PROBED = 8
"""Different tokens that a probe has at least, where the vocabulary has so many."""

SUM_TOLERANCE = 1e-3
"""Largest deviation of attention + MLP from the layer's contribution, relative to its largest element."""

SUM_ROUNDINGS = 2
"""How often a layer rounds to the type it runs in on its way from input to output: once per branch that it adds."""


@dataclass(frozen=True)
class ResolvedSite:
    """A site found in a model.

    Attributes:
        key: its name in documents.
        module: module path.
        layer: layer, counted from 0; None outside the layers.
        stream: kind of tensor.
        note: what must be said about it; None when there is nothing.
        io: whether it is what the module reads or what it gives.
    """

    key: str
    module: str
    layer: int | None
    stream: Stream
    note: str | None = None
    io: Literal["input", "output"] = "output"

    @property
    def place(self) -> Place:
        """Where the tensor is held in a forward pass."""
        return Place(self.module, self.io)


def resolve(spec: str, loaded: LoadedModel) -> ResolvedSite:
    """Find the module that a site specification names.

    Args:
        spec: `residual:L`, `mlp:L`, `attention:L`, `mlp_in:L` (what the MLP reads) with layers counted from 0, or
            `module=PATH`.
        loaded: the model.

    Raises:
        UsageError: when the specification does not parse, or the model has no such module.
    """
    if spec.startswith("module="):
        return _explicit(spec.removeprefix("module="), loaded)
    match = re.fullmatch(r"(residual|mlp|attention|mlp_in):(\d+)", spec)
    if not match:
        known = "residual:LAYER, mlp:LAYER, attention:LAYER, mlp_in:LAYER or module=PATH"
        raise UsageError(f"site {spec!r}: write {known}")
    stream, layer = match[1], int(match[2])
    path = _layer_path(layer, loaded)
    child = "" if stream == "residual" else f".{_child(loaded.model.get_submodule(path), path, stream)}"
    if stream == "mlp_in":
        return ResolvedSite(f"{stream}-{layer}", path + child, layer, "mlp", io="input")
    return ResolvedSite(f"{stream}-{layer}", path + child, layer, stream)  # type: ignore[arg-type]


def _layer_path(layer: int, loaded: LoadedModel) -> str:
    if loaded.layers is None:
        raise UsageError(f"{loaded.ref.id} has no single list of layers; name the module: module=PATH")
    count = len(loaded.model.get_submodule(loaded.layers))
    if layer >= count:
        raise UsageError(f"layer {layer}: {loaded.ref.id} has layers 0 to {count - 1}")
    return f"{loaded.layers}.{layer}"


def _child(layer: Any, path: str, stream: str) -> str:  # noqa: ANN401
    present = {name for name, _ in layer.named_modules()}
    for name in CHILDREN[stream]:
        if name in present:
            return name
    children = ", ".join(name for name, _ in layer.named_children())
    raise UsageError(f"{path} has no module known as {stream}; name one with module={path}.NAME (it has: {children})")


def _explicit(path: str, loaded: LoadedModel) -> ResolvedSite:
    known = {name for name, _ in loaded.model.named_modules()}
    if not path or path not in known:
        parent = next((p for p in _parents(path) if p in known), "")
        module = loaded.model.get_submodule(parent)
        children = ", ".join(name for name, _ in module.named_children())
        raise UsageError(f"{loaded.ref.id} has no module {path!r}; {parent or 'the model'} has: {children}")
    inside = re.fullmatch(rf"{re.escape(loaded.layers)}\.(\d+)(?:\.(.+))?", path) if loaded.layers else None
    if inside is None:
        stream: Stream = "embedding" if "embed" in path or "wte" in path else "residual"
        return ResolvedSite(slug(path), path, None, stream, f"the output of {path}, outside the layers")
    layer, rest = int(inside[1]), inside[2] or ""
    return ResolvedSite(slug(path), path, layer, _stream_of(rest), f"the output of {path}" if rest else None)


def locate(path: str, loaded: LoadedModel) -> str:
    """Return a module path as this model has it: with or without the name of the inner model in front.

    `gpt_neox.layers.3` of a model with its head is `layers.3` of the same model without it.

    Raises:
        UsageError: when the model has no such module.
    """
    inner = f"{loaded.model.base_model_prefix}."
    known = {name for name, _ in loaded.model.named_modules()}
    found = next((name for name in (path, inner + path, path.removeprefix(inner)) if name in known), None)
    return found if found is not None else _explicit(path, loaded).module


def _parents(path: str) -> Iterable[str]:
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _stream_of(rest: str) -> Stream:
    for stream in ("attention", "mlp"):
        if any(rest == name or rest.startswith(f"{name}.") for name in CHILDREN[stream]):
            return stream
    return "residual"


@dataclass(frozen=True)
class Probe:
    """What a forward pass over a few tokens showed.

    Attributes:
        outputs: module path → tensor (1, context, width).
        inputs: module path → what it reads, of sites that are such.
        hidden_states: transformers' own tuple, one more than there are layers.
        final_norm: whether hidden_states[-1] differs from the last layer's output.
    """

    outputs: Mapping[str, "Tensor"]
    inputs: Mapping[str, "Tensor"]
    hidden_states: tuple["Tensor", ...]
    final_norm: bool

    def at(self, site: ResolvedSite) -> "Tensor":
        """Return the tensor of a site, (1, context, width)."""
        return (self.outputs if site.io == "output" else self.inputs)[site.module]


def probe(loaded: LoadedModel, sites: Iterable[ResolvedSite]) -> Probe:
    """Run a few tokens with `output_hidden_states=True` and capture every layer and site."""
    import torch

    inputs = {"input_ids": torch.tensor([_probe_ids(loaded)], device=loaded.device)}
    layers = _layer_paths(loaded)
    wanted = [*map(Place, [*layers, *_parts(loaded, sites)]), *(site.place for site in sites)]
    found, output = run_at(loaded.model, wanted, {**inputs, "output_hidden_states": True})
    outputs = {place.module: tensor for place, tensor in found.items() if place.io == "output"}
    read = {place.module: tensor for place, tensor in found.items() if place.io == "input"}
    states = tuple(output.hidden_states or ())
    last = outputs[layers[-1]] if layers else None
    return Probe(outputs, read, states, last is not None and bool(states) and not _same(states[-1], last))


def _probe_ids(loaded: LoadedModel) -> list[int]:
    """Return tokens of a sentence; ids from all over the vocabulary where the tokenizer knows hardly a word of it.

    Tokens that are all the same, such as padding with its embedding of zeros, would make unlike tensors alike.
    """
    ids = list(loaded.tokenizer(PROBE_TEXT)["input_ids"])
    if len(set(ids)) >= LEAST_PROBED:
        return ids
    count = min(len(loaded.tokenizer), loaded.model.get_input_embeddings().weight.shape[0])
    usual = [token for token in range(count) if token not in set(loaded.tokenizer.all_special_ids)]
    return usual[:: max(1, len(usual) // LEAST_PROBED)][:LEAST_PROBED] or ids


def _same(left: "Tensor", right: "Tensor") -> bool:
    """Whether two tensors are bitwise the same; parts of a model may run in different types, which are never."""
    import torch

    return left.dtype == right.dtype and left.device == right.device and torch.equal(left, right)


def _layer_paths(loaded: LoadedModel) -> list[str]:
    if loaded.layers is None:
        return []
    return [f"{loaded.layers}.{layer}" for layer in range(len(loaded.model.get_submodule(loaded.layers)))]


def _parts(loaded: LoadedModel, sites: Iterable[ResolvedSite]) -> list[str]:
    """Return the attention and MLP modules of every layer in which a site lies, where they are known."""
    paths = []
    for layer in {site.layer for site in sites if site.layer is not None and site.stream != "residual"}:
        for stream in ("attention", "mlp"):
            module = _part(loaded, layer, stream)
            paths += [module] if module else []
    return paths


def _part(loaded: LoadedModel, layer: int, stream: str) -> str | None:
    try:
        return resolve(f"{stream}:{layer}", loaded).module
    except UsageError:
        return None


def describe(site: ResolvedSite, loaded: LoadedModel, seen: Probe) -> Site:
    """Return the record of a site: names only where they denote bitwise the same tensor, reasons where they do not."""
    index, why_index = _index(site, seen)
    hook, why_hook = _hook(site, loaded, seen)
    reasons = [reason for reason in (site.note, why_index, why_hook) if reason]
    return Site(
        model=slug(loaded.ref.id),
        layer=site.layer,
        stream=site.stream,
        module=site.module,
        io=site.io,
        hook_name=hook,
        hidden_states_index=index,
        post_final_norm=seen.final_norm and index is not None and index + 1 == len(seen.hidden_states),
        reason="; ".join(reasons) or None,
    )


def _index(site: ResolvedSite, seen: Probe) -> tuple[int | None, str | None]:
    """Prove on the probe which entry of hidden_states, if any, is this tensor."""
    tensor = seen.at(site)
    equal = [index for index, state in enumerate(seen.hidden_states) if _same(state, tensor)]
    if len(equal) > 1:
        return None, f"hidden_states {', '.join(map(str, equal))} are all the same on the probe, which proves nothing"
    if equal:
        return equal[0], None
    if site.stream != "residual" or site.layer is None:
        return None, None
    if site.layer + 2 == len(seen.hidden_states) and seen.final_norm:
        return None, f"hidden_states[{site.layer + 1}] is after the final norm"
    return None, f"hidden_states[{site.layer + 1}] is another tensor than the output of {site.module}"


def _hook(site: ResolvedSite, loaded: LoadedModel, seen: Probe) -> tuple[str | None, str | None]:
    """Return TransformerLens' name where it denotes this tensor: in pre-norm decoders whose layers add up."""
    if site.layer is None or site.stream not in HOOKS:
        return None, None
    if not loaded.causal:
        return None, "TransformerLens has no hook for it: not a decoder"
    if not seen.final_norm:
        return None, "TransformerLens' hooks are those of pre-norm models, and this is none"
    if site.io == "input":  # ln2.hook_normalized stands before the norm's weight and bias, hook_mlp_in before the norm
        return None, "TransformerLens has no hook for what the MLP reads"
    expected = _layer_path(site.layer, loaded) if site.stream == "residual" else _part(loaded, site.layer, site.stream)
    if site.module != expected:
        return None, f"TransformerLens has no hook at {site.module}"
    if site.stream != "residual" and (problem := _does_not_add_up(site.layer, loaded, seen)):
        return None, problem
    return f"blocks.{site.layer}.{HOOKS[site.stream]}", None


def _does_not_add_up(layer: int, loaded: LoadedModel, seen: Probe) -> str | None:
    """Return why layer output − layer input is not attention + MLP, as TransformerLens' hooks presume; else None.

    A norm behind a branch (sandwich norm, OLMo 2) or a residual multiplier breaks the sum. In a half-precision model
    the layer itself rounds: by half a unit in the last place of the stream at each branch, which may be as much as
    late layers add to a long stream; then nothing is proven.
    """
    import torch

    parts = [_part(loaded, layer, stream) for stream in ("attention", "mlp")]
    if None in parts or len(seen.hidden_states) <= layer:
        return "attention and MLP are not known apart: nothing shows that they add up to the layer"
    output, before = seen.outputs[_layer_path(layer, loaded)], seen.hidden_states[layer].float()
    attention, mlp = (seen.outputs[str(part)].float() for part in parts)
    contribution = output.float() - before
    largest = contribution.abs().max()
    stream = torch.maximum(output.float().abs(), before.abs()) + attention.abs()
    rounding = SUM_ROUNDINGS * torch.finfo(output.dtype).eps / 2 * stream
    if output.dtype != torch.float32 and bool(rounding.median() > contribution.abs().median() / 4):
        kind = str(output.dtype).removeprefix("torch.")
        return f"{kind} is too coarse to show that attention and MLP add up to the layer"
    if bool(((contribution - attention - mlp).abs() > SUM_TOLERANCE * largest + rounding).any()):
        return "attention and MLP do not add up to the layer: a norm or scale stands behind them"
    return None
