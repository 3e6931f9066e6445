"""Acting: observations in, actions out, with the module's state and the sampler's own random numbers."""

from functools import cached_property, partial
from typing import Any, cast, final

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from unison.data import Columns
from unison.errors import ModuleError
from unison.modules import RLModule
from unison.modules.action_mask import MASK_KEY, split_action_mask
from unison.modules.outputs import check_outputs, check_state_out
from unison.modules.random_module import draw_choices
from unison.modules.spaces import choices_of
from unison.types import Tree, tree_leaves, tree_map

Array = np.ndarray[Any, Any]


@final
class Policy:
    """Lets a module act in E environments.

    Call it within `torch.inference_mode()`.

    Args:
        module: what acts.
        num_envs: E.
        generator: where the random numbers of sampled actions come from.
        keeps_inputs: whether `act` says the distribution's inputs as well.
    """

    def __init__(
        self, module: RLModule, num_envs: int, generator: torch.Generator, *, keeps_inputs: bool = True
    ) -> None:
        self.module = module
        self._keeps_inputs = keeps_inputs
        self._generator = generator
        self.has_distribution = True
        """Whether the last actions came with `action_dist_inputs`."""
        self._stateful = module.is_stateful()
        self.initial_state = module.get_initial_state()
        self.state: Tree = tree_map(partial(_repeated, num_envs), self.initial_state)

    def refresh(self) -> None:
        """Ask the module anew for its initial state, which may depend on its weights."""
        self.initial_state = self.module.get_initial_state()

    def reset_state(self, index: int) -> None:
        """Give one environment the state before an episode's first step."""
        if self._stateful:
            for leaf, initial in zip(tree_leaves(self.state), tree_leaves(self.initial_state), strict=True):
                leaf[index] = initial

    def act(self, observations: Tree, *, explore: bool) -> tuple[Tree, dict[str, Tree]]:
        """Choose actions for tensors `observations` [E, ...].

        Returns:
            The actions [E, ...] and what the module said about them: `action_dist_inputs` [E, K] (if it
            has a distribution) and `state_in` (if it has state), the state before this step.

        Raises:
            ModuleError: the module returned neither `action_dist_inputs` nor `actions`, or another state than it had.
        """
        outputs: dict[str, Tree] = {}
        batch: dict[str, Tree] = {Columns.OBS: observations}
        if self._stateful:
            batch = {Columns.OBS: tree_map(_add_time, observations), Columns.STATE_IN: self.state}
            outputs[Columns.STATE_IN] = tree_map(_copied, self.state)
        said = self.module.forward_exploration(batch) if explore else self.module.forward_inference(batch)
        name, method = type(self.module).__name__, "forward_exploration" if explore else "forward_inference"
        check_outputs(name, said, *((Columns.STATE_OUT,) if self._stateful else ()), method=method)
        if self._stateful:
            check_state_out(name, self.state, said[Columns.STATE_OUT])
            tree_map(Tensor.copy_, self.state, said[Columns.STATE_OUT])
            said = {name: tree_map(_drop_time, said[name]) for name in said if name != Columns.STATE_OUT}
        inputs = said.get(Columns.ACTION_DIST_INPUTS)
        self.has_distribution = inputs is not None
        if inputs is not None and self._keeps_inputs:
            outputs[Columns.ACTION_DIST_INPUTS] = _to_numpy(inputs)
        actions: Tree = said.get(Columns.ACTIONS)
        if actions is None:
            if inputs is None:
                raise ModuleError(
                    f"{name} returned {sorted(said)}. To act it must return "
                    f"'{Columns.ACTION_DIST_INPUTS}' or '{Columns.ACTIONS}'."
                )
            distribution = self.module.action_distribution(inputs)
            actions = distribution.sample(self._generator) if explore else distribution.mode()
        if isinstance(actions, Tensor):
            return actions.numpy(), outputs
        return tree_map(_to_numpy, actions), outputs

    def log_probs(self, inputs: Array, actions: Tree) -> Array:
        """The log-probability [E, T] of `actions` [E, T, ...] under `inputs` [E, T, K]."""
        distribution = self.module.action_distribution(to_tensors(inputs))
        return distribution.log_prob(to_tensors(actions)).numpy()


@final
class RandomPolicy:
    """Draws actions evenly from the action space, among those that an action mask allows.

    Args:
        observation_space: of one environment.
        action_space: of one environment.
        num_envs: E.
    """

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any], num_envs: int) -> None:
        self._spaces = observation_space, action_space
        self._actions = gym.vector.utils.batch_space(action_space, num_envs)
        self._generator = torch.Generator()

    def seed(self, seed: int) -> None:
        """Begin the random numbers anew."""
        self._actions.seed(seed)
        self._generator.manual_seed(seed)

    def act(self, observations: Tree) -> Tree:
        """Actions [E, ...] as environments take them, for tensors `observations` [E, ...].

        Raises:
            SpaceError: there is an action mask that does not fit the actions.
        """
        choices = self._masked_choices
        if choices is None:
            return self._actions.sample()
        mask: Tensor = observations[MASK_KEY]
        drawn = draw_choices(choices, len(mask), mask.device, mask, self._generator)
        return drawn.numpy().reshape(self._actions.shape).astype(self._actions.dtype)

    @cached_property
    def _masked_choices(self) -> list[tuple[int, int]] | None:
        """Looked for when first needed: a module of its own may do with the mask what it likes."""
        return choices_of(self._spaces[1]) if split_action_mask(*self._spaces)[1] else None


def to_tensors(arrays: Tree) -> Tree:
    """Tensors that share the memory of arrays."""
    return tree_map(torch.from_numpy, arrays)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _repeated(num_envs: int, leaf: Tensor) -> Tensor:
    return leaf.expand(num_envs, *leaf.shape).clone()


def _copied(leaf: Tensor) -> Array:
    return leaf.numpy().copy()


def _to_numpy(leaf: Any) -> Array:
    if isinstance(leaf, Tensor):
        return (leaf.float() if leaf.dtype in (torch.bfloat16, torch.float16) else leaf).numpy()
    return cast(Array, np.asarray(leaf))


def _add_time(leaf: Tensor) -> Tensor:
    return leaf.unsqueeze(1)


def _drop_time(leaf: Tensor) -> Tensor:
    return leaf.squeeze(1)
