"""A tree of sums, by which rows are drawn in proportion to their priorities (Schaul et al. 2016, appendix B.2.1)."""

from typing import Any, final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@final
class SumTree:
    """Priorities of `capacity` places, with their sums by pairs, pairs of pairs and so on.

    All operations work on many places at once, level by level.

    Args:
        capacity: places.
    """

    def __init__(self, capacity: int) -> None:
        self._depth = max(1, (capacity - 1).bit_length())
        self._first_leaf = 1 << self._depth
        # Node 1 is the root, the children of node i are 2i and 2i + 1.
        self._sums = np.zeros(2 * self._first_leaf, np.float64)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._sums[1])

    def get(self, places: Array) -> Array:
        """The priorities at `places` [n]."""
        return self._sums[self._first_leaf + places]

    def set(self, places: Array, priorities: Array) -> None:
        """Give `places` [n] these priorities [n], each at least 0; of a place named twice the last one counts."""
        nodes = self._first_leaf + places
        self._sums[nodes] = priorities
        for _ in range(self._depth):
            nodes = nodes >> 1
            # A node named several times is computed several times, alike.
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, masses: Array) -> Array:
        """The places [n] at which the running sum of the priorities first exceeds `masses` [n], from 0 to the total."""
        nodes = np.ones(len(masses), np.int64)
        masses = masses.astype(np.float64)
        for _ in range(self._depth):
            nodes = 2 * nodes
            left = self._sums[nodes]
            # Rounding may leave a mass beyond the last priority: never go where there is none.
            right = (masses >= left) & (self._sums[nodes + 1] > 0)
            masses = np.where(right, masses - left, masses)
            nodes = nodes + right
        return nodes - self._first_leaf
