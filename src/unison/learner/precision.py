"""Mixed precision: autocast for the forward pass and the loss, and dynamic loss scaling for fp16.

Source: Micikevicius et al. 2018, "Mixed Precision Training", sections 3.2 and 3.3. Parameters,
gradients and optimizer state stay in float32.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """The setting `precision` on one device.

    Args:
        name: "float32", "bf16" or "fp16".
        device: where the forward pass runs.
        initial_scale: the first loss scale of fp16.
        growth_interval: finite steps after which the scale doubles.
    """

    def __init__(
        self, name: str, device: torch.device, *, initial_scale: float = 2.0**16, growth_interval: int = 2000
    ) -> None:
        self._dtype = _DTYPES.get(name)
        self._device = device
        self._growth_interval = growth_interval
        self.scaled = name == "fp16"
        self.state = {
            "scale": torch.tensor(initial_scale if self.scaled else 1.0, device=device),
            "finite_steps": torch.zeros((), device=device),
        }

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of the forward pass and the loss."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to differentiate, large enough for small gradients to survive in fp16."""
        return loss * self.state["scale"] if self.scaled else loss

    def unscale(self, gradients: Tensor) -> Tensor:
        """The gradients of the loss itself; overflow shows as infinity or NaN."""
        if not self.scaled:
            return gradients
        return gradients / self.state["scale"]

    def update(self, non_finite: Tensor) -> None:
        """After a step: halve the scale on overflow (`non_finite` is 1), double it after enough finite steps."""
        if not self.scaled:
            return
        overflow = non_finite > 0
        steps = torch.where(overflow, 0.0, self.state["finite_steps"] + 1)
        grow = steps >= self._growth_interval
        factor = torch.where(overflow, 0.5, torch.where(grow, 2.0, 1.0))
        self.state["scale"].mul_(factor)
        self.state["finite_steps"].copy_(torch.where(grow, 0.0, steps))
