"""Tiny real transformers, made once for all tests that run one."""

from pathlib import Path

import pytest

import tests.registry.factories  # noqa: F401 - one thread: several only wait for each other on so little
from tests.tiny_models import save_bert, save_gemma, save_neox, save_roberta

SAVE = {"neox": save_neox, "bert": save_bert, "roberta": save_roberta, "gemma": save_gemma}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return a function from `neox`, `bert`, `roberta` or `gemma` to the folder of such a model."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = SAVE[kind](tmp_path_factory.mktemp("models") / f"tiny-{kind}")
        return made[kind]

    return folder
