"""What can befall a worker, and the error that tells of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unison.errors import LearnerGroupError

FailureKind = Literal["raised", "died", "hung", "aborted"]
_WORST_FIRST: tuple[FailureKind, ...] = ("raised", "died", "hung", "aborted")


@dataclass(frozen=True)
class Failure:
    """How the call of one rank failed.

    Kinds: `raised` (an exception in the hosted object), `died` (the process ended), `hung` (silent past its
    deadline, and killed), `aborted` (gave up because another rank failed; never the cause).
    """

    rank: int
    kind: FailureKind
    reason: str
    traceback: str = ""
    exception: BaseException | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the worker is gone and needs a restart."""
        return self.kind in ("died", "hung")


class WorkerError(LearnerGroupError):
    """A call failed on one rank or more; names the cause first, then what became of the others.

    Attributes: `cause` (the failure that brought down the rest), `failures` (by rank), `results` (of the
    ranks that finished, by rank). An exception of a worker is also this error's `__cause__`.
    """

    def __init__(
        self, method: str, num_workers: int, failures: Iterable[Failure], results: Mapping[int, Any] | None = None
    ) -> None:
        self.failures = {failure.rank: failure for failure in sorted(failures, key=lambda failure: failure.rank)}
        self.results = dict(results or {})
        self.cause = min(self.failures.values(), key=lambda failure: _WORST_FIRST.index(failure.kind))
        super().__init__(_describe(method, num_workers, self.cause, self.failures))
        self.__cause__ = self.cause.exception

    @property
    def lost(self) -> tuple[int, ...]:
        """The ranks that need a restart."""
        return tuple(rank for rank, failure in self.failures.items() if failure.is_lost)


def _describe(method: str, num_workers: int, cause: Failure, failures: Mapping[int, Failure]) -> str:
    text = f"Rank {cause.rank} of {num_workers} {cause.kind} in '{method}': {cause.reason}"
    others = "; ".join(
        f"rank {rank} {failure.kind}: {failure.reason}" for rank, failure in failures.items() if failure is not cause
    )
    if others:
        text += f"\nOther ranks: {others}"
    if cause.traceback:
        text += f"\nOn rank {cause.rank}:\n{cause.traceback.rstrip()}"
    return text
