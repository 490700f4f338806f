"""Dead latents get new directions: those of rows that the dictionary reconstructs badly.

Source: Bricken et al. 2023, Towards Monosemanticity, appendix, Neuron Resampling: rows are drawn with probability
proportional to their squared loss; the decoder row becomes the direction of such a row, the encoder the same direction
with 0.2 times the mean norm of the living encoders, the bias zero, and Adam forgets what it knew of all three. Here the
loss of a row is its squared error, rows are those of the last batches and each is drawn at most once (two latents of
one row would stay equal for ever), and the direction is that of what the encoder reads, b_dec subtracted where it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from saereg.trainers.runs.state import Tree

WINDOW = 8
"""Batches, up to the step of the resampling, that rows are drawn from."""

ENCODER_SHARE = 0.2
"""Norm of a new encoder, relative to the mean of the living ones."""

LATENT_AXIS: Mapping[str, int] = {"W_enc": 1, "W_dec": 0, "b_enc": 0, "b_gate": 0, "b_mag": 0, "r_mag": 0}
"""Parameter → axis that runs along latents."""


class Resampler:
    """Resamples the dead latents of a trainer's dictionary after some of its steps.

    Args:
        trainer: SAELens' SAETrainer.
        steps: after which steps.
        seed: of the drawing.
        decoder_norm: norm of a new decoder row.

    Attributes:
        count: latents that were resampled so far.
    """

    def __init__(self, trainer: Any, steps: Sequence[int], seed: int, decoder_norm: float) -> None:  # noqa: ANN401
        import torch

        self._trainer, self._steps, self._decoder_norm = trainer, frozenset(steps), decoder_norm
        self._wanted = {step - back for step in steps for back in range(WINDOW)}
        self._generator = torch.Generator().manual_seed(seed)
        self._kept: list[dict[str, Tensor]] = []
        self.count = 0

    def after(self, step: int, read: "Callable[[], Tensor]", output: Any) -> None:  # noqa: ANN401
        """Look at a step that was taken; resample if it is time.

        Args:
            step: its number, from 1.
            read: returns what the encoder read, before layer_norm and b_dec (n, d_in).
            output: SAELens' TrainStepOutput.
        """
        if step not in self._wanted:
            return
        rows, residual = read().detach(), (output.sae_in - output.sae_out).detach()
        kept = {"rows": rows, "loss": residual.square().sum(dim=1)}
        if self._trainer.sae.W_dec.shape[1] != rows.shape[1] or hasattr(self._trainer.sae, "transcode"):
            kept["residual"] = residual
        self._kept = [*self._kept, kept][-WINDOW:]
        if step in self._steps:
            self._resample()
            self._kept = []

    def state(self) -> "Tree":
        """Return what it remembers: rows of the last batches, the generator, the count."""
        return {"kept": self._kept, "generator": self._generator.get_state(), "count": self.count}

    def load(self, state: "Tree") -> None:
        """Remember what another one did."""
        device = self._trainer.cfg.device
        self._kept = [{name: tensor.to(device) for name, tensor in kept.items()} for kept in state["kept"]]
        self._generator.set_state(state["generator"])
        self.count = state["count"]

    def _resample(self) -> None:
        import torch

        trainer = self._trainer
        with torch.no_grad():
            dead = trainer.dead_neurons.nonzero().squeeze(1)
            chosen = self._drawn(len(dead))
            dead = dead[: len(chosen)]
            if not len(dead):
                return
            rows = torch.cat([kept["rows"] for kept in self._kept])[chosen]
            read = _unit(trainer.sae.process_sae_in(rows))
            written = read
            if "residual" in self._kept[0]:  # of a transcoder, which writes into another space
                written = _unit(torch.cat([kept["residual"] for kept in self._kept])[chosen])
            self._renew(dead, read, written)
            trainer.n_forward_passes_since_fired[dead] = 0
        self.count += len(dead)

    def _drawn(self, count: int) -> "Tensor":
        """Return at most so many different positions, drawn one by one with probability ∝ loss².

        Key u^(1/w) of a uniform u, the largest keys win: Efraimidis and Spirakis 2006. Drawn on the CPU in float64.
        """
        import torch

        weights = torch.cat([kept["loss"] for kept in self._kept]).double().cpu().square()
        keys = torch.rand(len(weights), generator=self._generator, dtype=torch.float64).log() / weights
        keys = keys.masked_fill(weights <= 0, -torch.inf)
        best = keys.argsort(descending=True, stable=True)[: min(count, int((weights > 0).sum()))]
        return best.to(self._kept[0]["rows"].device)

    def _renew(self, dead: "Tensor", read: "Tensor", written: "Tensor") -> None:
        """Give latents new encoders and decoders; their biases, and what Adam knows of them, become zero."""
        import torch

        sae, optimizer = self._trainer.sae, self._trainer.optimizer
        living = ~torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=dead.device).index_fill(0, dead, value=True)
        living &= ~self._trainer.dead_neurons
        norms = sae.W_enc.norm(dim=0)
        size = norms[living].mean() if bool(living.any()) else norms.mean()
        new = {"W_enc": ENCODER_SHARE * size * read, "W_dec": self._decoder_norm * written}
        for name, axis in LATENT_AXIS.items():
            parameter = getattr(sae, name, None)
            if parameter is None:
                continue
            for place in (parameter, *_moments(optimizer, parameter)):
                place.index_fill_(axis, dead, 0)
            if name in new:
                moved = new[name].to(parameter.dtype)
                parameter.index_copy_(axis, dead, moved.T if axis else moved)


def _unit(rows: "Tensor") -> "Tensor":
    lengths: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / lengths.clamp_min(1e-30)


def _moments(optimizer: Any, parameter: "Tensor") -> "list[Tensor]":  # noqa: ANN401
    """Return what Adam keeps of each number of a parameter; nothing before the first step."""
    state = optimizer.state.get(parameter, {})
    return [tensor for tensor in state.values() if getattr(tensor, "shape", None) == parameter.shape]
