"""A simplified graph gives what the graph gave, with the same types, and does less."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions

from unison.learner.engines.graph import GraphMaker
from unison.learner.engines.recording import record, whole_storage

A, B, C = torch.arange(6.0).reshape(2, 3) - 1, torch.arange(4.0) + 0.5, torch.tensor([7.0])
FACTOR = torch.tensor(0.25)


def joined(*tensors: Tensor) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).clone()


def pieces(a: Tensor, b: Tensor, c: Tensor, factor: Tensor) -> Sequence[Tensor]:
    """As the gradients of parameters are looked at one by one."""
    flat = joined(a, b, c)
    first, second, third = flat[:6], flat[6:10], flat[10:]
    return [first.view(2, 3).sum(), second.sum() * factor, third]


def unlike_pieces(a: Tensor, b: Tensor, c: Tensor, factor: Tensor) -> Sequence[Tensor]:
    """Not what was joined, though it begins or ends where that does."""
    flat = joined(a, b, c)
    return [flat[1:6], flat[6:11], flat[6:10:2], flat.view(11)[0:6]]


def sums(a: Tensor, b: Tensor, c: Tensor, factor: Tensor) -> Sequence[Tensor]:
    """As clipped gradients are looked at as a whole."""
    flat = joined(a, b, c)
    return [(flat * factor).sum(), flat.sum(), a.sum(), (a * b[:3]).sum(), (2 * a).sum(), flat.square().sum()]


def types(a: Tensor, b: Tensor, c: Tensor, factor: Tensor) -> Sequence[Tensor]:
    """Products and joins of several types, where a sum has the type of the whole."""
    double, whole = factor.double(), a.long()
    mixed = torch.cat([whole.reshape(-1), b])
    return [
        (a * double).sum(),
        (whole * 3).sum(),
        (a > 0).sum(),
        mixed.sum(),
        (a.bfloat16() * factor).sum(),
        a.sum(dtype=torch.float64),
        (a.half() * 1000).sum(dtype=torch.float32),
        (300 * a.half() * factor.half()).sum(),
    ]


def traced(function: Callable[..., Any]) -> tuple[Any, Sequence[Tensor]]:
    """The simplified graph of a function as a step is traced, and its inputs."""
    inputs = [A, B, C, FACTOR]
    recording = record(lambda: list(function(*inputs)), inputs)
    graph = GraphMaker(core_aten_decompositions()).make(recording, recording.result)
    constants = [whole_storage(tensor) for _, tensor in recording.externals]
    return graph.module, [*constants, graph.constants, *inputs]


@pytest.mark.parametrize("function", [pieces, unlike_pieces, sums, types])
def test_it_gives_the_same(function: Callable[..., Any]) -> None:
    graph, inputs = traced(function)
    for mine, theirs in zip(graph(*inputs), function(A, B, C, FACTOR), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_was_joined_is_neither_taken_apart_nor_summed_again() -> None:
    """Each piece is summed once, for itself and for the whole, and the scaled whole is not made for its sum."""

    def looked_at(a: Tensor, b: Tensor, c: Tensor, factor: Tensor) -> Sequence[Tensor]:
        flat = joined(a, b, c)
        parts = [flat[:6], flat[6:10], flat[10:]]
        return [*(part.sum() for part in parts), flat.sum(), (flat * factor).sum()]

    graph, _ = traced(looked_at)
    names = [str(node.target) for node in graph.graph.nodes]
    assert "aten.slice.Tensor" not in names
    assert "aten.cat.default" not in names
    assert names.count("aten.sum.dim_IntList") == 4
