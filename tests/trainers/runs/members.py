"""A small dictionary with everything that a state can hold, and runs of it, for tests of the loop."""

from collections.abc import Iterator
from pathlib import Path

import torch

from saereg.trainers.runs.loop import Places, RunPlan, run
from saereg.trainers.runs.member import Stepped

STEPS = 12
WIDTH = 4


class TinyMember:
    """A linear autoencoder with Adam, a falling learning rate, and noise of a generator of its own."""

    def __init__(self, name: str = "tiny", seed: int = 0, broken_at: int = -1, loss_at: tuple[int, float] = (-1, 0.0)):
        self.name, self.broken_at, self.loss_at = name, broken_at, loss_at
        self.generator = torch.Generator().manual_seed(seed)
        self.weights = torch.nn.Parameter(torch.randn(WIDTH, WIDTH, generator=self.generator))
        self.optimizer = torch.optim.Adam([self.weights], lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.1, total_iters=STEPS)
        self.steps = 0

    def step(self, batch):
        x = batch["x"] + 0.1 * torch.randn(batch["x"].shape, generator=self.generator)
        loss = (x @ self.weights - batch["x"]).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        self.steps += 1
        if self.steps == self.broken_at:
            self.weights.data[0, 0] = float("nan")
        value = self.loss_at[1] if self.steps == self.loss_at[0] else float(loss)
        return Stepped(value, lambda: {"lr": self.scheduler.get_last_lr()[0], "odd": float("inf")})

    def state(self):
        return {
            "weights": self.weights,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "steps": self.steps,
        }

    def load(self, state):
        self.weights.data.copy_(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["generator"])
        self.steps = state["steps"]


def batches(skip: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the batches of a run behind some."""
    generator = torch.Generator().manual_seed(7)
    for step in range(STEPS):
        rows = torch.randn(8, WIDTH, generator=generator)
        if step >= skip:
            yield {"x": rows}


def places(folder: Path, *names: str) -> Places:
    """Return where a run writes."""
    return Places(folder / "state", {name: folder / name / "training.log" for name in names})


def go(folder: Path, *members: TinyMember, identity=None, on_snapshot=None, progress=None, source=batches, **plan):
    """Run members to the end; return the bytes of what they end with."""
    members = members or (TinyMember(),)
    run(
        members,
        source,
        RunPlan(**({"steps": STEPS, "batch_size": 8, "checkpoint_every": 3} | plan)),
        places(folder, *(member.name for member in members)),
        identity or {"lr": 0.01},
        on_snapshot=on_snapshot,
        progress=progress,
    )
    return ended(folder, *members)


def ended(folder: Path, *members: TinyMember) -> list[bytes]:
    """Return the logs and the whole state of members, as bytes."""
    logs = [(folder / member.name / "training.log").read_bytes() for member in members]
    moments = [part for member in members for part in member.optimizer.state_dict()["state"][0].values()]
    tensors = [tensor for member in members for tensor in (member.weights.detach(), member.generator.get_state())]
    return [*logs, *(tensor.numpy().tobytes() for tensor in [*tensors, *moments])]
