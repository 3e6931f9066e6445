"""What all samplers of this process share, however many agents act."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from unison.config import AlgorithmConfig, make_module_spec
from unison.data import MultiAgentEpisode, SingleAgentEpisode
from unison.errors import StateError
from unison.modules import MultiAgentRLModule, RLModule, SingleAgentRLModuleSpec
from unison.modules.mirror import Mirror
from unison.modules.spaces import Space
from unison.sampling.amounts import amount_to_sample, positive
from unison.sampling.environments import Copies
from unison.sampling.metrics import SamplingMetrics, summarize
from unison.sampling.quota import Quota
from unison.sampling.redistribution import check_parts, merge_into_one
from unison.sampling.runner import Runner
from unison.sampling.seeding import Seeds
from unison.types import ModuleID

Spaces = Mapping[ModuleID, tuple[Space, Space]]


class LocalRunner(Runner, ABC):
    """A sampler with environments and modules in this process.

    Args:
        config: environments, and how to sample.
        copies: the environments.
        module: a copy of it acts; None builds the modules that the config describes.
        spaces: observation and action space of each module, for building; None: as the config's environment says.
        worker_index: which of the run's runners this is; each has seeds of its own.
        evaluation: whether it evaluates: with `evaluation_num_envs`, `evaluation_env_config`,
            `evaluation_explore`, and plain rewards.
        has_members: whether there are many agents.
    """

    def __init__(
        self,
        config: AlgorithmConfig,
        copies: Copies,
        *,
        module: RLModule | MultiAgentRLModule | None,
        spaces: Spaces | None,
        worker_index: int,
        evaluation: bool,
        has_members: bool = False,
    ) -> None:
        self.config = config
        self.weights_version = 0
        self.num_envs = copies.num_envs
        self.modules = _copied_or_built(config, module, spaces)
        self._copies = copies
        self._evaluation = evaluation
        self._seeds = Seeds(config.seed, worker_index, evaluation)
        self._metrics = SamplingMetrics(config.metrics_window, has_members=has_members)
        self._mirror: Mirror | None = None
        self._needs_reset = True

    # --- what each kind of sampler has of its own ---

    @property
    @abstractmethod
    def num_episodes_begun(self) -> int:
        """The episodes that have begun so far; it numbers them."""

    @num_episodes_begun.setter
    @abstractmethod
    def num_episodes_begun(self, number: int) -> None: ...

    @abstractmethod
    def _sample_steps(self, num_timesteps: int, explore: bool, random_actions: bool) -> list[Any]:
        """Gather exactly so many environment steps, as chunks of episodes."""

    @abstractmethod
    def _sample_episodes(self, num_episodes: int, explore: bool, random_actions: bool) -> list[Any]:
        """Gather whole episodes from fresh resets."""

    @abstractmethod
    def _run_episodes(self, quota: Quota, explore: bool) -> None:
        """Run whole episodes from fresh resets until the quota is met, and keep nothing but their returns."""

    @abstractmethod
    def _refresh_policies(self) -> None:
        """The modules have new weights, or there are others."""

    # --- sampling ---

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
    ) -> list[SingleAgentEpisode] | list[MultiAgentEpisode]:
        """Gather environment steps, or whole episodes.

        Steps come as chunks of episodes, which go on over calls; all environments together give exactly as many
        as asked for. (Should the last step of all environments give more, the rest comes with the next call.)
        Whole episodes begin with a fresh reset of all environments; each environment gives its share, so that short
        episodes are not more likely than long ones.

        Args:
            num_timesteps: steps of all environments together; None: `rollout_fragment_length` of each.
            num_episodes: whole episodes, instead of steps.
            explore: whether actions are drawn; None: as the config says.
            random_actions: act evenly at random, without the modules.

        Raises:
            ConfigError: both numbers were given, or one that is not whole and positive.
            EnvironmentFailure: an environment failed and may not be made anew.
        """
        name, number = amount_to_sample(self.config, num_timesteps, num_episodes, num_envs=self.num_envs)
        sample = self._sample_steps if name == "num_timesteps" else self._sample_episodes
        with self._seeds.after(self._metrics.num_env_steps_lifetime, self.num_episodes_begun):
            episodes = sample(number, self._explores(explore), random_actions)
        self._metrics.add_steps(sum(len(episode) for episode in episodes))
        return episodes

    def _explores(self, explore: bool | None) -> bool:
        default = self.config.evaluation_explore if self._evaluation else self.config.explore
        return default if explore is None else explore

    def _episode_id(self, number: int) -> str:
        """What the episode is called that began as that number; those of a run's samplers differ."""
        return f"{'evaluation' if self._evaluation else 'worker'}{self._seeds.worker_index}-{number}"

    def evaluate(self, num_episodes: int | None = None, *, explore: bool | None = None) -> dict[str, Any]:
        """Run whole episodes from fresh resets, and average their returns.

        Args:
            num_episodes: exactly so many; None: `evaluation_duration`. Each environment runs its share.
            explore: whether actions are drawn; None: as the config says.

        Returns:
            episode_return_mean, _min and _max, episode_len_mean, num_episodes, num_env_steps_sampled; with many
            agents also agent_return_mean and module_return_mean, dicts.

        Raises:
            ConfigError: the number of episodes is not whole and positive.
            EnvironmentFailure: an environment failed and may not be made anew.
        """
        duration = self.config.evaluation_duration if num_episodes is None else num_episodes
        quota = Quota(positive(duration, "evaluate()", "episodes"), self.num_envs)
        self.reset_environments()
        with self._seeds.after(self._metrics.num_env_steps_lifetime, self.num_episodes_begun):
            self._run_episodes(quota, self._explores(explore))
        self.reset_environments()
        counts = {"num_episodes": len(quota.episodes), "num_env_steps_sampled": sum(e.length for e in quota.episodes)}
        return summarize(quota.episodes) | counts

    # --- modules and state ---

    def set_weights(self, weights: Mapping[ModuleID, Mapping[str, Any]], version: int | None = None) -> None:
        """Take over weights, `{module_id: state}`; modules that are not here are passed over.

        Args:
            weights: as `LearnerGroup.get_weights` gives them.
            version: the number of these weights; None counts on.

        Raises:
            StateError: they do not fit, or none of them is for a module that acts here.
        """
        known = {module_id: weights[module_id] for module_id in weights if module_id in self.modules}
        if not known:
            raise StateError(f"The weights are for {sorted(weights)}, but {sorted(self.modules.keys())} act here.")
        self.modules.set_state(known)
        self.weights_version = self.weights_version + 1 if version is None else version
        self._refresh_policies()

    def copy_weights(self, source: MultiAgentRLModule, version: int) -> None:
        """As `set_weights`, from modules of this process, tensor to tensor: for those who do it at every step."""
        if self._mirror is None or not self._mirror.is_of(source):
            self._mirror = Mirror(source, self.modules)
        self._mirror.update()
        self.weights_version = version
        self._refresh_policies()

    def add_module(self, *, module_id: ModuleID, module_spec: SingleAgentRLModuleSpec) -> None:
        """See Runner.add_module."""
        with torch.random.fork_rng(devices=()):  # pyright: ignore[reportUnknownMemberType]
            made = module_spec.build().cpu().eval().requires_grad_(False)
        self.modules.add_module(module_id, made)
        self._refresh_policies()

    def remove_module(self, module_id: ModuleID) -> None:
        """See Runner.remove_module."""
        self._forget_module(module_id)
        self.modules.remove_module(module_id)
        self._metrics.forget_module(module_id)
        self._refresh_policies()

    @abstractmethod
    def _forget_module(self, module_id: ModuleID) -> None:
        """A module is about to go; a running episode in which it acts can't go on."""

    def get_metrics(self) -> dict[str, Any]:
        """Averages over the last `metrics_window` episodes (NaN before the first ends), and counts.

        `num_episodes` and `num_env_steps_sampled` count since the last call, `..._lifetime` since the beginning.
        """
        return self._metrics.report() | {"num_environment_restarts": self._copies.num_restarts}

    def reset_environments(self) -> None:
        """Abandon the running episodes; the next sample begins with a fresh reset.

        Environments can't be saved, so `set_state` does the same. Who calls this when saving a checkpoint makes the run
        that goes on and the one that is resumed from the checkpoint continue alike.
        """
        self._needs_reset = True

    def get_state(self) -> dict[str, Any]:
        """Random numbers and counters; not the weights, and not the environments."""
        return {
            "seeds": self._seeds.get_state(),
            "metrics": self._metrics.get_state(),
            "num_episodes_begun": self.num_episodes_begun,
            "num_environment_restarts": self._copies.num_restarts,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `get_state`: running episodes are abandoned, environments reset by the saved seeds.

        From the state of a group of runners it takes over what they have counted and learned together.

        Raises:
            StateError: the state lacks a part.
        """
        own = self.get_state()
        check_parts(state.get("runners", [state]), own)
        if "runners" in state:
            state = merge_into_one(state, own, self.config.metrics_window)
        self._set_own_state(state)
        self._seeds.set_state(state["seeds"])
        self._metrics.set_state(state["metrics"])
        self.num_episodes_begun = int(state["num_episodes_begun"])
        self._copies.num_restarts = int(state["num_environment_restarts"])
        self.reset_environments()

    def _set_own_state(self, state: Mapping[str, Any]) -> None:
        """Hook: take over what a subclass has added to the state, before all else, or raise. Default: nothing."""

    def stop(self) -> None:
        """Close the environments."""
        self._copies.close()


def _copied_or_built(
    config: AlgorithmConfig, module: RLModule | MultiAgentRLModule | None, spaces: Spaces | None
) -> MultiAgentRLModule:
    if module is None:
        with torch.random.fork_rng(devices=()):  # pyright: ignore[reportUnknownMemberType]
            made: MultiAgentRLModule = make_module_spec(config, spaces=spaces).build()
    elif isinstance(module, MultiAgentRLModule):
        made = copy.deepcopy(module)
    else:
        made = MultiAgentRLModule({next(iter(config.policies)): copy.deepcopy(module)})
    return made.cpu().eval().requires_grad_(False)
