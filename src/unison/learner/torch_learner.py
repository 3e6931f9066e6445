"""The Learner of PyTorch modules."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from unison.config import AlgorithmConfig, checked_should_update
from unison.config.schedule import Schedule
from unison.data.tensors import TensorColumns, split_by_module
from unison.errors import BatchError, NotBuiltError
from unison.learner.connectors import LearnerConnector, episodes_to_columns
from unison.learner.engines import make_engine
from unison.learner.gradients import ClipFunction, GradientExchange, Gradients, clip_gradients, differentiate, weigh
from unison.learner.learner import Results, ShouldUpdate
from unison.learner.loss_check import checked_loss
from unison.learner.memory import keep_freed_memory
from unison.learner.metrics import NUM_MODULE_STEPS_TRAINED, StepMetrics
from unison.learner.optimizer_slot import OptimizerSlot
from unison.learner.optimizers import Optimizers
from unison.learner.precision import Precision
from unison.learner.random_numbers import own_random_numbers
from unison.learner.setup import build_modules, check_addition, check_exists, find_device, seed_generator
from unison.learner.snapshot import Snapshot
from unison.learner.torch_optimization import TorchOptimization
from unison.learner.torch_state import TorchState
from unison.learner.update import choose_trained, count_env_steps, run_update, valid_rows
from unison.modules import MultiAgentRLModule, RLModule, SingleAgentRLModuleSpec
from unison.types import ALL_MODULES, ModuleID, ParamRef

_MADE_BY_BUILD = {
    "_device",
    "coefficients",
    "engine",
    "exchange",
    "generator",
    "last_snapshot",
    "optimizers",
    "precision",
    "snapshot_memory",
}


class TorchLearner(TorchOptimization, TorchState):
    """A Learner whose modules, optimizers and hooks are PyTorch.

    An algorithm is a subclass with a `compute_loss_for_module`.
    """

    framework = "torch"
    connectors: ClassVar[tuple[LearnerConnector, ...]] = ()
    """What turns a rollout into the columns of the loss, after the connectors of the user."""

    # --- building ---

    def build(self) -> None:
        """See Learner.build."""
        if self._module is not None:
            return
        if self.config.num_threads is not None:
            torch.set_num_threads(self.config.num_threads)
        self._device = find_device(self.config)
        if self._device.type == "cpu":
            keep_freed_memory()
        self.generator = seed_generator(self.config.seed)
        self.precision = Precision(self.config.precision, self._device)
        self.optimizers = Optimizers()
        self.exchange = GradientExchange(self.collective)
        self.engine = make_engine(self)
        self.coefficients: dict[ModuleID, dict[str, Tensor]] = {}
        self._schedules: dict[ModuleID, dict[str, Schedule]] = {}
        self.last_snapshot: Snapshot | None = None
        self.snapshot_memory: list[Tensor] = []
        self.schedule_step = 0
        module = self._make_module()
        module.to(self._device)
        self._module = module
        try:
            self.configure_optimizers()
            for module_id in module:
                self._make_coefficients(module_id)
        except BaseException:
            self._module = None
            raise

    def __getattr__(self, name: str) -> Any:
        """What `build()` makes is asked for: it was not called yet, or there is no such attribute."""
        if name in _MADE_BY_BUILD:
            raise NotBuiltError(f"This {type(self).__name__} is not built yet; call build() first.")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def _make_module(self) -> MultiAgentRLModule:
        """See Learner._make_module."""
        return build_modules(self.config, self._given_module, self._module_spec)

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        self._check_is_built()
        return self._device

    def _get_tensor_variable(self, value: Any, dtype: torch.dtype | None = None, trainable: bool = False) -> Tensor:
        """A tensor on the Learner's device; for anything that changes over time."""
        dtype = dtype or (torch.float32 if isinstance(value, float) else None)
        tensor = torch.as_tensor(value, dtype=dtype).detach().clone().to(self._device)
        return torch.nn.Parameter(tensor) if trainable else tensor

    def _make_coefficients(self, module_id: ModuleID) -> None:
        schedules = self.config_for_module(module_id).scheduled_settings()
        del schedules["lr"]  # the optimizers' own
        self._schedules[module_id] = schedules
        self.coefficients[module_id] = {
            name: self._get_tensor_variable(float(schedule.value(0))) for name, schedule in schedules.items()
        }

    # --- updating ---

    def update_from_batch(
        self,
        batch: Any,
        *,
        timesteps: Mapping[str, int] | None = None,
        minibatch_size: int | None = None,
        num_iters: int = 1,
    ) -> Results:
        """See Learner.update_from_batch."""
        columns = split_by_module(batch, self.module)
        env_steps = count_env_steps(self, batch, columns)
        with own_random_numbers(self):
            columns = choose_trained(self, columns, columns)
            return run_update(self, columns, env_steps, timesteps, minibatch_size, num_iters)

    def update_from_episodes(
        self,
        episodes: Sequence[Any],
        *,
        timesteps: Mapping[str, int] | None = None,
        minibatch_size: int | None = None,
        num_iters: int = 1,
    ) -> Results:
        """See Learner.update_from_episodes."""
        self._check_is_built()
        with own_random_numbers(self):
            columns, env_steps = episodes_to_columns(self, episodes)
            return run_update(self, columns, env_steps, timesteps, minibatch_size, num_iters)

    def undo_update(self, num_updates: int) -> None:
        """Go back to the state after `num_updates` updates, if the last update went one beyond it.

        One of several Learners needs it where another failed in the last moments of an update.
        """
        if self.counters["num_updates"] > num_updates and self.last_snapshot is not None:
            self.last_snapshot.restore()
            self.last_snapshot = None

    def complete_columns(self, columns: Mapping[ModuleID, TensorColumns]) -> Mapping[ModuleID, TensorColumns]:
        """Hook: add columns that are drawn once for the whole batch, from `self.generator`, alike on every rank."""
        return columns

    def has_own(self, hook: str) -> bool:
        """Whether a hook is another than TorchLearner's, and so may do anything."""
        return getattr(getattr(self, hook), "__func__", None) is not getattr(TorchLearner, hook)

    def before_gradient_based_update(self, *, timesteps: Mapping[str, int]) -> None:
        """See Learner.before_gradient_based_update."""

    def after_gradient_based_update(self, *, timesteps: Mapping[str, int]) -> None:
        """See Learner.after_gradient_based_update."""
        self._follow_schedules(timesteps["num_env_steps_sampled_lifetime"], constants=False)

    def use_own_settings(self, module_ids: Collection[ModuleID] | None = None) -> None:
        """Go by this Learner's config where a loaded state brought other rates, optimizer settings or coefficients.

        Args:
            module_ids: of these modules only; None: of all, and the schedules stand where training stands.
        """
        self.optimizers.check()
        for slot in self.optimizers.slots.values():
            if module_ids is None or slot.module_id in module_ids:
                slot.reset_settings()
        if module_ids is None:
            self.schedule_step = self.counters["num_env_steps_trained_lifetime"]
        self._follow_schedules(self.schedule_step, constants=True, module_ids=module_ids)

    def _follow_schedules(self, step: int, *, constants: bool, module_ids: Collection[ModuleID] | None = None) -> None:
        """Set rates and coefficients to their schedules' values at `step`; constant ones only if `constants`."""
        self.schedule_step = step
        for slot in self.optimizers.slots.values():
            is_concerned = module_ids is None or slot.module_id in module_ids
            if is_concerned and slot.schedule is not None and (constants or not slot.schedule.is_constant):
                self._set_optimizer_lr(slot.optimizer, float(slot.schedule.value(step)))
        for module_id in self._schedules if module_ids is None else module_ids:
            for name, schedule in self._schedules[module_id].items():
                if constants or not schedule.is_constant:
                    self.coefficients[module_id][name].fill_(float(schedule.value(step)))

    def _update(self, batch: Mapping[ModuleID, Any]) -> tuple[dict[ModuleID, Any], dict[ModuleID, Any], StepMetrics]:
        """See Learner._update."""
        with self.precision.autocast():
            fwd_out = self.module.forward_train(batch)
            loss_per_module = self.compute_loss(fwd_out=fwd_out, batch=batch)
        for module_id, columns in batch.items():
            weigh(module_id, loss_per_module[module_id], columns)
            self.metrics.log_value((module_id, "total_loss"), loss_per_module[module_id])
            self.metrics.log_value((module_id, NUM_MODULE_STEPS_TRAINED), valid_rows(columns), reduce="sum")
        for module_id in self.step.modules:
            if module_id not in batch:  # Another rank or minibatch has its rows; its metrics here weigh nothing.
                self.metrics.log_value((module_id, NUM_MODULE_STEPS_TRAINED), 0.0, reduce="sum")
        slots = self.optimizers.active(self.step.modules)
        gradients = self.compute_gradients(loss_per_module)
        if not self.step.closes_step:
            self.exchange.add(gradients, slots)
        else:
            gradients = self._screened(self.exchange.total(gradients, slots), slots)
            self.apply_gradients(self.postprocess_gradients(gradients))
        return fwd_out, loss_per_module, self.metrics.collect()

    def compute_loss(
        self, *, fwd_out: Mapping[ModuleID, Mapping[str, Any]], batch: Mapping[ModuleID, Any]
    ) -> dict[ModuleID, Any]:
        """See Learner.compute_loss."""
        losses: dict[ModuleID, Any] = {}
        total: Any = None
        for module_id, columns in batch.items():
            config = self.config_for_module(module_id)
            try:
                loss = self.compute_loss_for_module(
                    module_id=module_id, config=config, batch=columns, fwd_out=fwd_out[module_id]
                )
            except BatchError as error:  # A loss knows its columns, not whose they are.
                error.args = (f"Module '{module_id}': {error}",)
                raise
            losses[module_id] = checked_loss(self, module_id, loss)
            total = loss if total is None else total + loss
        losses[ALL_MODULES] = torch.zeros((), device=self._device) if total is None else total
        return losses

    def compute_gradients(self, loss_per_module: Mapping[ModuleID, Any]) -> Gradients:
        """See Learner.compute_gradients."""
        slots = self.optimizers.active(self.step.modules or loss_per_module)
        return differentiate(loss_per_module[ALL_MODULES], slots, self.precision)

    def postprocess_gradients(self, gradients: Gradients) -> Gradients:
        """See Learner.postprocess_gradients."""
        processed: Gradients = {}
        owners = dict.fromkeys(slot.module_id for slot in self.optimizers.active(self.step.modules or self.module))
        for module_id in owners:
            names = [ref for slot in self.optimizers.slots.values() if slot.module_id == module_id for ref in slot.refs]
            processed |= self.postprocess_gradients_for_module(
                module_id=module_id,
                config=self.config_for_module(module_id),
                module_gradients_dict={ref: gradients[ref] for ref in names if ref in gradients},
            )
        return processed

    def postprocess_gradients_for_module(
        self, *, module_id: ModuleID, config: AlgorithmConfig, module_gradients_dict: Gradients
    ) -> Gradients:
        """See Learner.postprocess_gradients_for_module."""
        clip = self._get_clip_function()
        for slot in self.optimizers.slots.values():
            if slot.module_id != module_id:
                continue
            gradients = self.filter_param_dict_for_optimizer(module_gradients_dict, slot.optimizer)
            whole = config.grad_clip_by != "norm" and slot.is_flat(gradients)
            tensors = slot.flat_gradients if whole else list(gradients.values())
            if tensors:
                norm = clip(tensors, grad_clip=config.grad_clip, grad_clip_by=config.grad_clip_by)
                self.metrics.log_value((module_id, f"gradients_{slot.name}_global_norm"), norm, reduce="step_mean")
        return module_gradients_dict

    def _get_clip_function(self) -> ClipFunction:
        """What clips gradients in place, by value, norm or global norm."""
        return clip_gradients

    def _screened(self, gradients: Gradients, slots: Sequence[OptimizerSlot]) -> Gradients:
        """Find what is not finite before a hook sees it: clipping would spread a NaN, or hide an infinity."""
        screened: Gradients = {}
        for slot in slots:
            if any(ref in gradients for ref in slot.refs):
                screened |= slot.screen(gradients, nan_policy=self._nan_policy)
        return screened

    @property
    def _nan_policy(self) -> str:
        return "skip" if self.precision.scaled else self.config.nan_policy

    def apply_gradients(self, gradients: Mapping[ParamRef, Tensor]) -> None:
        """See Learner.apply_gradients."""
        bad: Tensor | None = None
        for slot in self.optimizers.active(self.step.modules or self.module):
            if any(ref in gradients for ref in slot.refs):
                found = slot.step(gradients, nan_policy=self._nan_policy, fused=self.engine.fused)
                bad = found if bad is None else torch.maximum(bad, found)
        if bad is not None:
            self.precision.update(bad)
        for module_id in self.step.modules or self.module:
            self.after_gradient_step_for_module(module_id=module_id, config=self.config_for_module(module_id))

    def after_gradient_step_for_module(self, *, module_id: ModuleID, config: AlgorithmConfig) -> None:
        """Hook: what moves with every gradient step beside parameters, such as target networks. Engines trace it."""

    # --- modules and state ---

    def add_module(
        self,
        *,
        module_id: ModuleID,
        module_spec: SingleAgentRLModuleSpec,
        config_overrides: Mapping[str, Any] | None = None,
        new_should_module_be_updated: ShouldUpdate = None,
    ) -> None:
        """See Learner.add_module."""
        check_addition(module_id, module_spec, self.module)
        rule = checked_should_update(new_should_module_be_updated, [*self.module, module_id])
        overrides = {**self.config.algorithm_config_overrides_per_module.get(module_id, {}), **(config_overrides or {})}
        config = self.config.with_overrides(overrides, f"config_overrides of module '{module_id}'")
        with own_random_numbers(self, f"module {module_id}"):
            module: RLModule = module_spec.build().to(self._device)
        self.module.add_module(module_id, module)
        rule_before = self.should_update
        try:
            self._module_configs[module_id] = config
            self.config_overrides[module_id] = overrides
            if self._is_module_compatible_with_learner(module):
                self.configure_optimizers_for_module(module_id, config)
            self._make_coefficients(module_id)
            self._follow_schedules(self.schedule_step, constants=False)
            if rule is not None:
                self.replace_should_update(rule)
        except BaseException:
            self.should_update = rule_before
            self.remove_module(module_id)
            raise
        self.last_snapshot = None

    def remove_module(self, module_id: ModuleID) -> None:
        """See Learner.remove_module."""
        check_exists(module_id, self.module)
        others = [p for m, other in self.module.items() if m != module_id for p in other.parameters()]
        self.optimizers.remove_module(module_id, keep=others)
        self.last_snapshot = None
        self.module.remove_module(module_id)
        for kept in (self._module_configs, self.config_overrides, self.coefficients, self._schedules):
            kept.pop(module_id, None)
        self.metrics.forget_module(module_id)
        self.engine.forget_module(module_id)
        self.results = {m: found for m, found in self.results.items() if m != module_id}  # Others hold the old dict.
