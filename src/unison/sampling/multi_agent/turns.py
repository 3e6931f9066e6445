"""One environment of many agents, as turns: what its agents see, got, and who acts next."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, final

from unison.config.pettingzoo_environments import is_turn_based
from unison.sampling.multi_agent.contract import Contract
from unison.types import AgentID, Tree


@dataclass(slots=True)
class Turn:
    """What has come since the last actions. Each mapping holds only the agents concerned.

    Args:
        acting: the agents whose actions come next, in order; maybe none, while others wait for something.
        is_over: whether the episode has ended for all.
    """

    acting: tuple[AgentID, ...] = ()
    observations: dict[AgentID, Tree] = field(default_factory=dict[AgentID, Tree])
    rewards: dict[AgentID, float] = field(default_factory=dict[AgentID, float])
    terminateds: dict[AgentID, bool] = field(default_factory=dict[AgentID, bool])
    truncateds: dict[AgentID, bool] = field(default_factory=dict[AgentID, bool])
    is_over: bool = False


class TurnTaker(ABC):
    """Steps one environment from turn to turn.

    Args:
        env: a PettingZoo environment.
        which: what messages call it.
    """

    def __init__(self, env: Any, which: str) -> None:
        self.env = env
        self._contract = Contract(which, env)

    @abstractmethod
    def reset(self, seed: int | None) -> Turn:
        """Begin an episode.

        Raises:
            EnvironmentFailure: the environment breaks PettingZoo's contract; so does `step`.
        """

    @abstractmethod
    def step(self, actions: dict[AgentID, Tree]) -> Turn:
        """Take the actions of all agents of the last turn's `acting`."""

    def close(self) -> None:
        """Release the environment."""
        self.env.close()


@final
class ParallelTurns(TurnTaker):
    """All agents that are there and have an observation act at once.

    An agent that leaves without a word, neither terminated nor truncated, counts as truncated.
    """

    def reset(self, seed: int | None) -> Turn:
        """See TurnTaker.reset."""
        observations = self._contract.reset(self.env.reset(seed=seed))
        return Turn(self._acting(observations), dict(observations))

    def step(self, actions: dict[AgentID, Tree]) -> Turn:
        """See TurnTaker.step."""
        before = list(self.env.agents)
        returned = self.env.step(actions)
        observations, rewards, terminateds, truncateds = self._contract.step(returned, actions, before)
        truncateds = dict(truncateds)
        for agent_id in before:
            if agent_id not in self.env.agents and not terminateds.get(agent_id) and not truncateds.get(agent_id):
                truncateds[agent_id] = True
        over = not self.env.agents
        return Turn(
            self._acting(observations),
            dict(observations),
            self._contract.rewards(rewards),
            dict(terminateds),
            truncateds,
            over,
        )

    def _acting(self, observations: dict[AgentID, Tree]) -> tuple[AgentID, ...]:
        return tuple(agent_id for agent_id in self.env.agents if agent_id in observations)


@final
class AlternatingTurns(TurnTaker):
    """One agent acts at a time (AEC), and gets what has added up since it acted last.

    Agents that are done are told so when they would act; the turns go on to the next agent that can.
    """

    def reset(self, seed: int | None) -> Turn:
        """See TurnTaker.reset."""
        self.env.reset(seed=seed)
        self._contract.turn("reset")
        return self._next()

    def step(self, actions: dict[AgentID, Tree]) -> Turn:
        """See TurnTaker.step."""
        (action,) = actions.values()
        self.env.step(action)
        self._contract.turn("step")
        return self._next()

    def _next(self) -> Turn:
        env, turn = self.env, Turn()
        while env.agents:
            agent_id = env.agent_selection
            observation, reward, terminated, truncated, _ = env.last()
            turn.observations[agent_id] = observation
            turn.rewards[agent_id] = reward
            if not (terminated or truncated):
                turn.acting = (agent_id,)
                break
            turn.terminateds[agent_id], turn.truncateds[agent_id] = bool(terminated), not terminated
            env.step(None)
        turn.rewards = self._contract.rewards(turn.rewards)
        turn.is_over = not env.agents
        return turn


def turn_taker(env: Any, which: str) -> TurnTaker:
    """What steps a PettingZoo environment: by turns for an AEC one, all agents at once for a parallel one."""
    return AlternatingTurns(env, which) if is_turn_based(env) else ParallelTurns(env, which)
