"""A decoder whose rows keep norm 1: the optimizer turns them, and cannot make them longer or shorter."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


def keep_unit_rows(optimizer: "Optimizer", matrix: "Tensor") -> None:
    """Let every step of an optimizer leave the rows of a parameter at norm 1.

    Before a step the part of the gradient along each row is taken away, so that Adam's moments hold none of it; after
    it the rows, which a straight step along the tangent made a little longer, are divided by their norms. SAELens
    clips the norm of all gradients before either.

    Source: Bricken et al. 2023, Towards Monosemanticity, appendix, Autoencoder Training.

    Args:
        optimizer: that of the trainer.
        matrix: parameter (d_sae, d_in), whose rows have norm 1 already.
    """

    def before(*_: Any) -> None:  # noqa: ANN401
        if matrix.grad is not None:
            rows = matrix.detach()
            matrix.grad.addcmul_(rows, (matrix.grad * rows).sum(dim=1, keepdim=True), value=-1)

    def after(*_: Any) -> None:  # noqa: ANN401
        rows = matrix.detach()
        rows.div_(rows.norm(dim=1, keepdim=True))

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
