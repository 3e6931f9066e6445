"""From losses to the gradients that a step applies: differentiate, gather, clip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Protocol

import torch
from torch import Tensor

from unison.errors import ModuleError
from unison.learner.collective import Collective
from unison.learner.optimizer_slot import OptimizerSlot
from unison.learner.precision import Precision
from unison.learner.step import LOSS_SHARE
from unison.types import ModuleID, ParamRef

Gradients = dict[ParamRef, Tensor]
# torch says nothing about this function's type.
_norm: Callable[[Tensor], Tensor] = torch.linalg.vector_norm  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]


class ClipFunction(Protocol):
    """A way to clip gradients, such as `clip_gradients`."""

    def __call__(self, gradients: Sequence[Tensor], *, grad_clip: float | None, grad_clip_by: str) -> Tensor:
        """Clip in place; return the global norm before it (0-d)."""
        ...


def clip_gradients(gradients: Sequence[Tensor], *, grad_clip: float | None, grad_clip_by: str) -> Tensor:
    """Clip in place (Pascanu et al. 2013, algorithm 1, for the norms).

    Args:
        gradients: tensors of any shapes.
        grad_clip: the bound; None clips nothing.
        grad_clip_by: "value" bounds each entry, "norm" the norm of each tensor, "global_norm" that
            of all tensors together.

    Returns:
        The global norm before clipping, 0-d.
    """
    norm = _norm(gradients[0]) if len(gradients) == 1 else _norm(torch.stack([_norm(g) for g in gradients]))
    if grad_clip is None:
        return norm
    if grad_clip_by == "value":
        for gradient in gradients:
            gradient.clamp_(-grad_clip, grad_clip)
    elif grad_clip_by == "norm":
        for gradient in gradients:
            gradient.mul_(_factor(_norm(gradient), grad_clip))
    else:
        factor = _factor(norm, grad_clip)
        for gradient in gradients:
            gradient.mul_(factor)
    return norm


def weigh(module_id: ModuleID, loss: Any, columns: Mapping[str, Any]) -> None:
    """Let gradients through the loss of a module count as much as its minibatch's rows do in their optimizer step.

    The value stays as it is. By a hook, so that the total may be any function of the losses.

    Raises:
        ModuleError: no gradient can go through it, and whatever the total has in its place would weigh too much.
    """
    if LOSS_SHARE not in columns:
        return
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise ModuleError(
            f"Module '{module_id}': compute_loss returned its loss detached, or as a plain number, so it can't be "
            "given the weight of its rows, as several Learners and gradient accumulation need. Return the loss "
            "itself, the one that the total is made of."
        )
    share: Tensor = columns[LOSS_SHARE].to(loss.dtype)
    loss.register_hook(share.mul)  # pyright: ignore[reportUnknownMemberType]  # untyped


def differentiate(loss: Tensor, slots: Sequence[OptimizerSlot], precision: Precision) -> Gradients:
    """The gradient of `loss` for each parameter of `slots`, as views of their flat buffers.

    A parameter that the loss does not reach has gradient 0, one that is frozen (`requires_grad_(False)`) has none.
    """
    groups = [group for slot in slots for group in slot.groups]
    params = [p for group in groups for p in group.refs.values() if p.requires_grad]
    if loss.requires_grad and params:
        found: Iterator[Tensor | None] = iter(torch.autograd.grad(precision.scale(loss), params, allow_unused=True))
    else:
        found = repeat(None)
    for group in groups:
        parts = [(p, next(found) if p.requires_grad else None) for p in group.refs.values()]
        flat = [torch.zeros_like(p).reshape(-1) if g is None else g.reshape(-1) for p, g in parts]
        group.gradients.copy_(precision.unscale(torch.cat(flat)))
    return {ref: view for slot in slots for ref, view in slot.training_views.items()}


class GradientExchange:
    """Sums gradients over the minibatches of one optimizer step, and over the ranks.

    Each loss is weighted by its share of the rows, so the sum is the gradient of the mean over all
    rows, however they are cut.
    """

    def __init__(self, collective: Collective) -> None:
        self._collective = collective
        self._sums: dict[int, Tensor] = {}

    def add(self, gradients: Gradients, slots: Sequence[OptimizerSlot]) -> None:
        """Set the gradients of one minibatch aside; the step comes later."""
        for flat in self._flats(gradients, slots):
            kept = self._sums.get(id(flat))
            self._sums[id(flat)] = flat.clone() if kept is None else kept.add_(flat)

    def total(self, gradients: Gradients, slots: Sequence[OptimizerSlot]) -> Gradients:
        """The sum over what was set aside, `gradients`, and all ranks."""
        if not self._sums and self._collective.world_size == 1:
            return gradients
        flats = self._flats(gradients, slots)
        for flat in flats:
            kept = self._sums.pop(id(flat), None)
            if kept is not None:
                flat.add_(kept)
        if self._collective.world_size > 1:
            self._sum_over_ranks(flats)
        return {ref: view for slot in slots for ref, view in slot.training_views.items()}

    def clear(self) -> None:
        """Forget what was set aside (an update failed)."""
        self._sums.clear()

    def _sum_over_ranks(self, flats: list[Tensor]) -> None:
        """One sum for all of them."""
        if len(flats) == 1:
            self._collective.all_reduce_(flats[0])
            return
        joined = self._collective.all_reduce_(torch.cat(flats))
        for flat, part in zip(flats, joined.split_with_sizes([f.numel() for f in flats]), strict=True):
            flat.copy_(part)

    def _flats(self, gradients: Gradients, slots: Sequence[OptimizerSlot]) -> list[Tensor]:
        for slot in slots:
            for group in slot.groups:
                group.write(gradients)
        return [flat for slot in slots for flat in slot.flat_gradients]


def _factor(norm: Tensor, bound: float) -> Tensor:
    return (bound / (norm + 1e-6)).clamp(max=1.0)
