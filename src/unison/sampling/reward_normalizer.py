"""Rewards on the scale of the return."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, final

import numpy as np

from unison.errors import StateError
from unison.sampling.quota import even_shares

Array = np.ndarray[Any, Any]
_CLIP: Final = 10.0
_SMALLEST_VARIANCE: Final = 1e-8


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of so many values."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Statistics":
        """Those of a saved state; raises StateError if it lacks a part."""
        missing = sorted(cls.__dataclass_fields__.keys() - state.keys())
        if missing:
            raise StateError(f"The reward normalizer's state lacks {missing}.")
        return cls(int(state["count"]), float(state["mean"]), float(state["variance"]))

    def merged_with(self, other: "Statistics") -> "Statistics":
        """Those of both sets of values together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        if other.count == 0:
            return self
        delta = other.mean - self.mean
        squares = self.variance * self.count + other.variance * other.count
        variance = (squares + delta**2 * self.count * other.count / count) / count
        return Statistics(count, self.mean + delta * other.count / count, variance)


def spread_evenly(states: Iterable[Mapping[str, Any]], number: int) -> list[dict[str, Any]]:
    """States for `number` RewardNormalizers that together have seen what those with these states have seen."""
    total = Statistics()
    for state in states:
        total = total.merged_with(Statistics.of(state))
    return [asdict(replace(total, count=share)) for share in even_shares(total.count, number)]


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
        self._statistics = Statistics()

    @property
    def scale(self) -> float:
        """What rewards are divided by; 1 until returns have varied."""
        variance = self._statistics.variance
        return float(np.sqrt(variance)) if variance > _SMALLEST_VARIANCE else 1.0

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
        finite = returns[valid & np.isfinite(returns)]
        if len(finite):
            new = Statistics(len(finite), float(finite.mean()), float(finite.var()))
            self._statistics = self._statistics.merged_with(new)
        return np.clip(rewards / self.scale, -_CLIP, _CLIP).astype(np.float32)

    def get_state(self) -> dict[str, Any]:
        """The statistics, for `set_state`."""
        return asdict(self._statistics)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over statistics.

        Raises:
            StateError: `state` lacks a part.
        """
        self._statistics = Statistics.of(state)
