"""The free log standard deviation of Gaussian policies: a parameter instead of an output of the network."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unison.modules.distributions import distribution_for
from unison.modules.spaces import Space, is_box, parts_of


class Segment(NamedTuple):
    """Consecutive outputs of the policy head: the means of a Gaussian, or all inputs of another distribution."""

    size: int
    is_mean: bool


def head_segments(action_space: Space) -> list[Segment]:
    """What the policy head puts out for each part of the action space, in its order, if the log stds are free."""
    parts = parts_of(action_space)
    if parts is not None:
        return [segment for _, part in parts for segment in head_segments(part)]
    size = distribution_for(action_space).input_size
    gaussian = is_box(action_space)
    return [Segment(size // 2 if gaussian else size, gaussian)]


def insert_log_std(outputs: Tensor, log_std: Tensor, segments: Sequence[Segment]) -> Tensor:
    """Put the log stds `[A]` after the means they belong to: `[..., K - A]` becomes `[..., K]`."""
    if len(segments) == 1:
        return torch.cat((outputs, log_std.expand_as(outputs)), dim=-1)
    parts: list[Tensor] = []
    used = 0
    split = torch.split_with_sizes(outputs, [segment.size for segment in segments], dim=-1)
    for segment, part in zip(segments, split, strict=True):
        parts.append(part)
        if segment.is_mean:
            parts.append(log_std[used : used + segment.size].expand_as(part))
            used += segment.size
    return torch.cat(parts, dim=-1)
