"""The transport of one machine: a process per worker."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from unison.errors import LearnerGroupError
from unison.learner_group.collectives import Meeting, SharedMemoryMeeting
from unison.learner_group.crew import Deadlines
from unison.learner_group.processes.calls import ProcessCall
from unison.learner_group.processes.crew import ProcessCrew
from unison.learner_group.processes.family import Family
from unison.learner_group.processes.worker import Setup
from unison.learner_group.ray.cluster import with_objects
from unison.learner_group.transport import OF_ANOTHER_PROCESS, Call, Factory, Transport
from unison.learner_group.uninterrupted import Interruptible, Uninterrupted

_PRELOAD = ("unison.learner_group.processes.worker",)


class ProcessTransport(Transport):
    """Workers in processes of their own; batches travel through shared memory, written once for all of them.

    Arrays that a worker receives are views of shared memory: what it writes to them stays with it, and they
    stay valid for as long as it keeps them. Results are copies that belong to the driver.
    """

    def __init__(
        self,
        *,
        num_threads: int = 1,
        timeout_s: float = 60.0,
        start_timeout_s: float = 120.0,
        grace_s: float = 5.0,
        meeting: Callable[[int, float], Meeting] = SharedMemoryMeeting,
        preload: Sequence[str] = (),
    ) -> None:
        """Settings only; `start()` starts the processes.

        Args:
            num_threads: torch threads of each worker.
            timeout_s: how long a worker may be silent during a call, and a rank wait for another.
            start_timeout_s: the same while processes start and make their objects.
            grace_s: how long, after an overdue call was aborted, ranks that only waited have to say so.
            meeting: makes the meeting place of the collectives from the number of ranks and `timeout_s`.
            preload: modules to import before any worker exists, to have workers up sooner.
        """
        self._num_threads = num_threads
        self._deadlines = Deadlines(start_timeout_s, timeout_s, grace_s)
        self._make_meeting, self._preload = meeting, (*_PRELOAD, *preload)
        self._family: Family | None = None
        self._crew: ProcessCrew | None = None

    @property
    def num_workers(self) -> int:
        """How many workers there are."""
        return len(self._crew.workers) if self._crew else 0

    @property
    def lost(self) -> tuple[int, ...]:
        """The ranks that died or hung."""
        return tuple(rank for rank, worker in self._workers() if worker.failure)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids, by rank."""
        return tuple(worker.pid for _, worker in self._workers())

    def start(self, factory: Factory, num_workers: int) -> None:
        """Start the workers and make their objects; a running transport replaces the workers that it has."""
        if num_workers < 1:
            raise LearnerGroupError(f"A ProcessTransport needs 1 worker or more, not {num_workers}.")
        self._dismiss()
        meeting = self._make_meeting(num_workers, self._deadlines.call)
        setup = Setup(num_workers, self._num_threads, meeting.joiner(), factory)
        self._crew = ProcessCrew(self._living_family(), meeting, setup, self._deadlines)
        try:
            self._crew.hire(range(num_workers))
        except BaseException:
            self.stop()
            raise

    def call(self, method: str, *args: Any, ranks: Iterable[int] | None = None, **kwargs: Any) -> Call:
        """Begin `object.method(*args, **kwargs)` on all workers, or on `ranks`, and return at once."""
        crew = self._running()
        with Interruptible():
            args = tuple(map(with_objects, args))
        with Uninterrupted():
            return crew.begin(method, args, kwargs, crew.workers if ranks is None else ranks)

    def ready(self, call: Call, timeout: float = 0.0) -> bool:
        """Whether `gather(call)` would return or raise without waiting; waits for that up to `timeout` seconds."""
        with Uninterrupted():
            return self._running().wait(_own(call), self._deadlines.call, until=time.monotonic() + timeout)

    def gather(self, call: Call, timeout: float | None = None) -> list[Any]:
        """The results of a call in the order of its ranks; a worker silent for `timeout` seconds has hung."""
        crew = self._running()
        with Uninterrupted():
            crew.wait(_own(call), self._deadlines.call if timeout is None else timeout)
            return crew.results(_own(call))

    def restart(self, ranks: Iterable[int]) -> None:
        """Replace the workers of `ranks`, dead or alive, by new ones with objects freshly made."""
        crew = self._running()
        with Uninterrupted():
            crew.family = self._living_family()
            crew.hire(ranks)

    def stop(self) -> None:
        """Stop all workers and leave nothing behind; may be called again."""
        with Uninterrupted():
            self._dismiss()
            if self._family:
                self._family.close()
                self._family = None

    def _living_family(self) -> Family:
        if not self._family or not self._family.is_alive:
            if self._family:
                self._family.close()
            self._family = Family(self._preload, self._deadlines.start)
        return self._family

    def _dismiss(self) -> None:
        if self._crew:
            self._crew.dismiss()
            self._crew.family.clear()
            self._crew = None

    def _running(self) -> ProcessCrew:
        if not self._crew:
            raise LearnerGroupError("The transport is not running; call start() first.")
        if not self._crew.is_own:
            raise LearnerGroupError(OF_ANOTHER_PROCESS)
        return self._crew

    def _workers(self) -> list[tuple[int, Any]]:
        return sorted(self._crew.workers.items()) if self._crew else []


def _own(call: Call) -> ProcessCall:
    if not isinstance(call, ProcessCall):
        raise LearnerGroupError(f"The ticket of '{call.method}' comes from another transport.")
    return call
