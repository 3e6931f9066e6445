"""The losses of soft actor-critic, for continuous and for discrete actions.

Haarnoja et al. 2018a, "Soft Actor-Critic: Off-Policy Maximum Entropy Deep Reinforcement Learning with a Stochastic
Actor"; Haarnoja et al. 2018b, "Soft Actor-Critic Algorithms and Applications"; Christodoulou 2019, "Soft Actor-Critic
for Discrete Action Settings". The critics are stacked along a first dimension, C: two for the twin critics of 2018b.
"""

import torch
from torch import Tensor

from unison.errors import BatchError
from unison.losses.checks import check_booleans, check_rows
from unison.losses.masking import masked_mean


def soft_value(qs: Tensor, logp: Tensor, alpha: float | Tensor) -> Tensor:
    """The soft value of sampled actions, `min_c Q_c(s, a) - alpha log pi(a|s)`.

    Haarnoja et al. 2018b, eq. 3, with the least of the critics against overestimation (section 5).

    Args:
        qs: `[C, B]`, the critics' values of actions drawn from the policy.
        logp: `[B]`, the log-probabilities of these actions.
        alpha: The temperature; a float or a 0-d tensor.

    Returns:
        `[B]`.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    least = _least(qs, "soft_value")
    check_rows("soft_value", logp=logp, least_q=least)
    return least - alpha * logp


def discrete_soft_value(qs: Tensor, log_probs: Tensor, alpha: float | Tensor) -> Tensor:
    """The soft value in expectation over the actions, `sum_a pi(a|s) (min_c Q_c(s, a) - alpha log pi(a|s))`.

    Christodoulou 2019, eq. 10: with few actions nothing needs to be sampled.

    Args:
        qs: `[C, B, n]`, the critics' values of every action.
        log_probs: `[B, n]`, the normalized log-probability of every action (finite).
        alpha: The temperature; a float or a 0-d tensor.

    Returns:
        `[B]`.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    least = _least(qs, "discrete_soft_value")
    check_rows("discrete_soft_value", log_probs=log_probs, least_q=least)
    return (log_probs.exp() * (least - alpha * log_probs)).sum(-1)


def soft_target(
    rewards: Tensor,
    next_values: Tensor,
    terminateds: Tensor,
    *,
    gamma: float,
    n_steps: int | Tensor = 1,
) -> Tensor:
    """The target of the critics, `R + gamma^n (1 - terminated) V(s_n)`, without gradient.

    Haarnoja et al. 2018b, eq. 2. With several steps, R sums the rewards of the n steps, discounted by gamma at each
    (Sutton and Barto 2018, section 7.1), and s_n is the state after them. A truncated episode keeps its future.

    Args:
        rewards: `[B]`, R: for one step its reward.
        next_values: `[B]`, the soft value of s_n by the target critics.
        terminateds: `[B]`, bool; true where the episode terminated within the n steps.
        gamma: Discount of one step, in [0, 1].
        n_steps: n; a tensor `[B]` where rows differ because their episodes ended early.

    Returns:
        Targets `[B]`.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    check_rows("soft_target", rewards=rewards, next_values=next_values)
    check_booleans("soft_target", "terminateds", terminateds, rewards.shape, "the episode terminated")
    if isinstance(n_steps, Tensor):
        check_rows("soft_target", rewards=rewards, n_steps=n_steps.to(rewards.dtype))
        discounts = torch.pow(gamma, n_steps.to(rewards.dtype))
    else:
        discounts = gamma**n_steps
    return (rewards + discounts * torch.where(terminateds, 0.0, next_values)).detach()


def twin_critic_loss(qs: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """The loss of the critics, `sum_c mean(1/2 (Q_c(s, a) - y)^2)`.

    Haarnoja et al. 2018b, eq. 5, summed over the critics, so that each is trained as if alone.

    Args:
        qs: `[C, B]`, the critics' values of the actions that were taken.
        targets: `[B]`, from `soft_target`.
        mask: `[B]`, bool, true where a row is valid; None means all.
        weights: `[B]`, the weight of each row, such as the importance weights of a prioritized replay (Schaul et al.
            2016, section 3.4); None means 1.

    Returns:
        The loss, a 0-d tensor.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    if qs.ndim != 2 or qs.shape[1:] != targets.shape:
        raise BatchError(
            f"twin_critic_loss: 'qs' is {list(qs.shape)} and 'targets' {list(targets.shape)}, but [C, B] and [B] are "
            "needed. Stack the critics' values along the first dimension."
        )
    check_rows("twin_critic_loss", mask, targets=targets, weights=weights)
    if mask is not None:
        qs = torch.where(mask, qs, 0.0)
    errors = 0.5 * (qs - targets).square().sum(0)
    return masked_mean(errors if weights is None else weights * errors, mask)


def actor_loss(soft_values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The policy's loss, `-mean(V)`: with `V = min_c Q_c - alpha log pi` it is `mean(alpha log pi - min_c Q_c)`.

    Haarnoja et al. 2018b, eq. 7 and 9, of reparametrized actions (`soft_value`); Christodoulou 2019, eq. 12, in
    expectation over discrete ones (`discrete_soft_value`). The gradient must reach the policy through the soft values;
    that of alpha and of the critics' parameters is for the caller to hold back.

    Args:
        soft_values: `[B]`, under the policy being trained.
        mask: `[B]`, bool, true where a row is valid; None means all.

    Returns:
        The loss, a 0-d tensor.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    check_rows("actor_loss", mask, soft_values=soft_values)
    return -masked_mean(soft_values, mask)


def temperature_loss(
    log_alpha: Tensor, logp: Tensor, target_entropy: float | Tensor, mask: Tensor | None = None
) -> Tensor:
    """The loss of the temperature, `-alpha mean(log pi + target entropy)`; its gradient reaches `log_alpha` alone.

    Haarnoja et al. 2018b, eq. 18: alpha grows while the policy's entropy lies below the target, else it shrinks.

    Args:
        log_alpha: 0-d, the logarithm of the temperature, which keeps it positive.
        logp: `[B]`, log-probabilities of actions drawn from the policy; of discrete actions their expectation, the
            negative entropy (Christodoulou 2019, eq. 11).
        target_entropy: In nats; a float or a 0-d tensor.
        mask: `[B]`, bool, true where a row is valid; None means all.

    Returns:
        The loss, a 0-d tensor.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    check_rows("temperature_loss", mask, logp=logp)
    if log_alpha.ndim != 0:
        raise BatchError(f"temperature_loss: 'log_alpha' is {list(log_alpha.shape)}, but a 0-d tensor is needed.")
    return -log_alpha.exp() * masked_mean(logp.detach() + target_entropy, mask)


def _least(qs: Tensor, function: str) -> Tensor:
    """The least of the critics' values, `[...]` of `[C, ...]`."""
    if qs.ndim < 2:
        raise BatchError(
            f"{function}: 'qs' is {list(qs.shape)}, but [C, B] or [C, B, n] is needed. Stack the critics' values along "
            "the first dimension."
        )
    # min and not amin, whose gradient divides by the count of equal ones: that is 0 / 0 where padding holds NaN.
    return qs.min(dim=0).values
