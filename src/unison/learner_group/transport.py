"""The seam between a LearnerGroup and wherever its workers live.

A worker hosts one object made by a factory; the seam does not know what the object is. Fillings:
inline (no process), processes (this machine), Ray (a cluster). Nothing above asks which one it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from unison.learner_group.collectives import Collective
from unison.learner_group.legacy import Legacy


@dataclass(frozen=True)
class WorkerContext:
    """What a factory learns about the worker that it makes an object for."""

    rank: int
    world_size: int
    collective: Collective
    legacy: Legacy | None = None
    """None where nobody could take its place."""
    gpu: int = 0
    """Which of the GPUs that its process sees is its own, where it has one."""


Factory: TypeAlias = Callable[[WorkerContext], Any]
"""Makes the hosted object; must survive pickling and must not use the collective."""


OF_ANOTHER_PROCESS = (
    "These workers are of the process that this one was forked from, and serve no other. Build a group here; its state "
    "can come from a checkpoint."
)
"""Said to forks that use a transport."""


class Call:
    """The ticket of a running call: hand it to `ready()` and `gather()`."""

    def __init__(self, method: str, ranks: Iterable[int]) -> None:
        self.method = method
        self.ranks = tuple(ranks)


class Transport(ABC):
    """Starts workers, calls methods of the objects that they host, gathers the results, stops them.

    Calls reach every worker in the order in which they were made, and several may be under way. When a
    worker raises, dies or hangs, all calls under way come to an end, and further ones do nothing, until
    `gather()` has raised a `WorkerError`; by then no worker is busy. Workers that died or hung are gone until
    `restart()`, and calls of them raise; the others stay usable. A transport belongs to one thread.
    """

    @property
    @abstractmethod
    def num_workers(self) -> int:
        """How many workers there are; 0 before `start()` and after `stop()`."""

    @property
    @abstractmethod
    def lost(self) -> tuple[int, ...]:
        """The ranks that died or hung and wait for `restart()`."""

    @abstractmethod
    def start(self, factory: Factory, num_workers: int) -> None:
        """Start the workers and make their objects; a running transport replaces the workers that it has."""

    @abstractmethod
    def call(self, method: str, *args: Any, ranks: Iterable[int] | None = None, **kwargs: Any) -> Call:
        """Begin `object.method(*args, **kwargs)` on all workers, or on `ranks`, and return at once."""

    def share(self, value: Any) -> Any:
        """What to hand to several transports of this kind in place of `value`, where it then moves only once."""
        return value

    @abstractmethod
    def ready(self, call: Call, timeout: float = 0.0) -> bool:
        """Whether `gather(call)` would return or raise without waiting; waits for that up to `timeout` seconds."""

    @abstractmethod
    def gather(self, call: Call, timeout: float | None = None) -> list[Any]:
        """The results of a call in the order of its ranks; a worker silent for `timeout` seconds has hung."""

    @abstractmethod
    def restart(self, ranks: Iterable[int]) -> None:
        """Replace the workers of `ranks`, dead or alive, by new ones with objects freshly made."""

    @abstractmethod
    def stop(self) -> None:
        """Stop all workers and leave nothing behind; may be called again."""
