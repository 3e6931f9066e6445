"""Distributions compile: their graphs have no breaks and compute what eager computes."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from unison.modules.distributions import distribution_for, mask_logits
from unison.types import Tree, tree_map

SPACES = [
    (spaces.Discrete(3, start=2), False),
    (spaces.MultiDiscrete([3, 3, 2], start=[0, 1, 0]), False),
    (spaces.MultiBinary((2, 2)), False),
    (spaces.Box(-1, 1, (2, 3)), False),
    (spaces.Box(-1, 1, (3,)), True),
    (spaces.Dict({"a": spaces.Tuple((spaces.Box(-1, 1, ()), spaces.Discrete(2))), "b": spaces.MultiBinary(2)}), True),
]


@pytest.fixture(autouse=True)
def _forget_compiled_graphs() -> None:
    torch.compiler.reset()


def case(space: spaces.Space, squashed: bool, seed: int, rows: int = 5) -> tuple[Tensor, Tensor, Tree]:
    kind = distribution_for(space, squashed=squashed)
    generator = torch.Generator().manual_seed(seed)
    inputs, others = (0.5 * torch.randn(rows, kind.input_size, generator=generator) for _ in range(2))
    return inputs, others, kind(inputs).sample(generator)


@pytest.mark.parametrize(("space", "squashed"), SPACES, ids=str)
def test_everything_traces_and_compiles(space: spaces.Space, squashed: bool) -> None:
    kind = distribution_for(space, squashed=squashed)

    def measure(inputs: Tensor, others: Tensor, actions: Tree) -> tuple[Tensor, Tensor, Tensor, Tensor, Tree]:
        def objective(x: Tensor) -> Tensor:
            ours = kind(x)
            return (ours.log_prob(actions) + ours.entropy() + ours.kl(kind(others))).sum()

        ours = kind(inputs)
        gradient = torch.func.grad(objective)(inputs)
        return ours.log_prob(actions), ours.entropy(), ours.kl(kind(others)), gradient, ours.mode()

    traced = make_fx(measure, tracing_mode="fake")(*case(space, squashed, 0))
    compiled = torch.compile(measure, fullgraph=True, backend="eager")
    arguments = case(space, squashed, 1)
    tree_map(torch.testing.assert_close, traced(*arguments), measure(*arguments))
    for rows in (5, 8):
        arguments = case(space, squashed, 2, rows)
        tree_map(torch.testing.assert_close, compiled(*arguments), measure(*arguments))


@pytest.mark.parametrize(("space", "squashed"), SPACES, ids=str)
def test_sampling_traces_and_compiles(space: spaces.Space, squashed: bool) -> None:
    kind = distribution_for(space, squashed=squashed)

    def draw(inputs: Tensor) -> tuple[Tree, Tensor, Tensor, Tensor]:
        def objective(x: Tensor) -> tuple[Tensor, tuple[Tree, Tensor]]:
            actions, log_prob = kind(x).sample_with_log_prob()
            return log_prob.sum(), (actions, log_prob)

        gradient, (actions, log_prob) = torch.func.grad(objective, has_aux=True)(inputs)
        return actions, log_prob, kind(inputs).log_prob(actions), gradient

    traced = make_fx(draw, tracing_mode="fake")(case(space, squashed, 0)[0])
    compiled = torch.compile(draw, fullgraph=True, backend="eager")
    for graph, rows in ((traced, 5), (compiled, 5), (compiled, 8)):
        torch.manual_seed(0)
        inputs = case(space, squashed, 1, rows)[0]
        first = graph(inputs)[0]
        actions, log_prob, recomputed, gradient = graph(inputs)
        assert gradient.isfinite().all()
        torch.testing.assert_close(log_prob, recomputed, rtol=1e-4, atol=1e-4)
        assert not all(map(np.array_equal, _arrays(first), _arrays(actions))), "the draw was frozen into the graph"


def _arrays(tree: Tree) -> list[np.ndarray]:
    leaves: list[np.ndarray] = []
    tree_map(lambda leaf: leaves.append(leaf.numpy()), tree)
    return leaves


def test_masks_trace_and_compile() -> None:
    space = spaces.MultiDiscrete([3, 2])

    def masked_entropy(inputs: Tensor, mask: Tensor) -> Tensor:
        return distribution_for(space)(mask_logits(inputs, mask, space)).entropy()

    inputs, mask = torch.randn(6, 5), torch.tensor([True, False, True, True, True]).expand(6, 5)
    expected = masked_entropy(inputs, mask)
    traced = make_fx(masked_entropy, tracing_mode="fake")(torch.zeros(6, 5), torch.ones(6, 5, dtype=torch.bool))
    torch.testing.assert_close(traced(inputs, mask), expected)
