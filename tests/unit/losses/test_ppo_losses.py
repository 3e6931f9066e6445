"""PPO's losses against the formulas of the papers, finite differences, and hand-computed numbers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unison.errors import BatchError
from unison.losses import approximate_kl, clipped_surrogate, explained_variance, value_loss

CLIP = 0.2


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def columns(rows: int, count: int, seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(rows, generator=generator, dtype=torch.float64) for _ in range(count)]


def schulman_surrogate(logp: Tensor, old_logp: Tensor, advantages: Tensor) -> Tensor:
    """Eq. 7 of Schulman et al. 2017 as it is written, negated."""
    ratio = torch.exp(logp - old_logp)
    clipped = torch.clip(ratio, 1 - CLIP, 1 + CLIP)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def test_surrogate_by_hand() -> None:
    ratio = double(1.5, 1.5, 0.5, 0.5, 1.0)
    advantages = double(2.0, -2.0, 2.0, -2.0, 3.0)
    # min(3, 2.4) = 2.4;  min(-3, -2.4) = -3;  min(1, 1.6) = 1;  min(-1, -1.6) = -1.6;  3.  Sum 1.8.
    loss = clipped_surrogate(ratio.log(), torch.zeros_like(ratio), advantages, CLIP)
    assert loss.item() == pytest.approx(-1.8 / 5, abs=1e-12)


def test_surrogate_gradient_by_hand() -> None:
    logp = double(1.5, 1.5, 0.5, 0.5, 1.0).log().requires_grad_()
    advantages = double(2.0, -2.0, 2.0, -2.0, 3.0)
    clipped_surrogate(logp, torch.zeros(5, dtype=torch.float64), advantages, CLIP).backward()
    # -r A / 5 where clipping does not bind, 0 where it does (rows 0 and 3).
    torch.testing.assert_close(logp.grad, double(0.0, 3.0, -1.0, 0.0, -3.0) / 5)


@pytest.mark.parametrize("clip_param", [CLIP, torch.tensor(CLIP, dtype=torch.float64)])
def test_surrogate_and_its_gradient_equal_the_formula(clip_param: float | Tensor) -> None:
    logp, old_logp, advantages = columns(500, 3)
    advantages[:20] = 0.0
    ours, reference = logp.clone().requires_grad_(), logp.clone().requires_grad_()
    loss = clipped_surrogate(ours, old_logp, advantages, clip_param)
    expected = schulman_surrogate(reference, old_logp, advantages)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(loss, ours)[0], torch.autograd.grad(expected, reference)[0], rtol=1e-12, atol=1e-15
    )


def test_float32_stays_close_to_float64() -> None:
    logp, old_logp, advantages = columns(500, 3, scale=0.3)
    exact = clipped_surrogate(logp, old_logp, advantages, CLIP)
    single = clipped_surrogate(logp.float(), old_logp.float(), advantages.float(), CLIP)
    assert single.dtype == torch.float32
    assert abs(single.item() - exact.item()) < 1e-6


def test_gradients_agree_with_finite_differences() -> None:
    logp, old_logp, advantages, values, targets, old_values = columns(16, 6, seed=3)
    logp.requires_grad_()
    values.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: clipped_surrogate(x, old_logp, advantages, CLIP), logp)
    assert torch.autograd.gradcheck(lambda x: value_loss(x, targets), values)
    assert torch.autograd.gradcheck(lambda x: value_loss(x, targets, old_values, 0.5), values)


def test_value_loss_by_hand() -> None:
    # Errors 1, 2, 4 squared: (1 + 4 + 16) / 3.
    assert value_loss(double(1, 2, 3), double(0, 4, 7)).item() == pytest.approx(7.0, abs=1e-12)


def test_clipped_value_loss_by_hand() -> None:
    values, old_values, targets = double(3.0, 3.0, 0.9, -2.0), double(1.0, 1.0, 1.0, 1.0), double(4.0, 0.0, 2.0, -9.0)
    # c = 0.5, clipped values 1.5, 1.5, 0.9, 0.5; unclipped squares 1, 9, 1.21, 49; clipped 6.25, 2.25, 1.21, 90.25;
    # the larger ones 6.25 + 9 + 1.21 + 90.25 = 106.71.
    assert value_loss(values, targets, old_values, 0.5).item() == pytest.approx(106.71 / 4, abs=1e-12)


def test_clipped_value_loss_needs_old_values() -> None:
    with pytest.raises(BatchError, match="'old_values'"):
        value_loss(torch.zeros(2), torch.zeros(2), None, 0.5)


def test_explained_variance_by_hand() -> None:
    # Var(y) = 5; residuals 1, -1, 1, -1 of variance 1: 1 - 1 / 5.
    assert explained_variance(double(0, 2, 4, 6), double(-1, 3, 3, 7)).item() == pytest.approx(1 - 1 / 5, abs=1e-12)


@pytest.mark.parametrize(("values", "expected"), [((0, 2, 4, 6), 1.0), ((5, 5, 5, 5), 0.0), ((6, 4, 2, 0), -3.0)])
def test_explained_variance_of_perfect_constant_and_opposite_values(values: tuple[float, ...], expected: float) -> None:
    assert explained_variance(double(0, 2, 4, 6), double(*values)).item() == pytest.approx(expected, abs=1e-12)


def test_explained_variance_of_constant_targets_is_zero() -> None:
    assert explained_variance(torch.ones(4), torch.zeros(4)).item() == 0.0
    assert explained_variance(torch.ones(1), torch.zeros(1)).item() == 0.0


def test_explained_variance_has_no_gradient() -> None:
    targets, values = (column.requires_grad_() for column in columns(8, 2))
    assert not explained_variance(targets, values).requires_grad


def test_approximate_kl_estimates_the_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    old = torch.log_softmax(double(0.3, -0.4, 0.1), 0)
    new = torch.log_softmax(double(0.1, 0.0, 0.4), 0)
    actions = torch.multinomial(old.exp(), 200_000, replacement=True, generator=generator)
    exact = (old.exp() * (old - new)).sum().item()
    assert approximate_kl(new[actions], old[actions]).item() == pytest.approx(exact, rel=0.05)


def test_approximate_kl_by_hand() -> None:
    # r = 2 and 1/2: (1 - log 2 + -1/2 + log 2) / 2.
    logp = double(math.log(2), -math.log(2))
    assert approximate_kl(logp, torch.zeros_like(logp)).item() == pytest.approx(0.25, abs=1e-12)


LOSSES: dict[str, Callable[[list[Tensor], Tensor | None], Tensor]] = {
    "clipped_surrogate": lambda c, mask: clipped_surrogate(c[0], c[1], c[2], CLIP, mask),
    "value_loss": lambda c, mask: value_loss(c[0], c[1], mask=mask),
    "clipped_value_loss": lambda c, mask: value_loss(c[0], c[1], c[2], 0.5, mask),
    "explained_variance": lambda c, mask: explained_variance(c[0], c[1], mask),
    "approximate_kl": lambda c, mask: approximate_kl(c[0], c[1], mask),
}


@pytest.mark.parametrize("garbage", [0.0, -1e30, 1e30, float("nan")])
@pytest.mark.parametrize("name", LOSSES)
def test_padded_equals_unpadded(name: str, garbage: float) -> None:
    """Sequences of 5, 3 and 1 steps, padded to 6: the same loss and gradient as their nine rows side by side."""
    flat = columns(9, 3, seed=7)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    for row, length in enumerate((5, 3, 1)):
        mask[row, :length] = True
    padded = [torch.full((3, 6), garbage, dtype=torch.float64).masked_scatter(mask, column) for column in flat]
    flat[0].requires_grad_()
    padded[0].requires_grad_()
    expected, loss = LOSSES[name](flat, None), LOSSES[name](padded, mask)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    if expected.requires_grad:
        (gradient,) = torch.autograd.grad(loss, padded[0])
        torch.testing.assert_close(gradient[mask], torch.autograd.grad(expected, flat[0])[0], rtol=1e-12, atol=1e-14)
        assert torch.equal(gradient[~mask], torch.zeros(9, dtype=torch.float64))


@pytest.mark.parametrize("name", LOSSES)
def test_a_full_mask_changes_nothing(name: str) -> None:
    rows = columns(32, 3, seed=1)
    full = torch.ones(32, dtype=torch.bool)
    torch.testing.assert_close(LOSSES[name](rows, full), LOSSES[name](rows, None), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_no_valid_row_gives_zero(name: str) -> None:
    assert LOSSES[name](columns(4, 3), torch.zeros(4, dtype=torch.bool)).item() == 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_rows_that_would_broadcast_are_refused(name: str) -> None:
    rows = columns(4, 3)
    rows[1] = rows[1].unsqueeze(-1)
    with pytest.raises(BatchError, match=r"\[4, 1\]"):
        LOSSES[name](rows, None)


@pytest.mark.parametrize("name", LOSSES)
def test_masks_of_numbers_are_refused(name: str) -> None:
    with pytest.raises(BatchError, match=r"'mask' is .* of torch\.float32"):
        LOSSES[name](columns(4, 3), torch.ones(4))
