"""Numbers of a step as inputs of its program, so that modules with other settings share the program.

A clip range, a weight in the loss or the betas of Adam stand in a trace as Python floats. Compiled as they are, every
combination of settings would be a program of its own.
"""

from typing import Any

import torch
from torch import Tensor, fx

from unison.learner.engines.nodes import call, converted, stands_for, value

_aten: Any = torch.ops.aten
_BY_TENSOR: dict[Any, Any] = {
    _aten.pow.Scalar: _aten.pow.Tensor_Tensor,
    _aten.clamp.default: _aten.clamp.Tensor,
    _aten.clamp_min.default: _aten.clamp_min.Tensor,
    _aten.clamp_max.default: _aten.clamp_max.Tensor,
} | {
    getattr(packet, overload): packet.Tensor
    for packet in (_aten.add, _aten.sub, _aten.mul, _aten.div, _aten.ge, _aten.gt, _aten.le, _aten.lt)
    for overload in ("Scalar", "Tensor")
}
"""Operations that take a number, and those that take a tensor of no dimensions in its place."""


def lift_constants(graph: fx.Graph, place: fx.Node, device: torch.device) -> Tensor:
    """Make the floats of a graph's operations an input.

    Args:
        graph: changed in place.
        place: the new input comes in front of this node.
        device: where its values will lie.

    Returns:
        [K] float64: what to pass for the new input.
    """
    values: list[float] = []
    found: list[tuple[fx.Node, int]] = []
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target not in _BY_TENSOR or not _has_values(node):
            continue
        if isinstance(node.kwargs.get("alpha"), float):
            node = _spell_out(graph, node)
        for position, argument in enumerate(node.args):
            if isinstance(argument, float):
                found.append((node, position))
                values.append(argument)
    constants = torch.tensor(values, dtype=torch.float64, device=device)
    with graph.inserting_before(place):
        whole = graph.placeholder("constants")
    stands_for(whole, constants, device)
    for number, (node, position) in enumerate(found):
        with graph.inserting_before(node):
            constant = converted(graph, call(graph, _aten.select.int, whole, 0, number), _dtype(node))
        node.target = _BY_TENSOR.get(node.target, node.target)
        node.update_arg(position, constant)
    return constants


def _spell_out(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Give `a + alpha * b` a product of its own; returns it."""
    with graph.inserting_before(node):
        product = call(graph, _aten.mul.Tensor, node.args[1], node.kwargs["alpha"])
    node.args, node.kwargs = (node.args[0], product), {}
    return product


def _dtype(node: fx.Node) -> torch.dtype:
    """What a number counts as beside the tensors of an operation."""
    operands = [value(a).dtype for a in node.args if isinstance(a, fx.Node)]
    floating = [dtype for dtype in operands if dtype.is_floating_point]
    return floating[0] if floating else torch.get_default_dtype()


def _has_values(node: fx.Node) -> bool:
    return all("val" in operand.meta for operand in node.all_input_nodes)
