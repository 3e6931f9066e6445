"""What a program is fed with for a run of steps: rows by index, loss shares, random numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unison.data.plan import MinibatchPlan
from unison.data.tensors import TensorColumns
from unison.learner.engines.eager import loss_shares
from unison.learner.engines.recording import Call, Ref
from unison.learner.engines.traced import TracedStep
from unison.learner.engines.windows import Leaf, Orders, Stretch
from unison.types import ModuleID

if TYPE_CHECKING:
    from unison.learner.torch_learner import TorchLearner


@dataclass
class Feed:
    """The inputs of `count` steps.

    Args:
        count: the number of steps.
        columns: whole columns of the batch.
        indices: [count, rows] each, int64: which rows each step takes.
        shares: [count] for each leaf of the minibatch that is a loss share, None for the others.
        noise: [count, ...] each.
    """

    count: int
    columns: list[Tensor]
    indices: list[Tensor]
    shares: list[Tensor | None]
    noise: list[Tensor]


def make_feed(
    learner: "TorchLearner",
    traced: TracedStep,
    columns: Mapping[ModuleID, TensorColumns],
    plan: MinibatchPlan,
    orders: Orders,
    stretch: Stretch,
    *,
    with_noise: bool = True,
) -> Feed:
    """The inputs of the steps of a stretch; `with_noise` draws the random numbers."""
    tensors: dict[int, Tensor] = {}
    indices: dict[int, Tensor] = {}
    shares: list[Tensor | None] = []
    for leaf, used, gather in zip(traced.leaves, traced.graph.used, traced.gathers, strict=True):
        is_share = used and leaf.is_share
        shares.append(_shares(learner, leaf, columns, plan, orders, stretch) if is_share else None)
        if gather is not None:
            if gather[0] not in tensors:
                tensors[gather[0]] = leaf.tensor(columns)
            if gather[1] not in indices:
                indices[gather[1]] = stretch.rows(leaf, orders, plan.rows[leaf.module_id])
    examples, count = traced.example.noise, len(stretch.steps)
    if with_noise:
        noise = draw(traced.graph.draws, examples, count)
    else:
        noise = [_for_steps(example, count).zero_() for example in examples]
    return Feed(count, list(tensors.values()), list(indices.values()), shares, noise)


def _shares(
    learner: "TorchLearner",
    leaf: Leaf,
    columns: Mapping[ModuleID, TensorColumns],
    plan: MinibatchPlan,
    orders: Orders,
    stretch: Stretch,
) -> Tensor:
    slots = plan.slots()
    rank, world_size = learner.collective.rank, learner.collective.world_size
    by_pass = {
        p: loss_shares(
            leaf.module_id, columns[leaf.module_id], orders[p][leaf.module_id], plan, slots, rank, world_size
        )
        for p in {p for p, _ in stretch.steps}
    }
    return torch.stack([by_pass[p][window.slots[leaf.slot].index] for p, window in stretch.steps])


def draw(calls: Sequence[Call], examples: Sequence[Tensor], count: int) -> list[Tensor]:
    """Draw the random numbers of `count` steps, in the order in which the steps would: [count, ...] for each call."""
    drawn = [_for_steps(example, count) for example in examples]
    for step in range(count if drawn else 0):
        for call, example, kept in zip(calls, examples, drawn, strict=True):
            args = [torch.empty_like(example) if isinstance(a, Ref) else a for a in call.args]
            kept[step] = call.operator(*args, **call.kwargs)
    return drawn


def _for_steps(example: Tensor, count: int) -> Tensor:
    """Memory [count, ...] for as many of `example`, each laid out as it is: a compiled program counts on that."""
    strides = torch.empty_like(example).stride()
    return example.new_empty_strided((count, *example.shape), (example.numel(), *strides))
