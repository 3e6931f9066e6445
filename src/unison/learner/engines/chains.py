"""The steps of an update in the order in which programs take them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from unison.data.plan import MinibatchPlan
from unison.data.tensors import TensorColumns
from unison.learner.collective import Collective, gather_objects
from unison.learner.engines.program import Matrix, Program
from unison.learner.engines.traced import TracedStep
from unison.learner.engines.watching import Attributes
from unison.learner.engines.windows import Signature, Stretch, Window
from unison.learner.metrics import NUM_MODULE_STEPS_TRAINED, MetricKey, Reduction, StepMetrics
from unison.types import ModuleID, tree_items

_ROWS = NUM_MODULE_STEPS_TRAINED


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

    def is_current(self, attributes: Attributes | None = None) -> bool:
        """Whether it still tells what the step does; `attributes` are the Learner's, which many entries share."""
        if self.traced is None:
            return self.refusal is not None
        return self.traced.guards.violation(attributes) is None and self.traced.bindings.refresh()

    def settle(self) -> None:
        """Take what has been compiled meanwhile."""
        if self.pending is not None and self.pending.done():
            result, self.pending = self.pending.result(), None
            if isinstance(result, str):
                self.traced, self.refusal = None, result
            else:
                self.program = result


def agreed(entry: Entry, collective: Collective) -> Entry:
    """An entry that all ranks have just made: none has a program unless all do, for another engine rounds elsewhere."""
    refusals = gather_objects(collective, entry.refusal)
    return next((Entry(refusal=refusal) for refusal in refusals if refusal is not None), entry)


@dataclass
class Chain:
    """Modules that step together: the windows of one pass, and the entry of each shape (without program: eager)."""

    modules: list[ModuleID]
    windows: list[Window]
    entries: dict[Signature, Entry] = field(default_factory=dict[Signature, Entry])
    _stretches: list[tuple[Entry, Stretch]] | None = None

    def stretches(self, passes: int) -> list[tuple[Entry, Stretch]]:
        """The steps of all passes in order, those that one entry takes in a row joined; `passes` is always the same."""
        if self._stretches is None:
            self._stretches = self._join(passes)
        return self._stretches

    def _join(self, passes: int) -> list[tuple[Entry, Stretch]]:
        joined: list[tuple[Entry, Stretch]] = []
        for number in range(passes):
            for window in self.windows:
                entry = self.entries[window.signature]
                if joined and joined[-1][0] is entry:
                    joined[-1][1].steps.append((number, window))
                else:
                    joined.append((entry, Stretch([(number, window)])))
        return joined

    def first_stretch(self, signature: Signature, passes: int) -> Stretch:
        """The steps that a program for `signature` will take in a row."""
        alike = [window for window in self.windows if window.signature == signature]
        count = passes if len(alike) == len(self.windows) else 1
        return Stretch([(number, window) for number in range(count) for window in alike])


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
    count, exact = len(metrics), metrics.astype(np.float64)
    sums: list[float] = exact.sum(axis=0).tolist()
    for numbers, places in zip(traced.layout.logged, traced.layout.places, strict=True):
        by_rows = {place: _weighted(exact, place) for (_, name), place in places.items() if name == _ROWS}
        step: StepMetrics = {}
        for key, number in numbers.items():
            step[key] = number * count if reductions.get(key) == "sum" else number
        for key, place in places.items():
            reduction, rows = reductions.get(key, "mean"), places.get((key[0], _ROWS))
            if reduction == "mean" and rows is not None:
                step[key] = by_rows[rows][place]
            else:
                step[key] = sums[place] if reduction == "sum" else sums[place] / count
        gathered.append(step)
    return gathered


def _weighted(metrics: Matrix, rows: int) -> list[float]:
    """The mean of each column of [steps, metrics], weighted by the column `rows`; a step without rows says nothing."""
    weights = metrics[:, rows]
    counted = weights > 0
    total = weights.sum()
    return (weights[counted] @ metrics[counted] / (total or 1.0)).tolist()
