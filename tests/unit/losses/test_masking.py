"""Means and moments over valid rows."""

import pytest
import torch

from unison.errors import BatchError
from unison.losses import masked_mean, standardize

VALUES = torch.tensor([[1.0, 2.0, 50.0], [6.0, -70.0, 90.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_masked_mean_takes_valid_rows_only() -> None:
    assert masked_mean(VALUES, MASK).item() == 3.0  # (1 + 2 + 6) / 3


def test_masked_mean_without_mask_takes_all_rows() -> None:
    assert masked_mean(VALUES).item() == pytest.approx(79 / 6, abs=1e-12)


def test_masked_mean_of_no_valid_row_is_zero_and_has_a_gradient() -> None:
    values = VALUES.clone().requires_grad_()
    mean = masked_mean(values, torch.zeros_like(MASK))
    mean.backward()
    assert mean.item() == 0.0
    assert torch.equal(values.grad, torch.zeros_like(VALUES))


def test_masked_mean_covers_the_trailing_dimensions_of_valid_rows() -> None:
    values = torch.arange(12.0).reshape(3, 2, 2)
    assert masked_mean(values, torch.tensor([True, False, True])).item() == 5.5  # 0..3 and 8..11


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
def test_what_padding_holds_reaches_neither_mean_nor_gradient(garbage: float) -> None:
    values = torch.where(MASK, VALUES, garbage).requires_grad_()
    mean = masked_mean(values, MASK)
    mean.backward()
    assert mean.item() == 3.0
    assert torch.equal(values.grad, MASK.double() / 3)


@pytest.mark.parametrize("mask", [MASK.float(), MASK[0], MASK.unsqueeze(-1)])
def test_masked_mean_refuses_masks_that_do_not_fit(mask: torch.Tensor) -> None:
    with pytest.raises(BatchError, match="masked_mean: 'mask' is"):
        masked_mean(VALUES, mask)


def test_standardize_gives_zero_mean_and_unit_population_deviation() -> None:
    x = torch.tensor([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], dtype=torch.float64)  # mean 5, deviation 2
    expected = torch.tensor([-1.5, -0.5, -0.5, -0.5, 0.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(standardize(x), expected, rtol=0, atol=1e-7)


def test_standardize_padded_equals_unpadded() -> None:
    x = torch.randn(10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([True] * 10 + [False] * 4)
    padded = standardize(torch.cat([x, torch.full((4,), float("nan"), dtype=x.dtype)]), mask)
    torch.testing.assert_close(padded[:10], standardize(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(padded[10:], torch.zeros(4, dtype=x.dtype))


@pytest.mark.parametrize("mask", [None, torch.tensor([True, True, False])])
def test_standardize_of_a_constant_is_zero(mask: torch.Tensor | None) -> None:
    assert torch.equal(standardize(torch.full((3,), 7.25), mask), torch.zeros(3))


def test_standardize_of_one_row_is_zero() -> None:
    assert standardize(torch.tensor([3.0])).item() == 0.0


def test_standardize_refuses_a_mask_of_another_shape() -> None:
    with pytest.raises(BatchError, match=r"standardize: 'mask' is \[2\]"):
        standardize(torch.zeros(3), torch.tensor([True, False]))


def test_standardize_refuses_integers() -> None:
    with pytest.raises(BatchError, match=r"standardize: 'x' is \[3\] of torch.int64"):
        standardize(torch.arange(3))
