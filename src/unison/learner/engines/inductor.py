"""Inductor: a step as one program of torch's own compiler, called once per step."""

import os
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from shutil import which
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unison.learner.engines.cache import cache_directory
from unison.learner.engines.compiled import CompiledEngine
from unison.learner.engines.feed import Feed
from unison.learner.engines.fingerprint import fingerprint
from unison.learner.engines.program import Outputs, Program
from unison.learner.engines.torch_parts import TRACING, map_arg
from unison.learner.engines.traced import TracedStep

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner

Function = Callable[[list[Tensor]], Sequence[Tensor]]


class InductorEngine(CompiledEngine):
    """Steps compiled to C++ or Triton; needs a C++ compiler on a CPU."""

    name = "inductor"

    def __init__(self) -> None:
        super().__init__(_torch_module("torch._inductor.decomposition").select_decomp_table())
        self._functions: dict[str, Function] = {}

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
            self._functions[key] = _compile(traced)
        return _InductorProgram(traced, self._functions[key])


class _InductorProgram(Program):
    def __init__(self, traced: TracedStep, function: Function) -> None:
        self._function = function
        self._gathers = traced.gathers()

    def run(self, state: Sequence[Tensor], captured: Sequence[Tensor], feed: Feed) -> Outputs:
        """See Program.run."""
        fixed = [*state, *captured]
        constant = torch.zeros((), device=fixed[0].device)
        rows: list[Sequence[Tensor]] = []
        gathered: dict[tuple[int, int], Sequence[Tensor]] = {}
        for gather, share in zip(self._gathers, feed.shares, strict=True):
            if gather is not None:
                if gather not in gathered:
                    gathered[gather] = _minibatches(feed.columns[gather[0]], feed.indices[gather[1]], feed.count)
                rows.append(gathered[gather])
            else:
                rows.append([constant] * feed.count if share is None else share.unbind())
        rows += [drawn.unbind() for drawn in feed.noise]
        logged: list[Tensor] = []
        left: Sequence[Tensor] = []
        with torch.no_grad():
            for number in range(feed.count):
                metrics, *left = self._function([*fixed, *(row[number] for row in rows)])
                logged.append(metrics)
        return Outputs(torch.stack(logged).cpu().numpy(), list(left))


def _minibatches(column: Tensor, index: Tensor, count: int) -> Sequence[Tensor]:
    """The rows of each step, gathered at once."""
    index = index[:count]
    rows = column.index_select(0, index.reshape(-1).to(column.device))
    return rows.view(*index.shape, *column.shape[1:]).unbind()


def _compile(traced: TracedStep) -> Function:
    module, examples, fake_mode = _in_place(traced)
    virtual = _torch_module("torch._inductor.virtualized").V
    options = _torch_module("torch._inductor.config")
    compile_graph = _torch_module("torch._inductor.compile_fx").compile_fx_inner
    on_cpu = examples[0].device.type == "cpu"
    with TRACING, torch.no_grad(), warnings.catch_warnings(), virtual.set_fake_mode(fake_mode):
        warnings.simplefilter("ignore")  # of torch's own making
        with options.patch(cpp_wrapper=on_cpu):
            return compile_graph(module, examples, cpp_wrapper=on_cpu)


def find_compiler() -> str | None:
    """The C++ compiler that inductor would use on this machine."""
    return next(
        (path for name in (os.environ.get("CXX"), "g++", "c++", "clang++") if name and (path := which(name))), None
    )


def _torch_module(name: str) -> Any:
    """A module of torch's compiler: imported late, for it takes a second, and warns of torch's own old parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(name)


def _value(node: Any) -> Any:
    return node.meta["val"]


def _in_place(traced: TracedStep) -> tuple[torch.fx.GraphModule, list[Any], Any]:
    """The graph with flat inputs and outputs, which writes the new state over the old and stacks the metrics."""
    source = traced.graph.module.graph
    graph = torch.fx.Graph()
    values: dict[Any, Any] = {}
    result: Any = graph.graph_copy(source, values)
    places = [values[node] for node in source.nodes if node.op == "placeholder"]
    count, num_metrics = len(traced.graph.state), traced.layout.num_metrics
    new, outputs = list(result[:count]), list(result[count:])
    aten = torch.ops.aten
    fake_mode = next(iter(source.nodes)).meta["val"].fake_mode

    def call(operator: Any, *args: Any) -> Any:
        node = graph.call_function(operator, args)
        with fake_mode:
            node.meta["val"] = operator(*map_arg(args, _value))
        return node

    def as_float(output: Any) -> Any:
        # Not aten.to, which compiled C++ would have to ask Python for.
        if _value(output).dtype is torch.float32:
            return output
        return call(torch.ops.prims.convert_element_type.default, output, torch.float32)

    logged = [call(aten.reshape.default, as_float(output), [1]) for output in outputs[:num_metrics]]
    if logged:
        metrics = call(aten.cat.default, logged)
    else:
        metrics = graph.call_function(aten.full.default, ([0], 0.0))
        with fake_mode:
            metrics.meta["val"] = aten.full.default([0], 0.0)
    for old, value, scratch in zip(places, new, traced.scratch, strict=False):
        if not scratch:
            call(aten.copy_.default, old, value)
    graph.output((metrics, *outputs[num_metrics:]))
    module = torch.fx.GraphModule(traced.graph.module, graph)
    return module, [node.meta["val"] for node in graph.nodes if node.op == "placeholder"], fake_mode
