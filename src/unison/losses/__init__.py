"""Losses and advantage estimates as pure functions of tensors."""

from unison.losses.advantages import generalized_advantages, value_targets
from unison.losses.masking import masked_mean, standardize
from unison.losses.ppo import approximate_kl, clipped_surrogate, explained_variance, value_loss
from unison.losses.sac import (
    actor_loss,
    discrete_soft_value,
    soft_target,
    soft_value,
    temperature_loss,
    twin_critic_loss,
)

__all__ = [
    "actor_loss",
    "approximate_kl",
    "clipped_surrogate",
    "discrete_soft_value",
    "explained_variance",
    "generalized_advantages",
    "masked_mean",
    "soft_target",
    "soft_value",
    "standardize",
    "temperature_loss",
    "twin_critic_loss",
    "value_loss",
    "value_targets",
]
