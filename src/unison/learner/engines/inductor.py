"""Inductor: a step as one program of torch's own compiler, called once per step."""

import os
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unison.learner.engines.cache import cache_directory
from unison.learner.engines.compiled import CompiledEngine
from unison.learner.engines.engine import BeforeChange, no_copies
from unison.learner.engines.feed import Feed
from unison.learner.engines.fingerprint import fingerprint
from unison.learner.engines.kernels.compiler import find_compiler
from unison.learner.engines.nodes import call, converted, device_of, value
from unison.learner.engines.program import Job, Outputs, Program
from unison.learner.engines.side_by_side import side_by_side
from unison.learner.engines.together import Together, stacked
from unison.learner.engines.torch_parts import TRACING, copy_all
from unison.learner.engines.traced import TracedStep

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

Compiled = Callable[[list[Tensor]], Sequence[Tensor]]


class InductorEngine(CompiledEngine):
    """Steps compiled to C++ or Triton; needs a C++ compiler on a CPU."""

    name = "inductor"

    def __init__(self) -> None:
        super().__init__(_decompositions())
        self._functions: dict[str, _Function] = {}
        self._together = Together(lambda feed: feed.count, _run, self.compiling)

    def refusal(self, learner: "TorchLearner") -> str | None:
        """See CompiledEngine.refusal."""
        if learner.device.type == "cpu" and find_compiler() is None:
            return "the engine 'inductor' needs a C++ compiler"
        return None

    def build(self, traced: TracedStep) -> Program:
        """See CompiledEngine.build."""
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory() / "inductor"))
        key = fingerprint(traced)
        if key not in self._functions:
            self._functions[key] = _Function(traced)
        return _InductorProgram(traced, self._functions[key])

    def execute(self, jobs: Sequence[Job], before_change: BeforeChange) -> list[Outputs]:
        """See CompiledEngine.execute. Modules of the same make take each step in one call."""
        return self._together.execute(jobs, before_change)


class _Function:
    """The compiled step of one make: for one module, and for several side by side."""

    def __init__(self, traced: TracedStep) -> None:
        self._traced = traced
        self._compiled: dict[int, Compiled] = {}

    def for_modules(self, count: int) -> Compiled:
        """The function of `count` modules; its tensors have a leading axis for them, unless there is one."""
        if count not in self._compiled:
            self._compiled[count] = _compile(self._traced, count)
        return self._compiled[count]


class _InductorProgram(Program):
    def __init__(self, traced: TracedStep, function: _Function) -> None:
        self.function = function
        self.make = id(function)
        self.gathers = traced.gathers
        self.kept = [not scratch for scratch in traced.scratch]
        self.tolerance = traced.tolerance
        function.for_modules(1)

    def run(self, state: Sequence[Tensor], captured: Sequence[Tensor], feed: Feed) -> Outputs:
        """See Program.run."""
        return _run([Job(self, list(state), list(captured), feed)], 1, no_copies)[0]


def _run(jobs: Sequence[Job], places: int, before_change: BeforeChange) -> list[Outputs]:
    """Take the steps of jobs of one function, each step in one call; copies of the first job fill the other places."""
    before_change({})
    first = jobs[0].program
    assert isinstance(first, _InductorProgram)
    function = first.function.for_modules(places)
    fixed = [stacked(group, places) for group in zip(*([*job.state, *job.captured] for job in jobs), strict=True)]
    fed = [_rows(job, first.gathers) for job in jobs]
    rows = [stacked(group, places, axis=1).unbind() for group in zip(*fed, strict=True)]
    logged: list[Tensor] = []
    left: Sequence[Tensor] = []
    with torch.no_grad():
        for number in range(jobs[0].feed.count):
            metrics, *left = function([*fixed, *(row[number] for row in rows)])
            logged.append(metrics)
        if places > 1:
            for number, (new, kept) in enumerate(zip(fixed, first.kept, strict=False)):
                if kept:
                    copy_all([job.state[number] for job in jobs], list(new[: len(jobs)].unbind()))
    numbers = torch.stack(logged).cpu().numpy()
    if places == 1:
        return [Outputs(numbers, list(left))]
    return [Outputs(numbers[:, m], [tensor[m] for tensor in left]) for m in range(len(jobs))]


def _rows(job: Job, gathers: Sequence[tuple[int, int] | None]) -> list[Tensor]:
    """What each step takes, [steps, ...] each: the leaves of its minibatch, then its random numbers."""
    feed = job.feed
    constant = torch.zeros((), device=job.state[0].device).expand(feed.count)
    gathered: dict[tuple[int, int], Tensor] = {}
    rows: list[Tensor] = []
    for gather, share in zip(gathers, feed.shares, strict=True):
        if gather is None:
            rows.append(constant if share is None else share[: feed.count])
            continue
        if gather not in gathered:
            gathered[gather] = _minibatches(feed.columns[gather[0]], feed.indices[gather[1]][: feed.count])
        rows.append(gathered[gather])
    return [*rows, *(drawn[: feed.count] for drawn in feed.noise)]


def _minibatches(column: Tensor, index: Tensor) -> Tensor:
    """The rows of each step, [steps, rows, ...], gathered at once."""
    rows = column.index_select(0, index.reshape(-1).to(column.device))
    return rows.view(*index.shape, *column.shape[1:])


def _compile(traced: TracedStep, count: int) -> Compiled:
    virtual = _torch_module("torch._inductor.virtualized").V
    options = _torch_module("torch._inductor.config")
    compile_graph = _torch_module("torch._inductor.compile_fx").compile_fx_inner
    with TRACING, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own making
        module, examples, fake_mode = _in_place(traced, count)
        on_cpu = examples[0].device.type == "cpu"
        with virtual.set_fake_mode(fake_mode), options.patch(cpp_wrapper=on_cpu):
            # No backward pass follows: so the compiler may put each operation close to those that read its result.
            return compile_graph(module, examples, cpp_wrapper=on_cpu, is_inference=True)


def _torch_module(name: str) -> Any:
    """A module of torch's compiler: imported late, for it takes a second, and warns of torch's own old parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


def _decompositions() -> dict[Any, Any]:
    return _torch_module("torch._inductor.decomposition").select_decomp_table()


def _in_place(traced: TracedStep, modules: int) -> tuple[torch.fx.GraphModule, list[Any], Any]:
    """The graph with flat inputs and outputs, which writes the new state over the old and stacks the metrics."""
    batched = side_by_side(traced.graph.module, modules, _decompositions())
    source = batched.graph
    graph = torch.fx.Graph()
    values: dict[Any, Any] = {}
    result: Any = graph.graph_copy(source, values)
    places = [values[node] for node in source.nodes if node.op == "placeholder"]
    count, num_metrics = len(traced.graph.state), traced.layout.num_metrics
    new, outputs = list(result[:count]), list(result[count:])
    aten = torch.ops.aten
    lead = [] if modules == 1 else [modules]
    floats = [converted(graph, output, torch.float32) for output in outputs[:num_metrics]]
    logged = [call(graph, aten.reshape.default, output, [*lead, 1]) for output in floats]
    metrics = call(graph, aten.cat.default, logged, -1) if logged else call(graph, aten.full.default, [*lead, 0], 0.0)
    for old, new_value, scratch in zip(places, new, traced.scratch, strict=False):
        if not scratch:
            call(graph, aten.copy_.default, old, new_value)
    graph.output((metrics, *outputs[num_metrics:]))
    module = torch.fx.GraphModule(batched, graph)
    fake_mode = _torch_module("torch._subclasses.fake_tensor").FakeTensorMode()
    inputs = [(value(node), device_of(node)) for node in graph.nodes if node.op == "placeholder"]
    with fake_mode:
        examples = [torch.empty_strided(v.shape, v.stride(), dtype=v.dtype, device=device) for v, device in inputs]
    _torch_module("torch.fx.passes.fake_tensor_prop").FakeTensorProp(module, fake_mode).propagate_dont_convert_inputs(
        *examples
    )
    return module, examples, fake_mode
