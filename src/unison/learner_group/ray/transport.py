"""The transport of a cluster: an actor per worker, placed by Ray."""

import os
import time
from collections.abc import Iterable
from typing import Any

from unison.errors import LearnerGroupError
from unison.learner_group.collectives.torch_distributed import Backend
from unison.learner_group.crew import Deadlines
from unison.learner_group.ray.cluster import RayCluster
from unison.learner_group.ray.crew import RayCall, RayCrew
from unison.learner_group.ray.worker import Setup
from unison.learner_group.transport import OF_ANOTHER_PROCESS, Call, Factory, Transport
from unison.learner_group.uninterrupted import Uninterrupted


class RayTransport(Transport):
    """Workers in actors of a Ray cluster; batches travel through its object store, put there once for all of them.

    Arguments may be references to objects in the store, or lists and dicts of them: the workers get the
    objects. Arrays that a worker receives, and results, are copies that belong to the receiver.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        placement_strategy: str = "PACK",
        total_cpus: float = 0.0,
        num_threads: int = 1,
        timeout_s: float = 60.0,
        start_timeout_s: float = 120.0,
        grace_s: float = 5.0,
    ) -> None:
        """Settings only; `start()` connects and starts the actors.

        Args:
            address: of the cluster, as for `ray.init`; None: the one that this process is connected to, else that of
                the environment variable RAY_ADDRESS, else a new one on this machine, on loopback only.
            num_cpus: CPUs of each worker.
            num_gpus: GPUs of each worker.
            placement_strategy: how the workers are spread over nodes: PACK, SPREAD, STRICT_PACK, STRICT_SPREAD.
            total_cpus: what a new cluster must offer at least, for other transports beside this one.
            num_threads: torch threads of each worker.
            timeout_s: how long a worker may be silent during a call, and a rank wait for another.
            start_timeout_s: the same while the cluster makes room, processes start and make their objects.
            grace_s: how long, after an overdue call was aborted, ranks that only waited have to say so.
        """
        self._address, self._total_cpus = address, total_cpus
        self._resources = {"CPU": num_cpus, **({"GPU": num_gpus} if num_gpus else {})}
        self._strategy, self._num_threads = placement_strategy, num_threads
        self._deadlines = Deadlines(start_timeout_s, timeout_s, grace_s)
        self._cluster: RayCluster | None = None
        self._crew: RayCrew | None = None
        self._owner = os.getpid()

    @property
    def num_workers(self) -> int:
        """How many workers there are."""
        return len(self._crew.workers) if self._crew else 0

    @property
    def lost(self) -> tuple[int, ...]:
        """The ranks that died or hung."""
        return (
            tuple(rank for rank, worker in sorted(self._crew.workers.items()) if worker.failure) if self._crew else ()
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids, by rank, of workers that are not lost; each on its own node."""
        return tuple(self._crew.pids()) if self._crew else ()

    def start(self, factory: Factory, num_workers: int) -> None:
        """Start the workers and make their objects; a running transport replaces the workers that it has."""
        if num_workers < 1:
            raise LearnerGroupError(f"A RayTransport needs 1 worker or more, not {num_workers}.")
        before = self._cluster
        total = max(self._total_cpus, num_workers * self._resources["CPU"])
        cluster = RayCluster(self._address, total)
        self._dismiss()
        self._cluster = cluster
        if before:
            before.release()
        try:
            group = cluster.place(num_workers, self._resources, self._strategy, self._deadlines.start)
            backend: Backend = "nccl" if self._resources.get("GPU", 0) >= 1 else "gloo"
            meeting = cluster.meeting(num_workers, self._deadlines.call, backend)
            setup = Setup(num_workers, self._num_threads, meeting.joiner(), factory)
            self._crew = RayCrew(cluster, group, self._resources, meeting, setup, self._deadlines)
            self._crew.hire(range(num_workers))
        except BaseException:
            self.stop()
            raise

    def call(self, method: str, *args: Any, ranks: Iterable[int] | None = None, **kwargs: Any) -> Call:
        """Begin `object.method(*args, **kwargs)` on all workers, or on `ranks`, and return at once."""
        crew = self._running()
        with Uninterrupted():
            return crew.begin(method, args, kwargs, crew.workers if ranks is None else ranks)

    def share(self, value: Any) -> Any:
        """A reference to it in the object store."""
        self._running()
        return self._cluster.put(value) if self._cluster else value

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
        with Uninterrupted():
            self._running().hire(ranks)

    def stop(self) -> None:
        """Stop all workers and leave nothing behind; may be called again."""
        if os.getpid() != self._owner:  # a fork of the driver has no say in this
            return
        with Uninterrupted():
            self._dismiss()
            if self._cluster:
                self._cluster.release()
                self._cluster = None

    def _dismiss(self) -> None:
        if self._crew:
            self._crew.dismiss()
            self._crew = None

    def _running(self) -> RayCrew:
        if not self._crew:
            raise LearnerGroupError("The transport is not running; call start() first.")
        if os.getpid() != self._owner:
            raise LearnerGroupError(OF_ANOTHER_PROCESS)
        if self._cluster and not self._cluster.is_alive:
            raise LearnerGroupError("The connection to Ray has been shut down, and the workers with it; start() again.")
        return self._crew


def _own(call: Call) -> RayCall:
    if not isinstance(call, RayCall):
        raise LearnerGroupError(f"The ticket of '{call.method}' comes from another transport.")
    return call
