"""The rules by which known optimizers move flat buffers: torch.optim's mathematics as functions.

A rule reads and writes the state that the torch.optim class of the same name keeps, so a
checkpoint does not know who stepped. Each rule has two bodies with the same numbers: torch's
fused kernel where there is one, and plain tensor operations that an engine can trace.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

Options = dict[str, Any]
"""A param group of a torch optimizer: its settings by name."""

# What torch.optim itself calls; torch exports them under private names only.
_FUSED_ADAM = torch._fused_adam_  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
_FUSED_ADAMW = torch._fused_adamw_  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]


class UpdateRule(ABC):
    """How one class of optimizer moves parameters. All buffers are flat [N] and changed in place."""

    moments: ClassVar[tuple[str, ...]]
    """The names of the state buffers in torch.optim, in order."""
    unsupported: ClassVar[dict[str, Any]]
    """Settings that the rule can't honour unless they have this value."""

    def refusal(self, options: Options) -> str | None:
        """Why this rule can't serve a param group, or None."""
        for name, plain in self.unsupported.items():
            if options.get(name, plain) != plain:
                return f"{name}={options[name]!r}"
        return None

    @abstractmethod
    def step(
        self,
        options: Options,
        parameters: Tensor,
        gradients: Tensor,
        moments: dict[str, Tensor],
        count: Tensor,
        lr: Tensor,
        skip: Tensor,
        *,
        fused: bool,
    ) -> None:
        """Move `parameters` [N] by one step.

        Args:
            options: the settings of the param group.
            parameters: [N], changed in place.
            gradients: [N]; may be overwritten.
            moments: the state buffers [N], changed in place.
            count: 0-d, the number of this step (from 1).
            lr: 0-d learning rate.
            skip: 0-d float; where 1, nothing changes.
            fused: use torch's fused kernel (not traceable by every engine).
        """


class AdamRule(UpdateRule):
    """Adam (Kingma & Ba 2015, algorithm 1), and AdamW (Loshchilov & Hutter 2019, algorithm 2) when decoupled."""

    moments = ("exp_avg", "exp_avg_sq")
    unsupported: ClassVar = {"amsgrad": False, "maximize": False, "differentiable": False}

    def __init__(self, *, decoupled: bool) -> None:
        self._decoupled = decoupled

    def step(
        self,
        options: Options,
        parameters: Tensor,
        gradients: Tensor,
        moments: dict[str, Tensor],
        count: Tensor,
        lr: Tensor,
        skip: Tensor,
        *,
        fused: bool,
    ) -> None:
        """See UpdateRule.step."""
        beta1, beta2 = options["betas"]
        decay, eps = options["weight_decay"], options["eps"]
        first, second = moments["exp_avg"], moments["exp_avg_sq"]
        decoupled = self._decoupled or options.get("decoupled_weight_decay", False)
        if fused:
            kernel = _FUSED_ADAMW if decoupled else _FUSED_ADAM
            kernel(
                [parameters], [gradients], [first], [second], [], [count],
                lr=lr, beta1=beta1, beta2=beta2, weight_decay=decay, eps=eps,
                amsgrad=False, maximize=False, grad_scale=None, found_inf=skip,
            )  # fmt: skip
            return
        new = parameters
        if decay:
            new = parameters * (1 - lr * decay) if decoupled else parameters
            gradients = gradients if decoupled else gradients + decay * parameters
        new_first = first + (gradients - first) * (1 - beta1)
        new_second = second * beta2 + (1 - beta2) * gradients * gradients
        # The moments are written before they are used: compilers then hold each of them once.
        _keep_where(skip, (first, new_first), (second, new_second))
        size = lr / _bias_correction(count, beta1)
        root = _bias_correction(count, beta2).rsqrt()
        new = new - size * first / (second.sqrt() * root + eps)
        _keep_where(skip, (parameters, new))


def _bias_correction(count: Tensor, beta: float) -> Tensor:
    """1 - beta^count."""
    if not beta:
        return torch.ones_like(count)
    # exp and not a power: a compiler that fuses this into the loop over entries computes it at each of them.
    return 1 - torch.exp(count * math.log(beta))


class SGDRule(UpdateRule):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013), as torch.optim.SGD defines it."""

    moments = ("momentum_buffer",)
    unsupported: ClassVar = {"maximize": False, "differentiable": False, "dampening": 0}

    def step(
        self,
        options: Options,
        parameters: Tensor,
        gradients: Tensor,
        moments: dict[str, Tensor],
        count: Tensor,
        lr: Tensor,
        skip: Tensor,
        *,
        fused: bool,
    ) -> None:
        """See UpdateRule.step."""
        momentum, buffer = options["momentum"], moments["momentum_buffer"]
        direction = gradients + options["weight_decay"] * parameters if options["weight_decay"] else gradients
        new_buffer = momentum * buffer + direction if momentum else buffer
        if momentum:
            direction = direction + momentum * new_buffer if options["nesterov"] else new_buffer
        _keep_where(skip, (parameters, parameters - lr * direction), (buffer, new_buffer))


class RMSpropRule(UpdateRule):
    """RMSprop (Tieleman & Hinton 2012, lecture 6.5), as torch.optim.RMSprop defines it."""

    moments = ("square_avg", "momentum_buffer")
    unsupported: ClassVar = {"maximize": False, "differentiable": False, "centered": False}

    def step(
        self,
        options: Options,
        parameters: Tensor,
        gradients: Tensor,
        moments: dict[str, Tensor],
        count: Tensor,
        lr: Tensor,
        skip: Tensor,
        *,
        fused: bool,
    ) -> None:
        """See UpdateRule.step."""
        alpha, momentum = options["alpha"], options["momentum"]
        square, buffer = moments["square_avg"], moments["momentum_buffer"]
        if options["weight_decay"]:
            gradients = gradients + options["weight_decay"] * parameters
        new_square = square * alpha + (1 - alpha) * gradients * gradients
        direction = gradients / (new_square.sqrt() + options["eps"])
        new_buffer = momentum * buffer + direction if momentum else buffer
        new = parameters - lr * (new_buffer if momentum else direction)
        _keep_where(skip, (parameters, new), (square, new_square), (buffer, new_buffer))


def _keep_where(skip: Tensor, *pairs: tuple[Tensor, Tensor]) -> None:
    """Write each new value over its old one, except where the step is skipped."""
    for old, new in pairs:
        if new is not old:
            old.copy_(torch.where(skip > 0, old, new))


_RULES: dict[type[torch.optim.Optimizer], UpdateRule] = {
    torch.optim.Adam: AdamRule(decoupled=False),
    torch.optim.AdamW: AdamRule(decoupled=True),
    torch.optim.SGD: SGDRule(),
    torch.optim.RMSprop: RMSpropRule(),
}


def rule_for(optimizer: torch.optim.Optimizer) -> tuple[UpdateRule | None, str | None]:
    """The rule that serves `optimizer`, or the reason why none does."""
    rule = _RULES.get(type(optimizer))
    if rule is None:
        return None, f"no update rule for {type(optimizer).__name__}"
    for options in optimizer.param_groups:
        reason = rule.refusal(options)
        if reason:
            return None, f"{type(optimizer).__name__} with {reason}"
    return rule, None
