"""Acting with trained modules outside of sampling."""

from typing import Any

import numpy as np
import torch

from unison.data import Columns
from unison.errors import BatchError
from unison.sampling import EnvRunner
from unison.sampling.actions import ActionTransform
from unison.types import Tree, tree_leaves, tree_map


class Actor:
    """Chooses actions as the env runner's environments would get them.

    Args:
        runner: whose module acts, and whose action settings count.
    """

    def __init__(self, runner: EnvRunner) -> None:
        self._runner = runner
        self._module = runner.modules[runner.module_id]
        config = runner.config
        self._transform = ActionTransform(runner.action_space, scale=config.normalize_actions, clip=config.clip_actions)

    def act(self, observations: Tree, state: Tree, *, explore: bool) -> Any:
        """See Algorithm.compute_actions."""
        tensors, single = self._batched(observations)
        rows = tree_leaves(tensors)[0].shape[0]
        batch: dict[str, Tree] = {Columns.OBS: tensors}
        if self._module.is_stateful():
            if state is None:
                initial = self._module.get_initial_state()
                state = tree_map(lambda leaf: leaf.expand(rows, *leaf.shape), initial)
            batch = {Columns.OBS: tree_map(lambda t: t.unsqueeze(1), tensors), Columns.STATE_IN: state}
        with torch.inference_mode():
            said = self._module.forward_exploration(batch) if explore else self._module.forward_inference(batch)
            inputs = said[Columns.ACTION_DIST_INPUTS]
            if self._module.is_stateful():
                inputs = inputs.squeeze(1)
            distribution = self._module.action_distribution(inputs)
            chosen = distribution.sample() if explore else distribution.mode()
        actions = self._transform(tree_map(lambda t: t.numpy(), chosen))
        actions = tree_map(lambda a: a[0], actions) if single else actions
        return (actions, said[Columns.STATE_OUT]) if self._module.is_stateful() else actions

    def _batched(self, observations: Tree) -> tuple[Tree, bool]:
        """Tensors with rows first, and whether it was one observation alone."""
        space = self._runner.observation_space
        example = tree_map(np.asarray, space.sample())
        arrays = tree_map(lambda like, value: np.asarray(value, dtype=like.dtype), example, observations)
        extra = {a.ndim - e.ndim for a, e in zip(tree_leaves(arrays), tree_leaves(example), strict=True)}
        if extra == {0}:
            arrays = tree_map(lambda a: a[None], arrays)
        elif extra != {1}:
            raise BatchError(f"The observations do not fit the space {space}: give one, or a batch with rows first.")
        return tree_map(torch.as_tensor, arrays), extra == {0}
