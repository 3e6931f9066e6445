"""What the workers of a group have in common wherever they live: calls that end on every rank, epochs and deadlines."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from unison.learner_group.collectives import Meeting
from unison.learner_group.failures import Failure, FailureKind, WorkerError
from unison.learner_group.running_call import RunningCall

C = TypeVar("C", bound=RunningCall)
M = TypeVar("M", bound="Member[Any]")
_LOOK_S = 0.1  # between looks for overdue workers
STOPPED = "the transport was stopped"
"""Why workers end when all is well."""


@dataclass(frozen=True)
class Deadlines:
    """Seconds that a worker may be silent: while it starts, during a call, and after an overdue call was aborted."""

    start: float
    call: float
    grace: float


class Member(Generic[C]):
    """A worker as its driver knows it: what it is asked, and since when."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.queue: deque[C] = deque()
        self.failure: Failure | None = None
        """Set when it is lost."""
        self.busy_since = 0.0
        self.was_warned = False

    def asked(self, call: C) -> None:
        """It has one more call to answer."""
        if not self.queue:
            self._look_at_clock()
        self.queue.append(call)

    def answered(self) -> C:
        """Its current call is over."""
        self._look_at_clock()
        return self.queue.popleft()

    def _look_at_clock(self) -> None:
        self.busy_since, self.was_warned = time.monotonic(), False


class Crew(ABC, Generic[M, C]):
    """All workers, by rank. A worker that is lost stays here, with its failure, until another is hired for its rank."""

    def __init__(self, meeting: Meeting, deadlines: Deadlines) -> None:
        self.workers: dict[int, M] = {}
        self._meeting, self._deadlines = meeting, deadlines
        self._epoch, self._is_aborted, self._is_told = 1, False, False

    # --- what each kind of crew does in its own way ---

    @abstractmethod
    def hire(self, ranks: Iterable[int]) -> None:
        """Make workers for `ranks`, in place of those there, and have them make their objects."""

    @abstractmethod
    def begin(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any], ranks: Iterable[int]) -> C:
        """Send a call to `ranks`; raises WorkerError, and sends nothing, if one of them is lost.

        A call behind one that has failed fails too, until the caller has been told: else whether it runs would
        depend on who was faster.
        """

    @abstractmethod
    def dismiss(self) -> None:
        """Let all workers go."""

    @abstractmethod
    def _take_in(self, wait_s: float, limit_s: float) -> None:
        """Take in all answers that are there, waiting for the first one; then look for those overdue."""

    @abstractmethod
    def _lose(self, worker: M, kind: FailureKind, reason: str = "", *, kill: bool = False) -> None:
        """The worker is gone, or will be in a moment."""

    @abstractmethod
    def _ask_for_stack(self, worker: M) -> None:
        """Have it say what it is doing, should it be lost."""

    def _call_is_over(self, call: C) -> None:
        """Hook: every rank has answered a call, or is gone. Default: nothing."""

    # --- calls ---

    def wait(self, call: C, limit_s: float, until: float | None = None) -> bool:
        """Whether the call is over, if need be after waiting for its end or for the time `until`."""
        while not call.is_done:
            left = _LOOK_S if until is None else min(_LOOK_S, until - time.monotonic())
            self._take_in(max(left, 0.0), limit_s)
            if left <= 0:
                break
        return call.is_done

    def results(self, call: C) -> list[Any]:
        """What a call that is over returned, by rank; raises WorkerError once no worker is busy any more."""
        if call.failures:
            self._settle(self._deadlines.call)
            self._is_told = True
            raise WorkerError(call.method, len(self.workers), call.failures_with_cause(), call.results)
        return [call.results[rank] for rank in call.ranks]

    def _make_room(self, ranks: Sequence[int]) -> None:
        """For those about to be hired."""
        for rank in ranks:
            if rank in self.workers and not self.workers[rank].failure:
                self._lose(self.workers[rank], "died", "it is being replaced", kill=True)
        if self.workers:
            self._abort()  # newcomers count from the start of an epoch: it must be a new one
        self._renew_epoch()

    def _finish_hiring(self, call: C) -> None:
        """Wait for those that were hired; whoever could not make its object is let go."""
        self.wait(call, self._deadlines.start)
        self._settle(self._deadlines.start)
        for rank, failure in call.failures.items():
            if not failure.is_lost:
                self._lose(self.workers[rank], "died", f"its object could not be made: {failure.reason}", kill=True)
        if call.failures:
            self._is_told = True
            raise WorkerError("start", len(self.workers), call.failures_with_cause(), call.results)

    def _refuses(self, method: str, ranks: Sequence[int]) -> bool:
        """Whether a call would stand behind one that has failed; raises WorkerError if one of its ranks is lost."""
        self._take_in(0.0, self._deadlines.call)
        lost = [failure for rank in ranks if (failure := self.workers[rank].failure)]
        if lost:
            self._is_told = True
            raise WorkerError(method, len(self.workers), lost)
        if self._is_aborted and not self._is_told:
            return True
        self._renew_epoch()
        return False

    def _close_call(self, worker: M, failure: Failure | None, value: object = None) -> None:
        """A worker has answered its current call, or never will."""
        call: C = worker.queue[0]
        call.take(worker.rank, failure, value)
        if failure:
            self._abort()
        worker.answered()
        if call.is_done:
            self._call_is_over(call)

    # --- failures ---

    def _renew_epoch(self) -> None:
        """After a failure, begin an epoch that knows nothing of the last one; for that, nobody may be busy."""
        if self._is_aborted:
            self._settle(self._deadlines.call)
            self._epoch += 1
            self._is_aborted = False

    def _settle(self, limit_s: float) -> None:
        while any(worker.queue for worker in self.workers.values()):
            self._take_in(_LOOK_S, limit_s)

    def _abort(self) -> None:
        if not self._is_aborted:
            self._is_aborted, self._is_told = True, False
        self._meeting.abort(self._epoch)

    def _look_for_overdue(self, limit_s: float) -> None:
        """Overdue ones may only wait for another rank, so first abort; whoever stays silent after that has hung."""
        now = time.monotonic()
        for worker in self.workers.values():
            silence = now - worker.busy_since
            if not worker.queue or silence <= limit_s:
                continue
            if not worker.was_warned:
                worker.was_warned = worker.queue[0].was_overdue = True
                self._abort()
                self._ask_for_stack(worker)
            elif silence > limit_s + self._deadlines.grace:
                hint = "if it was only slow, raise learner_timeout_s"
                reason = f"it did not answer for {silence:.1f} s, and was killed ({hint})"
                self._lose(worker, "hung", reason, kill=True)
