"""How a PyTorch Learner registers, finds and sets its optimizers."""

from abc import ABC
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unison.config import AlgorithmConfig
from unison.errors import OptimizerError
from unison.learner.held import held_parameters
from unison.learner.learner import Learner
from unison.learner.learning_rates import check_rate, rate_schedule
from unison.learner.optimizer_state import DEFAULT_OPTIMIZER, SHARED
from unison.learner.optimizers import Optimizers
from unison.learner.setup import make_optimizer
from unison.types import ALL_MODULES, DEFAULT_MODULE_ID, ModuleID, ParamRef


class TorchOptimization(Learner, ABC):
    """The part of a TorchLearner that deals with optimizers; not for use alone."""

    optimizers: Optimizers

    def _is_module_compatible_with_learner(self, module: Any) -> bool:
        """Whether a module has trainable torch parameters; others are kept but never optimized."""
        return isinstance(module, torch.nn.Module) and any(p.requires_grad for p in held_parameters(module))

    def configure_optimizers(self) -> None:
        """See Learner.configure_optimizers. Layers that no module contains go under ALL_MODULES."""
        for module_id, module in self.module.items():
            if self._is_module_compatible_with_learner(module):
                self.configure_optimizers_for_module(module_id, self.config_for_module(module_id))
        own = [p for p in self.module.parameters_by_module().get(ALL_MODULES, {}).values() if p.requires_grad]
        self._register_default(ALL_MODULES, own, self.config)

    def configure_optimizers_for_module(self, module_id: ModuleID, config: AlgorithmConfig) -> None:
        """See Learner.configure_optimizers_for_module.

        What several modules share gets an optimizer of its own, "shared", under the first of them: it steps once
        whenever any of them has rows.
        """
        self._register_default(module_id, self.get_parameters(self.module[module_id]), config)

    def _register_default(
        self, module_id: ModuleID, candidates: Sequence[torch.nn.Parameter], config: AlgorithmConfig
    ) -> None:
        users = self._users()
        groups: dict[tuple[ModuleID, ...], list[torch.nn.Parameter]] = {}
        for param in candidates:
            if not self.optimizers.is_owned(param):
                groups.setdefault(users.get(param, ()), []).append(param)
        names = iter((SHARED, *(f"{SHARED}_{number}" for number in range(2, len(groups) + 1))))
        for using, params in groups.items():
            is_own = len(using) <= 1 or len(groups) == 1
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=DEFAULT_OPTIMIZER if is_own else next(names),
                optimizer=make_optimizer(params, config.optimizer),
                params=params,
                lr_or_lr_schedule=config.lr,
            )

    def _users(self) -> dict[torch.nn.Parameter, tuple[ModuleID, ...]]:
        """The modules that contain each parameter."""
        users: dict[torch.nn.Parameter, tuple[ModuleID, ...]] = {}
        for module_id, module in self.module.items():
            for param in module.parameters():
                users[param] = (*users.get(param, ()), module_id)
        return users

    def register_optimizer(
        self,
        *,
        module_id: ModuleID = ALL_MODULES,
        optimizer_name: str = "default_optimizer",
        optimizer: Any,
        params: Sequence[Any],
        lr_or_lr_schedule: Any = None,
    ) -> None:
        """See Learner.register_optimizer."""
        self._check_registered_optimizer(optimizer, params)
        known = self._param_refs()
        refs = {self._find_ref(p, known, module_id): p for p in params}
        where = f"Optimizer '{optimizer_name}' of module '{module_id}'"
        schedule = None if lr_or_lr_schedule is None else rate_schedule(lr_or_lr_schedule, where)
        if schedule is not None:
            self._set_optimizer_lr(optimizer, float(schedule.value(0)))
        users = self._users()
        common = set[ModuleID].intersection(*(set(users.get(p, ())) for p in params))
        self.optimizers.register(module_id, optimizer_name, optimizer, refs, schedule, users=common | {module_id})

    def _check_registered_optimizer(self, optimizer: Any, params: Sequence[Any]) -> None:
        """Check the types, and that the optimizer holds exactly `params`."""
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise OptimizerError(f"An optimizer is a torch.optim.Optimizer, not {type(optimizer).__name__}.")
        if not params or not all(isinstance(p, torch.nn.Parameter) for p in params):
            raise OptimizerError("`params` must be a list of at least one torch.nn.Parameter.")
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if held != {id(p) for p in params}:
            raise OptimizerError(
                f"The optimizer holds {len(held)} parameters but `params` lists {len(params)} others or not all of "
                "them; pass the same parameters to both."
            )

    def get_optimizers_for_module(self, module_id: ModuleID = ALL_MODULES) -> list[tuple[str, Any]]:
        """See Learner.get_optimizers_for_module."""
        return [(slot.name, slot.optimizer) for slot in self.optimizers.of_module(module_id)]

    def get_optimizer(self, module_id: ModuleID = DEFAULT_MODULE_ID, optimizer_name: str = "default_optimizer") -> Any:
        """See Learner.get_optimizer."""
        return self.optimizers.get(module_id, optimizer_name).optimizer

    def _get_optimizer_lr(self, optimizer: torch.optim.Optimizer) -> float:
        """The learning rate that the next step applies."""
        return float(optimizer.param_groups[0]["lr"])

    def _set_optimizer_lr(self, optimizer: torch.optim.Optimizer, lr: float) -> None:
        """Set the learning rate of all param groups; the next update applies it. A wrong one: `OptimizerError`."""
        known = (slot.where for slot in self.optimizers.slots.values() if slot.optimizer is optimizer)
        check_rate(lr, next(known, f"This {type(optimizer).__name__}"))
        for options in optimizer.param_groups:
            if isinstance(options["lr"], Tensor):
                options["lr"].fill_(lr)
            else:
                options["lr"] = lr

    def get_parameters(self, module: Any) -> list[torch.nn.Parameter]:
        """See Learner.get_parameters."""
        return [p for p in module.parameters() if p.requires_grad]

    def get_param_ref(self, param: Hashable) -> ParamRef:
        """See Learner.get_param_ref. A parameter that modules share goes by the first of them."""
        return self._find_ref(param, self._param_refs())

    def filter_param_dict_for_optimizer(
        self, param_dict: Mapping[ParamRef, Any], optimizer: Any
    ) -> dict[ParamRef, Any]:
        """See Learner.filter_param_dict_for_optimizer."""
        refs = self.optimizers.slot_of(optimizer).refs
        return {ref: param_dict[ref] for ref in refs if ref in param_dict}

    def _param_refs(self) -> dict[Any, list[ParamRef]]:
        refs: dict[Any, list[ParamRef]] = {}
        for module_id, module in self.module.items():
            for name, param in module.named_parameters():
                refs.setdefault(param, []).append(f"{module_id}/{name}")
        for name, param in self.module.parameters_by_module().get(ALL_MODULES, {}).items():
            refs[param] = [f"{ALL_MODULES}/{name}"]
        return refs

    @staticmethod
    def _find_ref(param: Hashable, refs: Mapping[Any, list[ParamRef]], module_id: ModuleID = ALL_MODULES) -> ParamRef:
        known = refs.get(param)
        if not known:
            raise OptimizerError("This parameter belongs to none of the Learner's modules.")
        if module_id != ALL_MODULES and not any(ref.startswith(f"{module_id}/") for ref in known):
            raise OptimizerError(
                f"Parameter '{known[0]}' is not one of module '{module_id}'; register it under its own module."
            )
        return known[0]
