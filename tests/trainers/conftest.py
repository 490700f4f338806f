"""Tiny real transformers with random weights, made once, and one small collection that the training tests share."""

import random
from pathlib import Path

import pytest

from saereg.schemas.manifest import ReleaseInfo
from saereg.schemas.training import TrainConfig
from saereg.trainers.collect import CollectConfig, collect

WORDS = [f"word{i}" for i in range(40)]
INFO = ReleaseInfo(name="tiny", version="0.1.0", title="Tiny", license="mit")

SETTINGS = {
    "standard": {"l1_coefficient": 0.5},
    "topk": {"k": 4.0},
    "batchtopk": {"k": 4.0},
    "jumprelu": {"l0_coefficient": 0.01},
    "gated": {"l1_coefficient": 0.5},
}


def _tokenizer(special, framed, **names):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if framed:
        ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=special[0], **names)


@pytest.fixture(scope="session")
def neox(tmp_path_factory) -> Path:
    """A pre-norm decoder: three layers of width 16, EOS between documents, no BOS of its own accord."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-neox"
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    _tokenizer(["[UNK]", "<eos>"], False, eos_token="<eos>", bos_token="<eos>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    """A post-norm encoder: three layers of width 16, [CLS] … [SEP] around each context."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, architectures=["BertModel"],
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    _tokenizer(special, True, **names).save_pretrained(folder)
    return folder


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
            "optimization": {"tokens": 640, "batch_size": 32, "lr": 3e-3, "log_every": 5},
            "evaluation": {"rows": 300},
            "artifact": {"id": f"residual-1/{architecture}"},
        }
        return TrainConfig.model_validate(settings | changes)

    return make
