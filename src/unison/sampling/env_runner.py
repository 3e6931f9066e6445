"""Sampling with one agent: environments, a module that acts in them, and episodes that come out."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, final

import numpy as np
import torch

from unison.config import AlgorithmConfig
from unison.data import SingleAgentEpisode
from unison.data.multi_agent_episode import PolicyMapping
from unison.errors import ConfigError, ModuleError, StateError
from unison.modules import MultiAgentRLModule, RLModule
from unison.sampling.actions import ActionTransform
from unison.sampling.local_runner import LocalRunner
from unison.sampling.making import make_environments
from unison.sampling.policy import Policy, RandomPolicy, to_tensors
from unison.sampling.quota import Quota
from unison.sampling.reward_normalizer import RewardNormalizer
from unison.sampling.running import Finished, Recorder, ReturnCounter, RunningEpisodes
from unison.sampling.space_check import check_spaces
from unison.sampling.storage import Chunk, Storage, copied, joined
from unison.types import DEFAULT_MODULE_ID, ModuleID

_SPARE_STEPS: Final = 8
"""Steps that crashes may waste before a sample needs a second storage, which cuts the episodes."""
_EPISODE_BLOCK: Final = 256
"""Steps for which storage is made at once where the number of steps is not known before."""


@final
class EnvRunner(LocalRunner):
    """Samples episodes of one agent.

    Episodes hold the policy's own actions, to which `action_logp` refers; the environments get them
    scaled and clipped as the config says. Actions of a module without `action_dist_inputs` (a scripted
    one) are taken as the environment's own, and only clipped.

    Args:
        config: environments, and how to sample.
        module: a copy of it acts; None builds the module that the config describes.
        worker_index: which of the run's runners this is; each has seeds of its own.
        evaluation: whether it evaluates: with `evaluation_num_envs`, `evaluation_env_config`,
            `evaluation_explore`, and plain rewards.

    Raises:
        ConfigError: the environment or the module to act is missing or ambiguous.
        EnvironmentFailure: an environment raised while it was made.
        SpaceError: the module to act is made for other spaces.
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        *,
        module: RLModule | MultiAgentRLModule | None = None,
        worker_index: int = 0,
        evaluation: bool = False,
    ) -> None:
        self._environments = make_environments(config, evaluation=evaluation)
        with ExitStack() as begun:  # Processes of environments end if the rest fails.
            begun.callback(self._environments.close)
            self.observation_space = self._environments.observation_space
            self.action_space = self._environments.action_space
            found = dict.fromkeys(config.policies, (self.observation_space, self.action_space))
            super().__init__(
                config,
                self._environments,
                module=module,
                spaces=found if config.observation_space is None else None,  # The Learner goes by those of the config.
                worker_index=worker_index,
                evaluation=evaluation,
            )
            self.module_id = _acting_module(config, self.modules)
            which, acting = f"Environment '{self._environments.name}'", self.modules[self.module_id]
            check_spaces(which, self.observation_space, self.action_space, self.module_id, acting)
            self._observations = to_tensors(self._environments.observations)
            self._transform = ActionTransform(
                self.action_space, scale=config.normalize_actions, clip=config.clip_actions
            )
            clips = config.normalize_actions or config.clip_actions
            self._clip = ActionTransform(self.action_space, scale=False, clip=clips)
            self._policy = Policy(acting, self.num_envs, self._seeds.torch_generator, keeps_inputs=config.is_on_policy)
            self._random = RandomPolicy(self.observation_space, self.action_space, self.num_envs)
            self._running = RunningEpisodes(self.num_envs, self._episode_id)
            normalizes = config.normalize_rewards and not evaluation
            self._normalizer = RewardNormalizer(config.gamma) if normalizes else None
            self._discounted_returns = np.zeros(self.num_envs)
            self._held: list[SingleAgentEpisode] = []
            begun.pop_all()

    @property
    def num_episodes_begun(self) -> int:
        """The episodes that have begun so far; it numbers them."""
        return self._running.num_begun

    @num_episodes_begun.setter
    def num_episodes_begun(self, number: int) -> None:
        self._running.num_begun = number

    def _sample_steps(self, num_timesteps: int, explore: bool, random_actions: bool) -> list[SingleAgentEpisode]:
        self._reset_if_needed()
        episodes, self._held = self._held[:num_timesteps], self._held[num_timesteps:]
        missing = num_timesteps - len(episodes)
        while missing > 0:
            most_steps = -(-missing // self.num_envs) * (2 if self._environments.resets_take_a_step else 1)
            most_steps += _SPARE_STEPS
            storage = Storage(self._environments.observations, most_steps, self._running, num_rows=missing)
            self._run(storage, explore, random_actions)
            storage.cut()
            held = storage.hold_back(storage.rows - missing)
            missing -= storage.rows - len(held)
            rewards = self._finish(storage, [*storage.chunks, *held])
            episodes += [storage.episode(chunk, rewards, self.module_id) for chunk in storage.chunks]
            self._held += [copied(storage.episode(chunk, rewards, self.module_id)) for chunk in held]
        self._metrics.add_episodes(self._take_finished())
        return episodes

    def _sample_episodes(self, num_episodes: int, explore: bool, random_actions: bool) -> list[SingleAgentEpisode]:
        self.reset_environments()
        self._reset_if_needed()
        quota = Quota(num_episodes, self.num_envs)
        parts: dict[str, list[SingleAgentEpisode]] = {}
        while not quota.is_met:
            storage = Storage(self._environments.observations, _EPISODE_BLOCK, self._running)
            self._run(storage, explore, random_actions, quota)
            storage.cut()
            rewards = self._finish(storage, storage.chunks)
            for chunk in storage.chunks:
                episode = storage.episode(chunk, rewards, self.module_id)
                parts.setdefault(chunk.id_, []).append(episode)
            quota.take(self._take_finished())
            wanted = {*quota.ids, *self._running.ids}
            parts = {id_: chunks for id_, chunks in parts.items() if id_ in wanted}
        self.reset_environments()
        self._metrics.add_episodes(quota.episodes)
        return [joined(parts[id_]) for id_ in quota.ids]

    def _run(self, recorder: Recorder, explore: bool, random_actions: bool = False, quota: Quota | None = None) -> None:
        """Step the environments until the recorder is full or the quota is met."""
        environments, policy = self._environments, self._policy
        # A crash in the middle leaves episodes that can't go on.
        self._needs_reset = True
        with torch.inference_mode():
            while not recorder.is_full:
                if random_actions:
                    taken = self._random.act(self._observations)
                    recorder.add_actions(self._transform.invert(taken), {})
                else:
                    actions, outputs = policy.act(self._observations, explore=explore)
                    recorder.add_actions(actions, outputs)
                    taken = self._transform(actions) if policy.has_distribution else self._clip(actions)
                outcome = environments.step(taken)
                recorder.add_outcome(outcome)
                for index in outcome.begun:
                    policy.reset_state(index)
                if outcome.ended and quota is not None and quota.would_be_met(self._running.finished):
                    break
        self._needs_reset = False

    def _finish(self, storage: Storage, chunks: list[Chunk]) -> np.ndarray[Any, Any]:
        """Add what is computed for all steps at once; returns the rewards [E, T] for the Learner."""
        with torch.inference_mode():
            storage.add_log_probs(self._policy.log_probs)
        rewards = storage.rewards[:, : storage.steps]
        if self._normalizer is None:
            return rewards.astype(np.float32)
        begins, valid = np.zeros(rewards.shape, np.bool_), np.zeros(rewards.shape, np.bool_)
        for chunk in chunks:
            valid[chunk.env_index, chunk.start : chunk.stop] = True
            begins[chunk.env_index, chunk.start] |= chunk.t_started == 0
        return self._normalizer(rewards, begins, valid, self._discounted_returns)

    def _take_finished(self) -> list[Finished]:
        finished, self._running.finished = self._running.finished, []
        return finished

    def _reset_if_needed(self) -> None:
        if not self._needs_reset:
            return
        seeds = self._seeds.for_environments(self.num_envs)
        self._environments.reset(seeds)
        self._random.seed(seeds[0])
        for index in range(self.num_envs):
            self._running.begin(index)
            self._policy.reset_state(index)
        self._discounted_returns[:] = 0.0
        self._held = []
        self._running.finished = []
        self._needs_reset = False

    def _run_episodes(self, quota: Quota, explore: bool) -> None:
        self._reset_if_needed()
        self._run(ReturnCounter(self.num_envs, self._running), explore, quota=quota)
        quota.take(self._take_finished())

    def _refresh_policies(self) -> None:
        self._policy.refresh()

    def _forget_module(self, module_id: ModuleID) -> None:
        if module_id == self.module_id:
            raise ModuleError(f"Module '{module_id}' acts for the only agent; it can't be removed.")

    def set_policy_mapping_fn(self, policy_mapping_fn: PolicyMapping | None) -> None:
        """There is nothing to map: raises ConfigError."""
        raise ConfigError("policy_mapping_fn is for environments of many agents; this one has one.")

    def set_weights(self, weights: Mapping[ModuleID, Mapping[str, Any]], version: int | None = None) -> None:
        """See LocalRunner.set_weights; those of the acting module must be among them."""
        if self.module_id not in weights:
            raise StateError(f"The weights are for {sorted(weights)}, but '{self.module_id}' acts here.")
        super().set_weights(weights, version)

    def get_state(self) -> dict[str, Any]:
        """Random numbers, normalizer and counters; not the weights, and not the environments."""
        normalizer = None if self._normalizer is None else self._normalizer.get_state()
        return {**super().get_state(), "reward_normalizer": normalizer}

    def _set_own_state(self, state: Mapping[str, Any]) -> None:
        if self._normalizer is not None and state["reward_normalizer"] is not None:
            self._normalizer.set_state(state["reward_normalizer"])


def _acting_module(config: AlgorithmConfig, modules: MultiAgentRLModule) -> ModuleID:
    """The only module, or the default one."""
    known = list(modules.keys())
    if len(known) == 1:
        return known[0]
    if DEFAULT_MODULE_ID in known:
        return DEFAULT_MODULE_ID
    raise ConfigError(f"One agent needs one module to act, but there are {known}. Name one '{DEFAULT_MODULE_ID}'.")
