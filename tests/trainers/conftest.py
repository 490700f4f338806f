"""Tiny real transformers, made once, and one small collection that the training tests share."""

import random
from pathlib import Path

import pytest

from saereg.schemas.manifest import ReleaseInfo
from saereg.schemas.training import TrainConfig
from saereg.trainers.collecting.collect import CollectConfig, collect
from tests.tiny_models import WORDS, save_bert, save_neox

INFO = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")

SETTINGS = {
    "standard": {"l1_coefficient": 0.5},
    "topk": {"k": 4.0},
    "batchtopk": {"k": 4.0},
    "jumprelu": {"l0_coefficient": 0.01},
    "gated": {"l1_coefficient": 0.5},
    "matryoshka_batchtopk": {"k": 4.0, "matryoshka_widths": (12, 24)},
}


@pytest.fixture(scope="session")
def neox(tmp_path_factory) -> Path:
    """A pre-norm decoder."""
    return save_neox(tmp_path_factory.mktemp("models") / "tiny-neox")


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    """A post-norm encoder."""
    return save_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    """A folder of documents of uneven length, with some words that no vocabulary has."""
    folder = tmp_path_factory.mktemp("texts")
    chance = random.Random(0)
    for number in range(60):
        words = chance.choices([*WORDS, "unheard"], k=chance.randint(3, 90))
        (folder / f"{number:02d}.txt").write_text(" ".join(words))
    return folder


@pytest.fixture(scope="session")
def collecting(neox, texts):
    """Return a function from (folder, changes) to a small configuration of a collection."""

    def make(out: Path, **changes) -> CollectConfig:
        settings = {
            "model": str(neox), "corpus": (str(texts),), "sites": ("residual:1",), "out": out, "rows": 1000,
            "context_size": 16, "batch_contexts": 8, "shard_rows": 300,
        }  # fmt: skip
        return CollectConfig(**(settings | changes))

    return make


@pytest.fixture(scope="session")
def collection(collecting, tmp_path_factory) -> Path:
    """A finished collection of 2000 rows of width 16 at residual-1."""
    folder = tmp_path_factory.mktemp("collection") / "acts"
    collect(collecting(folder, rows=2000))
    return folder


@pytest.fixture(scope="session")
def training(collection):
    """Return a function from (architecture, changes) to the configuration of a run of 20 steps."""

    def make(architecture: str, **changes) -> TrainConfig:
        settings = {
            "collection": str(collection),
            "site": "residual-1",
            "sae": {"architecture": architecture, "d_sae": 48, **SETTINGS[architecture], **changes.pop("sae", {})},
            "optimization": {
                "tokens": 640,
                "batch_size": 32,
                "lr": 3e-3,
                "log_every": 5,
                **changes.pop("optimization", {}),
            },
            "evaluation": {"rows": 300},
            "artifact": {"id": f"residual-1/{architecture}"},
        }
        return TrainConfig.model_validate(settings | changes)

    return make
