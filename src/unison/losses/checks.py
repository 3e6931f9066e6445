"""The entry checks of the loss functions: ranks, shapes and dtypes, never values."""

import torch
from torch import Tensor

from unison.errors import BatchError


def check_rows(function: str, mask: Tensor | None = None, **columns: Tensor | None) -> None:
    """Require floating tensors of one shape, and a boolean mask of that shape.

    Rows that broadcast by accident (`[B]` against `[B, 1]`) are the commonest silent error of a loss.

    Args:
        function: Name of the caller, for the message.
        mask: Valid rows, or None.
        columns: Tensors by name; the first one fixes the shape, None is passed over.

    Raises:
        BatchError: A shape or a dtype differs.
    """
    shape: torch.Size | None = None
    for name, column in columns.items():
        if column is None:
            continue
        if shape is None:
            shape = column.shape
        if column.shape != shape or not column.dtype.is_floating_point:
            raise BatchError(
                f"{function}: '{name}' is {list(column.shape)} of {column.dtype}, but a floating tensor of shape "
                f"{list(shape)} is needed. Reshape or cast it before the call."
            )
    if mask is not None and (mask.shape != shape or mask.dtype is not torch.bool):
        raise BatchError(
            f"{function}: 'mask' is {list(mask.shape)} of {mask.dtype}, but a torch.bool tensor of shape "
            f"{list(shape or ())} is needed (true where a row is valid)."
        )
