"""Hold or replace what modules read and give in a forward pass, and stop the pass when all is there."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from saereg.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.schemas.site import Site


@dataclass(frozen=True)
class Place:
    """Where in a model a tensor is.

    Attributes:
        module: module path, e.g. `encoder.layer.2`.
        io: whether it is what the module reads or what it gives.
    """

    module: str
    io: Literal["input", "output"] = "output"

    @classmethod
    def of(cls, site: "Site", name: str) -> "Place":
        """Return the place of a site.

        Raises:
            UsageError: when the site names no module of transformers.
        """
        if site.module is None:
            said = "hook names of TransformerLens do not say which tensor of transformers it is"
            raise UsageError(f"site {name} has no `module`, so no model can be run for it: {said}")
        return cls(site.module, site.io)


class _AllCaptured(Exception):  # noqa: N818 - it is a signal, not an error
    """Ends a forward pass: the layers behind the last hook are not needed."""


def run_at(
    model: Any,  # noqa: ANN401
    places: Iterable[Place],
    inputs: Mapping[str, "Tensor | bool"],
    *,
    stop: bool = False,
) -> tuple[dict[Place, "Tensor"], Any]:
    """Run a model and return what is at some places, and the model's output (None when it was stopped).

    Args:
        model: torch module.
        places: where to hold the tensor.
        inputs: arguments of the forward pass.
        stop: whether to end the pass as soon as all are held.

    Raises:
        UsageError: when a module is not run in the forward pass, or has no tensor there.
    """
    import torch

    wanted = tuple(dict.fromkeys(places))
    captured: dict[Place, Tensor] = {}
    handles = [_attach(model, place, _keeper(captured, place, len(wanted) if stop else None)) for place in wanted]
    output = None
    try:
        with torch.inference_mode():
            output = model(**inputs)
    except _AllCaptured:
        pass
    finally:
        for handle in handles:
            handle.remove()
    for place in wanted:
        if place not in captured:
            raise UsageError(f"module {place.module!r} is not run in the model's forward pass; choose another site")
    return captured, output


@contextlib.contextmanager
def replaced(model: Any, place: Place, value: "Tensor") -> Iterator[None]:  # noqa: ANN401
    """Put a tensor in the place of another while the block runs: whatever comes behind it reads the new one.

    Args:
        model: torch module.
        place: where.
        value: the new tensor; it takes the type and device of the old one.
    """
    handle = _attach(model, place, lambda old: value.to(old.device, old.dtype))
    try:
        yield
    finally:
        handle.remove()


def _keeper(captured: dict[Place, "Tensor"], place: Place, needed: int | None) -> "Callable[[Tensor], None]":
    def keep(tensor: "Tensor") -> None:
        captured[place] = tensor
        if len(captured) == needed:
            raise _AllCaptured

    return keep


def _attach(model: Any, place: Place, act: "Callable[[Tensor], Tensor | None]") -> Any:  # noqa: ANN401
    """Call a function with the tensor at a place; what it returns, unless None, takes the tensor's place."""
    module = model.get_submodule(place.module)
    if place.io == "output":
        return module.register_forward_hook(_output_hook(place.module, act))
    return module.register_forward_pre_hook(_input_hook(place.module, act), with_kwargs=True)


def _output_hook(path: str, act: "Callable[[Tensor], Tensor | None]") -> Callable[..., object]:
    def hook(_module: object, _arguments: object, output: object) -> object:
        new = act(_tensor(path, output[0] if isinstance(output, tuple) else output, "gives"))
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return hook


def _input_hook(path: str, act: "Callable[[Tensor], Tensor | None]") -> Callable[..., object]:
    def hook(_module: object, arguments: tuple[object, ...], named: dict[str, object]) -> object:
        name = None if arguments else "hidden_states" if "hidden_states" in named else next(iter(named), None)
        new = act(_tensor(path, named[name] if name else arguments[0] if arguments else None, "reads"))
        if new is None:
            return None
        return (arguments, named | {name: new}) if name else ((new, *arguments[1:]), named)

    return hook


def _tensor(path: str, found: object, does: str) -> "Tensor":
    from torch import Tensor

    if not isinstance(found, Tensor):
        raise UsageError(f"module {path!r} {does} {type(found).__name__}, not a tensor; choose another site")
    return found
