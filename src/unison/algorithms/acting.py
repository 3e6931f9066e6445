"""Acting with trained modules outside of sampling."""

from typing import Any, cast

import numpy as np
import torch

from unison.errors import BatchError, ModuleError
from unison.sampling import EnvRunner, LocalRunner
from unison.sampling.actions import ActionTransform
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
        self._module = modules[next(iter(modules)) if module_id is None else module_id]
        config, space = runner.config, cast("Any", self._module.action_space)
        self._space: Any = self._module.observation_space
        clips = config.normalize_actions or config.clip_actions
        self._transform = ActionTransform(space, scale=config.normalize_actions, clip=config.clip_actions)
        self._clip = ActionTransform(space, scale=False, clip=clips)
        self._generator = torch.default_generator

    def act(self, observations: Tree, state: Tree, *, explore: bool) -> Any:
        """See Algorithm.compute_actions."""
        tensors, single = self._batched(observations)
        policy = Policy(self._module, tree_leaves(tensors)[0].shape[0], self._generator)
        if state is not None:
            policy.state = state
        with torch.inference_mode():
            chosen, _ = policy.act(tensors, explore=explore)
        actions = (self._transform if policy.has_distribution else self._clip)(chosen)
        actions = tree_map(lambda a: a[0], actions) if single else actions
        return (actions, policy.state) if self._module.is_stateful() else actions

    def _batched(self, observations: Tree) -> tuple[Tree, bool]:
        """Tensors with rows first, and whether it was one observation alone."""
        example = tree_map(np.asarray, self._space.sample())
        arrays = tree_map(lambda like, value: np.asarray(value, dtype=like.dtype), example, observations)
        extra = {a.ndim - e.ndim for a, e in zip(tree_leaves(arrays), tree_leaves(example), strict=True)}
        if extra == {0}:
            arrays = tree_map(lambda a: a[None], arrays)
        elif extra != {1}:
            raise BatchError(
                f"The observations do not fit the space {self._space}: give one, or a batch with rows first."
            )
        return tree_map(torch.as_tensor, arrays), extra == {0}
