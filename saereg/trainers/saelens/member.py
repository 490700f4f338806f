"""One dictionary in training on SAELens' SAETrainer: the steps of its `fit`, one by one, with a state to go on from."""

import contextlib
import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from saereg.schemas.training import TrainConfig
from saereg.trainers.runs.member import Facts, Stepped
from saereg.trainers.runs.state import check_moments
from saereg.trainers.saelens.build import DECODER_INIT_NORM
from saereg.trainers.saelens.resampling import Resampler
from saereg.trainers.saelens.steering import active_per_row, steered_of
from saereg.trainers.saelens.transcoder import Scale, side_by_side

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.trainers.runs.state import Tree

COUNTERS = (
    "n_training_samples",
    "n_training_steps",
    "act_freq_scores",
    "n_forward_passes_since_fired",
    "n_frac_active_samples",
    "started_fine_tuning",
)
"""Attributes of SAETrainer that its own checkpoints hold."""


@dataclass(frozen=True)
class Fitted:
    """A trained dictionary, still of its training class, with the input scale folded in, on the CPU.

    Attributes:
        sae: SAELens' TrainingSAE.
        steps: optimizer steps.
        tokens: rows seen, counting repetitions.
        input_scale: factor that inputs were multiplied by during training, of a transcoder that of inputs and that of
            outputs; None for none.
    """

    sae: Any
    steps: int
    tokens: int
    input_scale: Scale


class SaeMember:
    """A dictionary and its trainer.

    Args:
        config: its run.
        trainer: SAELens' SAETrainer.
    """

    def __init__(self, config: TrainConfig, trainer: Any) -> None:  # noqa: ANN401
        self.config, self.trainer = config, trainer
        self._steered = steered_of(trainer)
        steps, norm = config.sae.resample_steps, 1.0 if config.sae.decoder_norm == "unit" else DECODER_INIT_NORM
        self._resampler = Resampler(trainer, steps, config.seed, norm) if steps else None

    @property
    def name(self) -> str:
        """Id of the artifact."""
        return self.config.artifact.id

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites that it reads."""
        return tuple(site for site in (self.config.site, self.config.site_out) if site)

    @property
    def steered(self) -> float | None:
        """The sparsity coefficient as it is now, where it is steered to an L0."""
        return None if self._steered is None else self._steered.value

    @property
    def needs_scale(self) -> bool:
        """Whether an input scale is to be estimated before the first step."""
        return (
            self.trainer.sae.cfg.normalize_activations == "expected_average_only_in"
            and self.trainer.activation_scaler.scaling_factor is None
        )

    def rows_of(self, batch: "Mapping[str, Tensor]") -> "Tensor":
        """Return what its trainer reads of a batch."""
        inputs, out = batch[self.config.site], self.config.site_out
        return inputs if out is None else side_by_side(inputs, batch[out])

    def estimate_scale(self, batches: "Iterator[Mapping[str, Tensor]]") -> None:
        """Estimate the input scale as SAETrainer.fit does; one batch is in memory at a time."""
        with contextlib.redirect_stderr(io.StringIO()):  # it draws a progress bar
            self.trainer.activation_scaler.estimate_scaling_factor(
                d_in=self.trainer.sae.cfg.d_in,
                data_provider=(self.rows_of(batch) for batch in batches),
                n_batches_for_norm_estimate=self.trainer.cfg.n_batches_for_norm_estimate,
            )

    def step(self, batch: "Mapping[str, Tensor]") -> Stepped:
        """Take one step; see `Member`."""
        trainer = self.trainer
        trainer.maybe_reset_sparsity()
        lr = trainer.optimizer.param_groups[0]["lr"]
        coefficients = dict(trainer.get_coefficients())
        rows = self.rows_of(batch)
        output = trainer.step(rows)
        trainer.n_training_steps += 1
        if self._steered is not None:
            self._steered.observe(output)
        if self._resampler is not None:
            self._resampler.after(trainer.n_training_steps, lambda: self._read_by_encoder(rows), output)
        return Stepped(
            float(output.loss.detach()),
            lambda: self._facts(output, lr, coefficients),
            lambda: trainer.build_train_step_log_dict(output=output, n_training_samples=trainer.n_training_samples),
        )

    def _read_by_encoder(self, rows: "Tensor") -> "Tensor":
        """Return the part of a batch that the encoder reads, scaled (n, d_in)."""
        scaled: Tensor = self.trainer.activation_scaler(rows.to(self.trainer.sae.device))
        return scaled[:, : self.trainer.sae.cfg.d_in]

    def _facts(self, output: Any, lr: float, coefficients: Mapping[str, float]) -> Facts:  # noqa: ANN401
        """Return the losses of a step, and L0, explained variance and dead fraction as its batch shows them.

        Explained variance is 1 − SSE/SST of the batch: SSE the sum of squared errors, SST that of squared distances
        from the mean of the batch, both in the units of `sae_in` (of a transcoder, of what it predicts), in float32.
        """
        x, x_hat = output.sae_in.detach().float(), output.sae_out.detach().float()
        residual = float((x_hat - x).square_().sum())
        variance = float(x.var(dim=0, correction=0).sum()) * len(x)
        resampled = {} if self._resampler is None else {"resampled": self._resampler.count}
        return {
            **{name: float(value.detach()) for name, value in output.losses.items()},
            "l0": active_per_row(output.feature_acts),
            "explained_variance": 1 - residual / variance if variance else 0.0,
            "dead_fraction": float(self.trainer.dead_neurons.float().mean()),
            "lr": lr,
            **{f"{name}_coefficient": value for name, value in coefficients.items()},
            **resampled,
        }

    def state(self) -> "Tree":
        """Return all that the rest of the run depends on."""
        trainer = self.trainer
        return {
            "sae": dict(trainer.sae.state_dict()),
            "optimizer": trainer.optimizer.state_dict(),
            "lr_scheduler": trainer.lr_scheduler.state_dict(),
            "coefficients": {name: one.state_dict() for name, one in trainer.coefficient_schedulers.items()},
            "counters": {name: getattr(trainer, name) for name in COUNTERS},
            "input_scale": trainer.activation_scaler.scaling_factor,
            "resampling": self._resampler.state() if self._resampler is not None else None,
        }

    def load(self, state: "Tree") -> None:
        """Go on from a state."""
        trainer = self.trainer
        trainer.sae.load_state_dict(state["sae"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        check_moments(trainer.optimizer)
        trainer.lr_scheduler.load_state_dict(state["lr_scheduler"])
        for name, one in state["coefficients"].items():
            trainer.coefficient_schedulers[name].load_state_dict(one)
        for name in COUNTERS:
            value = state["counters"][name]
            if getattr(value, "shape", None) != getattr(getattr(trainer, name), "shape", None):
                raise ValueError(f"{name} has another shape")
            setattr(trainer, name, value.to(trainer.cfg.device) if hasattr(value, "to") else value)
        trainer.activation_scaler.scaling_factor = state["input_scale"]
        if self._resampler is not None:
            self._resampler.load(state["resampling"])

    def fitted(self) -> Fitted:
        """Return the dictionary as it is now, as a copy of its own: training can go on."""
        trainer = self.trainer
        training, scale = trainer.sae, trainer.activation_scaler.scaling_factor
        trainer.sae = copy.deepcopy(training)
        if self.config.sae.l0_coefficient is not None:
            # SAELens does so before each step, so that the last one may have left a JumpReLU below zero
            trainer.sae.threshold.data.clamp_(min=0)
        try:
            if scale is not None:
                trainer.sae.fold_activation_norm_scaling_factor(scale)
                if self.config.sae.decoder_norm == "unit" and not hasattr(trainer.sae.cfg, "k"):
                    trainer.sae.fold_W_dec_norm()  # the scale went into the norms; of TopK they go when it is exported
            trainer.set_final_sae_metadata()
            return Fitted(trainer.sae.to("cpu"), trainer.n_training_steps, trainer.n_training_samples, scale)
        finally:
            trainer.sae = training


def tools() -> dict[str, str]:
    """Return name → version of the software that trains."""
    return {name: metadata.version(name) for name in ("saereg", "sae-lens", "torch")}


def estimate_scales(
    members: Sequence[SaeMember], read: "Callable[[Sequence[str]], Iterator[Mapping[str, Tensor]]]"
) -> None:
    """Estimate the input scales that are wanted; members of the same sites have the same one.

    Args:
        members: dictionaries.
        read: sites → their batches, from the first one.
    """
    found: dict[tuple[str, ...], Scale] = {}
    for member in members:
        if member.needs_scale:
            if member.sites not in found:
                member.estimate_scale(read(member.sites))
                found[member.sites] = member.trainer.activation_scaler.scaling_factor
            member.trainer.activation_scaler.scaling_factor = found[member.sites]
