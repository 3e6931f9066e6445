"""Which rows of a replay buffer are drawn: all alike, or by priority."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from unison.data.replay.sum_tree import SumTree

_LEAST_PRIORITY: Final = 1e-6
"""Added to every error, so that no row is never drawn again (Schaul et al. 2016, section 3.3)."""


class Sampler(ABC):
    """Draws the places of rows."""

    @abstractmethod
    def add(self, first: int, rows: int) -> None:
        """The rows from number `first` on were written, in the place of others."""

    @abstractmethod
    def draw(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw `count` places among the first `size`, with replacement: [count], and their weights or None."""

    @abstractmethod
    def update(self, places: Tensor, errors: Tensor) -> None:
        """Training found these errors [n] for the rows at `places` [n]."""

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """What draws depend on."""

    @abstractmethod
    def set_state(self, state: Mapping[str, Any], size: int) -> None:
        """Go on from a state of `get_state`, with `size` rows held; one of another kind of sampler makes them new."""


@final
class UniformSampler(Sampler):
    """Draws every row with the same probability."""

    def add(self, first: int, rows: int) -> None:
        """Nothing to note."""

    def draw(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """See Sampler.draw; without weights."""
        return torch.randint(size, (count,), generator=generator), None

    def update(self, places: Tensor, errors: Tensor) -> None:
        """Nothing to note."""

    def get_state(self) -> dict[str, Any]:
        """None."""
        return {}

    def set_state(self, state: Mapping[str, Any], size: int) -> None:
        """Nothing to take over."""


@final
class PrioritizedSampler(Sampler):
    """Draws rows with probability p^alpha / sum p^alpha, where p is the row's last error (Schaul et al. 2016).

    New rows get the largest priority so far. A draw takes one row of each of `count` equal shares of the sum
    (section 3.3); its weights are (N P)^-beta over the largest of them (section 3.4).

    Args:
        capacity: places.
        alpha: how much priorities count; 0: all rows alike.
        beta: how much of the bias is corrected; 1: all of it.
    """

    def __init__(self, capacity: int, *, alpha: float, beta: float) -> None:
        self._alpha, self._beta = alpha, beta
        self._capacity = capacity
        self._tree = SumTree(capacity)
        self._largest = 1.0

    def add(self, first: int, rows: int) -> None:
        """Give new rows the largest priority."""
        self._tree.set(np.arange(first, first + rows) % self._capacity, np.full(rows, self._largest))

    def draw(self, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """See Sampler.draw."""
        shares = np.arange(count) + torch.rand(count, generator=generator, dtype=torch.float64).numpy()
        places = self._tree.find(shares * (self._tree.total / count))
        weights = (size * self._tree.get(places) / self._tree.total) ** -self._beta
        return torch.as_tensor(places), torch.as_tensor(weights / weights.max(), dtype=torch.float32)

    def update(self, places: Tensor, errors: Tensor) -> None:
        """Priorities are the absolute errors, to the power of alpha.

        Rows whose error is not finite get the least one: to draw them again would only spoil the next updates.
        """
        found = np.nan_to_num(errors.numpy().astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        priorities = (np.abs(found) + _LEAST_PRIORITY) ** self._alpha
        self._tree.set(places.numpy(), priorities)
        self._largest = max(self._largest, float(priorities.max(initial=0.0)))

    def get_state(self) -> dict[str, Any]:
        """The priorities of all places."""
        return {"priorities": self._tree.get(np.arange(self._capacity)), "largest": self._largest}

    def set_state(self, state: Mapping[str, Any], size: int) -> None:
        """Take over priorities; rows that were drawn without any are new."""
        if "priorities" not in state:
            self.add(0, size)
            return
        self._tree.set(np.arange(self._capacity), np.asarray(state["priorities"]))
        self._largest = float(state["largest"])
