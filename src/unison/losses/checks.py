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
    if mask is not None:
        check_booleans(function, "mask", mask, shape, "a row is valid")


def check_booleans(function: str, name: str, column: Tensor, shape: torch.Size | None, meaning: str) -> None:
    """Require a boolean tensor of a shape.

    Args:
        function: Name of the caller, for the message.
        name: Of the column.
        column: The tensor.
        shape: What it must have; None: nothing fits.
        meaning: Where it is true, for the message.

    Raises:
        BatchError: The shape or the dtype differs.
    """
    if column.shape != shape or column.dtype is not torch.bool:
        raise BatchError(
            f"{function}: '{name}' is {list(column.shape)} of {column.dtype}, but a torch.bool tensor of shape "
            f"{list(shape or ())} is needed (true where {meaning})."
        )
