"""What every compiled step can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
    kept: Sequence[bool]
    """Of each piece of state, whether it counts after the step; what does not is scratch."""
    tolerance: float
    """How far another way to compute a step may be off, in lengths of the step."""

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
