"""Nodes of a traced graph, and what they stand for."""

from typing import Any

from torch import fx

from unison.learner.engines.torch_parts import map_arg


def call(graph: fx.Graph, operator: Any, *args: Any) -> fx.Node:
    """A new call at the graph's point of insertion, with the shape and dtype of its result."""
    made = graph.call_function(operator, args)
    with fake_mode_of(graph):
        made.meta["val"] = operator(*map_arg(args, value))
    return made


def value(node: fx.Node) -> Any:
    """The tensor without data that a node stands for."""
    return node.meta["val"]


def fake_mode_of(graph: fx.Graph) -> Any:
    """The mode that the tensors of a graph belong to."""
    return value(next(node for node in graph.nodes if "val" in node.meta)).fake_mode
