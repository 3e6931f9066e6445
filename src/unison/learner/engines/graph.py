"""From a recording to one functional graph: tensors in, tensors out, nothing written in place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unison.learner.engines.constants import lift_constants
from unison.learner.engines.functional import functional_graph
from unison.learner.engines.recording import Call, Recording, Ref, Untraceable, storage_of, whole_storage
from unison.learner.engines.simplify import simplify
from unison.learner.engines.torch_parts import pytree

aten: Any = torch.ops.aten


@dataclass(frozen=True)
class View:
    """A tensor as a piece of a storage: which one (by number), and where in it."""

    storage: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype


@dataclass
class FunctionalGraph:
    """A step without side effects.

    Args:
        module: called with the tensors of state, captured, constants, minibatch and noise one after another; returns
            the new state and the outputs in one list.
        views: the external tensors as pieces of the storages.
        state: the storages (by number) that the step changes, in the order of the graph's inputs.
        captured: those that it only reads.
        used: for each tensor of the minibatch, whether the step reads it.
        draws: the calls that draw random numbers, in order.
        constants: [K] float64, the numbers among its arguments.
    """

    module: torch.fx.GraphModule
    views: list[View]
    state: list[int]
    captured: list[int]
    used: list[bool]
    draws: list[Call]
    constants: Tensor

    def inputs(self) -> list[list[torch.fx.Node]]:
        """The graph's input nodes: state, captured, constants, minibatch, noise."""
        nodes = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        sizes = [len(self.state), len(self.captured), 1, len(self.used), len(self.draws)]
        parts: list[list[torch.fx.Node]] = []
        for size in sizes:
            parts.append(nodes[:size])
            nodes = nodes[size:]
        return parts


def external_views(tensors: Sequence[Tensor]) -> tuple[list[View], list[Tensor]]:
    """Tensors as pieces of the storages they share, and these storages, numbered in order of appearance.

    Raises:
        Untraceable: one storage is read as two dtypes.
    """
    numbers: dict[int, int] = {}
    storages: list[Tensor] = []
    views: list[View] = []
    for tensor in tensors:
        key = storage_of(tensor)
        if key not in numbers:
            numbers[key] = len(storages)
            storages.append(whole_storage(tensor.detach()))
        if storages[numbers[key]].dtype is not tensor.dtype:
            raise Untraceable(f"one piece of memory is used as {tensor.dtype} and {storages[numbers[key]].dtype}")
        shape, stride = tuple(tensor.shape), tuple(tensor.stride())
        views.append(View(numbers[key], shape, stride, int(tensor.storage_offset()), tensor.dtype))
    return views, storages


class GraphMaker:
    """Makes graphs of recordings; recordings of the same structure share one.

    Args:
        decompositions: rules that replace operations by simpler ones.
    """

    def __init__(self, decompositions: Mapping[Any, Any] | None = None) -> None:
        self._decompositions = dict(decompositions or {})
        self._made: list[tuple[Any, FunctionalGraph]] = []

    def make(self, recording: Recording, outputs: Sequence[Ref]) -> FunctionalGraph:
        """The graph of a recording, which returns `outputs` besides the new state."""
        tensors = [tensor for _, tensor in recording.externals]
        views, storages = external_views(tensors)
        changed = {v.storage for v, t in zip(views, tensors, strict=True) if storage_of(t) in recording.before}
        calls = [(call.operator, call.args, call.kwargs, call.outputs) for call in recording.calls]
        shapes = [(t.shape, t.dtype) for t in (*storages, *(tensor for _, tensor in recording.inputs))]
        structure = calls, [ref for ref, _ in recording.externals], views, changed, shapes, list(outputs)
        for known, graph in self._made:
            if known == structure:
                return graph
        graph = _functional_graph(recording, outputs, views, storages, changed, self._decompositions)
        self._made.append((structure, graph))
        return graph


def _functional_graph(
    recording: Recording,
    outputs: Sequence[Ref],
    views: list[View],
    storages: list[Tensor],
    changed: set[int],
    decompositions: Mapping[Any, Any],
) -> FunctionalGraph:
    state = [s for s in range(len(storages)) if s in changed]
    captured = [s for s in range(len(storages)) if s not in changed]
    draws = [call for call in recording.calls if call.draws]
    for call in draws:
        _check_draw(call)
    replay = _Replay(recording, views, state, captured, outputs)
    examples = [
        *(storages[s] for s in (*state, *captured)),
        *(tensor for _, tensor in recording.inputs),
        *(recording.values[_first(call).index] for call in draws),
    ]
    module = functional_graph(replay, examples, decompositions)
    simplify(module.graph)
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    first = len(state) + len(captured)
    used = [bool(node.users) for node in inputs[first : first + len(recording.inputs)]]
    after: Any = [*inputs[first:], *(node for node in module.graph.nodes if node.op != "placeholder")]
    constants = lift_constants(module.graph, after[0], recording.inputs[0][1].device)
    module.recompile()
    return FunctionalGraph(module, views, state, captured, used, draws, constants)


class _Replay:
    """Runs the calls of a recording again, on other tensors."""

    def __init__(
        self, recording: Recording, views: list[View], state: list[int], captured: list[int], outputs: Sequence[Ref]
    ) -> None:
        self._recording = recording
        self._views = views
        self._state = state
        self._captured = captured
        self._outputs = outputs

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        """State, captured, minibatch and noise in; new state and outputs out."""
        given = iter(tensors)
        memory = {s: next(given).clone() for s in self._state} | {s: next(given) for s in self._captured}
        values = {ref.index: next(given).clone() for ref, _ in self._recording.inputs}
        for (ref, _), view in zip(self._recording.externals, self._views, strict=True):
            values[ref.index] = _piece(memory[view.storage], view)

        def load(argument: Any) -> Any:
            return values[argument.index] if isinstance(argument, Ref) else argument

        for call in self._recording.calls:
            args, kwargs = pytree.tree_map(load, (call.args, call.kwargs))
            if call.draws:
                if call.mutates:
                    args[0].copy_(next(given))
                    values.setdefault(_first(call).index, args[0])
                else:
                    values[_first(call).index] = next(given).clone()
                continue
            # Here a convolution may lay out its result in another way, so that its entries have to be copied.
            operator = aten.reshape.default if call.operator is aten.view.default else call.operator
            result: Any = operator(*args, **kwargs)
            made: list[Any] = list(result) if isinstance(result, tuple | list) else [result]  # pyright: ignore[reportUnknownArgumentType]
            for ref, output in zip(call.outputs, made, strict=True):
                if ref is not None:
                    values.setdefault(ref.index, output)
        return [*(memory[s] for s in self._state), *(values[ref.index] for ref in self._outputs)]


def _piece(memory: Tensor, view: View) -> Tensor:
    size = 1
    for length in view.shape:
        size *= length
    stride, contiguous = 1, True
    for length, step in zip(reversed(view.shape), reversed(view.stride), strict=True):
        contiguous = contiguous and (length == 1 or step == stride)
        stride *= length
    if not contiguous or size == 0:
        return memory.as_strided(view.shape, view.stride, view.offset)
    part = memory if size == memory.numel() else memory.narrow(0, view.offset, size)
    return part.view(view.shape)


def _first(call: Call) -> Ref:
    ref = call.outputs[0]
    assert ref is not None
    return ref


def _check_draw(call: Call) -> None:
    """Random numbers are drawn outside the program, so what they look like may depend on shapes alone."""
    name = str(call.operator)
    known = (
        "aten.rand.", "aten.randn.", "aten.rand_like.", "aten.randn_like.", "aten.randint.", "aten.randint_like.",
        "aten.randperm.", "aten.normal_.", "aten.uniform_.", "aten.exponential_.", "aten.random_.",
        "aten.bernoulli_.float", "aten.geometric_.", "aten.log_normal_.", "aten.cauchy_.",
    )  # fmt: skip
    if not name.startswith(known) or len(call.outputs) != 1:
        raise Untraceable(f"{call.place} draws random numbers by {name}, which depends on values of the step")
