"""Sampling with many agents: PettingZoo environments, modules that act in them, and episodes that come out."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, final

import torch

from unison.config import AlgorithmConfig, policy_mapping
from unison.data import MultiAgentEpisode, SingleAgentEpisode
from unison.data.multi_agent_episode import PolicyMapping
from unison.errors import ModuleError
from unison.modules import MultiAgentRLModule, RLModule
from unison.modules.random_module import RandomModule
from unison.sampling.local_runner import LocalRunner
from unison.sampling.multi_agent.rewards import AgentRewards
from unison.sampling.multi_agent.roles import Decision, Role
from unison.sampling.multi_agent.stage import Stage
from unison.sampling.multi_agent.worlds import make_worlds
from unison.sampling.quota import Quota
from unison.sampling.running import Finished
from unison.suggest import did_you_mean
from unison.types import AgentID, ModuleID


class _Ended(NamedTuple):
    """The last chunk of an episode; `finished` is None if its environment crashed."""

    chunk: MultiAgentEpisode
    finished: Finished | None


@final
class MultiAgentEnvRunner(LocalRunner):
    """Samples episodes of many agents; each module acts once a step, for all its agents in all environments.

    Which module acts for an agent is asked once an episode, of the setting `policy_mapping_fn`. The episodes are
    `MultiAgentEpisode`s of the policies' own actions, to which `action_logp` refers; the environments get them
    scaled and clipped as the config says. Modules that draw torch's global random numbers (scripted ones) get
    numbers that follow from the config's seed.

    Args:
        config: environments, and how to sample.
        module: a copy of it acts; None builds the modules that the config describes.
        worker_index: which of the run's runners this is; each has seeds of its own.
        evaluation: whether it evaluates, with the settings of `evaluation(...)`.

    Raises:
        ConfigError: the config asks for what only environments of one agent have.
        EnvironmentFailure: an environment raised while it was made.
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        *,
        module: RLModule | MultiAgentRLModule | None = None,
        worker_index: int = 0,
        evaluation: bool = False,
    ) -> None:
        self._worlds = make_worlds(config, evaluation=evaluation)
        super().__init__(
            config,
            self._worlds,
            module=module,
            spaces=None,
            worker_index=worker_index,
            evaluation=evaluation,
            has_members=True,
        )
        self._configured_mapping: PolicyMapping = policy_mapping(config, self.modules.keys())
        self._mapping = self._configured_mapping
        self._roles: dict[ModuleID, Role] = {}
        self._stages: list[Stage | None] = [None] * self.num_envs
        self._world_seeds: list[int] = []
        self._next_world = 0
        self._num_begun = 0
        self._rewards = AgentRewards(config) if config.normalize_rewards and not evaluation else None

    @property
    def num_episodes_begun(self) -> int:
        """The episodes that have begun so far; it numbers them."""
        return self._num_begun

    @num_episodes_begun.setter
    def num_episodes_begun(self, number: int) -> None:
        self._num_begun = number

    # --- sampling ---

    def _sample_steps(self, num_timesteps: int, explore: bool, random_actions: bool) -> list[MultiAgentEpisode]:
        chunks: list[MultiAgentEpisode] = []
        with self._acting():
            while num_timesteps > 0:
                count = min(num_timesteps, self.num_envs)
                # In turn, so that no environment gives more than the others in the long run.
                indices = [(self._next_world + place) % self.num_envs for place in range(count)]
                self._next_world = (self._next_world + count) % self.num_envs
                ended = self._step(indices, explore, random_actions)
                finished = [episode.finished for episode in ended if episode.finished is not None]
                self._metrics.add_episodes(finished)
                chunks += [episode.chunk for episode in ended]
                num_timesteps -= count - (len(ended) - len(finished))
            chunks += [stage.cut() for stage in self._stages if stage is not None and len(stage.episode)]
            return self._completed([chunk for chunk in chunks if len(chunk)])

    def _sample_episodes(self, num_episodes: int, explore: bool, random_actions: bool) -> list[MultiAgentEpisode]:
        self.reset_environments()
        quota = Quota(num_episodes, self.num_envs)
        with self._acting():
            chunks = list(self._episodes_for(quota, explore, random_actions))
            self._metrics.add_episodes(quota.episodes)
            episodes = self._completed(chunks)
        self.reset_environments()
        return episodes

    def _run_episodes(self, quota: Quota, explore: bool) -> None:
        with self._acting():
            for _ in self._episodes_for(quota, explore, random_actions=False):
                pass

    def _episodes_for(self, quota: Quota, explore: bool, random_actions: bool) -> Iterator[MultiAgentEpisode]:
        """Run the environments that owe the quota an episode, until it is met."""
        while not quota.is_met:
            for episode in self._step(quota.open_envs, explore, random_actions):
                if episode.finished is not None:
                    quota.take([episode.finished])
                    yield episode.chunk

    @contextmanager
    def _acting(self) -> Generator[None]:
        """Around a sample: no gradients; if it breaks off, the next begins afresh."""
        if self._needs_reset:
            self._stages = [None] * self.num_envs
            self._world_seeds = self._seeds.for_environments(self.num_envs)
            self._worlds.reseed(self._world_seeds)
            self._next_world = 0
        self._needs_reset = True
        with torch.inference_mode():
            yield
        self._needs_reset = False

    def _step(self, indices: Sequence[int], explore: bool, random_actions: bool) -> list[_Ended]:
        """One step of some environments; those whose episodes have ended."""
        stages = [self._stages[index] or self._begin(index) for index in indices]
        decisions = self._decide(stages, explore, random_actions)
        ended: list[_Ended] = []
        for stage, decided in zip(stages, decisions, strict=True):
            taken = {agent_id: decided[agent_id].taken for agent_id in stage.acting}
            turn = self._worlds.step(stage.index, taken)
            if turn is None:
                stage.episode.break_off()
                ended.append(_Ended(stage.episode, None))
                self._stages[stage.index] = None
                continue
            stage.record(decided, turn)
            if turn.is_over:
                ended.append(_Ended(stage.episode, stage.finished()))
                self._stages[stage.index] = None
        return ended

    def _begin(self, index: int) -> Stage:
        turn = self._worlds.reset(index)
        number = self._num_begun
        self._num_begun += 1
        episode = MultiAgentEpisode(
            self._episode_id(number),
            policy_mapping_fn=self._mapping,
            seed=[self._world_seeds[index], number, self._evaluation],
        )
        stage = Stage(index, episode, turn, self._role, partial(self._worlds.spaces, index))
        self._stages[index] = stage
        return stage

    def _decide(self, stages: Sequence[Stage], explore: bool, random_actions: bool) -> list[dict[AgentID, Decision]]:
        """The next actions of all agents: one forward pass of each module."""
        places: dict[ModuleID, list[tuple[int, AgentID]]] = {}
        for number, stage in enumerate(stages):
            for agent_id in stage.acting:
                places.setdefault(stage.episode.module_for(agent_id), []).append((number, agent_id))
        decisions: list[dict[AgentID, Decision]] = [{} for _ in stages]
        for module_id, agents in places.items():
            role = self._roles[module_id]
            cues = [stages[number].cue(agent_id, role) for number, agent_id in agents]
            player = self._stand_in(module_id) if random_actions else role
            decided = player.decide([row for row, _ in cues], [state for _, state in cues], explore=explore)
            for (number, agent_id), decision in zip(agents, decided, strict=True):
                decisions[number][agent_id] = decision
        return decisions

    def _completed(self, chunks: list[MultiAgentEpisode]) -> list[MultiAgentEpisode]:
        """Stack what the agents did to arrays, and add what is computed for all steps at once."""
        by_module: dict[ModuleID, list[SingleAgentEpisode]] = {}
        for chunk in chunks:
            for episode in chunk.to_numpy().agent_episodes.values():
                if len(episode) and episode.module_id is not None:
                    by_module.setdefault(episode.module_id, []).append(episode)
        for module_id, episodes in by_module.items():
            self._roles[module_id].add_log_probs(episodes)
            if self._rewards is not None:
                self._rewards.normalize(module_id, episodes)
        if self._rewards is not None:
            running = [stage.episode.agent_episodes.values() for stage in self._stages if stage is not None]
            self._rewards.keep(episode.id_ for episodes in running for episode in episodes)
        return chunks

    # --- modules ---

    def _role(self, agent_id: AgentID, module_id: ModuleID) -> Role:
        if module_id not in self._roles:
            if module_id not in self.modules:
                raise ModuleError(
                    f"policy_mapping_fn maps agent '{agent_id}' to module '{module_id}', which does not exist. "
                    f"{did_you_mean(module_id, self.modules.keys())} Add others by multi_agent(policies=[...])."
                )
            module = self.modules[module_id]
            self._roles[module_id] = Role(module_id, module, self.config, self._seeds.torch_generator)
        return self._roles[module_id]

    def _stand_in(self, module_id: ModuleID) -> Role:
        """Acts evenly at random in place of a module."""
        module = self.modules[module_id]
        drawer = RandomModule(observation_space=module.observation_space, action_space=module.action_space)
        return Role(module_id, drawer, self.config, self._seeds.torch_generator, is_stand_in=True)

    def _refresh_policies(self) -> None:
        for role in self._roles.values():
            role.refresh()

    def _forget_module(self, module_id: ModuleID) -> None:
        self._roles.pop(module_id, None)
        if self._rewards is not None:
            self._rewards.forget_module(module_id)
        for index, stage in enumerate(self._stages):
            if stage is not None and module_id in stage.episode.module_ids.values():
                self._stages[index] = None  # Its episode can't go on.

    def set_policy_mapping_fn(self, policy_mapping_fn: PolicyMapping | None) -> None:
        """See Runner.set_policy_mapping_fn."""
        self._mapping = policy_mapping_fn or self._configured_mapping

    # --- state ---

    def get_state(self) -> dict[str, Any]:
        """See LocalRunner.get_state; also the scales of rewards, for each module."""
        return {
            **super().get_state(),
            "reward_normalizers": None if self._rewards is None else self._rewards.get_state(),
        }

    def _set_own_state(self, state: Mapping[str, Any]) -> None:
        if self._rewards is not None and state["reward_normalizers"] is not None:
            self._rewards.set_state(state["reward_normalizers"])
