"""Does a program do what the eager step did? Asked once, before it is used."""

from dataclasses import replace

import torch
from torch import Tensor

from unison.learner.engines.feed import Feed
from unison.learner.engines.program import Program
from unison.learner.engines.traced import TracedStep


def disagreement(program: Program, traced: TracedStep, feed: Feed) -> str | None:
    """How a program's first step differs from the step that was traced, or None.

    Each piece of state is judged by the length of the difference over the length of the step: an
    optimizer such as Adam blows a gradient of rounding error up to a whole step, so single entries
    may differ where there is nothing to learn; in half precision many.

    Args:
        program: the compiled step.
        traced: the step, with the example.
        feed: of the shapes that the program will be used with; its first step takes the example's rows.
    """
    example = traced.example
    state = [before.clone() for before in example.before]
    outputs = program.run(state, example.captured, _first_step(traced, feed))
    for number, (new, before, after) in enumerate(zip(state, example.before, example.after, strict=True)):
        if not traced.scratch[number]:
            differing = difference(new, before, after)
            if differing > traced.tolerance:
                return f"state {number} of shape {list(after.shape)} differs by {differing:.1%} of the step"
    for number, (mine, theirs) in enumerate(zip(outputs.metrics[0], example.metrics, strict=True)):
        mine, wanted = float(mine), float(theirs)
        if wanted == wanted and mine != wanted and not abs(mine - wanted) <= 1e-4 + traced.tolerance * abs(wanted):
            return f"metric {number} is {mine} instead of {wanted}"
    return None


def difference(new: Tensor, before: Tensor, after: Tensor) -> float:
    """How far `new` is from `after`, in lengths of the step from `before`."""
    if not after.is_floating_point():
        return 0.0 if torch.equal(new, after) else 1.0
    ours, old, wanted = new.double(), before.double(), after.double()
    known = torch.isfinite(wanted)
    if not torch.equal(torch.isfinite(ours), known):
        return float("inf")
    ours, old, wanted = ours[known], old[known], wanted[known]
    step = _length(wanted - old) + 1e-5 * _length(wanted) + 1e-12
    return _length(ours - wanted) / step


def _length(vector: Tensor) -> float:
    return float(vector.square().sum().sqrt())


def _first_step(traced: TracedStep, feed: Feed) -> Feed:
    """`feed` for one step, with the example's loss shares and random numbers."""
    shares = [None if share is None else share.clone() for share in feed.shares]
    for share, tensor in zip(shares, traced.example.minibatch, strict=True):
        if share is not None:
            share[0] = tensor
    noise = [drawn.clone() for drawn in feed.noise]
    for drawn, example in zip(noise, traced.example.noise, strict=True):
        drawn[0] = example
    return replace(feed, count=1, shares=shares, noise=noise)
