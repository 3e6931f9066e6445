"""Counters and averages of sampling."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

import numpy as np

from unison.sampling.quota import even_shares
from unison.sampling.running import Finished
from unison.types import ModuleID

_WHOSE: Final = ("agent", "module")


def summarize(episodes: Sequence[Finished]) -> dict[str, Any]:
    """Mean, least and greatest return and mean length (NaN where no episode has ended), and by agent and module."""
    members = _Members(None)
    for episode in episodes:
        members.add(episode)
    averages = _averages([e.episode_return for e in episodes], [e.length for e in episodes])
    return averages | (members.report() if any(e.agents for e in episodes) else {})


def _averages(returns: Sequence[float], lengths: Sequence[int]) -> dict[str, float]:
    if not returns:
        nan = float("nan")
        return {f"episode_{name}": nan for name in ("return_mean", "return_min", "return_max", "len_mean")}
    return {
        "episode_return_mean": float(np.mean(returns)),
        "episode_return_min": float(min(returns)),
        "episode_return_max": float(max(returns)),
        "episode_len_mean": float(np.mean(lengths)),
    }


class _Members:
    """The last returns of each agent and of each module, where there are many; all returns, if `window` is None."""

    def __init__(self, window: int | None) -> None:
        self._window = window
        self._returns: dict[str, dict[str, deque[float]]] = {whose: {} for whose in _WHOSE}

    def add(self, episode: Finished) -> None:
        """Take in an episode that has ended."""
        for agent_id, module_id, agent_return in episode.agents:
            for whose, name in zip(_WHOSE, (str(agent_id), module_id), strict=True):
                self._of(whose, name).append(agent_return)

    def extend(self, state: Sequence[Mapping[str, Any]], last: int) -> None:
        """Take in the last returns of a state of `get_state`."""
        for member in state:
            self._of(member["whose"], member["name"]).extend(member["returns"][-last:])

    def _of(self, whose: str, name: str) -> deque[float]:
        return self._returns[whose].setdefault(name, deque(maxlen=self._window))

    def forget_module(self, module_id: ModuleID) -> None:
        """Leave a module out from now on."""
        self._returns["module"].pop(module_id, None)

    def report(self) -> dict[str, dict[str, float]]:
        """The mean return of each agent and of each module."""
        return {
            f"{whose}_return_mean": {name: float(np.mean(returns)) for name, returns in named.items()}
            for whose, named in self._returns.items()
        }

    def get_state(self) -> list[dict[str, Any]]:
        """The windows, for `extend`."""
        return [
            {"whose": whose, "name": name, "returns": list(returns)}
            for whose, named in self._returns.items()
            for name, returns in named.items()
        ]


@final
class SamplingMetrics:
    """Averages over the last episodes, and counts since the last report and since the beginning.

    Args:
        window: how many episodes the averages are taken over.
        has_members: whether there are many agents, whose averages are kept as well.
    """

    def __init__(self, window: int, *, has_members: bool = False) -> None:
        self._window = window
        self._has_members = has_members
        self._episodes: deque[tuple[float, int]] = deque(maxlen=window)
        self._members = _Members(window)
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
            self._members.add(episode)
            self._num_episodes += 1
            self.num_episodes_lifetime += 1

    def forget_module(self, module_id: ModuleID) -> None:
        """Leave a module out from now on."""
        self._members.forget_module(module_id)

    def report(self) -> dict[str, Any]:
        """The averages, and the counts since the last report."""
        returns = [episode_return for episode_return, _ in self._episodes]
        lengths = [length for _, length in self._episodes]
        results: dict[str, Any] = _averages(returns, lengths) | {
            "num_episodes": self._num_episodes,
            "num_env_steps_sampled": self._num_env_steps,
            "num_episodes_lifetime": self.num_episodes_lifetime,
            "num_env_steps_sampled_lifetime": self.num_env_steps_lifetime,
        }
        self._num_episodes = self._num_env_steps = 0
        return results | (self._members.report() if self._has_members else {})

    def get_state(self) -> dict[str, Any]:
        """Counters and windows, for `set_state`."""
        members = {"members": self._members.get_state()} if self._has_members else {}
        return members | {
            "episodes": [list(episode) for episode in self._episodes],
            "num_episodes": self._num_episodes,
            "num_env_steps": self._num_env_steps,
            "num_env_steps_lifetime": self.num_env_steps_lifetime,
            "num_episodes_lifetime": self.num_episodes_lifetime,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over counters and windows."""
        self._episodes.clear()
        self._episodes.extend((float(episode_return), int(length)) for episode_return, length in state["episodes"])
        self._members = _Members(self._window)
        self._members.extend(state.get("members", ()), self._window)
        self._num_episodes = int(state["num_episodes"])
        self._num_env_steps = int(state["num_env_steps"])
        self.num_env_steps_lifetime = int(state["num_env_steps_lifetime"])
        self.num_episodes_lifetime = int(state["num_episodes_lifetime"])


def without_module(state: Mapping[str, Any], module_id: ModuleID) -> dict[str, Any]:
    """A state of SamplingMetrics that has forgotten a module."""
    members = [m for m in state.get("members", ()) if (m["whose"], m["name"]) != ("module", module_id)]
    return {**state, "members": members} if "members" in state else dict(state)


def without_steps(number: int) -> dict[str, Any]:
    """A state of SamplingMetrics that, merged with others, takes so many environment steps off their count."""
    empty = SamplingMetrics(1).get_state()
    return empty | {"num_env_steps_lifetime": -number}


def merge_states(
    states: Sequence[Mapping[str, Any]],
    window: int,
    reported: Mapping[str, int],
    retired: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """One state from those of several SamplingMetrics.

    Args:
        states: of those that go on; each has its share of the window.
        window: how many episodes the averages are taken over.
        reported: up to where their counts were reported together.
        retired: of those that are gone. Their counts stay; their episodes have what room the others leave in the
            window, so that they make way for new ones.
    """
    size = max(window, len(states))
    shares = even_shares(size, len(states))
    episodes: deque[Sequence[float]] = deque(maxlen=size)
    members = _Members(size)
    for state, share in (*((state, size) for state in retired), *zip(states, shares, strict=True)):
        episodes.extend(state["episodes"][-share:])
        members.extend(state.get("members", ()), share)
    everyone = [*retired, *states]
    num_episodes = sum(state["num_episodes_lifetime"] for state in everyone)
    env_steps = sum(state["num_env_steps_lifetime"] for state in everyone)
    return ({"members": members.get_state()} if any("members" in state for state in everyone) else {}) | {
        "episodes": list(episodes),
        "num_episodes": num_episodes - reported["num_episodes"],
        "num_env_steps": env_steps - reported["num_env_steps_sampled"],
        "num_env_steps_lifetime": env_steps,
        "num_episodes_lifetime": num_episodes,
    }


def merge_reports(
    states: Sequence[Mapping[str, Any]],
    window: int,
    reported: Mapping[str, int],
    retired: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """One report of several SamplingMetrics; see `merge_states`."""
    merged = merge_states(states, window, reported, retired)
    one = SamplingMetrics(max(window, len(states)), has_members="members" in merged)
    one.set_state(merged)
    return one.report()
