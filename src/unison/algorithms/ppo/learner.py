"""PPO's loss and its adaptive KL penalty (Schulman et al. 2017, arXiv:1707.06347)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unison.config import AlgorithmConfig
from unison.data import Columns
from unison.errors import BatchError
from unison.learner import AddAdvantages, TorchLearner
from unison.learner.loss_check import checked_values
from unison.losses import clipped_surrogate, masked_mean, value_loss
from unison.modules.outputs import check_outputs
from unison.registry import register
from unison.types import ModuleID

_TARGETS, _ERRORS, _SQUARED = "vf_targets", "vf_errors", "_squared"
_ROUNDING = 1e-6
"""Of the mean of float32 squares, relative."""


@register("learner", "ppo")
class PPOLearner(TorchLearner):
    """Clipped surrogate, value loss, entropy bonus, and a KL penalty whose coefficient may adapt."""

    required_columns = (
        Columns.OBS,
        Columns.ACTIONS,
        Columns.ACTION_LOGP,
        Columns.ADVANTAGES,
        Columns.VALUE_TARGETS,
    )
    connectors = (AddAdvantages(),)

    def compute_loss_for_module(
        self, *, module_id: ModuleID, config: AlgorithmConfig, batch: Mapping[str, Any], fwd_out: Mapping[str, Any]
    ) -> Tensor:
        """Equation 9 of the paper, with the penalty of section 4 added where `use_kl_loss` is set.

        Args:
            module_id: the module.
            config: its PPOConfig.
            batch: columns [B, ...], or [B, T, ...] with `loss_mask`.
            fwd_out: `action_dist_inputs` [..., K] and `vf_preds` [...].

        Returns:
            The loss, 0-d.

        Raises:
            ModuleError: `fwd_out` lacks a column.
        """
        check_outputs(f"Module '{module_id}'", fwd_out, Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS)
        coefficients = self.coefficients[module_id]
        mask: Tensor | None = batch.get(Columns.LOSS_MASK)
        distribution = self.module[module_id].action_distribution(fwd_out[Columns.ACTION_DIST_INPUTS])
        logp = distribution.log_prob(batch[Columns.ACTIONS])
        policy_loss = clipped_surrogate(
            logp, batch[Columns.ACTION_LOGP], batch[Columns.ADVANTAGES], config.clip_param, mask
        )
        values = checked_values(module_id, fwd_out[Columns.VF_PREDS], logp.shape)
        targets = batch[Columns.VALUE_TARGETS]
        old_values = batch[Columns.VF_PREDS] if config.vf_clip_param is not None else None
        vf_loss = value_loss(values, targets, old_values, config.vf_clip_param, mask)
        entropy = masked_mean(distribution.entropy(), mask)
        loss = policy_loss + config.vf_loss_coeff * vf_loss - coefficients["entropy_coeff"] * entropy
        metrics = {"policy_loss": policy_loss, "vf_loss": vf_loss, "entropy": entropy}
        if config.use_kl_loss or (self.step.is_logged and Columns.ACTION_DIST_INPUTS in batch):
            old = self.module[module_id].action_distribution(_old_inputs(batch, fwd_out))
            metrics["mean_kl_loss"] = masked_mean(old.kl(distribution), mask)
        if config.use_kl_loss:
            loss = loss + coefficients["kl_coeff"] * metrics["mean_kl_loss"]
        if self.step.is_logged:
            for name, x in ((_TARGETS, targets), (_ERRORS, targets - values.detach())):
                metrics |= {name: masked_mean(x, mask), name + _SQUARED: masked_mean(x.square(), mask)}
        self.metrics.log_dict(metrics, key=module_id)
        return loss

    def after_gradient_based_update(self, *, timesteps: Mapping[str, int]) -> None:
        """Move the schedules, then each KL coefficient towards its target (section 4 of the paper)."""
        super().after_gradient_based_update(timesteps=timesteps)
        for module_id, results in self.results.items():
            if _TARGETS in results:
                results["vf_explained_var"] = _explained_variance(results)
            config = self.config_for_module(module_id)
            if config.use_kl_loss and "mean_kl_loss" in results:
                if results["mean_kl_loss"] > 1.5 * config.kl_target:
                    self.coefficients[module_id]["kl_coeff"].mul_(2.0)
                elif results["mean_kl_loss"] < config.kl_target / 1.5:
                    self.coefficients[module_id]["kl_coeff"].mul_(0.5)

    def _make_coefficients(self, module_id: ModuleID) -> None:
        super()._make_coefficients(module_id)
        config = self.config_for_module(module_id)
        self.coefficients[module_id]["kl_coeff"] = self._get_tensor_variable(float(config.kl_coeff))


def _old_inputs(batch: Mapping[str, Any], fwd_out: Mapping[str, Any]) -> Tensor:
    """The `action_dist_inputs` of the policy that acted.

    Raises:
        BatchError: they are not shaped as the module's.
    """
    old, new = batch[Columns.ACTION_DIST_INPUTS], fwd_out[Columns.ACTION_DIST_INPUTS]
    if old.shape != new.shape:
        raise BatchError(
            f"column '{Columns.ACTION_DIST_INPUTS}' has shape {list(old.shape)} where the module's have "
            f"{list(new.shape)}; give those of the policy that acted, or leave the column out without use_kl_loss."
        )
    return old


def _explained_variance(results: dict[str, Any]) -> float:
    """The share of the value targets' variance that the values explain, 0 if the targets are all equal.

    Of all rows of the last pass at once, for a ratio of variances has no mean over minibatches and Learners. What it is
    made from is taken out of the results.
    """
    means = {name: (results.pop(name), results.pop(name + _SQUARED)) for name in (_TARGETS, _ERRORS)}
    total, unexplained = (square - mean**2 for mean, square in means.values())
    return 1.0 - unexplained / total if total > _ROUNDING * means[_TARGETS][1] else 0.0
