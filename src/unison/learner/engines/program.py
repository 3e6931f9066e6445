"""What every compiled step can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unison.learner.engines.feed import Feed


@dataclass
class Outputs:
    """What a run of steps returns besides the state.

    Args:
        metrics: for each step, its metrics in the order of the trace.
        left: the other outputs, of the last step.
    """

    metrics: list[list[float]]
    left: list[Tensor]


class Program(ABC):
    """A compiled step that can be taken many times in a row."""

    @abstractmethod
    def run(self, state: Sequence[Tensor], captured: Sequence[Tensor], feed: Feed) -> Outputs:
        """Take `feed.count` steps.

        Args:
            state: the storages that change, moved in place.
            captured: the storages that are only read.
            feed: rows, shares and random numbers of each step.
        """
