"""The controller of a sparsity coefficient in the place of one of SAELens' schedules."""

import math
from typing import TYPE_CHECKING, Any

from saereg.schemas.training import SPARSITY, TrainConfig
from saereg.trainers.runs.controller import CoefficientController

if TYPE_CHECKING:
    from torch import Tensor


class Steered:
    """A coefficient that SAETrainer reads as it reads its `CoefficientScheduler`.

    Args:
        controller: what decides.
        per_latent: whether the penalty counts latents (L0), not sizes (L1).
    """

    def __init__(self, controller: CoefficientController, *, per_latent: bool) -> None:
        self.controller, self._per_latent = controller, per_latent

    @property
    def value(self) -> float:
        """The coefficient of the next step."""
        return self.controller.value

    def step(self) -> float:
        """Return the coefficient: what changes it is `observe`, with what a step showed."""
        return self.controller.value

    def observe(self, output: Any) -> None:  # noqa: ANN401
        """Learn what a step showed.

        The first one also says from which coefficient on no latent is worth its penalty. With v the squared distance
        of a row from the mean: λ·L0 > v for the wanted L0; or, as ‖x − f·d‖² + λ·f is least at f = d·x − λ/2, λ > 2·√v.

        Args:
            output: SAELens' TrainStepOutput.
        """
        if not self.controller.seen:
            variance = float(output.sae_in.detach().float().var(dim=0, correction=0).sum())
            self.controller.limit(variance / self.controller.target if self._per_latent else 2 * math.sqrt(variance))
        self.controller.observe(active_per_row(output.feature_acts))

    def state_dict(self) -> dict[str, float]:
        """Return what it remembers."""
        return self.controller.state()

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Remember what another one did."""
        self.controller.load(state)


def steer(trainer: Any, config: TrainConfig) -> None:  # noqa: ANN401
    """Put a controller where the trainer has a schedule, if the run has an L0 to end with."""
    settings = config.sae
    if settings.target_l0 is None:
        return
    coefficient = SPARSITY[settings.architecture]
    name = coefficient.removesuffix("_coefficient")
    controller = CoefficientController(
        settings.target_l0,
        getattr(settings, coefficient),
        config.optimization.steps,
        settings.sparsity_warm_up_steps,
        counts=name == "l0",
    )
    trainer.coefficient_schedulers[name] = Steered(controller, per_latent=name == "l0")


def steered_of(trainer: Any) -> Steered | None:  # noqa: ANN401
    """Return the coefficient of a trainer that is steered, or None."""
    found = [one for one in trainer.coefficient_schedulers.values() if isinstance(one, Steered)]
    return found[0] if found else None


def active_per_row(feature_acts: "Tensor") -> float:
    """Return the mean number of active latents of activations (n, d_sae), dense or sparse."""
    values = feature_acts.detach()
    values = values._values() if values.is_sparse else values
    return int(values.count_nonzero()) / len(feature_acts)
