"""A tree of sums, by which rows are drawn in proportion to their priorities (Schaul et al. 2016, appendix B.2.1)."""

from itertools import pairwise
from typing import Any, Final, final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# A wide tree is a low one: NumPy has about as much to do at a level, however wide it is.
_CHILDREN: Final = 32
_TOP: Final = 1024
"""So many sums are not summed up further: running sums over all of them take no time."""


@final
class SumTree:
    """Priorities of `capacity` places, with the sums of each 32 of them, of each 32 of those sums and so on.

    All operations work on many places at once, level by level.

    Args:
        capacity: places.
    """

    def __init__(self, capacity: int) -> None:
        self._levels: list[Array] = []
        """Each [nodes]: the priorities, then the sums of each 32 of the level before."""
        nodes = capacity
        while True:
            groups = -(-nodes // _CHILDREN)
            self._levels.append(np.zeros(groups * _CHILDREN, np.float64))
            if nodes <= _TOP:
                break
            nodes = groups

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._levels[-1].sum())

    def get(self, places: Array) -> Array:
        """The priorities at `places` [n]."""
        return self._levels[0][places]

    def set(self, places: Array, priorities: Array) -> None:
        """Give `places` [n] these priorities [n], each at least 0; of a place named twice the last one counts."""
        nodes = places
        self._levels[0][nodes] = priorities
        for below, above in pairwise(self._levels):
            nodes = nodes // _CHILDREN
            # A node named several times is computed several times, alike.
            above[nodes] = np.add.reduce(below.reshape(-1, _CHILDREN)[nodes], 1)

    def find(self, masses: Array) -> Array:
        """The places [n] at which the running sum of the priorities first exceeds `masses` [n], from 0 to the total."""
        ends = self._levels[-1].cumsum()
        # Rounding may leave a mass beyond the last priority: never go where there is none.
        masses = np.minimum(masses, np.nextafter(ends[-1], 0.0))
        nodes = ends.searchsorted(masses, side="right")
        masses -= np.where(nodes > 0, ends[nodes - 1], 0.0)
        rows = np.arange(len(masses))
        for level in reversed(self._levels[:-1]):
            ends = np.add.accumulate(level.reshape(-1, _CHILDREN)[nodes], 1)
            masses = np.minimum(masses, np.nextafter(ends[:, -1], 0.0))
            child = (ends > masses[:, None]).argmax(1)
            masses -= np.where(child > 0, ends[rows, child - 1], 0.0)
            nodes = nodes * _CHILDREN + child
        return nodes
