"""The steps of an update in the order in which programs take them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from unison.data.plan import MinibatchPlan
from unison.data.tensors import TensorColumns
from unison.learner.engines.program import Matrix, Program
from unison.learner.engines.traced import TracedStep
from unison.learner.engines.windows import Signature, Window
from unison.learner.metrics import NUM_MODULE_STEPS_TRAINED, MetricKey, Reduction, StepMetrics
from unison.types import ModuleID, tree_items

Steps = list[tuple[int, Window]]
"""Steps of an update: the number of the pass, and the window."""


@dataclass
class Entry:
    """A traced and compiled step, or the reason why there is none (yet).

    Args:
        traced: the trace.
        program: what was made of it.
        refusal: why there is no program.
        pending: the program or the refusal to come, while it is being compiled beside the training.
        retraces: how often it was traced anew.
    """

    traced: TracedStep | None = None
    program: Program | None = None
    refusal: str | None = None
    pending: "Future[Program | str] | None" = None
    retraces: int = 0

    def is_current(self, seen: dict[str, Any]) -> bool:
        """Whether it still tells what the step does; `seen` keeps what has been looked at for other entries."""
        if self.traced is None:
            return self.refusal is not None
        return self.traced.guards.violation(seen) is None and self.traced.bindings.refresh()

    def settle(self) -> None:
        """Take what has been compiled meanwhile."""
        if self.pending is not None and self.pending.done():
            result, self.pending = self.pending.result(), None
            if isinstance(result, str):
                self.traced, self.refusal = None, result
            else:
                self.program = result


@dataclass
class Chain:
    """Modules that step together: the windows of one pass, each with its entry (without program: eager)."""

    modules: list[ModuleID]
    windows: list[Window]
    entries: list[Entry] = field(default_factory=list[Entry])

    def stretches(self, passes: int) -> list[tuple[Entry, Steps]]:
        """The steps of all passes in order, those that one entry takes in a row joined."""
        joined: list[tuple[Entry, Steps]] = []
        for number in range(passes):
            for window, entry in zip(self.windows, self.entries, strict=True):
                if joined and joined[-1][0] is entry:
                    joined[-1][1].append((number, window))
                else:
                    joined.append((entry, [(number, window)]))
        return joined

    def first_stretch(self, signature: Signature, passes: int) -> Steps:
        """The steps that a program for `signature` will take in a row."""
        alike = [window for window in self.windows if window.signature == signature]
        count = passes if len(alike) == len(self.windows) else 1
        return [(number, window) for number in range(count) for window in alike]


def shape_key(plan: MinibatchPlan, columns: Mapping[ModuleID, TensorColumns]) -> Any:
    """What an update looks like, apart from its numbers."""
    sizes = tuple((m, plan.rows[m], plan.rows_per_minibatch[m]) for m in columns)
    return sizes, plan.num_iters, plan.accumulation_steps, kinds(columns, list(columns))


def kinds(columns: Mapping[ModuleID, TensorColumns], modules: Sequence[ModuleID]) -> Any:
    """The shapes of rows and the dtypes of the columns."""
    found: list[Any] = []
    for module_id in modules:
        for name, column in columns[module_id].items():
            if isinstance(column, Tensor):
                found.append((module_id, name, column.shape[1:], column.dtype))
            else:
                found += [(module_id, name, path, t.shape[1:], t.dtype) for path, t in tree_items(column)]
    return tuple(found)


def metrics_by_step(traced: TracedStep, metrics: Matrix) -> list[StepMetrics]:
    """What each minibatch of some steps logged; `metrics` is [steps, metrics]."""
    rows: list[list[float]] = metrics.tolist()
    pairs = list(zip(traced.layout.logged, traced.layout.places, strict=True))
    return [
        {**numbers, **{key: row[place] for key, place in places.items()}} for row in rows for numbers, places in pairs
    ]


def gathered_metrics(
    traced: TracedStep, metrics: Matrix, reductions: Mapping[MetricKey, Reduction]
) -> list[StepMetrics]:
    """The metrics of some steps as if they were one: good where no other steps are to be averaged with them."""
    gathered: list[StepMetrics] = []
    steps = len(metrics)
    for numbers, places in zip(traced.layout.logged, traced.layout.places, strict=True):
        step: StepMetrics = {}
        for key in (*numbers, *places):
            values = metrics[:, places[key]] if key in places else np.full(steps, numbers[key], np.float32)
            reduction, rows_key = reductions.get(key, "mean"), (key[0], NUM_MODULE_STEPS_TRAINED)
            if reduction == "sum":
                step[key] = float(values.sum(dtype=np.float64))
            elif reduction == "mean" and rows_key in places:
                rows = metrics[:, places[rows_key]].astype(np.float64)
                total = rows.sum()
                step[key] = float((values * rows).sum() / total) if total else 0.0
            else:
                step[key] = float(values.mean(dtype=np.float64))
        gathered.append(step)
    return gathered
