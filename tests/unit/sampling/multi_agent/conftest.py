"""Environments of many agents whose every observation says what came before it."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pettingzoo import AECEnv, ParallelEnv

from unison.config import AlgorithmConfig
from unison.sampling import MultiAgentEnvRunner

BOX, DISCRETE = gym.spaces.Box(-np.inf, np.inf, (3,)), gym.spaces.Discrete(3)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Visitors(ParallelEnv):
    """Agents come and go by `visits`, {agent: (first step, last step)}; who is there observes (tag, step, last action).

    An agent in `silent` has an observation at every other step only. The reward is 10 * step + action. An
    agent's visit ends terminated, those that stay to `length` are truncated. `crash_at` counts steps in all.
    """

    def __init__(
        self,
        visits: dict[str, tuple[int, int]],
        length: int = 6,
        silent: tuple[str, ...] = (),
        crash_at: int | None = None,
        leaves: str | None = None,
    ) -> None:
        self.possible_agents = list(visits)
        self.visits, self.length, self.silent, self.crash_at, self.leaves = visits, length, silent, crash_at, leaves
        self.agents: list[str] = []
        self.total, self.tag = 0, -1
        self.buffer = np.zeros(3)

    def observation_space(self, agent: str) -> gym.Space:
        return BOX

    def action_space(self, agent: str) -> gym.Space:
        return DISCRETE

    def observe(self, action: float) -> Any:
        # float64, and the same array again and again, as careless environments do.
        self.buffer[:] = (self.tag, self.step_count, action)
        return self.buffer

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.tag = self.tag if seed is None else seed % 1000
        self.step_count = 0
        self.agents = [a for a, (first, _) in self.visits.items() if first == 0]
        return {a: self.observe(-1).copy() for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        self.total += 1
        if self.total == self.crash_at:
            raise ValueError("boom")
        expected = [a for a in self.agents if a not in self.silent or self.step_count % 2 == 0]
        assert list(actions) == expected, (actions, expected)
        rewards = {a: 10.0 * self.step_count + float(actions.get(a, 0)) for a in self.agents}
        self.step_count += 1
        step, over = self.step_count, self.step_count >= self.length
        ended = {a: self.visits[a][1] <= step for a in self.agents}
        cut = {a: over and not ended[a] for a in self.agents}
        come = [a for a, (first, _) in self.visits.items() if first == step and not over]
        seen = [a for a in [*self.agents, *come] if a not in self.silent or step % 2 == 0 or ended.get(a) or over]
        observations = {a: self.observe(float(actions.get(a, -1))).copy() for a in seen}
        self.agents = [a for a in self.agents if not ended[a] and not cut[a]] + come
        if self.leaves in self.agents and step == 2:
            self.agents.remove(self.leaves)  # without a word
        return observations, rewards, ended, cut, {}


class Turns(AECEnv):
    """Players in turn; a move of player k pays itself 1 and all others 0.25; after `length` moves the last one wins 8.

    Observations are (moves so far, player, 0).
    """

    metadata = {"name": "turns"}  # noqa: RUF012

    def __init__(self, players: int = 3, length: int = 7, out: int | None = None) -> None:
        super().__init__()
        self.possible_agents = [f"player_{number}" for number in range(players)]
        self.length, self.out = length, out

    def observation_space(self, agent: str) -> gym.Space:
        return BOX

    def action_space(self, agent: str) -> gym.Space:
        return DISCRETE

    def observe(self, agent: str) -> Any:
        return np.array([self.moves, self.possible_agents.index(agent), 0], np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents, self.moves = list(self.possible_agents), 0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = self.agents[0]

    def step(self, action: Any) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self.moves += 1
        self.rewards = {a: 1.0 if a == agent else 0.25 for a in self.agents}
        if self.moves == self.length:
            self.rewards[agent] += 8.0
            self.terminations = dict.fromkeys(self.agents, True)
        elif self.out is not None and self.moves == 4:
            self.truncations[self.possible_agents[self.out]] = True
        place = self.agents.index(agent) + 1
        later = [*self.agents[place:], *self.agents[:place]]
        self.agent_selection = next((a for a in later if not self.truncations[a]), later[0])
        self._accumulate_rewards()
        self._deads_step_first()


RunnerMaker = Callable[..., MultiAgentEnvRunner]


@pytest.fixture
def make_runner() -> Iterator[RunnerMaker]:
    """Makes runners of a few settings, and stops them in the end."""
    made: list[MultiAgentEnvRunner] = []

    def make(env: Any, *, envs: int = 1, seed: int = 0, **settings: Any) -> MultiAgentEnvRunner:
        own = {name: settings.pop(name) for name in ("module", "worker_index", "evaluation") if name in settings}
        config = AlgorithmConfig().environment(lambda _: env() if callable(env) else env).debugging(seed=seed)
        config.env_runners(num_envs_per_env_runner=envs).evaluation(evaluation_num_envs=envs)
        config.rl_module(model_config={"hidden_sizes": (4,)}).change(settings)
        made.append(MultiAgentEnvRunner(config, **own))
        return made[-1]

    yield make
    for runner in made:
        runner.stop()
