"""SAC's losses, its four optimizers, and its target critics.

Haarnoja et al. 2018a (arXiv:1801.01290) and 2018b (arXiv:1812.05905); Christodoulou 2019 (arXiv:1910.07207) for
discrete actions.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor

from unison.algorithms.sac.columns import check_actions, check_columns
from unison.algorithms.sac.module import NEXT_ACTION_DIST_INPUTS, QS, SACModule
from unison.config import AlgorithmConfig
from unison.data import Columns
from unison.data.replay import N_STEPS
from unison.data.tensors import TensorColumns
from unison.errors import ModuleError
from unison.learner import TorchLearner
from unison.learner.setup import make_optimizer
from unison.losses import (
    actor_loss,
    discrete_soft_value,
    masked_mean,
    soft_target,
    soft_value,
    temperature_loss,
    twin_critic_loss,
)
from unison.modules.distributions import Categorical, Distribution, SquashedGaussian
from unison.registry import register
from unison.types import ModuleID, tree_leaves

NOISE, NEXT_NOISE = "__noise__", "__next_noise__"
"""Columns [B, A] of standard normal numbers, from which actions are drawn for `obs` and `new_obs`.

No column of a user's is called so by accident; a batch that brings them is trained with them.
"""
ROW = "__row__"
"""The column [B] of each row's place in the batch."""
TD_ERRORS = "td_errors"
"""The result that holds an array [B]: for each row of the batch how far the critics were from their target."""
CRITICS = ("critic_1", "critic_2")


@register("learner", "sac")
class SACLearner(TorchLearner):
    """Twin critics, a policy and its temperature, each stepped on its own loss.

    The loss of a module is the sum of the losses of its critics, its policy and its temperature. Each holds back the
    gradients of all parameters but its own, so each optimizer steps on its own loss alone, all from the same weights.

    The target critics move within the step, and not in `after_gradient_based_update`: that comes
    once for each call, and a call may take many steps, for which the targets must move in between. So every engine
    takes all of them as one program.
    """

    required_columns = (
        Columns.OBS,
        Columns.NEXT_OBS,
        Columns.ACTIONS,
        Columns.REWARDS,
        Columns.TERMINATEDS,
    )

    def build(self) -> None:
        """See Learner.build."""
        self._td_errors: dict[ModuleID, Tensor] = {}
        self._num_rows: dict[ModuleID, int] = {}
        super().build()

    def configure_optimizers_for_module(self, module_id: ModuleID, config: AlgorithmConfig) -> None:
        """Register the optimizers "actor", "critic_1", "critic_2" and "alpha"."""
        module = self._sac_module(module_id)
        if float(module.log_alpha.detach()) == 0.0:  # One that was loaded has been tuned, and is no 0 any more.
            with torch.no_grad():
                module.log_alpha.fill_(math.log(config.initial_alpha))
        critics = [list(critic.parameters()) for critic in module.critics]
        parts = {
            "actor": ([*module.encoder.parameters(), *module.policy_head.parameters()], config.actor_lr),
            **{name: (params, config.critic_lr) for name, params in zip(CRITICS, critics, strict=True)},
            "alpha": ([module.log_alpha], config.alpha_lr),
        }
        for name, (candidates, lr) in parts.items():
            params = [p for p in candidates if not self.optimizers.is_owned(p)]
            if params:
                self.register_optimizer(
                    module_id=module_id,
                    optimizer_name=name,
                    optimizer=make_optimizer(params, config.optimizer),
                    params=params,
                    lr_or_lr_schedule=config.lr if lr is None else lr,
                )

    def complete_columns(self, columns: Mapping[ModuleID, TensorColumns]) -> dict[ModuleID, TensorColumns]:
        """Check the batch, and draw the noise of its actions as a whole: every rank and every engine has the same."""
        completed: dict[ModuleID, TensorColumns] = {}
        for module_id, given in columns.items():
            module, own = self._sac_module(module_id), dict(given)
            rows = tree_leaves(given[Columns.OBS])[0].shape[0]
            check_columns(module_id, given, rows)
            if not module.is_discrete:
                bounds = cast("spaces.Box", module.action_space)
                check_actions(module_id, given, bounds, normalized=self.config.normalize_actions)
                shape = (2, rows, module.action_distribution.input_size // 2)
                both = torch.empty(shape).normal_(generator=self.generator).to(self.device)
                own = {NOISE: both[0], NEXT_NOISE: both[1]} | own
            if self.config.replay_prioritized:
                own[ROW] = torch.arange(rows, device=self.device)
                self._num_rows[module_id] = rows
                known = self._td_errors.get(module_id)
                if known is None or len(known) < rows:
                    # With room for more, a power of 8: a program is made for one length, and made anew a few times.
                    room = 8 ** -(-(rows - 1).bit_length() // 3)
                    self._td_errors[module_id] = torch.zeros(room, device=self.device)
                else:
                    known.zero_()
            completed[module_id] = own
        return completed

    def compute_loss_for_module(
        self, *, module_id: ModuleID, config: AlgorithmConfig, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]
    ) -> Tensor:
        """The sum of the losses of critics, policy and temperature (2018b, equations 5, 7 and 18).

        Args:
            module_id: the module.
            config: its SACConfig.
            batch: columns [B, ...]; `n_steps` and `weights` [B] where the replay gives them, `loss_mask` [B] where
                some rows do not count.
            fwd_out: what SACModule.forward_train returns.

        Returns:
            The loss, 0-d.
        """
        module = self._sac_module(module_id)
        alpha = module.log_alpha.detach().exp()
        targets = soft_target(
            batch[Columns.REWARDS],
            self._next_values(module, batch, fwd_out, alpha),
            batch[Columns.TERMINATEDS],
            gamma=config.gamma,
            n_steps=batch.get(N_STEPS, 1),
        )
        qs = fwd_out[QS]
        if module.is_discrete:
            chosen = batch[Columns.ACTIONS].to(torch.int64) - int(cast("spaces.Discrete", module.action_space).start)
            qs = qs.gather(-1, chosen.expand(2, -1).unsqueeze(-1)).squeeze(-1)
        mask = batch.get(Columns.LOSS_MASK)
        critic_loss = twin_critic_loss(qs, targets, mask, weights=batch.get(Columns.WEIGHTS))
        values, logp = self._policy_values(module, batch, fwd_out, alpha)
        policy_loss = actor_loss(values, mask)
        goal = _target_entropy(module, config)
        alpha_loss = temperature_loss(module.log_alpha, logp, goal, mask)
        if self.config.replay_prioritized:
            found = (qs.detach() - targets).abs().mean(0)
            self._td_errors[module_id].index_copy_(0, batch[ROW], found.to(self._td_errors[module_id].dtype))
        metrics = {
            "critic_loss": critic_loss,
            "policy_loss": policy_loss,
            "alpha_loss": alpha_loss,
            "alpha": alpha,
            "entropy": -masked_mean(logp, mask),
            "target_entropy": float(goal),
            "qf_mean": masked_mean(qs.mean(0), mask),
        }
        self.metrics.log_dict(metrics, key=module_id)
        return critic_loss + policy_loss + alpha_loss

    def after_gradient_step_for_module(self, *, module_id: ModuleID, config: AlgorithmConfig) -> None:
        """Move the target critics (2018b, algorithm 1, last line)."""
        self._sac_module(module_id).move_targets(config.tau)

    def after_gradient_based_update(self, *, timesteps: Mapping[str, int]) -> None:
        """Move the schedules; gather the errors of all rows where priorities want them."""
        super().after_gradient_based_update(timesteps=timesteps)
        if not self.config.replay_prioritized:
            return
        for module_id, results in self.results.items():
            if module_id in self._td_errors:
                errors = self._td_errors[module_id][: self._num_rows[module_id]]
                if self.distributed:
                    errors = self.collective.all_reduce_(errors.clone())
                results[TD_ERRORS] = errors.cpu().numpy().copy()

    def _next_values(
        self, module: SACModule, batch: Mapping[str, Any], fwd_out: Mapping[str, Any], alpha: Tensor
    ) -> Tensor:
        """The soft values [B] of the next observations, by the target critics."""
        with torch.no_grad():
            distribution = module.action_distribution(fwd_out[NEXT_ACTION_DIST_INPUTS])
            following = batch[Columns.NEXT_OBS]
            if isinstance(distribution, SquashedGaussian):
                actions, logp = distribution.actions_of(batch[NEXT_NOISE])
                return soft_value(module.target_values(following, actions), logp, alpha)
            return discrete_soft_value(module.target_values(following, None), _log_probs(distribution), alpha)

    def _policy_values(
        self, module: SACModule, batch: Mapping[str, Any], fwd_out: Mapping[str, Any], alpha: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The soft values [B] of what the policy does now, and the log-probabilities [B]."""
        distribution = module.action_distribution(fwd_out[Columns.ACTION_DIST_INPUTS])
        if isinstance(distribution, SquashedGaussian):
            actions, logp = distribution.actions_of(batch[NOISE])
            return soft_value(module.values_held(batch[Columns.OBS], actions), logp, alpha), logp
        logps = _log_probs(distribution)
        return discrete_soft_value(fwd_out[QS].detach(), logps, alpha), (logps.exp() * logps).sum(-1)

    def _sac_module(self, module_id: ModuleID) -> SACModule:
        module = self.module[module_id]
        if not isinstance(module, SACModule):
            raise ModuleError(
                f"Module '{module_id}' is a {type(module).__name__}; SAC trains a SACModule. Make its module_class a "
                "subclass of it, or leave it out of policies_to_train."
            )
        return module


def _log_probs(distribution: Distribution) -> Tensor:
    """The log-probability [B, n] of each choice, in float32 at least, however the network rounds."""
    assert isinstance(distribution, Categorical)
    return distribution.log_probs


def _target_entropy(module: SACModule, config: AlgorithmConfig) -> float:
    """In nats: as set, else 2018b, Table 1, or for discrete actions Christodoulou 2019, appendix B."""
    if config.target_entropy != "auto":
        return float(config.target_entropy)
    if isinstance(module.action_space, spaces.Discrete):
        return 0.98 * math.log(int(module.action_space.n))
    return -float(module.action_distribution.input_size // 2)
