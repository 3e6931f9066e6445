"""A graph on vectors in pieces gives what it gives on whole ones, and an optimizer's step leaves them in pieces."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions

from unison.learner.engines.graph import FunctionalGraph, GraphMaker, external_views
from unison.learner.engines.recording import record

pytest.importorskip("jax")

SHAPES = [(3,), (5, 4), (2,), (20,), (4,)]
"""Of parameters, of which those of 20 entries count as large."""
LENGTH = 49
VECTOR, MOMENTS, SCALE = torch.linspace(-1, 1, LENGTH), torch.linspace(0.5, 0, LENGTH), torch.full((1,), 2.0)


def parameters(vector: Tensor) -> list[Tensor]:
    starts = accumulate((torch.Size(shape).numel() for shape in SHAPES), initial=0)
    return [vector[start : start + torch.Size(s).numel()].view(s) for s, start in zip(SHAPES, starts, strict=False)]


def step(vector: Tensor, moments: Tensor, scale: Tensor) -> Sequence[Tensor]:
    """As an optimizer steps: gradients joined, clipped by their norm, in moments, and taken from the parameters."""
    gradients = torch.cat([(scale * parameter + 1).view(-1) for parameter in parameters(vector)])
    gradients = gradients * (1 / gradients.norm()).clamp(max=1.0)
    moments.mul_(0.9).add_(gradients, alpha=0.1)
    vector.copy_(torch.where(gradients.sum() > 100, vector, vector - 0.1 * moments / (gradients.abs().sqrt() + 1e-3)))
    return [gradients.sum(), vector.max(), vector[0]]


def looked_at(vector: Tensor, moments: Tensor, scale: Tensor) -> Sequence[Tensor]:
    """Whatever else may be done with vectors: across their pieces, with others, as a whole."""
    first, *others = parameters(vector)
    vector.add_(torch.arange(LENGTH) * scale + moments.expand(2, -1)[1])
    joined = torch.cat([vector[:20], moments[20:30], vector[30:]])
    found = [vector[1:30], vector[2:40:3], vector[23:25], vector[44:46], torch.stack([vector, joined]), joined.flip(0)]
    found += [vector.view(7, 7).sum(0), vector.long(), (vector > 0) & (moments > 0), vector.cumsum(0), vector[:0]]
    return [*found, vector.norm(1), vector.mean(), first * others[1].sum(), others[0] @ others[0].T, others[2] + 1]


def all_large(vector: Tensor, moments: Tensor, scale: Tensor) -> Sequence[Tensor]:
    """Every entry belongs to a large parameter."""
    vector.copy_(torch.cat([vector[:24] * 2, vector[24:] + scale]))
    return [vector.sum()]


def graph_of(function: Callable[..., Any]) -> tuple[FunctionalGraph, list[Tensor]]:
    """The graph of a function, as a step is traced that changes its arguments, and its inputs."""
    state = [VECTOR.clone(), MOMENTS.clone()]
    recording = record(lambda: list(function(*state, SCALE)), [SCALE])
    graph = GraphMaker(core_aten_decompositions()).make(recording, recording.result)
    for tensor, before in zip(state, (VECTOR, MOMENTS), strict=True):
        tensor.copy_(before)
    _, storages = external_views([tensor for _, tensor in recording.externals])
    return graph, [*(storages[s] for s in (*graph.state, *graph.captured)), graph.constants, SCALE]


@pytest.mark.parametrize(
    ("function", "large"),
    [(step, [(3, 23), (25, 45)]), (looked_at, [(3, 23), (25, 45)]), (all_large, [(0, 24), (24, 49)])],
)
def test_it_gives_the_same(
    function: Callable[..., Any], large: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unison.learner.engines.lowering import pieces, to_jax
    from unison.learner.engines.lowering.table import jax

    monkeypatch.setattr(pieces, "LARGE", 20)
    graph, inputs = graph_of(function)
    cuts = pieces.find_cuts(graph.module.graph, graph.inputs()[0])
    assert cuts == {LENGTH: pieces.Cuts.around(large, LENGTH)}
    wanted = graph.module(*inputs)
    with jax.enable_x64(True):
        function_in_pieces = jax.jit(to_jax(graph.module, cuts))
        found = function_in_pieces([pieces.in_pieces(tensor.numpy(), cuts) for tensor in inputs])
    assert all(isinstance(vector, pieces.Pieces) for vector in found[: len(graph.state)])
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(np.array(pieces.whole(mine))), theirs)
