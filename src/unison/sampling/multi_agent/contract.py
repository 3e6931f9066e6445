"""What PettingZoo demands of an environment, checked as it is stepped: nothing that is missing counts as zero."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast, final

from unison.errors import EnvironmentFailure
from unison.sampling.step_check import check_reward
from unison.types import AgentID, Tree

_RESET: Final = ("observations", "infos")
_STEP: Final = ("observations", "rewards", "terminations", "truncations", "infos")
_DUE: Final = _STEP[1:4]
"""What every agent that has acted is told, also of the step that ends it."""


@final
class Contract:
    """Checks what one environment says.

    Args:
        which: the environment, for messages.
        env: asked for its agents.
    """

    def __init__(self, which: str, env: Any) -> None:
        self._which = which
        self._env = env
        self._known: dict[AgentID, None] = dict.fromkeys(getattr(env, "possible_agents", ()))

    def reset(self, returned: Any) -> dict[AgentID, Tree]:
        """The observations that a parallel environment's `reset` returned.

        Raises:
            EnvironmentFailure: it returned something else, or names an agent that it does not have.
        """
        observations = self._values("reset", returned, _RESET)[0]
        self._check_names("reset", {"observations": observations})
        return observations

    def step(
        self, returned: Any, acted: Iterable[AgentID], before: Iterable[AgentID]
    ) -> tuple[dict[AgentID, Any], ...]:
        """Observations, rewards, terminations and truncations that a parallel environment's `step` returned.

        An observation may be missing: its agent waits, or has ended unseen.

        Args:
            returned: what the step returned.
            acted: the agents that it got actions of.
            before: the agents that were there before it.

        Raises:
            EnvironmentFailure: it returned something else, lacks something for an agent that acted, names an agent that
                it does not have, or keeps one that has ended in `agents`.
        """
        told = self._values("step", returned, _STEP)[:4]
        named: dict[str, dict[AgentID, Any]] = dict(zip(_STEP, told, strict=False))
        for name in _DUE:
            self._check_due("step", name, named[name], acted)
        self._check_names("step", named, before)
        _, _, terminateds, truncateds = told
        ended = [a for a in self._env.agents if terminateds.get(a) or truncateds.get(a)]
        if ended:
            raise self._broken(
                "step",
                f"said that {_listed(ended)} ended, but `agents` still lists {_listed(self._env.agents)}. Take agents "
                "that have ended out of self.agents; at the end of an episode: self.agents = []",
            )
        return told

    def turn(self, method: str) -> None:
        """Check what a turn-based environment (AEC) says of its agents after `method`.

        Raises:
            EnvironmentFailure: it lacks something for one of its agents.
        """
        for name in _DUE:
            self._check_due(method, name, getattr(self._env, name), self._env.agents)

    def rewards(self, rewards: Mapping[AgentID, Any]) -> dict[AgentID, float]:
        """The rewards as numbers.

        Raises:
            EnvironmentFailure: one is none.
        """
        try:
            for reward in rewards.values():
                check_reward(reward)
            return {agent_id: float(reward) for agent_id, reward in rewards.items()}
        except TypeError as error:
            raise self._broken("step", f"gave the rewards {dict(rewards)}; each must be one number") from error

    def _values(self, method: str, returned: Any, names: tuple[str, ...]) -> tuple[dict[AgentID, Any], ...]:
        kind = type(returned).__name__
        values = cast("tuple[Any, ...]", returned) if isinstance(returned, tuple) else None
        if values is None or len(values) != len(names):
            got = f"one {kind}" if values is None else f"{len(values)} values"
            raise self._broken(method, f"returned {got} instead of {len(names)}: {', '.join(names)}")
        for name, value in zip(names[:-1], values, strict=False):  # nobody reads the infos
            if not isinstance(value, dict):
                raise self._broken(
                    method, f"returned {name} that are a {type(value).__name__} instead of a dict by agent"
                )
        return values

    def _check_due(self, method: str, name: str, told: Mapping[AgentID, Any], agents: Iterable[AgentID]) -> None:
        if all(map(told.__contains__, agents)):
            return
        lacking = [agent_id for agent_id in agents if agent_id not in told]
        raise self._broken(
            method,
            f"gave no {name} for {_listed(lacking)}, only for {_listed(told)}. Every agent has them, by its name in "
            "`agents`, also in the step that ends it",
        )

    def _check_names(self, method: str, told: Mapping[str, dict[AgentID, Any]], before: Iterable[AgentID] = ()) -> None:
        for name, values in told.items():
            if values.keys() <= self._known.keys():
                continue
            self._known |= dict.fromkeys([*before, *self._env.agents])  # an environment may make agents up as it goes
            strange = [agent_id for agent_id in values if agent_id not in self._known]
            if strange:
                raise self._broken(
                    method,
                    f"gave {name} for {_listed(strange)}, but its agents are {_listed(self._known)}. Name them alike",
                )

    def _broken(self, method: str, what: str) -> EnvironmentFailure:
        return EnvironmentFailure(f"{self._which}: {method}() {what}.")


def _listed(agents: Iterable[AgentID]) -> str:
    return ", ".join(f"'{agent_id}'" for agent_id in agents) or "none"
