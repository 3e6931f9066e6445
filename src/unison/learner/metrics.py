"""Metrics of an update: tensors while it runs, plain floats once it is over."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from numbers import Real
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import numpy as np
import torch
from torch import Tensor

from unison.errors import ModuleError
from unison.learner.collective import Collective, gather_objects
from unison.suggest import did_you_mean
from unison.types import ModuleID

MetricKey: TypeAlias = tuple[ModuleID, str]
Reduction: TypeAlias = Literal["mean", "step_mean", "sum"]
_REDUCTIONS: Final = get_args(Reduction)
StepMetrics: TypeAlias = dict[MetricKey, Tensor | float]
"""What one minibatch logged: 0-d tensors or numbers."""

Sums: TypeAlias = dict[MetricKey, tuple[float, float]]
"""For each metric the weighted sum, and the sum of the weights."""

Kinds: TypeAlias = dict[MetricKey, Reduction]

NUM_MODULE_STEPS_TRAINED = "num_module_steps_trained"
_PLACES = 512  # for metrics in the table that the ranks add up


class Metrics:
    """Collects what the hooks log inside a step, without copying anything to the host.

    The results of an update hold, for each metric, the mean over the rows of the last pass: each
    row counts once. A metric logged with `reduce="step_mean"` belongs to an optimizer step rather than
    to rows (a gradient's norm), and one with `reduce="sum"` is summed over the last pass, times the number of passes.
    """

    def __init__(self) -> None:
        self._step: StepMetrics = {}
        self.reductions: dict[MetricKey, Reduction] = {}

    def log_value(self, key: MetricKey, value: Tensor | float, *, reduce: Reduction = "mean") -> None:
        """Log one number, or a tensor of one, for a module in this step; the last one logged counts.

        Args:
            key: `(module_id, name)`.
            value: a number, or a tensor or array with one entry.
            reduce: how the results of an update are made of the steps'; see the class.

        Raises:
            ModuleError: the key is no pair of strings, the value no number, or `reduce` unknown; names the metric.
        """
        _check_key(key)
        if reduce not in _REDUCTIONS:
            hint = did_you_mean(str(reduce), _REDUCTIONS)
            raise ModuleError(f"Module '{key[0]}': the metric '{key[1]}' has reduce={reduce!r}. {hint}")
        self._step[key] = _one_number(key, value)
        self.reductions[key] = reduce

    def log_dict(self, values: Mapping[str, Tensor | float], *, key: ModuleID, reduce: Reduction = "mean") -> None:
        """Log several values for the module `key`."""
        for name, value in values.items():
            self.log_value((key, name), value, reduce=reduce)

    def forget_module(self, module_id: ModuleID) -> None:
        """Leave a module out from now on."""
        self.reductions = {key: kind for key, kind in self.reductions.items() if key[0] != module_id}

    def collect(self) -> StepMetrics:
        """Hand over what this step logged, and start afresh."""
        step, self._step = self._step, {}
        return step


def _check_key(key: Any) -> None:
    if not isinstance(key, tuple) or [isinstance(part, str) for part in cast("tuple[Any, ...]", key)] != [True, True]:
        raise ModuleError(f"A metric is logged under {key!r}, which is no pair of strings; give (module_id, name).")


def _one_number(key: MetricKey, value: Any) -> Tensor | float:
    """`value` as a 0-d tensor or a number; looks at types and shapes alone, so that steps can be traced."""
    if isinstance(value, Tensor):
        if value.numel() == 1 and not value.is_complex():
            return value.detach().reshape(()) if value.ndim else value.detach()
    elif isinstance(value, Real):
        return float(value)
    elif isinstance(value, np.ndarray | np.generic):
        array = cast("np.ndarray[Any, Any]", value)
        if array.size == 1 and array.dtype.kind in "biuf":
            return float(array.item())
    where = f"Module '{key[0]}': the metric '{key[1]}'"
    shape: tuple[int, ...] = tuple(getattr(cast("Any", value), "shape", ()))
    if math.prod(shape) != 1:
        raise ModuleError(f"{where} has shape {shape}; log its mean, or another single number.")
    kind = value.dtype if isinstance(value, Tensor) else type(cast("Any", value)).__name__
    raise ModuleError(f"{where} is a {kind}; log a number, or a tensor with one entry.")


def reduce_steps(
    steps: Sequence[StepMetrics],
    around: StepMetrics,
    reductions: Mapping[MetricKey, Reduction],
    num_iters: int,
    collective: Collective,
) -> dict[ModuleID, dict[str, float]]:
    """The results of an update from the steps of its last pass, with one copy to the host; alike on all ranks.

    Args:
        steps: what each minibatch of the last pass logged on this rank.
        around: values that are the same on every rank, reported as they are.
        reductions: how each metric is reduced.
        num_iters: passes over the rows; sums count each of them.
        collective: the ranks that the rows were shared among.
    """
    *host, same = _to_host([*steps, around])
    sums: Sums = {}
    for step in host:
        for key, value in step.items():
            weight = 1.0
            if reductions.get(key, "mean") == "mean":
                weight = step.get((key[0], NUM_MODULE_STEPS_TRAINED), 1.0)
            total, weights = sums.get(key, (0.0, 0.0))
            # A minibatch without valid rows says nothing, not even NaN.
            sums[key] = (total + value * weight if weight else total, weights + weight)
    results: dict[ModuleID, dict[str, float]] = {}
    merged, kinds = (sums, reductions) if collective.world_size == 1 else _over_ranks(sums, reductions, collective)
    for key, (total, weight) in merged.items():
        is_sum = kinds.get(key) == "sum"
        results.setdefault(key[0], {})[key[1]] = total * num_iters if is_sum else total / weight if weight else 0.0
    for (module_id, name), value in same.items():
        results.setdefault(module_id, {})[name] = value
    return results


def _over_ranks(sums: Sums, reductions: Mapping[MetricKey, Reduction], collective: Collective) -> tuple[Sums, Kinds]:
    """Add up the sums and weights of all ranks.

    Returns the reductions too: a rank without rows of a module has logged nothing of it.
    """
    kinds: Kinds = {key: reductions.get(key, "mean") for key in sums}
    added = _added_up(sums, kinds, collective)
    if added is not None:
        return added, kinds
    merged: Sums = {}
    kinds.clear()
    for part in gather_objects(collective, [[*key, *pair, reductions.get(key, "mean")] for key, pair in sums.items()]):
        for module_id, name, total, weight, reduction in part:
            key = (module_id, name)
            before = merged.get(key, (0.0, 0.0))
            merged[key], kinds[key] = (before[0] + total, before[1] + weight), reduction
    return merged, kinds


def _added_up(sums: Sums, kinds: Kinds, collective: Collective) -> Sums | None:
    """The sums of all ranks in one exchange of numbers, as long as all logged the same metrics; else None on each."""
    ranks = collective.world_size
    table = np.zeros(ranks + 2 * _PLACES)
    digests, places = table[:ranks], table[ranks : ranks + 2 * len(sums)]
    if len(sums) <= _PLACES:  # else its digest stays 0, as no other is
        digests[collective.rank] = _digest(tuple(kinds.items()))
        places[:] = [number for pair in sums.values() for number in pair]
    collective.all_reduce_(torch.from_numpy(table))  # pyright: ignore[reportUnknownMemberType]  # untyped
    if not digests[0] or (digests != digests[0]).any():
        return None
    added: list[float] = places.tolist()
    return dict(zip(sums, zip(added[::2], added[1::2], strict=True), strict=True))


@lru_cache(maxsize=64)
def _digest(kinds: tuple[tuple[MetricKey, Reduction], ...]) -> float:
    """A number from 1 on that stands for these metrics in this order, alike in every process."""
    return 1.0 + int.from_bytes(blake2b(repr(kinds).encode(), digest_size=6).digest())


def _to_host(steps: Sequence[StepMetrics]) -> list[dict[MetricKey, float]]:
    tensors = [value for step in steps for value in step.values() if isinstance(value, Tensor)]
    by_dtype = [t if t.dtype is torch.float32 else t.to(torch.float32) for t in tensors]
    stacked = torch.stack(by_dtype) if by_dtype else torch.empty(0)
    numbers = iter(cast("list[float]", stacked.tolist()))  # pyright: ignore[reportUnknownMemberType]  # untyped
    return [
        {key: next(numbers) if isinstance(value, Tensor) else float(value) for key, value in step.items()}
        for step in steps
    ]
