"""The workers of one group: hires them, asks them, takes in what they answer, finds the dead and the hung."""

import os
import pickle
import select
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from unison.errors import LearnerGroupError
from unison.learner_group.collectives import Meeting
from unison.learner_group.failures import Failure, FailureKind, WorkerError
from unison.learner_group.processes.calls import ProcessCall, Slot, WorkerProcess
from unison.learner_group.processes.codec import Payload, decode, encode
from unison.learner_group.processes.family import Family
from unison.learner_group.processes.legacy import NUM_KEPT
from unison.learner_group.processes.wire import INLINE, INLINE_BYTES, RETAINED, Header, Kind, Packet, PeerGone
from unison.learner_group.processes.worker import Setup
from unison.learner_group.shared_memory import Segment

_EAGER_S = 0.003  # after a call
_LOOK_S = 0.1  # between looks for overdue workers
_LARGEST_KEPT = 16 << 20  # a larger result is rare: its memory goes back to the system
_STOPPED = "the transport was stopped"


@dataclass(frozen=True)
class Deadlines:
    """Seconds that a worker may be silent: while it starts, during a call, and after an overdue call was aborted."""

    start: float
    call: float
    grace: float


class Crew:
    """All workers, by rank. A worker that is lost stays here, with its failure, until another is hired for its rank."""

    def __init__(self, family: Family, meeting: Meeting, setup: Setup, deadlines: Deadlines) -> None:
        self.family = family
        self.workers: dict[int, WorkerProcess] = {}
        self._meeting, self._setup, self._deadlines = meeting, setup, deadlines
        self._slots: list[Slot] = []
        self._free: list[Slot] = []
        self._num_calls = 0
        self._epoch, self._is_aborted, self._is_told = 1, False, False
        self._poll = select.poll()
        self._by_descriptor: dict[int, WorkerProcess] = {}
        self._owner = os.getpid()
        self._has_spare_core = len(os.sched_getaffinity(0)) > setup.world_size

    def hire(self, ranks: Iterable[int]) -> None:
        """Make workers for `ranks`, in place of those there, and have them make their objects."""
        ranks = tuple(ranks)
        if not ranks:
            return
        for rank in ranks:
            if rank in self.workers and not self.workers[rank].failure:
                self._lose(self.workers[rank], "died", "it is being replaced", kill=True)
        if self.workers:
            self._abort()  # newcomers count from the start of an epoch: it must be a new one
        self._renew_epoch()
        payload = _encoded(self._setup, "The factory of the workers' objects")
        call = self._new_call("start", ranks)
        header, body = self._request(Kind.SETUP, call, payload, 0, inline=True)
        for slot in self._slots:
            slot.known_to.difference_update(ranks)
        for rank in ranks:
            before = self.workers.get(rank)
            legacy = before.legacy if before else [Segment() for _ in range(NUM_KEPT)]
            worker = self.workers[rank] = WorkerProcess(rank, *self.family.spawn(), legacy)
            self._by_descriptor[worker.descriptor] = worker
            self._poll.register(worker.descriptor, select.POLLIN)
            own = [segment.descriptor for segment in (worker.last_words, *legacy)]
            self._ask(worker, call, header._replace(value=rank), body, [*own, *self._meeting.descriptors])
        self.wait(call, self._deadlines.start)
        self._settle(self._deadlines.start)
        for rank, failure in call.failures.items():
            if not failure.is_lost:
                self._lose(self.workers[rank], "died", f"its object could not be made: {failure.reason}", kill=True)
        if call.failures:
            self._is_told = True
            raise WorkerError("start", len(self.workers), call.failures_with_cause(), call.results)

    def begin(
        self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any], ranks: Iterable[int]
    ) -> ProcessCall:
        """Send a call to `ranks`; raises WorkerError, and sends nothing, if one of them is lost.

        A call behind one that has failed fails too, until the caller has been told: else whether it runs would
        depend on who was faster.
        """
        self._take_in(0.0, self._deadlines.call)
        ranks = tuple(ranks)
        lost = [failure for rank in ranks if (failure := self.workers[rank].failure)]
        if lost:
            self._is_told = True
            raise WorkerError(method, len(self.workers), lost)
        if self._is_aborted and not self._is_told:
            return self._refused(method, ranks)
        self._renew_epoch()
        payload = _encoded((method, arguments, keywords), f"The arguments of '{method}'")
        call = self._new_call(method, ranks)
        is_idle = not any(self.workers[rank].queue for rank in ranks)
        header, body = self._request(Kind.CALL, call, payload, self._epoch, inline=is_idle)
        try:
            for rank in ranks:
                self._ask(self.workers[rank], call, header, body)
        except BaseException:  # Ctrl-C: some ranks wait for others that were not asked
            self._abort()
            raise
        if not ranks:
            self._free.append(call.slot)
        return call

    def wait(self, call: ProcessCall, limit_s: float, until: float | None = None) -> bool:
        """Whether the call is over, if need be after waiting for its end or for the time `until`."""
        while not call.is_done:
            left = _LOOK_S if until is None else min(_LOOK_S, until - time.monotonic())
            self._take_in(max(left, 0.0), limit_s)
            if left <= 0:
                break
        return call.is_done

    def results(self, call: ProcessCall) -> list[Any]:
        """What a call that is over returned, by rank; raises WorkerError once no worker is busy any more."""
        if call.failures:
            self._settle(self._deadlines.call)
            self._is_told = True
            raise WorkerError(call.method, len(self.workers), call.failures_with_cause(), call.results)
        return [call.results[rank] for rank in call.ranks]

    @property
    def is_own(self) -> bool:
        """Whether this process hired them; a fork of that one did not."""
        return os.getpid() == self._owner

    def dismiss(self) -> None:
        """Let all workers go; idle ones end by themselves, and their Family sees to the others."""
        if not self.is_own:
            return
        for worker in self.workers.values():
            if not worker.failure:
                self._lose(worker, "died", _STOPPED, kill=bool(worker.queue))
        self._meeting.close()

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

    def _new_call(self, method: str, ranks: tuple[int, ...]) -> ProcessCall:
        if not self._free:
            slot = Slot(len(self._slots), self._setup.world_size)
            self._slots.append(slot)
            self._free.append(slot)
        self._num_calls += 1
        return ProcessCall(method, ranks, self._num_calls, self._free.pop())

    def _refused(self, method: str, ranks: tuple[int, ...]) -> ProcessCall:
        call = self._new_call(method, ranks)
        self._free.append(call.slot)
        reason = "it was called after another rank had failed, and did nothing"
        call.failures = {rank: Failure(rank, "aborted", reason) for rank in ranks}
        return call

    def _request(
        self, kind: Kind, call: ProcessCall, payload: Payload, value: int, *, inline: bool
    ) -> tuple[Header, bytes]:
        """The packet of a call. Packets to busy workers stay small: so many fit into a channel that nobody waits."""
        inline = inline and payload.size <= INLINE_BYTES
        flags = INLINE if inline else 0
        header = Header(kind, flags, call.slot.index, len(payload.skeleton), call.number, value, payload.size)
        if inline:
            return header, payload.join()
        try:
            payload.write(call.slot.request)
        except BaseException:
            self._free.append(call.slot)
            raise
        return header, b""

    def _ask(
        self, worker: WorkerProcess, call: ProcessCall, header: Header, body: bytes, files: Iterable[int] = ()
    ) -> None:
        try:
            worker.ask(call, header, body, tuple(files))
        except PeerGone:
            self._lose(worker, "died")
        except TimeoutError as error:
            self._lose(worker, "hung", str(error), kill=True)

    def _take_in(self, wait_s: float, limit_s: float) -> None:
        """Take in all answers that are there, waiting for the first one; then look for those overdue."""
        for descriptor, _ in self._awaited(wait_s):
            worker = self._by_descriptor.get(descriptor)
            try:
                while worker and (packet := worker.channel.receive(wait=False)):
                    if worker.queue and packet.header.number == worker.queue[0].number:  # else its asking was cut short
                        self._file(worker, packet)
                    if not worker.queue:
                        break
            except PeerGone:
                if worker:
                    self._lose(worker, "died")
            except KeyboardInterrupt:
                if worker and not worker.failure:
                    self._lose(worker, "died", "its driver was interrupted while it read an answer", kill=True)
                raise
        now = time.monotonic()
        for worker in self.workers.values():
            if worker.queue and now - worker.busy_since > limit_s:
                self._remind(worker, now - worker.busy_since - limit_s)

    def _awaited(self, wait_s: float) -> list[tuple[int, int]]:
        """The descriptors that have something to tell, or none after `wait_s` seconds.

        Where the workers leave a core free, the first moments after a call are spent without sleep: waking takes long.
        """
        start = time.monotonic()
        asked = max((worker.busy_since for worker in self.workers.values() if worker.queue), default=0.0)
        until = min(start + wait_s, asked + _EAGER_S) if self._has_spare_core else 0.0
        while not (events := self._poll.poll(0)) and time.monotonic() < until:
            os.sched_yield()
        return events or self._poll.poll(max(0.0, start + wait_s - time.monotonic()) * 1000)

    def _file(self, worker: WorkerProcess, packet: Packet) -> None:
        header, call = packet.header, worker.queue[0]
        try:
            if header.flags & INLINE:
                memory = bytearray(packet.body)
            else:
                memory = call.slot.results[worker.rank].read(header.size)
                if header.size > _LARGEST_KEPT:
                    call.slot.results[worker.rank].clear()
            value = decode(memoryview(memory), header.skeleton)
            failure = value.failure(worker.rank) if header.kind == Kind.FAILED else None
        except Exception as error:
            reason = f"its result can't be read here: {error!r}"
            value, failure = None, Failure(worker.rank, "raised", reason, exception=error)
        call.request_is_retained |= bool(header.flags & RETAINED)
        self._close_call(worker, failure, value)

    def _close_call(self, worker: WorkerProcess, failure: Failure | None, value: object = None) -> None:
        call = worker.queue[0]
        if failure:
            call.results.pop(worker.rank, None)
            call.failures[worker.rank] = failure
            self._abort()
        else:
            call.results[worker.rank] = value
        worker.answered()
        if call.is_done:
            if call.request_is_retained:
                call.slot.renew_request()
            self._free.append(call.slot)

    def _remind(self, worker: WorkerProcess, overdue_s: float) -> None:
        """Overdue: it may only wait for another rank, so first abort; whoever stays silent after that has hung."""
        if not worker.was_warned:
            worker.was_warned = worker.queue[0].was_overdue = True
            self._abort()
            self.family.dump(worker.pid)
        elif overdue_s > self._deadlines.grace:
            silence = time.monotonic() - worker.busy_since
            self._lose(worker, "hung", f"it did not answer for {silence:.1f} s, and was killed", kill=True)

    def _lose(self, worker: WorkerProcess, kind: FailureKind, reason: str = "", *, kill: bool = False) -> None:
        """The worker is gone, or will be in a moment."""
        self._poll.unregister(worker.descriptor)
        del self._by_descriptor[worker.descriptor]
        if kill:
            self.family.kill(worker.pid)
        worker.channel.close()
        end = "" if reason == _STOPPED else self.family.exit_of(worker.pid)
        words = worker.last_words.read().decode(errors="replace")
        if kind == "hung" and not words:
            words = "(no stack: the process was stopped, or blocked in the kernel)"
        worker.failure = Failure(worker.rank, kind, reason or end, words)
        while worker.queue:
            self._close_call(worker, worker.failure)


def _encoded(value: object, what: str) -> Payload:
    try:
        return encode(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise LearnerGroupError(f"{what} can't be sent to another process: {error}") from error
