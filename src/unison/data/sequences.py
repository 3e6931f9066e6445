"""Cutting chunks of episodes into sequences of bounded length, padded at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unison.data.columns import Columns
from unison.data.trees import take_rows
from unison.types import Tree, tree_leaves


def lead_of(columns: Mapping[str, Any], *, is_stateful: bool) -> tuple[int, ...]:
    """The lead of all columns of a batch: [B], its rows, or where modules have a state [B, T], its sequences' steps."""
    return tuple(np.shape(tree_leaves(columns[Columns.OBS])[0])[: 2 if is_stateful else 1])


@dataclass(frozen=True)
class SequenceLayout:
    """Where each step of concatenated chunks goes in padded sequences.

    Args:
        index: [S, T] int64, the row at each place; padded places repeat the sequence's first row.
        mask: [S, T] bool, true where a place holds a row.
    """

    index: Tensor
    mask: Tensor

    @property
    def starts(self) -> Tensor:
        """[S] int64: the row at which each sequence begins."""
        return self.index[:, 0]

    def pad(self, column: Tree) -> Tree:
        """From rows [N, ...] to sequences [S, T, ...]."""
        return take_rows(column, self.index)

    def flatten(self, padded: Tensor, rows: int) -> Tensor:
        """From sequences [S, T, ...] back to rows [N, ...]."""
        mask = self.mask.to(padded.device)
        flat = padded.new_zeros((rows, *padded.shape[2:]))
        flat[self.index.to(padded.device)[mask]] = padded[mask]
        return flat


def lay_out(lengths: Sequence[int], max_seq_len: int, *, spare: int = 0) -> SequenceLayout:
    """Cut chunks that lie one after another into sequences.

    Args:
        lengths: steps of each chunk.
        max_seq_len: the most steps of a sequence.
        spare: steps by which a chunk's last sequence may exceed `max_seq_len`, rather than begin a
            sequence of its own (for the final observation, whose state is that after the last step).
    """
    starts: list[int] = []
    sizes: list[int] = []
    offset = 0
    for length in lengths:
        cuts = list(range(0, max(1, length - spare), max_seq_len))
        ends = [*cuts[1:], length]
        starts += [offset + cut for cut in cuts]
        sizes += [end - cut for cut, end in zip(cuts, ends, strict=True)]
        offset += length
    steps = np.arange(max(sizes, default=0))
    mask = steps[None, :] < np.asarray(sizes)[:, None]
    first = np.asarray(starts, dtype=np.int64)[:, None]
    return SequenceLayout(torch.as_tensor(np.where(mask, first + steps, first)), torch.as_tensor(mask))
