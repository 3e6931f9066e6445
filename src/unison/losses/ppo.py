"""The parts of PPO's objective (Schulman et al. 2017, "Proximal Policy Optimization Algorithms").

Each returns a 0-d tensor to be minimized or reported. They are on the path of every minibatch, where a small network's
time goes into launching kernels: so the forms below are chosen for few kernels, forward and backward.
"""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from unison.errors import BatchError
from unison.losses.checks import check_rows
from unison.losses.masking import masked_mean


def clipped_surrogate(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    clip_param: float | Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """PPO's policy loss, `-mean(min(r A, clip(r, 1 - e, 1 + e) A))` with `r = pi(a|s) / pi_old(a|s)`.

    Schulman et al. 2017, eq. 7. Computed as `mean(relu(b - r A) - b)` with `b = A + e |A|`: clipping binds only on the
    side where it lowers the objective, and there its bound `b` does not depend on the policy. The result is the same,
    the gradient needs a third of the kernels.

    Args:
        logp: `[B]` or `[B, T]`, log-probability of each action under the policy being trained.
        old_logp: The same under the policy that acted.
        advantages: The advantage of each action.
        clip_param: How far the ratio may move, e > 0; a float or a 0-d tensor.
        mask: Bool, true where a row is valid; None means all.

    Returns:
        The loss, a 0-d tensor.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    check_rows("clipped_surrogate", mask, logp=logp, old_logp=old_logp, advantages=advantages)
    log_ratio = logp - old_logp
    if mask is not None:
        # What padded rows hold could overflow exp, and 0 * inf poison the gradient: nothing passes back through here.
        log_ratio = torch.where(mask, log_ratio, 0.0)
    bound = _clip_bound(advantages, clip_param)
    losses = (bound - advantages * log_ratio.exp()).relu() - bound
    return masked_mean(losses, mask)


def _clip_bound(advantages: Tensor, clip_param: float | Tensor) -> Tensor:
    """`A + e |A|`: (1 + e) A for a good action, (1 - e) A for a bad one."""
    if isinstance(clip_param, Tensor):
        return torch.addcmul(advantages, advantages.abs(), clip_param)
    return torch.add(advantages, advantages.abs(), alpha=clip_param)


def value_loss(
    values: Tensor,
    targets: Tensor,
    old_values: Tensor | None = None,
    vf_clip_param: float | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The mean squared error of the values, optionally clipped around the old ones; no factor 1/2.

    Clipped, it is `mean(max((V - y)^2, (V_old + clip(V - V_old, -c, c) - y)^2))` (Engstrom et al. 2020,
    "Implementation Matters in Deep Policy Gradients", section 3).

    Args:
        values: `[B]` or `[B, T]`, V(s) being trained.
        targets: What they are fitted to.
        old_values: V(s) when the batch was sampled; needed for clipping only.
        vf_clip_param: How far values may move, c > 0, in the units of returns; None does not clip.
        mask: Bool, true where a row is valid; None means all.

    Returns:
        The loss, a 0-d tensor.

    Raises:
        BatchError: A shape or a dtype does not fit, or clipping is asked for without `old_values`.
    """
    check_rows("value_loss", mask, values=values, targets=targets, old_values=old_values)
    if vf_clip_param is None and mask is None:
        return functional.mse_loss(values, targets)
    if mask is not None:
        values = torch.where(mask, values, 0.0)
    errors = (values - targets).square()
    if vf_clip_param is not None:
        if old_values is None:
            raise BatchError("value_loss: 'vf_clip_param' needs 'old_values' (column 'vf_preds' of the batch).")
        limit = cast(float, vf_clip_param)  # torch clamps by tensors too, but its stubs want both bounds of one type
        moved = (values - old_values).clamp(-limit, limit)
        errors = torch.maximum(errors, (old_values + moved - targets).square())
    return masked_mean(errors, mask)


def explained_variance(targets: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The share of the targets' variance that the values explain, `1 - Var(y - V) / Var(y)`.

    1 is perfect, 0 no better than a constant, negative worse. Has no gradient.

    Args:
        targets: `[B]` or `[B, T]`.
        values: Predictions of the targets.
        mask: Bool, true where a row is valid; None means all.

    Returns:
        A 0-d tensor; 0 if the targets are all equal.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    check_rows("explained_variance", mask, targets=targets, values=values)
    targets, values = targets.detach(), values.detach()
    unexplained, total = _variance(targets - values, mask), _variance(targets, mask)
    return torch.where(total > 0, 1 - unexplained / total, 0.0)


def _variance(x: Tensor, mask: Tensor | None) -> Tensor:
    """The population variance of the valid entries."""
    if mask is None:
        return x.var(correction=0)
    return masked_mean((x - masked_mean(x, mask)).square(), mask)


def approximate_kl(logp: Tensor, old_logp: Tensor, mask: Tensor | None = None) -> Tensor:
    """An estimate of KL(pi_old || pi) from the sampled actions alone, `mean((r - 1) - log r)`.

    Unbiased, never negative, and of lower variance than `mean(-log r)` (Schulman 2020, "Approximating KL Divergence",
    estimator k3). Has no gradient: it is meant as a metric where the exact divergence is not needed.

    Args:
        logp: `[B]` or `[B, T]`, log-probability of each action under the policy being trained.
        old_logp: The same under the policy that acted.
        mask: Bool, true where a row is valid; None means all.

    Returns:
        A 0-d tensor, in nats.

    Raises:
        BatchError: A shape or a dtype does not fit.
    """
    check_rows("approximate_kl", mask, logp=logp, old_logp=old_logp)
    log_ratio = logp.detach() - old_logp
    return masked_mean(log_ratio.expm1() - log_ratio, mask)
