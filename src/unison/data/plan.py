"""The plan of an update: which rows form which minibatch, agreed before the first step.

Every module's rows are cut as if it were alone: minibatches of `minibatch_size` rows, in the
order of one permutation per pass. Module `m` takes part in step `s` of a pass while it has rows
left. So each row is used exactly once per pass, and no module's updates depend on another's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from unison.types import ModuleID


@dataclass(frozen=True)
class Slot:
    """One minibatch: for each module taking part, its half-open range of the pass's permutation."""

    index: int
    """The minibatch's position within the pass."""
    ranges: dict[ModuleID, tuple[int, int]]
    closes_step: bool
    """Whether the optimizers step after this minibatch (gradient accumulation gathers several)."""


@dataclass(frozen=True)
class MinibatchPlan:
    """How an update walks over its rows.

    Args:
        rows: rows of each module (sequences, for stateful modules).
        rows_per_minibatch: rows of each module in one minibatch; over all ranks.
        num_iters: passes over the rows.
        accumulation_steps: minibatches whose gradients form one optimizer step. A pass's last
            step may gather fewer.
        shuffle: whether each pass draws a new permutation.
    """

    rows: dict[ModuleID, int]
    rows_per_minibatch: dict[ModuleID, int]
    num_iters: int = 1
    accumulation_steps: int = 1
    shuffle: bool = True

    @property
    def slots_per_pass(self) -> int:
        """Minibatches in one pass: those of the module with the most."""
        return max((-(-n // self.rows_per_minibatch[m]) for m, n in self.rows.items()), default=0)

    @property
    def optimizer_steps(self) -> int:
        """Optimizer steps in the whole update."""
        return self.num_iters * -(-self.slots_per_pass // self.accumulation_steps)

    def slots(self) -> list[Slot]:
        """The minibatches of one pass; the same for every pass."""
        last = self.slots_per_pass - 1
        return [
            Slot(s, self._ranges(s), closes_step=s == last or (s + 1) % self.accumulation_steps == 0)
            for s in range(self.slots_per_pass)
        ]

    def permutations(self, generator: torch.Generator) -> Iterator[dict[ModuleID, torch.Tensor | None]]:
        """For each pass, the order of each module's rows ([rows], int64), or None for the given order."""
        for _ in range(self.num_iters):
            yield {
                m: torch.randperm(n, generator=generator) if self.shuffle and self.rows_per_minibatch[m] < n else None
                for m, n in self.rows.items()
            }

    def window_rows(self, slot: Slot) -> Mapping[ModuleID, int]:
        """Rows of each module in the whole optimizer step that `slot` belongs to."""
        first = slot.index - slot.index % self.accumulation_steps
        stop = min(first + self.accumulation_steps, self.slots_per_pass)
        total: dict[ModuleID, int] = {}
        for s in range(first, stop):
            for m, (a, b) in self._ranges(s).items():
                total[m] = total.get(m, 0) + b - a
        return total

    def _ranges(self, index: int) -> dict[ModuleID, tuple[int, int]]:
        size = self.rows_per_minibatch
        return {
            m: (index * size[m], min(n, (index + 1) * size[m])) for m, n in self.rows.items() if index * size[m] < n
        }


def rank_share(start: int, stop: int, rank: int, world_size: int) -> tuple[int, int]:
    """The part of the rows `start..stop` that one rank takes; parts differ by at most one row."""
    n = stop - start
    return start + n * rank // world_size, start + n * (rank + 1) // world_size
