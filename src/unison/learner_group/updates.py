"""Updates on their way to the Learners and back: in order, bounded, counted, and never lost."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from unison.config import AlgorithmConfig
from unison.errors import LearnerGroupError, StateError
from unison.learner.learner import Results
from unison.learner.update import check_timesteps
from unison.learner_group.failures import Failure, WorkerError
from unison.learner_group.recovery import recover
from unison.learner_group.transport import Call, Transport
from unison.learner_group.uninterrupted import Turns
from unison.learner_group.worker import Moment
from unison.types import ALL_MODULES

T = TypeVar("T")
P = ParamSpec("P")
logger = logging.getLogger("unison")


@dataclass
class Ticket:
    """One update that was handed in.

    Args:
        number: its place in the order of all that were handed in, from 1.
        arguments: those of `LearnerWorker.update`, batch included: kept until the update is trained,
            so that it can be run again.
        submitted_at: seconds.
        call: the running call.
    """

    number: int
    arguments: tuple[str, Any, dict[str, Any]]
    return_state: bool
    submitted_at: float
    call: Call


@dataclass
class UpdateCounts:
    """submitted = trained + dropped + failed + in flight, at every moment."""

    submitted: int = 0
    trained: int = 0
    dropped: int = 0
    failed: int = 0
    restarts: int = 0


def checked_counts(counts: Any) -> UpdateCounts:
    """Counts that were saved.

    Raises:
        StateError: they are none, or do not add up; nothing is in flight when a state is made.
    """
    names = [field.name for field in fields(UpdateCounts)]
    given = dict(cast("Mapping[str, Any]", counts)) if isinstance(counts, Mapping) else {}
    if given.keys() != set(names) or not all(type(count) is int and count >= 0 for count in given.values()):
        raise StateError(f"These are no counts of updates: {counts!r}. Expected are integers from 0 for {names}.")
    found = UpdateCounts(**given)
    if found.submitted != found.trained + found.dropped + found.failed:
        raise StateError(f"These counts of updates do not add up: {counts!r}; submitted = trained + dropped + failed.")
    return found


def _alone(method: "Callable[Concatenate[UpdatePipeline, P], T]") -> "Callable[Concatenate[UpdatePipeline, P], T]":
    """Have threads take turns: one would take the answers to another. What Ctrl-C has cut short is put right first."""

    @wraps(method)
    def take_turn(self: "UpdatePipeline", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.turns:
            self.put_right()
            return method(self, *args, **kwargs)

    return take_turn


class UpdatePipeline:
    """Hands updates to all Learners, waits for them, and has them run again after a failure.

    Args:
        transport: where the Learners live.
        config: `max_queued_updates`, `queue_policy`, `learner_timeout_s` and `max_learner_restarts`.
    """

    def __init__(self, transport: Transport, config: AlgorithmConfig) -> None:
        self.transport = transport
        self.turns = Turns()
        self.counts = UpdateCounts()
        """What was handed in so far, and what became of it; a resumed run counts on."""
        self.num_updates = 0
        """The updates in the Learners' state; a failed one is undone to here."""
        self.num_changes = 0
        """The changes from outside that all Learners have made; a failed one is undone to here."""
        self._blank: set[int] = set()
        """Ranks whose state is not the group's, after a recovery that did not succeed."""
        self._was_interrupted = False
        self._config = config
        self._in_flight: deque[Ticket] = deque()
        self._finished: list[Results] = []
        self._restarts_in_a_row = 0
        self._seconds = {"seconds_submit": 0.0, "seconds_wait": 0.0, "seconds_queued": 0.0, "seconds_recover": 0.0}

    @_alone
    def run(self, source: str, data: Any, arguments: dict[str, Any], *, return_state: bool) -> Results:
        """Run one update after all those in flight, and wait for its result."""
        check_timesteps(arguments["timesteps"])
        self.finish_all()
        self._submit(source, data, arguments, return_state)
        return self._finish_oldest()

    @_alone
    def hand_in(self, source: str, data: Any, arguments: dict[str, Any], *, return_state: bool) -> list[Results]:
        """Queue one update, or drop it as `queue_policy` says; the results that have become ready."""
        check_timesteps(arguments["timesteps"])
        while len(self._in_flight) >= self._config.max_queued_updates:
            if self._config.queue_policy == "drop" and not self.transport.ready(self._in_flight[0].call):
                self.counts.submitted += 1
                self.counts.dropped += 1
                return self.get_results(block=False)
            self._finished.append(self._finish_oldest())
        self._submit(source, data, arguments, return_state)
        return self.get_results(block=False)

    @_alone
    def get_results(self, *, block: bool) -> list[Results]:
        """The finished results that nobody has fetched yet, oldest first; `block` waits for at least one."""
        while self._in_flight:
            waits = block and not self._finished
            if not waits and not self.transport.ready(self._in_flight[0].call):
                break
            self._finished.append(self._finish_oldest())
        taken, self._finished = self._finished, []
        return taken

    @_alone
    def finish_all(self) -> None:
        """Wait for all updates in flight; their results stay to be fetched."""
        while self._in_flight:
            self._finished.append(self._finish_oldest())

    @_alone
    def drain(self) -> list[Results]:
        """Wait for all updates in flight, and fetch."""
        self.finish_all()
        return self.get_results(block=False)

    @_alone
    def call(self, method: str, *args: Any, ranks: Collection[int] | None = None) -> list[Any]:
        """Call a method of some or all Learners after all updates in flight; results stay for `get_results()`.

        Where a rank is lost meanwhile, the call is made again, from the same state.
        """
        self.finish_all()
        return self.survive(lambda: self._call(method, *args, ranks=ranks))

    @_alone
    def call_one(self, method: str, *args: Any) -> Any:
        """Call a method of one Learner that has the group's state, after all updates in flight."""
        self.finish_all()

        def attempt() -> Any:
            whole = set(range(self.transport.num_workers)) - self._blank - set(self.transport.lost)
            return self._call(method, *args, ranks=[min(whole)] if whole else None)[0]

        return self.survive(attempt)

    @_alone
    def change(self, method: str, *args: Any) -> list[Any]:
        """Call a method of all Learners that changes them: all of them, or none where this raises."""
        answers = self.call(method, self.num_changes + 1, *args)
        self.num_changes += 1
        return answers

    def undo(self, method: str, *args: Any) -> None:
        """Call a method of whichever Learners are there that takes back what failed on others; it does not count."""
        with self.turns:
            with suppress(Exception):  # What failed before counts.
                self.put_right()
            there = set(range(self.transport.num_workers)).difference(self.transport.lost)
            with suppress(Exception):
                self._call(method, *args, ranks=sorted(there))

    def move_to(self, transport: Transport) -> None:
        """Go on with other Learners, in the same state."""
        self.transport = transport
        self._blank.clear()
        self.num_changes = 0

    def survive(self, attempt: Callable[[], T]) -> T:
        """Make an attempt again and again, with all ranks whole before each, until none is lost in it.

        Raises:
            LearnerGroupError: ranks were lost too often.
            Exception: what a Learner raised by itself.
        """
        while True:
            try:
                if self._blank and not self.transport.lost:
                    raise _unlike(self.transport, self._blank, "it did not get the state of the others")
                return attempt()
            except WorkerError as error:
                self._recover(error)
            except Exception:
                raise
            except BaseException:
                self._was_interrupted = True
                raise

    def put_right(self) -> None:
        """After Ctrl-C nobody knows what was handed to the Learners: all go back to what the group has counted."""
        if self._was_interrupted:
            everyone = range(self.transport.num_workers)
            self._recover(_unlike(self.transport, everyone, "its driver was interrupted"))

    def _call(self, method: str, *args: Any, ranks: Collection[int] | None = None) -> list[Any]:
        call = self.transport.call(method, *args, ranks=ranks)
        return self.transport.gather(call, timeout=self._config.learner_timeout_s)

    def count_on(self, counts: UpdateCounts, num_updates: int) -> None:
        """Go on from the counts of a state; results that nobody has fetched are of updates that are not in it."""
        if counts != self.counts:
            self._finished = []
        self.counts, self.num_updates = counts, num_updates

    def stats(self) -> dict[str, float]:
        """Counts, and seconds by phase."""
        return {**vars(self.counts), "in_flight": len(self._in_flight), **self._seconds}

    def _submit(self, source: str, data: Any, arguments: dict[str, Any], return_state: bool) -> None:
        start = time.perf_counter()
        self.counts.submitted += 1
        number = self.counts.submitted

        def attempt() -> None:
            call = self.transport.call("update", source, data, arguments, return_state=return_state)
            self._in_flight.append(Ticket(number, (source, data, arguments), return_state, start, call))

        try:
            self.survive(attempt)
        except BaseException:
            if all(ticket.number != number for ticket in self._in_flight):
                self.counts.failed += 1
            raise
        self._seconds["seconds_submit"] += time.perf_counter() - start

    def _finish_oldest(self) -> Results:
        """Wait for the oldest update, whatever befalls the Learners meanwhile."""
        start = time.perf_counter()
        answers = self.survive(self._gather_oldest)
        self._seconds["seconds_wait"] += time.perf_counter() - start
        return self._close_oldest(answers)

    def _gather_oldest(self) -> list[Any]:
        return self.transport.gather(self._in_flight[0].call, timeout=self._config.learner_timeout_s)

    def _close_oldest(self, answers: list[Any]) -> Results:
        """The oldest update has been trained, and leaves the queue."""
        ticket = self._in_flight[0]
        results: Results = answers[0]["results"]
        totals = results[ALL_MODULES]
        trained_s = totals["seconds_prepare"] + totals["seconds_steps"]
        self._seconds["seconds_queued"] += max(0.0, time.perf_counter() - ticket.submitted_at - trained_s)
        totals["ticket"] = float(ticket.number)
        totals["num_learner_restarts"] = float(self.counts.restarts)
        if ticket.return_state:
            results["_rl_module_state_after_update"] = answers[0]["state"]
        self._restarts_in_a_row = 0
        self.num_updates = int(totals["num_updates"])
        self.counts.trained += 1
        self._in_flight.popleft()
        return results

    def _recover(self, error: WorkerError) -> None:
        """Roll survivors back, bring lost ranks back, hand in again what is in flight; or raise, and count."""
        start = time.perf_counter()
        try:
            with suppress(WorkerError):  # those that all ranks had finished before count, and are not run again
                while self._in_flight:
                    self._finished.append(self._close_oldest(self._gather_oldest()))
            allowed = self._config.max_learner_restarts - self._restarts_in_a_row
            moment = Moment(self.num_updates, self.num_changes)
            restarts = recover(self.transport, error, moment, self._blank, allowed=allowed)
            self._was_interrupted = False
            self._restarts_in_a_row += restarts
            self.counts.restarts += restarts
            if restarts:
                logger.warning("A Learner was lost and is back, after update %d. %s", self.num_updates, error)
            with suppress(WorkerError):  # a rank was lost again: the old call, which failed, will tell once more
                for ticket in self._in_flight:
                    ticket.call = self.transport.call("update", *ticket.arguments, return_state=ticket.return_state)
        except Exception as failure:
            if len(self._in_flight) > 1:
                failure.add_note(
                    f"With it, {len(self._in_flight)} updates in flight failed; they have changed nothing."
                )
            self.counts.failed += len(self._in_flight)
            self._in_flight.clear()
            self._restarts_in_a_row = 0  # whoever tries again after the error may
            if isinstance(failure, LearnerGroupError):
                self._was_interrupted = False  # those that are left have gone back, and can be asked
            raise
        except BaseException:
            self._was_interrupted = True
            raise
        finally:
            self._seconds["seconds_recover"] += time.perf_counter() - start


def _unlike(transport: Transport, ranks: Collection[int], reason: str) -> WorkerError:
    """These ranks may not have the state of the group."""
    return WorkerError("the last call", transport.num_workers, [Failure(rank, "aborted", reason) for rank in ranks])
