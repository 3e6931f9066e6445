"""One agent's trajectory: an episode, or a chunk of one."""

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeAlias, cast
from uuid import uuid4

import numpy as np

from unison.data.trees import as_column, count_rows, stack_rows
from unison.errors import BatchError, StateError
from unison.types import AgentID, ModuleID, Tree, tree_map

Infos = list[dict[str, Any]]
_Column: TypeAlias = list[Any] | np.ndarray[Any, Any] | dict[Any, Any] | tuple[Any, ...]
"""Growing, in a list; or in arrays."""
_FIELDS: Final = ("observations", "actions", "rewards", "infos", "extra_model_outputs")
_NAMES: Final = ("id_", "t_started", "is_terminated", "is_truncated", "agent_id", "module_id")


def _count(name: str, column: _Column) -> int:
    return len(column) if isinstance(column, list | np.ndarray) else count_rows(name, column)


def _at(column: _Column, index: int | slice | None) -> Tree:
    if index is None:
        return column
    return column[index] if isinstance(column, list) else tree_map(lambda leaf: leaf[index], column)


def _with_own_lists(part: Any) -> Any:
    """The same, but a list that grows here does not grow there."""
    if isinstance(part, dict):
        return {name: _with_own_lists(column) for name, column in cast("dict[Any, Any]", part).items()}
    return [*cast("list[Any]", part)] if isinstance(part, list) else part


class SingleAgentEpisode:
    """T steps of one agent: T+1 observations, T actions and T rewards.

    An episode that goes on over several samples comes in chunks: they share `id_`, and `t_started` is
    the step at which a chunk begins. The last observation of a chunk is the real one that followed the
    last action, also at a truncation, so that its value can be bootstrapped; it is the first of the
    next chunk as well.

    An episode grows step by step in lists, or is made of ready arrays (which are kept, not copied);
    `to_numpy()` turns the first kind into the second.

    Args:
        id_: the same for all chunks of one episode; made up if None.
        observations: a list, or a tree of arrays [T+1, ...].
        actions: a list, or a tree of arrays [T, ...]; what the policy said, before clipping and scaling.
        rewards: [T].
        infos: T+1 dicts, or None.
        terminated: the episode ended in a final state, whose value is 0.
        truncated: the episode was cut from outside; the value of its last observation counts.
        extra_model_outputs: `{column: [T, ...]}`, such as `action_logp`.
        t_started: steps of the episode before this chunk.
        agent_id: the agent, where there are many.
        module_id: the module that acted; None means DEFAULT_MODULE_ID.

    Raises:
        BatchError: the lengths do not fit each other; names them.
    """

    __slots__ = (
        "_actions",
        "_extra_model_outputs",
        "_infos",
        "_length",
        "_observations",
        "_rewards",
        "agent_id",
        "id_",
        "is_numpy",
        "is_terminated",
        "is_truncated",
        "module_id",
        "t_started",
    )

    def __init__(
        self,
        id_: str | None = None,
        *,
        observations: Tree | None = None,
        actions: Tree | None = None,
        rewards: Any = None,
        infos: Infos | None = None,
        terminated: bool = False,
        truncated: bool = False,
        extra_model_outputs: Mapping[str, Tree] | None = None,
        t_started: int = 0,
        agent_id: AgentID = None,
        module_id: ModuleID | None = None,
    ) -> None:
        self.id_ = uuid4().hex if id_ is None else id_
        self.t_started = t_started
        self.is_terminated = terminated
        self.is_truncated = truncated
        self.agent_id = agent_id
        self.module_id = module_id
        self._observations: Tree = [] if observations is None else observations
        self._actions: Tree = [] if actions is None else actions
        self._rewards: Any = [] if rewards is None else rewards
        self._infos: Infos | None = infos
        self._extra_model_outputs: dict[str, Tree] = dict(extra_model_outputs or {})
        self.is_numpy = not isinstance(self._observations, list)
        self._length = len(self._rewards)
        if self.is_numpy:
            self._observations = as_column("observations", self._observations)
            self._convert_steps()
        self._check_lengths()

    def _check_lengths(self) -> None:
        lengths = {
            "observations": _count("observations", self._observations),
            "actions": _count("actions", self._actions),
            "rewards": self._length,
        }
        lengths |= {name: _count(name, column) for name, column in self._extra_model_outputs.items()}
        observations = lengths.pop("observations")
        fits = observations == self._length + 1 or (observations == 0 and self._length == 0)
        if not fits or any(length != self._length for length in lengths.values()):
            raise BatchError(
                f"Episode '{self.id_}': {observations} observations with steps {lengths}. T steps need T+1 "
                "observations (the last one follows the last action) and T of everything else."
            )
        if self._infos is not None and len(self._infos) != observations:
            raise BatchError(f"Episode '{self.id_}': {len(self._infos)} infos with {observations} observations.")

    def __len__(self) -> int:
        """T, the number of steps of this chunk."""
        return self._length

    def __repr__(self) -> str:
        end = "terminated" if self.is_terminated else "truncated" if self.is_truncated else "running"
        return f"SingleAgentEpisode('{self.id_}', steps {self.t_started} to {self.t_started + self._length}, {end})"

    @property
    def is_done(self) -> bool:
        """Whether the episode terminated or was truncated."""
        return self.is_terminated or self.is_truncated

    def add_env_reset(self, observation: Tree, infos: dict[str, Any] | None = None) -> None:
        """Begin with the first observation.

        Raises:
            BatchError: the episode has begun already.
        """
        if self.is_numpy or self._observations:
            raise BatchError(f"Episode '{self.id_}' has begun already; make a new one for a new reset.")
        self._observations.append(observation)
        if infos is not None:
            self._infos = [infos]

    def add_env_step(
        self,
        observation: Tree,
        action: Tree,
        reward: float,
        infos: dict[str, Any] | None = None,
        *,
        terminated: bool = False,
        truncated: bool = False,
        extra_model_outputs: Mapping[str, Tree] | None = None,
    ) -> None:
        """Add a step: the action, its reward, and the observation that followed.

        Raises:
            BatchError: the episode has no first observation, is over, is in arrays, or this step's
                extra model outputs differ from those of the steps before.
        """
        if self.is_numpy or self.is_done or not self._observations:
            why = "is in arrays" if self.is_numpy else "is over" if self.is_done else "needs add_env_reset() first"
            raise BatchError(f"Episode '{self.id_}' {why}; it takes no step.")
        extra = extra_model_outputs or {}
        if self._length == 0:
            self._extra_model_outputs = {name: [] for name in extra}
        elif extra.keys() != self._extra_model_outputs.keys():
            raise BatchError(
                f"Episode '{self.id_}': the step has extra model outputs {sorted(extra)}, those before it have "
                f"{sorted(self._extra_model_outputs)}. Give the same at each step."
            )
        if infos is not None and self._infos is None:
            self._infos = [{} for _ in self._observations]
        if self._infos is not None:
            self._infos.append({} if infos is None else infos)
        self._observations.append(observation)
        self._actions.append(action)
        self._rewards.append(reward)
        for name, value in extra.items():
            self._extra_model_outputs[name].append(value)
        self.is_terminated, self.is_truncated = terminated, truncated
        self._length += 1

    def amend_last(
        self, *, observation: Tree | None = None, reward: float = 0.0, terminated: bool = False, truncated: bool = False
    ) -> None:
        """Change what came last, where news came after the step: with many agents, or at a crash.

        Args:
            observation: replaces the last observation.
            reward: is added to the last reward.
            terminated: ends the episode here, in a final state.
            truncated: ends the episode here, cut from outside.
        """
        if observation is not None:
            self._observations[-1] = observation
        if reward:
            self._rewards[-1] += reward
        self.is_terminated = self.is_terminated or terminated
        self.is_truncated = (self.is_truncated or truncated) and not self.is_terminated

    def get_observations(self, index: int | slice | None = None) -> Tree:
        """The T+1 observations, or those at `index`."""
        return _at(self._observations, index)

    def get_actions(self, index: int | slice | None = None) -> Tree:
        """The T actions, as the policy chose them."""
        return _at(self._actions, index)

    def get_rewards(self, index: int | slice | None = None) -> Any:
        """The T rewards."""
        return _at(self._rewards, index)

    def get_infos(self) -> Infos:
        """T+1 info dicts; empty ones where none were given."""
        if self._infos is None:
            return [{} for _ in range(_count("observations", self._observations))]
        return self._infos

    def get_extra_model_outputs(self, key: str | None = None, index: int | slice | None = None) -> Any:
        """One column of the module's outputs, or the dict of all.

        Raises:
            BatchError: there is no such column.
        """
        if key is None:
            return self._extra_model_outputs
        if key not in self._extra_model_outputs:
            raise BatchError(f"Episode '{self.id_}' has no '{key}'; it holds {sorted(self._extra_model_outputs)}.")
        return _at(self._extra_model_outputs[key], index)

    def set_extra_model_output(self, key: str, column: Tree) -> None:
        """Add or replace one column [T, ...] of the module's outputs; one of another length raises BatchError."""
        rows = _count(key, column)
        if rows != self._length:
            raise BatchError(f"Episode '{self.id_}' has {self._length} steps; '{key}' has {rows}.")
        self._extra_model_outputs[key] = column

    def keep_extra_model_outputs(self, keys: Collection[str]) -> None:
        """Drop the columns of the module's outputs that are not among `keys`."""
        self._extra_model_outputs = {
            name: self._extra_model_outputs[name] for name in self._extra_model_outputs if name in keys
        }

    def get_return(self) -> float:
        """The sum of this chunk's rewards."""
        return float(np.sum(self._rewards, dtype=np.float64))

    def cut(self) -> "SingleAgentEpisode":
        """A new chunk that goes on where this one stops.

        Raises:
            BatchError: the episode is over or has not begun.
        """
        if self.is_done or (not self.is_numpy and not self._observations):
            raise BatchError(f"Episode '{self.id_}' {'is over' if self.is_done else 'has not begun'}; it can't be cut.")
        return SingleAgentEpisode(
            self.id_,
            observations=[self.get_observations(-1)],
            infos=None if self._infos is None else self._infos[-1:],
            t_started=self.t_started + self._length,
            agent_id=self.agent_id,
            module_id=self.module_id,
        )

    def to_numpy(self) -> "SingleAgentEpisode":
        """Stack the lists to arrays, in place; rewards become float32. Returns itself.

        Raises:
            BatchError: the episode has no step to stack.
        """
        if not self.is_numpy:
            if self._length == 0:
                raise BatchError(f"Episode '{self.id_}' has no step; there is nothing to stack.")
            self._observations = stack_rows(self._observations)
            self.is_numpy = True
            self._convert_steps()
        return self

    def _convert_steps(self) -> None:
        actions: _Column = self._actions
        if isinstance(actions, list):
            self._actions = stack_rows(actions) if actions else np.empty((0,), np.float32)
        rewards: _Column = self._rewards
        if isinstance(rewards, list):
            self._rewards = np.asarray(rewards, np.float32)
        outputs: dict[str, _Column] = self._extra_model_outputs
        for name, column in outputs.items():
            if isinstance(column, list):
                outputs[name] = stack_rows(column)

    def get_state(self) -> dict[str, Any]:
        """Everything that the episode holds, for `from_state`; what it adds later is not in it."""
        fields = {name: _with_own_lists(getattr(self, f"_{name}")) for name in _FIELDS}
        return fields | {name: getattr(self, name) for name in _NAMES}

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> "SingleAgentEpisode":
        """The episode that gave `state`.

        Raises:
            StateError: `state` lacks a part of an episode.
        """
        missing = sorted({*_FIELDS, *_NAMES} - state.keys())
        if missing:
            raise StateError(f"This is no state of an episode: it lacks {missing}.")
        return SingleAgentEpisode(
            state["id_"],
            terminated=state["is_terminated"],
            truncated=state["is_truncated"],
            **{name: _with_own_lists(state[name]) for name in (*_FIELDS, "t_started", "agent_id", "module_id")},
        )
