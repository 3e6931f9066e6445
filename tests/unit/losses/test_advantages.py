"""Generalized advantages against hand-computed numbers and the definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unison.errors import BatchError
from unison.losses import generalized_advantages, value_targets


def double(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


# Four chunks under gamma = 0.5 and lambda = 0.5, so gamma * lambda = 0.25; delta = r + 0.5 V' - V.
# 1. Terminated after three steps, r = 1, 2, 3, V = 4, 2, 1, and no future:
#      delta = 1 + 1 - 4 = -2;  2 + 0.5 - 2 = 0.5;  3 + 0 - 1 = 2
#      A_2 = 2;  A_1 = 0.5 + 0.25 * 2 = 1;  A_0 = -2 + 0.25 * 1 = -1.75
# 2. Truncated after two steps, r = 1, 1, V = 2, 3, V(final observation) = 8:
#      delta = 1 + 1.5 - 2 = 0.5;  1 + 4 - 3 = 2
#      A_1 = 2;  A_0 = 0.5 + 0.25 * 2 = 1
# 3. Cut after one step (the fragment was full), r = 0, V = 1, V(next observation) = 4:
#      A_0 = delta = 0 + 2 - 1 = 1
# 4. The episode of 3 goes on in a chunk of its own, r = 2, V = 4, V' = 6; it must not flow back into 3:
#      A_0 = delta = 2 + 3 - 4 = 1
REWARDS = double(1, 2, 3, 1, 1, 0, 2)
VALUES = double(4, 2, 1, 2, 3, 1, 4)
NEXT_VALUES = double(2, 1, 0, 3, 8, 4, 6)
CONTINUES = torch.tensor([True, True, False, True, False, False, False])
ADVANTAGES = double(-1.75, 1, 2, 1, 2, 1, 1)


def golden(continues: torch.Tensor) -> torch.Tensor:
    return generalized_advantages(REWARDS, VALUES, NEXT_VALUES, continues, gamma=0.5, lambda_=0.5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float64, torch.float32, torch.int8])
def test_termination_truncation_and_cuts_by_hand(dtype: torch.dtype) -> None:
    assert torch.equal(golden(CONTINUES.to(dtype)), ADVANTAGES)


def test_the_last_row_ends_its_chunk_whatever_it_says() -> None:
    continues = CONTINUES.clone()
    continues[-1] = True
    assert torch.equal(golden(continues), ADVANTAGES)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_broken_in_one_chunk_stays_there(broken: float) -> None:
    rewards = REWARDS.clone()
    rewards[4] = broken
    found = generalized_advantages(rewards, VALUES, NEXT_VALUES, CONTINUES, gamma=0.5, lambda_=0.5)
    assert found.isfinite().tolist() == [True, True, True, False, False, True, True]
    assert torch.equal(found[found.isfinite()], ADVANTAGES[found.isfinite()])


def test_truncation_is_not_termination() -> None:
    as_terminated = NEXT_VALUES.clone()
    as_terminated[4] = 0  # chunk 2: delta_1 = 1 + 0 - 3 = -2, so A = 0.5 - 0.5 = 0 and -2
    advantages = generalized_advantages(REWARDS, VALUES, as_terminated, CONTINUES, gamma=0.5, lambda_=0.5)
    assert advantages[3:5].tolist() == [0.0, -2.0]
    assert advantages[[0, 1, 2, 5, 6]].tolist() == ADVANTAGES[[0, 1, 2, 5, 6]].tolist()


def test_value_targets_are_lambda_returns() -> None:
    assert value_targets(ADVANTAGES, VALUES).tolist() == [2.25, 3, 3, 3, 5, 2, 5]


def by_definition(
    rewards: list[float], values: list[float], bootstrap: float, gamma: float, lambda_: float
) -> list[float]:
    """Schulman et al. 2016, eq. 16: the sum over l of (gamma lambda)^l delta_(t+l), for one chunk, as it is written."""
    steps = len(rewards)
    following = [*values[1:], bootstrap]
    advantages = []
    for t in range(steps):
        total = 0.0
        for ahead in range(steps - t):
            delta = rewards[t + ahead] + gamma * following[t + ahead] - values[t + ahead]
            total += (gamma * lambda_) ** ahead * delta
        advantages.append(total)
    return advantages


number = st.floats(-10, 10, allow_subnormal=False)
step = st.tuples(number, number)
chunk = st.tuples(st.lists(step, min_size=1, max_size=24), st.booleans(), number)


@settings(max_examples=150, deadline=None)
@given(
    chunks=st.lists(chunk, min_size=1, max_size=8),
    gamma=st.floats(0, 1, allow_subnormal=False),
    lambda_=st.floats(0, 1, allow_subnormal=False),
)
def test_any_layout_of_chunks_agrees_with_the_definition(
    chunks: list[tuple[list[tuple[float, float]], bool, float]], gamma: float, lambda_: float
) -> None:
    rewards, values, next_values, continues, expected = [], [], [], [], []
    for steps, terminated, final_value in chunks:
        bootstrap = 0.0 if terminated else final_value
        chunk_rewards, chunk_values = [r for r, _ in steps], [v for _, v in steps]
        rewards += chunk_rewards
        values += chunk_values
        next_values += [*chunk_values[1:], bootstrap]
        continues += [True] * (len(steps) - 1) + [False]
        expected += by_definition(chunk_rewards, chunk_values, bootstrap, gamma, lambda_)
    columns = [double(*column) for column in (rewards, values, next_values)]
    mask = torch.tensor(continues)
    exact = generalized_advantages(*columns, mask, gamma=gamma, lambda_=lambda_)
    torch.testing.assert_close(exact, double(*expected), rtol=1e-10, atol=1e-9)
    single = generalized_advantages(*(c.float() for c in columns), mask, gamma=gamma, lambda_=lambda_)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-3)


def test_a_long_episode_stays_accurate_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = (torch.randn(5000, generator=generator, dtype=torch.float64) for _ in range(2))
    next_values = torch.cat([values[1:], double(0.5)])
    continues = torch.ones(5000, dtype=torch.bool)
    gamma, lambda_ = 0.999, 1.0
    expected, following = [0.0] * 5000, 0.0
    for t in reversed(range(5000)):
        delta = rewards[t].item() + gamma * next_values[t].item() - values[t].item()
        following = expected[t] = delta + gamma * lambda_ * following
    advantages = generalized_advantages(
        rewards.float(), values.float(), next_values.float(), continues, gamma=gamma, lambda_=lambda_
    )
    torch.testing.assert_close(advantages.double(), double(*expected), rtol=1e-5, atol=1e-3)


def test_lambda_zero_is_the_one_step_error_and_lambda_one_the_return() -> None:
    one_step = generalized_advantages(REWARDS, VALUES, NEXT_VALUES, CONTINUES, gamma=0.5, lambda_=0.0)
    torch.testing.assert_close(one_step, REWARDS + 0.5 * NEXT_VALUES - VALUES)
    whole = generalized_advantages(REWARDS, VALUES, NEXT_VALUES, CONTINUES, gamma=0.5, lambda_=1.0)
    # Chunk 1: 1 + 0.5 * 2 + 0.25 * 3 = 2.75; chunk 2 with its bootstrap: 1 + 0.5 * 1 + 0.25 * 8 = 3.5.
    assert (whole + VALUES)[[0, 3]].tolist() == [2.75, 3.5]


@pytest.mark.parametrize("rows", [0, 1])
def test_no_row_and_one_row(rows: int) -> None:
    advantages = generalized_advantages(
        REWARDS[:rows], VALUES[:rows], NEXT_VALUES[:rows], CONTINUES[:rows], gamma=0.5, lambda_=0.5
    )
    assert advantages.tolist() == [-2.0][:rows]


def test_gradient_agrees_with_finite_differences() -> None:
    columns = [column.clone().requires_grad_() for column in (REWARDS, VALUES, NEXT_VALUES)]
    assert torch.autograd.gradcheck(
        lambda r, v, n: generalized_advantages(r, v, n, CONTINUES, gamma=0.9, lambda_=0.8), columns
    )


@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_a_column_of_another_shape_is_refused(column: int) -> None:
    columns = [REWARDS, VALUES, NEXT_VALUES, CONTINUES]
    columns[column] = columns[column].unsqueeze(-1)
    with pytest.raises(BatchError, match="generalized_advantages"):
        generalized_advantages(*columns, gamma=0.9, lambda_=0.9)


def test_rank_two_is_refused() -> None:
    columns = [c.reshape(1, -1) for c in (REWARDS, VALUES, NEXT_VALUES, CONTINUES)]
    with pytest.raises(BatchError, match=r"must be \[N\]"):
        generalized_advantages(*columns, gamma=0.9, lambda_=0.9)
