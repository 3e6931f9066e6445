"""Sampling with one agent: environments, a module that acts in them, and episodes that come out."""

import copy
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np
import torch

from unison.config import AlgorithmConfig, make_module_spec
from unison.data import SingleAgentEpisode
from unison.errors import ConfigError, StateError
from unison.modules import MultiAgentRLModule, RLModule
from unison.sampling.actions import ActionTransform
from unison.sampling.making import make_environments
from unison.sampling.metrics import SamplingMetrics, summarize
from unison.sampling.policy import Policy, RandomPolicy, to_tensors
from unison.sampling.quota import Quota
from unison.sampling.reward_normalizer import RewardNormalizer
from unison.sampling.runner import Runner
from unison.sampling.running import Finished, Recorder, ReturnCounter, RunningEpisodes
from unison.sampling.seeding import Seeds
from unison.sampling.storage import Chunk, Storage, copied, joined
from unison.types import DEFAULT_MODULE_ID, ModuleID

_SPARE_STEPS: Final = 8
"""Steps that crashes may waste before a sample needs a second storage, which cuts the episodes."""
_EPISODE_BLOCK: Final = 256
"""Steps for which storage is made at once where the number of steps is not known before."""


@final
class EnvRunner(Runner):
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
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        *,
        module: RLModule | MultiAgentRLModule | None = None,
        worker_index: int = 0,
        evaluation: bool = False,
    ) -> None:
        self.config = config
        self.weights_version = 0
        self._evaluation = evaluation
        self._environments = make_environments(config, evaluation=evaluation)
        self.observation_space = self._environments.observation_space
        self.action_space = self._environments.action_space
        self.num_envs = self._environments.num_envs
        self.modules = self._make_modules(module)
        self.module_id = _acting_module(config, self.modules)
        self._observations = to_tensors(self._environments.observations)
        self._transform = ActionTransform(self.action_space, scale=config.normalize_actions, clip=config.clip_actions)
        clips = config.normalize_actions or config.clip_actions
        self._clip = ActionTransform(self.action_space, scale=False, clip=clips)
        self._seeds = Seeds(config.seed, worker_index, evaluation)
        self._policy = Policy(self.modules[self.module_id], self.num_envs, self._seeds.torch_generator)
        self._random = RandomPolicy(self.action_space, self.num_envs)
        self._running = RunningEpisodes(self.num_envs, f"{'evaluation' if evaluation else 'worker'}{worker_index}-")
        self._metrics = SamplingMetrics(config.metrics_window)
        normalizes = config.normalize_rewards and not evaluation
        self._normalizer = RewardNormalizer(self.num_envs, config.gamma) if normalizes else None
        self._held: list[SingleAgentEpisode] = []
        self._needs_reset = True

    def _make_modules(self, module: RLModule | MultiAgentRLModule | None) -> MultiAgentRLModule:
        if module is None:
            spaces = dict.fromkeys(self.config.policies, (self.observation_space, self.action_space))
            with torch.random.fork_rng(devices=()):  # pyright: ignore[reportUnknownMemberType]
                made: MultiAgentRLModule = make_module_spec(self.config, spaces=spaces).build()
        elif isinstance(module, MultiAgentRLModule):
            made = copy.deepcopy(module)
        else:
            made = MultiAgentRLModule({next(iter(self.config.policies)): copy.deepcopy(module)})
        return made.cpu().eval().requires_grad_(False)

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
    ) -> list[SingleAgentEpisode]:
        """Gather environment steps, or whole episodes.

        Steps come as chunks of episodes, which go on over calls; all environments together give exactly as many
        as asked for. (Should the last step of all environments give more, the rest comes with the next call.)
        Whole episodes begin with a fresh reset of all environments; each environment gives its share, so that short
        episodes are not more likely than long ones.

        Args:
            num_timesteps: steps of all environments together; None: `rollout_fragment_length` of each.
            num_episodes: whole episodes, instead of steps.
            explore: whether actions are drawn; None: as the config says.
            random_actions: act evenly at random, without the module.

        Raises:
            ConfigError: both numbers were given, or one that is not positive.
            EnvironmentFailure: an environment failed and may not be made anew.
        """
        if num_timesteps is not None and num_episodes is not None:
            raise ConfigError("sample() takes num_timesteps or num_episodes, not both.")
        number = num_timesteps if num_episodes is None else num_episodes
        if number is not None and number < 1:
            raise ConfigError(f"sample() was asked for {number} steps or episodes; ask for at least 1.")
        explores = self._explores(explore)
        if num_episodes is not None:
            episodes = self._sample_episodes(num_episodes, explores, random_actions)
        else:
            number = self._default_timesteps() if number is None else number
            episodes = self._sample_steps(number, explores, random_actions)
        self._metrics.add_steps(sum(len(episode) for episode in episodes))
        return episodes

    def _explores(self, explore: bool | None) -> bool:
        default = self.config.evaluation_explore if self._evaluation else self.config.explore
        return default if explore is None else explore

    def _default_timesteps(self) -> int:
        length = self.config.rollout_fragment_length
        if length == "auto":
            num_runners = max(1, self.config.num_env_runners)
            length = -(-self.config.train_batch_size // (self.num_envs * num_runners))
        return length * self.num_envs

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
                    taken = self._random.act()
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
        return self._normalizer(rewards, begins, valid)

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
        if self._normalizer is not None:
            self._normalizer.reset()
        self._held = []
        self._running.finished = []
        self._needs_reset = False

    def evaluate(self, num_episodes: int | None = None, *, explore: bool | None = None) -> dict[str, float]:
        """Run whole episodes from fresh resets, and average their returns.

        Args:
            num_episodes: exactly so many; None: `evaluation_duration`. Each environment runs its share.
            explore: whether actions are drawn; None: as the config says.

        Returns:
            episode_return_mean, _min and _max, episode_len_mean, num_episodes, num_env_steps_sampled.

        Raises:
            EnvironmentFailure: an environment failed and may not be made anew.
        """
        self.reset_environments()
        self._reset_if_needed()
        quota = Quota(self.config.evaluation_duration if num_episodes is None else num_episodes, self.num_envs)
        self._run(ReturnCounter(self.num_envs, self._running), self._explores(explore), quota=quota)
        quota.take(self._take_finished())
        self.reset_environments()
        lengths = [episode.length for episode in quota.episodes]
        counts = {"num_episodes": len(lengths), "num_env_steps_sampled": sum(lengths)}
        return summarize([episode.episode_return for episode in quota.episodes], lengths) | counts

    def set_weights(self, weights: Mapping[ModuleID, Mapping[str, Any]], version: int | None = None) -> None:
        """Take over weights, `{module_id: state}`; modules that are not here are passed over.

        Args:
            weights: as `LearnerGroup.get_weights` gives them.
            version: the number of these weights; None counts on.

        Raises:
            StateError: they do not fit, or none of them is for the acting module.
        """
        if self.module_id not in weights:
            raise StateError(f"The weights are for {sorted(weights)}, but '{self.module_id}' acts here.")
        self.modules.set_state({module_id: weights[module_id] for module_id in weights if module_id in self.modules})
        self.weights_version = self.weights_version + 1 if version is None else version
        self._policy.refresh()

    def get_metrics(self) -> dict[str, float]:
        """Averages over the last `metrics_window` episodes (NaN before the first ends), and counts.

        `num_episodes` and `num_env_steps_sampled` count since the last call, `..._lifetime` since the beginning.
        """
        return self._metrics.report() | {"num_environment_restarts": self._environments.num_restarts}

    def reset_environments(self) -> None:
        """Abandon the running episodes; the next sample begins with a fresh reset.

        Environments can't be saved, so `set_state` does the same. Who calls this when saving a checkpoint makes the run
        that goes on and the one that is resumed from the checkpoint continue alike.
        """
        self._needs_reset = True

    def get_state(self) -> dict[str, Any]:
        """Random numbers, normalizer and counters; not the weights, and not the environments."""
        return {
            "seeds": self._seeds.get_state(),
            "reward_normalizer": None if self._normalizer is None else self._normalizer.get_state(),
            "metrics": self._metrics.get_state(),
            "num_episodes_begun": self._running.num_begun,
            "num_environment_restarts": self._environments.num_restarts,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`: running episodes are abandoned, environments reset by the saved seeds.

        Raises:
            StateError: the state lacks a part.
        """
        if "runners" in state:
            state = state["runners"][0]  # that of a group of runners: the first goes on
        missing = sorted(self.get_state().keys() - state.keys())
        if missing:
            raise StateError(f"The state of the env runner lacks {missing}.")
        self._seeds.set_state(state["seeds"])
        if self._normalizer is not None and state["reward_normalizer"] is not None:
            self._normalizer.set_state(state["reward_normalizer"])
        self._metrics.set_state(state["metrics"])
        self._running.num_begun = int(state["num_episodes_begun"])
        self._environments.num_restarts = int(state["num_environment_restarts"])
        self.reset_environments()

    def stop(self) -> None:
        """Close the environments."""
        self._environments.close()


def _acting_module(config: AlgorithmConfig, modules: MultiAgentRLModule) -> ModuleID:
    """The only module, or the default one."""
    known = list(modules.keys())
    if len(known) == 1:
        return known[0]
    if DEFAULT_MODULE_ID in known:
        return DEFAULT_MODULE_ID
    raise ConfigError(f"One agent needs one module to act, but there are {known}. Name one '{DEFAULT_MODULE_ID}'.")
