"""The transport without a process: the one Learner lives here, and calls run at once."""

from collections.abc import Iterable
from typing import Any

from unison.learner_group.collectives import SingleCollective
from unison.learner_group.ray.cluster import with_objects
from unison.learner_group.transport import Call, Factory, Transport, WorkerContext
from unison.learner_group.uninterrupted import Interruptible


class InlineTransport(Transport):
    """Hosts one object in this process; its exceptions come as they are."""

    def __init__(self) -> None:
        self._object: Any = None
        self._results: dict[Call, Any] = {}

    @property
    def num_workers(self) -> int:
        """1 between `start()` and `stop()`."""
        return 0 if self._object is None else 1

    @property
    def lost(self) -> tuple[int, ...]:
        """Never any."""
        return ()

    @property
    def hosted(self) -> Any:
        """The object itself."""
        return self._object

    def start(self, factory: Factory, num_workers: int) -> None:
        """Make the object; there is one, whatever `num_workers` says."""
        self._object = factory(WorkerContext(rank=0, world_size=1, collective=SingleCollective()))

    def call(self, method: str, *args: Any, ranks: Iterable[int] | None = None, **kwargs: Any) -> Call:
        """Run it now; references to objects in Ray's store are followed."""
        call = Call(method, (0,))
        with Interruptible():
            self._results[call] = getattr(self._object, method)(*map(with_objects, args), **kwargs)
        return call

    def ready(self, call: Call, timeout: float = 0.0) -> bool:
        """Always."""
        return True

    def gather(self, call: Call, timeout: float | None = None) -> list[Any]:
        """The one result."""
        return [self._results.pop(call)]

    def restart(self, ranks: Iterable[int]) -> None:
        """Nothing can be lost here."""

    def stop(self) -> None:
        """Let the object go."""
        self._object = None
        self._results.clear()
