"""One running episode of many agents, between the environment and what is recorded of it."""

from collections.abc import Callable
from typing import final

from unison.data import MultiAgentEpisode
from unison.data.multi_agent_episode import ALL_AGENTS
from unison.modules.spaces import Space
from unison.sampling.multi_agent.roles import Decision, Role
from unison.sampling.multi_agent.turns import Turn
from unison.sampling.running import AgentReturn, Finished
from unison.types import AgentID, ModuleID, Tree

Casting = Callable[[AgentID, ModuleID], Role]
"""The role that a module is played by, for an agent that is mapped to it."""
Spaces = Callable[[AgentID], tuple[Space, Space]]
"""Observation and action space of an agent."""


@final
class Stage:
    """The episode of one environment, from its reset to its end.

    Args:
        index: which environment.
        episode: not begun yet.
        first: the turn that the reset gave.
        cast: finds the role of a module.
        spaces: asks the environment.
    """

    def __init__(self, index: int, episode: MultiAgentEpisode, first: Turn, cast: Casting, spaces: Spaces) -> None:
        self.index = index
        self.episode = episode
        self._cast = cast
        self._spaces = spaces
        self._turn = first
        self._steps = 0
        self._rows: dict[AgentID, Tree] = {}
        self._states: dict[AgentID, Tree] = {}
        self._returns: dict[AgentID, float] = {}
        episode.add_env_reset(self._observed(first))

    @property
    def acting(self) -> tuple[AgentID, ...]:
        """The agents that act next."""
        return self._turn.acting

    def role_of(self, agent_id: AgentID) -> Role:
        """Who plays an agent."""
        return self._cast(agent_id, self.episode.module_for(agent_id))

    def cue(self, agent_id: AgentID, role: Role) -> tuple[Tree, Tree]:
        """What an agent's next decision goes by: observation and state."""
        state = self._states.get(agent_id)
        return self._rows[agent_id], role.first_state if state is None else state

    def record(self, decisions: dict[AgentID, Decision], turn: Turn) -> None:
        """Add a step: what the agents did, and what it brought."""
        terminateds, truncateds = turn.terminateds, turn.truncateds
        if turn.is_over:
            truncated = any(truncateds.values())
            terminateds, truncateds = {**terminateds, ALL_AGENTS: not truncated}, {**truncateds, ALL_AGENTS: truncated}
        for agent_id, reward in turn.rewards.items():
            self._returns[agent_id] = self._returns.get(agent_id, 0.0) + reward
        self._states.update({agent_id: decision.state for agent_id, decision in decisions.items()})
        self.episode.add_env_step(
            self._observed(turn),
            {agent_id: decision.action for agent_id, decision in decisions.items()},
            turn.rewards,
            terminateds=terminateds,
            truncateds=truncateds,
            extra_model_outputs={agent_id: decision.outputs for agent_id, decision in decisions.items()},
        )
        self._turn = turn
        self._steps += 1

    def _observed(self, turn: Turn) -> dict[AgentID, Tree]:
        rows: dict[AgentID, Tree] = {}
        for agent_id, observation in turn.observations.items():
            role, which = self.role_of(agent_id), f"Environment {self.index}, agent '{agent_id}'"
            if agent_id not in self._rows:
                role.check_spaces(which, *self._spaces(agent_id))
            self._rows[agent_id] = rows[agent_id] = role.as_row(observation, which)
        return rows

    def cut(self) -> MultiAgentEpisode:
        """The chunk so far; the episode goes on in a new one."""
        chunk, self.episode = self.episode, self.episode.cut()
        return chunk

    def finished(self) -> Finished:
        """What is to be told of the episode at its end."""
        members = tuple(
            AgentReturn(agent_id, module_id, self._returns.get(agent_id, 0.0))
            for agent_id, module_id in self.episode.module_ids.items()
        )
        return Finished(self.index, self.episode.id_, sum(self._returns.values()), self._steps, members)
