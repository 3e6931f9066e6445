"""What SAC asks of a batch beyond its spaces: found before a step, and named with module and column."""

import torch

from unison.data import Columns
from unison.data.replay import N_STEPS
from unison.data.tensors import TensorColumns
from unison.errors import BatchError
from unison.types import ModuleID, Tree

_BOOLEAN = (Columns.TERMINATEDS, Columns.LOSS_MASK)
_FLOATING = (Columns.REWARDS, Columns.WEIGHTS)


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
