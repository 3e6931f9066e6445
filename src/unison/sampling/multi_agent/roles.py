"""A module as the agents play it: their observations in one batch, their actions out, one by one."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch

from unison.config import AlgorithmConfig
from unison.data import Columns, SingleAgentEpisode
from unison.data.trees import concat_rows, stack_rows
from unison.errors import SpaceError
from unison.modules import RLModule
from unison.modules.spaces import Space
from unison.sampling.actions import ActionTransform
from unison.sampling.observations import as_exact, check_observation, empty_observations
from unison.sampling.policy import Policy, to_tensors
from unison.sampling.space_check import check_spaces
from unison.types import ModuleID, Tree, tree_map

_ONE: Final = 1


class Decision(NamedTuple):
    """What one agent does next."""

    action: Tree
    """As the policy said."""
    taken: Tree
    """As the environment takes it."""
    outputs: dict[str, Tree]
    """What the module said besides."""
    state: Tree
    """The module's state after this step; None if it has none."""


@final
class Role:
    """Lets a module act for any number of agents at once.

    Args:
        module_id: the module's.
        module: what acts.
        config: how actions reach the environment.
        generator: where the random numbers of sampled actions come from.
        is_stand_in: whether it only acts in place of another, which shall learn from its actions: they are
            then kept as that module would have said them.

    Raises:
        SpaceError: the module has no spaces.
    """

    def __init__(
        self,
        module_id: ModuleID,
        module: RLModule,
        config: AlgorithmConfig,
        generator: torch.Generator,
        *,
        is_stand_in: bool = False,
    ) -> None:
        space = module.action_space
        if module.observation_space is None or space is None:
            raise SpaceError(f"Module '{module_id}' has no spaces; give its spec an observation and an action space.")
        self.module_id = module_id
        self._like = empty_observations(module.observation_space, _ONE, module_id)
        self._policy = Policy(module, _ONE, generator)
        self._transform = ActionTransform(space, scale=config.normalize_actions, clip=config.clip_actions)
        clips = config.normalize_actions or config.clip_actions
        self._clip = ActionTransform(space, scale=False, clip=clips)
        self._is_stand_in = is_stand_in

    def refresh(self) -> None:
        """The module has new weights."""
        self._policy.refresh()

    @property
    def first_state(self) -> Tree:
        """What an agent's first decision goes by; None for a stateless module."""
        return self._policy.initial_state if self._policy.module.is_stateful() else None

    def check_spaces(self, which: str, observation_space: Space, action_space: Space) -> None:
        """Raise `SpaceError` unless the module is made for the spaces of an agent."""
        check_spaces(which, observation_space, action_space, self.module_id, self._policy.module)

    def as_row(self, observation: Tree, which: str) -> Tree:
        """An observation in memory of its own, of the dtypes that modules take.

        Raises:
            EnvironmentFailure: it is none of the space; names the environment and both shapes.
        """
        try:
            row = tree_map(_copied_like, self._like, observation)
        except (ValueError, LookupError, TypeError, RuntimeError):
            row = None
        if row is None:
            check_observation(self._like, observation, which)
        return row

    def decide(self, rows: Sequence[Tree], states: Sequence[Tree], *, explore: bool) -> list[Decision]:
        """One forward pass for all agents.

        Args:
            rows: an observation of `as_row` for each.
            states: for each, the state after its last decision, or `first_state`.
            explore: whether actions are drawn.
        """
        policy, stateful = self._policy, states[0] is not None
        if stateful:
            policy.state = tree_map(_stacked, states[0], *states[1:])
        actions, outputs = policy.act(to_tensors(stack_rows(rows)), explore=explore)
        taken = self._transform(actions) if policy.has_distribution else self._clip(actions)
        if self._is_stand_in:
            actions = self._transform.invert(taken)
        return [
            Decision(
                _row(actions, index),
                _row(taken, index),
                {name: _row(column, index) for name, column in outputs.items()},
                _row(policy.state, index) if stateful else None,
            )
            for index in range(len(rows))
        ]

    def add_log_probs(self, episodes: Sequence[SingleAgentEpisode]) -> None:
        """Compute `action_logp` of all steps of this module at once, in the episodes that have its inputs."""
        episodes = [e for e in episodes if Columns.ACTION_DIST_INPUTS in e.get_extra_model_outputs()]
        if not episodes:
            return
        inputs = concat_rows([e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS) for e in episodes])
        found = self._policy.log_probs(inputs, concat_rows([e.get_actions() for e in episodes]))
        ends = np.cumsum([len(episode) for episode in episodes])[:-1]
        for episode, column in zip(episodes, np.split(found, ends), strict=True):
            episode.set_extra_model_output(Columns.ACTION_LOGP, column)


def _copied_like(like: Any, value: Any) -> Any:
    row = as_exact(value, like.dtype)
    if row.shape != like.shape[1:]:
        raise ValueError(row.shape)
    return row


def _stacked(*leaves: torch.Tensor) -> torch.Tensor:
    return torch.stack(leaves)


def _row(values: Tree, index: int) -> Tree:
    return values[index] if isinstance(values, np.ndarray) else tree_map(itemgetter(index), values)
