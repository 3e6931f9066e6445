"""A Learner's step, traced: its graph, the tensors it is fed with, and what it logs."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from unison.data.tensors import TensorColumns
from unison.learner.engines.bindings import Bindings, Guards, is_scratch
from unison.learner.engines.effects import Effects
from unison.learner.engines.graph import FunctionalGraph, GraphMaker
from unison.learner.engines.group_spy import GroupSpy
from unison.learner.engines.rank_sums import TracedCollective, muted
from unison.learner.engines.recording import Recording, Ref, Untraceable, record, storage_of
from unison.learner.engines.torch_parts import TRACING, core
from unison.learner.engines.watching import MACHINERY, Path, Spy
from unison.learner.engines.windows import Leaf, Minibatches, Window, example_minibatches, leaves, window_step
from unison.learner.gradients import GradientExchange
from unison.learner.metrics import MetricKey

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

_HALF = (torch.bfloat16, torch.float16)
_TOLERANCE, _HALF_TOLERANCE = 0.05, 0.5


@dataclass
class Layout:
    """What a program returns besides the state.

    Args:
        logged: for each minibatch of the window, its metrics: a number, or the place of a tensor
            among the outputs.
        left: where in the Learner the other outputs belong.
        num_metrics: outputs before those.
    """

    logged: list[dict[MetricKey, float | int]]
    places: list[dict[MetricKey, int]]
    left: list[Path]
    num_metrics: int


@dataclass
class Example:
    """One step that was really taken, to check a program by.

    Args:
        minibatch: its tensors.
        noise: the random numbers that it drew.
        before: the state's storages.
        captured: the storages that it only read, and the constants.
        after: the same after the step.
        metrics: what it logged, in the order of the outputs.
    """

    minibatch: list[Tensor]
    noise: list[Tensor]
    before: list[Tensor]
    captured: list[Tensor]
    after: list[Tensor]
    metrics: list[Tensor]


@dataclass
class TracedStep:
    """A step as a functional graph, bound to a Learner.

    Args:
        graph: the step.
        leaves: what its minibatch consists of.
        bindings: which tensors its state is.
        guards: what must not change.
        layout: what it returns.
        example: one step to check programs by.
        scratch: positions in the state that need not be returned.
    """

    graph: FunctionalGraph
    leaves: list[Leaf]
    bindings: Bindings
    guards: Guards
    layout: Layout
    example: Example
    scratch: list[bool]

    def state(self) -> list[Tensor]:
        """The storages that the step changes."""
        return [self.bindings.storages[s] for s in self.graph.state]

    def captured(self) -> list[Tensor]:
        """The storages that it only reads, and the constants."""
        return [*(self.bindings.storages[s] for s in self.graph.captured), self.graph.constants]

    @cached_property
    def tolerance(self) -> float:
        """How far another way to compute the step may be off, in lengths of the step: by its least precise numbers."""
        values = (node.meta.get("val") for node in self.graph.module.graph.nodes)
        is_half = any(isinstance(value, Tensor) and value.dtype in _HALF for value in values)
        return _HALF_TOLERANCE if is_half else _TOLERANCE

    @cached_property
    def gathers(self) -> list[tuple[int, int] | None]:
        """For each leaf that is rows and is read, the number of its column and that of its index."""
        columns: dict[tuple[str, str, str], int] = {}
        indices: dict[tuple[str, int], int] = {}
        found: list[tuple[int, int] | None] = []
        for leaf, used in zip(self.leaves, self.graph.used, strict=True):
            if not used or leaf.is_share:
                found.append(None)
                continue
            column = columns.setdefault((leaf.module_id, leaf.column, leaf.path), len(columns))
            found.append((column, indices.setdefault((leaf.module_id, leaf.slot), len(indices))))
        return found


def trace_step(
    learner: "TorchLearner",
    columns: Mapping[str, TensorColumns],
    window: Window,
    *,
    shared: bool,
    maker: GraphMaker | None = None,
) -> TracedStep:
    """Trace the step that `window` stands for.

    Args:
        learner: nothing of it changes.
        columns: the batch; its first rows serve as the example.
        window: which modules and how many rows.
        shared: whether minibatches carry a loss share.
        maker: makes the graph; keep it, and steps of the same structure share one.

    Raises:
        Untraceable: with the reason and the line that causes it.
    """
    with TRACING, muted(learner.collective):
        return _trace(learner, columns, window, shared=shared, maker=maker or GraphMaker())


def _trace(
    learner: "TorchLearner",
    columns: Mapping[str, TensorColumns],
    window: Window,
    *,
    shared: bool,
    maker: GraphMaker,
) -> TracedStep:
    recorder = _StepRecorder(learner, columns, window, shared=shared)
    first = recorder.run(warm_up=True)
    recording, spy, settings, left = recorder.run()
    differing = recording.difference(first[0])
    if differing is not None:
        raise Untraceable(f"{differing} does something else each time it runs (a Python number that changes?)")
    layout, outputs = _layout(recording, left)
    graph = maker.make(recording, outputs)
    slots = learner.optimizers.active(window.modules)
    bindings = Bindings(learner, slots, [tensor for _, tensor in recording.externals], graph.views)
    keys = {number: storage_of(storage) for number, storage in enumerate(bindings.storages)}
    example = Example(
        minibatch=[tensor for _, tensor in recording.inputs],
        noise=recording.drawn,
        before=[recording.before[keys[s]] for s in graph.state],
        captured=[*(bindings.storages[s].clone() for s in graph.captured), graph.constants],
        after=[recording.after[keys[s]] for s in graph.state],
        metrics=[recording.values[ref.index].detach() for ref in outputs[: layout.num_metrics]],
    )
    unread = [not node.users for node in graph.inputs()[0]]
    scratch = [free and is_scratch(learner, bindings.storages[s]) for free, s in zip(unread, graph.state, strict=True)]
    inputs = [leaf for leaf, _ in leaves(example_minibatches(columns, window, shared))]
    guards = Guards(learner, window.modules, spy, settings.read)
    changed = guards.violation()
    if changed is not None:
        raise Untraceable(f"{changed} changes in every step")
    return TracedStep(graph, inputs, bindings, guards, layout, example, scratch)


class _StepRecorder:
    def __init__(
        self,
        learner: "TorchLearner",
        columns: Mapping[str, TensorColumns],
        window: Window,
        *,
        shared: bool,
    ) -> None:
        self._learner = learner
        self._columns = columns
        self._window = window
        self._shared = shared

    def run(self, *, warm_up: bool = False) -> tuple[Recording, Spy, GroupSpy, dict[Path, Ref]]:
        """Take the step and undo it; a warm-up lets objects fill their caches."""
        learner = self._learner
        minibatches = self._minibatches()
        step = window_step(learner, self._window)
        context, fused, exchange = learner.step, learner.engine.fused, learner.exchange
        effects = Effects(learner, MACHINERY)
        spy, settings = Spy(learner, MACHINERY), GroupSpy(learner.optimizers.slots.values())

        def observed() -> Any:
            with spy, settings, _taken_apart():
                result = step(minibatches)
            effects.compare()
            return result

        try:
            learner.engine.fused = False
            learner.exchange = GradientExchange(TracedCollective(learner.collective))
            recording = record(observed, [tensor for _, tensor in leaves(minibatches)])
            left = effects.settle(recording, spy, strict=not warm_up)
        finally:
            effects.undo(keep_caches=warm_up)
            learner.engine.fused = fused
            learner.step = context
            learner.metrics.collect()
            learner.exchange = exchange
        # Hooks may write into a minibatch; the example has to show what it was.
        fresh = [tensor for _, tensor in leaves(self._minibatches())]
        recording.inputs = [(ref, tensor) for (ref, _), tensor in zip(recording.inputs, fresh, strict=True)]
        return recording, spy, settings, left

    def _minibatches(self) -> Minibatches:
        return example_minibatches(self._columns, self._window, self._shared)


@contextmanager
def _taken_apart() -> Generator[None]:
    """Recurrent layers and attention as the operations they consist of: what draws among them draws for itself."""
    enabled: bool = core._get_mkldnn_enabled()
    core._set_mkldnn_enabled(False)  # torch's own context manager sets more, and warns of it
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        core._set_mkldnn_enabled(enabled)


def _layout(recording: Recording, left: Mapping[Path, Ref]) -> tuple[Layout, list[Ref]]:
    logged: list[dict[MetricKey, float | int]] = []
    places: list[dict[MetricKey, int]] = []
    outputs: list[Ref] = []
    for step in recording.result:
        numbers: dict[MetricKey, float | int] = {}
        tensors: dict[MetricKey, int] = {}
        for key, value in step.items():
            if isinstance(value, Ref):
                if recording.values[value.index].numel() != 1:
                    raise Untraceable(f"the metric {key} is a tensor of more than one number")
                tensors[key] = len(outputs)
                outputs.append(value)
            else:
                numbers[key] = value
        logged.append(numbers)
        places.append(tensors)
    count = len(outputs)
    return Layout(logged, places, list(left), count), [*outputs, *left.values()]
