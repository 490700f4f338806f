"""The trainers that `benchmarks/train.py` times, each in a process of its own.

    python benchmarks/train_work.py WHAT/WHO FOLDER SIZES

The process gets ready, takes one round of steps that is not counted, prints `ready`, takes a round for every line that
it reads and prints the seconds, and at the end of its input prints what it reached on held-out rows, and its largest
memory. WHAT is `topk`, `relu at the start` or `relu, sparse`; SIZES is JSON. All begin with the same weights and see
the same rows in the same order.
"""

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from metrics_work import peak_bytes
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

BIAS = {"topk": 0.0, "relu at the start": 0.0, "relu, sparse": -2.0}
"""What is trained → b_enc at the start, in standard deviations of pre-activations."""


class Trainer(ABC):
    """A dictionary, and one step of its training as its authors take it.

    Args:
        what: what is trained.
        weights: W_enc (d_in, F), W_dec (F, d_in) of unit norm, b_enc (F,), b_dec (d_in,).
        sizes: of `benchmarks/train.py`.
    """

    def __init__(self, what: str, weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
        self.topk, self.weights, self.sizes = what == "topk", weights, sizes
        self.d_in, self.d_sae = weights["W_enc"].shape

    @abstractmethod
    def step(self, x: Tensor) -> None:
        """Take a step."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_hat, and the penalty Σ f·‖W_dec‖ of each row."""


class OnSaelens(Trainer):
    """SAELens' SAETrainer, with its own classes or with ours."""

    classes = "topk", "standard"

    def __init__(self, what: str, weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
        super().__init__(what, weights, sizes)
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        sae_class, config_class = self.chosen(self.classes[0 if self.topk else 1])
        sparsity = {"k": sizes["k"]} if self.topk else {"l1_coefficient": sizes["l1"]}
        self.sae = sae_class(config_class(d_in=self.d_in, d_sae=self.d_sae, device=sizes["device"], **sparsity))
        with torch.no_grad():
            for name, value in weights.items():
                getattr(self.sae, name).copy_(value)
        config = SAETrainerConfig(
            total_training_samples=10**9, train_batch_size_samples=sizes["batch"], lr=sizes["lr"], lr_end=sizes["lr"],
            lr_scheduler_name="constant", lr_warm_up_steps=0, lr_decay_steps=0, device=sizes["device"],
            autocast=sizes["autocast"], logger=LoggingConfig(log_to_wandb=False),
        )  # fmt: skip
        self.trainer = SAETrainer(config, self.sae, iter(()))

    def chosen(self, architecture: str) -> Any:
        """Return the class of the dictionary, and that of its configuration."""
        from sae_lens.registry import get_sae_training_class

        return get_sae_training_class(architecture)

    def step(self, x: Tensor) -> None:
        """Take a step."""
        self.trainer.step(x)
        self.trainer.n_training_steps += 1

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_hat and the penalty."""
        f = self.sae.encode(x)
        return self.sae.decode(f), f @ self.sae.W_dec.norm(dim=1)


class Saereg(OnSaelens):
    """Ours: as `saereg train sae` sets it up."""

    def __init__(self, what: str, weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
        super().__init__(what, weights, sizes)
        from saereg.trainers.steps.optimizer import use_fused

        use_fused(self.trainer)

    def chosen(self, architecture: str) -> Any:
        """Return the class of the dictionary, and that of its configuration."""
        from saereg.trainers.steps.choice import FASTER

        return FASTER[architecture]


class DictionaryLearning(Trainer):
    """dictionary_learning's trainers, by their `update`: unit-norm decoder, gradients projected."""

    def __init__(self, what: str, weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
        super().__init__(what, weights, sizes)
        from dictionary_learning.trainers.standard import StandardTrainer
        from dictionary_learning.trainers.top_k import TopKTrainer

        common = {"steps": 10**6, "activation_dim": self.d_in, "dict_size": self.d_sae, "layer": 0, "lm_name": "none"}
        common |= {"lr": sizes["lr"], "warmup_steps": 0, "device": sizes["device"], "seed": 0}
        if self.topk:
            self.trainer = TopKTrainer(k=sizes["k"], **common)
        else:
            self.trainer = StandardTrainer(l1_penalty=sizes["l1"], sparsity_warmup_steps=None, **common)
        self.count = 0
        self.ae = self.trainer.ae
        with torch.no_grad():
            self.ae.encoder.weight.copy_(weights["W_enc"].T)
            self.ae.encoder.bias.copy_(weights["b_enc"])
            self.ae.decoder.weight.copy_(weights["W_dec"].T)

    def step(self, x: Tensor) -> None:
        """Take a step."""
        self.trainer.update(self.count, x)
        self.count += 1

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_hat and the penalty."""
        x_hat, f = self.ae(x, output_features=True)
        return x_hat, f @ self.ae.decoder.weight.norm(dim=0)


class Sparsify(Trainer):
    """sparsify's module in the loop of its trainer, which needs a language model: normalize, FVU, project, Adam."""

    def __init__(self, what: str, weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
        super().__init__(what, weights, sizes)
        from sparsify import SparseCoder, SparseCoderConfig

        self.sae = SparseCoder(self.d_in, SparseCoderConfig(num_latents=self.d_sae, k=sizes["k"]), sizes["device"])
        with torch.no_grad():
            self.sae.encoder.weight.copy_(weights["W_enc"].T)
            self.sae.encoder.bias.copy_(weights["b_enc"])
            self.sae.W_dec.copy_(weights["W_dec"])
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=sizes["lr"])
        self.since_fired = torch.zeros(self.d_sae, dtype=torch.long, device=sizes["device"])

    def step(self, x: Tensor) -> None:
        """Take a step."""
        self.sae.set_decoder_norm_to_unit_norm()
        out = self.sae(x)
        fired = torch.zeros_like(self.since_fired, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        out.fvu.backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.since_fired += len(x)
        self.since_fired[fired] = 0

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_hat; there is no penalty."""
        return self.sae(x).sae_out, x.new_zeros(len(x))


class Limit(Trainer):
    """The products with matrices that cannot be left out, and nothing else: one, or five of a dense dictionary."""

    def __init__(self, what: str, weights: dict[str, Tensor], sizes: dict[str, Any]) -> None:
        super().__init__(what, weights, sizes)
        self.dense = what == "relu at the start"
        self.out = weights["W_enc"].new_empty(sizes["batch"], self.d_sae)

    def step(self, x: Tensor) -> None:
        """Multiply."""
        kind = torch.bfloat16 if self.sizes["autocast"] else torch.float32
        with torch.autocast(x.device.type, dtype=kind) if self.sizes["autocast"] else nullcontext():
            f = (
                x @ self.weights["W_enc"]
                if self.sizes["autocast"]
                else torch.mm(x, self.weights["W_enc"], out=self.out)
            )
            if self.dense:
                x_hat = f @ self.weights["W_dec"]
                _ = f.T @ x_hat, x_hat @ self.weights["W_dec"].T, x.T @ f

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return nothing."""
        return torch.zeros_like(x), x.new_zeros(len(x))


WHO: dict[str, type[Trainer]] = {
    "saereg": Saereg,
    "SAELens": OnSaelens,
    "dictionary_learning": DictionaryLearning,
    "sparsify": Sparsify,
    "limit": Limit,
}


def batches(path: Path, sizes: dict[str, Any]) -> Iterator[Tensor]:
    """Yield the rows of the file again and again, never all of them at once."""
    with safe_open(path, "pt") as file:
        rows = file.get_slice("x")
        while True:
            for first in range(0, rows.get_shape()[0] - sizes["batch"] + 1, sizes["batch"]):
                yield rows[first : first + sizes["batch"]].to(sizes["device"])


def started_with(what: str, folder: Path, sizes: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights at the start, with the encoder's bias that goes with what is trained."""
    weights = load_file(folder / "weights.safetensors", device=sizes["device"])
    pre = load_file(folder / "held_out.safetensors", device=sizes["device"])["x"] @ weights["W_enc"][:, :256]
    weights["b_enc"] = torch.full((weights["W_enc"].shape[1],), BIAS[what] * float(pre.std()), device=pre.device)
    return weights


def reached(trainer: Trainer, folder: Path, sizes: dict[str, Any]) -> dict[str, float]:
    """Return the loss on held-out rows, over their variance: (‖x_hat − x‖² + l1·penalty)/‖x − mean‖²."""
    x = load_file(folder / "held_out.safetensors", device=sizes["device"])["x"]
    with torch.no_grad():
        x_hat, penalty = trainer.reconstruct(x)
    l1 = 0.0 if trainer.topk else sizes["l1"]
    total = (x_hat.float() - x).square().sum() + l1 * penalty.float().sum()
    return {"loss": float(total / (x - x.mean(dim=0)).square().sum())}


def memory(device: str) -> int | None:
    """Return the largest memory of this process so far, or of the device."""
    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else peak_bytes()


def wait(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main(name: str, folder: str, sizes_text: str) -> None:
    """Answer requests until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    sizes, place, (what, who) = json.loads(sizes_text), Path(folder), name.split("/")
    torch.set_num_threads(sizes["threads"])
    try:
        trainer = WHO[who](what, started_with(what, place, sizes), sizes)
    except ImportError as error:
        print(json.dumps({"missing": error.name or str(error)}), file=answers, flush=True)
        return
    if who != "limit":
        trainer.weights = {}  # it has its own by now
    rows = batches(place / "rows.safetensors", sizes)

    def steps() -> None:
        for _ in range(sizes["steps"]):
            trainer.step(next(rows))
        wait(sizes["device"])

    steps()
    print(json.dumps({"ready": peak_bytes()}), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        steps()
        print(time.perf_counter() - start, file=answers, flush=True)
    peak = memory(sizes["device"])
    found = {} if who == "limit" else reached(trainer, place, sizes)
    print(json.dumps({**found, "peak": peak}), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
