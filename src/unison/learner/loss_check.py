"""What a module and a loss must give: one value for each row, one number that depends on what is trained."""

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


def checked_values(module_id: ModuleID, values: Any, rows: tuple[int, ...]) -> Tensor:
    """The values of a module as they are.

    Args:
        module_id: the module.
        values: what it computed.
        rows: the shape that is needed, [B] or [B, T].

    Raises:
        ModuleError: it is no tensor, or has another shape.
    """
    if not isinstance(values, Tensor) or tuple(values.shape) != tuple(rows):
        found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        squeeze = ", as by .squeeze(-1)" if found == (*rows, 1) else ""
        raise ModuleError(
            f"Module '{module_id}': its values ('vf_preds') are {found}; let it compute one for each row, {tuple(rows)}"
            f"{squeeze}."
        )
    return values
