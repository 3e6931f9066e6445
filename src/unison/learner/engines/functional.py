"""A function of tensors as a graph of operations that write nothing in place: run once, and written down.

It runs on real tensors. Torch's own `make_fx` would do the same on tensors without data, but brings in torch's
compiler, whose import takes longer than everything else that the engine `xla` does before its first step.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from unison.learner.engines.nodes import stands_for, without_data
from unison.learner.engines.torch_parts import Watcher, pytree


def functional_graph(
    function: Callable[..., Sequence[Tensor]], examples: Sequence[Tensor], decompositions: Mapping[Any, Any]
) -> fx.GraphModule:
    """The graph of a function, on inputs of the examples' shapes; `value` of each node has its shape and dtype.

    Args:
        function: takes as many tensors as there are examples; it may write in place into what it made.
        examples: they keep their values.
        decompositions: rules that replace operations by simpler ones.
    """
    writer = _GraphWriter(examples, decompositions)
    pure: Any = torch.func.functionalize(function, remove="mutations")
    with torch.no_grad(), writer:
        outputs = pure(*examples)
    return writer.finish(outputs)


class _GraphWriter(Watcher):
    """Writes down the operations that reach it: below functionalization, these are pure."""

    def __init__(self, inputs: Sequence[Tensor], decompositions: Mapping[Any, Any]) -> None:
        super().__init__()
        self._decompositions = decompositions
        self._graph, self._root = fx.Graph(), torch.nn.Module()
        self._known: dict[int, tuple[Tensor, fx.Node]] = {}
        """By identity; the tensors are kept alive, so that no other takes their place."""
        for number, tensor in enumerate(inputs):
            self._know(tensor, self._graph.placeholder(f"input_{number}"))

    def finish(self, outputs: Sequence[Tensor]) -> fx.GraphModule:
        """The graph with these outputs."""
        self._graph.output([self._node(tensor) for tensor in outputs])
        return fx.GraphModule(self._root, self._graph)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = dict(kwargs or {})
        with self:
            simplify = self._decompositions.get(func, func.decompose)
            result = simplify(*args, **keywords)
        if result is not NotImplemented:
            return result
        result = func(*args, **keywords)
        node = self._graph.call_function(func, *pytree.tree_map_only(Tensor, self._node, (args, keywords)))
        if isinstance(result, Tensor):
            self._know(result, node)
        else:
            node.meta["val"] = pytree.tree_map_only(Tensor, without_data, result)
            for number, part in enumerate(result):
                if isinstance(part, Tensor):
                    self._know(part, self._graph.call_function(operator.getitem, (node, number)))
        return result

    def _know(self, tensor: Tensor, node: fx.Node) -> None:
        self._known[id(tensor)] = tensor, stands_for(node, tensor, tensor.device)

    def _node(self, tensor: Tensor) -> fx.Node:
        """The node that stands for a tensor; what no operation made is a constant."""
        if id(tensor) not in self._known:
            name = f"constant_{len(list(self._root.buffers()))}"
            self._root.register_buffer(name, tensor)
            self._know(tensor, self._graph.create_node("get_attr", name))
        return self._known[id(tensor)][1]
