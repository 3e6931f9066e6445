"""What a traced graph does for nothing: copies that nobody writes into, pieces and sums of what was just joined."""

from itertools import accumulate
from typing import Any

import torch

from unison.learner.engines.nodes import call, device_of, value

aten: Any = torch.ops.aten
_IDENTITIES = {aten.detach.default, aten.alias.default, aten.lift_fresh.default, aten.lift_fresh_copy.default}


def simplify(graph: torch.fx.Graph) -> None:
    """Leave out of a functional graph what changes nothing but rounding."""
    sums: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in list(graph.nodes):
        # Inputs are cloned so that they may be written into; a graph without writes needs no clone.
        is_input = node.target is aten.clone.default and node.args[0].op == "placeholder" and not node.kwargs
        if node.op == "call_function" and (node.target in _IDENTITIES or is_input):
            _replace(node, node.args[0])
        elif node.target is aten.copy.default and _alike(*node.args[:2]):
            # Nothing of what is wholly written over counts: what else nobody reads is scratch.
            node.target, node.args = aten.clone.default, (node.args[1],)
        elif node.target is aten.slice.Tensor and (piece := _joined_piece(node)) is not None:
            _replace(node, piece)
        elif node.target is aten.sum.dim_IntList and node.args[1:] == ([],) and _is_exact_enough(node):
            with graph.inserting_before(node):
                _replace(node, _sum(node.args[0], sums))
    graph.eliminate_dead_code()


def _is_exact_enough(node: Any) -> bool:
    """Whether a sum is of its entries' type, and of one wide enough for other intermediate results."""
    return not node.kwargs and value(node.args[0]).dtype in (torch.float32, torch.float64)


def _replace(node: torch.fx.Node, by: torch.fx.Node) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _alike(target: torch.fx.Node, source: torch.fx.Node) -> bool:
    into, out_of = value(target), value(source)
    same = into.shape == out_of.shape and into.dtype is out_of.dtype and device_of(target) == device_of(source)
    return same and into.is_contiguous() and out_of.is_contiguous()


def _joined_piece(node: torch.fx.Node) -> torch.fx.Node | None:
    """The vector that a slice takes out of vectors joined before, as the gradient of one parameter out of all."""
    source = _in_other_shape(node.args[0])
    if source.target is not aten.cat.default or value(source).dim() != 1 or len(node.args) != 4:
        return None
    starts = accumulate((value(piece).numel() for piece in source.args[0]), initial=0)
    found = (piece for piece, start in zip(source.args[0], starts, strict=False) if start == node.args[2])
    return next((piece for piece in found if _alike(piece, node)), None)


def _sum(node: torch.fx.Node, sums: dict[torch.fx.Node, torch.fx.Node]) -> torch.fx.Node:
    """The sum of all entries: of joined vectors their sums', of a multiple the multiple of the sum."""
    source = _in_other_shape(node)
    graph = source.graph
    if source in sums:
        return sums[source]
    if source.target is aten.cat.default and all(value(piece).dtype is value(source).dtype for piece in source.args[0]):
        parts = [_sum(piece, sums) for piece in source.args[0]]
        joined = call(graph, aten.stack.default, parts)
        sums[source] = call(graph, aten.sum.dim_IntList, joined, [])
    elif source.target is aten.mul.Tensor and _is_scaled(*source.args):
        sums[source] = call(graph, aten.mul.Tensor, _sum(source.args[0], sums), source.args[1])
    else:
        sums[source] = call(graph, aten.sum.dim_IntList, source, [])
    return sums[source]


def _is_scaled(vector: Any, factor: Any) -> bool:
    are_nodes = isinstance(vector, torch.fx.Node) and isinstance(factor, torch.fx.Node)
    return are_nodes and value(factor).dim() == 0 and value(factor).dtype is value(vector).dtype


def _in_other_shape(node: Any) -> Any:
    """What has the same entries in the same order."""
    while node.target in (aten.clone.default, aten.view.default) and not node.kwargs:
        node = node.args[0]
    return node
