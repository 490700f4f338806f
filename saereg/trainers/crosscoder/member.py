"""One crosscoder in training: a step of Adam on a batch, and the whole state of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saereg.schemas.training import Optimization
from saereg.schemas.training_crosscoder import CrosscoderTrainConfig
from saereg.trainers.crosscoder.losses import Moment, Objective, objective
from saereg.trainers.crosscoder.model import SPLIT, Crosscoder
from saereg.trainers.crosscoder.starting import begin
from saereg.trainers.runs.controller import CoefficientController
from saereg.trainers.runs.member import Facts, Stepped
from saereg.trainers.runs.state import check_moments

if TYPE_CHECKING:
    from saereg.trainers.runs.state import Tree

REMEMBERED = 0.99
"""Weight of the past in the running threshold of batchtopk. Source: SAELens 6.54, `topk_threshold_lr` 0.01."""

FUSED = ("cpu", "cuda")
"""Devices on which Adam passes over weights, gradients and moments at once."""


@dataclass(frozen=True)
class _Sums:
    """What a step adds up over processes: the terms of the loss, active and dead latents."""

    terms: dict[str, float]
    active: float
    dead: float

    @property
    def loss(self) -> float:
        """The whole loss."""
        return sum(self.terms.values())


class CrosscoderMember:
    """A crosscoder and its optimizer.

    Args:
        config: its run.
        model: its weights.
        keys: keys of its sources in a batch, in their order.
    """

    def __init__(self, config: CrosscoderTrainConfig, model: Crosscoder, keys: Sequence[str]) -> None:
        self.config, self.model, self.keys = config, model, tuple(keys)
        self.steps = 0
        self.since_fired = torch.zeros(len(model.latents), dtype=torch.int64, device=model.device)
        self._optimizer = _optimizer(config, model)
        self._controller = _controller(config)

    @property
    def name(self) -> str:
        """Id of the artifact."""
        return self.config.artifact.id

    @property
    def coefficient(self) -> float:
        """λ of the next step."""
        if self._controller:
            return self._controller.value  # it warms up by itself
        full = self.config.crosscoder.l1_coefficient or 0.0
        return full * min(1.0, (self.steps + 1) / max(1, self.config.warm_up_steps))

    @property
    def dead(self) -> Tensor:
        """Which latents of this process have not been active for so long that they count as dead, (F,)."""
        return self.since_fired >= self.config.crosscoder.dead_after_steps

    def step(self, batch: Mapping[str, Tensor]) -> Stepped:
        """Take one step; see `Member`."""
        rows = torch.stack([batch[key] for key in self.keys], 1)
        x = self.model.normalized(rows)
        settings = self.config.crosscoder
        if self.steps == 0 and settings.architecture == "jumprelu" and settings.threshold is None:
            begin(self.model, x)
        coefficient, lr = self.coefficient, learning_rate(self.config.optimization, self.steps)
        found = objective(self.model, x, Moment(coefficient, self.dead))
        sums = self._added_up(found)
        self._descend(found.loss, lr)
        self._count(found, sums.active / self._gates(len(x)))
        return Stepped(sums.loss, self._facts(found, x, sums, {"lr": lr, "l1_coefficient": coefficient}))

    def state(self) -> "Tree":
        """Return all that the rest of the run depends on, of the latents of this process."""
        return {
            "model": self.model.state(),
            "optimizer": self._optimizer.state_dict(),
            "steps": self.steps,
            "since_fired": self.since_fired,
            "controller": self._controller.state() if self._controller else None,
        }

    def load(self, state: "Tree") -> None:
        """Go on from a state."""
        self.model.load(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        check_moments(self._optimizer)
        if state["since_fired"].shape != self.since_fired.shape:
            raise ValueError("since_fired has another shape")
        self.steps = state["steps"]
        self.since_fired = state["since_fired"].to(self.model.device)
        if self._controller:
            self._controller.load(state["controller"])

    def _gates(self, rows: int) -> int:
        return rows * (self.model.shape[0] if self.model.per_source else 1)

    def _added_up(self, found: Objective) -> _Sums:
        """Return the sums over all processes, in one exchange."""
        own = torch.stack([*found.own.values(), found.active, self.dead.sum()]).detach().double()
        *penalties, active, dead = self.model.group.sum_(own).tolist()
        terms = {name: float(value.detach()) for name, value in found.common.items()}
        return _Sums(terms | dict(zip(found.own, penalties, strict=True)), active, dead)

    def _descend(self, loss: Tensor, lr: float) -> None:
        """Take a step of Adam, on a gradient whose norm over all weights of all processes is at most `clip_norm`."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.crosscoder.clip_norm is not None:
            _clip(self.model, self.config.crosscoder.clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        self._optimizer.step()
        self.steps += 1

    @torch.no_grad()
    def _count(self, found: Objective, l0: float) -> None:
        """Take note of which latents were active, of L0, and of the cut of batchtopk."""
        self.since_fired = torch.where(found.fired, 0, self.since_fired + 1)
        if self._controller:
            self._controller.observe(l0)
        if found.cut is not None:
            new = max(1 - REMEMBERED, 1 / self.steps)  # the mean of few is their plain mean
            self.model.threshold = self.model.threshold + new * (found.cut - self.model.threshold)

    def _facts(self, found: Objective, x: Tensor, sums: _Sums, settings: Mapping[str, float]) -> Callable[[], Facts]:
        """Return what computes the facts of a step."""
        settings = {name: value for name, value in settings.items() if name == "lr" or not self.config.crosscoder.k}
        d_sae = self.config.crosscoder.d_sae

        def facts() -> Facts:
            residual = float((x - found.x_hat.detach()).double().square().sum())
            variance = float((x - x.mean(0)).double().square().sum())
            return {
                **sums.terms,
                "l0": sums.active / self._gates(len(x)),
                "explained_variance": 1 - residual / variance if variance else 0.0,
                "dead_fraction": sums.dead / d_sae,
                **settings,
            }

        return facts


def _controller(config: CrosscoderTrainConfig) -> CoefficientController | None:
    settings = config.crosscoder
    if settings.target_l0 is None:
        return None
    start, warm_up = settings.l1_coefficient or 0.0, settings.sparsity_warm_up_steps or 0
    return CoefficientController(settings.target_l0, start, config.optimization.steps, warm_up)


def learning_rate(run: Optimization, step: int) -> float:
    """Return the learning rate of a step, counted from 0: it rises linearly, stays, and falls linearly to zero."""
    rising = (step + 1) / max(1, run.lr_warm_up_steps)
    falling = (run.steps - step) / max(1, run.lr_decay_steps)
    return run.lr * min(1.0, rising, falling)


def _optimizer(config: CrosscoderTrainConfig, model: Crosscoder) -> torch.optim.Adam:
    factor = config.crosscoder.threshold_lr_factor
    groups = [
        {"params": [tensor for name, tensor in model.weights.items() if name != "log_threshold"], "factor": 1.0},
        {"params": [tensor for name, tensor in model.weights.items() if name == "log_threshold"], "factor": factor},
    ]
    fused = torch.device(model.device).type in FUSED
    return torch.optim.Adam([group for group in groups if group["params"]], lr=config.optimization.lr, fused=fused)


@torch.no_grad()
def _clip(model: Crosscoder, largest: float) -> None:
    squares = {name: _square(tensor.grad) for name, tensor in model.weights.items() if tensor.grad is not None}
    own = torch.stack([square for name, square in squares.items() if name in SPLIT]).sum()
    common = sum(square for name, square in squares.items() if name not in SPLIT)
    norm = math.sqrt(float(model.group.sum_(own) + common))
    if norm > largest:
        for tensor in model.weights.values():
            if tensor.grad is not None:
                tensor.grad.mul_(largest / norm)


def _square(gradient: Tensor) -> Tensor:
    """Return ‖g‖² in float64, of norms of parts in the type of the gradient: nothing of its size is copied."""
    norm: Tensor = torch.linalg.vector_norm(gradient)
    return norm.double().square()
