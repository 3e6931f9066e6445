"""Counters and averages of sampling."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np

from unison.sampling.running import Finished


def summarize(returns: Sequence[float], lengths: Sequence[int]) -> dict[str, float]:
    """Mean, least and greatest return and mean length; NaN where no episode has ended."""
    if not returns:
        nan = float("nan")
        return {f"episode_{name}": nan for name in ("return_mean", "return_min", "return_max", "len_mean")}
    return {
        "episode_return_mean": float(np.mean(returns)),
        "episode_return_min": float(min(returns)),
        "episode_return_max": float(max(returns)),
        "episode_len_mean": float(np.mean(lengths)),
    }


@final
class SamplingMetrics:
    """Averages over the last episodes, and counts since the last report and since the beginning.

    Args:
        window: how many episodes the averages are taken over.
    """

    def __init__(self, window: int) -> None:
        self._episodes: deque[tuple[float, int]] = deque(maxlen=window)
        self._num_episodes = 0
        self._num_env_steps = 0
        self.num_env_steps_lifetime = 0
        self.num_episodes_lifetime = 0

    def add_steps(self, num_steps: int) -> None:
        """Count environment steps."""
        self._num_env_steps += num_steps
        self.num_env_steps_lifetime += num_steps

    def add_episodes(self, finished: Iterable[Finished]) -> None:
        """Take in episodes that have ended."""
        for episode in finished:
            self._episodes.append((episode.episode_return, episode.length))
            self._num_episodes += 1
            self.num_episodes_lifetime += 1

    def report(self) -> dict[str, float]:
        """The averages, and the counts since the last report."""
        returns = [episode_return for episode_return, _ in self._episodes]
        lengths = [length for _, length in self._episodes]
        results = summarize(returns, lengths) | {
            "num_episodes": self._num_episodes,
            "num_env_steps_sampled": self._num_env_steps,
            "num_episodes_lifetime": self.num_episodes_lifetime,
            "num_env_steps_sampled_lifetime": self.num_env_steps_lifetime,
        }
        self._num_episodes = self._num_env_steps = 0
        return results

    def get_state(self) -> dict[str, Any]:
        """Counters and window, for `set_state`."""
        return {
            "episodes": [list(episode) for episode in self._episodes],
            "num_episodes": self._num_episodes,
            "num_env_steps": self._num_env_steps,
            "num_env_steps_lifetime": self.num_env_steps_lifetime,
            "num_episodes_lifetime": self.num_episodes_lifetime,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over counters and window."""
        self._episodes.clear()
        self._episodes.extend((float(episode_return), int(length)) for episode_return, length in state["episodes"])
        self._num_episodes = int(state["num_episodes"])
        self._num_env_steps = int(state["num_env_steps"])
        self.num_env_steps_lifetime = int(state["num_env_steps_lifetime"])
        self.num_episodes_lifetime = int(state["num_episodes_lifetime"])


def merge_reports(states: Sequence[Mapping[str, Any]], window: int) -> dict[str, float]:
    """One report from the states of several SamplingMetrics: averages over `window` episodes, lifetime counts."""
    share = max(1, window // max(1, len(states)))
    episodes = [episode for state in states for episode in state["episodes"][-share:]]
    return summarize([r for r, _ in episodes], [n for _, n in episodes]) | {
        "num_episodes_lifetime": float(sum(state["num_episodes_lifetime"] for state in states)),
        "num_env_steps_sampled_lifetime": float(sum(state["num_env_steps_lifetime"] for state in states)),
    }
