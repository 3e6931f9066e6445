"""One registered optimizer: its parameters, its learning rate and how it steps."""

from collections.abc import Collection, Mapping
from functools import reduce

import torch
from torch import Tensor

from unison.config.schedule import Schedule
from unison.errors import OptimizerError
from unison.learner.flat_group import FlatGroup, Parameter, non_finite
from unison.learner.learning_rates import check_rate
from unison.learner.update_rules import rule_for
from unison.types import ModuleID, ParamRef


class OptimizerSlot:
    """A torch optimizer under its module and name.

    Optimizers that an update rule serves are stepped by it, on flat buffers; any other is stepped
    by its own `step()`: `rule` is None, and `own_step_reason` says why.

    Args:
        module_id: the module whose parameters it moves (or ALL_MODULES).
        name: unique within the module.
        optimizer: any torch optimizer over exactly these parameters.
        refs: the parameters by name.
        schedule: the learning rate over time; None leaves it to the optimizer's own settings.
        users: the modules whose rows make it step.
    """

    def __init__(
        self,
        module_id: ModuleID,
        name: str,
        optimizer: torch.optim.Optimizer,
        refs: dict[ParamRef, Parameter],
        schedule: Schedule | None,
        users: Collection[ModuleID],
    ) -> None:
        self.module_id = module_id
        self.name = name
        self.optimizer = optimizer
        self.refs = refs
        self.schedule = schedule
        self.users = frozenset(users)
        self._first_settings = [
            {name: value for name, value in options.items() if name != "params"} for options in optimizer.param_groups
        ]
        self._registered = self._current_params()
        self.rule, self.own_step_reason = rule_for(optimizer)
        names = {param: ref for ref, param in refs.items()}
        self.groups: list[FlatGroup] = []
        for index, options in enumerate(optimizer.param_groups):
            kinds: dict[tuple[torch.dtype, torch.device], dict[ParamRef, Parameter]] = {}
            for p in options["params"]:
                kinds.setdefault((p.dtype, p.device), {})[names[p]] = p
            self.groups += [FlatGroup(optimizer, index, group, self.rule) for group in kinds.values()]
        device = self.groups[0].parameters.device
        self.non_finite_steps = torch.zeros((), device=device)
        self.found_non_finite = torch.zeros((), device=device)

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"Optimizer '{self.name}' of module '{self.module_id}'"

    def check(self) -> None:
        """Raise `OptimizerError` for other param groups, or settings that its rule can't honour."""
        groups = self.optimizer.param_groups
        if self._current_params() != self._registered:
            sizes = [len(params) for params in self._registered], [len(options["params"]) for options in groups]
            raise OptimizerError(
                f"{self.where} was registered with {sizes[0]} parameters in its param groups and now has {sizes[1]}, "
                "or others, or in another order. Put the groups back; give parameters that have no optimizer one of "
                "their own by register_optimizer(), and let others rest by requires_grad_(False)."
            )
        for options in groups:
            reason = self.rule and self.rule.refusal(options)
            if reason is not None:
                raise OptimizerError(
                    f"{self.where} has {reason}, which it did not have when it was registered. Set it back, or before "
                    "register_optimizer() in configure_optimizers_for_module()."
                )

    def check_rates(self) -> None:
        """Raise `OptimizerError` for a learning rate that would spoil the weights."""
        for options in self.optimizer.param_groups:
            check_rate(options["lr"], self.where)

    def _current_params(self) -> list[list[int]]:
        """The parameters of each group, by identity: to compare tensors is slow."""
        return [list(map(id, options["params"])) for options in self.optimizer.param_groups]

    def sync(self) -> None:
        """Adopt what changed from outside since the last update; start counting non-finite steps anew."""
        for group in self.groups:
            group.sync()
        self.non_finite_steps.zero_()
        self.found_non_finite.zero_()

    def reset_settings(self) -> None:
        """Give the optimizer the settings that it was registered with, instead of loaded ones."""
        for options, settings in zip(self.optimizer.param_groups, self._first_settings, strict=True):
            options.update(settings)

    @property
    def gradient_views(self) -> dict[ParamRef, Tensor]:
        """A view into the flat gradients for each parameter; a gradient written there needs no copy."""
        return {ref: view for group in self.groups for ref, view in group.gradient_views.items()}

    @property
    def training_views(self) -> dict[ParamRef, Tensor]:
        """The gradient views of the parameters that train; the others are frozen, and have no gradient."""
        return {ref: view for ref, view in self.gradient_views.items() if self.refs[ref].requires_grad}

    @property
    def flat_gradients(self) -> list[Tensor]:
        """The flat gradient [N] of each group."""
        return [group.gradients for group in self.groups]

    def is_flat(self, gradients: Mapping[ParamRef, Tensor]) -> bool:
        """Whether `gradients` holds exactly the views of the flat buffers."""
        return all(gradients.get(ref) is view for group in self.groups for ref, view in group.gradient_views.items())

    def screen(self, gradients: Mapping[ParamRef, Tensor], *, nan_policy: str) -> dict[ParamRef, Tensor]:
        """Note which gradients are not finite, and under `nan_policy="zero"` replace their bad entries by 0.

        Returns:
            The gradients as views of the flat buffers; names that were missing stay so.
        """
        missing = set[ParamRef]().union(*(group.write(gradients) for group in self.groups))
        found = [group.find_non_finite() for group in self.groups]
        bad = torch.cat(found).amax() if len(found) > 1 else found[0].amax()
        for group, flags in zip(self.groups, found, strict=True):
            group.last_non_finite.copy_(torch.where(bad > 0, flags, group.last_non_finite))
            if nan_policy == "zero":
                group.gradients.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        self.found_non_finite.copy_(bad)
        return {ref: view for ref, view in self.gradient_views.items() if ref not in missing}

    def step(self, gradients: Mapping[ParamRef, Tensor], *, nan_policy: str, fused: bool) -> Tensor:
        """Step on `gradients`; parameters without one stay as they are.

        Args:
            gradients: by parameter name; names of other optimizers are passed over.
            nan_policy: "zero" replaces non-finite entries by 0; any other leaves the step out.
            fused: whether fused kernels may be used.

        Returns:
            0-d float: 1 if a gradient was not finite, now or when it was screened.
        """
        missing = [group.write(gradients) for group in self.groups]
        now = non_finite(reduce(torch.add, [flat.sum() for flat in self.flat_gradients]))
        bad = torch.maximum(now, self.found_non_finite)
        self.non_finite_steps.add_(bad)
        self.found_non_finite.zero_()
        if nan_policy == "zero":
            for group in self.groups:
                group.gradients.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            skip = torch.zeros_like(bad)
        else:
            skip = bad
        if self.own_step_reason is not None:
            self._own_step(skip, set[ParamRef]().union(*missing))
        else:
            for group, absent in zip(self.groups, missing, strict=True):
                group.step(skip, absent, fused=fused)
        return bad

    def non_finite_refs(self) -> list[ParamRef]:
        """The parameters whose gradient was not finite, in the last step where that happened (copies to the host)."""
        return [
            ref
            for group in self.groups
            for ref, flag in zip(group.refs, group.last_non_finite.cpu().unbind(), strict=True)
            if bool(flag)
        ]

    def _own_step(self, skip: Tensor, missing: set[ParamRef]) -> None:
        if bool(skip):
            return
        views = self.gradient_views
        for ref, parameter in self.refs.items():
            parameter.grad = None if ref in missing else views[ref]
        self.optimizer.step()
        for parameter in self.refs.values():
            parameter.grad = None
