"""Ranks in threads: the same code as in processes, without their start."""

import os
import threading
from collections.abc import Callable
from typing import Any

from unison.learner_group.collectives import Collective, CollectiveError, SharedMemoryMeeting


class World:
    """Ranks that run a function each, side by side."""

    def __init__(self, world_size: int, timeout_s: float = 60.0) -> None:
        self.meeting = SharedMemoryMeeting(world_size, timeout_s)
        self.ranks = [self.join(rank) for rank in range(world_size)]

    def join(self, rank: int) -> Collective:
        return self.meeting.joiner()(rank, [os.dup(descriptor) for descriptor in self.meeting.descriptors])

    def run(self, function: Callable[[Collective], Any]) -> list[Any]:
        """What each rank returns or raises."""
        results: list[Any] = [None] * len(self.ranks)

        def work(rank: int) -> None:
            try:
                results[rank] = function(self.ranks[rank])
            except CollectiveError as error:
                results[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(self.ranks))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results
