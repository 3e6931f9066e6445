"""Acting with trained modules outside of sampling."""

from typing import Any, cast

import numpy as np
import torch

from unison.errors import BatchError, ModuleError
from unison.modules.spaces import Space
from unison.sampling import EnvRunner, LocalRunner
from unison.sampling.actions import ActionTransform
from unison.sampling.observations import as_exact, empty_observations
from unison.sampling.policy import Policy
from unison.types import ModuleID, Tree, tree_leaves, tree_map


class Actor:
    """Chooses actions as the env runner's environments would get them.

    Args:
        runner: whose modules act, and whose action settings count.
        module_id: which module; None: the only one, or the one that acts where there is one agent.

    Raises:
        ModuleError: there is no such module, or there are several and none is named.
    """

    def __init__(self, runner: LocalRunner, module_id: ModuleID | None) -> None:
        if module_id is None and isinstance(runner, EnvRunner):
            module_id = runner.module_id
        modules = runner.modules
        if module_id is None and len(modules) > 1:
            raise ModuleError(f"There are the modules {list(modules.keys())}; say which acts: module_id=...")
        self._module_id = next(iter(modules)) if module_id is None else module_id
        self._module = modules[self._module_id]
        config, space = runner.config, cast("Any", self._module.action_space)
        self._space = cast("Space", self._module.observation_space)
        self._like = empty_observations(self._space, 1, self._module_id)
        clips = config.normalize_actions or config.clip_actions
        self._transform = ActionTransform(space, scale=config.normalize_actions, clip=config.clip_actions)
        self._clip = ActionTransform(space, scale=False, clip=clips)
        self._generator = torch.default_generator

    def act(self, observations: Tree, state: Tree, *, explore: bool) -> Any:
        """See Algorithm.compute_actions."""
        tensors, single = self._batched(observations)
        num_rows = tree_leaves(tensors)[0].shape[0]
        policy = Policy(self._module, num_rows, self._generator)
        if state is not None:
            policy.state = self._own_state(state, policy.state, num_rows)
        with torch.inference_mode():
            chosen, _ = policy.act(tensors, explore=explore)
        actions = (self._transform if policy.has_distribution else self._clip)(chosen)
        actions = tree_map(lambda a: a[0], actions) if single else actions
        return (actions, policy.state) if self._module.is_stateful() else actions

    def _batched(self, observations: Tree) -> tuple[Tree, bool]:
        """Tensors with rows first, and whether it was one observation alone."""
        try:
            arrays = tree_map(_as_like, self._like, observations)
        except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
            raise self._misfit(observations, f" ({error})") from error
        leaves = list(zip(tree_leaves(arrays), tree_leaves(self._like), strict=True))
        is_one = all(array.shape == like.shape[1:] for array, like in leaves)
        if is_one:
            arrays = tree_map(lambda array: array[None], arrays)
        elif len({a.shape[:1] for a, _ in leaves}) > 1 or any(a.shape[1:] != like.shape[1:] for a, like in leaves):
            raise self._misfit(observations)
        return tree_map(torch.as_tensor, arrays), is_one

    def _own_state(self, state: Tree, initial: Tree, num_rows: int) -> Tree:
        """A copy of the caller's state, for acting writes into it; shaped as the initial state."""
        try:
            own = tree_map(_copied_like, initial, state)
            fits = len(tree_leaves(state)) == len(tree_leaves(initial))
        except (TypeError, ValueError, LookupError, RuntimeError):
            own, fits = None, False
        if not fits:
            raise BatchError(
                f"compute_actions() got observations of {num_rows} rows, but state={_described(state)}; the state of "
                f"module '{self._module_id}' is {_described(initial)}. Give the state that the last call returned for "
                "the same rows; None where their episodes begin."
            )
        return own

    def _misfit(self, observations: Tree, why: str = "") -> BatchError:
        one = tree_map(lambda like: like[0], self._like)
        return BatchError(
            f"compute_actions() got {_described(observations)}{why}, but module '{self._module_id}' observes "
            f"{_described(one)}, of {self._space}. Give one such observation, or a batch of them with rows first."
        )


def _as_like(like: Any, value: Any) -> Any:
    return as_exact(value, like.dtype)


def _copied_like(like: torch.Tensor, leaf: Any) -> torch.Tensor:
    tensor = torch.as_tensor(leaf)
    if tensor.shape != like.shape:
        raise ValueError(f"{tuple(tensor.shape)} instead of {tuple(like.shape)}")
    return tensor.detach().to(like, copy=True)


def _described(value: Tree) -> str:
    """Types and shapes in words."""
    if isinstance(value, dict):
        items = cast("dict[str, Tree]", value).items()
        return "{" + ", ".join(f"'{key}': {_described(part)}" for key, part in items) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_described, cast("tuple[Tree, ...]", value))) + ")"
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        return f"a {type(value).__name__}"
    return f"{array.dtype} of shape {array.shape}"
