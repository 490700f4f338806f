"""What config.json of a local run of the science-of-finetuning fork says: settings of training under `trainer`."""

import ast
from collections.abc import Mapping
from typing import Any


def trained(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the settings of a local run say, and among them the arguments of the class, which are words there."""
    trainer = config.get("trainer")
    return {**arguments_of(config), **trainer} if isinstance(trainer, dict) else {}


def arguments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the class among the settings of a local run."""
    trainer = config.get("trainer")
    arguments = trainer.get("dict_class_kwargs") if isinstance(trainer, dict) else None
    return {key: _value(word) for key, word in arguments.items()} if isinstance(arguments, dict) else {}


def _value(word: Any) -> Any:  # noqa: ANN401
    """Return the value that a word says in Python, e.g. "False"; any other word as it is."""
    try:
        return ast.literal_eval(word) if isinstance(word, str) else word
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return word


def bare(name: object) -> str:
    """Return the name of a code normalization without that of the enumeration, which local runs have before it."""
    return str(name).removeprefix("CodeNormalization.").upper()
