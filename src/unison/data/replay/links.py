"""Which row follows which in a ring: what n-step returns and sequences are gathered along."""

from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor

from unison.data.episode import SingleAgentEpisode

_PRUNE_AT: Final = 1024


@final
class Links:
    """The place of the next step of the same episode, for every place of a ring; -1 where there is none (yet).

    Steps of an episode may come in chunks, with those of other episodes in between. A ring overwrites its oldest row
    first and links lead from older to newer rows, so a link never leads to a row that is gone.

    Args:
        capacity: places of the ring.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._next = np.full(capacity, -1, np.int64)
        self._view = torch.as_tensor(self._next)
        self._open: dict[tuple[str, Any], tuple[int, int]] = {}
        """The number of the last row of each running episode, and the step that follows it."""

    def add(self, chunk: SingleAgentEpisode, first: int, rows: int) -> None:
        """Note that the last `rows` steps of a chunk became the rows from number `first` on."""
        last, capacity = first + rows - 1, self._capacity
        self._next[last % capacity] = -1
        if rows > 1:
            numbers = np.arange(first, last)
            self._next[numbers % capacity] = (numbers + 1) % capacity
        key, whole = (chunk.id_, chunk.agent_id), rows == len(chunk)
        before = self._open.pop(key, None)
        if before is not None and whole and before[1] == chunk.t_started and before[0] > last - capacity:
            self._next[before[0] % capacity] = first % capacity
        if not chunk.is_done:
            self._open[key] = (last, chunk.t_started + len(chunk))
            if len(self._open) > _PRUNE_AT:
                # Episodes that were abandoned never end.
                self._open = {k: v for k, v in self._open.items() if v[0] > last - capacity}

    def follow(self, places: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The places [n, steps] of steps in a row from `places` [n] on, and how many there are [n], 1 to `steps`.

        Where an episode ends before, its last place is repeated.
        """
        found = [places]
        counts = torch.ones_like(places)
        for _ in range(steps - 1):
            following = self._view[found[-1]]
            goes_on = following >= 0
            found.append(torch.where(goes_on, following, found[-1]))
            # Once an episode has ended, its last place has no next one either.
            counts += goes_on
        return torch.stack(found, dim=1), counts

    def get_state(self) -> dict[str, Any]:
        """The links, and the episodes that run."""
        running = [[id_, agent, *where] for (id_, agent), where in self._open.items()]
        return {"next": self._next.copy(), "open": running}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state of `get_state`."""
        self._next[:] = state["next"]
        self._open = {(id_, agent): (last, step) for id_, agent, last, step in state["open"]}
