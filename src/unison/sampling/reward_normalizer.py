"""Rewards on the scale of the return."""

from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np

from unison.errors import StateError

Array = np.ndarray[Any, Any]
_CLIP: Final = 10.0
_SMALLEST_VARIANCE: Final = 1e-8


@final
class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return, and clips them to ±10.

    The discounted return runs forward within each episode, R_t = gamma R_{t-1} + r_t (Engstrom et al.
    2020, "Implementation Matters in Deep Policy Gradients", section 3). Its statistics take in a
    whole sample before that sample is divided, so that all rewards of a sample have one scale. Rewards are
    not centred, which would change what is optimal. Returns that are NaN or infinite do not count; they end
    with their episode.

    Args:
        gamma: the discount factor.
    """

    def __init__(self, gamma: float) -> None:
        self._gamma = gamma
        self._count = 0
        self._mean = 0.0
        self._variance = 0.0

    @property
    def scale(self) -> float:
        """What rewards are divided by; 1 until returns have varied."""
        return float(np.sqrt(self._variance)) if self._variance > _SMALLEST_VARIANCE else 1.0

    def __call__(self, rewards: Array, begins: Array, valid: Array, running: Array) -> Array:
        """Take in a sample and normalize it.

        Args:
            rewards: [N, T], of N environments or agents.
            begins: [N, T] bool: the first step of an episode.
            valid: [N, T] bool: False where there was no step.
            running: [N]: the discounted returns before the sample; overwritten with those after it.

        Returns:
            float32 [N, T].
        """
        returns = np.empty_like(rewards)
        for step in range(rewards.shape[1]):
            discounted = self._gamma * np.where(begins[:, step], 0.0, running) + rewards[:, step]
            running[:] = np.where(valid[:, step], discounted, running)
            returns[:, step] = running
        self._merge(returns[valid & np.isfinite(returns)])
        return np.clip(rewards / self.scale, -_CLIP, _CLIP).astype(np.float32)

    def _merge(self, returns: Array) -> None:
        """Add values to mean and variance (Chan, Golub and LeVeque 1979)."""
        count = len(returns)
        if count == 0:
            return
        total = self._count + count
        delta = float(returns.mean()) - self._mean
        squares = self._variance * self._count + float(returns.var()) * count
        self._variance = (squares + delta**2 * self._count * count / total) / total
        self._mean += delta * count / total
        self._count = total

    def get_state(self) -> dict[str, Any]:
        """The statistics, for `set_state`."""
        return {"count": self._count, "mean": self._mean, "variance": self._variance}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over statistics.

        Raises:
            StateError: `state` lacks a part.
        """
        missing = sorted({"count", "mean", "variance"} - state.keys())
        if missing:
            raise StateError(f"The reward normalizer's state lacks {missing}.")
        self._count, self._mean, self._variance = int(state["count"]), float(state["mean"]), float(state["variance"])
