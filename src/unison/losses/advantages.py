"""Advantage estimates over concatenated chunks of episodes."""

import torch
from torch import Tensor
from torch.nn import functional

from unison.errors import BatchError
from unison.losses.checks import check_rows


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    continues: Tensor,
    *,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """Generalized advantage estimates, `A_t = delta_t + gamma * lambda * A_(t+1)` within each chunk.

    With `delta_t = r_t + gamma * V(s_(t+1)) - V(s_t)` (Schulman et al. 2016, "High-Dimensional Continuous Control Using
    Generalized Advantage Estimation", eq. 11 to 16). Chunks of episodes lie one after another, each in order.
    Termination, truncation and the end of a chunk differ in `next_values` alone: a terminated episode has no future, a
    truncated or cut one goes on unseen and is bootstrapped.

    The recurrence is linear, so it is solved by recursive doubling (Hillis and Steele 1986): after pass k each row
    holds the sum over its next 2^k rows. That is log2(N) vectorized passes instead of N steps, whatever the layout.

    Args:
        rewards: `[N]`, reward of each step.
        values: `[N]`, V(s_t).
        next_values: `[N]`, V(s_(t+1)); 0 where the episode terminated, V(final observation) where it was truncated or
            the chunk was cut.
        continues: `[N]`, bool or floating; 1 where row i + 1 is the next step of the same chunk, else 0. The last row
            never continues, whatever it holds.
        gamma: Discount, in [0, 1].
        lambda_: Exponential weight of longer estimates, in [0, 1].

    Returns:
        Advantages `[N]`. Value targets are `advantages + values`.

    Raises:
        BatchError: A tensor is not of rank 1, or shapes or dtypes do not fit.
    """
    check_rows("generalized_advantages", rewards=rewards, values=values, next_values=next_values)
    if rewards.ndim != 1 or continues.shape != rewards.shape:
        raise BatchError(
            f"generalized_advantages: 'rewards' is {list(rewards.shape)} and 'continues' {list(continues.shape)}; both "
            "must be [N], all chunks concatenated."
        )
    length = rewards.shape[0]
    advantages = rewards + gamma * next_values - values
    # Row i weighs row i + 1 by decays[i]; it is 0 at the end of a chunk, so that sums never cross into the next one.
    decays = continues.to(rewards.dtype) * (gamma * lambda_)
    offset = 1
    while offset < length:
        # Shifting in zeros from the right makes the last row end its chunk; 0 times what comes later might be NaN.
        later = functional.pad(advantages[offset:], (0, offset))
        advantages = advantages + torch.where(decays != 0, decays * later, 0.0)
        decays = decays * functional.pad(decays[offset:], (0, offset))
        offset *= 2
    return advantages


def value_targets(advantages: Tensor, values: Tensor) -> Tensor:
    """The lambda-returns `A_t + V(s_t)`, towards which a value function is fitted (Schulman et al. 2016, section 5).

    Args:
        advantages: `[N]`, from `generalized_advantages`.
        values: `[N]`, the values it was given.

    Returns:
        Targets `[N]`.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    check_rows("value_targets", advantages=advantages, values=values)
    return advantages + values
