"""Nodes of a traced graph, and what they stand for."""

from typing import Any

import torch
from torch import Tensor, fx

from unison.learner.engines.torch_parts import map_arg


def call(graph: fx.Graph, operator: Any, *args: Any) -> fx.Node:
    """A new call at the graph's point of insertion, with the shape and dtype of its result."""
    made = graph.call_function(operator, args)
    inputs: list[fx.Node] = made.all_input_nodes
    place = device_of(inputs[0]) if inputs else torch.device("cpu")
    return stands_for(made, operator(*map_arg(args, _zeros)), place)


def converted(graph: fx.Graph, node: fx.Node, dtype: torch.dtype) -> fx.Node:
    """What a node stands for, as another dtype."""
    if value(node).dtype is dtype:
        return node
    # Not aten.to, which compiled C++ would have to ask Python for.
    made = graph.call_function(torch.ops.prims.convert_element_type.default, (node, dtype))
    return stands_for(made, value(node).to(dtype), device_of(node))


def value(node: fx.Node) -> Any:
    """The tensor without data that a node stands for."""
    return node.meta["val"]


def device_of(node: fx.Node) -> torch.device:
    """Where that tensor lies."""
    return node.meta["device"]


def stands_for(node: fx.Node, tensor: Tensor, device: torch.device) -> fx.Node:
    """Write down what a node stands for: a tensor like this one, on that device; returns the node."""
    node.meta["val"], node.meta["device"] = without_data(tensor), device
    return node


def without_data(tensor: Tensor) -> Tensor:
    """A tensor of the same shape, strides and dtype, in no memory."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _zeros(node: fx.Node) -> Tensor:
    # Torch knows the shapes of some operations without data only by its compiler, which takes a second to import.
    return torch.zeros_like(value(node), device="cpu")
