"""What every compiled step can do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from unison.learner.engines.feed import Feed

Matrix = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Outputs:
    """What a run of steps returns besides the state.

    Args:
        metrics: [steps, metrics] float32, in the order of the trace.
        left: the other outputs, of the last step.
    """

    metrics: Matrix
    left: list[Tensor]


class Program(ABC):
    """A compiled step that can be taken many times in a row."""

    make: int
    """Programs of the same make do the same on tensors of their own."""

    @abstractmethod
    def run(self, state: Sequence[Tensor], captured: Sequence[Tensor], feed: Feed) -> Outputs:
        """Take `feed.count` steps.

        Args:
            state: the storages that change, moved in place.
            captured: the storages that are only read.
            feed: rows, shares and random numbers of each step.
        """


@dataclass
class Job:
    """A program with what it is to be run on."""

    program: Program
    state: list[Tensor]
    captured: list[Tensor]
    feed: Feed

    def run(self) -> Outputs:
        """Run it alone."""
        return self.program.run(self.state, self.captured, self.feed)


def execute_together(
    jobs: Sequence[Job],
    likeness: Callable[[Feed], Any],
    run: Callable[[Sequence[Job], int], list[Outputs]],
) -> list[Outputs]:
    """Run jobs that don't depend on each other, those of the same make and `likeness` by one call of `run`.

    Its second argument is for how many jobs the program is to be: one of few sizes, so that batches with ever other
    modules share programs.
    """
    groups: dict[Any, list[int]] = {}
    for number, job in enumerate(jobs):
        groups.setdefault((job.program.make, likeness(job.feed)), []).append(number)
    outputs: dict[int, Outputs] = {}
    for numbers in groups.values():
        found = run([jobs[number] for number in numbers], _places(len(numbers)))
        outputs |= dict(zip(numbers, found, strict=True))
    return [outputs[number] for number in range(len(jobs))]


def _places(count: int) -> int:
    grain = 1 << max(0, count.bit_length() - 2)
    return -(-count // grain) * grain if count > 4 else count
