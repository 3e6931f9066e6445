"""What SAC asks of a batch beyond its spaces: found before a step, and named with module and column."""

import numpy as np
import torch
from gymnasium import spaces

from unison.data import Columns
from unison.data.replay import N_STEPS
from unison.data.tensors import TensorColumns
from unison.errors import BatchError
from unison.types import ModuleID, Tree

_BOOLEAN = (Columns.TERMINATEDS, Columns.LOSS_MASK)
_FLOATING = (Columns.REWARDS, Columns.WEIGHTS)
_SLACK = 1.5


def check_columns(module_id: ModuleID, columns: TensorColumns, rows: int) -> None:
    """Require one entry [B] a row of what the losses read row by row, and the dtypes that they take.

    Raises:
        BatchError: a column has another shape or dtype.
    """
    for name in (*_BOOLEAN, *_FLOATING, N_STEPS):
        if name not in columns:
            continue
        column: Tree = columns[name]
        if not isinstance(column, torch.Tensor):
            fault, fix = "is nested", f"give one array of shape ({rows},)"
        elif column.shape != (rows,):
            fault, fix = f"has shape {tuple(column.shape)}", f"give one entry a row, shape ({rows},)"
        elif name in _BOOLEAN and column.dtype is not torch.bool:
            fault, fix = f"has dtype {column.dtype}", "give booleans, as by 'column != 0'"
        elif name in _FLOATING and not column.is_floating_point():
            fault, fix = f"has dtype {column.dtype}", "give floats"
        else:
            continue
        raise BatchError(f"Module '{module_id}': column '{name}' {fault}; {fix}.")


def check_actions(module_id: ModuleID, columns: TensorColumns, space: spaces.Box, *, normalized: bool) -> None:
    """Require actions of the policy's own scale: in [-1, 1], whatever the bounds of the environment.

    Half as much again is let pass, as noise that was added brings. Where sampling does not scale actions, they may also
    lie within the bounds. Only what lies on the host is looked at: to wait for a device would cost more than that.

    Args:
        module_id: for the message.
        columns: the whole batch; rows that `loss_mask` leaves out may hold anything.
        space: the module's action space.
        normalized: the setting `normalize_actions`.

    Raises:
        BatchError: an action lies far outside; names the first one.
    """
    actions = columns[Columns.ACTIONS]
    if actions.device.type != "cpu":
        return
    reach = 1.0 if normalized else max(1.0, float(np.abs(space.low).max()), float(np.abs(space.high).max()))
    least, most = map(float, actions.aminmax())
    if -_SLACK * reach <= least and most <= _SLACK * reach:
        return
    beyond = actions.abs().reshape(len(actions), -1).amax(1) > _SLACK * reach
    if Columns.LOSS_MASK in columns:
        beyond &= columns[Columns.LOSS_MASK]
    if beyond.any():
        row = int(beyond.nonzero()[0])
        number = float(actions[row].flatten()[actions[row].abs().argmax()])
        raise BatchError(
            f"Module '{module_id}': column '{Columns.ACTIONS}' holds {number:.6g} in row {row}; give actions as the "
            f"policy says them, in [-1, 1], not as {space} takes them: 2 * (action - low) / (high - low) - 1."
        )
