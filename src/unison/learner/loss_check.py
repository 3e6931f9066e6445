"""What a loss must be: one number that depends on what is trained."""

from typing import Any

from torch import Tensor

from unison.errors import ModuleError
from unison.types import ModuleID


def checked_loss(learner: object, module_id: ModuleID, loss: Any) -> Tensor:
    """The loss of a module as it is.

    Raises:
        ModuleError: it is no tensor, has several entries, or depends on no parameter.
    """
    where = f"Module '{module_id}': the loss of {type(learner).__name__}"
    if not isinstance(loss, Tensor):
        raise ModuleError(f"{where} is a {type(loss).__name__}; return a 0-d tensor, a mean over the rows.")
    if loss.ndim:
        raise ModuleError(f"{where} has shape {tuple(loss.shape)}; return a 0-d tensor, a mean over the rows.")
    if not loss.requires_grad:
        raise ModuleError(
            f"{where} depends on none of its parameters, so nothing would be trained. Was it detached, or computed "
            "under no_grad, or from columns of the batch alone?"
        )
    return loss
