"""Read the outputs of modules during a forward pass, and stop the pass when all are there."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from saereg.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class _AllCaptured(Exception):  # noqa: N818 - it is a signal, not an error
    """Ends a forward pass: the layers behind the last hook are not needed."""


def capture(model: Any, modules: Iterable[str], inputs: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:  # noqa: ANN401
    """Run a model until every named module has answered once.

    Args:
        model: torch module.
        modules: module paths, e.g. `encoder.layer.2`.
        inputs: arguments of the forward pass, e.g. `input_ids` (batch, context).

    Returns:
        Module path → its output (batch, context, width); of a tuple, the first element.

    Raises:
        UsageError: when a module is not run in the forward pass, or gives no tensor.
    """
    return run_with_capture(model, modules, inputs, stop=True)[0]


def run_with_capture(
    model: Any,  # noqa: ANN401
    modules: Iterable[str],
    inputs: Mapping[str, "Tensor | bool"],
    *,
    stop: bool = False,
) -> tuple[dict[str, "Tensor"], Any]:
    """Run a model and return the outputs of the named modules and of the model (None when it was stopped).

    Raises:
        UsageError: when a module is not run in the forward pass, or gives no tensor.
    """
    import torch

    paths = tuple(dict.fromkeys(modules))
    captured: dict[str, Tensor] = {}
    handles = [_attach(model, path, captured, len(paths) if stop else None) for path in paths]
    output = None
    try:
        with torch.inference_mode():
            output = model(**inputs)
    except _AllCaptured:
        pass
    finally:
        for handle in handles:
            handle.remove()
    for path in paths:
        if path not in captured:
            raise UsageError(f"module {path!r} is not run in the model's forward pass; choose another site")
    return captured, output


def _attach(model: Any, path: str, captured: dict[str, "Tensor"], needed: int | None) -> Any:  # noqa: ANN401
    from torch import Tensor

    def keep(_module: object, _arguments: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if not isinstance(first, Tensor):
            raise UsageError(f"module {path!r} gives {type(first).__name__}, not a tensor; choose another site")
        captured[path] = first
        if len(captured) == needed:
            raise _AllCaptured

    return model.get_submodule(path).register_forward_hook(keep)
