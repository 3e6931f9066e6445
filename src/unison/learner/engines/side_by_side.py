"""One graph for several modules of the same make: every tensor gets a leading axis for them."""

from collections.abc import Mapping
from typing import Any

import torch

from unison.learner.engines.functional import functional_graph
from unison.learner.engines.nodes import device_of, value

_aten: Any = torch.ops.aten
_prims: Any = torch.ops.prims


def side_by_side(module: torch.fx.GraphModule, count: int, decompositions: Mapping[Any, Any]) -> torch.fx.GraphModule:
    """The graph of `count` modules at once, by torch.func.vmap; of one, the graph itself.

    Args:
        module: takes tensors one after another and returns a list of tensors.
        count: the number of modules.
        decompositions: rules that replace operations by simpler ones.
    """
    if count == 1:
        return module
    inputs = [(value(node), device_of(node)) for node in module.graph.nodes if node.op == "placeholder"]
    examples = [torch.zeros((count, *v.shape), dtype=v.dtype, device=device) for v, device in inputs]
    return functional_graph(torch.func.vmap(_Interpreter(module).run), examples, decompositions)


class _Interpreter(torch.fx.Interpreter):
    """Runs a graph; what vmap knows only by taking modules one by one is said in other words."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is _prims.convert_element_type.default:
            return args[0].to(args[1])
        if target is _aten.copy.default:
            return args[1].to(args[0].dtype).expand(args[0].shape)
        return super().call_function(target, args, kwargs)
