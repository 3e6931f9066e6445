"""Advantages and value targets for actor-critic losses."""

from typing import TYPE_CHECKING

import torch

from unison.data import Columns
from unison.data.rollout import Rollout
from unison.learner.connectors.values import compute_values
from unison.losses import generalized_advantages, standardize, value_targets
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


class AddAdvantages:
    """Adds `vf_preds`, `advantages` and `value_targets` by generalized advantage estimation.

    A terminated episode has no future; a truncated or cut one is bootstrapped with the value of its
    last observation. Advantages are standardized over the whole batch, not over minibatches, so that
    neither minibatches nor ranks change them.
    """

    def __call__(self, rollout: Rollout, *, learner: "TorchLearner", module_id: ModuleID) -> Rollout:
        """Add the columns [N]."""
        config = learner.config_for_module(module_id)
        columns = rollout.columns
        all_values = compute_values(learner, module_id, rollout)
        rows = rollout.rows.to(all_values.device)
        values = all_values[rows]
        next_values = torch.where(columns[Columns.TERMINATEDS], 0.0, all_values[rows + 1])
        advantages = generalized_advantages(
            columns[Columns.REWARDS],
            values,
            next_values,
            rollout.continues.to(values.device),
            gamma=config.gamma,
            lambda_=config.lambda_,
        )
        columns[Columns.VF_PREDS] = values
        columns[Columns.VALUE_TARGETS] = value_targets(advantages, values)
        columns[Columns.ADVANTAGES] = standardize(advantages) if config.normalize_advantages else advantages
        return rollout
