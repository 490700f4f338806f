"""Pretrain a small GPT-NeoX on real text, and keep it at the steps at which Pythia was kept: a folder per step.

Everything is offline: the text is what every Python installation carries (`builtin:prose`, see `saereg train collect`),
the tokenizer is trained on it, the weights begin at random. The same seed gives the same bytes on one machine.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saereg.schemas.schedule import PYTHIA

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

EOS = "<|endoftext|>"
"""Ends a document, as in Pythia."""

REPORT = "pretraining.json"
"""Written last: a folder that has it is finished."""

LOSS_STEPS = 100
"""Steps over which the loss is averaged where it is told."""


@dataclass(frozen=True)
class Plan:
    """How the model is trained: 21,000 steps of 4 contexts of 32 tokens, 2.7 million tokens of real text.

    Attributes:
        last: last step; of Pythia's steps those up to it are kept.
        vocabulary: entries of the vocabulary, which are the rows of W_E and W_U.
        width: d_model.
        batch: contexts per step.
        characters: how much text there is; the first 2.2 million do not depend on what else is installed.
        seed: random seed.
        context: tokens per context.
        layers: layers.
        heads: attention heads.
        lr: peak learning rate; it rises over 1 % of the steps and falls to a tenth on a cosine, as Pythia's.
    """

    last: int = 21_000
    vocabulary: int = 1024
    width: int = 64
    batch: int = 4
    characters: int = 2_200_000
    seed: int = 0
    context: int = 32
    layers: int = 2
    heads: int = 4
    lr: float = 2e-3

    @property
    def kept(self) -> tuple[int, ...]:
        """Steps of which there is a checkpoint: 0, 1, 2, 4 … 512, then every 1,000."""
        return tuple(step for step in PYTHIA if step <= self.last)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm_up = max(1, self.last // 100)
        if step < warm_up:
            return self.lr * (step + 1) / warm_up
        done = (step - warm_up) / max(1, self.last - warm_up)
        return self.lr * (0.55 + 0.45 * math.cos(math.pi * done))


QUICK = Plan(last=1000, vocabulary=320, width=16, batch=4, characters=400_000, context=16)
"""A toy of the same shape, for tests: 12 checkpoints in a few seconds."""


def texts(characters: int) -> list[str]:
    """Return documents of real prose, so many characters of them."""
    from saereg.trainers.collecting.corpus import Corpus

    found, left = [], characters
    for text in Corpus(["builtin:prose"]).read():
        if left <= 0:
            break
        found.append(text[:left])
        left -= len(text)
    return found


def train_tokenizer(documents: list[str], size: int) -> "PreTrainedTokenizerFast":
    """Return a byte-level BPE tokenizer of exactly `size` entries, trained on the documents.

    Its alphabet is the bytes of the documents: entries for others would never be seen, and be most of what is learned.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[EOS], show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    if tokenizer.get_vocab_size() != size:
        raise SystemExit(f"the text gives a vocabulary of {tokenizer.get_vocab_size()}, not {size}; use more text")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, bos_token=EOS, unk_token=EOS)


def token_stream(tokenizer: "PreTrainedTokenizerFast", documents: list[str]) -> "Tensor":
    """Return the tokens of all documents one after another, EOS behind each, int64, (tokens,)."""
    import torch

    encoded = tokenizer.backend_tokenizer.encode_batch(documents)
    return torch.tensor([token for one in encoded for token in (*one.ids, tokenizer.eos_token_id)])


def new_model(plan: Plan) -> "GPTNeoXForCausalLM":
    """Return a GPT-NeoX with random weights; W_E and W_U are two matrices, as in Pythia."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(plan.seed)
    config = GPTNeoXConfig(
        vocab_size=plan.vocabulary,
        hidden_size=plan.width,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        intermediate_size=4 * plan.width,
        max_position_embeddings=plan.context,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    return GPTNeoXForCausalLM(config)


def losses(model: "GPTNeoXForCausalLM", stream: "Tensor", plan: Plan) -> Iterator[tuple[int, float]]:
    """Train, and yield (steps done, loss of the last of them in nats); the first is (0, loss at the start)."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    random = torch.Generator().manual_seed(plan.seed)
    reach = torch.arange(plan.context + 1)
    for step in range(plan.last + 1):
        starts = torch.randint(len(stream) - plan.context, (plan.batch, 1), generator=random)
        tokens = stream[starts + reach]
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        yield step, float(loss.detach())
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(step)
        optimizer.step()
        optimizer.zero_grad()


def pretrain(out: Path, plan: Plan) -> dict[str, float]:
    """Write the tokenizer and a checkpoint per kept step, and return the loss at the start and at the end.

    Args:
        out: folder of the checkpoints `step0`, `step1`, `step2` …; what an unfinished run left is written over.
        plan: how the model is trained.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    documents = texts(plan.characters)
    tokenizer = train_tokenizer(documents, plan.vocabulary)
    stream = token_stream(tokenizer, documents)
    model = new_model(plan)
    tokenizer.save_pretrained(out)
    seen: list[float] = []
    for step, loss in losses(model, stream, plan):
        seen.append(loss)
        if step in plan.kept:
            model.save_pretrained(out / f"step{step}")
        if step in plan.kept and (step == 0 or step >= LOSS_STEPS):
            click.echo(f"step {step:>6}: loss {_mean(seen):.3f}")
    told = {"loss_at_start": seen[0], "loss_at_end": _mean(seen)}
    report = {"plan": asdict(plan), "tokens_of_text": len(stream), "tokens_seen": plan.last * plan.batch * plan.context}
    (out / REPORT).write_text(json.dumps(report | told, indent=2) + "\n", encoding="utf-8")
    return told


def _mean(seen: list[float]) -> float:
    last = seen[-LOSS_STEPS:]
    return sum(last) / len(last)


def _finished(out: Path, plan: Plan) -> bool:
    """Whether the folder holds all of this plan.

    Raises:
        ClickException: when it holds all of another one: their checkpoints would be mixed.
    """
    try:
        found = json.loads((out / REPORT).read_text(encoding="utf-8"))["plan"]
    except (OSError, ValueError, KeyError):
        return False
    if found != asdict(plan):
        raise click.ClickException(f"{out} holds another model: {found}; give another --out")
    return True


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of checkpoints.")
@click.option("--quick", is_flag=True, help="A toy for tests: 1,000 steps.")
@click.option("--threads", default=1, show_default=True, help="Threads of torch; more hardly help so small a model.")
def main(out: Path, quick: bool, threads: int) -> None:
    """Pretrain the model, unless OUT has it already."""
    plan = QUICK if quick else Plan()
    if _finished(out, plan):
        click.echo(f"{out} is there already: {len(plan.kept)} checkpoints")
        return
    import torch

    torch.set_num_threads(threads)
    told = pretrain(out, plan)
    falls = f"loss {told['loss_at_start']:.3f} → {told['loss_at_end']:.3f} (ln {plan.vocabulary} = "
    click.echo(f"{out}: {len(plan.kept)} checkpoints, {falls}{math.log(plan.vocabulary):.3f})")


if __name__ == "__main__":
    main()
