"""Losses and advantage estimates as pure functions of tensors."""

from unison.losses.advantages import generalized_advantages, value_targets
from unison.losses.masking import masked_mean, standardize
from unison.losses.ppo import approximate_kl, clipped_surrogate, explained_variance, value_loss

__all__ = [
    "approximate_kl",
    "clipped_surrogate",
    "explained_variance",
    "generalized_advantages",
    "masked_mean",
    "standardize",
    "value_loss",
    "value_targets",
]
