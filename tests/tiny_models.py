"""Tiny real transformers with random weights, in folders as the Hub has them."""

from pathlib import Path

WORDS = [f"word{i}" for i in range(40)]
LAYERS = 3


def save_neox(folder: Path, **settings) -> Path:
    """Write a pre-norm decoder: three layers of width 16, EOS between documents, no BOS of its own accord."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.3, **settings,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    _tokenizer(["[UNK]", "<eos>"], False, eos_token="<eos>", bos_token="<eos>").save_pretrained(folder)
    return folder


def save_bert(folder: Path) -> Path:
    """Write a post-norm encoder: three layers of width 16, [CLS] … [SEP] around each context."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, architectures=["BertModel"],
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    _tokenizer(special, True, **names).save_pretrained(folder)
    return folder


def save_roberta(folder: Path) -> Path:
    """Write an encoder that counts positions from the padding: those of pad tokens, of id 1, do not count."""
    import torch
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=66, initializer_range=0.3,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    return folder


def save_gemma(folder: Path) -> Path:
    """Write a decoder whose logits are capped behind its last linear map, tied to the embedding."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64, hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, intermediate_size=32, max_position_embeddings=64, initializer_range=0.3, sliding_window=8,
        final_logit_softcapping=3.0,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(folder)
    return folder


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
