"""Losses of a dictionary and their gradients, written out: reconstruction, and the auxiliary loss for dead latents.

Rows x are normalized to x′ (x itself where nothing is), u = x′ − b_dec is encoded (or x′, without
`apply_b_dec_to_input`), pre = u·W_enc + b_enc, f = c(pre) some of its latents, x̂′ = f·W_dec + b_dec, and x̂ = s·x̂′ + m
undoes the normalization. With n rows:

    L = 1/n Σ ‖x̂ − x‖²         g = dL/dx̂′ = 2/n·s·(x̂ − x)       D = dL/dpre = g·W_decᵀ where f passes gradients
    dL/dW_dec = fᵀ·g           dL/dW_enc = uᵀ·D                   dL/db_enc = Σ D
    dL/db_dec = Σ g − W_enc·dL/db_enc   (the second part only with `apply_b_dec_to_input`)

Source: the derivative of `TrainingSAE.training_forward_pass`, sae_lens 6.54 saes/sae.py.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saereg.trainers.steps.codes import Code, Pull, ranked
from saereg.trainers.steps.handing import loss_of, workspace_of

FUSED = ("cpu", "cuda")
"""Devices on which torch sums weighted rows, forward and backward."""

TYPES = (torch.float32, torch.float64)
"""Types of weights that the steps are written for."""


@dataclass(frozen=True)
class Rows:
    """A batch on its way through a dictionary.

    Attributes:
        x: rows (n, d_in), in the type of the dictionary.
        inner: x′, normalized.
        u: what is encoded.
        scale: s of each row (n, 1), what the normalization divided by; None where nothing was normalized.
    """

    x: Tensor
    inner: Tensor
    u: Tensor
    scale: Tensor | None


@dataclass(frozen=True)
class Reconstructed:
    """What a dictionary makes of rows.

    Attributes:
        inner: x̂′, before the normalization is undone.
        x_hat: x̂.
        loss: L.
        g: dL/dx̂′.
    """

    inner: Tensor
    x_hat: Tensor
    loss: Tensor
    g: Tensor


@dataclass(frozen=True)
class Auxiliary:
    """How dead latents are asked to explain what the living ones leave.

    Attributes:
        latents: the dead ones, (d,), int64.
        pre: their pre-activations in the units that rank them, (n, d).
        norms: ‖W_dec‖ of each, (d,), where ranking is by pre·‖W_dec‖; else None.
        coefficient: weight of the loss.
    """

    latents: Tensor
    pre: Tensor
    norms: Tensor | None
    coefficient: float


def can_step(sae: Any, x: Tensor) -> bool:  # noqa: ANN401
    """Return whether the written-out step computes this; else SAELens' own does.

    Hooks want to see, and may change, what it never makes.
    """
    hooked = any(hook._forward_hooks or hook._backward_hooks for hook in sae.hook_dict.values())
    return not hooked and x.dim() == 2 and x.device.type in FUSED and sae.dtype in TYPES


def rows_of(sae: Any, x: Tensor) -> Rows:  # noqa: ANN401
    """Return rows as a dictionary encodes them; its own functions normalize."""
    x = x.to(sae.dtype)
    inner = sae.run_time_activation_norm_fn_in(x)
    u = inner - sae.b_dec if sae.cfg.apply_b_dec_to_input else inner
    divided: Tensor | None = getattr(sae, "ln_std", None)
    multiplied: Tensor | None = getattr(sae, "x_norm_coeff", None)
    return Rows(x, inner, u, divided if multiplied is None else 1 / multiplied)


def products(u: Tensor, W_enc: Tensor, b_enc: Tensor, out: Tensor) -> Tensor:
    """Write u·W_enc + b_enc into `out` (n, F), by a product in the type of autocast where that is on."""
    kind = u.device.type
    if torch.is_autocast_enabled(kind):
        low = torch.get_autocast_dtype(kind)
        return torch.add(torch.mm(u.to(low), W_enc.to(low)), b_enc, out=out)
    return torch.addmm(b_enc, u, W_enc, out=out)


def reconstruct(sae: Any, code: Code, rows: Rows) -> Reconstructed:  # noqa: ANN401
    """Decode, and take the gradient of the squared error by what the decoder made."""
    inner = code.times(sae.W_dec.detach()).add_(sae.b_dec.detach())
    x_hat: Tensor = sae.run_time_activation_norm_fn_out(inner)
    residual = x_hat - rows.x
    g = residual * (2 / len(rows.x))
    if rows.scale is not None:
        g *= rows.scale
    return Reconstructed(inner, x_hat, residual.square().sum(dim=-1).mean(), g)


@dataclass(frozen=True)
class Gradients:
    """Memory for the gradients of one step, filled part by part.

    Attributes:
        W_dec: (F, d_in).
        b_dec: (d_in,).
        b_enc: (F,).
        W_enc: (d_in, F); None where the encoder is the decoder transposed, whose part is added to W_dec.
    """

    W_dec: Tensor
    b_dec: Tensor
    b_enc: Tensor
    W_enc: Tensor | None

    @classmethod
    def of(cls, sae: Any) -> "Gradients":  # noqa: ANN401
        """Return memory for the gradients of a dictionary, with anything in it."""
        workspace = workspace_of(sae)
        made = {name: workspace.gradient(name, parameter) for name, parameter in sae.named_parameters()}
        return cls(made["W_dec"], made["b_dec"], made["b_enc"], made.get("W_enc"))

    def loss(self, sae: Any, value: Tensor) -> Tensor:  # noqa: ANN401
        """Return a loss, with these as its gradients."""
        parameters = dict(sae.named_parameters())
        gradients = [getattr(self, name) for name in parameters]
        with torch.enable_grad():
            return loss_of(value, list(parameters.values()), gradients, workspace_of(sae))

    def set_main(self, code: Code, g: Tensor, W_dec: Tensor, u: Tensor, penalty: Tensor | None = None) -> None:
        """Write the gradients of the reconstruction.

        Args:
            code: f.
            g: dL/dx̂′, (n, d_in).
            W_dec: the decoder, (F, d_in).
            u: what was encoded, (n, d_in).
            penalty: what is added to dL/df of every active latent, (F,).
        """
        self.b_enc.copy_(code.pull(Pull(g, W_dec, u, penalty, self.W_dec, self.W_enc)))
        torch.sum(g, dim=0, out=self.b_dec)

    def add_dead(self, code: Code, latents: Tensor, g: Tensor, W_dec: Tensor, u: Tensor) -> None:
        """Add the gradients of a loss on some latents alone: W_dec (d, d_in) is theirs, g that of their sum."""
        part = torch.empty_like(W_dec)
        columns = None if self.W_enc is None else torch.empty_like(part).view(g.shape[1], -1)
        sums = code.pull(Pull(g, W_dec, u, None, part, columns))
        if self.W_enc is not None and columns is not None:
            self.W_enc.index_add_(1, latents, columns)
        self.W_dec.index_add_(0, latents, part)
        self.b_enc.index_add_(0, latents, sums)

    def finish(self, W_enc: Tensor, *, b_dec_is_subtracted: bool) -> None:
        """Add what reaches b_dec through the encoder."""
        if b_dec_is_subtracted:
            self.b_dec.addmv_(W_enc, self.b_enc, alpha=-1)


def dead_latents(mask: Tensor | None) -> Tensor | None:
    """Return the dead latents, None where there are none."""
    if mask is None:
        return None
    found = mask.nonzero().squeeze(1)
    return found if len(found) else None


def auxiliary_loss(dead: Auxiliary, W_dec: Tensor, rows: Rows, found: Reconstructed, gradients: Gradients) -> Tensor:
    """Return the auxiliary loss, and add its gradients; the work is proportional to the number of dead latents.

    Of the dead latents the k_aux = d_in/2 with the largest pre-activations (of any sign, no ReLU) reconstruct the
    residual x′ − x̂′, which is constant: α·min(dead/k_aux, 1)/n Σ ‖z·W_dec − (x′ − x̂′)‖². Where inputs are normalized,
    residual and reconstruction are so too: that is where the decoder lives.

    Source: Gao et al. 2024, Scaling and evaluating sparse autoencoders, A.2 and B.1; as in
    `TopKTrainingSAE.calculate_topk_aux_loss`, sae_lens 6.54 saes/topk_sae.py.

    Args:
        dead: the dead latents.
        W_dec: of all latents, (F, d_in).
        rows: the batch.
        found: what the living latents make of it.
        gradients: changed.
    """
    count, n = len(dead.latents), len(rows.x)
    k = rows.x.shape[1] // 2
    weight = dead.coefficient * min(count / k, 1.0)
    values, indices = dead.pre.topk(min(k, count), dim=-1, sorted=False)
    if dead.norms is not None:
        values = values / dead.norms[indices]
    code = ranked(indices, values, count, rectified=False)
    theirs = W_dec[dead.latents]
    error = code.times(theirs) - (rows.inner - found.inner)
    gradients.add_dead(code, dead.latents, error * (2 * weight / n), theirs, rows.u)
    return weight * error.square().sum(dim=-1).mean()
