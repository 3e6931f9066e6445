"""The trajectories of several agents in one environment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import numpy as np

from unison.data.episode import SingleAgentEpisode
from unison.errors import BatchError, ModuleError, StateError, UnisonError
from unison.types import DEFAULT_MODULE_ID, AgentID, ModuleID, Tree

PolicyMapping = Callable[[AgentID, "MultiAgentEpisode"], ModuleID]
"""A function `(agent_id, episode) -> module_id`."""
ALL_AGENTS: Final = "__all__"
_NAMES: Final = ("id_", "t_started", "is_terminated", "is_truncated")


@dataclass(slots=True)
class _Pending:
    """What an agent did, or was paid, before its next observation came."""

    action: Tree = None
    extra_model_outputs: Mapping[str, Tree] = field(default_factory=dict[str, Tree])
    reward: float = 0.0
    has_acted: bool = False


class MultiAgentEpisode:
    """An episode of many agents: one SingleAgentEpisode for each agent that has appeared.

    Agents need not act at each step. The step of an agent lasts from its action to its next
    observation; the rewards in between add up. A reward that comes while none of its actions is
    open belongs to its latest step, or, if this chunk has none, to its next; an agent that ends before
    a next step has it in `get_return` alone. Of what modules said besides, an agent's chunk keeps what
    they said at each of its steps.

    Args:
        id_: made up if None; the agents' episodes are named `"<id_>/<agent id>"`.
        policy_mapping_fn: `(agent_id, episode) -> module_id`, asked once per agent and episode. If it draws
            lots, it does so from `episode.rng`. None maps every agent to DEFAULT_MODULE_ID.
        agent_episodes: ready trajectories, kept as they are.
        env_steps: how many environment steps they hold; None means the longest of them.
        t_started: environment steps before this chunk.
        terminated: the episode is over for all agents, in a final state.
        truncated: the episode was cut from outside for all agents.
        seed: of `rng`.
    """

    def __init__(
        self,
        id_: str | None = None,
        *,
        policy_mapping_fn: PolicyMapping | None = None,
        agent_episodes: Mapping[AgentID, SingleAgentEpisode] | None = None,
        env_steps: int | None = None,
        t_started: int = 0,
        terminated: bool = False,
        truncated: bool = False,
        seed: int | list[int] | None = None,
    ) -> None:
        self.id_ = uuid4().hex if id_ is None else id_
        self.agent_episodes: dict[AgentID, SingleAgentEpisode] = dict(agent_episodes or {})
        self.t_started = t_started
        self.is_terminated = terminated
        self.is_truncated = truncated
        self.policy_mapping_fn = policy_mapping_fn
        self._seed = seed
        self._rng: np.random.Generator | None = None
        self._module_ids: dict[AgentID, ModuleID] = {}
        self._pending: dict[AgentID, _Pending] = {}
        longest = max((len(episode) for episode in self.agent_episodes.values()), default=0)
        self._length = longest if env_steps is None else env_steps

    def __len__(self) -> int:
        """The number of environment steps of this chunk."""
        return self._length

    def __repr__(self) -> str:
        agents = ", ".join(f"{agent_id}: {len(episode)}" for agent_id, episode in self.agent_episodes.items())
        return f"MultiAgentEpisode('{self.id_}', {self._length} env steps; agent steps {agents})"

    @property
    def is_done(self) -> bool:
        """Whether the episode is over for all agents."""
        return self.is_terminated or self.is_truncated

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers of this episode's own, the same in every run of the same seed."""
        if self._rng is None:
            self._rng = np.random.default_rng(self._seed)
        return self._rng

    @property
    def module_ids(self) -> dict[AgentID, ModuleID]:
        """The module of each agent that has appeared so far."""
        return dict(self._module_ids)

    def module_for(self, agent_id: AgentID) -> ModuleID:
        """The module that acts for `agent_id` in this episode.

        Raises:
            ModuleError: `policy_mapping_fn` raised, or returned no id.
        """
        if agent_id not in self._module_ids:
            known = self.agent_episodes.get(agent_id)
            if known is not None and known.module_id is not None:
                module_id = known.module_id
            else:
                module_id = (
                    self._mapped(agent_id, self.policy_mapping_fn) if self.policy_mapping_fn else DEFAULT_MODULE_ID
                )
            self._module_ids[agent_id] = module_id
        return self._module_ids[agent_id]

    def _mapped(self, agent_id: AgentID, policy_mapping_fn: PolicyMapping) -> ModuleID:
        which = f"policy_mapping_fn('{agent_id}', episode)"
        try:
            module_id: Any = policy_mapping_fn(agent_id, self)
        except UnisonError:
            raise
        except Exception as error:
            raise ModuleError(
                f"{which} raised {type(error).__name__}: {error}. It takes an agent's id and the episode, and returns "
                "the id of the agent's module."
            ) from error
        if not isinstance(module_id, str):
            raise ModuleError(f"{which} returned {module_id!r}; return the id of the agent's module, a string.")
        return module_id

    def get_return(self) -> float:
        """The sum of all agents' rewards in this chunk, those that belong to no closed step included."""
        closed = sum(episode.get_return() for episode in self.agent_episodes.values())
        return closed + sum(pending.reward for pending in self._pending.values())

    def add_env_reset(
        self, observations: Mapping[AgentID, Tree], infos: Mapping[AgentID, dict[str, Any]] | None = None
    ) -> None:
        """Begin with the first observations of the agents that are there from the start.

        Raises:
            BatchError: the episode has begun already.
        """
        if self.agent_episodes:
            raise BatchError(f"Episode '{self.id_}' has begun already; make a new one for a new reset.")
        for agent_id, observation in observations.items():
            self._begin(agent_id, observation, (infos or {}).get(agent_id))

    def add_env_step(
        self,
        observations: Mapping[AgentID, Tree],
        actions: Mapping[AgentID, Tree],
        rewards: Mapping[AgentID, float],
        infos: Mapping[AgentID, dict[str, Any]] | None = None,
        *,
        terminateds: Mapping[AgentID, bool] | None = None,
        truncateds: Mapping[AgentID, bool] | None = None,
        extra_model_outputs: Mapping[AgentID, Mapping[str, Tree]] | None = None,
    ) -> None:
        """Add one environment step; each mapping holds only the agents concerned.

        `terminateds` and `truncateds` may hold "__all__" for all agents that are not done yet.

        Raises:
            BatchError: an agent acts that has no observation yet, or is done, or whose last action
                has not been answered; or the episode is over.
        """
        if self.is_done:
            raise BatchError(f"Episode '{self.id_}' is over; it takes no step.")
        for agent_id, action in actions.items():
            self._act(agent_id, action, (extra_model_outputs or {}).get(agent_id, {}))
        for agent_id, reward in rewards.items():
            self._pending.setdefault(agent_id, _Pending()).reward += reward
        terminateds, truncateds = terminateds or {}, truncateds or {}
        self.is_terminated = terminateds.get(ALL_AGENTS, False)
        self.is_truncated = truncateds.get(ALL_AGENTS, False) and not self.is_terminated
        for agent_id in {**self.agent_episodes, **observations}:
            terminated = terminateds.get(agent_id, False) or self.is_terminated
            truncated = (truncateds.get(agent_id, False) or self.is_truncated) and not terminated
            self._observe(agent_id, observations, (infos or {}).get(agent_id), terminated, truncated)
        self._length += 1

    def _begin(self, agent_id: AgentID, observation: Tree, infos: dict[str, Any] | None) -> None:
        episode = SingleAgentEpisode(f"{self.id_}/{agent_id}", agent_id=agent_id, module_id=self.module_for(agent_id))
        episode.add_env_reset(observation, infos)
        self.agent_episodes[agent_id] = episode

    def _act(self, agent_id: AgentID, action: Tree, extra_model_outputs: Mapping[str, Tree]) -> None:
        episode = self.agent_episodes.get(agent_id)
        pending = self._pending.setdefault(agent_id, _Pending())
        if episode is None or episode.is_done or pending.has_acted:
            why = (
                "has no observation yet"
                if episode is None
                else "is done, and acts again, which PettingZoo forbids; give an agent that comes back a new name"
                if episode.is_done
                else "acts again before an observation answered its last action"
            )
            raise BatchError(f"Episode '{self.id_}': agent '{agent_id}' {why}.")
        pending.action, pending.extra_model_outputs, pending.has_acted = action, extra_model_outputs, True

    def _observe(
        self,
        agent_id: AgentID,
        observations: Mapping[AgentID, Tree],
        infos: dict[str, Any] | None,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Close the agent's open step if an observation or the end has come."""
        if agent_id not in self.agent_episodes:
            # It appears, so there is no step to close.
            self._begin(agent_id, observations[agent_id], infos)
            self.agent_episodes[agent_id].amend_last(terminated=terminated, truncated=truncated)
            return
        episode = self.agent_episodes[agent_id]
        if episode.is_done:
            return
        pending = self._pending.get(agent_id)
        done = terminated or truncated
        if pending is None or not pending.has_acted:
            reward = 0.0
            if pending is not None and len(episode) > 0:
                reward = pending.reward
                del self._pending[agent_id]
            observation = observations.get(agent_id)
            episode.amend_last(observation=observation, reward=reward, terminated=terminated, truncated=truncated)
        elif agent_id in observations or done:
            # An agent that ends unseen gets its last observation again: nothing was observed after it.
            observation = observations.get(agent_id, episode.get_observations(-1))
            outputs = pending.extra_model_outputs
            if len(episode):
                # A step that was open at a cut may be of another kind of policy than those that follow it.
                episode.keep_extra_model_outputs(outputs.keys())
                outputs = {name: outputs[name] for name in episode.get_extra_model_outputs()}
            episode.add_env_step(
                observation,
                pending.action,
                pending.reward,
                infos,
                terminated=terminated,
                truncated=truncated,
                extra_model_outputs=outputs,
            )
            del self._pending[agent_id]

    def cut(self) -> "MultiAgentEpisode":
        """A new chunk that goes on where this one stops; agents that are done are left behind.

        Open steps go over to it, with what was paid for them so far.

        Raises:
            BatchError: the episode is over.
        """
        if self.is_done:
            raise BatchError(f"Episode '{self.id_}' is over; it can't be cut.")
        chunk = MultiAgentEpisode(
            self.id_,
            policy_mapping_fn=self.policy_mapping_fn,
            agent_episodes={
                agent_id: episode.cut() for agent_id, episode in self.agent_episodes.items() if not episode.is_done
            },
            env_steps=0,
            t_started=self.t_started + self._length,
        )
        chunk._module_ids = dict(self._module_ids)
        chunk._rng = self.rng
        chunk._pending, self._pending = self._pending, {}
        return chunk

    def break_off(self) -> None:
        """End the episode as truncated with the observations that there are; open steps never happened."""
        self._pending = {}
        for episode in self.agent_episodes.values():
            if not episode.is_done:
                episode.amend_last(truncated=True)
        self.is_truncated = not self.is_terminated

    def to_numpy(self) -> "MultiAgentEpisode":
        """Stack the trajectories of all agents that have steps, in place. Returns itself."""
        for episode in self.agent_episodes.values():
            if len(episode):
                episode.to_numpy()
        return self

    def get_state(self) -> dict[str, Any]:
        """Everything that the episode holds but its `policy_mapping_fn`, for `from_state`."""
        pending = {
            agent_id: {
                "action": step.action,
                "extra_model_outputs": dict(step.extra_model_outputs),
                "reward": step.reward,
                "has_acted": step.has_acted,
            }
            for agent_id, step in self._pending.items()
        }
        return {name: getattr(self, name) for name in _NAMES} | {
            "env_steps": self._length,
            "agent_episodes": {agent_id: episode.get_state() for agent_id, episode in self.agent_episodes.items()},
            "module_ids": dict(self._module_ids),
            "pending": pending,
            "rng": self.rng.bit_generator.state,
        }

    @staticmethod
    def from_state(state: Mapping[str, Any], policy_mapping_fn: PolicyMapping | None = None) -> "MultiAgentEpisode":
        """The episode that gave `state`.

        Raises:
            StateError: `state` lacks a part of an episode.
        """
        parts = {*_NAMES, "env_steps", "agent_episodes", "module_ids", "pending", "rng"}
        missing = sorted(parts - state.keys())
        if missing:
            raise StateError(f"This is no state of a multi-agent episode: it lacks {missing}.")
        episodes = {agent_id: SingleAgentEpisode.from_state(one) for agent_id, one in state["agent_episodes"].items()}
        episode = MultiAgentEpisode(
            state["id_"],
            policy_mapping_fn=policy_mapping_fn,
            agent_episodes=episodes,
            env_steps=state["env_steps"],
            t_started=state["t_started"],
            terminated=state["is_terminated"],
            truncated=state["is_truncated"],
        )
        episode._module_ids = dict(state["module_ids"])
        episode._pending = {agent_id: _Pending(**step) for agent_id, step in state["pending"].items()}
        episode.rng.bit_generator.state = state["rng"]
        return episode
