"""Means and moments over the valid rows of padded batches."""

import torch
from torch import Tensor

from unison.errors import BatchError
from unison.losses.checks import check_rows

_TINY_STD = 1e-8


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of the valid entries of `values`; 0 if there are none.

    What stands in padded entries never matters, not even NaN: it reaches neither the mean nor the gradient.

    Args:
        values: `[B, ...]`.
        mask: Bool, with the leading shape of `values`; None means that all are valid.

    Returns:
        A 0-d tensor.

    Raises:
        BatchError: The mask is not boolean or its shape is not the leading shape of `values`.
    """
    if mask is None:
        return values.mean()
    if mask.dtype is not torch.bool or mask.shape != values.shape[: mask.ndim]:
        raise BatchError(
            f"masked_mean: 'mask' is {list(mask.shape)} of {mask.dtype}, but a torch.bool tensor is needed whose shape "
            f"begins that of 'values', {list(values.shape)}."
        )
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)).expand_as(values)
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def standardize(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Shift and scale `x` to zero mean and unit (population) standard deviation over its valid entries.

    Args:
        x: Any shape.
        mask: Bool, of the shape of `x`; None means that all are valid.

    Returns:
        A tensor like `x`; 0 in padded entries, and everywhere if `x` is constant.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    check_rows("standardize", mask, x=x)
    if mask is None:
        variance, mean = torch.var_mean(x, correction=0)
        return (x - mean) / (variance.sqrt() + _TINY_STD)
    centered = torch.where(mask, x - masked_mean(x, mask), 0.0)
    variance = masked_mean(centered.square(), mask)
    return centered / (variance.sqrt() + _TINY_STD)
