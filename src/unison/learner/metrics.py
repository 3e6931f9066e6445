"""Metrics of an update: tensors while it runs, plain floats once it is over."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor

from unison.types import ModuleID

MetricKey: TypeAlias = tuple[ModuleID, str]
Reduction: TypeAlias = Literal["mean", "sum"]
StepMetrics: TypeAlias = dict[MetricKey, Tensor | float]
"""What one minibatch logged: 0-d tensors or numbers."""

NUM_MODULE_STEPS_TRAINED = "num_module_steps_trained"


class Metrics:
    """Collects what the hooks log inside a step, without copying anything to the host.

    The results of an update hold, for each metric, the mean over the rows of the last pass: each
    row counts once. A metric logged with `reduce="sum"` is summed over all passes instead.
    """

    def __init__(self) -> None:
        self._step: StepMetrics = {}
        self.reductions: dict[MetricKey, Reduction] = {}

    def log_value(self, key: MetricKey, value: Tensor | float, *, reduce: Reduction = "mean") -> None:
        """Log one 0-d tensor (or number) for a module in this step; the last one logged counts."""
        self._step[key] = value.detach() if isinstance(value, Tensor) else value
        self.reductions[key] = reduce

    def log_dict(self, values: Mapping[str, Tensor | float], *, key: ModuleID, reduce: Reduction = "mean") -> None:
        """Log several values for the module `key`."""
        for name, value in values.items():
            self.log_value((key, name), value, reduce=reduce)

    def collect(self) -> StepMetrics:
        """Hand over what this step logged, and start afresh."""
        step, self._step = self._step, {}
        return step


def reduce_steps(
    steps: Sequence[StepMetrics], reductions: Mapping[MetricKey, Reduction], num_iters: int
) -> dict[ModuleID, dict[str, float]]:
    """The results of an update from the steps of its last pass, with one copy to the host.

    Args:
        steps: what each minibatch of the last pass logged.
        reductions: how each metric is reduced.
        num_iters: passes over the rows; sums count each of them.
    """
    host = _to_host(steps)
    results: dict[ModuleID, dict[str, float]] = {}
    weights: dict[MetricKey, float] = {}
    for step in host:
        for key, value in step.items():
            module_id, name = key
            module = results.setdefault(module_id, {})
            if reductions.get(key, "mean") == "sum":
                module[name] = module.get(name, 0.0) + value * num_iters
            else:
                rows = step.get((module_id, NUM_MODULE_STEPS_TRAINED), 1.0)
                weights[key] = weights.get(key, 0.0) + rows
                module[name] = module.get(name, 0.0) + value * rows
    for (module_id, name), weight in weights.items():
        results[module_id][name] = results[module_id][name] / weight if weight else 0.0
    return results


def _to_host(steps: Sequence[StepMetrics]) -> list[dict[MetricKey, float]]:
    tensors = [value for step in steps for value in step.values() if isinstance(value, Tensor)]
    by_dtype = [t if t.dtype is torch.float32 else t.to(torch.float32) for t in tensors]
    stacked = torch.stack(by_dtype) if by_dtype else torch.empty(0)
    numbers = iter(cast("list[float]", stacked.tolist()))  # pyright: ignore[reportUnknownMemberType]  # untyped
    return [
        {key: next(numbers) if isinstance(value, Tensor) else float(value) for key, value in step.items()}
        for step in steps
    ]
